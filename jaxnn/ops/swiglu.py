"""out = silu(gate) ⊙ up, silu(g) = g σ(g)"""

import jax
from jax import Array

from jaxnn.activations.silu import RULE as SILU
from jaxnn.cotangent import like
from jaxnn.dtypes import check_one_dtype, wide
from jaxnn.protocols import real
from jaxnn.shapes import check_one_shape


@jax.custom_vjp
def swiglu(gate: Array, up: Array) -> Array:
    """out = silu(gate) ⊙ up, silu(g) = g σ(g); all of one shape.

    ∂J/∂up = dout ⊙ silu(gate)
    ∂J/∂gate = dout ⊙ up ⊙ silu′(gate)       silu′(g) = σ(g) (1 + g σ(−g)), by the product rule

    In bfloat16 both passes compute in float32, so none of them rounds silu(gate).
    Source: Shazeer (2020), eq. 6, between its matrices.
    ValueError: two shapes. TypeError: dtypes that differ.
    """
    return fwd(gate, up)[0]


def fwd(gate: Array, up: Array) -> tuple[Array, tuple[Array, Array]]:
    check_one_dtype("swiglu", gate=gate, up=up)
    check_one_shape("swiglu", gate=gate, up=up)
    return (SILU.g(wide(gate)) * wide(up)).astype(up.dtype), (gate, up)


def bwd(residuals: tuple[Array, Array], dout: Array) -> tuple[Array, Array]:
    gate, up = residuals
    dup = wide(dout) * SILU.g(wide(gate))
    dgate = wide(dout) * wide(up) * SILU.dg(wide(gate))
    return like(gate, dgate), like(up, dup)


swiglu.defvjp(fwd, bwd)

EXAMPLES = {
    "rows": {"gate": real(4, 5), "up": real(4, 5)},
    "two leading axes": {"gate": real(2, 1, 3), "up": real(2, 1, 3)},
    "one number": {"gate": real(), "up": real()},
}
TRAPS = {
    "silu′ without g": ("SILU.dg(wide(gate))", "jax.nn.sigmoid(wide(gate))"),
    "σ′ for silu′": ("SILU.dg(wide(gate))", "jax.nn.sigmoid(wide(gate)) * jax.nn.sigmoid(-wide(gate))"),
    "σ for silu": ("dup = wide(dout) * SILU.g(wide(gate))", "dup = wide(dout) * jax.nn.sigmoid(wide(gate))"),
    "gate and up exchanged": ("return like(gate, dgate), like(up, dup)", "return like(gate, dup), like(up, dgate)"),
    "up forgotten": ("wide(dout) * wide(up) *", "wide(dout) *"),
}
