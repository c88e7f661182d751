"""Wrong backward passes, as people write them, rejected by every witness; right but unusual ones, passed."""

from dataclasses import dataclass

import differences
import jax
import numpy as np
import pytest
import witnesses
from columns import params_to_columns, to_columns
from jax import numpy as jnp

from jaxnn import Activation, Chain, Dense, SoftmaxCrossEntropy, cost, value_and_grad
from jaxnn.examples import draw_params
from jaxnn.layers.dense import Params

N_IN, N_HIDDEN, K, M = 4, 3, 3, 5  # hidden as wide as the output: transposing W2 fits, and must be found all the same
NET = Chain((Dense(N_IN, N_HIDDEN), Activation("tanh"), Dense(N_HIDDEN, K)))


@dataclass(frozen=True)
class Formulas:
    """The backward pass of a two-layer net with softmax cross-entropy, each line open to a mistake."""

    dz2: object = lambda P, y, m: (P - y) / m
    dW2: object = lambda dz2, a1: dz2.T @ a1
    db2: object = lambda dz2: dz2.sum(0)
    da1: object = lambda dz2, W2: dz2 @ W2
    dz1: object = lambda da1, z1, a1: da1 * (1 - a1**2)
    dW1: object = lambda dz1, x: dz1.T @ x
    db1: object = lambda dz1: dz1.sum(0)

    def __call__(self, params, x, y):
        (W1, b1), _, (W2, b2) = params
        z1 = x @ W1.T + b1[None]
        a1 = jnp.tanh(z1)
        P = jax.nn.softmax(a1 @ W2.T + b2[None])
        dz2 = self.dz2(P, jax.nn.one_hot(y, K), len(x))
        dz1 = self.dz1(self.da1(dz2, W2), z1, a1)
        return Params(self.dW1(dz1, x), self.db1(dz1)), (), Params(self.dW2(dz2, a1), self.db2(dz2))


RIGHT = {
    "as in the article": Formulas(),
    "1/m late": Formulas(
        dz2=lambda P, y, m: P - y,
        dW2=lambda dz2, a1: dz2.T @ a1 / M,
        db2=lambda dz2: dz2.mean(0),
        dW1=lambda dz1, x: dz1.T @ x / M,
        db1=lambda dz1: dz1.mean(0),
    ),
    "1/m as a factor": Formulas(dz2=lambda P, y, m: (1 / m) * (P - y)),
    "sums of outer products": Formulas(dW1=lambda dz1, x: jax.vmap(jnp.outer)(dz1, x).sum(0)),
    "sech² for 1 − a²": Formulas(dz1=lambda da1, z1, a1: da1 / jnp.cosh(z1) ** 2),
    "P times the sum of y": Formulas(dz2=lambda P, y, m: (P * y.sum(1, keepdims=True) - y) / m),
}

WRONG = {
    "1/m missing": Formulas(dz2=lambda P, y, m: P - y),
    "1/m twice": Formulas(dW1=lambda dz1, x: dz1.T @ x / M),
    "mean over outputs too": Formulas(dz2=lambda P, y, m: (P - y) / (m * K)),
    "sign": Formulas(dz2=lambda P, y, m: (y - P) / m),
    "factor 2": Formulas(dz2=lambda P, y, m: 2 * (P - y) / m),
    "one per mille too large": Formulas(dW2=lambda dz2, a1: 1.001 * dz2.T @ a1),
    "softmax with an extra derivative": Formulas(dz2=lambda P, y, m: (P - y) * P * (1 - P) / m),
    "labels shifted by one": Formulas(dz2=lambda P, y, m: (P - jnp.roll(y, 1, axis=0)) / m),
    "W2 transposed": Formulas(da1=lambda dz2, W2: dz2 @ W2.T),
    "dW2 transposed": Formulas(dW2=lambda dz2, a1: a1.T @ dz2),
    "activation derivative missing": Formulas(dz1=lambda da1, z1, a1: da1),
    "activation derivative at a for z": Formulas(dz1=lambda da1, z1, a1: da1 * (1 - jnp.tanh(a1) ** 2)),
    "derivative of the sigmoid for tanh": Formulas(dz1=lambda da1, z1, a1: da1 * a1 * (1 - a1)),
    "1 − a for 1 − a²": Formulas(dz1=lambda da1, z1, a1: da1 * (1 - a1)),
    "activation derivative twice": Formulas(dz1=lambda da1, z1, a1: da1 * (1 - a1**2) ** 2),
    "z for x": Formulas(dW2=lambda dz2, a1: dz2.T @ jnp.arctanh(a1)),
    "bias not summed, the first example kept": Formulas(db1=lambda dz1: dz1[0]),
    "bias averaged": Formulas(db1=lambda dz1: dz1.mean(0)),
    "bias summed over the wrong axis": Formulas(db2=lambda dz2: dz2.sum(1)[:K]),
    "bias forgotten": Formulas(db2=lambda dz2: jnp.zeros(K)),
    "one example left out": Formulas(dW1=lambda dz1, x: dz1[1:].T @ x[1:]),
    "one example counted twice": Formulas(dW1=lambda dz1, x: dz1.T @ x + jnp.outer(dz1[0], x[0])),
    "one entry wrong": Formulas(dW1=lambda dz1, x: (dz1.T @ x).at[1, 2].multiply(1.01)),
    "examples reversed": Formulas(dW1=lambda dz1, x: dz1[::-1].T @ x),
}


def case():
    rng = np.random.default_rng(0)
    return draw_params(NET, rng), jnp.asarray(rng.normal(size=(M, N_IN))), rng.integers(0, K, M)


def true_gradient(witness, params, x, y):
    if witness == "autodiff":
        return jax.grad(cost(NET, SoftmaxCrossEntropy()))(params, x, y)
    if witness == "twin":
        return witnesses.net_twin(NET, SoftmaxCrossEntropy(), params, x, y)[1]
    if witness == "differences":
        X = to_columns(x)
        J = lambda params: witnesses.twin_backprop.cost(NET, SoftmaxCrossEntropy(), params, X, y)  # noqa: E731
        return witnesses.params_from_columns(differences.gradient(J, params_to_columns(NET, params)), params)
    return value_and_grad(NET, SoftmaxCrossEntropy())(params, x, y)[1]


@pytest.mark.parametrize("witness", ["autodiff", "twin", "differences", "our own"])
def test_every_witness_rejects_every_wrong_formula_and_passes_every_right_one(x64, witness):
    params, x, y = case()
    true = true_gradient(witness, params, x, y)
    passed = {name for name, f in WRONG.items() if witnesses.difference(f(params, x, y), true) < 1e-12}
    refused = {name for name, f in RIGHT.items() if witnesses.difference(f(params, x, y), true) >= 1e-12}
    assert (passed, refused) == (set(), set())


def drop_the_reshape(layer, params, x, dout):
    """A bare .T, which reverses all axes: for two leading axes of equal sizes a wrong gradient of the right shape."""
    W, _ = params
    return Params(jnp.tensordot(dout.T, x, axes=((1, 2), (0, 1))), dout.sum((0, 1))), dout @ W


def test_a_bare_transpose_is_found_where_all_sizes_are_equal(x64):
    rng = np.random.default_rng(0)
    layer = Dense(3, 3)
    case = (
        layer,
        draw_params(layer, rng),
        jnp.asarray(rng.normal(size=(3, 3, 3))),
        jnp.asarray(rng.normal(size=(3, 3, 3))),
    )
    for witness in (witnesses.layer_autodiff, witnesses.layer_twin, differences.layer_differences):
        assert witnesses.difference(drop_the_reshape(*case), witness(*case)) > 0.1
        assert witnesses.difference(witnesses.layer_by_hand(*case), witness(*case)) < 1e-12
