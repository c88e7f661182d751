"""a = max(z, 0)²   Source: So et al. (2021)

g′ = 2 max(z, 0)    the chain rule; continuous at 0
"""

import jax

from jaxnn.protocols import Elementwise

RULE = Elementwise(
    g=lambda z: jax.nn.relu(z) ** 2,
    dg=lambda z: 2 * jax.nn.relu(z),
    of="z",
    formula="max({z}, 0)²",
    derivative="2 max({z}, 0)",
    dies=True,
)
