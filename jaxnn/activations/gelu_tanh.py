"""a = ½ z (1 + tanh u), u = √(2/π) (z + 0.044715 z³)   Source: Hendrycks & Gimpel (2016)

g′ = ½ (1 + t) + ½ z (1 − t²) u′, t = tanh u    the product rule, with tanh′ = 1 − tanh²
u′ = √(2/π) (1 + 3 · 0.044715 z²)
"""

import math

from jax import Array
from jax import numpy as jnp

from jaxnn.protocols import Elementwise

ROOT, CUBE = math.sqrt(2 / math.pi), 0.044715


def t(z: Array) -> Array:
    return jnp.tanh(ROOT * (z + CUBE * z**3))


def dg(z: Array) -> Array:
    du = ROOT * (1 + 3 * CUBE * z**2)
    return (1 + t(z)) / 2 + z / 2 * (1 - t(z) ** 2) * du


U = "√(2 / π) ({z} + 0.044715 {z}³)"
RULE = Elementwise(
    g=lambda z: z / 2 * (1 + t(z)),
    dg=dg,
    of="z",
    formula=f"½ {{z}} ⊙ (1 + tanh({U}))",
    derivative=f"½ (1 + tanh({U})) + ½ {{z}} ⊙ (1 − tanh({U})²) ⊙ √(2 / π) (1 + 0.134145 {{z}}²)",
)
