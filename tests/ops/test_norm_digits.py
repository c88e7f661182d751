"""What the norms and gates keep of their digits where a formula that is right on paper loses them."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxnn import catalogue, ops

KEY = jax.random.key(0)
add_rms_norm, dropout = (catalogue.module("ops", name) for name in ("add_rms_norm", "dropout"))


def gradients(f, *arguments):
    """Of Σ cos(out), for all arguments."""
    return jax.grad(lambda arguments: sum(jnp.cos(out).sum() for out in jax.tree.leaves(f(*arguments))))(arguments)


@pytest.mark.parametrize(
    "norm",
    [
        lambda x, gamma, beta: ops.layer_norm(x, gamma, beta),
        lambda x, gamma, beta: ops.add_layer_norm(x, 0 * x, gamma, beta)[0],
        lambda x, gamma, beta: ops.batch_norm(x.T, gamma[:2], beta[:2])[0].T,
        lambda x, gamma, beta: ops.group_norm(x, gamma, beta, 1),
    ],
    ids=["layer", "add and layer", "batch", "group"],
)
def test_a_large_mean_costs_no_digits(norm):
    """mean x² − μ², the variance in one pass, has none left at μ = 4096 σ in float32."""
    x = jnp.asarray(np.random.default_rng(0).integers(-8, 9, (2, 8)), jnp.float32)
    gamma, beta = jnp.ones(8), jnp.zeros(8)
    for shifted, plain in zip(gradients(norm, x + 2**14, gamma, beta), gradients(norm, x, gamma, beta), strict=True):
        np.testing.assert_allclose(shifted, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("far", [40.0, 1e4])
def test_softmax_keeps_the_gradient_of_the_largest_entry(far):
    """dz₀ = p₀ p₁ (dp₀ − dp₁), which dp₀ − Σ dp p loses to rounding."""
    z, dp = jnp.array([far, far - 20, -far]), jnp.array([3.0, -1.0, 2.0])
    p, pullback = jax.vjp(ops.softmax, z)
    (dz,) = pullback(dp)
    p1 = np.exp(-20.0) / (1 + np.exp(-20.0))
    np.testing.assert_allclose(dz, [4 * p1 * (1 - p1), -4 * p1 * (1 - p1), 0], rtol=1e-6, atol=1e-30)
    assert jnp.isfinite(p).all()


def test_softmax_of_masked_entries_is_0_and_so_is_their_gradient():
    p, pullback = jax.vjp(ops.softmax, jnp.array([[0.0, -jnp.inf, 1.0], [-jnp.inf, -jnp.inf, 2.0]]))
    (dz,) = pullback(jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    np.testing.assert_array_equal(p[:, 1], 0)
    np.testing.assert_array_equal(dz[:, 1], 0)
    np.testing.assert_array_equal(dz[1], 0)
    assert jnp.isfinite(dz).all()


@pytest.mark.parametrize("gate", [ops.swiglu, ops.geglu, lambda g, u: ops.geglu(g, u, "none")])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gates_are_finite_far_out(gate, dtype):
    far = jnp.array([-1e4, -90.0, 0.0, 90.0, 1e4], dtype)
    assert all(jnp.isfinite(v).all() for v in (gate(far, far / 1e4), *gradients(gate, far, far / 1e4)))


def test_dyt_keeps_the_slope_of_a_saturated_tanh():
    """1 − tanh² 8 has one digit in float32."""
    one = jnp.ones(1)
    dx, *_ = jax.grad(lambda *arguments: ops.dyt(*arguments).sum(), argnums=(0, 1))(8 * one, jnp.float32(1), one, one)
    np.testing.assert_allclose(dx, 1 / np.cosh(8.0) ** 2, rtol=1e-5)


def test_l2_normalize_is_finite_at_0():
    out, pullback = jax.vjp(lambda x: ops.l2_normalize(x, 1e-4), jnp.zeros((2, 3)))
    np.testing.assert_array_equal(out, 0)
    np.testing.assert_allclose(pullback(jnp.ones((2, 3)))[0], 100, rtol=1e-5)


def test_batch_norm_keeps_its_statistics_in_float32():
    x = jnp.full((300, 1), 1.0078125, jnp.bfloat16)
    out, mean, var = ops.batch_norm(x, jnp.ones(1, jnp.bfloat16), jnp.zeros(1, jnp.bfloat16))
    assert (out.dtype, mean.dtype, var.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    np.testing.assert_allclose(mean, 1.0078125, rtol=1e-6)


def test_add_rms_norm_keeps_neither_x_nor_the_residual():
    x = jnp.ones((4, 3))
    _, residuals = add_rms_norm.fwd(x, 2 * x, jnp.ones(3), 0.0, 1e-6)
    assert [v.shape for v in jax.tree.leaves(residuals)] == [(4, 3), (3,), (4, 1)]


def test_dropout_keeps_its_key_alone_and_draws_as_bernoulli_does():
    x = jnp.ones((4, 3))
    out, residuals = dropout.fwd(x, KEY, 0.75)
    assert [v.shape for v in jax.tree.leaves(residuals)] == [()]
    np.testing.assert_array_equal(out > 0, jax.random.bernoulli(KEY, 0.75, x.shape))
