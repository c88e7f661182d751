"""The gradients of a tiny GPT-2 and a tiny Llama are those of PyTorch: scripts/golden_language_models wrote them."""

from pathlib import Path

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from witnesses import difference

from jaxnn import SoftmaxCrossEntropy, value_and_grad
from jaxnn.models.gpt import gpt
from jaxnn.models.llama import llama

GOLDEN = Path(__file__).parent / "golden"


def of_gpt(w):
    """Their arrays, as w(name) gives them, as our params."""

    def dense(name):
        return w(f"{name}.weight"), w(f"{name}.bias")

    def block(i):
        mixing = dense(f"h.{i}.ln_1"), dense(f"h.{i}.attn.c_attn"), (), dense(f"h.{i}.attn.c_proj")
        return mixing, (dense(f"h.{i}.ln_2"), dense(f"h.{i}.mlp.c_fc"), (), dense(f"h.{i}.mlp.c_proj"))

    blocks = jax.tree.map(lambda *leaves: jnp.stack(leaves), block(0), block(1))
    return (w("wte.weight"),), (w("wpe.weight"),), blocks, dense("ln_f"), (None,)


def of_llama(w):
    """The same; ours has q, k and v in one array, gate and up in one."""

    def rows(*names):
        return jnp.concatenate([w(f"{name}_proj.weight") for name in names]), None

    def norm(name):
        return (w(f"{name}.weight"),)

    def block(i):
        layer = f"layers.{i}"
        q, k, v, o = (f"{layer}.self_attn.{name}" for name in "qkvo")
        gate, up, down = (f"{layer}.mlp.{name}" for name in ("gate", "up", "down"))
        mixing = norm(f"{layer}.input_layernorm"), rows(q, k, v), (), rows(o)
        return mixing, (norm(f"{layer}.post_attention_layernorm"), rows(gate, up), (), rows(down))

    blocks = jax.tree.map(lambda *leaves: jnp.stack(leaves), block(0), block(1))
    return (w("embed_tokens.weight"),), blocks, norm("norm"), (w("lm_head.weight"),)


SIZES = {"layers": 2, "heads": 3, "width": 12}
MODELS = {"gpt": (gpt(24, 8, **SIZES), of_gpt), "llama": (llama(24, kv_heads=1, units=20, **SIZES), of_llama)}


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_pytorch(x64, name):
    model, ours = MODELS[name]
    with np.load(GOLDEN / f"{name}.npz") as golden:
        like = jax.eval_shape(model.init, jax.random.key(0))
        given, true = (ours(lambda w, kind=kind: jnp.asarray(golden[kind + w], float)) for kind in ("", "grad "))
        params, true = (jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(v)) for v in (given, true))
        J, grads = jax.jit(value_and_grad(model, SoftmaxCrossEntropy()))(params, golden["x"], golden["y"])
        np.testing.assert_allclose(J, golden["J"], rtol=1e-12)
    assert difference(grads, true) < 1e-10
