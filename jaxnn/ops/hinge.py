"""L = h or h², h = max(0, 1 − y z), entry by entry"""

from functools import partial

import jax
from jax import Array
from jax import numpy as jnp

from jaxnn.cotangent import like
from jaxnn.dtypes import wide
from jaxnn.protocols import real
from jaxnn.shapes import check_alike


@partial(jax.custom_vjp, nondiff_argnames=("squared",))
def hinge(z: Array, y: Array, squared: bool = False) -> Array:
    """L = h, or h² if squared, h = max(0, 1 − y z), of each entry; y is 1 or −1.

    z and y of one shape, and so is L, in float32 at least.

    ∂h/∂(y z) = −1 inside of the margin, where y z < 1, else 0; therefore with dh = dL, or 2 h dL if squared,
    ∂J/∂z = −dh y [y z < 1],   ∂J/∂y = −dh z [y z < 1]

    Source: Cortes & Vapnik (1995). ValueError: shapes that differ. TypeError: dtypes that differ.
    """
    return fwd(z, y, squared)[0]


def fwd(z: Array, y: Array, squared: bool) -> tuple[Array, tuple[Array, Array]]:
    check_alike("hinge", z=z, y=y)
    h = 1 - wide(y) * wide(z)
    h = jnp.where(h <= 0, 0, h)
    return h**2 if squared else h, (z, y)


def bwd(squared: bool, residuals: tuple[Array, Array], dL: Array) -> tuple[Array, Array]:
    z, y = residuals
    h = 1 - wide(y) * wide(z)
    dh = jnp.where(h <= 0, 0, dL * (2 * h if squared else 1))
    return like(z, -dh * wide(y)), like(y, -dh * wide(z))


hinge.defvjp(fwd, bwd)

EXAMPLES = {
    "entries": {"z": real(2, 7), "y": real(2, 7)},
    "squared": {"z": real(2, 7), "y": real(2, 7), "squared": True},
    "one number": {"z": real(), "y": real()},
}
TRAPS = {
    "outside of the margin too": (
        "jnp.where(h <= 0, 0, dL * (2 * h if squared else 1))",
        "dL * (2 * h if squared else 1)",
    ),
    "inside where y z < 0": ("jnp.where(h <= 0, 0, dL", "jnp.where(h <= 1, 0, dL"),
    "the sign of y forgotten": ("-dh * wide(y)", "-dh"),
    "h² without its 2": ("2 * h if squared", "h if squared"),
}
