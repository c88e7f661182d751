"""out_k = γ_k x_k / s · g_k σ(g_k), s² = 1/n Σ_l x_l² + ε."""

import numpy as np

from reference.activations import silu
from reference.ops import rms_norm

CORE = {"x": 1, "gamma": 1, "gate": 1}


def forward(x, gamma, gate, epsilon):
    return rms_norm.forward(x, gamma, 0, epsilon) * silu.g(gate)


def jacobians(x, gamma, gate, epsilon):
    """
    ∂out_k/∂x_l, ∂out_k/∂γ_l: those of rms_norm, times g_k σ(g_k)
    ∂out_k/∂g_l = δ_kl γ_k x_k / s · silu′(g_k)
    """
    of_norm = rms_norm.jacobians(x, gamma, 0, epsilon)
    by_gate = np.diag(rms_norm.forward(x, gamma, 0, epsilon) * silu.dg(gate))
    return {name: silu.g(gate)[:, None] * by_v for name, by_v in of_norm.items()} | {"gate": by_gate}
