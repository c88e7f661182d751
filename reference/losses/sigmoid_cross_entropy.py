"""L = −Σ_k [y_k log σ(z_k) + (1 − y_k) log σ(−z_k)] of logits z."""

import numpy as np

from reference.activations.sigmoid import g as sigmoid
from reference.losses import shares


def log_sigmoid(Z):
    """log σ(z) = min(z, 0) − log(1 + e^−|z|)."""
    return np.minimum(Z, 0) - np.log1p(np.exp(-np.abs(Z)))


def forward(loss, Z, Y, w=None):
    """Z, Y (K, m), w (m,) -> J."""
    L = -(Y * log_sigmoid(Z) + (1 - Y) * log_sigmoid(-Z)).sum(axis=0)
    return (shares(L, w) * L).sum()


def gradient(loss, Z, Y, w=None):
    """∂L/∂z_k = (1 − y_k) σ(z_k) − y_k σ(−z_k), since d/dz log σ(z) = σ(−z)   (K, m)."""
    return shares(Z[0], w) * ((1 - Y) * sigmoid(Z) - Y * sigmoid(-Z))


def predict(loss, Z):
    """σ(z)."""
    return sigmoid(Z)
