"""The gradient of a step of a GPT and of a Llama by hand beside `jax.grad` of the same model as people write it in JAX
(its blocks in a scan, unrolled, with checkpoints) and in Flax: time, temporary memory as the compiler plans it, and the
time to compile. All have one set of weights, and must give one J and one ‖∂J/∂params‖."""

from functools import cache, partial

import jax
import numpy as np
import optax
from jax import lax
from jax import numpy as jnp

from benchmarks.measuring import Contender, Row, Wrong, told
from jaxnn import SoftmaxCrossEntropy, value_and_grad
from jaxnn.models.gpt import gpt
from jaxnn.models.llama import llama

LAYERS, HEADS, KV_HEADS, WIDTH, UNITS = 4, 4, 2, 256, 688
SCAN, UNROLLED, FLAX = "jax.grad, scan", "jax.grad, unrolled", "Flax"
CHECKPOINT, DOTS = "jax.grad, checkpoint", "jax.grad, dots saveable"
KEPT, AGAIN = "ours", "ours, recomputed"
TIME = {"gpt": {SCAN: 1 / 0.8, UNROLLED: 1 / 0.95, FLAX: 1 / 0.9, DOTS: 1 / 0.9}}
TIME["llama"] = TIME["gpt"] | {SCAN: 1 / 0.9, UNROLLED: 1.0}
MEMORY = {"gpt": {SCAN: 1 / 0.4, UNROLLED: 1 / 0.62, FLAX: 1 / 0.65, DOTS: 1.0}}
MEMORY["llama"] = MEMORY["gpt"] | {SCAN: 1 / 0.48, UNROLLED: 1 / 0.65}
COMPILING = {"gpt": {SCAN: 1 / 0.5}, "llama": {SCAN: 1 / 0.8}}


def ours(kind, V, T, recompute=False):
    settings = {"layers": LAYERS, "heads": HEADS, "width": WIDTH, "recompute": recompute}
    if kind == "gpt":
        return gpt(V, T, **settings)
    return llama(V, kv_heads=KV_HEADS, units=UNITS, **settings)


def layer_norm(p, x):
    x = x - x.mean(-1, keepdims=True)
    return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * p.gamma + p.beta


def rms_norm(p, x):
    return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * p.gamma


def dense(p, x):
    z = x @ p.W.T
    return z if p.b is None else z + p.b


def turned(x):
    d = x.shape[-1]
    angle = jnp.arange(x.shape[1])[:, None, None] * 10000.0 ** (-jnp.arange(0, d, 2) / d)
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * jnp.cos(angle) - b * jnp.sin(angle), a * jnp.sin(angle) + b * jnp.cos(angle)], -1)


def attention(x, kv_heads, turn):
    """x (m, T, (H + 2 K) d) -> (m, T, H d)"""
    m, T, _ = x.shape
    x = x.reshape(m, T, HEADS + 2 * kv_heads, -1)
    q, k, v = jnp.split(x, (HEADS, HEADS + kv_heads), 2)
    q, k = turn(q).reshape(m, T, kv_heads, HEADS // kv_heads, -1), turn(k)
    S = jnp.einsum("mtkgd,mskd->mkgts", q, k) / np.sqrt(q.shape[-1])
    S = jnp.where(jnp.tril(jnp.ones((T, T), bool)), S, -jnp.inf)
    return jnp.einsum("mkgts,mskd->mtkgd", jax.nn.softmax(S), v).reshape(m, T, -1)


def gpt_block(p, x):
    (norm, qkv, _, out), (norm2, up, _, down) = p
    x = x + dense(out, attention(dense(qkv, layer_norm(norm, x)), HEADS, lambda v: v))
    return x + dense(down, jax.nn.gelu(dense(up, layer_norm(norm2, x))))


def llama_block(p, x):
    (norm, qkv, _, out), (norm2, gate_and_up, _, down) = p
    x = x + dense(out, attention(dense(qkv, rms_norm(norm, x)), KV_HEADS, turned))
    gate, up = jnp.split(dense(gate_and_up, rms_norm(norm2, x)), 2, -1)
    return x + dense(down, jax.nn.silu(gate) * up)


def of_logits(z, y):
    """The stable form that takes least memory."""
    return (jax.nn.logsumexp(z, -1) - jnp.take_along_axis(z, y[..., None], -1)[..., 0]).mean()


def plain(kind, wrap=lambda f: f, unrolled=False):
    """The cost as a user of JAX writes it, of the params of ours."""

    def cost(params, x, y):
        if kind == "gpt":
            words, positions, blocks, norm, _ = params
            h, W = words.W[x] + positions.P[: x.shape[1]], words.W
        else:
            words, blocks, norm, out = params
            h, W = words.W[x], out.W
        block = wrap({"gpt": gpt_block, "llama": llama_block}[kind])
        if unrolled:
            for i in range(LAYERS):
                h = block(jax.tree.map(lambda v, i=i: v[i], blocks), h)
        else:
            h, _ = lax.scan(lambda h, p: (block(p, h), None), h, blocks)
        return of_logits({"gpt": layer_norm, "llama": rms_norm}[kind](norm, h) @ W.T, y)

    return jax.value_and_grad(cost)


def flax(kind, V):
    """(value and gradient, its params of ours) of the same model in Flax."""
    from flax import linen as nn

    class Block(nn.Module):
        @nn.compact
        def __call__(self, h):
            biased = kind == "gpt"
            norm = partial(nn.LayerNorm, epsilon=1e-5) if biased else nn.RMSNorm
            kv_heads, turn = (HEADS, lambda v: v) if biased else (KV_HEADS, turned)
            qkv = nn.Dense(WIDTH + 2 * kv_heads * WIDTH // HEADS, biased)(norm()(h))
            h = h + nn.Dense(WIDTH, biased)(attention(qkv, kv_heads, turn))
            z = nn.Dense(4 * WIDTH if biased else 2 * UNITS, biased)(norm()(h))
            gate, *up = jnp.split(z, 1 if biased else 2, -1)
            a = nn.gelu(gate) if biased else nn.silu(gate) * up[0]
            return h + nn.Dense(WIDTH, biased)(a)

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            words = nn.Embed(V, WIDTH)
            h = words(x)
            if kind == "gpt":
                h = h + self.param("P", nn.initializers.zeros, (x.shape[1], WIDTH))
            for _ in range(LAYERS):
                h = Block()(h)
            if kind == "gpt":
                return words.attend(nn.LayerNorm(epsilon=1e-5)(h))
            return nn.Dense(V, False)(nn.RMSNorm()(h))

    def of_dense(p):
        return {"kernel": p.W.T} if p.b is None else {"kernel": p.W.T, "bias": p.b}

    def of_norm(p):
        return {"scale": p.gamma, "bias": p.beta} if kind == "gpt" else {"scale": p.gamma}

    def of_ours(params):
        words, *positions, blocks, norm, out = params
        name = "LayerNorm" if kind == "gpt" else "RMSNorm"
        tree = {"Embed_0": {"embedding": words.W}, f"{name}_0": of_norm(norm)}
        tree |= {"P": positions[0].P} if positions else {"Dense_0": {"kernel": out.W.T}}
        for i in range(LAYERS):
            (norm1, qkv, _, mixed), (norm2, up, _, down) = jax.tree.map(lambda v, i=i: v[i], blocks)
            tree[f"Block_{i}"] = {f"{name}_0": of_norm(norm1), f"{name}_1": of_norm(norm2)}
            tree[f"Block_{i}"] |= {f"Dense_{j}": of_dense(p) for j, p in enumerate((qkv, mixed, up, down))}
        return {"params": tree}

    return jax.value_and_grad(lambda params, x, y: of_logits(Model().apply(params, x), y)), of_ours


def gradient(who, kind, V, T):
    """The value and gradient of one of them."""
    if who in (KEPT, AGAIN):
        return value_and_grad(ours(kind, V, T, who == AGAIN), SoftmaxCrossEntropy())
    if who == FLAX:
        return flax(kind, V)[0]
    dots = partial(jax.checkpoint, policy=jax.checkpoint_policies.dots_saveable)
    wraps = {CHECKPOINT: jax.checkpoint, DOTS: dots}
    return plain(kind, wraps.get(who, lambda f: f), unrolled=who == UNROLLED)


@cache
def arguments(kind, V, rows, T):
    """(params of ours, x, y), drawn."""
    params = ours(kind, V, T).init(jax.random.key(0))
    return params, *jax.random.randint(jax.random.key(1), (2, rows, T), 0, V)


def own_arguments(who, kind, V, rows, T):
    params, x, y = arguments(kind, V, rows, T)
    return (flax(kind, V)[1](params) if who == FLAX else params), x, y


def lowered(who, *case):
    kind, V, _, T = case
    return jax.jit(gradient(who, kind, V, T)).lower(*own_arguments(who, *case))


@cache
def program(who, *case):
    return lowered(who, *case).compile()


def mebibytes(who, *case):
    return Contender(lambda: program(who, *case).memory_analysis().temp_size_in_bytes / 2**20)


def step(who, *case):
    return Contender(lambda: jax.block_until_ready(program(who, *case)(*own_arguments(who, *case))))


def compilation(who, *case):
    return Contender(lambda: lowered(who, *case).compile() and None)


def alike(ours, theirs):
    """One J and one length of the gradient."""
    for a, b in zip(*((J, optax.tree.norm(grads)) for J, grads in (ours, theirs)), strict=True):
        if not np.isclose(a, b, rtol=1e-3):
            raise Wrong("another value or gradient")


def rows():
    others = [SCAN, UNROLLED, FLAX, CHECKPOINT, DOTS]
    for kind in ("gpt", "llama"):
        for V in (96, 32_000):
            case = kind, V, 8, 128
            name = f"{kind}, 4 layers × 256, 8 × 128 tokens, V {V:,}"
            yield Row(
                f"memory of a step of {name}",
                lambda case=case: {who: mebibytes(who, *case) for who in (KEPT, *others)},
                ratios=MEMORY[kind],
                figure=told,
                unit="MiB",
            )
            yield Row(
                f"step of {name}",
                lambda case=case: {who: step(who, *case) for who in (KEPT, *others)},
                ratios=TIME[kind],
                agree=alike,
            )
        case = kind, 96, 8, 128
        yield Row(
            f"memory of a step of {kind}, blocks recomputed",
            lambda case=case: {"ours": mebibytes(AGAIN, *case), CHECKPOINT: mebibytes(CHECKPOINT, *case)},
            ratios={CHECKPOINT: 1 / 0.9},
            figure=told,
            unit="MiB",
        )
        yield Row(
            f"step of {kind}, blocks recomputed",
            lambda case=case: {"ours": step(AGAIN, *case), CHECKPOINT: step(CHECKPOINT, *case)},
            ratios={CHECKPOINT: 1 / 0.95},
            agree=alike,
        )
        yield Row(
            f"compilation of a step of {kind}",
            lambda case=case: {who: compilation(who, *case) for who in (KEPT, SCAN, UNROLLED)},
            ratios=COMPILING[kind],
        )
