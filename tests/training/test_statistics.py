"""Running statistics, by a BatchNorm: moved after each step of training, wherever the layer is, and never learned."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxnn import L2, Activation, Chain, Dense, HalfSquaredError, Repeat, Residual, cost, fit, sweep, verify
from jaxnn.protocols import Statistics, learned, without_statistics
from jaxnn.training.epoch import largest_change
from jaxnn.training.given import cast

KEEP = 0.9


class Running(NamedTuple):
    W: jax.Array  # (n,) the mean, by the name of what L2 penalises
    var: jax.Array  # (n,)


class NormParams(NamedTuple):
    gamma: jax.Array  # (n,)
    beta: jax.Array  # (n,)
    running: Statistics  # of Running


@dataclass(frozen=True)
class BatchNorm:
    """out = γ (x − μ)/s + β with μ and s² the batch's mean and variance, or in `apply` the running ones."""

    n: int

    def init(self, key, dtype=jnp.float32):
        one, zero = jnp.ones(self.n, dtype), jnp.zeros(self.n, dtype)
        return NormParams(one, zero, Statistics(Running(zero, one)))

    def forward(self, params, x, key=None):
        mean, var = x.mean(0, keepdims=True), x.var(0, keepdims=True)
        s = jnp.sqrt(var + 1e-5)
        x_hat = (x - mean) / s
        return params.gamma[None] * x_hat + params.beta[None], (x_hat, s, params.gamma, mean[0], var[0])

    def backward(self, residuals, dout):
        x_hat, s, gamma, mean, var = residuals
        dx_hat = dout * gamma[None]

        def average(v):
            return v.mean(0, keepdims=True)

        dx = (dx_hat - average(dx_hat) - x_hat * average(dx_hat * x_hat)) / s
        none = Statistics(Running(jnp.zeros_like(mean), jnp.zeros_like(var)))
        return NormParams((dout * x_hat).sum(0), dout.sum(0), none), dx

    def apply(self, params, x):
        mean, var = cast_to(x.dtype, params.running.values)
        x_hat = (x - mean[None]) / jnp.sqrt(var[None] + 1e-5)
        return params.gamma[None] * x_hat + params.beta[None]

    def moved(self, params, residuals):
        old, new = params.running.values, cast_to(params.running.values.W.dtype, Running(*residuals[3:]))
        return params._replace(running=Statistics(jax.tree.map(lambda a, b: KEEP * a + (1 - KEEP) * b, old, new)))


def cast_to(dtype, tree):
    return jax.tree.map(lambda v: v.astype(dtype), tree)


rng = np.random.default_rng(0)
X, Y = rng.normal(size=(12, 3)), rng.normal(size=(12, 2))
KEY = jax.random.key(0)
BLOCK = Chain((Dense(4, 4), BatchNorm(4), Activation("tanh")))
ENDS = Dense(3, 4), Dense(4, 2)


def between(*layers):
    return Chain((ENDS[0], *layers, ENDS[1]))


ALONE = between(BatchNorm(4))
NETS = {
    "in a Chain": (ALONE, ALONE),
    "in a Chain in a Chain": (between(BLOCK), between(BLOCK)),
    "repeated": (between(Repeat(BLOCK, 3)), between(*[BLOCK] * 3)),
    "repeated, recomputed": (between(Repeat(BLOCK, 3, recompute=True)), between(*[BLOCK] * 3)),
    "repeated twice over": (between(Repeat(Repeat(BLOCK, 2), 2, recompute=True)), between(*[BLOCK] * 4)),
    "in a residual block": (between(Repeat(Residual(BLOCK), 2)), between(*[Residual(BLOCK)] * 2)),
}


def norms(params):
    """The params of every BatchNorm."""
    leaves = jax.tree.leaves(params, is_leaf=lambda node: isinstance(node, NormParams))
    return [leaf for leaf in leaves if isinstance(leaf, NormParams)]


def running(params):
    """(BatchNorms, 2, n): all running statistics; those of repeated layers one after the other."""
    values = [jnp.stack(norm.running.values, axis=-2) for norm in norms(params)]
    return np.concatenate([np.reshape(v, (-1, 2, v.shape[-1])) for v in values])


def one_by_one(params, n):
    """The params of the Chain of n layers that a Repeat between the two ends is."""
    first, stacked, last = params
    while jax.tree.leaves(stacked)[0].shape[0] != n:
        stacked = jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:]), stacked)
    return (first, *(jax.tree.map(lambda v, i=i: v[i], stacked) for i in range(n)), last)


def passed(layer, params, x):
    """(what comes out of a layer by plain Python, the running statistics of the BatchNorms in it after this batch)."""
    if isinstance(layer, Chain):
        new = []
        for part, p in zip(layer.layers, params, strict=True):
            x, of_part = passed(part, p, x)
            new += of_part
        return x, new
    if isinstance(layer, Residual):
        out, new = passed(layer.layer, params, x)
        return x + out, new
    if isinstance(layer, BatchNorm):
        old = params.running.values
        new = [jnp.stack([KEEP * old.W + (1 - KEEP) * x.mean(0), KEEP * old.var + (1 - KEEP) * x.var(0)])]
        return layer.forward(params, x)[0], new
    return layer.forward(params, x)[0], []


def by_a_plain_loop(net, params, epochs, batch_size, rate):
    """The running statistics by gradient descent with autodiff, batch by batch, without any code of `fit`."""
    gradient = jax.grad(cost(net, HalfSquaredError()))
    of_batch = jax.jit(lambda params, x, y: (gradient(params, x, y), passed(net, params, x)[1]))
    for start in [*range(0, len(X), batch_size)] * epochs:
        x, y = jnp.asarray(X[start : start + batch_size]), jnp.asarray(Y[start : start + batch_size])
        grads, new = of_batch(params, x, y)
        params = jax.tree.map(lambda v, dv: v - rate * dv, params, grads)
        statistics = iter(new)

        def with_new(node, statistics=statistics):
            if not isinstance(node, NormParams):
                return node
            return node._replace(running=Statistics(Running(*map(jnp.asarray, next(statistics)))))

        params = jax.tree.map(with_new, params, is_leaf=lambda node: isinstance(node, NormParams))
    return params


@pytest.mark.sample(lambda name: name.startswith("repeated"))
@pytest.mark.parametrize("name", NETS)
def test_fit_moves_them_after_each_step(x64, name):
    net, plain = NETS[name]
    params = net.init(KEY, jnp.float64)
    options = {"epochs": 3, "batch_size": 5, "optimizer": optax.sgd(0.2), "order": lambda epoch: np.arange(12)}
    run = fit(net, HalfSquaredError(), X, Y, key=KEY, params=params, **options)
    start = params if net == plain else one_by_one(params, len(plain.layers) - 2)
    expected = by_a_plain_loop(plain, start, 3, 5, 0.2)
    assert np.abs(running(run.params) - running(params)).max() > 0.1
    np.testing.assert_allclose(running(run.params), running(expected), rtol=1e-10)
    np.testing.assert_allclose(run.params[-1].W, expected[-1].W, rtol=1e-10)  # and the rest is gradient descent


def test_a_layer_without_the_method_is_named(x64):
    """Its statistics would never move, and nobody would notice."""

    @dataclass(frozen=True)
    class Fixed(BatchNorm):
        moved = property()  # as if there were none

    with pytest.raises(TypeError, match=r"Fixed has running statistics .* no method moved"):
        fit(between(Fixed(4)), HalfSquaredError(), X, Y, key=KEY, epochs=2)


def in_order(**options):
    """A run of three epochs with the same batches."""
    options = {"key": KEY, "batch_size": 5, "epochs": 3, "optimizer": optax.sgd(0.1), **options}
    return fit(between(BLOCK), HalfSquaredError(), X, Y, **options)


@pytest.mark.sample
@pytest.mark.parametrize("name", ["adamw", "lbfgs"])
def test_no_optimiser_sees_them(x64, standard_promotion, name):
    """Whatever an optimiser does to weights, the statistics after its first step are the batch's."""
    optimizer = optax.lbfgs() if name == "lbfgs" else optax.adamw(1e-9, weight_decay=1e8)  # w ← 0.9 w
    options = {"epochs": 1, "batch_size": None, "params": between(BLOCK).init(KEY, jnp.float64)}
    run, plain = in_order(optimizer=optimizer, **options), in_order(**options)
    np.testing.assert_allclose(running(run.params), running(plain.params), rtol=1e-12)
    if name == "adamw":
        np.testing.assert_allclose(run.params[1][0].W, 0.9 * options["params"][1][0].W, rtol=1e-6)


def test_a_line_search_over_many_steps_leaves_them_to_the_batches(x64, standard_promotion):
    """lbfgs learns from changes of params: the moves of statistics would be in its directions."""
    params = between(BLOCK).init(KEY, jnp.float64)
    kept = [params]
    options = {"epochs": 6, "batch_size": None, "params": params, "optimizer": optax.lbfgs()}
    run = in_order(on_epoch=lambda epoch, params: kept.append(params), **options)
    assert run.history.cost[-1] < 0.7 * run.history.cost[0]
    for before, after in pairwise(kept):
        _, new = passed(between(BLOCK), before, jnp.asarray(X))
        np.testing.assert_allclose(running(after), new, rtol=1e-10)


def test_the_tolerance_does_not_see_them():
    params = between(BLOCK).init(KEY)
    other = jax.tree.map(lambda v, is_learned: v if is_learned else v + 1, params, learned(params))
    assert largest_change(params, other) == 0
    run = in_order(optimizer=optax.sgd(0.0), tolerance=0.0)
    assert (run.stopped.reason, run.stopped.epoch) == ("tolerance", 1)
    assert np.abs(running(run.params) - running(params)).max() > 0.01


def test_a_penalty_does_not_see_them(x64):
    """The running mean is a leaf named W, as weights are."""
    params = between(BLOCK).init(KEY, jnp.float64)
    params = jax.tree.map(lambda v, is_learned: v if is_learned else v + 3, params, learned(params))
    R, residuals = L2(0.5).forward(params)
    weights = params[0].W, params[1][0].W, params[2].W
    assert float(R) == pytest.approx(0.25 * sum(float((W**2).sum()) for W in weights))
    assert not running(L2(0.5).backward(residuals)).any()
    by_autodiff = jax.grad(lambda params: L2(0.5).forward(params)[0])(params)
    jax.tree.map(np.testing.assert_allclose, L2(0.5).backward(residuals), by_autodiff)


def test_they_stay_in_float32_whatever_is_computed_in():
    params = between(BLOCK).init(KEY, jnp.bfloat16)
    dtypes = {
        path: v.dtype.name
        for path, v in jax.tree.leaves_with_path(cast(between(BLOCK).init(KEY), jnp.dtype("bfloat16")))
    }
    assert {name for path, name in dtypes.items() if Statistics._fields[0] in jax.tree_util.keystr(path)} == {"float32"}
    assert sorted(dtypes.values()).count("bfloat16") == 8
    run = in_order(params=params, dtype="bfloat16", validation=(X, Y))
    assert {v.dtype.name for v in jax.tree.leaves(run.params)} == {"float32"}
    assert np.isfinite(run.history.validation_cost).all()
    np.testing.assert_allclose(running(run.params), running(in_order(params=params, dtype="float32").params), atol=0.02)
    mantissas = running(run.params).view(np.uint32) & 0xFFFF
    assert mantissas.any()  # more digits than bfloat16 has


def test_the_gradient_norm_is_that_of_what_is_learned():
    @dataclass(frozen=True)
    class Wrong(BatchNorm):
        """Gives its statistics a gradient; nothing may use it."""

        def backward(self, residuals, dout):
            dparams, dx = super().backward(residuals, dout)
            return dparams._replace(running=jax.tree.map(lambda v: v + 100, dparams.running)), dx

    right, wrong = (
        fit(between(norm), HalfSquaredError(), X, Y, key=KEY, epochs=3) for norm in (BatchNorm(4), Wrong(4))
    )
    np.testing.assert_allclose(right.history.gradient_norm, wrong.history.gradient_norm, rtol=1e-6)
    np.testing.assert_array_equal(running(right.params), running(wrong.params))


def test_a_sweep_moves_them_too(x64):
    net, options = between(BLOCK), {"epochs": 3, "batch_size": 5, "dtype": "float64"}
    runs = sweep(net, HalfSquaredError(), X, Y, keys=KEY, learning_rates=[0.1, 0.2], optimizer=optax.sgd, **options)
    for run, rate in zip(runs, (0.1, 0.2), strict=True):
        alone = fit(net, HalfSquaredError(), X, Y, key=KEY, optimizer=optax.sgd, learning_rate=rate, **options)
        np.testing.assert_allclose(running(run.params), running(alone.params), rtol=1e-10)


def test_a_model_of_statistics_alone_has_nothing_to_learn():
    @dataclass(frozen=True)
    class Mean(BatchNorm):
        def init(self, key, dtype=jnp.float32):
            return super().init(key, dtype).running

    with pytest.raises(ValueError, match="nothing to learn"):
        fit(Mean(3), HalfSquaredError(), X, X, key=KEY, epochs=1)


def test_learned_says_so_of_each_leaf():
    params = {"a": jnp.ones(2), "b": (Statistics({"c": jnp.ones(3), "d": jnp.ones(1)}), jnp.ones(1)), "e": ()}
    assert learned(params) == {"a": True, "b": (Statistics({"c": False, "d": False}), True), "e": ()}
    assert len(jax.tree.leaves(without_statistics(params))) == 2


def test_the_verifier_passes_it():
    x = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    report = verify.layer(BatchNorm(4), x)
    assert report.ok, report
    report = verify.layer(Repeat(BLOCK, 2), x)
    assert report.ok, report
