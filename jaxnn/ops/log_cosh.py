"""L = log cosh e, e = z − y, entry by entry"""

import jax
from jax import Array
from jax import numpy as jnp

from jaxnn.cotangent import like
from jaxnn.dtypes import wide
from jaxnn.protocols import real
from jaxnn.shapes import check_alike


@jax.custom_vjp
def log_cosh(z: Array, y: Array) -> Array:
    """L = log cosh e, e = z − y, of each entry: about ½ e² near 0, and |e| − log 2 far out.

    z and y of one shape, and so is L, in float32 at least. L is ½ log(1 + sinh² e) where |e| < 1, which does not cancel
    near 0, and |e| + log(1 + e^−2|e|) − log 2 beyond, which does not overflow.

    ∂L/∂e = sinh e / cosh e, therefore
    ∂J/∂z = dL tanh e,   ∂J/∂y = −dL tanh e

    ValueError: shapes that differ. TypeError: dtypes that differ.
    """
    return fwd(z, y)[0]


def fwd(z: Array, y: Array) -> tuple[Array, tuple[Array, Array]]:
    check_alike("log_cosh", z=z, y=y)
    size = abs(wide(z) - wide(y))
    near = jnp.log1p(jnp.sinh(jnp.where(size < 1, size, 0)) ** 2) / 2  # no sinh of what is large: it would overflow
    far = size + jnp.log1p(jnp.exp(-2 * size)) - jnp.log(2.0).astype(size.dtype)
    return jnp.where(size < 1, near, far), (z, y)


def bwd(residuals: tuple[Array, Array], dL: Array) -> tuple[Array, Array]:
    z, y = residuals
    de = dL * jnp.tanh(wide(z) - wide(y))
    return like(z, de), like(y, -de)


log_cosh.defvjp(fwd, bwd)

EXAMPLES = {
    "entries": {"z": real(2, 3), "y": real(2, 3)},
    "one number": {"z": real(), "y": real()},
}
TRAPS = {
    "the sign for tanh": ("jnp.tanh(", "jnp.sign("),
    "tanh′ for tanh": ("jnp.tanh(wide(z) - wide(y))", "(1 - jnp.tanh(wide(z) - wide(y)) ** 2)"),
    "∂J/∂y with the sign of ∂J/∂z": ("like(y, -de)", "like(y, de)"),
}
