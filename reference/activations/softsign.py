"""g(z) = z / (1 + |z|)"""

import numpy as np


def g(z):
    return z / (1 + np.abs(z))


def dg(z):
    return (1 + np.abs(z)) ** -2
