"""a = tanh z"""

from jax import numpy as jnp

from jaxnn.protocols import Elementwise

RULE = Elementwise(
    g=jnp.tanh,
    dg=lambda a: 1 - a**2,
    of="a",
    formula="tanh({z})",
    derivative="1 − {a}²",
    steepest=1.0,
)
