"""Dropout: draws while it trains, from the key it is given, and is the identity in prediction."""

import jax
import numpy as np
import pytest
import witnesses
from jax import numpy as jnp

from jaxnn import Chain, Dense, Dropout, HalfSquaredError, verify

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
KEY = jax.random.key(1)


def test_the_mask_of_the_backward_pass_is_that_of_the_forward_pass():
    out, residuals = Dropout(0.5).forward((), X, KEY)
    _, dx = Dropout(0.5).backward(residuals, jnp.ones_like(X))
    assert 0 < (out == 0).sum() < out.size
    np.testing.assert_array_equal(dx * X, out)


def test_prediction_is_the_identity():
    np.testing.assert_array_equal(Dropout(0.5).apply((), X), X)


def test_on_average_it_is_the_identity_too():
    outs = jax.vmap(lambda key: Dropout(0.8).forward((), jnp.ones(3), key)[0])(jax.random.split(KEY, 4000))
    np.testing.assert_allclose(outs.mean(0), 1, atol=0.03)


def test_it_is_proven_in_a_chain():
    net = Chain((Dense(3, 4), Dropout(0.5), Dense(4, 2)))
    assert verify.layer(net, X).verdict == "PASS"
    assert verify.model(net, HalfSquaredError(), X, X[:, :2]).verdict == "PASS"
    params, dout = net.init(KEY), np.ones((4, 2), np.float32)
    arguments = net, params, X, dout
    assert witnesses.difference(witnesses.layer_by_hand(*arguments), witnesses.layer_autodiff(*arguments)) < 1e-6


@pytest.mark.parametrize("keep", [0, -0.5, 1.5, 20])
def test_a_probability_that_is_none_is_refused(keep):
    with pytest.raises(ValueError, match="the probability to stay, must be above 0 and at most 1"):
        Dropout(keep)


def test_a_forward_pass_without_a_key_is_refused():
    with pytest.raises(ValueError, match="has no key to draw from: give forward a key, or use apply for prediction"):
        Dropout(0.5).forward((), X)
