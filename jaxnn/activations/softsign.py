"""a = z / (1 + |z|)   Source: Bergstra et al. (2009)

g′ = 1 / (1 + |z|)²    the quotient rule: (1 + |z| − z sign z) / (1 + |z|)², and z sign z = |z|
"""

from jax import numpy as jnp

from jaxnn.protocols import Elementwise

RULE = Elementwise(
    g=lambda z: z / (1 + jnp.abs(z)),
    dg=lambda z: 1 / (1 + jnp.abs(z)) ** 2,
    of="z",
    formula="{z} / (1 + abs({z}))",
    derivative="1 / (1 + abs({z}))²",
    steepest=1.0,
)
