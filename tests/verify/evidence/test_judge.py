"""How many digits make an entry right, and when its terms cancel."""

import jax
import numpy as np
import pytest
from flint import arb
from hypothesis import given
from hypothesis import strategies as st
from jax import numpy as jnp

from jaxnn import verify
from jaxnn.verify.evidence.judge import Allowed, State, by_terms, judge, state

DRAW = np.random.default_rng(0).normal
EXACT = Allowed()


@pytest.mark.parametrize(
    ("hand", "true", "terms", "found"),
    [
        (1 + 1e-13, 1, 1, State.RIGHT),
        (1 + 1e-6, 1, 1, State.WRONG),
        (1e-13, 2e-13, 1, State.CANCELLED),
        (1e-13, 2e-13, 1e-12, State.WRONG),
        (0, 1e-30, 1, State.CANCELLED),
        (0, 0, 0, State.ZERO),
        (arb(0, 1e-40), arb(0, 1e-40), 1, State.ZERO),
        (arb(0, 1e-40), arb(0, 1e-40), 1e-30, State.OPEN),
        (arb(1, 0.1), 1, 1, State.OPEN),
        (arb("nan"), 1, 1, State.WRONG),
    ],
)
def test_the_state_of_an_entry(hand, true, terms, found):
    assert state(arb(hand), arb(true), arb(terms), EXACT) == found


def test_balls_may_be_a_thousand_times_as_wide_as_they_may_be_apart():
    assert Allowed.of(6) == pytest.approx((1e-6, 1e-3))


def test_an_entry_at_the_bound_itself_is_right():
    assert state(arb(1.25), arb(1), arb(0.5), Allowed(0.25, 0.25)) == State.RIGHT
    assert state(arb(1.375), arb(1), arb(0.5), Allowed(0.25, 0.25)) == State.WRONG


def test_where_an_error_is_measured_against_the_terms():
    states = np.array([State.RIGHT, State.ZERO, State.CANCELLED, State.WRONG, State.WRONG, State.WRONG])
    trues, terms = (np.array([arb(v) for v in row], object) for row in ([0, 0, 1, 2, 0, 0], [1, 1, 1, 1, 1, 0]))
    assert by_terms(states, trues, terms).tolist() == [False, True, True, False, True, False]


@given(st.floats(-1e3, 1e3, allow_subnormal=False), st.integers(1, 45).filter(lambda k: abs(k - 39) > 1))
def test_an_entry_is_right_to_12_digits_of_itself(true, k):
    leaf = lambda v: np.array([arb(1e6), v], object)  # noqa: E731
    hand = arb(true) * (1 + arb(2) ** -k)
    verdict = judge(leaf(hand), leaf(arb(true)), arb(1e6), terms=leaf(abs(arb(true)))).verdict
    assert verdict == (verify.FAIL if true and k < 38 else verify.PASS)


def scaled(w, x):
    """The first entry of the gradient is 1e-13 of the others."""
    return (jnp.tanh(x * w) * jnp.array([1e-13, 1, 1, 1])).sum()


@pytest.mark.parametrize("change", [2, 0, 1 + 1e-6, -1], ids=["doubled", "dropped", "1 + 1e-6", "the sign"])
def test_no_small_entry_hides(change):
    w, x = np.float32(DRAW(size=4)), np.float32(DRAW(size=4))
    true = jax.grad(scaled)
    wrong = lambda w, x: true(w, x).at[0].multiply(change)  # noqa: E731
    assert verify.gradient(scaled, true, w, x).ok
    assert verify.gradient(scaled, wrong, w, x).verdict == verify.FAIL
    loss = lambda w, x: np.sum(np.tanh(x * w) * np.array([1e-13, 1, 1, 1]))  # noqa: E731
    slope = lambda w, x: x * (1 - np.tanh(x * w) ** 2) * np.array([1e-13 * change, 1, 1, 1])  # noqa: E731
    assert verify.gradient(loss, slope, w, x).verdict != verify.PASS


@pytest.mark.parametrize("change", [1 + 1e-6, 1 - 1e-9])
def test_a_factor_near_1_fails_in_a_deep_network(change):
    draw = np.random.default_rng(1).normal
    weights = [np.float32(draw(size=(6, 6)) / 2) for _ in range(8)]

    def cost(weights, x):
        for W in weights:
            x = jnp.tanh(x @ W.T)
        return (x**2).sum()

    def wrong(weights, x):
        first, *others = jax.grad(cost)(weights, x)
        return [first * change, *others]

    assert verify.gradient(cost, wrong, weights, np.float32(draw(size=(5, 6)))).verdict == verify.FAIL


def test_what_is_zero_by_cancellation_is_right_and_a_remainder_is_not():
    """A bias before batch norm."""

    def cost(p, x, c):
        z = x @ p["W"].T + p["b"][None]
        out = (z - z.mean(0, keepdims=True)) / jnp.sqrt(z.var(0, keepdims=True) + 1e-5)
        return (c * jnp.tanh(out)).sum()

    right = jax.grad(cost)
    with_bias = lambda f: lambda p, x, c: {**right(p, x, c), "b": f(p, x, c)}  # noqa: E731
    args = (
        {"W": np.float32(DRAW(size=(2, 3))), "b": np.float32(DRAW(size=2))},
        *(np.float32(DRAW(size=(5, n))) for n in (3, 2)),
    )
    assert verify.gradient(cost, right, *args).ok
    assert verify.gradient(cost, with_bias(lambda p, x, c: jnp.zeros(2, x.dtype)), *args).ok
    off = with_bias(lambda p, x, c: jnp.full(2, 1e-3, x.dtype))
    assert verify.gradient(cost, off, *args).verdict == verify.FAIL


def test_a_converged_iteration_is_right_to_the_digits_to_which_it_converges():
    @jax.custom_jvp
    def root(a):
        y = (1 + a) / 2
        for _ in range(5):
            y = (y + a / y) / 2
        return y

    root.defjvp(lambda p, t: (root(p[0]), t[0] / (2 * root(p[0]))))
    report = verify.custom_jvp(root, jnp.float32([1.5, 2.0, 3.0]), points="given")
    assert report.ok
    assert 20 < report.digits < 50
    assert any("no further" in note for note in report.notes)


def test_a_table_that_was_rounded_twice_is_right_to_15_digits():
    q, _ = np.linalg.qr(DRAW(size=(4, 4)))
    inverse = np.linalg.inv(q).T
    rotated = jax.custom_jvp(lambda x: jnp.sin(x @ q))
    rotated.defjvp(lambda p, t: (rotated(p[0]), jnp.cos(p[0] @ q) * (t[0] @ inverse)))
    report = verify.custom_jvp(rotated, jnp.float32(DRAW(size=(2, 4))))
    assert report.ok
    assert 12 < report.digits < 17
    assert any("no further" in note for note in report.notes)


def test_a_guard_is_forgiven_at_every_point_with_fewer_digits():
    def attention(q, k, v):
        s = q @ k.T
        e = jnp.exp(s - s.max(-1, keepdims=True))
        return e @ v / (e.sum(-1, keepdims=True) + 1e-10)

    def forward(q, k, v):
        return attention(q, k, v), (q, k, v, jax.nn.softmax(q @ k.T, axis=-1))

    def backward(res, do):
        q, k, v, p = res
        dp = do @ v.T
        ds = p * (dp - (p * dp).sum(-1, keepdims=True))
        return ds @ k, ds.T @ q, p.T @ do

    draw = np.random.default_rng(0).normal
    args = [np.float32(draw(size=shape)) for shape in ((4, 3), (5, 3), (5, 2))]
    wrong = verify.vjp(forward, backward, *args)
    assert wrong.verdict == verify.FAIL
    assert any("a guard, 1e-10 at test_judge.py" in note and "digits=8 says so" in note for note in wrong.notes)
    report = verify.vjp(forward, backward, *args, digits=6)
    assert report.ok
    assert {point.verdict for point in report.points} == {verify.PASS}
