"""a = z if z > 0 else eᶻ − 1   Source: Clevert et al. (2016), with α = 1"""

import jax
from jax import numpy as jnp

from jaxnn.protocols import Elementwise

RULE = Elementwise(
    g=jax.nn.elu,
    dg=lambda z: jnp.exp(jnp.minimum(z, 0)),
    of="z",
    formula="{z} if {z} > 0 else exp({z}) − 1",
    derivative="exp(min({z}, 0))",
)
