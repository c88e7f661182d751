"""A value and gradient by the rules of `jaxnn.ops` beside `jax.grad` of the plain formula: time, and temporary memory
as the compiler plans it."""

from functools import cache, partial

import jax
import numpy as np
from jax import numpy as jnp
from jax.nn import logsumexp, silu

from benchmarks.measuring import Contender, Row, Wrong, told
from jaxnn import ops

PLAIN, ONCE_MORE, CHUNKS = "jax.grad, plain", "jax.grad, log_softmax", "jax.grad, scan over checkpointed 256"
NOT_SLOWER = 1 / 1.03
MEMORY, EACH = "memory of", "a cotangent for each example"


def of_labels(z, y):
    return logsumexp(z, -1) - jnp.take_along_axis(z, y[:, None], -1)[:, 0]


def mean_of_chunks(h, W, y, dL):
    one = jax.checkpoint(lambda h, y: of_labels(h @ W.T, y).sum())
    total, _ = jax.lax.scan(
        lambda J, rows: (J + one(*rows), None), 0.0, (h.reshape(-1, 256, h.shape[-1]), y.reshape(-1, 256))
    )
    return total / len(y)


LOSSES = {  # (h, W, y, dL) -> J
    "ours": lambda h, W, y, dL: ops.linear_cross_entropy(h, W, y),
    PLAIN: lambda h, W, y, dL: of_labels(h @ W.T, y).mean(),
    ONCE_MORE: lambda h, W, y, dL: -jnp.take_along_axis(jax.nn.log_softmax(h @ W.T), y[:, None], -1).mean(),
    CHUNKS: mean_of_chunks,
}
EACH_LOSS = {
    "ours": lambda h, W, y, dL: (dL * ops.linear_cross_entropy(h, W, y, reduction="none")).sum(),
    PLAIN: lambda h, W, y, dL: (dL * of_labels(h @ W.T, y)).sum(),
}


def of_loss(m=2048, V=32_000, n=256):
    rng = np.random.default_rng(0)
    h, W = rng.normal(size=(m, n)), 0.05 * rng.normal(size=(V, n))
    return *map(np.float32, (h, W)), np.int32(rng.integers(0, V, m)), np.float32(rng.uniform(size=m))


def all_scores(q, k, v):
    S = jnp.einsum("bthd,bshd->bhts", q, k) / np.sqrt(q.shape[-1])
    S = jnp.where(jnp.tril(jnp.ones(S.shape[-2:], bool)), S, -jnp.inf)
    return jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(S), v)


ATTENTION = {
    "ours": lambda q, k, v, d: (ops.attention(q, k, v, causal=True)[0] * d).sum(),
    PLAIN: lambda q, k, v, d: (all_scores(q, k, v) * d).sum(),
}


def of_attention(T):
    return tuple(np.float32(np.random.default_rng(0).normal(size=(4, 1, T, 4, 64))))


def normed(x, gamma):
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * gamma


def centred(x, gamma, beta):
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * gamma + beta


def turned(x):
    d = x.shape[-1]
    angle = jnp.arange(x.shape[-3])[:, None, None] * 10000.0 ** (-jnp.arange(0, d, 2) / d)
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * jnp.cos(angle) - b * jnp.sin(angle), a * jnp.sin(angle) + b * jnp.cos(angle)], -1)


ENTRYWISE = {  # name: (our op, the plain formula, shapes of the arrays)
    "RMSNorm": (ops.rms_norm, normed, ((4096, 512), (512,))),
    "LayerNorm": (ops.layer_norm, centred, ((4096, 512), (512,), (512,))),
    "SwiGLU": (ops.swiglu, lambda g, u: silu(g) * u, ((4096, 512),) * 2),
    "RoPE": (ops.rope, turned, ((2, 1024, 8, 64),)),
}


def squared(f, *arrays):
    """Σ ½ f², whose cotangent is f itself."""
    return (f(*arrays) ** 2).sum() / 2


@cache
def compiled(f, shapes):
    """The program of the value of f and its gradient by all real arrays."""
    arrays = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
    reals = tuple(i for i, array in enumerate(arrays) if jnp.issubdtype(array.dtype, jnp.floating))
    return jax.jit(jax.value_and_grad(f, reals)).lower(*arrays).compile()


def program(f, arrays):
    return compiled(f, tuple((v.shape, v.dtype) for v in arrays))


def mebibytes(f, arrays):
    return Contender(lambda: program(f, arrays).memory_analysis().temp_size_in_bytes / 2**20)


def seconds(f, arrays):
    return Contender(lambda: jax.block_until_ready(program(f, arrays)(*arrays)))


def alike(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        if not np.allclose(a, b, rtol=1e-3, atol=1e-4 * float(np.abs(b).max())):
            raise Wrong("another value or gradient")


def time_row(name, functions, arrays, ratios):
    return Row(name, lambda: {who: seconds(f, arrays()) for who, f in functions.items()}, ratios=ratios, agree=alike)


def memory_row(name, functions, arrays, goal=None, ratios=None):
    contenders = lambda: {who: mebibytes(f, arrays()) for who, f in functions.items()}  # noqa: E731
    return Row(f"{MEMORY} {name}", contenders, goal=goal, ratios=ratios or {}, figure=told, unit="MiB")


def rows():
    name = "the fused loss, m 2,048, V 32,000, width 256"
    yield memory_row(name, LOSSES, of_loss, goal=64)
    yield time_row(name, LOSSES, of_loss, {PLAIN: 1 / 0.75})
    yield memory_row(f"{name}, {EACH}", EACH_LOSS, of_loss, goal=64)
    yield time_row(f"{name}, {EACH}", EACH_LOSS, of_loss, {PLAIN: 1 / 1.25})
    for T in (1024, 2048, 4096, 16_384):
        name = f"causal attention, 4 heads × 64, {T:,} tokens"
        yield memory_row(name, ATTENTION, partial(of_attention, T), goal=8 if T == 4096 else None)
        if T <= 4096:
            yield time_row(name, ATTENTION, partial(of_attention, T), {PLAIN: 1 / 0.4})
    for name, (ours, theirs, shapes) in ENTRYWISE.items():
        functions = {"ours": partial(squared, ours), PLAIN: partial(squared, theirs)}
        arrays = lambda shapes=shapes: tuple(  # noqa: E731
            np.float32(np.random.default_rng(i).normal(size=shape)) for i, shape in enumerate(shapes)
        )
        yield memory_row(name, functions, arrays, ratios={PLAIN: 1.0})
        yield time_row(name, functions, arrays, {PLAIN: NOT_SLOWER})
