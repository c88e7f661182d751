"""L = Σ_k t_k (ℓ − v_k) + λ ℓ², ℓ = log Σ_k exp v_k, v = c tanh(z / c)"""

from functools import partial
from typing import NamedTuple

import jax
from jax import Array, lax
from jax import numpy as jnp

from jaxnn.cotangent import like
from jaxnn.dtypes import check_one_dtype, wide
from jaxnn.ops.rms_norm import along, check_vector
from jaxnn.protocols import OpExample, Residuals, distribution, real, whole


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
    0. A mean over the examples that count divides by Σᵢ w_yᵢ of those that are not ignored; it is the caller's.

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
    """Of v (…, K): ℓ = log Σ exp v (…, 1), ℓ − v, P, and Σ_{k≠pivot} P_k (…, 1).

    At the pivot, the label or the largest entry, no digit is lost in ℓ − v and Σ_{k≠pivot} P_k where P is almost 1."""

    lse: Array
    minus_log_P: Array
    P: Array
    rest: Array

    def not_P(self, is_pivot: Array) -> Array:
        """Σ_{k≠j} P_k of every entry j."""
        return jnp.where(is_pivot, self.rest, 1 - self.P)


def softmax(v: Array, is_pivot: Array) -> Softmax:
    """is_pivot: bools (…, K), which entry it is of each example."""
    largest = v.max(-1, keepdims=True)
    e = jnp.exp(v - largest)
    at_pivot, rest = of_one(is_pivot, e), of_one(~is_pivot, e)
    total = at_pivot + rest
    log_total = jnp.where(at_pivot == 1, jnp.log1p(rest), jnp.log(total))
    return Softmax(largest + log_total, log_total + (largest - v), e / total, rest / total)


def units(v: Array, y: Array) -> Array:
    """Whether each entry of v (…, K) is the one that a whole number y (…) names."""
    return lax.broadcasted_iota(y.dtype, v.shape, v.ndim - 1) == y[..., None]


def of_one(chosen: Array, v: Array) -> Array:
    """Σ of the chosen entries: (…, K) -> (…, 1)."""
    return jnp.where(chosen, v, 0).sum(-1, keepdims=True)


class Given(NamedTuple):
    """v and its softmax, what y is, and the class weights (1, …, K), 1 where there are none."""

    p: Softmax
    pivot: Array  # bools (…, K): the label, or the largest entry
    counts: Array | bool  # (…, 1): whether the label is not ignored
    w: Array | float

    @staticmethod
    def of(z: Array, y: Array, class_weights: Array | None, ignore: int | None, soft_cap: float | None) -> "Given":
        v = wide(z) if soft_cap is None else soft_cap * jnp.tanh(wide(z) / soft_cap)
        labels = is_label(y)
        pivot = units(v, y if labels else v.argmax(-1))
        counts = y[..., None] != ignore if labels and ignore is not None else True
        return Given(softmax(v, pivot), pivot, counts, 1.0 if class_weights is None else along(z, class_weights))


def is_label(y: Array) -> bool:
    return jnp.issubdtype(y.dtype, jnp.integer)


def fwd(
    z: Array,
    y: Array,
    class_weights: Array | None,
    ignore: int | None,
    smoothing: float,
    z_loss: float,
    soft_cap: float | None,
) -> tuple[Array, Residuals]:
    check(z, y, class_weights)
    p, pivot, counts, w = Given.of(z, y, class_weights, ignore, soft_cap)
    if is_label(y):
        L = (1 - smoothing) * of_one(pivot, w * p.minus_log_P)
    else:
        L = (1 - smoothing) * (w * wide(y) * p.minus_log_P).sum(-1, keepdims=True)
    if smoothing:
        L = L + smoothing / z.shape[-1] * (w * p.minus_log_P).sum(-1, keepdims=True)
    return jnp.where(counts, L + z_loss * p.lse**2, 0)[..., 0], (z, y, class_weights)


def bwd(
    ignore: int | None,
    smoothing: float,
    z_loss: float,
    soft_cap: float | None,
    residuals: Residuals,
    dL: Array,
) -> tuple[Array, Array | None, Array | None]:
    z, y, class_weights = residuals
    p, pivot, counts, w = Given.of(z, y, class_weights, ignore, soft_cap)
    dL = jnp.where(counts, dL[..., None], 0)
    uniform = smoothing / z.shape[-1] * w * jnp.ones((1,) * z.ndim, dL.dtype)
    if is_label(y):
        own = (1 - smoothing) * of_one(pivot, w * jnp.ones_like(p.P))
        others = jnp.broadcast_to(uniform, (*uniform.shape[:-1], z.shape[-1])).sum(-1, keepdims=True)
        dv = jnp.where(pivot, p.P * others - own * p.rest, p.P * (own + others)) - uniform
    else:
        t = (1 - smoothing) * w * wide(y) + uniform
        dv = p.P * (t.sum(-1, keepdims=True) - t) - t * p.not_P(pivot)
    dz = dL * (dv + 2 * z_loss * p.lse * p.P)
    if soft_cap is not None:
        dz = dz / jnp.cosh(wide(z) / soft_cap) ** 2
    dt = dL * p.minus_log_P
    dy = None if is_label(y) else like(y, (1 - smoothing) * w * dt)
    if class_weights is None:
        return like(z, dz), dy, None
    q = (1 - smoothing) * (pivot.astype(dt.dtype) if is_label(y) else wide(y)) + smoothing / z.shape[-1]
    return like(z, dz), dy, like(class_weights, q * dt)


def check(z: Array, y: Array, class_weights: Array | None) -> None:
    """ValueError and TypeError of `softmax_cross_entropy`."""
    check_one_dtype("softmax_cross_entropy", z=z, y=None if is_label(y) else y, class_weights=class_weights)
    if y.shape != (z.shape[:-1] if is_label(y) else z.shape):
        raise ValueError(
            f"softmax_cross_entropy was given y of shape {y.shape} and dtype {y.dtype} for z of shape {z.shape}: give "
            f"integer labels of shape {z.shape[:-1]}, or a distribution of z's shape."
        )
    check_vector("softmax_cross_entropy", z, class_weights=class_weights)


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
COTANGENT = "dL = jnp.where(counts, dL[..., None], 0)"
TRAPS = {
    "the cotangent dropped": (COTANGENT, "dL = jnp.where(counts, jnp.ones_like(dL[..., None]), 0)"),
    "the first example's cotangent for all": (COTANGENT, "dL = jnp.where(counts, dL[(0,) * dL.ndim], 0)"),
    "ignored in the loss, not in the gradient": (COTANGENT, "dL = dL[..., None]"),
    "ε / (K − 1) on the way back": (
        "uniform = smoothing / z.shape[-1]",
        "uniform = smoothing / (z.shape[-1] - 1 if z.shape[-1] > 1 else 1)",
    ),
    "class weights forgotten on the way back": ("own = (1 - smoothing) * of_one(pivot, w *", "own = of_one(pivot,"),
    "the weight of the label for the smooth term": ("p.P * (own + others)", "p.P"),
    "z-loss without P": ("2 * z_loss * p.lse * p.P", "2 * z_loss * p.lse"),
    "the soft cap's slope at z, not z / c": ("jnp.cosh(wide(z) / soft_cap)", "jnp.cosh(wide(z))"),
    "the soft cap forgotten on the way back": ("if soft_cap is not None:\n        dz", "if False:\n        dz"),
}
