"""A text that goes on: what the cache gives is what the whole forward pass gives."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxnn.factored import whole
from jaxnn.layers.attention import Attention
from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.layers.embedding import Embedding
from jaxnn.layers.repeat import Repeat
from jaxnn.models import sampling
from jaxnn.models.gpt import gpt
from jaxnn.models.llama import llama
from jaxnn.models.sampling import Drawing, continued, extended

V, CONTEXT = 11, 9
SIZES = {"layers": 2, "heads": 4, "width": 16}
WINDOWED = Chain((Dense(8, 16), Attention(2, 1, window=3, rotary=100.0), Dense(8, 8)))
MODELS = {
    "gpt": gpt(V, CONTEXT, **SIZES, keep=0.5),
    "llama": llama(V, **SIZES),
    "grouped queries": llama(V, **SIZES, kv_heads=2),
    "a window": Chain((Embedding(V, 8), replace(Repeat(WINDOWED, 2), recompute=True), Dense(8, V))),
}


def drawn(model, dtype):
    """Params far from where they begin, where attention is nearly even."""
    params = model.init(jax.random.key(0), dtype)
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(0)
    return jax.tree.unflatten(tree, [jnp.asarray(rng.normal(size=v.shape), dtype) for v in leaves])


@pytest.mark.parametrize("name", MODELS)
def test_the_logits_with_a_cache_are_those_of_the_whole_forward_pass(name):
    model = MODELS[name]
    with jax.enable_x64(True):
        params = drawn(model, jnp.float64)
        tokens = jnp.asarray(np.random.default_rng(1).integers(0, V, CONTEXT), jnp.int32)
        true = whole(model.apply(params, tokens))
        step = jax.jit(partial(extended, model), static_argnames="cache")
        z, cache = step(params, tokens[:4], jnp.int32(0), cache=CONTEXT)
        step, parts = jax.jit(partial(extended, model)), [whole(z)]
        for t in range(4, CONTEXT):
            z, cache = step(params, tokens[t : t + 1], jnp.int32(t), cache)
            parts.append(whole(z))
        np.testing.assert_allclose(jnp.concatenate(parts), true, rtol=1e-12, atol=1e-12 * np.abs(true).max())


@pytest.mark.sample
@pytest.mark.parametrize("name", ["gpt", "grouped queries"])
def test_greedy_tokens_are_the_likeliest_of_the_tokens_that_are_seen(name):
    """Past the context the newer half is what is seen."""
    model = MODELS[name]
    params = drawn(model, jnp.float32)
    apply = jax.jit(lambda tokens: whole(model.apply(params, tokens)))
    known, expected = [3, 1], []
    for _ in range(20):
        known = known[-(CONTEXT // 2) :] if len(known) > CONTEXT else known
        padded = jnp.array([*known, *[0] * (CONTEXT - len(known))], jnp.int32)  # one shape, one compilation
        expected.append(int(apply(padded)[len(known) - 1].argmax()))
        known.append(expected[-1])
    new = continued(model, params, np.array([3, 1]), 20, CONTEXT, Drawing(0.0), jax.random.key(0))
    assert new.tolist() == expected
    assert len({*expected}) > 1  # it says more than one thing


def test_a_context_of_one_token():
    model = gpt(V, 1, **SIZES)
    tokens = continued(model, drawn(model, jnp.float32), np.array([3]), 5, 1, Drawing(1.0), jax.random.key(0))
    assert tokens.shape == (5,)


def test_tokens_are_drawn_by_their_probabilities():
    z = jnp.log(jnp.array([0.1, 0.2, 0.3, 0.4]))
    keys = jax.random.split(jax.random.key(0), 20_000)

    def shares(drawing):
        return np.bincount(jax.vmap(partial(drawing.token, z))(keys), minlength=4) / len(keys)

    np.testing.assert_allclose(shares(Drawing(1.0)), [0.1, 0.2, 0.3, 0.4], atol=0.01)
    np.testing.assert_allclose(shares(Drawing(0.5)), np.array([1, 4, 9, 16]) / 30, atol=0.01)
    np.testing.assert_allclose(shares(Drawing(1.0, top_k=2)), [0, 0, 3 / 7, 4 / 7], atol=0.01)
    np.testing.assert_allclose(shares(Drawing(1.0, top_k=9)), [0.1, 0.2, 0.3, 0.4], atol=0.01)
    assert shares(Drawing(0.0))[3] == 1


def test_what_comes_next_changes_nothing_before():
    layer = Attention(1, causal=False)
    with pytest.raises(ValueError, match="not causal"):
        sampling.attended(layer, jnp.ones((2, 3)), jnp.int32(0), 4)
