"""0: hidden units then never differ"""

import jax

draw = jax.nn.initializers.zeros
