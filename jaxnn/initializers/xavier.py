"""N(0, 2 / (n_in + n_out))   Source: Glorot & Bengio (2010), eq. 12"""

import jax

draw = jax.nn.initializers.glorot_normal(in_axis=-1, out_axis=-2)
