"""g(z) = ½ z (1 + tanh u), u = √(2/π) (z + 0.044715 z³); that is z σ(2u), since 1 + tanh u = 2σ(2u)"""

from math import pi, sqrt

from reference.activations import sigmoid


def u(z):
    return sqrt(2 / pi) * (z + 0.044715 * z * z * z)


def g(z):
    return z * sigmoid.g(2 * u(z))


def dg(z):
    """σ(2u) + z σ'(2u) 2u'."""
    du = sqrt(2 / pi) * (1 + 3 * 0.044715 * z * z)
    return sigmoid.g(2 * u(z)) + z * sigmoid.dg(2 * u(z)) * 2 * du
