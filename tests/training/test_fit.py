"""fit: the words of the field, the twin's whole cost curves, the stops, and nothing lost."""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import jax
import numpy as np
import optax
import pytest
from columns import params_from_columns, params_to_columns, to_columns
from jax import numpy as jnp

from jaxnn import (
    L2,
    Activation,
    BinaryCrossEntropy,
    Chain,
    Dense,
    Embedding,
    HalfSquaredError,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
    cost,
    fit,
)
from jaxnn.examples import draw_params
from jaxnn.training.epoch import chunk_of
from jaxnn.training.feed import Batch, Feed, Position
from jaxnn.training.stops import Reason, Stops, stopped
from reference.train import gradient_descent

KEY = jax.random.key(0)
NET = Chain((Dense(3, 5), Activation("tanh"), Dense(5, 2)))
DEEP = Chain((Dense(3, 4), Activation("relu"), Dense(4, 3), Activation("silu"), Dense(3, 1)))


def regression(m=6, dtype=np.float64):
    rng = np.random.default_rng(0)
    return rng.normal(size=(m, 3)).astype(dtype), rng.normal(size=(m, 2)).astype(dtype)


@pytest.mark.parametrize(("batch_size", "iterations"), [(None, 1), (1, 6), (2, 3), (4, 2), (6, 1)])
def test_six_rows_give_this_many_iterations_an_epoch(batch_size, iterations):
    x, y = regression(dtype=np.float32)
    run = fit(NET, HalfSquaredError(), x, y, key=KEY, epochs=3, batch_size=batch_size)
    assert run.history.iteration_cost.shape == (3 * iterations,)
    assert run.history.cost.shape == (3,)


def seen(batch_size, key=KEY, **options):
    """The examples of each iteration: with L = ½(wx − y)², w = 0 and no learning, each cost tells its example."""
    m = 7
    x, y = np.zeros((m, 1), np.float32), np.sqrt(2 * 10.0 ** np.arange(m, dtype=np.float32))[:, None]
    run = fit(
        Chain((Dense(1, 1, "zeros"),)), HalfSquaredError(), x, y, key=key, optimizer=optax.sgd(0.0),
        epochs=2, batch_size=batch_size, **options,
    )  # fmt: skip
    return run.history.iteration_cost.reshape(2, -1)


def test_each_epoch_uses_each_example_once_in_a_new_order_by_key():
    first, second = np.log10(seen(1)).round().astype(int)
    assert sorted(first) == sorted(second) == list(range(7))
    assert list(first) != list(second)
    assert list(first) != list(range(7))
    np.testing.assert_array_equal(seen(1), seen(1))
    assert (seen(1, key=jax.random.key(1)) != seen(1)).any()


def test_the_last_short_batch_is_included_and_weighs_what_it_holds():
    in_file_order = seen(3, order=lambda epoch: np.arange(7))
    expected = [111 / 3, 111000 / 3, 1000000]
    np.testing.assert_allclose(in_file_order, [expected, expected], rtol=1e-5)
    x, y = np.zeros((7, 1), np.float32), np.sqrt(2 * 10.0 ** np.arange(7, dtype=np.float32))[:, None]
    run = fit(
        Chain((Dense(1, 1, "zeros"),)),
        HalfSquaredError(),
        x,
        y,
        key=KEY,
        optimizer=optax.sgd(0.0),
        epochs=1,
        batch_size=3,
    )
    assert run.history.cost[0] == pytest.approx(1111111 / 7, rel=1e-5)


def test_order_says_which_rows_and_gets_the_epoch():
    orders = [[6, 5, 4, 3, 2, 1, 0], [0, 2, 4, 6, 1, 3, 5]]
    np.testing.assert_array_equal(np.log10(seen(1, order=lambda epoch: orders[epoch])).round(), orders)


@pytest.mark.sample(lambda net, loss, penalty, weighted, batch_size: loss)
@pytest.mark.parametrize("batch_size", [None, 1, 4])
@pytest.mark.parametrize(
    ("net", "loss", "penalty", "weighted"),
    [
        (NET, HalfSquaredError(), None, False),
        (NET, SoftmaxCrossEntropy(), L2(0.1), True),
        (DEEP, SigmoidCrossEntropy(), None, True),
        (Chain((Dense(3, 1), Activation("sigmoid"))), BinaryCrossEntropy(), L2(0.01), False),
    ],
    ids=["regression", "softmax, L2, weights", "three layers, weights", "one neuron, L2"],
)  # fmt: skip
def test_whole_cost_curves_are_the_twins(x64, net, loss, penalty, weighted, batch_size):
    rng = np.random.default_rng(0)
    m, epochs = 10, 20
    params, x = draw_params(net, rng), rng.normal(size=(m, 3))
    K = net.apply(params, x).shape[1]
    y = rng.integers(0, 2, m) if isinstance(loss, SoftmaxCrossEntropy) else rng.integers(0, 2, (m, K)).astype(float)
    w = rng.uniform(0.5, 2, m) if weighted else None
    orders = [rng.permutation(m) for _ in range(epochs)]
    run = fit(
        net, loss, x, y, key=KEY, params=params, optimizer=optax.sgd(0.3), epochs=epochs, batch_size=batch_size,
        order=orders.__getitem__, weights=w, penalty=penalty,
    )  # fmt: skip
    twin_params, twin_costs = gradient_descent(
        net, loss, params_to_columns(net, params), to_columns(x), y if y.ndim == 1 else to_columns(y),
        learning_rate=0.3, epochs=epochs, batch_size=batch_size, order=orders.__getitem__, w=w, penalty=penalty,
    )  # fmt: skip
    np.testing.assert_allclose(run.history.iteration_cost, twin_costs, rtol=1e-10)
    for ours, twins in zip(
        jax.tree.leaves(run.params), jax.tree.leaves(params_from_columns(twin_params, params)), strict=True
    ):
        np.testing.assert_allclose(ours, twins, rtol=1e-9, atol=1e-12)


def test_the_same_key_gives_the_same_run_bit_for_bit_however_it_is_watched():
    x, y = regression(50, np.float32)

    def run(**options):
        return fit(NET, HalfSquaredError(), x, y, key=KEY, epochs=30, batch_size=8, **options)

    first = run()
    for other in (run(), run(on_epoch=lambda epoch, params: None), run(progress=lambda epoch, cost: None)):
        assert jax.tree.all(jax.tree.map(np.array_equal, first.params, other.params))
        np.testing.assert_array_equal(first.history.iteration_cost, other.history.iteration_cost)


def test_the_step_is_compiled_once_for_a_run_and_not_again_for_the_next():
    x, y = regression(40, np.float32)
    chunk_of.clear_cache()
    for key in (KEY, jax.random.key(1)):
        fit(NET, HalfSquaredError(), x, y, key=key, epochs=700, batch_size=4)
    assert chunk_of._cache_size() == 1


def test_the_callers_parameters_stay_usable():
    x, y = regression(dtype=np.float32)
    params = NET.init(KEY)
    before = jax.tree.map(np.array, params)
    run = fit(NET, HalfSquaredError(), x, y, key=KEY, params=params, epochs=2)
    assert jax.tree.all(jax.tree.map(np.array_equal, params, before))
    assert not jax.tree.all(jax.tree.map(np.array_equal, params, run.params))


def test_on_epoch_sees_the_parameters_after_each_epoch():
    x, y = regression(dtype=np.float32)
    kept = {}
    run = fit(
        NET, HalfSquaredError(), x, y, key=KEY, epochs=3, on_epoch=lambda epoch, params: kept.update({epoch: params})
    )
    assert list(kept) == [0, 1, 2]
    assert jax.tree.all(jax.tree.map(np.array_equal, kept[2], run.params))
    shorter = fit(NET, HalfSquaredError(), x, y, key=KEY, epochs=2)
    assert jax.tree.all(jax.tree.map(np.array_equal, kept[1], shorter.params))


@pytest.mark.sample(lambda name: name == "lbfgs")
@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "lion", "adagrad", "lbfgs"])
def test_any_optax_optimiser_lowers_the_cost(standard_promotion, name):
    x, y = regression(20, np.float32)
    optimizer = optax.lbfgs() if name == "lbfgs" else getattr(optax, name)(0.01)
    run = fit(NET, HalfSquaredError(), x, y, key=KEY, epochs=60, optimizer=optimizer)
    assert run.history.cost[-1] < 0.8 * run.history.cost[0]


def test_gradient_descent_with_momentum_is_optax_done_by_hand(x64):
    x, y = regression()
    params = draw_params(NET, np.random.default_rng(1))
    optimizer = optax.sgd(0.1, momentum=0.9)
    run = fit(NET, HalfSquaredError(), x, y, key=KEY, params=params, epochs=5, optimizer=optimizer)
    state = optimizer.init(params)
    for _ in range(5):
        updates, state = optimizer.update(jax.grad(cost(NET, HalfSquaredError()))(params, x, y), state, params)
        params = optax.apply_updates(params, updates)
    for ours, by_hand in zip(jax.tree.leaves(run.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(ours, by_hand, rtol=1e-12)


def test_stops_at_the_target_cost():
    x, y = regression(dtype=np.float32)
    run = fit(NET, HalfSquaredError(), x, y, key=KEY, epochs=5000, target_cost=0.1)
    assert run.stopped.reason == "target_cost"
    assert run.stopped.epoch == len(run.history.cost)
    assert run.history.cost[-1] <= 0.1 < run.history.cost[-2]


def test_stops_when_no_parameter_changes_by_more_than_the_tolerance():
    x, y = regression(dtype=np.float32)
    kept = []
    run = fit(
        NET,
        HalfSquaredError(),
        x,
        y,
        key=KEY,
        epochs=5000,
        tolerance=1e-3,
        on_epoch=lambda epoch, params: kept.append(params),
    )
    largest = [
        max(jax.tree.leaves(jax.tree.map(lambda a, b: float(abs(a - b).max()), after, before)))
        for before, after in pairwise(kept)
    ]
    assert run.stopped.reason == "tolerance"
    assert largest[-1] <= 1e-3 < min(largest[:-1])


def test_patience_returns_the_parameters_of_the_lowest_validation_cost():
    rng = np.random.default_rng(0)
    x, y = (
        rng.normal(size=(40, 3)).astype(np.float32),
        rng.normal(size=(40, 2)).astype(np.float32),
    )  # noise: overfits soon
    held_out = (x[20:], y[20:])
    run = fit(NET, HalfSquaredError(), x[:20], y[:20], key=KEY, epochs=5000, validation=held_out, patience=7)
    lowest = int(run.history.validation_cost.argmin())
    assert run.stopped.reason == "patience"
    assert len(run.history.cost) == lowest + 1 + 7
    assert float(cost(NET, HalfSquaredError())(run.params, *held_out)) == pytest.approx(
        run.history.validation_cost[lowest], rel=1e-5
    )


@pytest.mark.parametrize(
    ("weight", "rate", "where"),
    [
        (1.0, 1e30, "iteration 2, the cost was not finite"),
        (3e38, 0.1, "iteration 1, the output of layer 2, Dense(n_in=5, n_out=2, initializer='xavier') was not finite"),
        (1e15, 1e30, "iteration 1, W of layer 0, Dense(n_in=3, n_out=5, initializer='xavier') was not finite"),
    ],
)
def test_a_number_that_is_not_finite_stops_the_run_and_says_where(weight, rate, where):
    x, y = regression(20, np.float32)
    first, _, last = NET.init(KEY)
    params = (first, (), last._replace(W=jnp.full((2, 5), weight)))
    optimizer = optax.sgd(rate)
    run = fit(NET, HalfSquaredError(), x, y, key=KEY, params=params, epochs=50, batch_size=4, optimizer=optimizer)
    assert run.stopped.reason == "not_finite"
    assert f"In epoch 1, {where}" in run.stopped.message
    assert "smaller learning rate" in run.stopped.message
    assert all(jnp.isfinite(v).all() for v in jax.tree.leaves(run.params))
    assert len(run.history.cost) == run.stopped.epoch == 0


@dataclass(frozen=True)
class Noise:
    """out = x ⊙ mask with a mask drawn from the key: what dropout does."""

    def init(self, key, dtype=np.float32):
        return ()

    def forward(self, params, x, key=None):
        mask = jax.random.bernoulli(key, 0.5, x.shape).astype(x.dtype)
        return x * mask, mask

    def backward(self, mask, dout):
        return (), dout * mask

    def apply(self, params, x):
        return x


@pytest.mark.sample
@pytest.mark.parametrize("batch_size", [None, 4])
def test_the_last_finite_parameters_are_exact_with_layers_that_draw(standard_promotion, batch_size):
    x, y = regression(20, np.float32)
    net = Chain((Noise(), Dense(3, 2)))
    grows = optax.sgd(optax.schedules.piecewise_constant_schedule(0.1, {6 * (5 if batch_size else 1): 1e35}))
    options = {"key": KEY, "batch_size": batch_size}
    run = fit(net, HalfSquaredError(), x, y, epochs=50, optimizer=grows, **options)
    assert run.stopped.reason == "not_finite"
    assert run.stopped.epoch in (6, 7)
    largest = max(float(jnp.abs(v).max()) for v in jax.tree.leaves(run.params))
    assert 1e30 < largest < np.inf  # the huge step itself was finite
    if batch_size is None:  # then the last finite parameters are those of a whole epoch
        whole = fit(net, HalfSquaredError(), x, y, epochs=run.stopped.epoch, optimizer=grows, **options)
        for ours, theirs in zip(jax.tree.leaves(run.params), jax.tree.leaves(whole.params), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_patience_never_returns_parameters_that_are_not_finite():
    x, y = np.ones((1, 1), np.float32), np.full((1, 1), 100, np.float32)
    net = Chain((Dense(1, 1), Activation("tanh")))  # tanh(∞) = 1: the validation cost is finite, and lower than before
    options = {"epochs": 50, "optimizer": optax.sgd(1e38), "validation": (x, y), "patience": 5}
    run = fit(net, HalfSquaredError(), x, y, key=KEY, **options)
    assert run.stopped.reason == "not_finite"
    assert all(jnp.isfinite(v).all() for v in jax.tree.leaves(run.params))


def test_patience_in_float64_from_float32_parameters(x64):
    x, y = regression(20, np.float64)
    options = {"epochs": 5, "validation": (x, y), "patience": 3, "dtype": "float64"}
    run = fit(NET, HalfSquaredError(), x, y, key=KEY, params=NET.init(KEY), **options)
    assert {v.dtype for v in jax.tree.leaves(run.params)} == {np.dtype(np.float32)}
    assert run.history.validation_cost.dtype == np.float64


def test_a_mean_of_large_costs_is_finite():
    x, y = np.zeros((20, 1), np.float32), np.full((20, 1), 1e19, np.float32)
    run = fit(
        Chain((Dense(1, 1, "zeros"),)), HalfSquaredError(), x, y, key=KEY, batch_size=10, epochs=1,
        optimizer=optax.sgd(0.0),
    )  # fmt: skip
    np.testing.assert_allclose(run.history.cost, [5e37], rtol=1e-6)


def test_a_validation_cost_that_is_not_finite_stops_the_run_too():
    x, y = regression(20, np.float32)
    run = fit(NET, HalfSquaredError(), x, y, key=KEY, epochs=50, validation=(x, 1e30 * y))
    assert run.stopped.reason == "not_finite"
    assert "In epoch 1, the validation cost was not finite" in run.stopped.message


def test_a_batch_of_weights_that_are_all_zero_changes_nothing():
    x, y = regression(6, np.float32)
    w = np.array([1, 1, 1, 1, 1, 0], np.float32)
    in_order = {"key": KEY, "epochs": 3, "batch_size": 1}
    run = fit(NET, HalfSquaredError(), x, y, weights=w, order=lambda epoch: np.arange(6), **in_order)
    without = fit(NET, HalfSquaredError(), x[:5], y[:5], order=lambda epoch: np.arange(5), **in_order)
    assert run.stopped.reason == "epochs"
    assert jax.tree.all(jax.tree.map(np.array_equal, run.params, without.params))
    np.testing.assert_allclose(run.history.cost, without.history.cost, rtol=1e-6)


def test_progress_is_told_of_about_every_twentieth_part():
    x, y = regression(20, np.float32)
    told = []
    fit(NET, HalfSquaredError(), x, y, key=KEY, epochs=100, progress=lambda epoch, cost: told.append((epoch, cost)))
    assert {*range(5, 101, 5)} <= {epoch for epoch, _ in told}
    assert told[-1][1] < told[0][1]


def test_lists_are_taken_as_arrays():
    x, y = regression(6, np.float32)
    options = {"key": KEY, "epochs": 2}
    lists = fit(NET, HalfSquaredError(), x.tolist(), y.tolist(), validation=(x.tolist(), y.tolist()), **options)
    np.testing.assert_array_equal(lists.history.cost, fit(NET, HalfSquaredError(), x, y, **options).history.cost)


def test_bfloat16_inputs_and_parameters_are_taken():
    x, y = regression(20, np.float32)
    params = NET.init(KEY, jnp.bfloat16)
    run = fit(NET, HalfSquaredError(), jnp.asarray(x, jnp.bfloat16), y, key=KEY, params=params, epochs=30)
    assert {v.dtype.name for v in jax.tree.leaves(run.params)} == {"float32"}
    assert run.history.cost[-1] < run.history.cost[0]


def test_extra_leading_axes_are_examples_in_training_too(x64):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 4, 3)), rng.normal(size=(6, 4, 2))
    params = draw_params(NET, rng)
    options = {"key": KEY, "params": params, "epochs": 3}
    folded = fit(NET, HalfSquaredError(), x, y, validation=(x, y), **options)
    flat = x.reshape(24, 3), y.reshape(24, 2)
    unfolded = fit(NET, HalfSquaredError(), *flat, validation=flat, **options)
    np.testing.assert_allclose(folded.history.cost, unfolded.history.cost, rtol=1e-12)
    np.testing.assert_allclose(folded.history.validation_metric, unfolded.history.validation_metric, rtol=1e-12)


def test_what_was_learned_before_it_stopped_being_finite_is_kept(standard_promotion):
    x, y = regression(20, np.float32)
    grows = optax.sgd(optax.schedules.piecewise_constant_schedule(0.1, {9: 1e35}))
    run = fit(NET, HalfSquaredError(), x, y, key=KEY, epochs=50, optimizer=grows)
    before = fit(NET, HalfSquaredError(), x, y, key=KEY, epochs=10, optimizer=optax.sgd(0.1))
    assert (run.stopped.reason, run.stopped.epoch) == ("not_finite", 10)
    np.testing.assert_allclose(run.history.cost, before.history.cost, rtol=1e-6)


def test_history_counts_dead_relu_units_and_saturated_tanh_units():
    x, y = regression(30, np.float32)
    net = Chain((Dense(3, 4), Activation("relu"), Dense(4, 5), Activation("tanh"), Dense(5, 2)))
    first, _, second, _, last = net.init(KEY)
    first = first._replace(b=jnp.array([-100.0, -100.0, 0.0, 0.0]))  # two units that no example switches on
    second = second._replace(W=second.W / 100, b=jnp.array([3.0, 1.0, 0.0, -1.0, -3.0]))  # tanh′(3) = 0.01
    params = (first, (), second, (), last)
    run = fit(net, HalfSquaredError(), x, y, key=KEY, params=params, epochs=2, batch_size=7, optimizer=optax.sgd(0.01))
    np.testing.assert_array_equal(run.history.dead[:, 1], [0.5, 0.5])
    np.testing.assert_allclose(run.history.saturated[:, 3], [0.4, 0.4])
    assert np.isnan(run.history.dead[:, [0, 2, 3, 4]]).all()
    assert np.isnan(run.history.saturated[:, [0, 1, 2, 4]]).all()


def test_history_has_the_gradient_norm_of_each_layer():
    x, y = regression(dtype=np.float32)
    params = NET.init(KEY)
    run = fit(NET, HalfSquaredError(), x, y, key=KEY, params=params, epochs=1)
    grads = jax.grad(cost(NET, HalfSquaredError()))(params, x, y)
    expected = [float(optax.tree.norm(dv)) if dv else np.nan for dv in grads]
    np.testing.assert_allclose(run.history.gradient_norm[0], expected, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "kept_in"), [("bfloat16", "float32"), ("float32", "float32")])
def test_parameters_stay_in_float32_whatever_is_computed_in(dtype, kept_in):
    x, y = regression(20, np.float32)
    run = fit(NET, HalfSquaredError(), x, y, key=KEY, epochs=50, dtype=dtype)
    assert {v.dtype.name for v in jax.tree.leaves(run.params)} == {kept_in}
    assert run.history.iteration_cost.dtype == np.float32
    assert run.history.cost[-1] < 0.9 * run.history.cost[0]


def test_float64_is_float64_throughout(x64):
    run = fit(NET, HalfSquaredError(), *regression(), key=KEY, epochs=2)
    assert {v.dtype.name for v in jax.tree.leaves(run.params)} == {"float64"}
    assert run.history.cost.dtype == np.float64


def test_a_single_layer_is_a_model_too(x64):
    x, y = regression()
    alone, chained = Dense(3, 2), Chain((Dense(3, 2),))
    params = draw_params(alone, np.random.default_rng(0))
    one = fit(alone, HalfSquaredError(), x, y, key=KEY, params=params, epochs=3)
    other = fit(chained, HalfSquaredError(), x, y, key=KEY, params=(params,), epochs=3)
    np.testing.assert_array_equal(one.history.cost, other.history.cost)


X, Y = regression(dtype=np.float32)


@pytest.mark.parametrize(
    ("x", "y", "options", "words"),
    [
        (X, Y[:5], {}, "x has 6 rows and y has 5"),
        (X[:0], Y[:0], {}, "no rows"),
        (np.where(X[2, 1] == X, np.nan, X), Y, {}, "column 1 of x is missing, NaN or infinite in 1 of 6 rows"),
        (X, np.where(Y[0, 0] == Y, np.inf, Y), {}, "column 0 of y is missing, NaN or infinite in 1 of 6 rows"),
        (X[:, :2], Y, {}, "was given x of shape"),
        (X, Y[:, :1], {}, r"y has shape \(6, 1\), the output z has \(6, 2\)"),
        (X, Y, {"epochs": 0}, "epochs is 0: it must be 1 or more"),
        (X, Y, {"batch_size": 0}, "batch_size is 0"),
        (X, Y, {"epochs": 10**10}, "epochs is 10000000000: it must be 1 or more, and below 2³¹"),
        (X, Y, {"patience": 0, "validation": (X, Y)}, "patience is 0: it must be 1 or more"),
        (X, Y, {"tolerance": -1.0}, "tolerance is -1.0: it must be a finite number, 0 or more."),
        (X, Y, {"validation": (X * np.inf, Y)}, "column 0 of validation x is missing, NaN or infinite"),
        (X, Y, {"weights": [1, 1, 1, 1, 1, np.inf]}, "weights must be 6 finite numbers"),
        (X, Y, {"order": lambda epoch: [0.5, 1, 2, 3, 4, 5]}, "must give 6 row numbers"),
        (X, Y, {"patience": 3}, r"give validation=\(x, y\)"),
        (X, Y, {"weights": [1, 1, 1]}, "weights must be 6 finite numbers"),
        (X, Y, {"weights": [1, 1, 1, 1, 1, -1]}, "none negative"),
        (X, Y, {"order": lambda epoch: [0, 1, 2]}, "must give 6 row numbers from 0 to 5"),
        (X, Y, {"dtype": "float64"}, "jax.enable_x64"),
    ],
)
def test_bad_input_is_one_clear_sentence(x, y, options, words):
    with pytest.raises(ValueError, match=words):
        fit(NET, HalfSquaredError(), x, y, **{"key": KEY, "epochs": 1} | options)


@pytest.mark.parametrize(
    ("finite", "cost", "change", "since", "reason"),
    [
        (True, 0.6, 0.2, 2, "epochs"),
        (False, 0.5, 0.1, 3, "not_finite"),
        (True, 0.5, 0.1, 3, "target_cost"),
        (True, 0.6, 0.1, 3, "tolerance"),
        (True, 0.6, 0.2, 3, "patience"),
    ],
)
def test_of_several_reasons_to_stop_the_first_counts(finite, cost, change, since, reason):
    stops = Stops(tolerance=0.1, patience=3, target_cost=0.5)
    number = stops.reason(jnp.array(finite), cost, change, since)
    assert stopped(Reason(int(number)), Position(7, 0), stops, "").reason == reason


def test_labels_out_of_range_are_named():
    wrong, right = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 1, 1, 0, 1, 0])
    with pytest.raises(ValueError, match="The labels go from 0 to 2, but the model has 2 outputs"):
        fit(NET, SoftmaxCrossEntropy(), X, wrong, key=KEY, epochs=1)
    with pytest.raises(ValueError, match="The validation labels go from 0 to 2"):
        fit(NET, SoftmaxCrossEntropy(), X, right, key=KEY, epochs=1, validation=(X, wrong))


def test_a_model_without_parameters_is_refused():
    with pytest.raises(ValueError, match="nothing to learn"):
        fit(Activation("tanh"), HalfSquaredError(), X, X, key=KEY, epochs=1)


def test_a_batch_larger_than_the_data_is_the_data_and_says_so():
    with pytest.warns(UserWarning, match="batch_size 64 is more than the 6 rows") as said:
        run = fit(NET, HalfSquaredError(), X, Y, key=KEY, epochs=2, batch_size=64)
    assert len(run.history.iteration_cost) == 2
    assert said[0].filename == __file__


def test_ctrl_c_keeps_what_was_learned():
    def interrupt(epoch, params):
        if epoch == 4:
            raise KeyboardInterrupt

    run = fit(NET, HalfSquaredError(), X, Y, key=KEY, epochs=1000, on_epoch=interrupt)
    five = fit(NET, HalfSquaredError(), X, Y, key=KEY, epochs=5)
    assert (run.stopped.reason, run.stopped.epoch) == ("interrupted", 5)
    assert len(run.history.cost) == 5
    assert jax.tree.all(jax.tree.map(np.array_equal, run.params, five.params))


def test_ctrl_c_before_anything_was_learned_returns_the_start():
    def interrupt(epoch):
        raise KeyboardInterrupt

    params = NET.init(KEY)
    run = fit(NET, HalfSquaredError(), X, Y, key=KEY, params=params, epochs=1000, order=interrupt)
    assert (run.stopped.reason, run.stopped.epoch) == ("interrupted", 0)
    assert run.history.gradient_norm.shape == (0, 3)
    assert jax.tree.all(jax.tree.map(np.array_equal, run.params, params))


@pytest.mark.parametrize("feed", [Feed.ROW_BY_ROW, Feed.GATHERED])
def test_rows_are_the_same_however_they_are_taken(feed):
    x, index = np.arange(42.0).reshape(7, 3, 2), np.array([6, 0, 3, 3])
    take = partial(feed.batch, jax.tree.map(jnp.asarray, Batch(x, np.arange(7), None)))
    jax.tree.map(np.testing.assert_array_equal, jax.jit(take)(index), Batch(x[index], index, None))
    assert ("scan" in str(jax.make_jaxpr(take)(index))) == (feed == Feed.ROW_BY_ROW)


def test_a_mesh_splits_the_rows_and_changes_nothing_but_rounding():
    program = """
import jax, numpy as np
from jax.sharding import AxisType
from jaxnn import Activation, Chain, Dense, HalfSquaredError, fit
net = Chain((Dense(3, 5), Activation("tanh"), Dense(5, 2)))
rng = np.random.default_rng(0)
x, y = rng.normal(size=(8, 3)).astype(np.float32), rng.normal(size=(8, 2)).astype(np.float32)
meshes = [jax.make_mesh((4,), ("data",), axis_types=(kind,)) for kind in (AxisType.Auto, AxisType.Explicit)]
fits = lambda mesh: fit(net, HalfSquaredError(), x, y, key=jax.random.key(0), epochs=5, batch_size=4, mesh=mesh)
alone, *runs = map(fits, (None, *meshes))
for run in runs:
    np.testing.assert_allclose(alone.history.cost, run.history.cost, rtol=1e-5)
    assert len(jax.tree.leaves(run.params)[0].devices()) == 4
try:
    fit(net, HalfSquaredError(), x[:7], y[:7], key=jax.random.key(0), epochs=1, mesh=meshes[0])
except ValueError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "7 rows do not divide over 4 devices" in run.stdout


@dataclass(frozen=True)
class Product:
    """out = a ⊙ b of x = (a, b)."""

    def init(self, key, dtype=jnp.float32):
        return ()

    def forward(self, params, x, key=None):
        a, b = x
        return a * b, x

    def backward(self, residuals, dout):
        a, b = residuals
        return (), (dout * b, dout * a)

    def apply(self, params, x):
        return self.forward(params, x)[0]


@pytest.mark.parametrize("settings", [{}, {"batch_size": 4}, {"batch_size": 4, "mesh": True}], ids=str)
def test_x_may_be_several_arrays(settings):
    """As if the model had multiplied them beforehand."""
    rng = np.random.default_rng(0)
    a, b, y = (np.float32(rng.normal(size=shape)) for shape in ((12, 3), (12, 3), (12, 2)))
    mesh = {"mesh": jax.make_mesh((1,), ("data",))} if "mesh" in settings else {}
    settings = {"key": jax.random.key(0), "epochs": 3, **settings, **mesh}
    one = fit(Chain((Dense(3, 2),)), HalfSquaredError(), a * b, y, validation=(a * b, y), **settings)
    params = ((), Chain((Dense(3, 2),)).init(jax.random.split(jax.random.key(0))[0])[0])
    several = fit(
        Chain((Product(), Dense(3, 2))),
        HalfSquaredError(),
        (a, b),
        y,
        validation=((a, b), y),
        params=params,
        **settings,
    )
    np.testing.assert_allclose(several.params[1].W, one.params[0].W, rtol=1e-5)
    np.testing.assert_allclose(several.history.validation_cost, one.history.validation_cost, rtol=1e-5)


class Pair(NamedTuple):
    a: np.ndarray
    b: np.ndarray


def test_the_arrays_of_x_may_have_names():
    a, y = np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)
    model, x = Chain((Product(), Dense(2, 1))), Pair(a, a)
    by_name = fit(model, HalfSquaredError(), x, y, validation=(x, y), key=jax.random.key(0), epochs=2)
    assert np.isfinite(by_name.history.validation_cost).all()


A = np.ones((4, 2), np.float32)


@pytest.mark.parametrize(
    ("x", "more", "words"),
    [
        ((A, A[:3]), {}, r"array 1 of x has 3 rows and y has 4"),
        ((A, None), {}, "with a NoneType among them: make it an array"),
        ((A, A.tolist()), {}, "with a list among them"),
        ((A, A), {"validation": (A, A)}, "x and validation x must be alike"),
        ((), {}, "The data have no rows"),
    ],
)
def test_odd_arrays_of_x_are_refused(x, more, words):
    model = Chain((First(), Dense(2, 2)))
    with pytest.raises(ValueError, match=words):
        fit(model, HalfSquaredError(), x, A, key=jax.random.key(0), epochs=1, **more)


@dataclass(frozen=True)
class First(Product):
    """out = a, where x is a or (a, b)."""

    def forward(self, params, x, key=None):
        return x[0] if isinstance(x, tuple) else x, ()


def test_words_that_no_embedding_has_are_refused():
    model = Chain((Embedding(3, 2), Dense(2, 2)))
    with pytest.raises(ValueError, match=r"x goes from 0 to 3, and Embedding\(n=3, width=2\) takes 0 to 2"):
        fit(model, HalfSquaredError(), np.arange(4), A, key=jax.random.key(0), epochs=1)
