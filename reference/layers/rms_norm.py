"""out_ki = (γ_k + c) x_ki / s_i, s_i² = 1/n Σ_k x_ki² + ε."""

import numpy as np


def names(layer):
    return ("gamma",)


def columns(layer, params):
    return (params.gamma[..., None],)


def root(layer, X):
    """s (m,)."""
    return np.sqrt((X * X).sum(axis=0) / len(X) + layer.epsilon)


def forward(layer, params, X):
    """(n, m) -> (n, m)."""
    (gamma,) = params
    return (gamma + layer.offset) * X / root(layer, X)


def jacobians(layer, params, X):
    """
    ∂out_ki/∂γ_l  = δ_kl x_ki / s_i                                          (n, m, n, 1)
    ∂out_ki/∂x_lj = (γ_k + c) δ_ij (δ_kl / s_i − x_ki x_li / (n s_i³))       (n, m, n, m)
    """
    (gamma,) = params
    s, (n, m) = root(layer, X), X.shape
    entries, examples = np.eye(n), np.eye(m)
    by_gamma = np.einsum("kl,ki,u->kilu", entries, X / s, np.ones(1))
    inside = entries[:, None, :] / s[None, :, None] - np.einsum("ki,li,i->kil", X, X, 1 / s**3) / n
    by_X = np.einsum("k,kil,ij->kilj", gamma[:, 0] + layer.offset, inside, examples)
    return (by_gamma,), by_X
