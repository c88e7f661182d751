"""p_k = e^{z_k} / Σ_j e^{z_j}."""

import numpy as np

CORE = {"z": 1}


def forward(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def jacobians(z):
    """∂p_k/∂z_l = p_k (δ_kl − p_l)"""
    p = forward(z)
    return {"z": np.diag(p) - p[:, None] * p}
