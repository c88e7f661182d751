"""Valid but unusual input: second derivatives, empty batches, NumPy's numbers, float16, what is masked or ignored."""

import jax
import numpy as np
import pytest
import witnesses
from jax import numpy as jnp

from jaxnn import ops

KEY = jax.random.key(0)
Q = jax.random.normal(KEY, (2, 3, 2, 4))
ROWS, LABELS = jax.random.normal(KEY, (4, 5)), jnp.arange(4)


def test_second_derivatives_are_numbers_however_xla_rounds_the_largest():
    q = jax.random.normal(KEY, (64, 37)).reshape(8, 8, 1, 37)
    bias = jax.random.normal(jax.random.key(1), (64, 37)).reshape(1, 64, 37)[:, :1, :8]
    gradient = jax.grad(lambda q: ops.attention(q, q, q, bias=bias)[0].sum())
    assert np.isfinite(jax.jit(lambda q: jax.jvp(gradient, (q,), (jnp.cos(q),))[1])(q)).all()


def test_a_query_that_sees_no_key_has_no_say():
    mask = jnp.array([[True] * 3, [False] * 3, [True] * 3])[None]

    def f(q):
        out, lse = ops.attention(q, q, q, mask)
        return out.sum() + jnp.where(lse == -jnp.inf, 0, lse**2).sum()

    assert np.isfinite(jax.grad(f)(Q)).all()


def test_a_window_wider_than_all_hides_nothing():
    np.testing.assert_array_equal(ops.attention(Q, Q, Q, window=2**40)[0], ops.attention(Q, Q, Q)[0])


def test_a_mask_without_heads():
    mask = jnp.tril(jnp.ones((3, 3), bool))
    np.testing.assert_allclose(ops.attention(Q, Q, Q, mask)[0], ops.attention(Q, Q, Q, causal=True)[0], rtol=1e-6)


def test_a_label_that_names_no_class_is_refused_or_not_a_number():
    wrong = jnp.array([-1, 0, 4, 5])
    for f in (
        ops.softmax_cross_entropy,
        lambda h, y: ops.linear_cross_entropy(h, jnp.eye(5), y, reduction="none"),
    ):
        with pytest.raises(ValueError, match="y with -1: give whole numbers from 0 to 4"):
            f(ROWS, wrong)
        np.testing.assert_array_equal(np.isnan(jax.jit(f)(ROWS, wrong)), [True, False, False, True])


def test_what_is_ignored_or_masked_counts_for_nothing():
    z = ROWS.at[1].set(jnp.nan)
    dz = jax.grad(lambda z: ops.softmax_cross_entropy(z, jnp.array([0, -1, 2, 3]), ignore=-1, soft_cap=2.0).sum())(z)
    np.testing.assert_array_equal(dz[1], 0)
    masked = ROWS.at[:, 4].set(-jnp.inf)
    dw = jax.grad(lambda w: ops.softmax_cross_entropy(masked, LABELS, w).sum())(jnp.ones(5))
    assert np.isfinite(dw).all()
    assert dw[4] == 0
    uniform = jnp.full((4, 5), 0.25).at[:, 4].set(0)
    assert np.isfinite(ops.softmax_cross_entropy(masked, uniform)).all()
    dz, dteacher = jax.grad(lambda z, t: ops.jensen_shannon(z, t).sum(), (0, 1))(masked, masked + 1.0)
    assert np.isfinite(dz).all()
    assert np.isfinite(dteacher).all()


def test_a_loss_that_is_scaled_keeps_the_digits_of_float16():
    h = jax.random.normal(KEY, (256, 8), jnp.float16)
    W = (0.3 * jax.random.normal(jax.random.key(3), (4000, 8))).astype(jnp.float16)
    y = jax.random.randint(KEY, (256,), 0, 4000)
    J = lambda h, W: 2.0**14 * ops.linear_cross_entropy(h, W, y)  # noqa: E731
    low, high = (jax.grad(J, (0, 1))(h.astype(t), W.astype(t)) for t in (jnp.float16, jnp.float32))
    assert witnesses.difference(jax.tree.map(lambda v: v.astype(jnp.float32), low), high) < 4e-3


def test_empty_batches():
    out, lse = ops.attention(Q[:0], Q[:0], Q[:0], causal=True)
    assert out.shape == (0, 3, 2, 4)
    assert lse.shape == (0, 3, 2)
    J, (dh, dW) = jax.value_and_grad(lambda h, W: ops.linear_cross_entropy(h, W, LABELS[:0]), (0, 1))(ROWS[:0], ROWS)
    assert J == 0
    assert dh.shape == (0, 5)
    np.testing.assert_array_equal(dW, 0)
    with pytest.raises(ValueError, match="every length, number of heads and width is 1 or more"):
        ops.attention(Q, Q[:, :0], Q[:, :0])


def test_a_scale_of_numpy(x64):
    out, _ = ops.attention(Q, Q, Q, scale=1 / np.sqrt(4))
    assert out.dtype == jnp.float32
    assert ops.linear_cross_entropy(ROWS, ROWS, LABELS, soft_cap=np.float64(3)).dtype == jnp.float32


def test_padding_may_be_a_number_that_names_no_row():
    W = np.ones((5, 3), np.float32)
    np.testing.assert_array_equal(ops.embedding(W, np.array([0, -1]), padding=-1), [[1, 1, 1], [0, 0, 0]])


def test_positions_with_an_axis_of_one():
    x = Q.astype(jnp.float32)
    np.testing.assert_array_equal(ops.rope(x, jnp.arange(3)[None]), ops.rope(x))
