"""g(z) = max(z, 0)"""

import numpy as np


def g(z):
    return z * (z > 0)


def dg(z):
    return np.where(z > 0, 1.0, 0.0)
