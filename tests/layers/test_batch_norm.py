"""BatchNorm: normalises by the batch while it trains, and by what the batches left behind in prediction."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxnn import BatchNorm, Chain, Dense, HalfSquaredError, fit
from jaxnn.protocols import moved

X = np.random.default_rng(0).normal(2, 3, (8, 2)).astype(np.float32)


def test_running_statistics_are_mixed_from_those_of_the_batches():
    layer = BatchNorm(2, momentum=0.75)
    params = layer.init(jax.random.key(0))
    for part in np.split(X, 2):
        params = moved(layer, params, layer.forward(params, part)[1])
    first, second = np.split(X, 2)
    mean, var = params.running.values
    np.testing.assert_allclose(mean, 0.75 * 0.25 * first.mean(0) + 0.25 * second.mean(0), rtol=1e-5)
    np.testing.assert_allclose(var, 0.75**2 + 0.75 * 0.25 * first.var(0) + 0.25 * second.var(0), rtol=1e-5)


def test_prediction_is_training_where_the_running_statistics_are_those_of_the_batch():
    layer = BatchNorm(2, momentum=0)
    params = layer.init(jax.random.key(0))._replace(gamma=jnp.array([2.0, -1.0]), beta=jnp.array([0.5, 3.0]))
    out, residuals = layer.forward(params, X)
    assert abs(layer.apply(params, X) - out).max() > 1
    np.testing.assert_allclose(layer.apply(moved(layer, params, residuals), X), out, atol=1e-5)


def test_statistics_of_bfloat16_are_kept_in_float32():
    layer = BatchNorm(2)
    params = layer.init(jax.random.key(0), jnp.bfloat16)
    out, residuals = layer.forward(params, jnp.asarray(X, jnp.bfloat16))
    assert out.dtype == layer.apply(params, jnp.asarray(X, jnp.bfloat16)).dtype == jnp.bfloat16
    assert {v.dtype for v in jax.tree.leaves(moved(layer, params, residuals).running)} == {jnp.dtype(jnp.float32)}


def test_a_network_with_it_learns():
    net, y = Chain((Dense(2, 4), BatchNorm(4), Dense(4, 1))), X[:, :1] * X[:, 1:]
    run = fit(net, HalfSquaredError(), X, y, key=jax.random.key(0), epochs=20)
    assert run.history.cost[-1] < run.history.cost[0]
    assert run.params[1].running.values.mean.any()


@pytest.mark.parametrize("settings", [{"n": 0}, {"n": 2, "momentum": 1.5}, {"n": 2, "epsilon": 0.0}])
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ValueError, match="n must be 1 or more, momentum from 0 to 1, and epsilon a positive number"):
        BatchNorm(**settings)
