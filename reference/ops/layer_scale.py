"""out_k = x_k + λ_k f_k."""

import numpy as np

CORE = {"x": 1, "f": 1, "lam": 1}


def forward(x, f, lam):
    return x + lam * f


def jacobians(x, f, lam):
    """∂out_k/∂x_l = δ_kl,   ∂out_k/∂f_l = δ_kl λ_k,   ∂out_k/∂λ_l = δ_kl f_k"""
    return {"x": np.eye(len(x)), "f": np.diag(lam), "lam": np.diag(f)}
