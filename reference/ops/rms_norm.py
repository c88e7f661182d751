"""out_k = (γ_k + c) x_k / s, s² = 1/n Σ_l x_l² + ε."""

import numpy as np

CORE = {"x": 1, "gamma": 1}


def forward(x, gamma, offset, epsilon):
    return (gamma + offset) * x / root(x, epsilon)


def jacobians(x, gamma, offset, epsilon):
    """
    ∂out_k/∂γ_l = δ_kl x_k / s
    ∂out_k/∂x_l = (γ_k + c) (δ_kl / s − x_k x_l / (n s³))
    """
    s, n, delta = root(x, epsilon), len(x), np.eye(len(x))
    by_x = (gamma + offset)[:, None] * (delta / s - x[:, None] * x / (n * s**3))
    return {"x": by_x, "gamma": delta * x / s}


def root(x, epsilon):
    return np.sqrt((x * x).sum() / len(x) + epsilon)
