"""g(z) = z if z > 0 else slope·z"""

import numpy as np


def g(z, slope):
    return np.where(z > 0, z, slope * z)


def dg(z, slope):
    return np.where(z > 0, 1.0, slope)
