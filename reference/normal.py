"""The normal distribution, φ(z) = e^{−z²/2} / √2π and Φ(z) = ∫_−∞^z φ, from +, ·, / and exp alone.

Both expansions below have terms of one sign, and their lengths are for |z| ≤ 2 and z ≥ 2, to more than 250 bits.
"""

import math

import numpy as np


def phi(z):
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def Phi(z):
    c = 2 + 0 * z
    whole = 2 * (middle(c) + tail(c))  # √2π in the numbers of z, to all their digits
    inside = middle(np.maximum(-c, np.minimum(z, c))) / whole
    beyond = tail(np.maximum(np.abs(z), c)) / whole
    return np.where(z < -2, beyond, np.where(z > 2, 1 - beyond, 0.5 + inside))


def middle(z):
    """∫_0^z e^{−t²/2} dt = e^{−z²/2} Σ_n z^{2n+1} / (2n+1)!!."""
    total = term = z
    for n in range(1, 80):
        term = term * z * z / (2 * n + 1)
        total = total + term
    return np.exp(-z * z / 2) * total


def tail(z):
    """∫_z^∞ e^{−t²/2} dt = e^{−z²/2} / (z + 1/(z + 2/(z + 3/(z + …)))) (Laplace)."""
    fraction = z
    for n in range(2000, 0, -1):
        fraction = z + n / fraction
    return np.exp(-z * z / 2) / fraction
