"""a = z tanh(softplus z)   Source: Misra (2020)

g′ = t + z σ(z) (1 − t²), t = tanh(softplus z)    the product rule, with tanh′ = 1 − tanh² and softplus′ = σ
"""

import jax
from jax import Array
from jax import numpy as jnp
from jax.nn import sigmoid, softplus

from jaxnn.protocols import Elementwise


def dg(z: Array) -> Array:
    t = jnp.tanh(softplus(z))
    return t + z * sigmoid(z) * (1 - t**2)


RULE = Elementwise(
    g=jax.nn.mish,
    dg=dg,
    of="z",
    formula="{z} ⊙ tanh(log(1 + exp({z})))",
    derivative="tanh(log(1 + exp({z}))) + {z} ⊙ σ({z}) ⊙ (1 − tanh(log(1 + exp({z})))²)",
)
