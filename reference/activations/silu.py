"""g(z) = z σ(z)"""

from reference.activations import sigmoid


def g(z):
    return z * sigmoid.g(z)


def dg(z):
    return sigmoid.g(z) + z * sigmoid.dg(z)
