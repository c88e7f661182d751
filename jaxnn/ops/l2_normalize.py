"""out = x r, r = (Σ x² + ε)^−½"""

from functools import partial

import jax
from jax import Array, lax

from jaxnn.cotangent import like
from jaxnn.dtypes import check_one_dtype, wide
from jaxnn.protocols import real, zeros
from jaxnn.shapes import check_entries


@partial(jax.custom_vjp, nondiff_argnames=("epsilon",))
def l2_normalize(x: Array, epsilon: float = 1e-12) -> Array:
    """out = x r, r = (Σ x² + ε)^−½ over the n entries of each example, which is x / ‖x‖ where ‖x‖² is far above ε; x
    and out (…, n).

    ∂r/∂x_l = −r³ x_l, therefore
    ∂J/∂x = r (dout − out Σ(dout ⊙ out))       x enters out directly, and through r

    At x = 0 out is 0 and ∂J/∂x = dout / √ε, the true derivative there: large, a million times dout at this ε, and
    finite. The cosine of x and y is the sum of the products of what this makes of them.
    In bfloat16 it computes in float32. Source: Wang, Xiang, Cheng & Yuille (2017), figure 4.
    ValueError: an x without entries. TypeError: a dtype that is no float.
    """
    return fwd(x, epsilon)[0]


def fwd(x: Array, epsilon: float) -> tuple[Array, tuple[Array, Array]]:
    check_one_dtype("l2_normalize", x=x)
    check_entries("l2_normalize", x=x)
    r = lax.rsqrt((wide(x) ** 2).sum(-1, keepdims=True) + epsilon)
    return (wide(x) * r).astype(x.dtype), (x, r)


def bwd(epsilon: float, residuals: tuple[Array, Array], dout: Array) -> tuple[Array]:
    x, r = residuals
    out, dout = wide(x) * r, wide(dout)
    return (like(x, r * (dout - out * (dout * out).sum(-1, keepdims=True))),)


l2_normalize.defvjp(fwd, bwd)

EXAMPLES = {
    "rows": {"x": real(4, 5)},
    "one example, a large ε": {"x": real(3), "epsilon": 0.5},
    "two leading axes": {"x": real(2, 3, 4)},
    "one entry": {"x": real(2, 1), "epsilon": 0.5},
    "zeros": {"x": zeros(2, 3), "epsilon": 0.25},
}
TRAPS = {
    "r taken for a constant": (" - out * (dout * out).sum(-1, keepdims=True))", ")"),
    "x for out": ("out * (dout * out).sum(", "wide(x) * (dout * wide(x)).sum("),
    "r forgotten": ("like(x, r * (", "like(x, ("),
    "ε forgotten on the way back": (
        "x, r = residuals",
        "x, r = residuals[0], (residuals[0] ** 2).sum(-1, keepdims=True) ** -0.5",
    ),
    "0 at 0": ("like(x, r * (dout", "like(x, r * abs(lax.sign(out)) * (dout"),
    "over the examples": ("(dout * out).sum(-1, keepdims=True)", "(dout * out).sum()"),
}
