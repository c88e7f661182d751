"""L = Σ_k h_k or Σ_k h_k², h_k = max(0, 1 − s_k z_k), s_k = 2 y_k − 1."""

import numpy as np

from reference.losses import shares


def forward(loss, Z, Y, w=None):
    """Z, Y (K, m), w (m,) -> J."""
    h = np.maximum(1 - (2 * Y - 1) * Z, 0 * Z)
    L = (h * h if loss.squared else h).sum(axis=0)
    return (shares(L, w) * L).sum()


def gradient(loss, Z, Y, w=None):
    """∂L/∂z_k = −s_k if s_k z_k < 1, else 0; of h_k² 2 h_k times that   (K, m)."""
    s = 2 * Y - 1
    slope = np.where(s * Z < 1, -s, 0 * s)
    return shares(Z[0], w) * (2 * (1 - s * Z) * slope if loss.squared else slope)


def predict(loss, Z):
    """(1 + z) / 2 within 0 … 1."""
    return np.clip((1 + Z) / 2, 0, 1)
