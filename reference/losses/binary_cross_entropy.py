"""L = −Σ_k [y_k ℓ(p_k) + (1 − y_k) ℓ(1 − p_k)] of probabilities p.

ℓ is log down to ε and log's tangent at ε, log ε + (p − ε)/ε, below it: finite, and with a derivative, at 0 and 1.
"""

import numpy as np

from reference.losses import shares

EPSILON = float(np.finfo(np.float64).eps)


def log(P, epsilon):
    """ℓ(p) = log max(p, ε) + min(p − ε, 0)/ε."""
    return np.log(np.maximum(P, 0 * P + epsilon)) + np.minimum(P - epsilon, 0) / epsilon


def d_log(P, epsilon):
    """ℓ′(p) = 1/max(p, ε)."""
    return 1 / np.maximum(P, epsilon)


def forward(loss, P, Y, w=None, *, epsilon=EPSILON):
    """P, Y (K, m), w (m,) -> J."""
    L = -(Y * log(P, epsilon) + (1 - Y) * log(1 - P, epsilon)).sum(axis=0)
    return (shares(L, w) * L).sum()


def gradient(loss, P, Y, w=None, *, epsilon=EPSILON):
    """∂L/∂p_k = −y_k ℓ′(p_k) + (1 − y_k) ℓ′(1 − p_k)   (K, m)."""
    return shares(P[0], w) * ((1 - Y) * d_log(1 - P, epsilon) - Y * d_log(P, epsilon))


def predict(loss, P):
    return P
