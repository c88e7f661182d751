"""L = −y α (1 − p)^γ log p − (1 − y) (1 − α) p^γ log(1 − p), p = 1 / (1 + e^−z); without α both sides weigh 1."""

import numpy as np

CORE = {"z": 0, "y": 0}


def forward(z, y, alpha, gamma):
    p, (one, zero) = probability(z), sides(alpha)
    return -y * one * (1 - p) ** gamma * np.log(p) - (1 - y) * zero * p**gamma * np.log(1 - p)


def jacobians(z, y, alpha, gamma):
    """
    ∂L/∂z = y α (1 − p)^γ (γ p log p − (1 − p)) − (1 − y) (1 − α) p^γ (γ (1 − p) log(1 − p) − p), by ∂p/∂z = p (1 − p)
    ∂L/∂y = −α (1 − p)^γ log p + (1 − α) p^γ log(1 − p)
    """
    p, (one, zero) = probability(z), sides(alpha)
    of_one = one * (1 - p) ** gamma * (gamma * p * np.log(p) - (1 - p))
    of_zero = zero * p**gamma * (gamma * (1 - p) * np.log(1 - p) - p)
    by_y = zero * p**gamma * np.log(1 - p) - one * (1 - p) ** gamma * np.log(p)
    return {"z": y * of_one - (1 - y) * of_zero, "y": by_y}


def probability(z):
    return 1 / (1 + np.exp(-z))


def sides(alpha):
    return (1, 1) if alpha is None else (alpha, 1 - alpha)
