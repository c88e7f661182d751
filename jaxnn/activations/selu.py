"""a = λ z if z > 0 else λ α (eᶻ − 1), with g′(0) = λ α   Source: Klambauer et al. (2017), eq. 2

g′ = λ if z > 0 else a + λ α    since λ α eᶻ = a + λ α, and a has the sign of z

λ and α keep a mean of 0 and a variance of 1 from layer to layer.
"""

import jax
from jax import numpy as jnp

from jaxnn.protocols import Elementwise

LAMBDA, ALPHA = 1.0507009873554805, 1.6732632423543772

RULE = Elementwise(
    g=jax.nn.selu,
    dg=lambda a: jnp.where(a > 0, LAMBDA, a + LAMBDA * ALPHA).astype(a.dtype),
    of="a",
    formula="1.0507009873554805 {z} if {z} > 0 else 1.7580993408473766 (exp({z}) − 1)",
    derivative="1.0507009873554805 if {z} > 0 else {a} + 1.7580993408473766",
    kinks=(0.0,),
)
