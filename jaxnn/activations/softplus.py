"""a = log(1 + eᶻ)   Source: Dugas et al. (2001)"""

import jax

from jaxnn.protocols import Elementwise

RULE = Elementwise(
    g=jax.nn.softplus,
    dg=jax.nn.sigmoid,
    of="z",
    formula="log(1 + exp({z}))",
    derivative="σ({z})",
)
