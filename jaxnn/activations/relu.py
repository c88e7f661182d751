"""a = max(z, 0), with g′(0) = 0.   Source: Nair & Hinton (2010)"""

import jax

from jaxnn.protocols import Elementwise

RULE = Elementwise(
    g=jax.nn.relu,
    dg=lambda a: (a > 0).astype(a.dtype),
    of="a",
    formula="max({z}, 0)",
    derivative="[{z} > 0]",
    kinks=(0.0,),
    dies=True,
)
