"""L = −Σ_k [α y_k (1 − p_k)^γ log p_k + (1 − α) (1 − y_k) p_k^γ log(1 − p_k)], p = σ(z)."""

import numpy as np

from reference.activations.sigmoid import g as sigmoid
from reference.losses import shares


def forward(loss, Z, Y, w=None):
    """Z, Y (K, m), w (m,) -> J."""
    p, q = sigmoid(Z), sigmoid(-Z)
    L = -(loss.alpha * Y * q**loss.gamma * np.log(p) + (1 - loss.alpha) * (1 - Y) * p**loss.gamma * np.log(q))
    L = L.sum(axis=0)
    return (shares(L, w) * L).sum()


def gradient(loss, Z, Y, w=None):
    """∂L/∂z_k = α y_k q^γ (γ p log p − q) − (1 − α) (1 − y_k) p^γ (γ q log q − p), q = 1 − p, ∂p/∂z = p q   (K, m)."""
    p, q, gamma = sigmoid(Z), sigmoid(-Z), loss.gamma
    of_one = loss.alpha * Y * q**gamma * (gamma * p * np.log(p) - q)
    of_zero = (1 - loss.alpha) * (1 - Y) * p**gamma * (gamma * q * np.log(q) - p)
    return shares(Z[0], w) * (of_one - of_zero)


def predict(loss, Z):
    """σ(z)."""
    return sigmoid(Z)
