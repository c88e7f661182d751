"""g(z) = max(z, 0)²"""


def g(z):
    return z * z * (z > 0)


def dg(z):
    return 2 * z * (z > 0)
