"""a = z σ(z)   Source: Elfwing et al. (2018)

g′ = σ(z) + z σ(z) σ(−z)    the product rule, with σ′(z) = σ(z) σ(−z)
"""

import jax
from jax.nn import sigmoid

from jaxnn.protocols import Elementwise

RULE = Elementwise(
    g=jax.nn.silu,
    dg=lambda z: sigmoid(z) * (1 + z * sigmoid(-z)),
    of="z",
    formula="{z} ⊙ σ({z})",
    derivative="σ({z}) ⊙ (1 + {z} ⊙ σ(−{z}))",
)
