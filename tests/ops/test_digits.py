"""Where a formula that is right cancels or overflows: float32 against float64, at logits that saturate."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxnn import catalogue, ops

DIGITS = 2e-6  # relative, entry by entry: 17 units in the last place of float32
softmax_cross_entropy = catalogue.module("ops", "softmax_cross_entropy")
FAR = (1.0, 12.0, 40.0, 1e4)  # at 12 a formula that cancels has digits left in float64, and none in float32


def close(f, *arrays, digits=DIGITS):
    """Whether value and gradients of the sum in float32 are those in float64, each entry to its own last digits."""

    def both(*arrays):
        return f(*arrays), jax.grad(lambda *v: f(*v).sum(), tuple(range(len(arrays))))(*arrays)

    got = jax.jit(both)(*(np.asarray(v, np.float32) for v in arrays))
    assert all(v.dtype == np.float32 for v in jax.tree.leaves(got))
    with jax.enable_x64(True):
        true = jax.jit(both)(*(np.asarray(np.asarray(v, np.float32), np.float64) for v in arrays))
    for v, expected in zip(jax.tree.leaves(got), jax.tree.leaves(true), strict=True):
        assert np.isfinite(v).all()
        np.testing.assert_allclose(v, expected, rtol=digits, atol=1e-30)


def saturated(size):
    """Rows of logits in which one is that much larger than the others, less, and none."""
    return size * np.array([[1, 0, 0.5], [-1, -0.25, 0], [0, 0, 0]]) + np.array([0.3, -0.2, 0.1])


@pytest.mark.parametrize("size", FAR)
@pytest.mark.parametrize("settings", [{}, {"smoothing": 0.1, "z_loss": 0.1}], ids=["plain", "smoothed, z-loss"])
@pytest.mark.parametrize("right", [0, 1, 2])
def test_softmax_cross_entropy(size, settings, right):
    y = np.full(3, right, np.int32)
    close(lambda z: ops.softmax_cross_entropy(z, y, **settings), saturated(size))


def test_where_logits_tie_all_derivatives_are_those_of_the_formula(x64):
    """JAX's derivatives of a maximum share it among those that tie."""
    z, y = jnp.zeros((1, 3)), jnp.array([1])
    by_rule = lambda z: ops.softmax_cross_entropy(z, y).sum()  # noqa: E731
    by_forward = lambda z: softmax_cross_entropy.fwd(z, y, None, None, 0.0, 0.0, None)[0].sum()  # noqa: E731
    P = jnp.full(3, 1 / 3)
    for f in (by_rule, by_forward):
        np.testing.assert_allclose(jax.grad(f)(z)[0], P - jnp.array([0.0, 1.0, 0.0]), rtol=1e-14)
        np.testing.assert_allclose(jax.jacrev(jax.grad(f))(z)[0, :, 0], jnp.diag(P) - jnp.outer(P, P), rtol=1e-14)


@pytest.mark.parametrize("size", FAR)
def test_soft_targets(size):
    """A distribution with a zero in it, and one that is almost a label."""
    q = np.array([[0.9, 0.1, 0.0], [1e-6, 1e-6, 1 - 2e-6], [0.2, 0.3, 0.5]], np.float32)
    close(lambda z: ops.softmax_cross_entropy(z, q.astype(z.dtype)), saturated(size))
    close(lambda z: ops.kl_divergence(z, q.astype(z.dtype), 2.0), saturated(size))


@pytest.mark.parametrize("size", FAR)
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_jensen_shannon(size, beta):
    """Of a teacher that is sure of other classes, and of one that is sure of the same. Its gradient is a difference of
    what is near P and of what is far from it: some units more than the others."""
    for teacher in (-saturated(size / 2), saturated(size / 2) + np.array([0, 1, -1])):
        close(lambda z, teacher: ops.jensen_shannon(z, teacher, beta), saturated(size), teacher, digits=1e-5)


@pytest.mark.parametrize("size", FAR)
def test_info_nce(size):
    a = np.array([[1.0, 0.25], [-0.5, 1.0], [0.75, -1.0]])
    close(lambda a, b, tau: ops.info_nce(a, b, tau), a, a, size)


Z = np.array([-1e4, -40.0, -12.0, -1.0, -1e-4, 1e-4, 1.0, 12.0, 40.0, 1e4])


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_focal_is_finite_where_it_saturates(gamma, y):
    close(lambda z: ops.focal(z, jnp.full_like(z, y), gamma=gamma), Z)


def test_entrywise():
    zero = np.zeros_like(Z)
    close(ops.log_cosh, Z, zero)
    close(ops.huber, Z, zero)
    close(lambda z, y: ops.pinball(z, y, 0.999), Z, zero)
    close(lambda z, y: ops.hinge(z, y, True), Z, np.where(Z > 0, -1.0, 1.0))
    close(ops.gaussian_nll, Z, np.array([80.0, 40, 0, -40, -80, 1, 2, 3, 10, -10]), zero)
    close(ops.poisson, np.minimum(Z, 80.0), np.full_like(Z, 3.0))


@pytest.mark.parametrize("P", [0.99, 0.999, 0.99999])
def test_the_true_class_keeps_its_digits_in_bfloat16(P):
    """P_y − 1 in bfloat16 is 0 from 0.998 on."""
    z = jnp.array([[np.log(P / (1 - P)), 0.0]], jnp.bfloat16)
    dz = jax.grad(lambda z: ops.softmax_cross_entropy(z, jnp.array([0])).sum())(z)
    expected = -1 / (1 + np.exp(float(z[0, 0])))
    np.testing.assert_allclose(np.asarray(dz, float)[0], [expected, -expected], rtol=2**-8)
