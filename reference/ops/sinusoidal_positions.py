"""out_kt = x_kt + sin φ for an even k, x_kt + cos φ for an odd one; φ = t base^{−2i/n}, i the whole part of k/2."""

import numpy as np

CORE = {"x": 2}


def forward(x, base):
    """x (n, T)."""
    out = x.copy()
    n, T = x.shape
    for k in range(n):
        for t in range(T):
            phi = t / base ** (2 * (k // 2) / n)
            out[k, t] += np.cos(phi) if k % 2 else np.sin(phi)
    return out


def jacobians(x, base):
    """∂out_kt/∂x_ls = δ_kl δ_ts"""
    return {"x": np.einsum("kl,ts->ktls", *map(np.eye, x.shape))}
