"""out_k = γ_k t_k + β_k, t_k = tanh(α x_k)."""

import numpy as np

CORE = {"x": 1, "alpha": 0, "gamma": 1, "beta": 1}


def forward(x, alpha, gamma, beta):
    return gamma * np.tanh(alpha * x) + beta


def jacobians(x, alpha, gamma, beta):
    """
    ∂out_k/∂x_l = δ_kl γ_k (1 − t_k²) α,   ∂out_k/∂α = γ_k (1 − t_k²) x_k
    ∂out_k/∂γ_l = δ_kl t_k,   ∂out_k/∂β_l = δ_kl
    """
    t = np.tanh(alpha * x)
    slope = gamma * (1 - t * t)
    return {"x": np.diag(slope * alpha), "alpha": slope * x, "gamma": np.diag(t), "beta": np.eye(len(x))}
