"""out_k = γ_k x̂_k + β_k, x̂_k = (x_k − μ) / s, s² = 1/n Σ_l (x_l − μ)² + ε."""

import numpy as np

CORE = {"x": 1, "gamma": 1, "beta": 1}


def forward(x, gamma, beta, epsilon):
    x_hat, _ = normalised(x, epsilon)
    return gamma * x_hat + (0 if beta is None else beta)


def jacobians(x, gamma, beta, epsilon):
    """
    ∂out_k/∂γ_l = δ_kl x̂_k,   ∂out_k/∂β_l = δ_kl
    ∂out_k/∂x_l = γ_k (δ_kl − 1/n − x̂_k x̂_l / n) / s
    """
    x_hat, s = normalised(x, epsilon)
    n, delta = len(x), np.eye(len(x))
    by_x = gamma[:, None] * (delta - 1 / n - x_hat[:, None] * x_hat / n) / s
    return {"x": by_x, "gamma": delta * x_hat} | ({} if beta is None else {"beta": delta})


def normalised(x, epsilon):
    """(x̂, s)."""
    centred = x - x.sum() / len(x)
    s = np.sqrt((centred * centred).sum() / len(x) + epsilon)
    return centred / s, s
