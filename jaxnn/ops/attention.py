"""out = P v, P = softmax(q kᵀ / √d + B) over the keys that a query sees, block by block; and its log-sum-exp ℓ"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import jax
from jax import Array, lax
from jax import numpy as jnp

from jaxnn.blocks import Block, Blocks, Range, in_turn, rows, tile, with_rows, with_tile
from jaxnn.cotangent import like, together
from jaxnn.dtypes import at_least_float32, check_one_dtype, wide, wide_einsum
from jaxnn.protocols import OpExample, PyTree, Residuals, bools, real
from jaxnn.shapes import along, fits

T = TypeVar("T")


@partial(jax.custom_vjp, nondiff_argnames=("causal", "window", "scale", "block"))
def attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    bias: Array | None = None,
    slopes: Array | None = None,
    sink: Array | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    block: int = 128,
) -> tuple[Array, Array]:
    """(out, ℓ): out_t = Σ_s P_ts v_s, P_ts = exp(S_ts − ℓ_t), ℓ_t = log Σ_s exp S_ts, with the scores
    S_ts = scale q_t · k_s + bias_ts − slope |t − s|, of each head.

    q (…, T, H, d), k (…, S, K, d), v (…, S, K, e), out (…, T, H, e), ℓ (…, T, H) in float32 at least. H is K or a
    multiple of it: head h reads the keys and values h // (H / K) (grouped queries). scale: 1 / √d if None.
    A query sees the keys of mask, bools (…, H, T, S); with causal those s ≤ t; with a window those t − s < window and,
    unless causal, s − t < window. bias (…, H, T, S) is added; mask and bias may have 1 for H, T or S. slopes (H,) is
    ALiBi's. sink (H,) is one more score of each query, of a key whose v is 0.
    A query that sees no key has out 0 and ℓ = −∞ (that of its sink, if it has one), which do not change: dout and dℓ of
    it count for nothing. Positions count from the first query and the first key.

    ∂ℓ_t/∂S_ts = P_ts; ∂P_ts/∂S_tr = P_ts (δ_sr − P_tr), therefore, with D_t = dout_t · out_t − dℓ_t:
    dv_s = Σ_t P_ts dout_t,   dS_ts = P_ts (dout_t · v_s − D_t)       Σ_s P_ts (dout_t · v_s) = dout_t · out_t
    dq_t = scale Σ_s dS_ts k_s,   dk_s = scale Σ_t dS_ts q_t,   dbias = dS,   dslope = −Σ dS |t − s|
    dsink = −Σ_t exp(sink − ℓ_t) D_t

    Kept for the way back are out and ℓ alone: P is made again, by blocks of `block` × `block`; blocks of which no query
    sees a key are not computed where causal, window or a mask say so. Sums are in float32 at least.
    Source: Vaswani et al. (2017), eq. 1; Dao et al. (2022), algorithms 1 and 4; Ainslie et al. (2023); Press, Smith &
    Lewis (2022), section 3. ValueError: shapes that do not fit. TypeError: dtypes that differ.
    """
    return fwd(q, k, v, mask, bias, slopes, sink, causal, window, scale, block)[0]


def fwd(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    bias: Array | None,
    slopes: Array | None,
    sink: Array | None,
    causal: bool,
    window: int | None,
    scale: float | None,
    block: int,
) -> tuple[tuple[Array, Array], Residuals]:
    arrays = q, k, v, mask, bias, slopes, sink
    check(*arrays, window=window, block=block)
    out, lse = in_blocks(*arrays, causal, window, scale, block)
    return (out, lse), (*arrays, out, lse)


@partial(jax.custom_jvp, nondiff_argnums=(7, 8, 9, 10))
def in_blocks(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    bias: Array | None,
    slopes: Array | None,
    sink: Array | None,
    causal: bool,
    window: int | None,
    scale: float | None,
    block: int,
) -> tuple[Array, Array]:
    """out and ℓ, block by block. Autodiff, which cannot go backwards through these loops, differentiates `plain`."""
    arrays = q, k, v, mask, bias, slopes, sink
    return forward(Scores.of(arrays, causal, window, scale), together(arrays)[2], block)


@in_blocks.defjvp
def by_plain(
    causal: bool, window: int | None, scale: float | None, block: int, primals: PyTree, tangents: PyTree
) -> tuple[PyTree, PyTree]:
    return jax.jvp(partial(plain, causal=causal, window=window, scale=scale), primals, tangents)


def bwd(
    causal: bool,
    window: int | None,
    scale: float | None,
    block: int,
    residuals: Residuals,
    douts: tuple[Array, Array],
) -> tuple[Array, Array, Array, None, Array | None, Array | None, Array | None]:
    *arrays, out, lse = residuals
    dout, dlse = douts
    q, k, v, _, bias, slopes, sink = arrays
    is_blind = lse == -jnp.inf
    D = jnp.where(is_blind, 0, (wide(dout) * wide(out)).sum(-1) - dlse)
    d = backward(Scores.of(arrays, causal, window, scale), together(arrays)[2], block, dout, lse, D)
    return (
        like(q, d.q),
        like(k, d.k),
        like(v, d.v),
        None,
        None if d.bias is None else like(bias, d.bias.reshape(bias.shape)),
        None if d.slopes is None else like(slopes, d.slopes),
        None if sink is None else like(sink, -jnp.exp(along(lse, sink) - jnp.where(is_blind, 0, lse)) * D),
    )


class Scores(NamedTuple):
    """What makes the scores, and which keys a query may see: S of any block of queries t and block of keys s.

    All arrays have all leading axes, and are different on the devices on which one is. before, after: how many keys
    before and after its own position a query sees, None for all.
    """

    q: Array  # (…, T, H, d)
    k: Array  # (…, S, K, d)
    mask: Array | None  # (…, H, T, S), or 1 for some of them
    bias: Array | None  # the same
    slopes: Array | None  # (…, H, 1, 1), with 1 for the leading axes
    sink: Array | None  # the same
    before: int | None
    after: int | None
    scale: float

    @staticmethod
    def of(arrays: Sequence[Array | None], causal: bool, window: int | None, scale: float | None) -> "Scores":
        q, k, _, mask, bias, slopes, sink = together(arrays)
        rank = q.ndim
        mask, bias = (w if w is None else jnp.expand_dims(w, tuple(range(rank - w.ndim))) for w in (mask, bias))
        slopes, sink = (w if w is None else wide(w).reshape((1,) * (rank - 3) + (-1, 1, 1)) for w in (slopes, sink))
        before = None if window is None else min(window, q.shape[-3] + k.shape[-3]) - 1  # more would overflow
        scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
        return Scores(q, k, mask, bias, slopes, sink, before, 0 if causal else before, scale)

    def at(self, t: Block, s: Block) -> Array:
        """S (…, H, t, s), −∞ where a query does not see a key."""
        S = self.scale * dots(rows(self.q, t, -3), rows(self.k, s, -3))
        if self.bias is not None:
            S = S + wide(tile(self.bias, t, s))
        if self.slopes is not None:
            S = S - self.slopes * self.far(t, s)
        return jnp.where(self.visible(t, s), S, -jnp.inf)

    def visible(self, t: Block, s: Block) -> Array:
        """Which of the new keys of a block each query sees: bools with the axes of S, or 1 for them."""
        apart = self.apart(t, s)
        pairs = jnp.broadcast_to(s.is_new, apart.shape)
        if self.before is not None:
            pairs &= apart <= self.before
        if self.after is not None:
            pairs &= -apart <= self.after
        return pairs if self.mask is None else pairs & tile(self.mask, t, s)

    def apart(self, t: Block, s: Block) -> Array:
        """t − s, with the axes of S."""
        pairs = t.positions[:, None] - s.positions[None]
        return jnp.expand_dims(pairs, tuple(range(self.q.ndim - 2)))

    def far(self, t: Block, s: Block) -> Array:
        """|t − s|, with the axes of S."""
        return abs(self.apart(t, s)).astype(at_least_float32(self.q.dtype))

    def range_of_keys(self, t: Block, keys: Blocks) -> Range:
        """The blocks of keys that a block of queries may see."""
        return range_of(t, keys, self.before, self.after)

    def range_of_queries(self, s: Block, queries: Blocks) -> Range:
        """The blocks of queries that may see a block of keys."""
        return range_of(s, queries, self.after, self.before)

    def where_seen(self, t: Block, s: Block, step: Callable[[T], T], state: T) -> T:
        """step(state); the state as it is where a mask hides the whole block."""
        if self.mask is None:
            return step(state)
        return lax.cond(self.visible(t, s).any(), step, lambda state: state, state)


def range_of(block: Block, blocks: Blocks, before: int | None, after: int | None) -> Range:
    """The blocks that hold a position from `before` before the first of a block to `after` after its last."""
    first = 0 if before is None else block.start - before
    last = blocks.length - 1 if after is None else block.start + block.size - 1 + after
    return blocks.holding(first, last)


def dots(q: Array, k: Array) -> Array:
    """q · k of each query and key: (…, t, H, d), (…, s, K, d) -> (…, H, t, s)."""
    S = wide_einsum("...tkgd,...skd->...kgts", grouped(q, k.shape[-2], -2), k)
    return S.reshape(*S.shape[:-4], q.shape[-2], *S.shape[-2:])


def mixed(P: Array, v: Array) -> Array:
    """Σ_s P_ts v_s of each query: (…, H, t, s), (…, s, K, e) -> (…, t, H, e)."""
    out = wide_einsum("...ske,...kgts->...tkge", v, grouped(P, v.shape[-2], -3))
    return out.reshape(*out.shape[:-3], P.shape[-3], out.shape[-1])


def gathered(P: Array, q: Array, K: int) -> Array:
    """Σ_t P_ts q_t of each key, over the queries and heads that read it: (…, H, t, s), (…, t, H, d) -> (…, s, K, d)."""
    return wide_einsum("...tkgd,...kgts->...skd", grouped(q, K, -2), grouped(P, K, -3))


def grouped(v: Array, K: int, axis: int) -> Array:
    """The axis of the H heads as two, K × H / K."""
    i = v.ndim + axis
    return v.reshape(*v.shape[:i], K, v.shape[i] // K, *v.shape[i + 1 :])


def beside(v: Array) -> Array:
    """(…, t, H) -> (…, H, t, 1), with the axes of S; and (…, H, t, 1) -> (…, t, H, 1)."""
    return jnp.swapaxes(v, -1, -2)[..., None]


def forward(scores: Scores, v: Array, size: int) -> tuple[Array, Array]:
    """out and ℓ. For each block of queries Σ exp(S − m) and Σ exp(S − m) v, with m the largest score so far, block of
    keys by block of keys."""
    queries, keys = Blocks(scores.q.shape[-3], size), Blocks(scores.k.shape[-3], size)

    def of_queries(i: Array | int, kept: tuple[Array, Array]) -> tuple[Array, Array]:
        t, (out, lse) = queries.at(i), kept
        none = jnp.zeros_like(wide(rows(scores.q, t, -3)[..., :1]))  # (…, t, H, 1)
        sums, zero = jnp.broadcast_to(none, (*none.shape[:-1], v.shape[-1])), beside(none[..., 0])
        start = (zero - jnp.inf, zero) if scores.sink is None else (zero + scores.sink, zero + 1)

        def of_keys(j: Array | int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            s = keys.at(j)

            def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
                sums, largest, total = state
                S = scores.at(t, s)
                m = jnp.maximum(largest, lax.stop_gradient(S).max(-1, keepdims=True))
                finite = jnp.where(m == -jnp.inf, 0, m)
                e, shrunk = jnp.exp(S - finite), jnp.exp(largest - finite)
                sums = sums * jnp.swapaxes(shrunk, -2, -3) + mixed(e, rows(v, s, -3))
                return sums, m, total * shrunk + e.sum(-1, keepdims=True)

            return scores.where_seen(t, s, step, state)

        sums, m, total = in_turn(scores.range_of_keys(t, keys), of_keys, (sums, *start))
        mean = sums / jnp.swapaxes(jnp.where(total == 0, 1, total), -2, -3)
        return with_rows(out, t, -3, mean), with_rows(lse, t, -2, jnp.swapaxes((m + jnp.log(total))[..., 0], -1, -2))

    none = jnp.zeros_like(scores.q[..., :1])
    empty = jnp.broadcast_to(none, (*none.shape[:-1], v.shape[-1])), wide(none)[..., 0]
    return in_turn((0, queries.n), of_queries, empty)


class Cotangents(NamedTuple):
    q: Array
    k: Array
    v: Array
    bias: Array | None
    slopes: Array | None  # (…, H)


def backward(scores: Scores, v: Array, size: int, dout: Array, lse: Array, D: Array) -> Cotangents:
    """From dout (…, T, H, e), and ℓ and D (…, T, H)."""
    queries, keys = Blocks(scores.q.shape[-3], size), Blocks(scores.k.shape[-3], size)

    def of_keys(j: Array | int, d: Cotangents) -> Cotangents:
        s = keys.at(j)
        k_s, v_s = rows(scores.k, s, -3), rows(v, s, -3)

        def of_queries(i: Array | int, d: Cotangents) -> Cotangents:
            t = queries.at(i)

            def step(d: Cotangents) -> Cotangents:
                q_t, dout_t, lse_t, D_t = (rows(w, t, -3) for w in (scores.q, dout, lse[..., None], D[..., None]))
                lse_t, D_t = beside(lse_t[..., 0]), beside(D_t[..., 0])
                counts = jnp.where(lse_t == -jnp.inf, False, jnp.expand_dims(t.is_new, -1))
                P = jnp.where(counts, jnp.exp(scores.at(t, s) - lse_t), 0)
                dS = P * (dots(dout_t, v_s) - D_t)
                return Cotangents(
                    q=with_rows(d.q, t, -3, rows(d.q, t, -3) + scores.scale * mixed(dS, k_s)),
                    k=d.k + scores.scale * gathered(dS, q_t, k_s.shape[-2]),
                    v=d.v + gathered(P, dout_t, v_s.shape[-2]),
                    bias=None if d.bias is None else with_tile(d.bias, t, s, dS),
                    slopes=None if d.slopes is None else d.slopes - (dS * scores.far(t, s)).sum((-2, -1)),
                )

            return scores.where_seen(t, s, step, d)

        none = d._replace(k=jnp.zeros_like(wide(k_s)), v=jnp.zeros_like(wide(v_s)))
        of_block = in_turn(scores.range_of_queries(s, queries), of_queries, none)
        dk, dv = (rows(whole, s, -3) + of for whole, of in ((d.k, of_block.k), (d.v, of_block.v)))
        return of_block._replace(k=with_rows(d.k, s, -3, dk), v=with_rows(d.v, s, -3, dv))

    slopes = None if scores.slopes is None else D[..., 0, :]
    like_them = Cotangents(scores.q, scores.k, v, scores.bias, slopes)
    return in_turn((0, keys.n), of_keys, jax.tree.map(lambda w: jnp.zeros_like(wide(w)), like_them))


def check(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    bias: Array | None,
    slopes: Array | None,
    sink: Array | None,
    window: int | None,
    block: int,
) -> None:
    """ValueError and TypeError of `attention`."""
    check_one_dtype("attention", q=q, k=k, v=v, bias=bias, slopes=slopes, sink=sink)
    given = f"attention was given q of shape {q.shape}, k {k.shape} and v {v.shape}"
    if min(q.ndim, k.ndim, v.ndim) < 3 or not q.shape[:-3] == k.shape[:-3] == v.shape[:-3]:
        raise ValueError(f"{given}: give (…, T, heads, d), (…, S, heads, d) and (…, S, heads, e), equal in all of ….")
    if q.shape[-1] != k.shape[-1] or k.shape[-3:-1] != v.shape[-3:-1]:
        raise ValueError(f"{given}: q and k need one last axis, and k and v one length and one number of heads.")
    if 0 in (*q.shape[-3:], *k.shape[-3:]):
        raise ValueError(f"{given}: every length, number of heads and width is 1 or more.")
    if q.shape[-2] % k.shape[-2]:
        raise ValueError(f"{given}: {q.shape[-2]} heads of queries do not divide over {k.shape[-2]} heads of keys.")
    of_scores = (*q.shape[:-3], q.shape[-2], q.shape[-3], k.shape[-3])
    for name, array in (("mask", mask), ("bias", bias)):
        if array is not None and (array.ndim < 2 or not fits(array.shape, of_scores)):
            raise ValueError(f"{given}, and {name} {array.shape}: it must broadcast to (…, H, T, S) = {of_scores}.")
    if mask is not None and mask.dtype != bool:
        raise TypeError(f"{given}, and a mask of {mask.dtype}: give bools, True where a query sees a key.")
    for name, array in (("slopes", slopes), ("sink", sink)):
        if array is not None and array.shape != q.shape[-2:-1]:
            raise ValueError(f"{given}, and {name} {array.shape}: give one number a head, {q.shape[-2:-1]}.")
    if block < 1 or (window is not None and window < 1):
        raise ValueError(f"attention(…, window={window}, block={block}): both are 1 or more.")


def plain(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    bias: Array | None = None,
    slopes: Array | None = None,
    sink: Array | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    block: int = 128,
) -> tuple[Array, Array]:
    """What `attention` computes, from all T × S scores at once."""
    scores = Scores.of((q, k, v, mask, bias, slopes, sink), causal, window, scale)
    S = scores.at(Block(0, q.shape[-3], 0), Block(0, k.shape[-3], 0))
    if scores.sink is not None:
        S = jnp.concatenate([jnp.broadcast_to(scores.sink, (*S.shape[:-1], 1)), S], -1)
    any_seen = (-jnp.inf < S).any(-1, keepdims=True)
    lse = jax.nn.logsumexp(jnp.where(any_seen, S, 0), -1, keepdims=True)
    P = jnp.where(any_seen, jnp.exp(S - lse), 0)[..., -k.shape[-3] :]
    return mixed(P, v).astype(q.dtype), jnp.swapaxes(jnp.where(any_seen, lse, -jnp.inf)[..., 0], -1, -2)


attention.defvjp(fwd, bwd)


def case(
    T: int, S: int, H: int = 1, K: int = 1, d: int = 3, e: int = 2, m: tuple[int, ...] = (), **more: object
) -> OpExample:
    return {"q": real(*m, T, H, d), "k": real(*m, S, K, d), "v": real(*m, S, K, e), **more}


EXAMPLES = {
    "all of it": case(
        5,
        5,
        2,
        1,
        m=(2,),
        mask=bools(2, 1, 1, 5),
        bias=real(2, 5, 5),
        slopes=real(2),
        sink=real(2),
        causal=True,
        window=3,
        block=2,
    ),
    "one query, one key": case(1, 1),
    "at once": case(4, 5),
    "blocks": case(4, 6, block=2),
    "blocks that do not divide": case(5, 7, block=3),
    "blocks of one": case(3, 3, block=1),
    "longer than all": case(3, 4, block=8),
    "causal": case(5, 5, causal=True),
    "causal, blocks": case(5, 5, causal=True, block=2),
    "causal, more keys": case(3, 5, causal=True, block=2),
    "causal, fewer keys": case(5, 3, causal=True, block=2),
    "window": case(6, 6, window=2, block=2),
    "window, causal": case(6, 6, window=2, causal=True, block=2),
    "window, wider than a block": case(5, 5, window=4, causal=True, block=2),
    "two heads": case(3, 3, 2, 2),
    "grouped queries": case(3, 3, 4, 2, block=2),
    "one head of keys": case(3, 3, 3, 1),
    "batch of 1": case(2, 3, m=(1,)),
    "batch of 2": case(2, 3, 2, 1, m=(2,), causal=True),
    "padding mask": case(3, 4, 2, 1, m=(2,), mask=bools(2, 1, 1, 4), block=2),
    "a mask that hides rows": case(4, 2, mask=bools(1, 4, 2), block=2),
    "bias": case(3, 4, 2, 1, bias=real(2, 3, 4), block=2),
    "bias of all heads": case(3, 3, 2, 2, m=(2,), bias=real(1, 3, 3), causal=True, block=2),
    "bias of keys": case(3, 4, 2, 1, m=(2,), bias=real(2, 1, 1, 4), block=3),
    "ALiBi": case(4, 4, 2, 1, slopes=real(2), causal=True, block=2),
    "ALiBi, both ways": case(3, 4, 2, 2, slopes=real(2)),
    "sink": case(3, 4, 2, 1, sink=real(2), block=2),
    "sink where nothing is seen": case(4, 2, 2, 1, sink=real(2), mask=bools(1, 4, 2)),
    "another scale": case(3, 3, scale=0.3),
}
AGAIN = "jnp.exp(scores.at(t, s) - lse_t)"
TRAPS = {
    "the mask forgotten on the way back": (AGAIN, AGAIN.replace("at(", "_replace(mask=None).at(")),
    "causality forgotten on the way back": (AGAIN, AGAIN.replace("at(", "_replace(after=None).at(")),
    "the scale left out of dk": ("d.k + scores.scale *", "d.k +"),
    "the scale twice in dq": ("+ scores.scale * mixed(dS", "+ scores.scale**2 * mixed(dS"),
    "ℓ's cotangent dropped": (".sum(-1) - dlse)", ".sum(-1))"),
    "ℓ's cotangent with the wrong sign": (".sum(-1) - dlse)", ".sum(-1) + dlse)"),
    "softmax's diagonal alone": ("(dots(dout_t, v_s) - D_t)", "dots(dout_t, v_s)"),
    "rows of the block before counted twice": ("jnp.expand_dims(t.is_new, -1)", "True"),
    "dv without the queries of other blocks": ("v=d.v + gathered", "v=gathered"),
    "the sink's share with the wrong sign": ("-jnp.exp(along(lse", "jnp.exp(along(lse"),
    "∂J/∂bias scaled like the scores": ("with_tile(d.bias, t, s, dS)", "with_tile(d.bias, t, s, scores.scale * dS)"),
    "ALiBi's sign": ("d.slopes - (dS", "d.slopes + (dS"),
    "the first query of a group alone in dk": (
        "gathered(dS, q_t, k_s.shape[-2])",
        "gathered(dS.at[..., 1:, :, :].set(0), q_t, k_s.shape[-2])",
    ),
}
