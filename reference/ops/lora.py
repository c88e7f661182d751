"""out_k = Σ_i W_ki x_i + s Σ_ρ B_kρ h_ρ, h_ρ = Σ_i A_ρi x_i.

Matrices are here in columns: W (n_in, n_out), A (n_in, r), B (r, n_out).
"""

import numpy as np

CORE = {"x": 1, "W": 2, "A": 2, "B": 2}


def forward(x, W, A, B, scale):
    return x @ W + scale * (x @ A) @ B


def jacobians(x, W, A, B, scale):
    """
    ∂out_k/∂x_i = W_ki + s Σ_ρ B_kρ A_ρi
    ∂out_k/∂W_il = δ_kl x_i,   ∂out_k/∂B_ρl = s δ_kl h_ρ,   ∂out_k/∂A_iρ = s B_kρ x_i
    """
    delta = np.eye(W.shape[1])
    return {
        "x": (W + scale * A @ B).T,
        "W": np.einsum("kl,i->kil", delta, x),
        "A": scale * np.einsum("rk,i->kir", B, x),
        "B": scale * np.einsum("kl,r->krl", delta, x @ A),
    }
