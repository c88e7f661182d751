"""J = Σ wᵢLᵢ / Σ wᵢ of L = softmax_cross_entropy(h Wᵀ + b, y), chunk by chunk: no (m, V) array is ever made"""

import math
from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
import numpy as np
from jax import Array, lax
from jax import numpy as jnp
from jax.sharding import NamedSharding
from jax.typing import DTypeLike

from jaxnn.cotangent import like, times, together, wide_product, zeros
from jaxnn.dtypes import at_least_float32, check_one_dtype, wide, wide_einsum
from jaxnn.ops.softmax_cross_entropy import bwd as softmax_bwd
from jaxnn.ops.softmax_cross_entropy import fwd as softmax_fwd
from jaxnn.protocols import OpExample, PyTree, Residuals, real, whole
from jaxnn.shapes import check_names

Reduction = Literal["mean", "none"]


@partial(jax.custom_vjp, nondiff_argnames=("ignore", "smoothing", "z_loss", "soft_cap", "reduction", "chunk"))
def linear_cross_entropy(
    h: Array,
    W: Array,
    y: Array,
    b: Array | None = None,
    w: Array | None = None,
    ignore: int | None = None,
    smoothing: float = 0.0,
    z_loss: float = 0.0,
    soft_cap: float | None = None,
    reduction: Reduction = "mean",
    chunk: int = 256,
) -> Array:
    """J = Σ wᵢLᵢ / Σ wᵢ, L = softmax_cross_entropy(z, y, …) of z = h Wᵀ + b; with reduction "none" each wᵢLᵢ.

    h (…, n), W (V, n), b (V,), y labels (…), w (…) or None for 1; J and L in float32 at least. Labels that are `ignore`
    have w = 0; where all w are 0, J is 0. smoothing, z_loss and soft_cap are those of `softmax_cross_entropy`.

    dz = ∂J/∂z of softmax_cross_entropy, with dLᵢ = wᵢ / Σ w · dJ, or wᵢ dLᵢ; therefore, as in a dense layer,
    ∂J/∂h = dz W,   ∂J/∂W = dzᵀ h,   ∂J/∂b = Σᵢ dzᵢ,   ∂J/∂wᵢ = dJ (Lᵢ − J) / Σ w
    z is made for `chunk` examples at a time. All these are linear in dJ: for the mean they are made in the forward
    pass, where z still is, for dJ = 1, and multiplied by dJ on the way back. With "none" z is made again.

    Source: Wijmans et al. (2025), section 4, without its filter, which is not the derivative.
    ValueError: shapes that do not fit, a chunk below 1. TypeError: dtypes that differ.
    """
    check(h, W, y, b, w, ignore, reduction, chunk)
    L, _ = by_chunks(Settings(ignore, smoothing, z_loss, soft_cap), chunk, None, *together((h, W, y, b)))
    return reduced(L, weights_of(y, w, ignore, L.dtype), reduction)


def fwd(
    h: Array,
    W: Array,
    y: Array,
    b: Array | None,
    w: Array | None,
    ignore: int | None,
    smoothing: float,
    z_loss: float,
    soft_cap: float | None,
    reduction: Reduction,
    chunk: int,
) -> tuple[Array, Residuals]:
    check(h, W, y, b, w, ignore, reduction, chunk)
    arrays = h, W, y, b, w
    weights = weights_of(y, w, ignore, at_least_float32(h.dtype))
    dL = (weights, 1 / total(weights)) if reduction == "mean" else None
    L, d = by_chunks(Settings(ignore, smoothing, z_loss, soft_cap), chunk, dL, *together((h, W, y, b)))
    out = reduced(L, weights, reduction)
    return out, (arrays, d, L if w is not None else None, out if reduction == "mean" else None)


def bwd(
    ignore: int | None,
    smoothing: float,
    z_loss: float,
    soft_cap: float | None,
    reduction: Reduction,
    chunk: int,
    residuals: Residuals,
    dout: Array,
) -> tuple[Array, Array, None, Array | None, Array | None]:
    (h, W, y, b, w), d, L, J = residuals
    counts, weights = kept(y, ignore).astype(dout.dtype), weights_of(y, w, ignore, dout.dtype)
    if reduction == "none":
        dL = dout * weights, None
        _, d = by_chunks(Settings(ignore, smoothing, z_loss, soft_cap), chunk, dL, *together((h, W, y, b)))
        dw = None if w is None else like(w, dout * counts * L)
    else:
        d = jax.tree.map(partial(times, dout), d)
        dw = None if w is None else like(w, dout * counts * (L - J) / total(weights))
    return like(h, d.h), like(W, d.W), None, None if b is None else like(b, d.b), dw


class Settings(NamedTuple):
    """Of `softmax_cross_entropy`, after its class weights."""

    ignore: int | None
    smoothing: float
    z_loss: float
    soft_cap: float | None


class Cotangents(NamedTuple):
    """In float32 at least."""

    h: Array
    W: Array
    b: Array | None

    def plus(self, other: "Cotangents") -> "Cotangents":
        """With the shares in W and b of other examples."""
        return Cotangents(self.h, *jax.tree.map(jnp.add, self[1:], other[1:]))


def by_chunks(
    settings: Settings, chunk: int, dL: tuple[Array, Array | None] | None, h: Array, W: Array, y: Array, b: Array | None
) -> tuple[Array, PyTree]:
    """L of every example, and the `Cotangents` if dL is given, else None: for the cotangents dL[0] of L, times the
    number dL[1] if there is one. Chunk j of k has the examples j, j + k, j + 2 k, …, so that each device has its part
    of it; those that are left, less than k, come last."""
    of_L, factor = (None, None) if dL is None else dL
    rows = jax.tree.map(lambda v: v.reshape(y.size, *v.shape[y.ndim :]), (h, y, of_L))
    k = number_of_chunks(y.size, chunk, jax.typeof(rows[0]).sharding)
    size = y.size // k

    def at(whole: Array, j: Array) -> Array:
        return lax.dynamic_index_in_dim(whole, j, 1, keepdims=False)

    def put(whole: Array, j: Array, part: Array) -> Array:
        return lax.dynamic_update_index_in_dim(whole, part, j, 1)

    def of_chunk(j: Array, state: tuple[Array, PyTree]) -> tuple[Array, PyTree]:
        Ls, d = state
        L, more = of_rows(settings, factor, W, b, *jax.tree.map(lambda whole: at(whole, j), chunks))
        return put(Ls, j, L), d if d is None else d._replace(h=put(d.h, j, more.h)).plus(more)

    chunks = jax.tree.map(lambda v: v[: size * k].reshape(size, k, *v.shape[1:]), rows)
    none = jax.tree.map(zeros, Cotangents(chunks[0], W, b))
    L, d = lax.fori_loop(0, k, of_chunk, (none.h[..., 0], None if dL is None else none))
    L, d = L.reshape(-1), d if d is None else d._replace(h=d.h.reshape(-1, W.shape[1]))
    if size * k < y.size:
        last, more = of_rows(settings, factor, W, b, *jax.tree.map(lambda v: v[size * k :], rows))
        L = jnp.concatenate([L, last])
        d = d if d is None else d._replace(h=jnp.concatenate([d.h, more.h])).plus(more)
    return L.reshape(y.shape), d if d is None else d._replace(h=d.h.reshape(h.shape))


def number_of_chunks(m: int, chunk: int, sharding: NamedSharding) -> int:
    """k for m examples; where they are split over devices, one that splits each device's into equal chunks."""
    axis = sharding.spec.partitions[0]
    devices = 1 if axis is None else math.prod(sharding.mesh.shape[name] for name in np.atleast_1d(axis))
    k = max(1, -(-m // chunk))
    return k if devices == 1 else next(n for n in range(min(k, m // devices), m + 1) if m % (n * devices) == 0)


def of_rows(
    settings: Settings, factor: Array | None, W: Array, b: Array | None, h: Array, y: Array, dL: Array | None
) -> tuple[Array, PyTree]:
    """L of these examples h (m, n), and their share of the cotangents if dL (m,) is given, else None. The factor is
    multiplied in float32 at least: dz, of the dtype of h, would lose small numbers in float16."""
    z = wide_einsum("mn,vn->mv", h, W)
    z = z if b is None else z + wide(b)[None]
    L, saved = softmax_fwd(z, y, None, *settings)
    if dL is None:
        return L, None
    dz, *_ = softmax_bwd(*settings, saved, dL)
    rounded = dz.astype(h.dtype)
    dh, dW = wide_product(h, "mv,vn->mn", rounded, W), wide_product(W, "mv,mn->vn", rounded, h)
    d = Cotangents(dh, dW, None if b is None else dz.sum(0))
    return L, d if factor is None else jax.tree.map(partial(times, factor), d)


def kept(y: Array, ignore: int | None) -> Array:
    """Whether each example counts."""
    return jnp.ones(y.shape, bool) if ignore is None else y != ignore


def total(w: Array) -> Array:
    """Σ w, or 1 where it is 0."""
    return jnp.where(w.sum() == 0, 1, w.sum())


def weights_of(y: Array, w: Array | None, ignore: int | None, dtype: DTypeLike) -> Array:
    """w of each example, 1 if it is None; 0 where the label is ignored."""
    counts = kept(y, ignore).astype(dtype)
    return counts if w is None else counts * w.astype(dtype)


def reduced(L: Array, weights: Array, reduction: Reduction) -> Array:
    return (weights * L).sum() / total(weights) if reduction == "mean" else weights * L


def check(
    h: Array,
    W: Array,
    y: Array,
    b: Array | None,
    w: Array | None,
    ignore: int | None,
    reduction: Reduction,
    chunk: int,
) -> None:
    """ValueError and TypeError of `linear_cross_entropy`."""
    check_one_dtype("linear_cross_entropy", h=h, W=W, b=b, w=w)
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise TypeError(f"linear_cross_entropy was given y of {y.dtype}: give whole numbers from 0 to V − 1.")
    fit = W.ndim == 2 and W.size and h.shape == (*y.shape, W.shape[1])
    if not fit or (b is not None and b.shape != W.shape[:1]) or (w is not None and w.shape != y.shape):
        shapes = {"h": h, "W": W, "y": y, "b": b, "w": w}
        given = ", ".join(f"{name} {v.shape}" for name, v in shapes.items() if v is not None)
        raise ValueError(
            f"linear_cross_entropy was given {given}: give h (…, n), W (V, n), y (…), b (V,) "
            "and w (…), with n and V of 1 or more."
        )
    check_names("linear_cross_entropy", "y", y, len(W), ignore)
    if chunk < 1 or reduction not in get_args(Reduction):
        raise ValueError(
            f"linear_cross_entropy(…, reduction={reduction!r}, chunk={chunk}): the reduction is 'mean' or 'none', and "
            "the chunk 1 example or more."
        )


linear_cross_entropy.defvjp(fwd, bwd)


def case(m: tuple[int, ...], V: int, n: int, **more: object) -> OpExample:
    return {"h": real(*m, n), "W": real(V, n), "y": whole(*m, below=V), **more}


ALL = {"ignore": 1, "smoothing": 0.2, "z_loss": 0.1, "soft_cap": 2.0}
EXAMPLES = {
    "all of it": case((5,), 4, 3, b=real(4), w=real(5), chunk=2, **ALL),
    "all of it, each example": case((5,), 4, 3, b=real(4), w=real(5), chunk=2, reduction="none", **ALL),
    "at once": case((4,), 3, 2),
    "chunks": case((4,), 3, 2, chunk=2),
    "chunks that do not divide": case((5,), 3, 2, chunk=2),
    "chunks of one": case((3,), 4, 2, chunk=1),
    "sequences": case((2, 3), 4, 2, b=real(4), chunk=4),
    "one example": case((1,), 4, 2),
    "each example": case((5,), 3, 2, chunk=2, reduction="none"),
    "weights": case((4,), 3, 2, w=real(4), chunk=3),
    "every label ignored": {**case((3,), 4, 2, ignore=0, chunk=2), "y": whole(3, below=1)},
    "every label ignored, weights": {**case((3,), 4, 2, ignore=0, w=real(3)), "y": whole(3, below=1)},
}
TRAPS = {
    "the cotangent dropped": ("partial(times, dout), d)", "lambda v: v, d)"),
    "one number for the cotangents of all": ("dL = dout * weights,", "dL = dout.mean() * weights,"),
    "∂J/∂W of the last chunk alone": (
        "d._replace(h=put(d.h, j, more.h)).plus(more)",
        "more._replace(h=put(d.h, j, more.h))",
    ),
    "what is left forgotten in ∂J/∂W": ("more.h])).plus(more)", "more.h]))"),
    "the bias forgotten": ("None if b is None else dz.sum(0)", "None if b is None else 0 * dz.sum(0)"),
    "divided by m, not by Σ w": ("(weights, 1 / total(weights))", "(weights, 1 / weights.size)"),
    "∂J/∂w without the denominator's": ("(L - J) / total", "L / total"),
}
