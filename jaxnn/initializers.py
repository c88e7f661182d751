"""Where the weights W (n_out, n_in) start, by name; biases start at zero.

| name   | entries of W                          | source                                     |
|--------|---------------------------------------|--------------------------------------------|
| small  | N(0, 0.01²)                           | Ng, Deep Learning course 1 (2017)          |
| xavier | N(0, 2 / (n_in + n_out))              | Glorot & Bengio (2010), eq. 12             |
| glorot | the same, by its author's other name  |                                            |
| he     | N(0, 2 / n_in)                        | He et al. (2015), eq. 10                   |
| lecun  | N(0, 1 / n_in)                        | LeCun et al. (1998), eq. 16                |
| zeros  | 0: hidden units then never differ     |                                            |
| equal  | 1 / n_in: likewise, but not dead      |                                            |

xavier, he and lecun draw from the normal distribution cut at two standard deviations and rescaled, as in JAX.
"""

import jax
from jax import numpy as jnp

_axes = {"in_axis": -1, "out_axis": -2}

INITIALIZERS = {
    "small": jax.nn.initializers.normal(0.01),
    "xavier": jax.nn.initializers.glorot_normal(**_axes),
    "glorot": jax.nn.initializers.glorot_normal(**_axes),
    "he": jax.nn.initializers.he_normal(**_axes),
    "lecun": jax.nn.initializers.lecun_normal(**_axes),
    "zeros": jax.nn.initializers.zeros,
    "equal": lambda key, shape, dtype=jnp.float32: jnp.full(shape, 1 / shape[-1], dtype),
}
