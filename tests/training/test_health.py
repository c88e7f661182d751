"""Health sees each layer of a tree of layers: its gradient, its dead and flat units, and where a number blew up."""

import csv
from dataclasses import dataclass

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxnn import Activation, Chain, Dense, HalfSquaredError, Repeat, Residual, cost, fit
from jaxnn.data.scale import Scale
from jaxnn.protocols import Part, leaf_layers
from jaxnn.storage import run_folder
from jaxnn.trained import Trained
from jaxnn.training import health

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(12, 3)), rng.normal(size=(12, 2))
KEY = jax.random.key(0)


@dataclass(frozen=True)
class Opaque:
    """out = x + f(x), which does not say that f is a layer."""

    layer: object

    def init(self, key, dtype=jnp.float32):
        return self.layer.init(key, dtype)

    def forward(self, params, x, key=None):
        out, residuals = self.layer.forward(params, x, key)
        return x + out, residuals

    def backward(self, residuals, dout):
        dparams, dx = self.layer.backward(residuals, dout)
        return dparams, dout + dx

    def apply(self, params, x):
        return x + self.layer.apply(params, x)


@dataclass(frozen=True)
class Hidden:
    """A composite whose part is in none of its fields."""

    n: int

    @property
    def layer(self):
        return Dense(self.n, self.n)

    def init(self, key, dtype=jnp.float32):
        return self.layer.init(key, dtype)

    def forward(self, params, x, key=None):
        return self.layer.forward(params, x, key)

    def parts(self, params, residuals):
        return (Part("f", self.layer, params, residuals),)


TANH, RELU = Chain((Dense(4, 4), Activation("tanh"))), Chain((Dense(4, 4), Activation("relu")))
ENDS = Dense(3, 4), Dense(4, 2)


def between(*layers):
    return Chain((ENDS[0], *layers, ENDS[1]))


def paths(model):
    return [leaf.name for leaf in leaf_layers(model, model.init(KEY))]


def test_a_path_leads_to_each_layer():
    assert paths(Dense(3, 2)) == ["0"]
    assert paths(between(Activation("tanh"))) == ["0", "1", "2"]
    assert paths(between(RELU, Chain(()), Opaque(RELU), Residual(RELU))) == [
        "0",
        "1/0",
        "1/1",
        "2",
        "3",
        "4/0/0",
        "4/0/1",
        "5",
    ]
    assert paths(between(Repeat(TANH, 2))) == ["0", "1/0/0", "1/0/1", "1/1/0", "1/1/1", "2"]
    assert paths(Repeat(Repeat(Residual(Dense(4, 4)), 2), 2)) == ["0/0/0", "0/1/0", "1/0/0", "1/1/0"]


def together(pairs):
    layers, params = [], []
    for more_layers, more_params in pairs:
        layers += more_layers
        params += more_params
    return layers, params


def flat(layer, params):
    """A tree of Chains and Repeats as one list of layers and one of their params."""
    if isinstance(layer, Chain):
        pairs = [flat(part, p) for part, p in zip(layer.layers, params, strict=True)]
    elif isinstance(layer, Repeat):
        pairs = [flat(layer.layer, jax.tree.map(lambda v, i=i: v[i], params)) for i in range(layer.n)]
    else:
        return [layer], [params]
    return together(pairs)


@pytest.mark.sample
@pytest.mark.parametrize(
    "net",
    [
        between(Chain((RELU, TANH)), RELU),
        between(Repeat(TANH, 3), RELU),
        between(Repeat(Repeat(Chain((RELU, TANH)), 2), 2), Repeat(Activation("relu"), 2)),
    ],
    ids=["chains in chains", "repeated", "repeated twice over"],
)
def test_a_tree_of_layers_has_the_history_of_the_same_layers_in_one_chain(x64, net):
    params = jax.tree.map(lambda v: 3 * v + 0.5, net.init(KEY, jnp.float64))  # some units are dead, some are flat
    layers, in_a_row = flat(net, params)
    options = {"key": KEY, "epochs": 3, "batch_size": 5, "order": lambda epoch: np.arange(12)}
    tree = fit(net, HalfSquaredError(), X, Y, params=params, **options).history
    chain = fit(Chain(tuple(layers)), HalfSquaredError(), X, Y, params=tuple(in_a_row), **options).history
    assert tree.gradient_norm.shape == (3, len(layers))
    for of_tree, of_chain in zip(tree[4:], chain[4:], strict=True):
        np.testing.assert_allclose(of_tree, of_chain, rtol=1e-5)
    assert np.nanmax(tree.dead) > 0
    assert np.nanmax(tree.saturated) > 0


def test_a_repeat_that_recomputes_has_gradient_norms_alone(x64):
    saves, recomputes = (
        fit(between(Repeat(TANH, 3, again)), HalfSquaredError(), X, Y, key=KEY, epochs=2).history
        for again in (False, True)
    )
    np.testing.assert_allclose(saves.gradient_norm, recomputes.gradient_norm, rtol=1e-5)
    assert np.isfinite(saves.saturated[:, 2]).all()
    assert np.isnan(recomputes.saturated).all()


def test_a_composite_with_parts_shows_its_layers_and_another_is_one_layer(x64):
    runs = [fit(between(kind(TANH)), HalfSquaredError(), X, Y, key=KEY, epochs=1) for kind in (Residual, Opaque)]
    inner, whole = (run.history.gradient_norm[0] for run in runs)
    assert (len(inner), len(whole)) == (4, 3)
    assert inner[1] == pytest.approx(whole[1], rel=1e-6)
    assert np.isfinite(runs[0].history.saturated[0, 2])
    params = between(Residual(TANH)).init(jax.random.split(KEY)[0], jnp.float64)
    grads = jax.grad(cost(between(Residual(TANH)), HalfSquaredError()))(params, jnp.asarray(X), jnp.asarray(Y))
    assert inner[1] == pytest.approx(float(optax.tree.norm(grads[1][0])), rel=1e-6)


def test_what_is_compiled_does_not_grow_with_the_layers_of_a_repeat():
    def equations(n):
        net = between(Repeat(Chain((TANH, RELU)), n))
        params = net.init(KEY)
        _, residuals = net.forward(params, jnp.asarray(X, jnp.float32))

        def rows(params, residuals):
            return health.of_layers(net, params, health.slopes(net, params, residuals))

        return str(jax.make_jaxpr(rows)(params, residuals)).count(" = ")

    assert equations(9) == equations(2)


@pytest.mark.parametrize(
    ("middle", "spoil", "where"),
    [
        (RELU, lambda p: (p[0]._replace(W=p[0].W * 1e38), ()), "the output of layer 1/0, Dense(n_in=4"),
        (Residual(RELU), lambda p: (p[0]._replace(W=p[0].W * 1e38), ()), "the output of layer 1/0/0, Dense(n_in=4"),
        (Opaque(RELU), lambda p: (p[0]._replace(W=p[0].W * 1e38), ()), "the output of layer 1, Opaque(layer=Chain("),
        (Repeat(RELU, 4), lambda p: (p[0]._replace(b=p[0].b.at[2, 1].set(jnp.nan)), ()), "b of layer 1/2/0, Dense"),
        (Repeat(RELU, 4), lambda p: (p[0]._replace(W=p[0].W.at[2].multiply(1e38)), ()), "output of layer 1/2/0, Dense"),
        (
            Repeat(RELU, 4, recompute=True),
            lambda p: (p[0]._replace(W=p[0].W.at[3].multiply(1e38)), ()),
            "output of layer 1/3/0, Dense",
        ),
        (
            Repeat(Repeat(Residual(RELU), 2), 2),
            lambda p: (p[0]._replace(W=p[0].W.at[1, 0].multiply(1e38)), ()),
            "output of layer 1/1/0/0/0, Dense",
        ),
        (Hidden(4), lambda p: p._replace(W=p.W * 1e38), "the output of layer 1, Hidden(n=4)"),
        (RELU, lambda p: p, "the cost"),
    ],
    ids=["chain", "residual", "no parts", "params", "repeat", "recompute", "repeated twice over", "hidden", "none"],
)
def test_the_first_layer_that_is_not_finite_is_named_by_its_path(middle, spoil, where):
    net = between(middle)
    first, inner, last = net.init(KEY)
    x = jnp.full((5, 3), 10, jnp.float32)
    params = first._replace(b=first.b + 100), jax.tree.map(jnp.abs, spoil(inner)), last
    assert where in health.first_not_finite(net, params, x, None)


def test_a_run_names_it_with_the_draws_of_its_iteration():
    @dataclass(frozen=True)
    class Blows:
        """Multiplies by a number drawn from its key, which must be there."""

        def init(self, key, dtype=jnp.float32):
            return ()

        def forward(self, params, x, key=None):
            scale = jnp.where(jax.random.bernoulli(key, 0.1), x.dtype.type(np.inf), 1)
            return x * scale, scale

        def backward(self, scale, dout):
            return (), dout * scale

        def apply(self, params, x):
            return x

    run = fit(between(Repeat(Chain((RELU, Blows())), 3)), HalfSquaredError(), X, Y, key=KEY, epochs=50, batch_size=4)
    assert run.stopped.reason == "not_finite"
    assert "the output of layer 1/" in run.stopped.message
    assert f"/1, {Blows()} was not finite" in run.stopped.message


def test_an_interrupted_run_has_a_column_a_layer():
    def interrupt(epoch):
        raise KeyboardInterrupt

    run = fit(between(Repeat(TANH, 3)), HalfSquaredError(), X, Y, key=KEY, epochs=9, order=interrupt)
    assert run.history.gradient_norm.shape == (0, 8)


def test_the_run_folder_names_columns_by_path(tmp_path):
    net = between(Repeat(TANH, 2), RELU)
    run = fit(net, HalfSquaredError(), X, Y, key=KEY, epochs=2)
    scale = Scale(np.zeros(3), np.ones(3))
    trained = Trained(net, HalfSquaredError(), run.params, scale, Scale(np.zeros(2), np.ones(2)), (), (), ("u", "v"))
    run_folder.write(tmp_path, trained, {}, run.history, "test")
    with open(tmp_path / "history.csv", newline="") as file:
        names = [name for name in next(csv.reader(file)) if " of layer " in name]
    norms = [f"gradient_norm of layer {path}" for path in ["0", "1/0/0", "1/1/0", "2/0", "3"]]
    assert names == [*norms, "dead of layer 2/1", "saturated of layer 1/0/1", "saturated of layer 1/1/1"]


def test_slopes_are_those_of_what_was_saved():
    layer = Repeat(Activation("relu"), 2)
    x = jnp.asarray([[1.0, -1.0], [-2.0, -2.0]])
    _, residuals = layer.forward((), x)
    row = health.of_layers(layer, (), health.slopes(layer, (), residuals))
    np.testing.assert_array_equal(row[1], [0.5, 0.5])
