"""L = ½ e² if |e| ≤ δ, else δ (|e| − ½ δ), e = z − y, entry by entry"""

from functools import partial

import jax
from jax import Array
from jax import numpy as jnp

from jaxnn.cotangent import like
from jaxnn.dtypes import wide
from jaxnn.protocols import real
from jaxnn.shapes import check_alike


@partial(jax.custom_vjp, nondiff_argnames=("delta",))
def huber(z: Array, y: Array, delta: float = 1.0) -> Array:
    """L = ½ e² if |e| ≤ δ, else δ (|e| − ½ δ), e = z − y, of each entry.

    z and y of one shape, and so is L, in float32 at least.

    ∂L/∂e = c = min(max(e, −δ), δ)      within δ it is e, beyond it the slope δ or −δ; therefore
    ∂J/∂z = dL c,   ∂J/∂y = −dL c

    Source: Huber (1964). ValueError: shapes that differ, a δ that is not positive. TypeError: dtypes that differ.
    """
    return fwd(z, y, delta)[0]


def fwd(z: Array, y: Array, delta: float) -> tuple[Array, tuple[Array, Array]]:
    check_alike("huber", z=z, y=y)
    if not delta > 0:
        raise ValueError(f"huber was given delta = {delta}: give a positive number.")
    error = wide(z) - wide(y)
    return jnp.where(abs(error) <= delta, error**2 / 2, delta * (abs(error) - delta / 2)), (z, y)


def bwd(delta: float, residuals: tuple[Array, Array], dL: Array) -> tuple[Array, Array]:
    z, y = residuals
    de = dL * within(wide(z) - wide(y), delta)
    return like(z, de), like(y, -de)


def within(error: Array, delta: float) -> Array:
    """min(max(e, −δ), δ)"""
    return jnp.minimum(jnp.maximum(error, -delta), delta)


huber.defvjp(fwd, bwd)

EXAMPLES = {
    "entries": {"z": real(2, 3), "y": real(2, 3)},
    "a small δ": {"z": real(3), "y": real(3), "delta": 0.25},
    "one number": {"z": real(), "y": real(), "delta": 2.0},
}
TRAPS = {
    "the square's slope for every error": (
        "dL * within(wide(z) - wide(y), delta)",
        "dL * (wide(z) - wide(y))",
    ),
    "1 beyond δ, not δ": ("within(wide(z) - wide(y), delta)", "within(wide(z) - wide(y), 1.0)"),
    "∂J/∂y with the sign of ∂J/∂z": ("like(y, -de)", "like(y, de)"),
}
