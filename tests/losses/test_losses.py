"""Every loss by itself, with and without example weights: by hand = jax.grad = twin = differences; finite far out."""

import functools
import importlib
from typing import NamedTuple

import differences
import jax
import numpy as np
import pytest
import witnesses
from columns import to_columns
from jax import numpy as jnp

from jaxnn import BinaryCrossEntropy, HalfSquaredError, SigmoidCrossEntropy, SoftmaxCrossEntropy, catalogue
from jaxnn.examples import LOSSES, draw_y, draw_z

losses = pytest.mark.parametrize("name", LOSSES)
WITNESSES = {"twin": witnesses.loss_twin, "differences": differences.loss_differences}
weighted = pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])


def draw(name, weighted=False, dtype=np.float64):
    rng = np.random.default_rng(0)
    loss, shape, kind = LOSSES[name]
    z, y = draw_z(LOSSES[name], rng, dtype), draw_y(kind, rng, shape)
    return loss, z, y, rng.uniform(size=shape[:-1]) if weighted else None


class Computed(NamedTuple):
    J: jax.Array
    y_hat: jax.Array
    hand: jax.Array  # dz
    auto: jax.Array


@functools.cache
def computed(weighted, dtype):
    """{name: what a loss computes} of every loss, in one program, which compiles sooner than as many small ones."""
    cases = {name: draw(name, weighted, dtype) for name in LOSSES}

    def of_one(loss, z, y, w):
        hand, auto = witnesses.loss_by_hand(loss, z, y, w), witnesses.loss_autodiff(loss, z, y, w)
        return Computed(loss.forward(z, y, w)[0], loss.predict(z), hand, auto)

    of_all = jax.jit(lambda arrays: {name: of_one(LOSSES[name].loss, *arrays[name]) for name in LOSSES})
    return of_all({name: arrays for name, (_, *arrays) in cases.items()})


@functools.partial(jax.jit, static_argnums=0)
def cost_and_gradient(loss, z, y, w=None):
    J, residuals = loss.forward(z, y, w)
    return J, loss.backward(residuals)


@pytest.mark.parametrize("name", catalogue.names("losses"))
def test_every_loss_has_examples_and_a_twin(name):
    assert catalogue.module("losses", name).EXAMPLES
    twin = importlib.import_module(f"reference.losses.{name}")
    assert callable(twin.forward)
    assert callable(twin.gradient)


@losses
@weighted
def test_cost_is_the_twins(x64, name, weighted):
    loss, z, y, w = draw(name, weighted)
    twin, ours = witnesses.twin_losses.twin(loss), computed(weighted, np.float64)[name]
    assert float(ours.J) == pytest.approx(twin.forward(loss, to_columns(z), witnesses.target(z, y), w), rel=1e-14)
    np.testing.assert_allclose(to_columns(ours.y_hat), twin.predict(loss, to_columns(z)), rtol=1e-14)


@losses
@weighted
@pytest.mark.parametrize("witness", ["autodiff", *WITNESSES])
def test_backward_is_the_gradient_of_forward(x64, name, weighted, witness):
    ours = computed(weighted, np.float64)[name]
    true = ours.auto if witness == "autodiff" else WITNESSES[witness](*draw(name, weighted))
    assert witnesses.difference(ours.hand, true) < 1e-12


@pytest.mark.sample(lambda name, dtype: type(LOSSES[name].loss))
@losses
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_gradient_has_the_type_of_z_and_the_cost_float32(name, dtype):
    ours = computed(True, dtype)[name]
    assert (ours.J.dtype, ours.hand.dtype) == (jnp.float32, ours.auto.dtype)
    assert witnesses.difference(ours.hand, ours.auto) < 8 * jnp.finfo(dtype).eps


@pytest.mark.sample(lambda name: type(LOSSES[name].loss))
@losses
def test_equal_weights_are_no_weights_and_weight_zero_leaves_out(x64, name):
    loss, z, y, _ = draw(name)
    J = lambda *case: float(cost_and_gradient(loss, *case)[0])  # noqa: E731
    assert J(z, y, jnp.full(len(z), 7.0)) == pytest.approx(J(z, y), rel=1e-14)
    rest = np.delete(np.arange(len(z)), len(z) // 2)
    w = jnp.zeros(len(z)).at[rest].set(1.0)
    assert J(z, y, w) == pytest.approx(J(z[rest], y[rest]), rel=1e-14)


@pytest.mark.sample(lambda name: type(LOSSES[name].loss))
@losses
def test_all_leading_axes_are_examples(x64, name):
    loss, *arrays = draw(name, True)
    z, y, w = (np.concatenate([v, v[::-1]]) for v in arrays)
    fold = lambda v, n: v.reshape(2, -1, *v.shape[n:])  # noqa: E731
    J, dz = cost_and_gradient(loss, fold(z, 1), fold(y, 1), fold(w, 1))
    flat_J, flat_dz = cost_and_gradient(loss, z, y, w)
    assert float(J) == pytest.approx(float(flat_J), rel=1e-14)
    assert witnesses.difference(dz.reshape(z.shape), flat_dz) < 1e-14


SETTINGS = {"smoothing": 0.1, "z_loss": 0.2, "soft_cap": 2.0, "class_weights": (0.5, 2.0, 1.5)}


def draw_labels():
    rng = np.random.default_rng(0)
    return rng.normal(size=(6, 3)), np.array([0, 2, 1, 1, 0, 2]), rng.uniform(size=6)


def test_ignored_labels_count_in_neither_sum(x64):
    z, y, w = draw_labels()
    J, dz = cost_and_gradient(SoftmaxCrossEntropy(ignore=1, **SETTINGS), z, y, w)
    counts = y != 1
    of_rest, dz_of_rest = cost_and_gradient(SoftmaxCrossEntropy(**SETTINGS), z[counts], y[counts], w[counts])
    assert float(J) == pytest.approx(float(of_rest), rel=1e-14)
    np.testing.assert_allclose(dz[counts], dz_of_rest, rtol=1e-13)
    assert not np.any(dz[~counts])


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int8])
def test_where_every_label_is_ignored_the_cost_and_the_gradient_are_0(dtype):
    z, y, w = draw_labels()
    J, dz = cost_and_gradient(SoftmaxCrossEntropy(ignore=1, **SETTINGS), np.float32(z), np.ones_like(y, dtype), w)
    assert float(J) == 0
    assert not np.any(dz)


def test_class_weights_stand_in_both_sums(x64):
    z, y, w = draw_labels()
    c = np.array(SETTINGS["class_weights"])
    L = -np.log(np.exp(z) / np.exp(z).sum(1, keepdims=True))[range(6), y]
    J, dz = cost_and_gradient(SoftmaxCrossEntropy(class_weights=tuple(c)), z, y, w)
    assert float(J) == pytest.approx((w * c[y] * L).sum() / (w * c[y]).sum(), rel=1e-14)
    one_hot = cost_and_gradient(SoftmaxCrossEntropy(class_weights=tuple(c)), z, np.eye(3)[y], w)
    assert witnesses.difference(one_hot, (J, dz)) < 1e-14
    equal = cost_and_gradient(SoftmaxCrossEntropy(class_weights=(7.0,) * 3), z, y, w)
    assert witnesses.difference(equal, cost_and_gradient(SoftmaxCrossEntropy(), z, y, w)) < 1e-14


def test_labels_of_few_bits_and_many_classes(x64):
    z, y = np.random.default_rng(0).normal(size=(4, 300)), np.array([0, 255, 7, 156])  # uint8(-100) is 156
    for dtype, labels in ((np.uint8, y), (np.int8, y // 2)):
        ours = cost_and_gradient(SoftmaxCrossEntropy(ignore=-100), z, labels.astype(dtype))
        assert witnesses.difference(ours, cost_and_gradient(SoftmaxCrossEntropy(), z, labels)) < 1e-14


@pytest.mark.parametrize("z", [1e4, -1e4])
@pytest.mark.parametrize("y", [0, 1])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_logits_of_ten_thousand_are_exact(z, y, dtype):
    wrong = (z > 0) != y
    J, dz = cost_and_gradient(SigmoidCrossEntropy(), np.full((1, 1), z, dtype), np.full((1, 1), y))
    assert float(J) == (abs(float(np.array(z, dtype))) if wrong else 0)
    assert dz.item() == (np.sign(z) if wrong else 0)

    J, dz = cost_and_gradient(SoftmaxCrossEntropy(), np.array([[0, z]], dtype), np.array([y]))
    assert float(J) == (abs(float(np.array(z, dtype))) if wrong else 0)
    expected = np.sign(z) * np.array([[-1, 1]]) if wrong else np.zeros((1, 2))
    np.testing.assert_array_equal(np.asarray(dz, np.float32), expected)


def test_sigmoid_cross_entropy_keeps_its_digits_where_the_answer_is_nearly_right():
    J, residuals = SigmoidCrossEntropy().forward(jnp.array([[40.0]]), jnp.array([[1]]))
    tiny = np.exp(-40.0)  # 1 − σ(40) to 17 digits
    assert float(J) == pytest.approx(tiny, rel=1e-6)
    assert SigmoidCrossEntropy().backward(residuals).item() == pytest.approx(-tiny, rel=1e-6)


@pytest.mark.parametrize("y", [0, 1])
@pytest.mark.parametrize("p", [0.0, 1.0])
def test_certain_probabilities_are_finite_and_as_documented(p, y):
    epsilon = np.finfo(np.float32).eps
    case = BinaryCrossEntropy(), np.float32([[p]]), np.array([[y]])
    J, dp = cost_and_gradient(*case)
    assert float(J) == pytest.approx(0 if p == y else 1 - np.log(epsilon), rel=1e-6)
    assert dp.item() == pytest.approx((1 if y == 0 else -1) * (1 if p == y else 1 / epsilon), rel=1e-6)
    assert dp == witnesses.loss_autodiff(*case)


@losses
def test_targets_of_another_shape_are_refused(x64, name):
    loss, z, _, _ = draw(name)
    words = "give integer labels" if loss.takes == "labels" else "must be equal, one example a row"
    with pytest.raises(ValueError, match=words):
        loss.forward(z, jnp.zeros(len(z)))


def test_weights_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"weights w have shape \(3,\): they must be \(4,\)"):
        HalfSquaredError().forward(jnp.ones((4, 2)), jnp.ones((4, 2)), jnp.ones(3))
