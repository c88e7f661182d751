"""g(z) = z Φ(z)"""

from reference.normal import Phi, phi


def g(z):
    return z * Phi(z)


def dg(z):
    return Phi(z) + z * phi(z)
