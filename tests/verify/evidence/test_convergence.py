"""Implicit rules of iterations whose derivatives do not converge, or not as their values do: bisections, minimisers."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from jaxnn import verify
from jaxnn.verify.evidence.convergence import has_iteration
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS

A = np.float32([1.5, -0.75])


def cubic(z, a):
    return z**3 + z - a


def halved(a, bracket):
    """The half of the bracket in which z³ + z = a."""
    low, high = bracket
    middle = (low + high) / 2
    is_above = cubic(middle, a) > 0
    return jnp.where(is_above, low, middle), jnp.where(is_above, middle, high)


def bisection(a):
    start = -jnp.full_like(a, 4), jnp.full_like(a, 4)
    return sum(lax.while_loop(lambda c: (c[1] - c[0]).max() > 1e-4, lambda c: halved(a, c), start)) / 2


def counted(a):
    return sum(lax.fori_loop(0, 24, lambda _, c: halved(a, c), (-jnp.full_like(a, 4), jnp.full_like(a, 4)))) / 2


def moving(a):
    """From a bracket that depends on a."""
    return sum(lax.fori_loop(0, 24, lambda _, c: halved(a, c), (-1 - jnp.abs(a), 1 + jnp.abs(a)))) / 2


def secants(a):
    """By secants, each between two points with the root between them (Illinois): a decision ties as they converge."""

    def step(c):
        low, high, at_low, at_high, side, _ = c
        z = (at_low * high - at_high * low) / (at_low - at_high)
        v = cubic(z, a)
        up = v > 0
        at_high = jnp.where(up, v, jnp.where(side == -1, at_high / 2, at_high))
        at_low = jnp.where(up, jnp.where(side == 1, at_low / 2, at_low), v)
        return jnp.where(up, low, z), jnp.where(up, z, high), at_low, at_high, jnp.where(up, 1, -1), z

    low, high = -jnp.full_like(a, 4), jnp.full_like(a, 4)
    start = low, high, cubic(low, a), cubic(high, a), jnp.zeros(a.shape, jnp.int32), low
    return lax.while_loop(lambda c: jnp.abs(cubic(c[-1], a)).max() > 1e-5, step, start)[-1]


def objective(z, a):
    return jnp.sum(z**4 / 4 + z**2 / 2 - a * z) + z[0] * z[1] / 4


def downhill(z, a, way):
    """z a step that way, halved until it leads down."""
    here = objective(z, a)
    return lax.while_loop(lambda t: objective(z - t * way, a) > here - t * way @ way / 4, lambda t: t / 2, 1.0)


def descent(a):
    """By steepest descent with a line search, a loop within a loop, which must not run on."""
    slope = jax.grad(objective)
    step = lambda z: z - downhill(z, a, slope(z, a)) * slope(z, a)  # noqa: E731
    return lax.while_loop(lambda z: jnp.abs(slope(z, a)).max() > 1e-2, step, jnp.zeros_like(a))


def accelerated(a):
    """By Nesterov's method: the derivatives of the iterates converge more slowly than their values, and neither far."""
    slope = jax.grad(objective)

    def step(c):
        z, y, t, _ = c
        new, next_t = y - slope(y, a) / 8, (1 + jnp.sqrt(1 + 4 * t**2)) / 2
        return new, new + (t - 1) / next_t * (new - z), next_t, jnp.abs(new - z).max()

    zero = jnp.zeros_like(a)
    return lax.while_loop(lambda c: c[-1] > 1e-3, step, (zero, zero, 1.0, 1.0))[0]


def with_implicit_rule(solve, equation, by=1.0):
    """solve with `by` times the derivative of the z for which equation(z, a) is 0."""

    def backward(residuals, g):
        z, a = residuals
        u = jnp.linalg.solve(jax.jacobian(equation)(z, a).T, g)
        return (-by * jax.vjp(lambda a: equation(z, a), a)[1](u)[0],)

    rule = jax.custom_vjp(solve)
    rule.defvjp(lambda a: (lambda z: (z, (z, a)))(rule(a)), backward)
    return rule


@pytest.mark.sample
@pytest.mark.parametrize(("solve", "wrong"), [(bisection, 2.0), (counted, 1.001), (moving, -1.0), (secants, 1.001)])
def test_a_rule_is_held_against_the_values_to_which_a_bisection_converges(solve, wrong):
    report = verify.custom_vjp(with_implicit_rule(solve, cubic), A, points="given")
    assert report.verdict == PASS, str(report)
    assert 3 < report.digits < 12
    assert verify.custom_vjp(with_implicit_rule(solve, cubic, wrong), A, points="given").verdict == FAIL


@pytest.mark.sample
@pytest.mark.parametrize("solve", [descent, accelerated])
def test_a_rule_is_held_against_the_values_to_which_a_minimiser_converges(solve):
    equation = jax.grad(objective)
    report = verify.custom_vjp(with_implicit_rule(solve, equation), A, points="given")
    assert report.verdict == PASS, str(report)
    assert 2 <= report.digits < 8
    assert verify.custom_vjp(with_implicit_rule(solve, equation, 1.01), A, points="given").verdict == FAIL


def test_a_directional_derivative_and_a_cost_are_held_against_them_too():
    for by, verdict in ((1, PASS), (1.001, FAIL)):
        rule = jax.custom_jvp(counted)
        rule.defjvp(lambda a, da, by=by: (counted(*a), by * da[0] / (3 * counted(*a) ** 2 + 1)))
        assert verify.custom_jvp(rule, A, points="given").verdict == verdict
        grad = lambda a, by=by: by * 2 * counted(a) / (3 * counted(a) ** 2 + 1)  # noqa: E731
        assert verify.gradient(lambda a: (counted(a) ** 2).sum(), grad, A, points="given").verdict == verdict


def test_a_root_outside_of_the_bracket_is_drawn_again():
    """Of 8z³ + 2z = b from −2 to 2 for b beyond 68."""
    solve = lambda b: counted(b) / 2  # noqa: E731
    half = with_implicit_rule(solve, lambda z, b: cubic(2 * z, b))
    assert verify.custom_vjp(half, np.float32([50.0])).verdict == PASS


@pytest.mark.sample
@pytest.mark.parametrize("solve", [counted, moving])
def test_the_derivative_of_the_steps_alone_never_passes(solve):
    cost = lambda a: (solve(a) ** 2).sum()  # noqa: E731
    report = verify.gradient(cost, jax.grad(cost), A, points="given")
    assert report.verdict == INCONCLUSIVE
    assert "steps of an iteration" in report.reason
    assert verify.gradient(cost, lambda a: 0 * a, A, points="given").verdict != PASS


def test_a_flag_that_holds_an_iteration_leaves_a_rule_undecided_or_wrong():
    """Steepest descent that stops at a slope of 1e-3, by a flag."""
    slope = jax.grad(objective)

    def held(a):
        def step(_, c):
            z, done = c
            return jnp.where(done, z, z - slope(z, a) / 4), done | (jnp.abs(slope(z, a)).max() < 1e-3)

        return lax.fori_loop(0, 40, step, (jnp.zeros_like(a), jnp.asarray(False)))[0]

    assert verify.custom_vjp(with_implicit_rule(held, slope), A, points="given").verdict == INCONCLUSIVE
    for by in (2.0, 0.0):
        assert verify.custom_vjp(with_implicit_rule(held, slope, by), A, points="given").verdict == FAIL


def bisected(a):
    """In NumPy."""
    total = 0.0
    for v in a:
        low, high = -4.0, 4.0
        while high - low > 1e-8:
            middle = (low + high) / 2
            if cubic(middle, v) > 0:
                high = middle
            else:
                low = middle
        total = total + low**2
    return total


def settled(a):
    """By iteration in NumPy."""
    z, change = 0 * a, 1.0
    while change > 1e-6:
        new = np.tanh(z / 2 + a)
        z, change = new, np.abs(new - z).max()
    return z


def of_root(a):
    z = np.float64(a)
    for _ in range(40):
        z = z - cubic(z, a) / (3 * z**2 + 1)
    return 2 * z / (3 * z**2 + 1)


def of_settled(a):
    z = settled(a)
    return 2 * z * (1 - z**2) / (1 - (1 - z**2) / 2)


@pytest.mark.parametrize(("cost", "grad"), [(bisected, of_root), (lambda a: (settled(a) ** 2).sum(), of_settled)])
def test_a_loop_in_numpy_that_ends_at_a_tolerance(cost, grad):
    a = np.array([1.5, -0.75])
    assert verify.gradient(cost, grad, a).verdict == INCONCLUSIVE
    for by in (2.0, -1.0, 0.0):
        assert verify.gradient(cost, lambda a, by=by: by * grad(a), a).verdict == FAIL


def test_a_branch_in_numpy_is_no_such_loop():
    """The hinge loss, example by example: all of them but the last are beyond the margin."""

    def cost(w):
        total = 0.0
        for x, y in ((1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (-2.0, 1.0)):
            if y * (w * x) < 1:
                total = total + (1 - y * w * x) ** 2
        return total

    def grad(w):
        return 4 * (1 + 2 * w)

    assert verify.gradient(cost, grad, 1.5, points="given").ok
    assert verify.gradient(cost, lambda w: 1.001 * grad(w), 1.5, points="given").verdict == FAIL


WALKS = {  # of loops that carry floats: (what, whether it is an iteration)
    "a root": (lambda x: lax.fori_loop(0, 9, lambda _, s: (s + x[0] / s) / 2, 1.0), True),
    "steps that shrink as they are counted": (
        lambda x: lax.fori_loop(0, 9, lambda i, s: s - (s - x[0]) / (i + 2.0), 1.0),
        True,
    ),
    "memory that is a ring": (lambda x: lax.fori_loop(0, 9, lambda i, s: s.at[i % 2].set(s.sum() / 3), x), True),
    "through an array": (lambda x: lax.fori_loop(0, 3, lambda i, s: s * s + x[i], 1.0), False),
    "through an array, in a function": (lambda x: lax.fori_loop(0, 3, jax.jit(lambda i, s: s + x[2 - i]), 1.0), False),
    "through an array, until an end that is given": (
        lambda x: lax.fori_loop(0, x.astype(int)[0], lambda i, s: s + x[i], 1.0),
        False,
    ),
    "writing": (lambda x: lax.fori_loop(0, 2, lambda i, s: s.at[i + 1].set(s[i] / 2), x), False),
    "block by block": (lambda x: lax.fori_loop(0, 3, lambda i, s: s + lax.dynamic_slice(x, (i,), (1,)), x[:1]), False),
}


@pytest.mark.parametrize("name", WALKS)
def test_a_walk_through_an_array_is_no_iteration(name):
    """Behind its end there is nothing to run on to."""
    f, is_iteration = WALKS[name]
    assert has_iteration(jax.make_jaxpr(f)(np.array([1.0, 2.0, 3.0])).jaxpr) == is_iteration
