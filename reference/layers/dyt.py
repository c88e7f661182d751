"""out_ki = γ_k t_ki + β_k, t_ki = tanh(α x_ki)."""

import numpy as np


def names(layer):
    return "alpha", "gamma", "beta"


def columns(layer, params):
    return params.alpha, params.gamma[..., None], params.beta[..., None]


def forward(layer, params, X):
    """(n, m) -> (n, m)."""
    alpha, gamma, beta = params
    return gamma * np.tanh(alpha * X) + beta


def jacobians(layer, params, X):
    """
    ∂out_ki/∂α = γ_k (1 − t_ki²) x_ki                    (n, m)
    ∂out_ki/∂γ_l = δ_kl t_ki,   ∂out_ki/∂β_l = δ_kl      (n, m, n, 1)
    ∂out_ki/∂x_lj = γ_k (1 − t_ki²) α δ_kl δ_ij          (n, m, n, m)
    """
    alpha, gamma, _ = params
    T, (n, m) = np.tanh(alpha * X), X.shape
    slope, entries = gamma * (1 - T * T), np.eye(n)
    by_gamma = np.einsum("ki,kl,u->kilu", T, entries, np.ones(1))
    by_beta = np.einsum("i,kl,u->kilu", np.ones(m), entries, np.ones(1))
    by_X = np.einsum("ki,kl,ij->kilj", alpha * slope, entries, np.eye(m))
    return (slope * X, by_gamma, by_beta), by_X
