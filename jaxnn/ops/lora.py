"""out = x Wᵀ + s (x Aᵀ) Bᵀ"""

from functools import partial

import jax
from jax import Array

from jaxnn.cotangent import like, product, wide_product
from jaxnn.dtypes import check_one_dtype, wide_einsum
from jaxnn.protocols import OpExample, real


@partial(jax.custom_vjp, nondiff_argnames=("scale",))
def lora(x: Array, W: Array, A: Array, B: Array, scale: float = 1.0) -> Array:
    """out = x Wᵀ + s h Bᵀ, h = x Aᵀ: a matrix W, and beside it one of low rank; x (…, n_in), W (n_out, n_in),
    A (r, n_in), B (n_out, r), out (…, n_out).

    ∂J/∂W = doutᵀ x                 where W stays as it is, do not ask for it: under jit it is then not computed
    ∂J/∂B = s doutᵀ h               each product sums over the examples
    dh = s dout B
    ∂J/∂A = dhᵀ x
    ∂J/∂x = dout W + dh A           x enters out through W and through h

    scale: s, which is α / r in the paper. It keeps h. Sums are made in float32 at least; h and dh, like the arguments,
    are in the dtype of x. Source: Hu et al. (2022), eq. 3.
    ValueError: shapes that do not fit. TypeError: dtypes that differ.
    """
    return fwd(x, W, A, B, scale)[0]


def fwd(x: Array, W: Array, A: Array, B: Array, scale: float) -> tuple[Array, tuple[Array, ...]]:
    check_one_dtype("lora", x=x, W=W, A=A, B=B)
    check_shapes(x, W, A, B)
    h = wide_einsum("...i,ri->...r", x, A).astype(x.dtype)
    out = wide_einsum("...i,oi->...o", x, W) + scale * wide_einsum("...r,or->...o", h, B)
    return out.astype(x.dtype), (x, W, A, B, h)


def bwd(scale: float, residuals: tuple[Array, ...], dout: Array) -> tuple[Array, Array, Array, Array]:
    x, W, A, B, h = residuals
    dW = product(W, "...o,...i->oi", dout, x)
    dB = product(B, "...o,...r->or", scale * dout, h)
    dh = (scale * wide_product(h, "...o,or->...r", dout, B)).astype(x.dtype)
    dA = product(A, "...r,...i->ri", dh, x)
    dx = wide_product(x, "...o,oi->...i", dout, W) + wide_product(x, "...r,ri->...i", dh, A)
    return like(x, dx), dW, dA, dB


def check_shapes(x: Array, W: Array, A: Array, B: Array) -> None:
    given = f"x of {x.shape}, W of {W.shape}, A of {A.shape} and B of {B.shape}"
    if x.ndim < 1 or {W.ndim, A.ndim, B.ndim} != {2}:
        raise ValueError(f"lora was given {given}: give x (…, n_in) and three matrices.")
    (n_out, n_in), r = W.shape, len(A)
    if x.shape[-1] != n_in or A.shape != (r, n_in) or B.shape != (n_out, r):
        raise ValueError(f"lora was given {given}: give x (…, n_in), W (n_out, n_in), A (r, n_in) and B (n_out, r).")


lora.defvjp(fwd, bwd)


def arguments(*shape: int, n_out: int, r: int) -> OpExample:
    n_in = shape[-1]
    return {"x": real(*shape), "W": real(n_out, n_in), "A": real(r, n_in), "B": real(n_out, r)}


EXAMPLES = {
    "rows": arguments(4, 5, n_out=3, r=2) | {"scale": 0.5},
    "one example": arguments(3, n_out=2, r=1) | {"scale": 2.0},
    "two leading axes": arguments(2, 1, 4, n_out=3, r=2) | {"scale": 4.0},
    "all sizes equal": arguments(2, 2, n_out=2, r=2),
}
TRAPS = {
    "s forgotten on the way to B": ('"...o,...r->or", scale * dout, h', '"...o,...r->or", dout, h'),
    "s forgotten on the way to A and x": ("dh = (scale * wide_product(", "dh = (wide_product("),
    "s twice": ('wide_product(x, "...r,ri->...i", dh, A)', 'scale * wide_product(x, "...r,ri->...i", dh, A)'),
    "s for W too": ('"...o,...i->oi", dout, x', '"...o,...i->oi", scale * dout, x'),
    "x by W alone": (' + wide_product(x, "...r,ri->...i", dh, A)', ""),
    "x by A and B alone": ('dx = wide_product(x, "...o,oi->...i", dout, W) +', "dx ="),
    "A without B": ("dh = (scale * wide_product(", "B = 0 * B + 1\n    dh = (scale * wide_product("),
    "B without A": ("scale * dout, h)", "scale * dout, 0 * h + 1)"),
}
