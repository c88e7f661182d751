"""N(0, 1)"""

import jax

draw = jax.nn.initializers.normal(1.0)
