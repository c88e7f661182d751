"""out_ki = γ_k x̂_ki + β_k, x̂_ki = (x_ki − μ_k) / s_k, s_k² = σ²_k + ε, with μ_k and σ²_k of the m examples.

All examples together are the one of this op, for each sees all others.
"""

import numpy as np

CORE = {"x": None, "gamma": 1, "beta": 1}


def forward(x, gamma, beta, epsilon):
    """(n, …), (n,), (n,)"""
    x_hat, s, mu = normalised(x, epsilon)
    return (gamma[:, None] * x_hat + beta[:, None]).reshape(x.shape), mu, s * s - epsilon


def jacobians(x, gamma, beta, epsilon):
    """
    ∂out_ki/∂γ_l = δ_kl x̂_ki,   ∂out_ki/∂β_l = δ_kl
    ∂out_ki/∂x_lj = γ_k δ_kl (δ_ij − 1/m − x̂_ki x̂_kj / m) / s_k
    ∂μ_k/∂x_lj = δ_kl / m,   ∂σ²_k/∂x_lj = 2 δ_kl (x_kj − μ_k) / m
    """
    x_hat, s, _ = normalised(x, epsilon)
    n, m = x_hat.shape
    columns, examples = np.eye(n), np.eye(m)
    inside = examples - 1 / m - x_hat[:, :, None] * x_hat[:, None, :] / m
    by_x = np.einsum("k,kij,kl->kilj", gamma / s, inside, columns)
    by_gamma, by_beta = np.einsum("ki,kl->kil", x_hat, columns), np.einsum("i,kl->kil", np.ones(m), columns)
    mu_by_x = np.einsum("kl,j->klj", columns, np.ones(m) / m)
    var_by_x = 2 * np.einsum("kl,kj->klj", columns, x_hat * s[:, None]) / m
    return (
        {"x": by_x.reshape(2 * x.shape), "gamma": by_gamma.reshape(*x.shape, n), "beta": by_beta.reshape(*x.shape, n)},
        {"x": mu_by_x.reshape(n, *x.shape)},
        {"x": var_by_x.reshape(n, *x.shape)},
    )


def normalised(x, epsilon):
    """(x̂ (n, m), s (n,), μ (n,))."""
    rows = x.reshape(len(x), -1)
    mu = rows.sum(1) / rows.shape[1]
    centred = rows - mu[:, None]
    s = np.sqrt((centred * centred).sum(1) / rows.shape[1] + epsilon)
    return centred / s[:, None], s, mu
