"""L = Σ_k t_k (ℓ − v_k) + λ ℓ², ℓ = log Σ_k exp v_k, v = c tanh(z / c)"""

from functools import partial
from typing import NamedTuple

import jax
from jax import Array, lax
from jax import numpy as jnp

from jaxnn.cotangent import like
from jaxnn.dtypes import check_one_dtype, wide
from jaxnn.protocols import OpExample, Residuals, distribution, real, whole
from jaxnn.shapes import along, check_entries, check_names, check_shape


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

    A label that names no class is refused where it is known; inside jit its L is NaN.
    Source: Bishop (2006), eq. 4.108 and 4.109; smoothing: Szegedy et al. (2016), section 7.
    ValueError: y that is neither labels nor of z's shape, no class, or weights that are not one a class. TypeError:
    dtypes that differ.
    """
    return fwd(z, y, class_weights, ignore, smoothing, z_loss, soft_cap)[0]


class Softmax(NamedTuple):
    """Of v (…, K), with one entry of each example apart, the pivot: the label, or the largest. At the pivot no digit
    is lost in −log P and in Σ_{k≠pivot} P_k where P is almost 1."""

    v: Array
    largest: Array  # (…, 1)
    log_total: Array  # ℓ − largest (…, 1)
    is_pivot: Array  # (…, K)
    others: Array  # P (…, K), 0 at the pivot
    at_pivot: Array  # P of it (…, 1)
    minus_log: Array  # −log P of it (…, 1)
    rest: Array  # Σ_{k≠pivot} P_k (…, 1)

    @property
    def lse(self) -> Array:
        """ℓ (…, 1)."""
        return self.largest + self.log_total

    @property
    def P(self) -> Array:
        return jnp.where(self.is_pivot, self.at_pivot, self.others)

    @property
    def minus_log_P(self) -> Array:
        return self.log_total + (self.largest - self.v)

    @property
    def not_P(self) -> Array:
        """Σ_{k≠j} P_k of every entry j."""
        return jnp.where(self.is_pivot, self.rest, 1 - self.others)


def softmax(v: Array, pivot: Array | None = None) -> Softmax:
    """pivot: whole numbers (…), which entry it is; the largest if None."""
    pivot = v.argmax(-1) if pivot is None else pivot
    largest, is_pivot = lax.stop_gradient(v).max(-1, keepdims=True), units(v, pivot)
    names_one = ((pivot >= 0) & (pivot < v.shape[-1]))[..., None]
    below = jnp.where(names_one, largest - entry(v, pivot, is_pivot), jnp.nan)
    e = jnp.where(is_pivot, 0, jnp.exp(v - largest))
    rest, at_pivot = e.sum(-1, keepdims=True), jnp.exp(-below)
    total = at_pivot + rest
    log_total = jnp.log1p(rest + jnp.expm1(-below))
    return Softmax(v, largest, log_total, is_pivot, e / total, at_pivot / total, log_total + below, rest / total)


def entry(v: Array, pivot: Array, is_pivot: Array) -> Array:
    """v at the pivot (…, 1)."""
    if jax.typeof(v).sharding.spec[-1] is not None:  # the classes lie on several devices, along which nothing is taken
        return jnp.where(is_pivot, v, 0).sum(-1, keepdims=True)
    return jnp.take_along_axis(v, pivot[..., None], -1)


def others(t: Array) -> Array:
    """Σ_{k≠j} t_k, at the largest t_j a sum and no difference."""
    is_largest = units(t, t.argmax(-1))
    rest = jnp.where(is_largest, 0, t).sum(-1, keepdims=True)
    return jnp.where(is_largest, rest, t.sum(-1, keepdims=True) - t)


def units(v: Array, y: Array) -> Array:
    """Whether each entry of v (…, K) is the one that a whole number y (…) names."""
    return lax.broadcasted_iota(jnp.int32, v.shape, v.ndim - 1) == y[..., None].astype(jnp.int32)


class Weights(NamedTuple):
    """How much each example, and each class of it, counts."""

    counts: Array | bool  # (…, 1): whether the label is not ignored
    w: Array | float  # (1, …, K): the class weights, 1 where there are none
    label: Array | None  # (…): the labels, 0 where they are ignored; None of distributions
    own: Array | float  # (…, 1): the weight of the label, or Σ_k w_k y_k

    @staticmethod
    def of(z: Array, y: Array, class_weights: Array | None, ignore: int | None) -> "Weights":
        counts: Array | bool = True
        label = y.astype(jnp.int32) if is_label(y) else None  # in fewer bits `ignore` would wrap
        if label is not None and ignore is not None:
            counts, label = label[..., None] != ignore, jnp.where(label == ignore, 0, label)
        if class_weights is None:
            return Weights(counts, 1.0, label, 1.0)
        w = along(z, class_weights)
        of_y = w * wide(y) if label is None else jnp.where(units(z, label), w, 0)
        return Weights(counts, w, label, of_y.sum(-1, keepdims=True))


def capped(z: Array, soft_cap: float | None) -> Array:
    return z if soft_cap is None else float(soft_cap) * jnp.tanh(z / float(soft_cap))


def times(t: Array, v: Array) -> Array:
    """t v, 0 where t is 0, whatever v is."""
    return jnp.where(t == 0, 0, t * v)


def share(z: Array, y: Array, class_weights: Array | None, ignore: int | None) -> Array:
    """What each example counts for in a mean (…): Σ_k w_k y_k, or 1 without weights; 0 where its label is ignored."""
    weights = Weights.of(z, y, class_weights, ignore)
    each = jnp.where(weights.counts, weights.own, 0).astype(wide(z).dtype)
    return jnp.broadcast_to(each, (*z.shape[:-1], 1))[..., 0]


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
    check(z, y, class_weights, ignore)
    counts, w, label, own = Weights.of(z, y, class_weights, ignore)
    p = softmax(capped(wide(z), soft_cap), label)
    if label is not None:
        L = (1 - smoothing) * own * p.minus_log
    else:
        L = (1 - smoothing) * times(w * wide(y), p.minus_log_P).sum(-1, keepdims=True)
    if smoothing:
        L = L + smoothing / z.shape[-1] * (w * p.minus_log_P).sum(-1, keepdims=True)
    L = L + z_loss * p.lse**2 if z_loss else L
    return jnp.where(counts, L, 0)[..., 0], (z, y, class_weights)


def bwd(
    ignore: int | None,
    smoothing: float,
    z_loss: float,
    soft_cap: float | None,
    residuals: Residuals,
    dL: Array,
) -> tuple[Array, Array | None, Array | None]:
    z, y, class_weights = residuals
    counts, w, label, own = Weights.of(z, y, class_weights, ignore)
    p = softmax(capped(wide(z), soft_cap), label)
    dL = dL[..., None]
    uniform = smoothing / z.shape[-1] * w
    if label is not None:
        own = (1 - smoothing) * own
        rest = smoothing if class_weights is None else uniform.sum(-1, keepdims=True)
        dv = jnp.where(p.is_pivot, p.at_pivot * rest - own * p.rest, p.others * (own + rest)) - uniform
    else:
        t = (1 - smoothing) * w * wide(y) + uniform
        dv = p.P * others(t) - t * p.not_P
    if z_loss:
        dv = dv + 2 * z_loss * p.lse * p.P
    if soft_cap is not None:
        dv = dv / jnp.cosh(wide(z) / float(soft_cap)) ** 2
    dz = jnp.where(counts, dL * dv, 0)
    dt = jnp.where(counts, dL * p.minus_log_P, 0)
    dy = None if is_label(y) else like(y, (1 - smoothing) * w * dt)
    if class_weights is None:
        return like(z, dz), dy, None
    q = (1 - smoothing) * (p.is_pivot.astype(dt.dtype) if is_label(y) else wide(y)) + smoothing / z.shape[-1]
    return like(z, dz), dy, like(class_weights, times(q, dt))


def check(z: Array, y: Array, class_weights: Array | None, ignore: int | None) -> None:
    """ValueError and TypeError of `softmax_cross_entropy`."""
    check_one_dtype("softmax_cross_entropy", z=z, y=None if is_label(y) else y, class_weights=class_weights)
    check_entries("softmax_cross_entropy", z=z)
    if y.shape != (z.shape[:-1] if is_label(y) else z.shape):
        raise ValueError(
            f"softmax_cross_entropy was given y of shape {y.shape} and dtype {y.dtype} for z of shape {z.shape}: give "
            f"integer labels of shape {z.shape[:-1]}, or a distribution of z's shape."
        )
    if is_label(y):
        check_names("softmax_cross_entropy", "y", y, z.shape[-1], ignore)
    if class_weights is not None:
        check_shape("softmax_cross_entropy", "class_weights", class_weights, z.shape[-1:], f"z of shape {z.shape}")


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
COTANGENT = "dL = dL[..., None]"
TRAPS = {
    "the cotangent dropped": (COTANGENT, "dL = jnp.ones_like(dL[..., None])"),
    "the first example's cotangent for all": (COTANGENT, "dL = dL[(0,) * dL.ndim]"),
    "ignored in the loss, not in the gradient": ("dz = jnp.where(counts, dL * dv, 0)", "dz = dL * dv"),
    "ε / (K − 1) on the way back": (
        "uniform = smoothing / z.shape[-1]",
        "uniform = smoothing / (z.shape[-1] - 1 if z.shape[-1] > 1 else 1)",
    ),
    "class weights forgotten on the way back": ("own = (1 - smoothing) * own", "own = 1 - smoothing"),
    "the weight of the label for the smooth term": ("p.others * (own + rest)", "p.others"),
    "z-loss without P": ("2 * z_loss * p.lse * p.P", "2 * z_loss * p.lse"),
    "the soft cap's slope at z, not z / c": ("jnp.cosh(wide(z) / float(soft_cap))", "jnp.cosh(wide(z))"),
    "the soft cap forgotten on the way back": ("if soft_cap is not None:\n        dv", "if False:\n        dv"),
}
