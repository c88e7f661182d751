"""L = −y α (1 − p)^γ log p − (1 − y) (1 − α) p^γ log(1 − p), p = σ(z), entry by entry"""

from functools import partial

import jax
from jax import Array
from jax import numpy as jnp
from jax.nn import sigmoid, softplus

from jaxnn.cotangent import like
from jaxnn.dtypes import wide
from jaxnn.protocols import real
from jaxnn.shapes import check_alike


@partial(jax.custom_vjp, nondiff_argnames=("alpha", "gamma"))
def focal(z: Array, y: Array, alpha: float | None = 0.25, gamma: float = 2.0) -> Array:
    """L = y α f(z) + (1 − y) (1 − α) f(−z) of each entry, f(z) = −(1 − p)^γ log p, p = σ(z); y is 1 or 0.

    z and y of one shape, and so is L, in float32 at least. alpha: the weight of y = 1 beside that of y = 0; None, both
    weigh 1. In s(z) = log(1 + eᶻ), log p = −s(−z) and log(1 − p) = −s(z), so no power is of a p that rounds to 0 or 1:
    f(z) = e^{−γ s(z)} s(−z)
    f′(z) = −e^{−γ s(z)} (γ p s(−z) + 1 − p)           s′(z) = p, and (1 − p)^{γ−1}, infinite at p = 1, is not in it
    ∂J/∂z = dL (y α f′(z) − (1 − y) (1 − α) f′(−z)),   ∂J/∂y = dL (α f(z) − (1 − α) f(−z))

    Source: Lin et al. (2017), eq. 5. ValueError: shapes that differ, a negative γ. TypeError: dtypes that differ.
    """
    return fwd(z, y, alpha, gamma)[0]


def f(z: Array, gamma: float) -> Array:
    return jnp.exp(-gamma * softplus(z)) * softplus(-z)


def df(z: Array, gamma: float) -> Array:
    return -jnp.exp(-gamma * softplus(z)) * (gamma * sigmoid(z) * softplus(-z) + sigmoid(-z))


def sides(alpha: float | None) -> tuple[float, float]:
    """The weights of y = 1 and of y = 0."""
    return (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)


def fwd(z: Array, y: Array, alpha: float | None, gamma: float) -> tuple[Array, tuple[Array, Array]]:
    check_alike("focal", z=z, y=y)
    if not gamma >= 0:
        raise ValueError(f"focal was given gamma = {gamma}: give 0 or more.")
    one, zero = sides(alpha)
    return wide(y) * one * f(wide(z), gamma) + (1 - wide(y)) * zero * f(-wide(z), gamma), (z, y)


def bwd(alpha: float | None, gamma: float, residuals: tuple[Array, Array], dL: Array) -> tuple[Array, Array]:
    z, y = residuals
    one, zero = sides(alpha)
    dz = wide(y) * one * df(wide(z), gamma) - (1 - wide(y)) * zero * df(-wide(z), gamma)
    dy = one * f(wide(z), gamma) - zero * f(-wide(z), gamma)
    return like(z, dL * dz), like(y, dL * dy)


focal.defvjp(fwd, bwd)

EXAMPLES = {
    "entries": {"z": real(2, 3), "y": real(2, 3)},
    "without α": {"z": real(3), "y": real(3), "alpha": None, "gamma": 1.0},
    "a γ below 1": {"z": real(3), "y": real(3), "gamma": 0.5},
    "cross-entropy, γ = 0": {"z": real(3), "y": real(3), "alpha": 0.5, "gamma": 0.0},
    "one number": {"z": real(), "y": real()},
}
TRAPS = {
    "(1 − p)^γ taken for a constant": ("(gamma * sigmoid(z) * softplus(-z) + sigmoid(-z))", "sigmoid(-z)"),
    "(1 − p)^{γ−1}": ("-jnp.exp(-gamma * softplus(z)) * (", "-jnp.exp((1 - gamma) * softplus(z)) * ("),
    "α for both sides": ("(1 - wide(y)) * zero * df(", "(1 - wide(y)) * one * df("),
    "the sign of y = 0": ("- (1 - wide(y)) * zero * df(", "+ (1 - wide(y)) * zero * df("),
}
