"""Every layer by itself, with random parameters and a random cotangent: by hand = jax.grad = twin = differences."""

import functools
import importlib
from dataclasses import dataclass
from types import SimpleNamespace

import differences
import jax
import numpy as np
import pytest
import witnesses
from columns import out_to_columns, params_to_columns, to_columns
from jax import numpy as jnp

import jaxnn
from jaxnn import (
    Activation,
    Attention,
    Chain,
    Dense,
    Embedding,
    LayerNorm,
    LearnedPositions,
    MeanPool,
    Patches,
    Repeat,
    SoftmaxCrossEntropy,
    Tied,
    Unembedding,
    catalogue,
    value_and_grad,
)
from jaxnn.examples import LAYERS, draw_params, draw_x, examples
from jaxnn.layers.repeat import BLOCK
from jaxnn.models.gpt import gpt
from jaxnn.models.llama import llama
from jaxnn.protocols import learned
from reference.layers import twin

WITNESSES = {
    "twin": witnesses.layer_twin,
    "differences": differences.layer_differences,
}
layers = pytest.mark.parametrize("name", LAYERS)
NARROWER = Repeat(Dense(3, 2), 2)
TWO = Chain((Dense(3, 3), Dense(3, 3)))


def draw(name, dtype=np.float64, seed=0):
    """(layer, params, x, dout), of a random cotangent."""
    rng = np.random.default_rng(seed)
    example = LAYERS[name]
    layer, params, x = example.layer, draw_params(example.layer, rng, dtype), draw_x(example, rng, dtype)
    out = jax.eval_shape(layer.apply, params, x)
    return layer, params, x, jax.tree.map(lambda v: jnp.asarray(rng.normal(size=v.shape), dtype), out)


def kind_of(name):
    return type(LAYERS[name].layer)


@functools.cache
def gradients():
    """{name: (by hand, by autodiff)} of every layer, in one program, which compiles sooner than as many small ones."""
    cases = {name: draw(name) for name in LAYERS}

    def of_all(arguments):
        return {
            name: [of(cases[name][0], *arguments[name]) for of in (witnesses.layer_by_hand, witnesses.layer_autodiff)]
            for name in LAYERS
        }

    return jax.jit(of_all)({name: arrays for name, (_, *arrays) in cases.items()})


def of_three_parameter_sets(name):
    """The gradients by hand of three sets of parameters: one by one, by vmap, by scan."""
    layer, _, *data = draw(name)
    rng = np.random.default_rng(1)
    stack = lambda trees: jax.tree.map(lambda *v: jnp.stack(v), *trees)  # noqa: E731

    @jax.jit
    def three_ways(sets, data):
        by_hand = lambda params: witnesses.layer_by_hand(layer, params, *data)  # noqa: E731
        vmapped = jax.vmap(by_hand)(stack(sets)) if jax.tree.leaves(sets) else None
        _, scanned = jax.lax.scan(lambda _, params: (None, by_hand(params)), None, stack(sets), length=3)
        return stack([by_hand(params) for params in sets]), vmapped, scanned

    return three_ways([draw_params(layer, rng) for _ in range(3)], data)


@pytest.mark.parametrize("name", catalogue.names("layers"))
def test_every_layer_has_examples_and_a_twin(name):
    assert catalogue.module("layers", name).EXAMPLES
    module = importlib.import_module(f"reference.layers.{name}")
    assert all(callable(getattr(module, f)) for f in ("forward", "jacobians", "names", "columns"))


def test_two_files_with_an_example_of_one_name_are_refused(monkeypatch):
    monkeypatch.setattr(catalogue, "names", lambda room: ("dense", "residual"))
    monkeypatch.setattr(catalogue, "module", lambda room, file: SimpleNamespace(EXAMPLES={file[:1]: 0, "wide": 0}))
    with pytest.raises(
        ValueError, match=r"residual\.py in jaxnn/layers has an example 'wide', and so has another file"
    ):
        examples("layers")


@pytest.mark.parametrize("name", catalogue.names("activations"))
def test_every_activation_has_a_twin(name):
    module = importlib.import_module(f"reference.activations.{name}")
    assert all(callable(getattr(module, f)) for f in ("g", "dg"))


@layers
def test_output_is_the_twins(x64, name):
    layer, params, x, _ = draw(name)
    out, _ = layer.forward(params, x, jax.random.key(0))
    out_twin = twin(layer).forward(layer, params_to_columns(layer, params), to_columns(x, LAYERS[name].inner))
    in_columns = out_to_columns(out, jax.tree.leaves(out)[0].ndim - x.ndim + LAYERS[name].inner)
    assert witnesses.difference(in_columns, out_twin) < 1e-14
    if all(jax.tree.leaves(learned(params))):  # with running statistics prediction is another function
        jax.tree.map(np.testing.assert_array_equal, layer.apply(params, x), out)


@pytest.mark.sample(lambda name, witness: (witness, kind_of(name) if witness == "differences" else name))
@layers
@pytest.mark.parametrize("witness", ["autodiff", *WITNESSES])
def test_backward_is_the_vector_jacobian_product_of_forward(x64, name, witness):
    hand, auto = gradients()[name]
    true = auto if witness == "autodiff" else WITNESSES[witness](*draw(name), LAYERS[name].inner)
    assert witnesses.difference(hand, true) < 1e-12


@pytest.mark.sample(lambda name, dtype: kind_of(name))
@layers
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_gradients_have_the_types_of_what_they_belong_to(name, dtype):
    layer, params, x, dout = draw(name, dtype)
    hand, auto = (of(layer, params, x, dout) for of in (witnesses.layer_by_hand, witnesses.layer_autodiff))
    x = x if jnp.issubdtype(x.dtype, jnp.floating) else None
    assert jax.tree.map(jnp.result_type, hand) == jax.tree.map(jnp.result_type, (params, x))
    assert witnesses.difference(hand, auto) < 8 * jnp.finfo(dtype).eps


@pytest.mark.sample(lambda name: kind_of(name))
@layers
def test_jit_vmap_and_scan_change_nothing(x64, name):
    one_by_one, vmapped, scanned = of_three_parameter_sets(name)
    if vmapped is not None:
        assert witnesses.difference(vmapped, one_by_one) < 1e-14
    assert witnesses.difference(scanned, one_by_one) < 1e-14


@pytest.mark.sample(lambda name, dtype: name)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", catalogue.names("activations"))
def test_activations_are_finite_far_out(name, dtype):
    z = jnp.array([-1e4, -90.0, 0.0, 90.0, 1e4], dtype)
    a, residuals = Activation(name).forward((), z)
    _, dz = Activation(name).backward(residuals, jnp.ones_like(a))
    assert jnp.isfinite(a).all()
    assert jnp.isfinite(dz).all()


@pytest.mark.parametrize(("name", "slope"), [("relu", 0), ("leaky_relu", 0.01), ("elu", 1)])
def test_derivative_at_the_kink_is_the_one_documented(name, slope):
    for layer_gradient in (witnesses.layer_by_hand, witnesses.layer_autodiff):
        _, dz = layer_gradient(Activation(name), (), jnp.zeros(1), jnp.ones(1))
        assert dz == pytest.approx(slope)


def test_relu_lets_nan_through():
    a, _ = Activation("relu").forward((), jnp.array([jnp.nan]))
    assert jnp.isnan(a)


def test_chain_draws_each_layer_from_its_own_key():
    key = jax.random.key(0)
    short, long = Chain((Dense(4, 4), Dense(4, 4))), Chain((Dense(4, 4), Dense(4, 4), Dense(4, 4)))
    first, second = short.init(key)
    assert (first.W != second.W).all()
    np.testing.assert_array_equal(second.W, long.init(key)[1].W)


@dataclass(frozen=True)
class Drop:
    """Halves each x with probability ½, by its key."""

    def init(self, key, dtype=jnp.float32):
        return ()

    def forward(self, params, x, key=None):
        kept = jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x.dtype.type(1), 0.5)
        return x * kept, kept

    def backward(self, residuals, dout):
        return (), dout * residuals


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    ("block", "saved"),  # x; and where they are no layer's x: z; a and the mask
    [(BLOCK, 1), (Chain((Dense(4, 4), Activation("gelu"))), 2), (Chain((BLOCK, Drop())), 3)],
    ids=["tanh", "gelu", "dropout"],
)
def test_repeat_is_the_chain_of_its_layers(x64, block, saved, recompute):
    """The same numbers as a Chain, and no array saved that is there already."""
    repeat, chain = Repeat(block, 3, recompute), Chain((block,) * 3)
    rng, key = np.random.default_rng(0), jax.random.key(1)
    params = draw_params(repeat, rng)
    one_by_one = tuple(jax.tree.map(lambda v, i=i: v[i], params) for i in range(3))
    x, dout = rng.normal(size=(2, 5, 4))
    out, residuals = repeat.forward(params, x, key)
    by_chain, chain_residuals = chain.forward(one_by_one, x, key)
    np.testing.assert_allclose(out, by_chain, rtol=1e-14)
    grads, dx = repeat.backward(residuals, dout)
    chain_grads, chain_dx = chain.backward(chain_residuals, dout)
    stacked = jax.tree.map(lambda *v: np.stack(v), *chain_grads)
    assert witnesses.difference((grads, dx), (stacked, chain_dx)) < 1e-14
    stacks = [v.shape for v in jax.tree.leaves((residuals.x, residuals.others))]
    assert stacks == [(3, 5, 4)] * (1 if recompute else saved)


def test_what_costs_little_is_made_again_and_not_saved():
    """Of LayerNorm, Dense, GELU, Dense a Repeat saves x, two numbers a row, and z: neither output of the cheap two."""
    repeat = Repeat(Chain((LayerNorm(4), Dense(4, 6), Activation("gelu"), Dense(6, 4))), 3)
    _, residuals = repeat.forward(repeat.init(jax.random.key(0)), jnp.ones((5, 4)))
    saved = [v.shape for v in jax.tree.leaves((residuals.x, residuals.others))]
    assert sorted(saved) == [(3, 5, 1), (3, 5, 1), (3, 5, 4), (3, 5, 6)]


def test_tied_layers_start_as_one_and_are_two_places_of_one_array(x64):
    """The gradient is the sum of those of an untied network with the same array twice."""
    whole = Chain((Embedding(5, 3), Dense(3, 3), Unembedding(5, 3)))
    tied = Tied(whole, "0/W", "2/W")
    params, x, y = tied.init(jax.random.key(0), np.float64), np.array([[0, 2], [2, 4]]), np.array([[1, 2], [3, 3]])
    assert params[2].W is None
    of_whole = (*params[:2], params[2]._replace(W=params[0].W))
    loss = SoftmaxCrossEntropy()
    (J, grads), (of_whole_J, of_whole) = (
        jax.jit(value_and_grad(model, loss))(p, x, y) for model, p in ((tied, params), (whole, of_whole))
    )
    summed = (of_whole[0]._replace(W=of_whole[0].W + of_whole[2].W), of_whole[1], params[2])
    assert witnesses.difference((J, grads), (of_whole_J, summed)) < 1e-14


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("0/W", "3/W", r"its layer learns 0/W, 1/W, 1/b, 2/W; name two of these arrays"),
        ("0/W", "0/W", "name two of these"),
        ("0/W", "1/W", r"one array has the shape \(5, 3\), the other \(3, 3\)"),
    ],
)
def test_places_that_cannot_be_tied_are_refused(first, second, words):
    with pytest.raises(ValueError, match=words):
        Tied(Chain((Embedding(5, 3), Dense(3, 3), Unembedding(5, 3))), first, second).init(jax.random.key(0))


def test_repeat_starts_each_layer_from_its_own_key():
    key = jax.random.key(0)
    W = Repeat(Dense(4, 4), 3).init(key).W
    np.testing.assert_array_equal(W[:2], Repeat(Dense(4, 4), 2).init(key).W)
    np.testing.assert_array_equal(W, np.stack([p.W for p in Chain((Dense(4, 4),) * 3).init(key)]))


@pytest.mark.parametrize("layer", [example.layer for example in LAYERS.values()], ids=LAYERS)
def test_a_layer_is_a_value(layer):
    names = {name: getattr(jaxnn, name) for name in jaxnn.__all__}
    assert eval(repr(layer), names) == layer
    assert hash(eval(repr(layer), names)) == hash(layer)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Dense(0, 3), "at least one input"),
        (lambda: Dense(3, 3, "random"), "Unknown initializer 'random'; use one of equal"),
        (lambda: Repeat(Dense(3, 3), 0), "repeated once at least"),
        (
            lambda: NARROWER.apply(NARROWER.init(jax.random.key(0)), jnp.ones((4, 3))),
            r"\(4, 2\) of an input of \(4, 3\)",
        ),
        (lambda: NARROWER.forward(NARROWER.init(jax.random.key(0)), jnp.ones((4, 3))), "keeps the shape"),
        (lambda: Attention(4, 3), "kv_heads divides heads"),
        (lambda: Attention(1, window=0), "window and block are 1 or more"),
        (lambda: Attention(1, rotary=-1.0), "rotary, the base of the angles, is a positive number"),
        (lambda: Attention(1, rotary=10).apply((), jnp.ones((3, 9))), "an even number, for they turn in pairs"),
        (lambda: Attention(1).apply((), jnp.ones((2, 0, 3))), r"shape \(2, 0, 3\)"),
        (lambda: gpt(5, 4, heads=0), "0 heads do not divide"),
        (lambda: gpt(5, 4, keep=1.5), "at most 1"),
        (lambda: llama(5, heads=4, width=12), "3 numbers each: these turn in pairs"),
        (
            lambda: Tied(TWO, "0/W", "1/W").apply(TWO.init(jax.random.key(0)), jnp.ones((1, 3))),
            "None at 1/W; given are 0/W",
        ),
        (lambda: MeanPool().apply((), jnp.ones(3)), r"its axes are \(…, T, n\)"),
        (lambda: Patches(4, 4, 3), "the size divides height and width"),
        (lambda: Attention(2).apply((), jnp.ones((3, 8))), r"shape \(3, 8\): its axes are \(…, T, 6 d\)"),
        (lambda: LearnedPositions(0, 3), "at least one position"),
        (lambda: Unembedding(4, 3).apply(Unembedding(4, 3).init(jax.random.key(0)), jnp.ones((4, 2))), "3 entries"),
        (lambda: Embedding(4, 3, "random"), "Unknown initializer 'random'"),
        (lambda: Activation("swish"), "Unknown activation 'swish'; use one of elu"),
        (lambda: Activation("relu", slope=0.1), "only leaky_relu has one"),
        (lambda: Dense(3, 2).apply(Dense(3, 2).init(jax.random.key(0)), jnp.ones((4, 2))), r"shape \(4, 2\).*3 inputs"),
    ],
)
def test_bad_input_is_one_clear_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_mixed_dtypes_are_named():
    with pytest.raises(TypeError, match="x of int32 for W of float32"):
        Dense(3, 2).apply(Dense(3, 2).init(jax.random.key(0)), jnp.ones((4, 3), int))
