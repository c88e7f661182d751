"""g(z) = σ(z) = 1 / (1 + e^−z) = e^z / (1 + e^z)"""

import numpy as np


def g(z):
    E = np.exp(-np.abs(z))
    return np.where(z > 0, 1, E) / (1 + E)


def dg(z):
    """σ'(z) = σ(z) σ(−z): unlike σ(z)(1 − σ(z)), exact to the last digits far out too."""
    return g(z) * g(-z)
