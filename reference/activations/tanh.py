"""g(z) = tanh z = 2σ(2z) − 1"""

import numpy as np

from reference.activations import sigmoid


def g(z):
    return np.tanh(z)


def dg(z):
    return 4 * sigmoid.dg(2 * z)
