"""What the Hypothesis strategies promise: pool, different sizes, exact entries, readable minima, telling cotangents."""

import functools
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from jax import numpy as jnp

from jaxnn import Activation, Dense, HalfSquaredError, SoftmaxCrossEntropy, value_and_grad, verify
from jaxnn.examples import LAYERS, LOSSES
from jaxnn.verify import strategies

DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, jnp.bfloat16], ids=lambda d: d.__name__)


def shapes_of(tree):
    return [np.shape(leaf) for leaf in jax.tree.leaves(tree)]


def drawn(strategy, n=60):
    """What n examples draw; most vary an earlier one, so few of them choose afresh among losses or shapes."""
    seen = []
    settings(max_examples=n, database=None, derandomize=True)(given(strategy)(lambda v: seen.append(v)))()
    return seen


@pytest.mark.parametrize("n", [0, 1, 2, 3, 6])
def test_sizes_come_from_the_pool_and_differ(n):
    seen = set(drawn(strategies.sizes(n)))
    assert len(seen) == (3 if n else 1)
    assert all(len(set(row)) == len(row) == n for row in seen)
    assert {size for row in seen for size in row} <= {1, 2, 3, 4, 5, 6, 7}


def test_more_sizes_than_the_pool_has_are_refused():
    with pytest.raises(ValueError, match="7 different sizes: the pool has 6"):
        strategies.sizes(7)


def test_letters_are_shared_sizes():
    seen = {tuple(shapes_of(draw)) for draw in drawn(strategies.operands("mk", "nk", "n", "", "mn"))}
    assert 1 < len(seen) <= 3
    for (m, k), W, *rest in seen:
        assert len({m, n := W[0], k}) == 3
        assert [W, *rest] == [(n, k), (n,), (), (m, n)]


@pytest.mark.parametrize("strategy", [strategies.arrays(strategies.sizes(3)), strategies.layers()], ids=str)
def test_no_drawn_shape_has_two_equal_sizes(strategy):
    found = {shape for example in drawn(strategy, 50) for shape in shapes_of(example)[-3:]}
    assert len(found) > 2
    assert all(len(set(shape)) == len(shape) for shape in found)


def test_all_widths_and_the_batch_of_a_network_differ():
    for model, _, params, x, _ in drawn(strategies.networks(), 50):
        widths = [W.shape[0] for W, _ in filter(None, params)]
        assert len({*x.shape, *widths}) == 2 + len(widths)
        assert [layer.n_out for layer in model.layers if isinstance(layer, Dense)] == widths


@DTYPES
@pytest.mark.parametrize("special", [False, True])
def test_entries_are_exact_in_every_dtype_and_normal(dtype, special):
    for v in drawn(strategies.arrays((3, 5), dtype, special), 40):
        assert (type(v), v.dtype, v.shape) == (np.ndarray, dtype, (3, 5))
        for other in (jnp.bfloat16, np.float16 if dtype == np.float16 or not special else np.float32):
            narrow = v.astype(other)
            np.testing.assert_array_equal(narrow.astype(np.float64), v.astype(np.float64))
            assert np.all((narrow == 0) | (abs(narrow) >= jnp.finfo(other).smallest_normal))
        assert special or set(v.astype(np.float64).flat) <= {k / 8 for k in range(-16, 17)}


def test_entries_reach_all_of_their_range_and_no_special_value_unasked():
    seen = {float(entry) for v in drawn(strategies.arrays((7, 6))) for entry in v.flat}
    assert seen == {k / 8 for k in range(-16, 17)}


@pytest.mark.parametrize(
    ("wanted", "least"),
    [
        (lambda v: v[1, 0] < 0, [[0, 0, 0], [-1, 0, 0]]),
        (lambda v: v[0, 1] > 1, [[0, 2, 0], [0, 0, 0]]),
        (lambda v: 0 < v[0, 0] < 1, [[0.5, 0, 0], [0, 0, 0]]),
        (lambda v: v[0, 2] % 0.5 == 0.25, [[0, 0, 0.25], [0, 0, 0]]),
        (lambda v: len(set(v[1])) == 3, [[0, 0, 0], [0, 1, -1]]),
    ],
)
def test_what_fails_shrinks_to_a_matrix_one_can_read(wanted, least):
    v = find(strategies.arrays((2, 3)), wanted, settings=settings(database=None, derandomize=True))
    assert sorted(v.flat) == sorted(np.float32(least).flat)
    assert wanted(v)


def test_a_distribution_shrinks_to_one_class():
    np.testing.assert_array_equal(
        find(strategies.targets("distributions", (2, 3)), lambda y: True, settings=settings(database=None)),
        [[1, 0, 0], [1, 0, 0]],
    )


HOLDS = {
    "none": lambda v: not np.isin(abs(v), [40, 2**-20]).any(),
    "zero": lambda v: (v == 0).any(),
    "saturated": lambda v: (abs(v) == 40).any(),
    "tiny": lambda v: (abs(v) == 2**-20).any(),
    "tie": lambda v: (v == v.max()).sum() > 1,
}


def test_each_special_kind_is_reached_and_named(monkeypatch):
    tags, seen = [], []
    monkeypatch.setattr(strategies, "event", lambda label, kind: tags.append(kind))
    for shape in [(3, 4), (2,)]:
        seen += drawn(strategies.arrays(shape, special=True).map(lambda v: (tags[-1], v)), 200)
    assert {kind for kind, _ in seen} == {"none", "tie", *strategies.SPECIAL} == set(HOLDS)
    assert [kind for kind, v in seen if not HOLDS[kind](v)] == []
    for kind, size in strategies.SPECIAL.items():
        signs = {sign for k, v in seen if k == kind for sign in np.signbit(v[abs(v) == size])}
        assert signs == {False, True}


def failure(strategy, holds):
    """What Hypothesis tells of the least example that does not hold."""

    @settings(max_examples=100, database=None, derandomize=True, phases=[Phase.generate, Phase.shrink])
    @given(strategy)
    def test(drawn):
        assert holds(drawn)

    with pytest.raises(AssertionError) as raised:
        test()
    return "\n".join(raised.value.__notes__)


@pytest.mark.parametrize("kind", ["saturated", "tiny"])
def test_a_failing_example_names_its_special_kind(kind):
    told = failure(strategies.arrays((2, 3), special=True), lambda v: not HOLDS[kind](v))
    assert re.findall("special: .*", told) == [f"special: {kind}, in an array of shape (2, 3)"]


def test_what_fails_without_a_special_entry_shrinks_to_none():
    assert "special" not in failure(strategies.arrays((2, 3), special=True), lambda v: v[0, 2] % 0.5 != 0.25)


def test_a_failing_example_is_printed_as_the_arrays_it_holds():
    params = jax.eval_shape(Dense(3, 2).init, jax.random.key(0))
    strategy = st.tuples(strategies.like(params), strategies.targets("one-hot", (1, 2)), strategies.operands("n", "nk"))
    told = re.sub(r"\s+", " ", failure(strategy, lambda drawn: not drawn[0].W[0, 1]))
    assert told.count("dtype=float32") == told.count("array([") == 5
    assert "W=array([[0., 1., 0.], [0., 0., 0.]], dtype=float32)" in told


def test_one_entry_or_none_can_be_special_too():
    assert {abs(float(v)) for v in drawn(strategies.arrays((), special=True), 200)} >= {0, 40, 2**-20}
    assert drawn(strategies.arrays((0, 3), special=True))[0].shape == (0, 3)


def test_like_keeps_structure_dtypes_and_what_is_no_float():
    count, key = np.arange(3), jax.random.key(7)
    tree = {"W": np.ones((2, 3), jnp.bfloat16), "b": jax.ShapeDtypeStruct((4,), np.float64), "n": count, "on": True}
    for v in drawn(strategies.like((tree, [key, 0.5, None])), 20):
        assert jax.tree.structure(v) == jax.tree.structure((tree, [key, 0.5, None]))
        assert (v[0]["W"].dtype, v[0]["W"].shape) == (jnp.bfloat16, (2, 3))
        assert (v[0]["b"].dtype, v[0]["b"].shape) == (np.float64, (4,))
        assert v[0]["n"] is count
        assert v[0]["on"] is True
        assert v[1][0] is key
        assert (v[1][1].dtype, v[1][1].shape) == (np.float32, ())
    assert len({float(v[1][1]) for v in drawn(strategies.like((tree, [key, 0.5, None])))}) > 5


def test_like_says_what_it_cannot_draw():
    with pytest.raises(TypeError, match="float dtype, not complex64"):
        strategies.like(np.ones(2, np.complex64))
    with pytest.raises(TypeError, match="leaf of int32 is held as it is: give its value"):
        strategies.like({"n": jax.ShapeDtypeStruct((2,), np.int32)})
    with pytest.raises(TypeError, match="float dtype, not int32"):
        strategies.arrays((2,), np.int32)


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("shapes", [[(784, 30), (30,)], [(30, 30)] * 12], ids=["one large array", "many arrays"])
def test_large_trees_are_drawn_too(shapes, special):
    leaves = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    seen = drawn(strategies.like(leaves, special=special), 5)
    assert max(len(np.unique(v[0])) for v in seen) >= 5
    assert [leaf.shape for leaf in drawn(st.tuples(*map(strategies.arrays, shapes[:1])), 5)[0]] == shapes[:1]


def f(x, n):
    return {"rows": x.sum(0), "total": x.sum(), "one": x[:1, :1], "order": x.argsort(), "none": x[:0]}, n


@pytest.mark.parametrize(("dtype", "special"), [(np.float32, False), (jnp.bfloat16, True)])
def test_cotangents_are_like_the_output_and_tell_its_entries_apart(dtype, special):
    x = np.ones((3, 2), dtype)
    out = jax.eval_shape(f, x, 3)
    for dout, dn in drawn(strategies.cotangents(f, x, 3, special=special), 20):
        for name in ("rows", "total", "one", "none"):
            assert (dout[name].shape, dout[name].dtype) == (out[0][name].shape, out[0][name].dtype)
        assert len(set(dout["rows"].tolist())) > 1
        assert dout["total"].item() not in (0, 1)
        assert dout["one"].item() not in (0, 1)
        assert dout["order"].dtype == dn.dtype == jax.dtypes.float0
    _, pullback = jax.vjp(f, x, 3)
    pullback((dout, dn))  # and jax.vjp takes them


@pytest.mark.parametrize("kind", strategies.KINDS)
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_targets_are_of_their_kind(kind, dtype):
    seen = drawn(strategies.targets(kind, (5, 3), dtype))
    shape, of = ((5,), np.int32) if kind == "labels" else ((5, 3), dtype)
    assert {(y.shape, y.dtype) for y in seen} == {(shape, np.dtype(of))}
    every = {8 * float(entry) for y in seen for entry in y.flat}
    allowed = {"labels": {0, 8, 16}, "one-hot": {0, 8}, "values": set(range(-16, 17))}.get(kind, set(range(9)))
    assert every <= allowed
    assert allowed - every <= ({6, 7} if kind == "distributions" else set())  # 7/8 to one class is rare
    if kind in ("distributions", "one-hot"):
        assert all((y.astype(np.float64).sum(-1) == 1).all() for y in seen)


def test_labels_reach_a_thousand_classes():
    labels = np.concatenate([y.ravel() for y in drawn(strategies.targets("labels", (50, 1000)))])
    assert 0 <= labels.min() < 10
    assert 990 < labels.max() < 1000


@pytest.mark.parametrize("n_out", [2, 5])
def test_batches_have_an_m_of_their_own(n_out):
    seen = drawn(strategies.batches(3, n_out, "labels"))
    assert all(x.shape == (len(y), 3) for x, y in seen)
    ms = {len(y) for _, y in seen}
    assert 1 in ms
    assert 2 <= len(ms) <= 3
    assert ms & {3, n_out} == set()


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="Unknown kind of target 'logits'; use one of values, probabilities"):
        strategies.batches(3, 2, "logits")


@pytest.mark.parametrize("dtype", [np.float64, jnp.bfloat16], ids=["float64", "bfloat16"])
def test_networks_fit_together(dtype, x64):
    seen = drawn(strategies.networks(dtype=dtype), 40)
    programs = {(model, loss, *shapes_of((x, y))): (params, x, y) for model, loss, params, x, y in seen}
    assert len(programs) > 3
    for (model, loss, *_), (params, x, y) in programs.items():
        J, grads = jax.eval_shape(value_and_grad(model, loss), params, x, y)
        assert J.shape == ()
        assert jax.tree.map(lambda v: (v.shape, v.dtype), grads) == jax.tree.map(lambda v: (v.shape, v.dtype), params)
        assert isinstance(jax.tree.leaves(params)[0], np.ndarray)
        assert x.dtype == dtype
        assert (loss.output == "probabilities") == (model.layers[-1] == Activation("sigmoid"))


def test_networks_vary_in_all_their_parts():
    seen = drawn(strategies.networks(), 300)
    assert {loss for _, loss, *_ in seen} == {example.loss for example in LOSSES.values()}
    assert {sum(isinstance(layer, Dense) for layer in model.layers) for model, *_ in seen} == {1, 2, 3}
    hidden = {layer.name for model, *_ in seen for layer in model.layers[1:-1] if isinstance(layer, Activation)}
    assert hidden == {"tanh", "relu", "gelu"}


def test_networks_of_named_parts():
    seen = drawn(strategies.networks(["elu"], [(HalfSquaredError(), (1, 1), "values")]), 100)
    assert {(type(loss), len(model.layers)) for model, loss, *_ in seen} == {(HalfSquaredError, n) for n in (1, 3, 5)}
    assert {layer.name for model, *_ in seen for layer in model.layers[1::2]} == {"elu"}


def test_every_layer_and_loss_is_drawn_and_fits():
    seen, kinds = drawn(strategies.layers(), 200), {type(example.layer) for example in LAYERS.values()}
    for kind in kinds - {type(layer) for layer, *_ in seen}:  # of the rarer ones
        rare = lambda case, kind=kind: type(case[0]) is kind  # noqa: E731
        seen.append(
            find(strategies.layers(), rare, settings=settings(max_examples=5000, derandomize=True, database=None))
        )
    for layer, params, x in {layer: (layer, params, x) for layer, params, x in seen}.values():
        jax.eval_shape(layer.forward, params, x)
    for loss, z, y in (seen := drawn(strategies.losses(), 200)):
        assert loss.output == "values" or 0 < z.min() <= z.max() < 1
        assert np.shape(y) in (z.shape, z.shape[:-1])
    assert {loss for loss, *_ in seen} == {example.loss for example in LOSSES.values()}
    for loss, z, y in {loss: (loss, z, y) for loss, z, y in seen}.values():
        jax.eval_shape(lambda z, y, loss=loss: loss.forward(z, y)[0], z, y)


def test_a_layer_and_a_loss_of_ones_own():
    assert shapes_of(drawn(strategies.layers([(Dense(4, 6), (2, 4))]), 5)[0][1:]) == [(6, 4), (6,), (2, 4)]
    loss, z, y = drawn(strategies.losses([(SoftmaxCrossEntropy(), (2, 9), "labels")]), 5)[0]
    assert (loss, *shapes_of((z, y))) == (SoftmaxCrossEntropy(), (2, 9), (2,))


def documented():
    """The two patterns of the module's docstring."""
    blocks = re.findall(r"(?:^    .*\n\n?)+", strategies.__doc__, re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks]


def test_the_documented_patterns_have_five_lines():
    assert [len(re.findall(r"^.+$", block, re.MULTILINE)) for block in documented()] == [5, 5]


def close(hand, true):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), hand, true)


@functools.partial(jax.jit, static_argnums=(0, 1))
def pulled_back(forward, backward, *args):
    out, pullback, residuals = jax.vjp(forward, *args, has_aux=True)
    dout = jax.random.normal(jax.random.key(0), out.shape)
    return backward(residuals, dout), pullback(dout)


@functools.partial(jax.jit, static_argnums=(0, 1))
def gradients(cost, grad, *args):
    return grad(*args), jax.grad(cost)(*args)


@pytest.fixture
def by_autodiff(monkeypatch):
    """The verifier's two assertions, by jax.grad: what is tested here is that the drawn arguments find a fault."""
    monkeypatch.setattr(verify, "assert_vjp", lambda *args: close(*pulled_back(*args)), raising=False)
    monkeypatch.setattr(verify, "assert_gradient", lambda *args: close(*gradients(*args)), raising=False)


def forward(x, W, b):
    return x @ W.T + b[None], (x, W)


RULES = {
    "right": lambda x, W, dz: (dz @ W, dz.T @ x, dz.sum(0)),
    "mean for sum": lambda x, W, dz: (dz @ W, dz.T @ x, dz.mean(0)),
    "doubled above 1": lambda x, W, dz: (dz @ W, dz.T @ x * jnp.where(W > 1, 2, 1), dz.sum(0)),
}


def pattern(i, **names):
    """The i-th documented pattern's test, on these names."""
    exec(documented()[i], names)
    test = next(v for name, v in names.items() if name.startswith("test_"))
    return settings(max_examples=30, database=None, derandomize=True, phases=[Phase.generate])(test)


@pytest.mark.parametrize("name", RULES)
def test_the_five_lines_find_a_wrong_rule(name, by_autodiff):
    test = pattern(0, forward=forward, backward=lambda residuals, dz: RULES[name](*residuals, dz))
    if name == "right":
        test()
    else:
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            test()


@pytest.mark.parametrize("factor", [1, 2])
def test_the_pattern_for_a_cost_finds_a_wrong_gradient(factor, by_autodiff):
    def cost(W, x, y):
        return SoftmaxCrossEntropy().forward(x @ W.T, y)[0]

    def grad(W, x, y):
        _, residuals = SoftmaxCrossEntropy().forward(x @ W.T, y)
        return SoftmaxCrossEntropy().backward(residuals).T @ x * factor

    test = pattern(1, cost=cost, grad=grad, params=np.ones((3, 4), np.float32))
    if factor == 1:
        test()
    else:
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            test()


def test_what_is_wrong_beyond_3_is_found_among_special_values():
    told = failure(strategies.arrays((3, 2), special=True), lambda x: np.abs(x).max() < 3)
    assert "special: saturated" in told
    settings(database=None)(given(strategies.arrays((3, 2)))(lambda x: np.testing.assert_array_less(np.abs(x), 3)))()


def test_without_hypothesis_one_sentence_says_how_to_get_it():
    """And nothing else needs it."""
    code = """
import sys
sys.modules["hypothesis"] = None
import jaxnn.verify
print("here")
import jaxnn.verify.strategies
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout == "here\n"
    assert run.stderr.splitlines()[-1] == (
        "ImportError: jaxnn.verify.strategies draws with Hypothesis, which is not installed: "
        "pip install -e '.[test]' brings it."
    )


def test_drawing_starts_no_device():
    code = """
from hypothesis import given, settings
from jax._src import xla_bridge
from jaxnn.verify import strategies as s

@settings(max_examples=5, database=None)
@given(s.networks(special=True), s.layers(), s.losses(), s.operands("mk"), s.batches(3, 2))
def test(a, b, c, d, e):
    assert not xla_bridge.backends_are_initialized()

test()
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr


def test_all_that_is_public_is_there():
    assert all(hasattr(strategies, name) for name in strategies.__all__)
