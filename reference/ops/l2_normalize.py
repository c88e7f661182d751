"""out_k = x_k / s, s² = Σ_l x_l² + ε."""

import numpy as np

CORE = {"x": 1}


def forward(x, epsilon):
    return x / np.sqrt((x * x).sum() + epsilon)


def jacobians(x, epsilon):
    """∂out_k/∂x_l = (δ_kl − x_k x_l / s²) / s"""
    s = np.sqrt((x * x).sum() + epsilon)
    return {"x": (np.eye(len(x)) - x[:, None] * x / s**2) / s}
