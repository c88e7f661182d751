"""out_kp = γ_k x̂_kp + β_k, x̂_kp = (x_kp − μ_g) / s_g of channel k at place p, with μ_g and s_g² = σ²_g + ε of the group
of k: N entries, those of its channels at all places."""

import numpy as np

CORE = {"x": -1, "gamma": 1, "beta": 1}


def forward(x, gamma, beta, groups, epsilon):
    """x (n, …)"""
    x_hat, _ = normalised(x, groups, epsilon)
    return (gamma[:, None] * x_hat + beta[:, None]).reshape(x.shape)


def jacobians(x, gamma, beta, groups, epsilon):
    """
    ∂out_kp/∂γ_j = δ_kj x̂_kp,   ∂out_kp/∂β_j = δ_kj
    ∂out_kp/∂x_jq = γ_k (δ_kj δ_pq − (1 + x̂_kp x̂_jq) / N) / s_g where k and j are of one group g, else 0
    """
    x_hat, s = normalised(x, groups, epsilon)
    n, places = x_hat.shape
    N = n // groups * places
    by_x = np.zeros((n, places, n, places))
    for k, p, j, q in np.ndindex(by_x.shape):
        if k * groups // n == j * groups // n:
            same = 1 if (k, p) == (j, q) else 0
            by_x[k, p, j, q] = gamma[k] * (same - (1 + x_hat[k, p] * x_hat[j, q]) / N) / s[k, 0]
    by_gamma, by_beta = np.einsum("kp,kl->kpl", x_hat, np.eye(n)), np.einsum("p,kl->kpl", np.ones(places), np.eye(n))
    return {
        "x": by_x.reshape(2 * x.shape),
        "gamma": by_gamma.reshape(*x.shape, n),
        "beta": by_beta.reshape(*x.shape, n),
    }


def normalised(x, groups, epsilon):
    """(x̂, s of the group of each channel), both (n, places)."""
    x = x.reshape(len(x), -1)
    x_hat, s = 0 * x, 0 * x
    for g in range(groups):
        channels = slice(g * len(x) // groups, (g + 1) * len(x) // groups)
        centred = x[channels] - x[channels].sum() / x[channels].size
        s[channels] = np.sqrt((centred * centred).sum() / centred.size + epsilon)
        x_hat[channels] = centred / s[channels]
    return x_hat, s
