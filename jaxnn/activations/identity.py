"""a = z"""

from jax import numpy as jnp

from jaxnn.protocols import Elementwise

RULE = Elementwise(
    g=lambda z: z,
    dg=jnp.ones_like,
    of="a",
    formula="{z}",
    derivative="1",
)
