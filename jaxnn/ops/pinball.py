"""L = (q − 1) e if e < 0 else q e, e = y − z, entry by entry"""

from functools import partial

import jax
from jax import Array
from jax import numpy as jnp

from jaxnn.cotangent import like
from jaxnn.dtypes import wide
from jaxnn.protocols import real
from jaxnn.shapes import check_alike


@partial(jax.custom_vjp, nondiff_argnames=("quantile",))
def pinball(z: Array, y: Array, quantile: float = 0.5) -> Array:
    """L = (q − 1) e if e < 0 else q e, e = y − z, of each entry: least in the mean where a share q of the y is below z.

    z and y of one shape, and so is L, in float32 at least.

    ∂L/∂e = q − 1 if e < 0, else q, at e = 0 too; therefore
    ∂J/∂z = −dL ∂L/∂e,   ∂J/∂y = dL ∂L/∂e

    Source: Koenker & Bassett (1978). ValueError: shapes that differ, a quantile that is not between 0 and 1.
    TypeError: dtypes that differ.
    """
    return fwd(z, y, quantile)[0]


def fwd(z: Array, y: Array, quantile: float) -> tuple[Array, tuple[Array, Array]]:
    check_alike("pinball", z=z, y=y)
    if not 0 < quantile < 1:
        raise ValueError(f"pinball was given quantile = {quantile}: give a number between 0 and 1.")
    error = wide(y) - wide(z)
    return slope(error, quantile) * error, (z, y)


def bwd(quantile: float, residuals: tuple[Array, Array], dL: Array) -> tuple[Array, Array]:
    z, y = residuals
    de = dL * slope(wide(y) - wide(z), quantile)
    return like(z, -de), like(y, de)


def slope(error: Array, quantile: float) -> Array:
    """∂L/∂e."""
    return jnp.where(error < 0, quantile - 1, quantile)


pinball.defvjp(fwd, bwd)

EXAMPLES = {
    "the median": {"z": real(2, 3), "y": real(2, 3)},
    "a high quantile": {"z": real(4), "y": real(4), "quantile": 0.9},
    "one number": {"z": real(), "y": real(), "quantile": 0.2},
}
TRAPS = {
    "q and 1 − q exchanged": ("slope(wide(y) - wide(z), quantile)", "slope(wide(y) - wide(z), 1 - quantile)"),
    "e the other way round": ("slope(wide(y) - wide(z), quantile)", "slope(wide(z) - wide(y), quantile)"),
    "∂J/∂y with the sign of ∂J/∂z": ("like(y, de)", "like(y, -de)"),
}
