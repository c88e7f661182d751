"""Whole networks, drawn by Hypothesis: gradient by hand = jax.value_and_grad of the same cost = twin = differences."""

from itertools import pairwise
from types import SimpleNamespace

import differences
import jax
import numpy as np
import pytest
import witnesses
from columns import params_to_columns, to_columns
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import numpy as jnp

import reference.penalty
from jaxnn import L2, Activation, Chain, Dense, HalfSquaredError, SoftmaxCrossEntropy, cost, value_and_grad
from jaxnn.catalogue import names
from jaxnn.examples import LOSSES, draw_params, draw_y
from jaxnn.verify.tracing.floats import Approximation
from reference.layers import twin


@st.composite
def networks(draw, outputs, ending=()):
    """Depth 1 to 4; few widths, so that XLA compiles little."""
    depth = draw(st.integers(1, 4))
    sizes = [*(draw(st.sampled_from([1, 2, 3, 5])) for _ in range(depth)), outputs]
    layers = []
    for n_in, n_out in pairwise(sizes):
        layers += [Dense(n_in, n_out, draw(st.sampled_from(names("initializers"))))]
        layers += [Activation(draw(st.sampled_from(names("activations"))))]
    return Chain((*layers[:-1], *ending))


@st.composite
def cases(draw, loss_name, dtype=np.float64):
    """(model, loss, params, x, y, w, penalty): parameters as an initialiser leaves them, or random throughout."""
    loss, (_, outputs), kind = LOSSES[loss_name]
    model = draw(networks(outputs, [Activation("sigmoid")] if loss.output == "probabilities" else []))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    m = draw(st.integers(1, 9))
    x = jnp.asarray(rng.normal(size=(m, model.layers[0].n_in)), dtype)
    y = draw_y(kind, rng, (m, outputs))
    w = draw(st.sampled_from([None, rng.uniform(0.1, 2, m)]))
    penalty = draw(st.sampled_from([None, L2(0.3)]))
    if draw(st.booleans()):
        params = model.init(jax.random.key(rng.integers(2**32)), dtype)
    else:  # half as large as N(0, 1): few sigmoids saturate
        params = jax.tree.map(lambda v: v / 2, draw_params(model, rng, dtype))
    return model, loss, params, x, y, w, penalty


def pre_activations(model, params, x):
    """(rule, its z) of each activation layer, by the twin: NumPy compiles nothing."""
    X = to_columns(x)
    for layer, p in zip(model.layers, params_to_columns(model, params), strict=True):
        if isinstance(layer, Activation):
            yield layer.rule, X
        X = twin(layer).forward(layer, p, X)


def by_hand_and_by_autodiff(model, loss, penalty):
    """Both as one function of (params, x, y, w)."""
    hand, auto = value_and_grad(model, loss, penalty), jax.value_and_grad(cost(model, loss, penalty))
    return lambda *case: (hand(*case), auto(*case))


def evaluated(f, *args):
    """f(*args) by NumPy: XLA would compile each network that is drawn."""
    closed, shapes = jax.make_jaxpr(f, return_shape=True)(*args)
    values = Approximation()(closed, [np.asarray(v) for v in jax.tree.leaves(args)])
    leaves, tree = jax.tree.flatten(shapes)
    return tree.unflatten(np.asarray(v, leaf.dtype) for v, leaf in zip(values, leaves, strict=True))


def on_a_kink(model, params, x):
    """Whether an activation sits at one of its kinks, where differences see neither side."""
    return any(np.abs(z - kink).min() < 1e-9 for rule, z in pre_activations(model, params, x) for kink in rule.kinks)


def saturated(model, params, x):
    """Whether a sigmoid, a tanh or the like is so flat that 1 − a loses digits: there float64 itself, in each witness,
    is short of 12 digits of the true gradient."""
    return any(rule.steepest and np.abs(z).max() > 4 for rule, z in pre_activations(model, params, x))


@pytest.mark.sample(lambda loss_name: type(LOSSES[loss_name].loss))
@pytest.mark.parametrize("loss_name", LOSSES)
@settings(max_examples=5)
@given(data=st.data())
def test_gradient_is_the_true_one(loss_name, data):
    with jax.enable_x64(True):
        model, loss, params, x, y, w, penalty = data.draw(cases(loss_name))
        assume(not saturated(model, params, x))
        hand, auto = evaluated(by_hand_and_by_autodiff(model, loss, penalty), params, x, y, w)
        assert jax.tree.map(jnp.result_type, hand) == jax.tree.map(jnp.result_type, auto)
        assert witnesses.difference(hand, auto) < 1e-12
        assert witnesses.difference(hand, witnesses.net_twin(model, loss, params, x, y, w, penalty)) < 1e-12
        if not on_a_kink(model, params, x):
            rng = np.random.default_rng(0)
            direction = jax.tree.map(lambda v: rng.normal(size=v.shape), params)
            terms = jax.tree.map(lambda dv, u: np.asarray(dv * u), hand[1], direction)
            along = sum(t.sum() for t in jax.tree.leaves(terms))
            size = sum(np.abs(t).sum() for t in jax.tree.leaves(terms))
            slope = differences.net_slope(model, loss, params, direction, x, y, w, penalty)
            assert abs(along - slope) <= 1e-12 * size


@pytest.mark.sample
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@settings(max_examples=5)
@given(data=st.data())
def test_gradient_in_lower_precision_has_autodiffs_types_and_digits(dtype, data):
    model, loss, params, x, y, w, penalty = data.draw(cases(data.draw(st.sampled_from(list(LOSSES))), dtype))
    hand, auto = jax.jit(by_hand_and_by_autodiff(model, loss, penalty))(params, x, y, w)
    assert jax.tree.map(jnp.result_type, hand) == jax.tree.map(jnp.result_type, auto)
    largest = max(float(jnp.abs(dv).max()) for dv in jax.tree.leaves(auto))
    for dv, true in zip(jax.tree.leaves(hand), jax.tree.leaves(auto), strict=True):
        assert float(jnp.abs(dv - true).max()) <= 8 * float(jnp.finfo(dtype).eps) * largest


NET = Chain((Dense(3, 4), Activation("tanh"), Dense(4, 2)))


def draw(rng, m=6):
    return draw_params(NET, rng), jnp.asarray(rng.normal(size=(m, 3))), jnp.asarray(rng.normal(size=(m, 2)))


def test_a_network_vmaps_over_parameter_sets_and_runs_under_scan(x64):
    rng = np.random.default_rng(0)
    _, x, y = draw(rng)
    sets = [draw_params(NET, rng) for _ in range(3)]
    stacked = jax.tree.map(lambda *v: jnp.stack(v), *sets)
    by_hand = value_and_grad(NET, HalfSquaredError())
    one_by_one = jax.tree.map(lambda *v: jnp.stack(v), *(by_hand(params, x, y) for params in sets))
    assert witnesses.difference(jax.jit(jax.vmap(by_hand, (0, None, None)))(stacked, x, y), one_by_one) < 1e-14
    _, scanned = jax.lax.scan(lambda _, params: (None, by_hand(params, x, y)), None, stacked)
    assert witnesses.difference(scanned, one_by_one) < 1e-14


def test_integer_inputs_and_numpy_arrays_are_taken_as_they_are():
    params = jax.tree.map(np.asarray, NET.init(jax.random.key(0)))
    x, y = np.ones((2, 3), np.float32), np.array([0, 1])
    J, grads = value_and_grad(NET, SoftmaxCrossEntropy())(params, x, y)
    assert isinstance(J, jax.Array)
    assert all(isinstance(dv, jax.Array) for dv in jax.tree.leaves(grads))


def test_aux_holds_what_forward_saved(x64):
    params, x, y = draw(np.random.default_rng(0))
    (J, residuals), grads = value_and_grad(NET, HalfSquaredError(), has_aux=True)(params, x, y)
    expected = value_and_grad(NET, HalfSquaredError())(params, x, y)
    assert witnesses.difference((J, grads), expected) == 0
    np.testing.assert_array_equal(residuals[0][-1], x)


def test_second_derivatives_go_through_the_backward_pass(x64):
    params, x, y = draw(np.random.default_rng(0))
    along = draw_params(NET, np.random.default_rng(1))
    product = lambda gradient: jax.jvp(gradient, (params,), (along,))[1]  # noqa: E731
    hand = product(lambda params: value_and_grad(NET, HalfSquaredError())(params, x, y)[1])
    auto = product(jax.grad(lambda params: cost(NET, HalfSquaredError())(params, x, y)))
    assert witnesses.difference(hand, auto) < 1e-12


def test_l2_names_what_it_needs():
    with pytest.raises(ValueError, match="penalises leaves named W"):
        L2(0.1).forward({"kernel": jnp.ones(3)})
    with pytest.raises(ValueError, match="must be 0 or more"):
        L2(-1.0)


def test_l2_finds_leaves_named_w_in_any_tree():
    params = {"first": {"W": jnp.array([1.0, 2.0]), "b": jnp.array([5.0])}, "W": jnp.array([3.0])}
    R, residuals = L2(0.5).forward(params)
    assert float(R) == 0.25 * (1 + 4 + 9)
    grads = L2(0.5).backward(residuals)
    assert jax.tree.map(lambda v: v.tolist(), grads) == {"first": {"W": [0.5, 1.0], "b": [0.0]}, "W": [1.5]}


def test_l2_and_its_twin_find_numbered_weights(monkeypatch):
    """W1, W2, … are weights, as W is; what only begins with W is none."""
    two = SimpleNamespace(names=lambda model: ("W1", "W02", "b1", "Wide"))
    monkeypatch.setattr(reference.penalty, "twin", lambda model: two)
    values = np.array([[1.0]]), np.array([[2.0]]), np.array([[7.0]]), np.array([[9.0]])
    params = dict(zip(two.names(None), map(jnp.asarray, values), strict=True))
    R, residuals = L2(0.5).forward(params)
    grads = L2(0.5).backward(residuals)
    assert float(R) == 0.25 * (1 + 4) == reference.penalty.forward(L2(0.5), None, values)
    assert {name: v.item() for name, v in grads.items()} == {"W1": 0.5, "W02": 1, "b1": 0, "Wide": 0}
    assert [v.item() for v in reference.penalty.gradient(L2(0.5), None, values)] == [0.5, 1, 0, 0]


@pytest.mark.parametrize("initializer", ["zeros", "equal"])
def test_symmetric_starts_get_equal_gradients_in_every_hidden_unit(initializer):
    net = Chain((Dense(3, 4, initializer), Activation("tanh"), Dense(4, 2, initializer)))
    x, y = jax.random.normal(jax.random.key(0), (6, 3)), jnp.array([0, 1, 0, 1, 1, 0])
    _, (first, _, _) = value_and_grad(net, SoftmaxCrossEntropy())(net.init(jax.random.key(1)), x, y)
    np.testing.assert_allclose(first.W, jnp.broadcast_to(first.W[:1], first.W.shape), rtol=1e-6)


SPREAD = {
    "small": 0.01,
    "xavier": (2 / 500) ** 0.5,
    "glorot": (2 / 500) ** 0.5,
    "he": (2 / 300) ** 0.5,
    "lecun": (1 / 300) ** 0.5,
}


@pytest.mark.parametrize("name", SPREAD)
def test_initial_weights_have_the_spread_of_their_source(name):
    W, b = Dense(300, 200, name).init(jax.random.key(0))
    assert float(W.std()) == pytest.approx(SPREAD[name], rel=0.02)
    assert abs(float(W.mean())) < 0.02 * SPREAD[name]
    assert not b.any()
