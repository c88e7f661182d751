"""The gradients of a GPT and a Llama, every leaf: by hand = jax.grad of the same forward = those of others' models."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp
from witnesses import difference

from jaxnn import SoftmaxCrossEntropy, cost, value_and_grad
from jaxnn.models.gpt import gpt
from jaxnn.models.llama import llama

WORDS, LAYERS, HEADS, WIDTH = 11, 3, 4, 8
LOSS = SoftmaxCrossEntropy(chunk=5)  # of 12 words: two chunks, and two that are left
SIZES = {"layers": LAYERS, "heads": HEADS, "width": WIDTH}
GPT, LLAMA = gpt(WORDS, 7, **SIZES), llama(WORDS, kv_heads=2, base=100.0, **SIZES)
MODELS = {
    "gpt": GPT,
    "gpt, recomputed": gpt(WORDS, 6, recompute=True, **SIZES),
    "gpt, dropout": gpt(WORDS, 6, keep=0.7, **SIZES),
    "gpt, dropout, recomputed": gpt(WORDS, 6, keep=0.7, recompute=True, **SIZES),
    "llama": llama(WORDS, **SIZES),
    "llama, grouped queries": LLAMA,
    "llama, dropout, recomputed": llama(WORDS, kv_heads=1, keep=0.7, recompute=True, **SIZES),
}


def drawn(model, dtype=np.float64):
    """(params, x, y, w): no γ is 1, no bias 0."""
    draw = np.random.default_rng(0)
    like = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(lambda v: jnp.asarray(draw.normal(size=v.shape) / 2, dtype), like)
    x, y = (jnp.asarray(draw.integers(WORDS, size=(2, 6))) for _ in range(2))
    return params, x, y, jnp.asarray(draw.uniform(size=(2, 6)), dtype)


def gradients(model):
    return jax.jit(value_and_grad(model, LOSS))


@pytest.mark.sample(lambda name: name.split(",")[0])
@pytest.mark.parametrize("name", MODELS)
def test_every_gradient_is_that_of_autodiff(x64, name):
    model = MODELS[name]
    arguments = *drawn(model), jax.random.key(1)
    J, grads = gradients(model)(*arguments)
    true_J, true = jax.jit(jax.value_and_grad(cost(model, LOSS)))(*arguments)
    np.testing.assert_allclose(J, true_J, rtol=1e-13)
    assert difference(grads, true) < 1e-12


@pytest.mark.sample
@pytest.mark.parametrize("name", ["gpt, dropout, recomputed", "llama, dropout, recomputed"])
def test_dropout_draws_from_the_key_alone(x64, name):
    arguments, of = drawn(MODELS[name]), gradients(MODELS[name])
    one, same, other = (of(*arguments, jax.random.key(n))[0] for n in (1, 1, 2))
    assert one == same != other


@pytest.mark.sample
@pytest.mark.parametrize("model", [GPT, LLAMA], ids=["gpt", "llama"])
def test_in_bfloat16_each_gradient_has_the_type_of_its_leaf(x64, model):
    params, x, y, w = drawn(model, jnp.bfloat16)
    J, grads = gradients(model)(params, x, y, w)
    assert J.dtype == np.float32
    assert {v.dtype for v in jax.tree.leaves(grads)} == {jnp.dtype(jnp.bfloat16)}
    exact = jax.tree.map(lambda v: v.astype(float), (params, w))
    _, true = gradients(model)(exact[0], x, y, exact[1])
    assert difference(grads, true) < 0.1


def of_plain_llama(params, x, y):
    """J of LLAMA, written once more, without jaxnn: every score at once."""
    (words,), blocks, (gamma,), (W,) = params
    T, d = x.shape[-1], WIDTH // HEADS
    phi = jnp.arange(T)[:, None] * 100.0 ** (-2 * jnp.arange(d // 2) / d)
    turn = jnp.exp(1j * phi)[None, :, None]
    seen = jnp.tril(jnp.ones((T, T), bool))

    def norm(h, gamma):
        return h / jnp.sqrt(jnp.mean(h**2, -1, keepdims=True) + 1e-6) * gamma

    def turned(v):
        pairs = (v[..., : d // 2] + 1j * v[..., d // 2 :]) * turn
        return jnp.concatenate([pairs.real, pairs.imag], -1)

    def of_block(h, block):
        ((gamma_1,), (W_qkv, _), _, (W_o, _)), ((gamma_2,), (W_gu, _), _, (W_d, _)) = block
        qkv = (norm(h, gamma_1) @ W_qkv.T).reshape(*x.shape, -1, d)
        q, k, v = turned(qkv[..., :HEADS, :]), turned(qkv[..., HEADS : HEADS + 2, :]), qkv[..., HEADS + 2 :, :]
        k, v = (jnp.repeat(u, HEADS // 2, -2) for u in (k, v))
        S = jnp.einsum("bthd,bshd->bhts", q, k) / np.sqrt(d)
        P = jax.nn.softmax(jnp.where(seen, S, -jnp.inf))
        h = h + jnp.einsum("bhts,bshd->bthd", P, v).reshape(h.shape) @ W_o.T
        gate, up = jnp.split(norm(h, gamma_2) @ W_gu.T, 2, -1)
        return h + (gate / (1 + jnp.exp(-gate)) * up) @ W_d.T, None

    h, _ = lax.scan(of_block, words[x], blocks)
    log_p = jax.nn.log_softmax(norm(h, gamma) @ W.T)
    return -jnp.take_along_axis(log_p, y[..., None], -1).mean()


def of_flax(params, x, y):
    """J of GPT by the layers of Flax, and its attention."""
    linen = pytest.importorskip("flax.linen", reason="Flax is not installed: .venv/bin/pip install -e .[test]")

    class Block(linen.Module):
        @linen.compact
        def __call__(self, h):
            mask = linen.make_causal_mask(x)
            h = h + linen.MultiHeadDotProductAttention(HEADS)(linen.LayerNorm(1e-5)(h), mask=mask)
            z = linen.Dense(4 * WIDTH)(linen.LayerNorm(1e-5)(h))
            return h + linen.Dense(WIDTH)(linen.gelu(z))

    class Model(linen.Module):
        @linen.compact
        def __call__(self, x):
            words, places = linen.Embed(WORDS, WIDTH), linen.Embed(7, WIDTH)
            h = words(x) + places(jnp.arange(x.shape[-1]))
            for _ in range(LAYERS):
                h = Block()(h)
            return words.attend(linen.LayerNorm(1e-5)(h))

    z = Model().apply({"params": as_flax_has_them(params)}, x)
    return -jnp.take_along_axis(jax.nn.log_softmax(z), y[..., None], -1).mean()


def as_flax_has_them(params):
    (W,), (P,), blocks, (gamma, beta), _ = params

    def of_heads(W, b):
        return {"kernel": W.T.reshape(WIDTH, HEADS, -1), "bias": b.reshape(HEADS, -1)}

    def norm(gamma, beta):
        return {"scale": gamma, "bias": beta}

    def dense(W, b):
        return {"kernel": W.T, "bias": b}

    def block(i):
        (norm_1, (W_qkv, b_qkv), _, (W_o, b_o)), (norm_2, up, _, down) = jax.tree.map(lambda v: v[i], blocks)
        rows = zip(("query", "key", "value"), jnp.split(W_qkv, 3), jnp.split(b_qkv, 3), strict=True)
        attention = {name: of_heads(W, b) for name, W, b in rows}
        attention["out"] = {"kernel": W_o.T.reshape(HEADS, -1, WIDTH), "bias": b_o}
        norms = {"LayerNorm_0": norm(*norm_1), "LayerNorm_1": norm(*norm_2)}
        return norms | {"MultiHeadDotProductAttention_0": attention, "Dense_0": dense(*up), "Dense_1": dense(*down)}

    tables = {"Embed_0": {"embedding": W}, "Embed_1": {"embedding": P}}
    return tables | {f"Block_{i}": block(i) for i in range(LAYERS)} | {"LayerNorm_0": norm(gamma, beta)}


@pytest.mark.parametrize(("model", "other"), [(GPT, of_flax), (LLAMA, of_plain_llama)], ids=["gpt", "llama"])
def test_the_gradients_are_those_of_a_model_of_others(x64, standard_promotion, model, other):
    params, x, y, _ = drawn(model)
    J, grads = gradients(model)(params, x, y)
    with jax.numpy_rank_promotion("allow"):
        true_J, true = jax.jit(jax.value_and_grad(other))(params, x, y)
    np.testing.assert_allclose(J, true_J, rtol=1e-12)
    assert difference(grads, true) < 1e-10
