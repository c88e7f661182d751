"""N(0, 0.01²)   Source: Ng, Deep Learning course 1 (2017)"""

import jax

draw = jax.nn.initializers.normal(0.01)
