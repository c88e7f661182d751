"""A loss of z = h Wᵀ that is not multiplied out: the same cost, the gradient of h and of W, and nowhere z itself."""

from functools import partial

import jax
import numpy as np
import pytest
import witnesses
from jax import numpy as jnp

from jaxnn import (
    Chain,
    Dense,
    Embedding,
    Focal,
    HalfSquaredError,
    Hinge,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
    Unembedding,
    fit,
    value_and_grad,
)
from jaxnn.factored import Factored
from jaxnn.metrics import accuracy
from jaxnn.training.epoch import metric_of

SETTINGS = [{}, {"chunk": 2}, {"ignore": 1, "smoothing": 0.1, "z_loss": 0.2, "soft_cap": 2.0, "chunk": 3}]


def draw(rows=(2, 3), seed=0):
    rng = np.random.default_rng(seed)
    z = Factored(jnp.asarray(rng.normal(size=(*rows, 5))), jnp.asarray(rng.normal(size=(4, 5))))
    return z, rng.integers(0, 4, rows), jnp.asarray(rng.uniform(size=rows))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_the_gradient_is_that_of_the_product(x64, settings, weighted):
    z, y, w = draw()
    loss, w = SoftmaxCrossEntropy(**settings), w if weighted else None
    J, residuals = loss.forward(z, y, w)
    of_whole = jax.value_and_grad(lambda z: loss.forward(z.product(), y, w)[0])(z)
    assert witnesses.difference((J, loss.backward(residuals)), of_whole) < 1e-14
    np.testing.assert_array_equal(loss.predict(z), loss.predict(z.product()))


def test_class_weights_need_z_whole():
    z, y, _ = draw()
    with pytest.raises(ValueError, match=r"with class_weights give it whole, z\.product\(\)"):
        SoftmaxCrossEntropy(class_weights=(1.0, 2.0, 1.0, 1.0)).forward(z, y)


def test_a_network_with_it_learns_what_the_same_network_with_a_dense_layer_does(x64):
    """The same gradients, the same run, and the metric of the held-out rows."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.integers(0, 4, 20)
    factored, dense = Chain((Dense(3, 5), Unembedding(4, 5))), Chain((Dense(3, 5), Dense(5, 4, bias=False)))
    params = {dense: dense.init(jax.random.key(0), np.float64)}
    params[factored] = jax.tree.unflatten(
        jax.tree.structure(factored.init(jax.random.key(0))), jax.tree.leaves(params[dense])
    )
    loss = SoftmaxCrossEntropy(chunk=8)
    (J, grads), (dense_J, dense_grads) = (value_and_grad(m, loss)(params[m], x, y) for m in (factored, dense))
    assert witnesses.difference((J, *jax.tree.leaves(grads)), (dense_J, *jax.tree.leaves(dense_grads))) < 1e-14
    runs = [
        fit(m, loss, x, y, key=jax.random.key(1), epochs=3, batch_size=6, params=params[m], validation=(x, y))
        for m in (factored, dense)
    ]
    of_run = [(*jax.tree.leaves(run.params), run.history.cost, run.history.validation_metric) for run in runs]
    assert witnesses.difference(*of_run) < 1e-13
    assert not np.isnan(runs[0].history.validation_metric).any()


def test_a_loss_that_does_not_take_it_says_so():
    model = Chain((Dense(3, 5), Unembedding(4, 5)))
    with pytest.raises(ValueError, match=r"HalfSquaredError\(\) does not take the Factored that Chain"):
        fit(model, HalfSquaredError(), np.ones((2, 3)), np.ones((2, 4)), key=jax.random.key(0), epochs=1)


@pytest.mark.parametrize("loss", [Focal(), Hinge(), SigmoidCrossEntropy()])
def test_losses_that_compute_with_z_say_so_too(loss):
    model = Chain((Dense(3, 5), Unembedding(4, 5)))
    with pytest.raises(ValueError, match=r"does not take the Factored that Chain"):
        fit(model, loss, np.ones((2, 3)), np.zeros(2, int), key=jax.random.key(0), epochs=1)


def test_a_target_that_needs_z_whole_says_so():
    z, y, _ = draw()
    with pytest.raises(ValueError, match=r"with y of float32 give it whole, z\.product\(\)"):
        SoftmaxCrossEntropy().forward(z, jnp.ones((2, 3, 4), jnp.float32))
    with pytest.raises(ValueError, match=r"The weights w have shape \(2,\): they must be \(2, 3\)"):
        SoftmaxCrossEntropy().forward(z, y, jnp.ones(2))


def test_evaluation_never_makes_all_of_z(x64):
    """Of 64 rows of 8 words, 500 classes: z has 1 MB in float32, and 16 KB a row."""
    model, loss = Chain((Embedding(500, 4), Unembedding(500, 4))), SoftmaxCrossEntropy(chunk=8)
    x, y = np.random.default_rng(0).integers(0, 500, (2, 64, 8))
    z = model.apply(model.init(jax.random.key(0)), x)
    program = jax.jit(partial(metric_of, loss)).lower(z, y).compile()
    assert program.memory_analysis().temp_size_in_bytes < 10**5
    np.testing.assert_allclose(program(z, y), accuracy(loss.predict(z), y))
