"""out = gelu(gate) ⊙ up, gelu(g) = g Φ(g), or its approximation by tanh"""

from functools import partial
from typing import Literal

import jax
from jax import Array

from jaxnn.activations.gelu import RULE as ERF
from jaxnn.activations.gelu_tanh import RULE as TANH
from jaxnn.cotangent import like
from jaxnn.dtypes import check_one_dtype, wide
from jaxnn.protocols import real
from jaxnn.shapes import check_one_shape

Approximation = Literal["tanh", "none"]
GELU = {"tanh": TANH, "none": ERF}


@partial(jax.custom_vjp, nondiff_argnames=("approximate",))
def geglu(gate: Array, up: Array, approximate: Approximation = "tanh") -> Array:
    """out = gelu(gate) ⊙ up, all of one shape; gelu(g) = ½ g (1 + tanh u), u = √(2/π) (g + 0.044715 g³) with
    approximate="tanh", g Φ(g) with "none".

    ∂J/∂up = dout ⊙ gelu(gate)
    ∂J/∂gate = dout ⊙ up ⊙ gelu′(gate)
    gelu′ = ½ (1 + tanh u) + ½ g (1 − tanh² u) √(2/π) (1 + 3 · 0.044715 g²), or Φ(g) + g φ(g)    by the product rule

    In bfloat16 both passes compute in float32. Source: Shazeer (2020), eq. 6, between its matrices.
    ValueError: two shapes, or another approximation. TypeError: dtypes that differ.
    """
    return fwd(gate, up, approximate)[0]


def fwd(gate: Array, up: Array, approximate: Approximation) -> tuple[Array, tuple[Array, Array]]:
    check_one_dtype("geglu", gate=gate, up=up)
    check_one_shape("geglu", gate=gate, up=up)
    if approximate not in GELU:
        raise ValueError(f"geglu was given approximate={approximate!r}: give one of {', '.join(map(repr, GELU))}.")
    return (GELU[approximate].g(wide(gate)) * wide(up)).astype(up.dtype), (gate, up)


def bwd(approximate: Approximation, residuals: tuple[Array, Array], dout: Array) -> tuple[Array, Array]:
    gate, up = residuals
    dup = wide(dout) * GELU[approximate].g(wide(gate))
    dgate = wide(dout) * wide(up) * GELU[approximate].dg(wide(gate))
    return like(gate, dgate), like(up, dup)


geglu.defvjp(fwd, bwd)

EXAMPLES = {
    "rows, tanh": {"gate": real(4, 5), "up": real(4, 5)},
    "rows, none": {"gate": real(4, 5), "up": real(4, 5), "approximate": "none"},
    "two leading axes, tanh": {"gate": real(2, 1, 3), "up": real(2, 1, 3)},
    "two leading axes, none": {"gate": real(2, 1, 3), "up": real(2, 1, 3), "approximate": "none"},
}
TRAPS = {
    "tanh forward, erf backward": ("GELU[approximate].dg", 'GELU["none"].dg'),
    "erf forward, tanh backward": ("GELU[approximate].dg", 'GELU["tanh"].dg'),
    "another gelu on the way to up": ("dup = wide(dout) * GELU[approximate]", 'dup = wide(dout) * GELU["none"]'),
    "gelu for its slope": ("GELU[approximate].dg", "GELU[approximate].g"),
    "gate and up exchanged": ("return like(gate, dgate), like(up, dup)", "return like(gate, dup), like(up, dgate)"),
    "one gradient for both": ("return like(gate, dgate), like(up, dup)", "return like(gate, dgate), like(up, dgate)"),
}
