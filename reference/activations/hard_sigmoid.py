"""g(z) = (z + 3)/6 between 0 and 1"""

import numpy as np


def g(z):
    return np.where(np.abs(z) < 3, (z + 3) / 6, 1.0 * (z > 0))


def dg(z):
    return (1 + 0 * z) * (np.abs(z) < 3) / 6
