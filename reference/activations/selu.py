"""g(z) = λ z if z > 0 else λ α (e^z − 1)"""

import numpy as np

LAMBDA, ALPHA = 1.0507009873554805, 1.6732632423543772


def g(z):
    return LAMBDA * np.where(z > 0, z, ALPHA * np.expm1(-np.abs(z)))


def dg(z):
    return LAMBDA * np.where(z > 0, 1.0, ALPHA * np.exp(-np.abs(z)))
