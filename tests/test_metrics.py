import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxnn.examples import LOSSES
from jaxnn.metrics import METRICS, accuracy, binary_accuracy, r2, rmse


@pytest.mark.parametrize(
    ("y_hat", "y", "share"),
    [
        ([[0.5], [0.49], [0.9], [0.1]], [[1.0], [1.0], [1.0], [0.0]], 0.75),  # one output: ½ counts as 1
        ([[0.5], [0.49], [0.9], [0.1]], [True, True, True, False], 0.75),
        ([[0.1, 0.7, 0.2], [0.6, 0.3, 0.1]], [1, 2], 0.5),
        ([[0.1, 0.7, 0.2], [0.6, 0.3, 0.1]], [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], 0.5),
    ],
)
def test_accuracy_is_the_share_of_right_classes(y_hat, y, share):
    assert accuracy(jnp.array(y_hat), jnp.array(y)) == share


@pytest.mark.parametrize("m", [3, 7, 49, 209])
def test_all_right_is_exactly_one(m):
    for share in (accuracy, jax.jit(accuracy), binary_accuracy, jax.jit(binary_accuracy)):
        assert share(jnp.ones((m, 1)), jnp.ones((m, 1))) == 1


@pytest.mark.parametrize("m", [3, 7, 49, 209])
def test_none_right_is_exactly_zero(m):
    for share in (accuracy, jax.jit(accuracy), binary_accuracy, jax.jit(binary_accuracy)):
        assert share(jnp.ones((m, 1)), jnp.zeros((m, 1))) == 0


@pytest.mark.parametrize("unit", [1e30, 1e200, 1e307])
def test_large_values_have_the_metrics_of_small_ones(x64, unit):
    y_hat, y = np.random.default_rng(0).uniform(-1, 1, size=(2, 9, 3))
    assert float(rmse(unit * y_hat, unit * y)) == pytest.approx(unit * float(rmse(y_hat, y)))
    assert float(r2(unit * y_hat, unit * y)) == pytest.approx(float(r2(y_hat, y)))


def test_r2_of_a_constant_is_nan(x64):
    y = np.full((48, 1), 0.1)
    assert np.isnan(r2(y + 1, y))
    assert rmse(y, y) == 0


def test_rmse_and_r2_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    y_hat, y = rng.normal(size=(2, 9, 3))
    assert rmse(y_hat, y) == pytest.approx(metrics.mean_squared_error(y, y_hat) ** 0.5)
    assert r2(y_hat, y) == pytest.approx(metrics.r2_score(y, y_hat))
    assert r2(y, y) == 1
    assert r2(np.broadcast_to(y.mean(0), y.shape), y) == pytest.approx(0)


def test_every_loss_names_a_metric():
    assert {loss.metric for loss, *_ in LOSSES.values()} <= set(METRICS)


def test_binary_accuracy_takes_each_output_by_itself():
    y_hat = np.array([[0.9, 0.1, 0.5], [0.6, 0.9, 0.1]], np.float32)
    assert binary_accuracy(y_hat, np.array([[1, 0, 1], [1, 1, 0]])) == 1
    assert binary_accuracy(y_hat, np.array([[1, 1, 1], [0, 1, 0]])) == pytest.approx(4 / 6)


def test_r2_takes_all_leading_axes_as_examples(x64):
    rng = np.random.default_rng(0)
    y_hat, y = rng.normal(size=(2, 6, 4, 3))
    assert float(r2(y_hat, y)) == pytest.approx(float(r2(y_hat.reshape(24, 3), y.reshape(24, 3))), rel=1e-14)
