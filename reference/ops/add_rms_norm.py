"""s_k = x_k + residual_k, out_k = (γ_k + c) s_k / σ, σ² = 1/n Σ_l s_l² + ε."""

import numpy as np

from reference.ops import rms_norm

CORE = {"x": 1, "residual": 1, "gamma": 1}


def forward(x, residual, gamma, offset, epsilon):
    s = x + residual
    return rms_norm.forward(s, gamma, offset, epsilon), s


def jacobians(x, residual, gamma, offset, epsilon):
    """∂out/∂x = ∂out/∂residual = ∂out/∂s as in rms_norm;   ∂s_k/∂x_l = ∂s_k/∂residual_l = δ_kl"""
    of_norm = rms_norm.jacobians(x + residual, gamma, offset, epsilon)
    delta = np.eye(len(x))
    return of_norm | {"residual": of_norm["x"]}, {"x": delta, "residual": delta}
