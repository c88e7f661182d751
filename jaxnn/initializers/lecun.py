"""N(0, 1 / n_in)   Source: LeCun et al. (1998), eq. 16"""

import jax

draw = jax.nn.initializers.lecun_normal(in_axis=-1, out_axis=-2)
