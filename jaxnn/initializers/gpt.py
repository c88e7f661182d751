"""N(0, 0.02²)   Source: Radford, Narasimhan, Salimans & Sutskever (2018), section 4.1"""

import jax

draw = jax.nn.initializers.normal(0.02)
