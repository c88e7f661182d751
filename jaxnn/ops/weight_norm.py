"""w = g v̂, v̂ = v r, r = (Σ v² + ε)^−½"""

from functools import partial

import jax
from jax import Array, lax

from jaxnn.cotangent import like
from jaxnn.dtypes import check_one_dtype, wide
from jaxnn.protocols import real
from jaxnn.shapes import check_entries, check_shape


@partial(jax.custom_vjp, nondiff_argnames=("epsilon",))
def weight_norm(v: Array, g: Array, epsilon: float = 1e-12) -> Array:
    """w = g v̂, v̂ = v r, r = (Σ v² + ε)^−½ of the entries of each row: a direction, and a length of its own.

    v and w (…, n), g (…), one number a row: for a matrix v (n_out, n_in), a length for each unit.

    ∂J/∂g_j = Σ_k dw_jk v̂_jk
    dv̂ = g dw                             ∂r/∂v_l = −r² v̂_l, therefore
    ∂J/∂v = r (dv̂ − v̂ Σ(dv̂ ⊙ v̂))        v enters v̂ directly, and through r; so a step along ∂J/∂v never shortens v

    In bfloat16 it computes in float32. Source: Salimans & Kingma (2016), eq. 2 and 3.
    ValueError: g that is not one number a row, or rows without entries. TypeError: dtypes that differ.
    """
    return fwd(v, g, epsilon)[0]


def fwd(v: Array, g: Array, epsilon: float) -> tuple[Array, tuple[Array, Array, Array]]:
    check_one_dtype("weight_norm", v=v, g=g)
    check_entries("weight_norm", v=v)
    check_shape("weight_norm", "g", g, v.shape[:-1], f"v of {v.shape}")
    r = lax.rsqrt((wide(v) ** 2).sum(-1, keepdims=True) + epsilon)
    return (wide(g)[..., None] * wide(v) * r).astype(v.dtype), (v, g, r)


def bwd(epsilon: float, residuals: tuple[Array, Array, Array], dw: Array) -> tuple[Array, Array]:
    v, g, r = residuals
    v_hat, dw = wide(v) * r, wide(dw)
    dv_hat = wide(g)[..., None] * dw
    dv = r * (dv_hat - v_hat * (dv_hat * v_hat).sum(-1, keepdims=True))
    return like(v, dv), like(g, (dw * v_hat).sum(-1))


weight_norm.defvjp(fwd, bwd)

EXAMPLES = {
    "a matrix": {"v": real(3, 4), "g": real(3)},
    "one row, a large ε": {"v": real(3), "g": real(), "epsilon": 0.5},
    "three axes": {"v": real(2, 2, 3), "g": real(2, 2)},
}
TRAPS = {
    "‖v‖ taken for a constant": (" - v_hat * (dv_hat * v_hat).sum(-1, keepdims=True))", ")"),
    "right at g = 1 alone": ("dv_hat = wide(g)[..., None] * dw", "dv_hat = dw"),
    "g twice": ("- v_hat * (", "- wide(g)[..., None] * v_hat * ("),
    "∂J/∂g of v, not of v̂": ("like(g, (dw * v_hat)", "like(g, (dw * wide(v))"),
    "∂J/∂g with g": ("like(g, (dw * v_hat)", "like(g, (dv_hat * v_hat)"),
    "over the whole matrix": ("(dv_hat * v_hat).sum(-1, keepdims=True)", "(dv_hat * v_hat).sum()"),
}
