"""p = exp(z) / Σ_k exp z_k"""

import jax
from jax import Array, lax
from jax import numpy as jnp

from jaxnn.cotangent import like
from jaxnn.dtypes import check_one_dtype, wide
from jaxnn.protocols import real
from jaxnn.shapes import check_entries


@jax.custom_vjp
def softmax(z: Array) -> Array:
    """p = exp(z) / Σ_k exp z_k of the entries of each example; z and p (…, n).

    ∂p_k/∂z_j = p_k (δ_kj − p_j), therefore
    ∂J/∂z = p ⊙ (dp − Σ_k dp_k p_k)
          = p ⊙ (d − Σ_k d_k p_k), d = dp − c, for any c, as Σ_k p_k = 1

    With the dp of the largest p for c, nothing cancels where that p is almost 1. It keeps z, its largest entry and
    the sum of the exponentials, of which p is made again as it was; an entry −∞ has p = 0, and a gradient of 0.
    In bfloat16 it computes in float32. Source: Bridle (1990). ValueError: a z without entries. TypeError: a dtype
    that is no float.
    """
    return fwd(z)[0]


def fwd(z: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    check_one_dtype("softmax", z=z)
    check_entries("softmax", z=z)
    largest = lax.stop_gradient(wide(z)).max(-1, keepdims=True)
    total = jnp.exp(wide(z) - largest).sum(-1, keepdims=True)
    return (jnp.exp(wide(z) - largest) / total).astype(z.dtype), (z, largest, total)


def bwd(residuals: tuple[Array, Array, Array], dp: Array) -> tuple[Array]:
    z, largest, total = residuals
    p = jnp.exp(wide(z) - largest) / total
    d = wide(dp) - jnp.take_along_axis(wide(dp), z.argmax(-1, keepdims=True), -1)
    return (like(z, p * (d - (d * p).sum(-1, keepdims=True))),)


softmax.defvjp(fwd, bwd)

EXAMPLES = {
    "rows": {"z": real(4, 5)},
    "one example": {"z": real(3)},
    "two leading axes": {"z": real(2, 3, 4)},
    "one entry": {"z": real(2, 1)},
}
TRAPS = {
    "the diagonal alone": ("p * (d - (d * p).sum(-1, keepdims=True))", "p * (1 - p) * wide(dp)"),
    "over another axis": ("(d * p).sum(-1, keepdims=True)", "(d * p).sum(0, keepdims=True)"),
    "the mean for the sum": ("(d * p).sum(", "(d * p).mean("),
    "p forgotten in the sum": ("(d * p).sum(", "d.sum("),
    "p forgotten in front": ("p * (d -", "(d -"),
    "the sum over the examples too": ("(d * p).sum(-1, keepdims=True)", "(d * p).sum()"),
}
