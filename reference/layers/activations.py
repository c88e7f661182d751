"""A = g(Z), entry by entry; every exponential is of a number ≤ 0, so that none overflows."""

import numpy as np

from reference.normal import Phi, phi


def sigmoid(Z):
    """σ(z) = 1 / (1 + e^−z) = e^z / (1 + e^z)."""
    E = np.exp(-np.abs(Z))
    return np.where(Z > 0, 1, E) / (1 + E)


def d_sigmoid(Z):
    """σ'(z) = σ(z) σ(−z): unlike σ(z)(1 − σ(z)), exact to the last digits far out too."""
    return sigmoid(Z) * sigmoid(-Z)


RULES = {  # name: g, g′ of an entry z and the slope s
    "identity": (lambda z, s: z, lambda z, s: 1 + 0 * z),
    "sigmoid": (lambda z, s: sigmoid(z), lambda z, s: d_sigmoid(z)),
    "tanh": (lambda z, s: np.tanh(z), lambda z, s: 4 * d_sigmoid(2 * z)),  # tanh z = 2σ(2z) − 1
    "relu": (lambda z, s: z * (z > 0), lambda z, s: np.where(z > 0, 1.0, 0.0)),
    "leaky_relu": (lambda z, s: np.where(z > 0, z, s * z), lambda z, s: np.where(z > 0, 1.0, s)),
    "softplus": (lambda z, s: z * (z > 0) + np.log1p(np.exp(-np.abs(z))), lambda z, s: sigmoid(z)),
    "elu": (
        lambda z, s: np.where(z > 0, z, np.expm1(-np.abs(z))),
        lambda z, s: np.where(z > 0, 1.0, np.exp(-np.abs(z))),
    ),
    "silu": (lambda z, s: z * sigmoid(z), lambda z, s: sigmoid(z) + z * d_sigmoid(z)),
    "gelu": (lambda z, s: z * Phi(z), lambda z, s: Phi(z) + z * phi(z)),
}


def names(layer):
    return ()


def forward(layer, params, X):
    """(n, m) -> (n, m)."""
    g, _ = RULES[layer.name]
    return g(X, layer.slope)


def jacobians(layer, params, X):
    """∂a_ki/∂z_lj = g′(z_ki) δ_kl δ_ij   (n, m, n, m)."""
    _, dg = RULES[layer.name]
    return (), np.diag(dg(X, layer.slope).ravel()).reshape(X.shape + X.shape)
