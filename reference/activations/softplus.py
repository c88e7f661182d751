"""g(z) = log(1 + e^z) = max(z, 0) + log(1 + e^−|z|)"""

import numpy as np

from reference.activations import sigmoid


def g(z):
    return z * (z > 0) + np.log1p(np.exp(-np.abs(z)))


def dg(z):
    return sigmoid.g(z)
