"""g(z) = z tanh(softplus z)"""

from reference.activations import sigmoid, softplus, tanh


def g(z):
    return z * tanh.g(softplus.g(z))


def dg(z):
    """tanh(s) + z tanh'(s) s', s = softplus z."""
    s = softplus.g(z)
    return tanh.g(s) + z * tanh.dg(s) * sigmoid.g(z)
