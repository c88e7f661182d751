"""A text that goes on, token by token: the keys and values of the tokens before are kept, and computed once."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax import Array, lax
from jax import numpy as jnp

from jaxnn.factored import whole
from jaxnn.layers.attention import Attention
from jaxnn.layers.chain import Chain
from jaxnn.layers.learned_positions import LearnedPositions
from jaxnn.layers.repeat import Repeat
from jaxnn.layers.residual import Residual
from jaxnn.layers.tied import Tied
from jaxnn.ops.rope import rotated
from jaxnn.protocols import Layer, Params, PyTree


class Cache(NamedTuple):
    """The keys, turned, and the values of an `Attention` at all positions; 0 at those that are still to come."""

    k: Array  # (size, K, d)
    v: Array  # (size, K, d)


class Drawing(NamedTuple):
    """How the next token is drawn: from softmax(z / temperature), the likeliest one if that is 0; from the top_k
    likeliest tokens, from all if None."""

    temperature: float = 0.8
    top_k: int | None = None

    def token(self, z: Array, key: Array) -> Array:
        """One, for z (V,)."""
        if self.temperature == 0:
            return z.argmax(-1).astype(jnp.int32)
        if self.top_k is not None and self.top_k < len(z):
            z = jnp.where(z < lax.top_k(z, self.top_k)[0][-1], -jnp.inf, z)
        return jax.random.categorical(key, z / self.temperature).astype(jnp.int32)


def continued(
    model: Layer, params: Params, tokens: np.ndarray, n: int, context: int, drawing: Drawing, key: Array
) -> np.ndarray:
    """The n tokens (n,) after those given (T,), T at least 1, as the model draws them.

    The model sees at most `context` tokens. Where these are full, the older half leaves, and the newer half is read
    again from position 0 on: the positions of all tokens are others then, and so are all keys and values.
    ValueError: an `Attention` that is not causal.
    """
    parts = [tokens, *stretches(model, params, tokens, n, context, drawing, key)]
    return np.concatenate(parts)[len(tokens) :]


def stretches(
    model: Layer, params: Params, tokens: np.ndarray, n: int, context: int, drawing: Drawing, key: Array
) -> Iterator[np.ndarray]:
    """The same in parts, one for each time that the tokens are read."""
    known = tokens
    while n:
        known = known[-max(1, context // 2) :] if len(known) > context else known
        size = min(n, context + 1 - len(known))
        key, of_these = jax.random.split(key)
        new = np.asarray(stretch(model, params, jnp.asarray(known, jnp.int32), size, drawing, of_these))
        yield new
        known, n = np.concatenate([known, new]), n - size


@partial(jax.jit, static_argnames=("model", "n", "drawing"))
def stretch(model: Layer, params: Params, tokens: Array, n: int, drawing: Drawing, key: Array) -> Array:
    """The n tokens after those given: these are read at once, the new ones one by one."""

    def one(carry: PyTree, key: Array) -> tuple[PyTree, Array]:
        z, at, cache = carry
        token = drawing.token(z, key)
        z, cache = extended(model, params, token[None], at, cache)
        return (whole(z)[-1], at + 1, cache), token

    z, cache = extended(model, params, tokens, jnp.int32(0), len(tokens) + n)
    start = whole(z)[-1], jnp.int32(len(tokens)), cache
    return lax.scan(one, start, jax.random.split(key, n))[1]


def extended(layer: Layer, params: Params, x: Array, at: Array, cache: PyTree) -> tuple[PyTree, PyTree]:
    """(out, cache) for x (T, …), what stands at the positions at, at + 1, …, after those that the cache has.

    cache: of what the layer is made of; at first its size, the number of positions. out is that of `apply` for the
    whole sequence, at these positions.
    """
    is_new = isinstance(cache, int)
    match layer:
        case Tied():
            return extended(layer.layer, layer.whole(params), x, at, cache)
        case Residual():
            out, cache = extended(layer.layer, params, x, at, cache)
            return layer.sum(x, out), cache
        case Chain():
            caches = []
            for i, (part, p) in enumerate(zip(layer.layers, params, strict=True)):
                x, of_part = extended(part, p, x, at, cache if is_new else cache[i])
                caches.append(of_part)
            return x, tuple(caches)
        case Repeat():

            def one(x: Array, given: PyTree) -> tuple[Array, PyTree]:
                p, of_one = given
                return extended(layer.layer, p, x, at, cache if is_new else of_one)

            return lax.scan(one, x, (params, None if is_new else cache), layer.n)
        case LearnedPositions():
            return x + lax.dynamic_slice_in_dim(params.P, at, len(x)), ()
        case Attention():
            return attended(layer, x, at, cache)
    return layer.apply(params, x), ()


def attended(layer: Attention, x: Array, at: Array, cache: Cache | int) -> tuple[Array, Cache]:
    """`extended` of an `Attention`: the queries of x see the keys of the cache and their own."""
    if not layer.causal:
        raise ValueError(f"{layer} is not causal: a token would change what came before it.")
    t = at + jnp.arange(len(x), dtype=jnp.int32)
    q, k, v = replace(layer, rotary=None).qkv(x)
    if layer.rotary is not None:
        q, k = (rotated(u, t, layer.rotary, "halves", None, 1) for u in (q, k))
    if isinstance(cache, int):
        cache = Cache(*(jnp.zeros((cache, *u.shape[1:]), u.dtype) for u in (k, v)))
    k, v = (lax.dynamic_update_slice_in_dim(old, new, at, 0) for old, new in zip(cache, (k, v), strict=True))
    s = jnp.arange(len(k), dtype=jnp.int32)
    seen = s[None] <= t[:, None]
    if layer.window is not None:
        seen &= s[None] > t[:, None] - layer.window
    q = q.reshape(len(x), layer.K, -1, q.shape[-1]) / np.sqrt(q.shape[-1]).astype(q.dtype)
    S = jnp.where(seen[None, None], jnp.einsum("tkgd,skd->kgts", q, k), -jnp.inf)
    out = jnp.einsum("kgts,skd->tkgd", jax.nn.softmax(S), v)
    return out.reshape(len(x), -1), Cache(k, v)
