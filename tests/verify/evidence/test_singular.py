"""Points at which numbers tie, or the truth is not finite: the derivative is what lies beside them."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxnn import verify

relu = jax.nn.relu


def sigmoid_by_abs(x):
    """σ without overflow: it is smooth at 0, and its autodiff there is 0 instead of ¼."""
    return jnp.where(x >= 0, 1.0, jnp.exp(-abs(x))) / (1 + jnp.exp(-abs(x)))


def guarded_product(p):
    return jnp.where(p[0] != 0, p[0] * jnp.exp(p[1]), 0.0)


def square(x):
    return (x**2).sum()


def guarded_norm(x):
    """The norm of x: of the guard's far side the derivative is not finite."""
    return jnp.where(square(x) > 0, jnp.sqrt(square(x)), 0.0)


def guarded_log(x):
    return jnp.where(x > 0, x * jnp.log(jnp.where(x > 0, x, 1.0)), 0.0)


def seam(x):
    """x², but 1e-12 where |x| < 1e-6: it jumps nowhere, and its derivative does."""
    return jnp.where(abs(x) < 1e-6, 1e-12, x**2)


ZERO3 = np.zeros(3)
# name: (function, point, right derivatives, wrong ones)
CASES = {
    "w exp(x), guarded": (guarded_product, [0.0, 0.7], [[np.exp(0.7), 0]], [[0, 0]]),
    "sigmoid by |x|": (sigmoid_by_abs, 0.0, [0.25], [0.0]),
    "sigmoid by |x|, beside a relu": (lambda p: sigmoid_by_abs(p[0]) + relu(p[1]), [0.0, 0.0], [[0.25, 0.5]], [[0, 0]]),
    "i0": (jax.scipy.special.i0, 0.0, [0.0], [1.0]),
    "|x|^1.5": (lambda x: abs(x) ** 1.5, 0.0, [0.0], [1.0]),
    "the norm at 0": (jnp.linalg.norm, ZERO3, [ZERO3, np.ones(3) / 2], [np.array([0.8, 0.8, 0])]),
    "the norm at 0, guarded": (guarded_norm, ZERO3, [ZERO3], [np.array([0.8, 0.8, 0])]),
    "the squared norm at 0": (lambda x: jnp.linalg.norm(x) ** 2, ZERO3, [ZERO3], [np.ones(3)]),
    "‖a x‖ for x = 0": (lambda a: jnp.linalg.norm(a * jnp.zeros(2)), 1.3, [0.0], [1.0]),
    "relu": (relu, 0.0, [0.0, 0.3, 1.0], [1.5, -0.01]),
    "relu(x) − relu(−x)": (lambda x: relu(x) - relu(-x), 0.0, [1.0], [0.0]),
    "relu in a relu": (lambda w: relu(w[0] - 100 * relu(w[1])), [0.0, 0.0], [[0.5, -20], [0, 0]], [[0, 1], [0, 101]]),
    "a guard around 0": (lambda x: jnp.where(abs(x) < 1e-6, 2 * x, 2 * x + x**3), 0.0, [2.0], [0.0]),
    "a guard's edge": (seam, 1e-6, [0.0, 2e-6, 1e-6], [3e-6]),
    "a maximum of 12": (jnp.max, np.ones(12), [np.ones(12) / 12, np.eye(12)[3]], [np.ones(12), np.ones(12) / 13]),
    "x √x, of one side": (lambda x: x * jnp.sqrt(x), 0.0, [0.0], [1.0]),
}  # fmt: skip
NUMPY = {
    "|w|": (lambda w: np.sum(np.abs(w)), np.zeros(2), [np.array([1.0, -1.0]), np.zeros(2)], [np.array([2.0, 0])]),
    "relu(w) − relu(−w)": (lambda w: np.maximum(w, 0) - np.maximum(-w, 0), 0.0, [1.0], [0.0]),
    "the maxima of rows": (
        lambda x: np.sum(np.max(x, axis=1) ** 2),
        np.array([[1.0, 1.0, 0.5], [2.0, 0.3, 2.0]]),
        [np.array([[2.0, 0, 0], [0, 0, 4.0]]), np.array([[1.0, 1, 0], [2, 0, 2]])],
        [np.array([[2.0, 0, 1.0], [0, 0, 4.0]])],
    ),
}  # fmt: skip


def verdict(f, point, derivative):
    with jax.enable_x64(True):
        return verify.gradient(
            f, lambda x: np.asarray(derivative, float), np.asarray(point, float), points="given"
        ).verdict


@pytest.mark.sample(lambda name: [*CASES].index(name) // 2)
@pytest.mark.parametrize("name", CASES)
def test_what_lies_beside_the_point_is_right(name):
    f, point, right, wrong = CASES[name]
    assert [verdict(f, point, v) for v in right] == [verify.PASS] * len(right)
    assert [verdict(f, point, v) for v in wrong] == [verify.FAIL] * len(wrong)


@pytest.mark.parametrize("name", NUMPY)
def test_so_it_is_in_numpy(name):
    """Where a choice at each tie cannot be tried, what is not between the limits is undecided."""
    f, point, right, wrong = NUMPY[name]
    assert [verdict(f, point, v) for v in right] == [verify.PASS] * len(right)
    assert verify.PASS not in [verdict(f, point, v) for v in wrong]


JUMPS = {
    "a jump": (lambda x: jnp.where(x > 0, x + 1, x), 0.0, 1.0),
    "an isolated value": (lambda x: jnp.where(x == 0, 5.0, x), 0.0, 1.0),
    "a jump in NumPy": (lambda x: np.where(x > 0, x + 1, x), 0.0, 1.0),
    "round at a half": (lambda x: jnp.round(x) + x, 0.5, 1.0),
    "floor at a whole number": (lambda x: jnp.floor(x) + x, 2.0, 1.0),
}


@pytest.mark.parametrize("name", JUMPS)
def test_where_the_value_jumps_there_is_no_derivative_and_nothing_is_decided(name):
    f, at, slope = JUMPS[name]
    only = verify.gradient(f, lambda x: slope + 0 * x, np.array(at), points="given")
    assert (only.verdict, "jumps" in only.reason) == (verify.INCONCLUSIVE, True)
    assert verify.gradient(f, lambda x: slope + 0 * x, np.array(at)).ok
    assert verify.gradient(f, lambda x: 2 * slope + 0 * x, np.array(at)).verdict == verify.FAIL


def test_a_derivative_without_limit_at_the_given_point_is_undecided():
    report = verify.gradient(guarded_log, lambda x: jnp.where(x > 0, 1 + jnp.log(abs(x)), 0.0), np.array(0.0))
    assert report.verdict == verify.INCONCLUSIVE
    assert report.points[1].verdict == verify.PASS


@pytest.mark.parametrize("factor", [1, 1 + 1e-6])
def test_an_infinite_derivative_at_a_drawn_point_is_no_fault(factor):
    """|x|^¾ with a guard: at 0 its autodiff is 0, its derivatives beside 0 grow without bound, and so does the rule."""
    root = jax.custom_jvp(lambda x: jnp.where(x == 0, 0.0, abs(x) ** 0.75))
    root.defjvp(lambda x, dx: (root(*x), factor * 0.75 * jnp.sign(x[0]) * abs(x[0]) ** -0.25 * dx[0]))
    report = verify.custom_jvp(root, np.float32([0.5, 0.3]))
    assert report.verdict == (verify.PASS if factor == 1 else verify.FAIL)
    assert any("zeros: the derivatives beside the point have no limit" in note for note in report.notes) == report.ok


def test_a_value_that_is_wrong_at_a_kink_is_wrong():
    """The norm whose rule, at 0, has the derivative 0 and the value of something else."""
    norm = jax.custom_jvp(lambda x: jnp.sqrt(square(x)))

    def rule(primals, tangents):
        x = jnp.where((primals[0] == 0).all(), 1.0, primals[0])
        value, slope = jax.jvp(norm.fun, (x,), tangents)
        return value, jnp.where((primals[0] == 0).all(), 0.0, slope)

    norm.defjvp(rule)
    report = verify.custom_jvp(norm, np.zeros(3, np.float32))
    assert (report.verdict, [leaf.verdict for leaf in report.leaves]) == (verify.FAIL, [verify.PASS, verify.FAIL])


def test_nan_at_the_given_point_is_wrong_where_the_cost_is_finite():
    plogp = lambda p: jnp.where(p > 0, p * jnp.log(p), 0).sum()  # noqa: E731
    report = verify.gradient(plogp, jax.grad(plogp), np.array([0.0, 0.5, 0.5]))
    assert (report.verdict, report.leaves[0].index) == (verify.FAIL, (0,))
    assert "not finite" in report.reason
    assert verify.gradient(plogp, jax.grad(plogp), np.array([0.2, 0.3, 0.5])).ok


def test_a_root_of_zero_below_a_guard_is_infinite():
    """x / ‖x‖ at 0, guarded as Keras did: min(∞, 1/ε) is finite, and its derivative is nan in JAX (keras #23093)."""
    guarded = lambda x: (x * jnp.minimum(jax.lax.rsqrt(square(x)), 2.0**20)).sum()  # noqa: E731

    def grad(x):
        small = square(x) < 2.0**-40
        r = jnp.where(small, 2.0**20, jax.lax.rsqrt(jnp.where(small, 1.0, square(x))))
        return jnp.full_like(x, r) - jnp.where(small, 0.0, x.sum() * x * r**3)

    assert verify.gradient(guarded, grad, ZERO3).ok
    assert verify.gradient(guarded, jax.grad(guarded), ZERO3).verdict == verify.FAIL


@pytest.mark.parametrize("masked", [jnp.nansum, lambda v: jnp.where(jnp.isfinite(v), v, 0).sum()])
def test_nan_among_the_data_is_what_the_cost_makes_of_it(masked):
    cost = lambda w, y: masked((w - y) ** 2)  # noqa: E731
    w, y = np.array([1.0, 2.0]), np.array([np.nan, 1.0])
    right = lambda w, y: jnp.where(jnp.isnan(y), 0, 2 * (w - y))  # noqa: E731
    assert verify.gradient(cost, right, w, y).ok
    assert verify.gradient(cost, lambda w, y: right(w, y) * 1.001, w, y).verdict == verify.FAIL


@pytest.mark.parametrize(
    "f", [lambda w: relu(w - 9).sum(), lambda w: np.sum(np.maximum(w - 9, 0))], ids=["JAX", "NumPy"]
)
def test_a_derivative_that_is_0_at_every_point_shows_nothing(f):
    blind = verify.gradient(f, lambda w: 0 * w, np.float32([0.5, 1]), points="given")
    assert blind.verdict == verify.INCONCLUSIVE
    assert "0 at every point" in blind.reason


def test_a_derivative_that_is_0_by_itself_is_right():
    assert verify.gradient(lambda w: jnp.sign(w).sum(), jnp.zeros_like, np.float32([0.5, 1])).ok


def test_no_leaf_is_wrong_under_a_pass():
    """Max pooling whose backward pass gives the whole gradient to each of the maxima that tie."""

    def grad(W, x, v):
        a = x @ W.T
        m = np.max(a, axis=0)
        return np.where(a == m, m - v, 0).T @ x

    draw = np.random.default_rng(0).normal
    cost = lambda W, x, v: 0.5 * np.sum((np.max(x @ W.T, axis=0) - v) ** 2)  # noqa: E731
    report = verify.gradient(cost, grad, draw(size=(2, 3)), draw(size=(4, 3)), draw(size=2))
    assert report.ok
    assert {leaf.verdict for leaf in report.leaves} == {verify.PASS}
    assert any("zeros: the rule is not between" in note for note in report.notes)


@pytest.mark.parametrize(("at_zero", "verdict"), [(1.0, verify.INCONCLUSIVE), (0.0, verify.PASS)])
def test_a_black_box_may_make_a_choice_at_a_tie(at_zero, verdict):
    """relu′(0) = 1 by a callback is not wrong; where nothing ties, a wrong slope is."""

    def rule(slope):
        def on(x):
            x = np.asarray(x)
            return np.where(x == 0, at_zero, slope * (x > 0)).astype(x.dtype)

        def backward(x, dout):
            return (dout * jax.pure_callback(on, jax.ShapeDtypeStruct(x.shape, x.dtype), x),)

        return backward

    ask = lambda slope, x: verify.vjp(lambda x: (relu(x), x), rule(slope), np.float32(x), points="given").verdict  # noqa: E731
    assert ask(1, [0.0, 1.5, -1]) == verdict
    assert ask(1, [0.5, 1.5, -1]) == verify.PASS
    assert ask(2, [0.5, 1.5, -1]) == verify.FAIL


def test_more_ties_than_choices_can_be_tried_are_undecided():
    """40 units of 3 weights that are 0, each with a choice of its own: no point between the limits, and right."""
    draw = np.random.default_rng(0)
    X, v, on = draw.normal(size=(40, 3)), draw.normal(size=40), draw.integers(0, 2, 40)
    cost = lambda w: (relu(X @ w) * v).sum()  # noqa: E731
    chosen = lambda w: (jnp.where(X @ w == 0, on, X @ w > 0) * v) @ X  # noqa: E731
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        at_zero = verify.gradient(cost, chosen, np.zeros(3), points="given")
        wrong = verify.gradient(lambda w: cost(w) + w[0], chosen, np.zeros(3), points="given")
    assert at_zero.verdict == verify.INCONCLUSIVE
    assert "a choice at each tie" in at_zero.reason
    assert wrong.verdict != verify.PASS
