"""The factors of the chain, whole Jacobians for one example: their product is the gradient, of every leaf, whoever
computes it; and an activation's is diagonal, which is why it may be joined entry by entry."""

import jax
import numpy as np
import witnesses
from columns import params_from_columns, params_to_columns, to_columns
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_backprop import by_hand_and_by_autodiff, cases, evaluated, saturated

from jaxnn import Activation, BinaryCrossEntropy, Chain, Dense
from jaxnn.examples import LOSSES
from reference.activations.sigmoid import dg as d_sigmoid
from reference.activations.sigmoid import g as sigmoid
from reference.five_factors import factors, product


@settings(max_examples=8)
@given(data=st.data())
def test_the_product_is_the_gradient_of_every_leaf(data):
    with jax.enable_x64(True):
        model, loss, params, x, y, *_ = data.draw(cases(data.draw(st.sampled_from(list(LOSSES)))))
        x, y = x[:1], y[:1]
        assume(not saturated(model, params, x))
        columns, target = params_to_columns(model, params), witnesses.target(x if y.ndim == 1 else y, y)
        derivatives, k = [], 0
        for v in columns:
            k += bool(v)
            leaves = [factors(model, loss, columns, to_columns(x), target, f"{leaf}{k}") for leaf in "Wb"[: len(v)]]
            assert all(len(chain) == 1 + len(model.layers) - len(derivatives) for chain in leaves)
            derivatives.append(tuple(map(product, leaves)))
        found = params_from_columns(tuple(derivatives), params)
        (_, hand), (_, auto) = evaluated(by_hand_and_by_autodiff(model, loss, None), params, x, y, None)
        assert witnesses.difference(found, auto) < 1e-12
        assert witnesses.difference(found, hand) < 1e-12


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), n_in=st.integers(1, 4))
def test_the_article_s_five_and_the_form_that_people_compute(seed, n_in):
    """Three hidden neurons, one output, sigmoid throughout: the five matrices; their product is what two ⊙, one product
    by W2 and one by x give."""
    rng = np.random.default_rng(seed)
    model = Chain((Dense(n_in, 3), Activation("sigmoid"), Dense(3, 1), Activation("sigmoid")))
    W1, b1, W2, b2 = (rng.normal(size=shape) for shape in ((3, n_in), (3, 1), (1, 3), (1, 1)))
    x, y = rng.normal(size=(n_in, 1)), np.float64(rng.integers(2, size=(1, 1)))
    chain = factors(model, BinaryCrossEntropy(), ((W1, b1), (), (W2, b2), ()), x, y)
    assert {name: factor.shape for name, factor in chain.items()} == {
        "∂J/∂ŷ": (1, 1),
        "∂ŷ/∂z2": (1, 1),
        "∂z2/∂a1": (1, 3),
        "∂a1/∂z1": (3, 3),
        "∂z1/∂W1": (3, 3 * n_in),
    }
    z1 = W1 @ x + b1
    z2 = W2 @ sigmoid(z1) + b2
    dy = (1 - y) / sigmoid(-z2) - y / sigmoid(z2)
    slope1, slope2 = d_sigmoid(z1), d_sigmoid(z2)
    np.testing.assert_array_equal(chain["∂a1/∂z1"], np.diag(slope1[:, 0]))
    np.testing.assert_array_equal(chain["∂z2/∂a1"], W2)
    for row in range(3):  # z of a neuron depends on its own weights alone, by x
        expected = np.zeros((3, n_in))
        expected[row] = x[:, 0]
        np.testing.assert_array_equal(chain["∂z1/∂W1"][row].reshape(3, n_in), expected)
    dz1 = slope1 * (W2.T @ (slope2 * dy))
    np.testing.assert_allclose(product(chain).reshape(3, n_in), dz1 @ x.T, rtol=1e-12)
