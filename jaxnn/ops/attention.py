"""out = P v, P = softmax(q kᵀ / √d + B) over the keys that a query sees, block by block; and its log-sum-exp ℓ"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import jax
from jax import Array, lax
from jax import numpy as jnp

from jaxnn.blocks import Block, Blocks, rows, tile, with_rows, with_tile
from jaxnn.cotangent import like, together
from jaxnn.dtypes import at_least_float32, check_one_dtype, wide
from jaxnn.ops.rms_norm import along
from jaxnn.protocols import OpExample, Residuals, bools, real

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
    A query that sees no key has out 0 and ℓ = −∞ (that of its sink, if it has one).

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
    out, lse = forward(grouped(*arrays), Seen(causal, window, scale_of(scale, q)), block)
    out, lse = out.reshape(*q.shape[:-1], v.shape[-1]), lse.reshape(q.shape[:-1])
    return (out, lse), (*arrays, out, lse)


def bwd(
    causal: bool,
    window: int | None,
    scale: float | None,
    block: int,
    residuals: Residuals,
    douts: tuple[Array, Array],
) -> tuple[Array | None, ...]:
    q, k, v, mask, bias, slopes, sink, out, lse = residuals
    dout, dlse = douts
    D = (wide(dout) * wide(out)).sum(-1) - dlse
    given = grouped(q, k, v, mask, bias, slopes, sink)
    rest = (w.reshape(*given.q.shape[:-1], *w.shape[q.ndim - 1 :]) for w in (dout, lse, D))
    d = backward(given, Seen(causal, window, scale_of(scale, q)), block, *rest)
    return (
        like(q, d.q.reshape(q.shape)),
        like(k, d.k),
        like(v, d.v),
        None,
        None if d.bias is None else like(bias, d.bias.reshape(bias.shape)),
        None if d.slopes is None else like(slopes, d.slopes.reshape(*d.slopes.shape[:-2], -1)),
        None if sink is None else like(sink, -jnp.exp(along(lse, sink) - lse) * D),
    )


def scale_of(scale: float | None, q: Array) -> float:
    return 1 / math.sqrt(q.shape[-1]) if scale is None else scale


class Given(NamedTuple):
    """The arrays with their H heads as K × G, G queries to the keys of one, and with all leading axes; all of them
    different on the devices on which one is."""

    q: Array  # (…, T, K, G, d)
    k: Array  # (…, S, K, d)
    v: Array  # (…, S, K, e)
    mask: Array | None  # (…, K, G, T, S), or 1 for some of them
    bias: Array | None  # the same
    slopes: Array | None  # (…, K, G), or 1 for the leading axes
    sink: Array | None  # the same


class Seen(NamedTuple):
    """Which keys a query may see, by where they are; and the scale of the scores."""

    causal: bool
    window: int | None
    scale: float

    @property
    def before(self) -> int | None:
        """How many keys before its own position; None: all."""
        return None if self.window is None else self.window - 1

    @property
    def after(self) -> int | None:
        return 0 if self.causal else self.before

    def keys(self, t: Block, s: Blocks) -> tuple[Array | int, Array | int]:
        """The range of the blocks of keys that a block of queries may see."""
        return range_of(t, s, self.before, self.after)

    def queries(self, s: Block, t: Blocks) -> tuple[Array | int, Array | int]:
        """The range of the blocks of queries that may see a block of keys."""
        return range_of(s, t, self.after, self.before)


def range_of(block: Block, blocks: Blocks, before: int | None, after: int | None) -> tuple[Array | int, Array | int]:
    """The range of the blocks with positions from `before` before the first of a block to `after` after its last."""
    first, last = block.start, block.start + block.size - 1
    return blocks.holding(0 if before is None else first - before, blocks.length - 1 if after is None else last + after)


def grouped(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    bias: Array | None,
    slopes: Array | None,
    sink: Array | None,
) -> Given:
    q, k, v, mask, bias, slopes, sink = together(q, k, v, mask, bias, slopes, sink)
    K, G = k.shape[-2], q.shape[-2] // k.shape[-2]

    def heads(w: Array | None, axis: int) -> Array | None:
        if w is None:
            return None
        i = w.ndim + axis
        of_heads = (K, G) if w.shape[i] == K * G else (1, 1)
        return w.reshape(*(1,) * (q.ndim - 3 - i), *w.shape[:i], *of_heads, *w.shape[i + 1 :])

    return Given(
        q.reshape(*q.shape[:-2], K, G, -1), k, v, heads(mask, -3), heads(bias, -3), heads(slopes, -1), heads(sink, -1)
    )


def distance(t: Block, s: Block) -> Array:
    """t − s of each pair of positions."""
    return t.positions[:, None] - s.positions[None]


def visible(given: Given, seen: Seen, t: Block, s: Block) -> Array:
    """Which of the new keys of a block each query sees: bools of as many axes as scores."""
    apart = distance(t, s)
    pairs = jnp.broadcast_to(s.is_new[None], apart.shape)
    if seen.before is not None:
        pairs &= apart <= seen.before
    if seen.after is not None:
        pairs &= -apart <= seen.after
    pairs = pairs.reshape((1,) * (given.q.ndim - 2) + pairs.shape)
    return pairs if given.mask is None else pairs & tile(given.mask, t, s)


def scores(given: Given, seen: Seen, t: Block, s: Block) -> Array:
    """S (…, K, G, t, s) of a block, −∞ where a query does not see a key."""
    S = seen.scale * einsum("...tkgd,...skd->...kgts", rows(given.q, t, -4), rows(given.k, s, -3))
    if given.bias is not None:
        S = S + wide(tile(given.bias, t, s))
    if given.slopes is not None:
        S = S - wide(given.slopes)[..., None, None] * far(t, s, S)
    return jnp.where(visible(given, seen, t, s), S, -jnp.inf)


def far(t: Block, s: Block, S: Array) -> Array:
    """|t − s| beside scores."""
    return abs(distance(t, s)).astype(S.dtype).reshape((1,) * (S.ndim - 2) + (t.size, s.size))


def einsum(equation: str, a: Array, b: Array) -> Array:
    """The product of two arrays, the second cast to the first's dtype, summed and returned in float32 at least."""
    return jnp.einsum(equation, a, b.astype(a.dtype), preferred_element_type=at_least_float32(a.dtype))


def beside(v: Array) -> Array:
    """(…, t, K, G) -> (…, K, G, t, 1), beside scores."""
    return jnp.moveaxis(v, -3, -1)[..., None]


def where_seen(given: Given, seen: Seen, t: Block, s: Block, step: Callable[[T], T], state: T) -> T:
    """step(state); the state as it is where a mask hides the whole block."""
    if given.mask is None:
        return step(state)
    return lax.cond(visible(given, seen, t, s).any(), step, lambda state: state, state)


def forward(given: Given, seen: Seen, size: int) -> tuple[Array, Array]:
    """out (…, T, K, G, e) and ℓ (…, T, K, G). For each block of queries: Σ exp(S − m) v and Σ exp(S − m), with m the
    largest score so far, block of keys by block of keys."""
    queries, keys = Blocks(given.q.shape[-4], size), Blocks(given.k.shape[-3], size)

    def of_queries(i: Array, kept: tuple[Array, Array]) -> tuple[Array, Array]:
        t, (out, lse) = queries.at(i), kept
        none = jnp.zeros_like(beside(wide(rows(given.q, t, -4)[..., 0])))
        sums = jnp.broadcast_to(none, (*none.shape[:-1], given.v.shape[-1]))
        start = (sums, none - jnp.inf, none) if given.sink is None else (sums, none + of_sink(given), none + 1)

        def of_keys(j: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            s = keys.at(j)

            def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
                sums, largest, total = state
                S = scores(given, seen, t, s)
                m = jnp.maximum(largest, S.max(-1, keepdims=True))
                finite = jnp.where(m == -jnp.inf, 0, m)
                e, shrunk = jnp.exp(S - finite), jnp.exp(largest - finite)
                more = einsum("...ske,...kgts->...kgte", rows(given.v, s, -3), e)
                return sums * shrunk + more, m, total * shrunk + e.sum(-1, keepdims=True)

            return where_seen(given, seen, t, s, step, state)

        sums, m, total = lax.fori_loop(*seen.keys(t, keys), of_keys, start)
        mean, of_rows = sums / jnp.where(total == 0, 1, total), (m + jnp.log(total))[..., 0]
        return with_rows(out, t, -4, jnp.moveaxis(mean, -2, -4)), with_rows(lse, t, -3, jnp.moveaxis(of_rows, -1, -3))

    none = jnp.zeros_like(given.q[..., :1])
    empty = jnp.broadcast_to(none, (*none.shape[:-1], given.v.shape[-1])), wide(none)[..., 0]
    return lax.fori_loop(0, queries.n, of_queries, empty)


def of_sink(given: Given) -> Array:
    """The sink's score, beside scores."""
    assert given.sink is not None
    return wide(given.sink)[..., None, None]


def backward(given: Given, seen: Seen, size: int, dout: Array, lse: Array, D: Array) -> Given:
    """The cotangents of what is given but its sink, from dout (…, T, K, G, e), ℓ and D (…, T, K, G)."""
    queries, keys = Blocks(given.q.shape[-4], size), Blocks(given.k.shape[-3], size)
    lse = jnp.where(lse == -jnp.inf, 0, lse)

    def of_keys(j: Array, d: Given) -> Given:
        s = keys.at(j)
        k, v = rows(given.k, s, -3), rows(given.v, s, -3)

        def of_queries(i: Array, d: Given) -> Given:
            t = queries.at(i)

            def step(d: Given) -> Given:
                q, dout_t = rows(given.q, t, -4), rows(dout, t, -4)
                P = jnp.where(t.is_new[:, None], jnp.exp(scores(given, seen, t, s) - beside(rows(lse, t, -3))), 0)
                dP = einsum("...tkge,...ske->...kgts", dout_t, v)
                dS = P * (dP - beside(rows(D, t, -3)))
                dq = seen.scale * einsum("...skd,...kgts->...tkgd", k, dS)
                dk = seen.scale * einsum("...tkgd,...kgts->...skd", q, dS)
                dv = einsum("...tkge,...kgts->...ske", dout_t, P)
                return Given(
                    q=with_rows(d.q, t, -4, rows(d.q, t, -4) + dq),
                    k=d.k + dk,
                    v=d.v + dv,
                    mask=None,
                    bias=None if d.bias is None else with_tile(d.bias, t, s, dS),
                    slopes=None if d.slopes is None else d.slopes - (dS * far(t, s, dS)).sum((-2, -1)),
                    sink=None,
                )

            return where_seen(given, seen, t, s, step, d)

        none = d._replace(k=jnp.zeros_like(wide(k)), v=jnp.zeros_like(wide(v)))
        of_block = lax.fori_loop(*seen.queries(s, queries), of_queries, none)
        dk, dv = (rows(whole, s, -3) + of for whole, of in ((d.k, of_block.k), (d.v, of_block.v)))
        return of_block._replace(k=with_rows(d.k, s, -3, dk), v=with_rows(d.v, s, -3, dv))

    none = jax.tree.map(lambda v: jnp.zeros_like(wide(v)), given._replace(mask=None, slopes=None, sink=None))
    none = none if given.slopes is None else none._replace(slopes=jnp.zeros_like(D[..., 0, :, :]))
    return lax.fori_loop(0, keys.n, of_keys, none)


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
    if q.shape[-2] % k.shape[-2]:
        raise ValueError(f"{given}: {q.shape[-2]} heads of queries do not divide over {k.shape[-2]} heads of keys.")
    of_scores = (*q.shape[:-3], q.shape[-2], q.shape[-3], k.shape[-3])
    for name, array in (("mask", mask), ("bias", bias)):
        if array is not None and (array.ndim < 3 or not fits(array.shape, of_scores)):
            raise ValueError(f"{given}, and {name} {array.shape}: it must broadcast to (…, H, T, S) = {of_scores}.")
    if mask is not None and mask.dtype != bool:
        raise TypeError(f"{given}, and a mask of {mask.dtype}: give bools, True where a query sees a key.")
    for name, array in (("slopes", slopes), ("sink", sink)):
        if array is not None and array.shape != q.shape[-2:-1]:
            raise ValueError(f"{given}, and {name} {array.shape}: give one number a head, {q.shape[-2:-1]}.")
    if block < 1 or (window is not None and window < 1):
        raise ValueError(f"attention(…, window={window}, block={block}): both are 1 or more.")


def fits(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether an array of this shape broadcasts to the whole."""
    return len(shape) <= len(whole) and all(n in (1, m) for n, m in zip(reversed(shape), reversed(whole), strict=False))


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
    """What `attention` computes, from all T × S scores at once. For autodiff, which cannot go backwards through its
    loops."""
    given = grouped(q, k, v, mask, bias, slopes, sink)
    S = scores(given, Seen(causal, window, scale_of(scale, q)), Block(0, q.shape[-3], 0), Block(0, k.shape[-3], 0))
    if sink is not None:
        S = jnp.concatenate([jnp.broadcast_to(of_sink(given), (*S.shape[:-1], 1)), S], -1)
    any_seen = (-jnp.inf < S).any(-1, keepdims=True)
    lse = jax.nn.logsumexp(jnp.where(any_seen, S, 0), -1, keepdims=True)
    P = jnp.where(any_seen, jnp.exp(S - lse), 0)[..., -k.shape[-3] :]
    out = einsum("...ske,...kgts->...tkge", given.v, P)
    of_row = jnp.moveaxis(jnp.where(any_seen, lse, -jnp.inf)[..., 0], -1, -3)
    return out.astype(q.dtype).reshape(*q.shape[:-1], v.shape[-1]), of_row.reshape(q.shape[:-1])


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
AGAIN = "jnp.exp(scores(given, seen, t, s) -"
TRAPS = {
    "the mask forgotten on the way back": (AGAIN, AGAIN.replace("given", "given._replace(mask=None)")),
    "causality forgotten on the way back": (AGAIN, AGAIN.replace("seen", "seen._replace(causal=False)")),
    "the scale left out of dk": ("dk = seen.scale * einsum", "dk = einsum"),
    "the scale twice in dq": ("dq = seen.scale *", "dq = seen.scale**2 *"),
    "ℓ's cotangent dropped": (".sum(-1) - dlse", ".sum(-1)"),
    "ℓ's cotangent with the wrong sign": (".sum(-1) - dlse", ".sum(-1) + dlse"),
    "softmax's diagonal alone": ("(dP - beside(rows(D, t, -3)))", "dP"),
    "rows of the block before counted twice": ("jnp.where(t.is_new[:, None], ", "jnp.where(True, "),
    "dv without the queries of other blocks": ("v=d.v + dv", "v=dv"),
    "the sink's share with the wrong sign": ("-jnp.exp(along(lse", "jnp.exp(along(lse"),
    "∂J/∂bias not scaled like the scores": ("with_tile(d.bias, t, s, dS)", "with_tile(d.bias, t, s, seen.scale * dS)"),
    "ALiBi's sign": ("d.slopes - (dS", "d.slopes + (dS"),
    "the first query of a group alone in dk": (
        '"...tkgd,...kgts->...skd", q, dS',
        '"...tkgd,...kgts->...skd", q[..., :1, :], dS[..., :1, :, :]',
    ),
}
