"""a = min(max(z + 3, 0), 6) / 6, with g′(−3) = g′(3) = 0   Source: Howard et al. (2019), section 5.2"""

from jax import numpy as jnp

from jaxnn.protocols import Elementwise

RULE = Elementwise(
    g=lambda z: jnp.where(z <= -3, 0, jnp.where(z >= 3, 1, (z + 3) / 6)).astype(z.dtype),
    dg=lambda z: (jnp.abs(z) < 3).astype(z.dtype) / 6,
    of="z",
    formula="min(max({z} + 3, 0), 6) / 6",
    derivative="[abs({z}) < 3] / 6",
    kinks=(-3.0, 3.0),
    steepest=1 / 6,
)
