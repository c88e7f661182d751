"""N(0, 2 / n_in)   Source: He et al. (2015), eq. 10"""

import jax

draw = jax.nn.initializers.he_normal(in_axis=-1, out_axis=-2)
