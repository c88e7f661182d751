"""out = n ⊙ silu(gate), n = x̂ ⊙ γ, x̂ = x r, r = (mean x² + ε)^−½"""

from functools import partial

import jax
from jax import Array, lax

from jaxnn.activations.silu import RULE as SILU
from jaxnn.cotangent import like
from jaxnn.dtypes import check_one_dtype, wide
from jaxnn.ops.rms_norm import mean
from jaxnn.protocols import real
from jaxnn.shapes import along, check_one_shape, check_vector


@partial(jax.custom_vjp, nondiff_argnames=("epsilon",))
def gated_rms_norm(x: Array, gamma: Array, gate: Array, epsilon: float = 1e-6) -> Array:
    """out = n ⊙ silu(gate), n = x̂ ⊙ γ, x̂ = x r, r = (mean x² + ε)^−½ of the n entries of each example.

    x, gate and out (…, n), γ (n,); silu(g) = g σ(g), and it is normalised before it is gated.

    ∂J/∂gate = dout ⊙ n ⊙ silu′(gate)
    dn = dout ⊙ silu(gate)
    ∂J/∂γ = Σᵢ dn_i ⊙ x̂_i
    dx̂ = dn ⊙ γ                            ∂r/∂x_l = −r³ x_l / n, therefore
    ∂J/∂x = r (dx̂ − x̂ mean(dx̂ ⊙ x̂))        x enters x̂ directly, and through r

    In bfloat16 it computes in float32. Source: Dao & Gu (2024), the gated norm of Mamba-2.
    ValueError: x and gate of two shapes, or γ not of the shape (n,). TypeError: dtypes that differ.
    """
    return fwd(x, gamma, gate, epsilon)[0]


def fwd(x: Array, gamma: Array, gate: Array, epsilon: float) -> tuple[Array, tuple[Array, ...]]:
    check_one_dtype("gated_rms_norm", x=x, gamma=gamma, gate=gate)
    check_one_shape("gated_rms_norm", x=x, gate=gate)
    check_vector("gated_rms_norm", x, gamma=gamma)
    r = lax.rsqrt(mean(wide(x) ** 2) + epsilon)
    out = wide(x) * r * along(x, gamma) * SILU.g(wide(gate))
    return out.astype(x.dtype), (x, gamma, gate, r)


def bwd(epsilon: float, residuals: tuple[Array, ...], dout: Array) -> tuple[Array, Array, Array]:
    x, gamma, gate, r = residuals
    dout, x_hat = wide(dout), wide(x) * r
    dgate = dout * x_hat * along(x, gamma) * SILU.dg(wide(gate))
    dn = dout * SILU.g(wide(gate))
    dx_hat = dn * along(x, gamma)
    dx = r * (dx_hat - x_hat * mean(dx_hat * x_hat))
    return like(x, dx), like(gamma, dn * x_hat), like(gate, dgate)


gated_rms_norm.defvjp(fwd, bwd)

EXAMPLES = {
    "rows": {"x": real(4, 5), "gamma": real(5), "gate": real(4, 5)},
    "one example": {"x": real(3), "gamma": real(3), "gate": real(3)},
    "two leading axes": {"x": real(2, 3, 4), "gamma": real(4), "gate": real(2, 3, 4)},
    "one entry": {"x": real(2, 1), "gamma": real(1), "gate": real(2, 1), "epsilon": 0.5},
}
TRAPS = {
    "σ for silu on the way back": ("dn = dout * SILU.g(wide(gate))", "dn = dout * jax.nn.sigmoid(wide(gate))"),
    "the gate forgotten on the way to x": ("dx_hat = dn *", "dx_hat = dout *"),
    "the gate forgotten on the way to γ": ("like(gamma, dn * x_hat)", "like(gamma, dout * x_hat)"),
    "γ forgotten on the way to the gate": ("x_hat * along(x, gamma) * SILU", "x_hat * SILU"),
    "x for n on the way to the gate": ("dout * x_hat * along", "dout * wide(x) * along"),
    "silu for its slope": ("SILU.dg(wide(gate))", "SILU.g(wide(gate))"),
    "r taken for a constant": (" - x_hat * mean(dx_hat * x_hat))", ")"),
}
