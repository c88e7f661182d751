"""a = z Φ(z)   Source: Hendrycks & Gimpel (2016)

g′ = Φ(z) + z φ(z)    the product rule, with Φ′ = φ
"""

import math

from jax import Array
from jax import numpy as jnp
from jax.lax import erfc

from jaxnn.protocols import Elementwise


def Phi(z: Array) -> Array:
    """Φ(z), the standard normal distribution function."""
    return erfc(-z / math.sqrt(2)) / 2


def phi(z: Array) -> Array:
    """φ(z) = Φ′(z), its density."""
    return jnp.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


RULE = Elementwise(
    g=lambda z: z * Phi(z),
    dg=lambda z: Phi(z) + z * phi(z),
    of="z",
    formula="{z} ⊙ Φ({z})",
    derivative="Φ({z}) + {z} ⊙ φ({z})",
)
