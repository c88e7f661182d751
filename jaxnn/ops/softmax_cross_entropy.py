"""L = Σ_k t_k (ℓ − v_k) + λ ℓ², ℓ = log Σ_k exp v_k, v = c tanh(z / c)"""

from functools import partial
from typing import NamedTuple

import jax
from jax import Array, lax
from jax import numpy as jnp

from jaxnn.cotangent import like
from jaxnn.dtypes import check_one_dtype, wide
from jaxnn.protocols import OpExample, distribution, real, whole


@partial(jax.custom_vjp, nondiff_argnames=("ignore", "smoothing", "z_loss", "soft_cap"))
def softmax_cross_entropy(
    z: Array,
    y: Array,
    class_weights: Array | None = None,
    ignore: int | None = None,
    smoothing: float = 0.0,
    z_loss: float = 0.0,
    soft_cap: float | None = None,
) -> Array:
    """L = Σ_k t_k (ℓ − v_k) + λ ℓ² of each example, ℓ = log Σ_k exp v_k, P = exp(v − ℓ); z (…, K), L (…) in float32 at
    least.

    v = c tanh(z / c) with a soft_cap c, else z. t = w ⊙ ((1 − ε) y + ε / K), with smoothing ε, class_weights w (K,),
    and y a distribution (…, K) or labels (…), which stand for unit rows. z_loss: λ. Where the label is `ignore`, L is
    0. The mean over the examples is the caller's: it divides by Σᵢ `share`, that is w_y, 0 where ignored.

    ∂ℓ/∂v_j = P_j, therefore
    ∂J/∂v = dL (P Σ_k t_k − t + 2 λ ℓ P)
          = dL (P_j Σ_{k≠j} t_k − t_j Σ_{k≠j} P_k + 2 λ ℓ P_j), which does not cancel where P_y is almost 1
    ∂J/∂z = ∂J/∂v / cosh²(z / c)
    ∂J/∂t = dL (ℓ − v), and by t = w ⊙ ((1 − ε) y + ε / K) those of y and w

    Source: Bishop (2006), eq. 4.108 and 4.109; smoothing: Szegedy et al. (2016), section 7.
    ValueError: y that is neither labels nor of z's shape, or weights that are not one a class. TypeError: dtypes that
    differ.
    """
    return fwd(z, y, class_weights, ignore, smoothing, z_loss, soft_cap)[0]


class Softmax(NamedTuple):
    """Of v (…, K): ℓ = log Σ exp v (…, 1), ℓ − v, P, and Σ_{k≠j} P_k, each to its own last digits."""

    lse: Array
    minus_log_P: Array
    P: Array
    not_P: Array


def softmax(v: Array) -> Softmax:
    largest = v.max(-1, keepdims=True)
    e = jnp.exp(v - largest)
    rest = jnp.where(is_largest(v), 0, e).sum(-1, keepdims=True)
    one = jnp.where(is_largest(v), e, 0).sum(-1, keepdims=True)  # is 1; by its derivative those of largest cancel
    log_sum, total = jnp.log1p(rest + (one - 1)), one + rest
    not_e = jnp.where(is_largest(v), rest, one + rest - e)
    return Softmax(largest + log_sum, log_sum + (largest - v), e / total, not_e / total)


def is_largest(v: Array) -> Array:
    """True at the first largest entry of each example of v (…, K)."""
    return lax.broadcasted_iota(jnp.int32, v.shape, v.ndim - 1) == jnp.argmax(v, -1, keepdims=True).astype(jnp.int32)


def others(t: Array) -> Array:
    """Σ_{k≠j} t_k, at the largest t_j a sum and no difference."""
    rest = jnp.where(is_largest(t), 0, t).sum(-1, keepdims=True)
    return jnp.where(is_largest(t), rest, t.sum(-1, keepdims=True) - t)


def capped(z: Array, soft_cap: float | None) -> Array:
    return z if soft_cap is None else soft_cap * jnp.tanh(z / soft_cap)


def target(z: Array, y: Array, ignore: int | None, smoothing: float) -> tuple[Array, Array]:
    """((1 − ε) y + ε / K of each example, with labels as unit rows; whether it counts (…, 1))."""
    labels = jnp.issubdtype(y.dtype, jnp.integer)
    if y.shape != (z.shape[:-1] if labels else z.shape):
        raise ValueError(
            f"softmax_cross_entropy was given y of shape {y.shape} and dtype {y.dtype} for z of shape {z.shape}: give "
            f"integer labels of shape {z.shape[:-1]}, or a distribution of z's shape."
        )
    counts = jnp.ones((1,) * z.ndim, bool)
    if labels:
        y = y[..., None].astype(jnp.int32)  # in fewer bits `ignore` and the classes would wrap
        counts = counts if ignore is None else y != ignore
        y = (lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 1) == y).astype(z.dtype)
    return (1 - smoothing) * wide(y) + smoothing / z.shape[-1], counts


def weights(z: Array, class_weights: Array | None) -> Array:
    if class_weights is None:
        return jnp.ones((1,) * z.ndim, wide(z).dtype)
    if class_weights.shape != z.shape[-1:]:
        raise ValueError(
            f"softmax_cross_entropy was given class_weights of shape {class_weights.shape} for z of shape {z.shape}: "
            f"give {z.shape[-1:]}, one number a class."
        )
    return wide(class_weights).reshape((1,) * (z.ndim - 1) + class_weights.shape)


def share(z: Array, y: Array, class_weights: Array | None, ignore: int | None) -> Array:
    """What each example counts for in a mean (…): Σ_k w_k y_k, or 1 without weights; 0 where its label is ignored."""
    y, counts = target(z, y, ignore, smoothing=0.0)
    w = 1 if class_weights is None else (y * weights(z, class_weights)).sum(-1)
    return jnp.where(jnp.broadcast_to(counts[..., 0], z.shape[:-1]), w, 0).astype(wide(z).dtype)


def fwd(
    z: Array,
    y: Array,
    class_weights: Array | None,
    ignore: int | None,
    smoothing: float,
    z_loss: float,
    soft_cap: float | None,
) -> tuple[Array, tuple[Array, Array, Array | None]]:
    reals = {"y": y} if jnp.issubdtype(y.dtype, jnp.floating) else {}
    check_one_dtype("softmax_cross_entropy", z=z, class_weights=class_weights, **reals)
    q, counts = target(z, y, ignore, smoothing)
    p = softmax(capped(wide(z), soft_cap))
    L = (q * weights(z, class_weights) * p.minus_log_P).sum(-1, keepdims=True)
    L = L + z_loss * p.lse**2 if z_loss else L
    return jnp.where(counts, L, 0)[..., 0], (z, y, class_weights)


def bwd(
    ignore: int | None,
    smoothing: float,
    z_loss: float,
    soft_cap: float | None,
    residuals: tuple[Array, Array, Array | None],
    dL: Array,
) -> tuple[Array, Array | None, Array | None]:
    z, y, class_weights = residuals
    q, counts = target(z, y, ignore, smoothing)
    w = weights(z, class_weights)
    p, t, dL = softmax(capped(wide(z), soft_cap)), q * w, jnp.where(counts, dL[..., None], 0)
    is_distribution = jnp.issubdtype(y.dtype, jnp.floating)  # of labels the difference is exact
    dz = dL * (p.P * (others(t) if is_distribution else t.sum(-1, keepdims=True) - t) - t * p.not_P)
    dz = dz + dL * 2 * z_loss * p.lse * p.P if z_loss else dz
    if soft_cap is not None:
        dz = dz / jnp.cosh(wide(z) / soft_cap) ** 2
    dt = dL * p.minus_log_P
    dy = like(y, (1 - smoothing) * w * dt) if is_distribution else None
    dw = None if class_weights is None else like(class_weights, q * dt)
    return like(z, dz), dy, dw


softmax_cross_entropy.defvjp(fwd, bwd)

SETTINGS: dict[str, OpExample] = {
    "plain": {},
    "smoothed": {"smoothing": 0.1},
    "z-loss": {"z_loss": 0.3},
    "soft cap": {"soft_cap": 1.5},
    "class weights": {"class_weights": real(3)},
    "all of these": {"smoothing": 0.2, "z_loss": 0.1, "soft_cap": 2.0, "class_weights": real(3)},
}
EXAMPLES = {
    **{f"labels, {words}": {"z": real(4, 3), "y": whole(4, below=3), **more} for words, more in SETTINGS.items()},
    **{
        f"distributions, {words}": {"z": real(4, 3), "y": distribution(4, 3), **more}
        for words, more in SETTINGS.items()
    },
    "some labels ignored": {"z": real(5, 3), "y": whole(5, below=3), "ignore": 1, **SETTINGS["all of these"]},
    "every label ignored": {"z": real(4, 3), "y": whole(4, below=1), "ignore": 0},
    "two leading axes": {"z": real(2, 3, 4), "y": whole(2, 3, below=4)},
    "one example": {"z": real(4), "y": whole(below=4)},
    "one class": {"z": real(2, 1), "y": whole(2, below=1), "z_loss": 0.2},
    "values that do not sum to 1": {"z": real(3, 4), "y": real(3, 4)},
}
COTANGENT = "jnp.where(counts, dL[..., None], 0)"
AGAIN = "q, counts = target(z, y, ignore, smoothing)\n    w ="  # in bwd
TRAPS = {
    "the cotangent dropped": (COTANGENT, "jnp.where(counts, jnp.ones_like(dL[..., None]), 0)"),
    "the first example's cotangent for all": (COTANGENT, "jnp.where(counts, dL[(0,) * dL.ndim], 0)"),
    "ignored in the loss, not in the gradient": (COTANGENT, "dL[..., None]"),
    "ε / (K − 1) on the way back": (
        AGAIN,
        AGAIN.replace("smoothing)", "smoothing * z.shape[-1] / max(z.shape[-1] - 1, 1))"),
    ),
    "class weights forgotten on the way back": ("w = weights(z, class_weights)\n", "w = weights(z, None)\n"),
    "the weight of the label for the smooth term": ("t.sum(-1, keepdims=True) - t) -", "1 - t) -"),
    "z-loss without P": ("2 * z_loss * p.lse * p.P", "2 * z_loss * p.lse"),
    "the soft cap's slope at z, not z / c": ("jnp.cosh(wide(z) / soft_cap)", "jnp.cosh(wide(z))"),
    "the soft cap forgotten on the way back": ("if soft_cap is not None:\n        dz", "if False:\n        dz"),
}
