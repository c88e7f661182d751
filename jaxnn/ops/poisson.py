"""L = eᶻ − y z, z the log of the rate, entry by entry"""

import jax
from jax import Array
from jax import numpy as jnp

from jaxnn.cotangent import like
from jaxnn.dtypes import wide
from jaxnn.protocols import real
from jaxnn.shapes import check_alike


@jax.custom_vjp
def poisson(z: Array, y: Array) -> Array:
    """L = eᶻ − y z of each entry: minus the log of the probability of a count y at the rate eᶻ, without log y!.

    z and y of one shape, and so is L, in float32 at least.

    ∂L/∂z = eᶻ − y,   ∂L/∂y = −z, therefore
    ∂J/∂z = dL (eᶻ − y),   ∂J/∂y = −dL z

    Source: Nelder & Wedderburn (1972). ValueError: shapes that differ. TypeError: dtypes that differ.
    """
    return fwd(z, y)[0]


def fwd(z: Array, y: Array) -> tuple[Array, tuple[Array, Array]]:
    check_alike("poisson", z=z, y=y)
    return jnp.exp(wide(z)) - wide(y) * wide(z), (z, y)


def bwd(residuals: tuple[Array, Array], dL: Array) -> tuple[Array, Array]:
    z, y = residuals
    return like(z, dL * (jnp.exp(wide(z)) - wide(y))), like(y, -dL * wide(z))


poisson.defvjp(fwd, bwd)

EXAMPLES = {
    "entries": {"z": real(2, 3), "y": real(2, 3)},
    "one number": {"z": real(), "y": real()},
}
TRAPS = {
    "z for the rate, not its log": ("dL * (jnp.exp(wide(z)) - wide(y))", "dL * (1 - wide(y) / wide(z))"),
    "the rate without the count": ("dL * (jnp.exp(wide(z)) - wide(y))", "dL * jnp.exp(wide(z))"),
    "∂J/∂y of the rate, not of its log": ("-dL * wide(z)", "-dL * jnp.exp(wide(z))"),
}
