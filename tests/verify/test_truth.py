"""The truth where reverse mode cannot go, and where balls cannot: forward mode, differences, iterations that run on."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad

from jaxnn import verify
from jaxnn.verify.evidence.float_differences import slope
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS, Evidence

A = np.float32([0.3, -1.2])


def line(f, x):
    with np.errstate(all="ignore"):
        found = slope(lambda t: np.asarray(f(x + t), np.float64), abs(x) or 1.0, 1.0)
    return float(found.value), float(found.error)


def narrow(x):
    """1000 times a step of 0.001 at 1."""
    return np.interp(x, [0.0, 1.0, 1.001, 2.0], [0.0, 0.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("f", "x", "true"),
    [
        (np.exp, 0.5, np.exp(0.5)),
        (lambda x: 1 / x, 1e-3, -1e6),
        (narrow, 1.0005, 1000.0),
        (narrow, 1.00099, 1000.0),
        (lambda x: abs(x - 1), 1 + 1e-5, 1.0),
        (lambda x: np.sin(1e3 * x), 2.0, 1e3 * np.cos(2e3)),
        (np.log, 1e-8, 1e8),
        (lambda x: 3.0, 0.3, 0.0),
        (lambda x: np.maximum(x, 0.0), -0.3, 0.0),
    ],
)
def test_a_slope_knows_six_digits_at_least(f, x, true):
    value, error = line(f, x)
    assert abs(value - true) <= error <= 1e-6 * max(abs(true), 1)


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (abs, 0.0),
        (narrow, 1.001),
        (lambda x: float(x > 0.3), 0.3),
        (lambda x: x**2 + 1e-6 * np.sin(1e12 * x), 0.3),
        (np.sqrt, 0.0),
        (lambda x: np.float64(np.sin(np.float32(x))) * 0.7, 0.3),
    ],
)
def test_a_slope_that_is_not_there_or_rounded_is_not_known(f, x):
    _, error = line(f, x)
    assert not error <= 1e-6


@pytest.mark.parametrize(
    ("cost", "grad", "w"),
    [
        (lambda w: np.linalg.inv(np.diag(w)).sum(), lambda w: -1 / w**2, [1e-3, 1.0]),
        (lambda w: np.linalg.eigvalsh(np.diag(w))[0], lambda w: np.float64([1, 0]), [1e-3, 1.0]),
        (lambda w: float(narrow(np.sqrt(w)[0])), lambda w: 500 / np.sqrt(w), [1.0005**2]),
    ],
)
def test_a_gradient_of_zeros_does_not_pass_in_float64(cost, grad, w):
    w = np.float64(w)
    assert verify.gradient(cost, grad, w, points="given").ok
    assert verify.gradient(cost, lambda w: 0 * w, w, points="given").verdict == FAIL
    assert verify.gradient(cost, lambda w: grad(w) * (1 + 1e-5), w, points="given").verdict == FAIL


def test_a_truth_of_too_few_digits_decides_nothing():
    cost = lambda w: np.linalg.inv(np.diag(np.float64(w))).sum() * 1e-12 + 1  # noqa: E731
    report = verify.gradient(cost, lambda w: -1e-12 / w**2, np.float64([2.0, 3.0]), points="given")
    assert (report.verdict, report.evidence) == (INCONCLUSIVE, Evidence.FLOAT64)
    assert "6.0 are needed" in report.reason


def root(a, tolerance=1e-5):
    """z of z³ + z = a, by Newton."""

    def step(c):
        z, _ = c
        move = (z**3 + z - a) / (3 * z**2 + 1)
        return z - move, move

    return lax.while_loop(lambda c: jnp.abs(c[1]).max() > tolerance, step, (jnp.zeros_like(a), jnp.ones_like(a)))[0]


def with_rule(f, backward):
    rule = jax.custom_vjp(f)
    rule.defvjp(lambda *args: (f(*args), (*args, f(*args))), backward)
    return rule


def fixed_point(f, z):
    """By iteration, to six digits."""
    step = lambda c: (c[1], f(c[1]))  # noqa: E731
    return lax.while_loop(lambda c: jnp.abs(c[0] - c[1]).max() > 1e-6, step, (z, f(z)))[1]


def equilibrium(w, x):
    return fixed_point(lambda z: jnp.tanh(w @ z + x), jnp.zeros_like(x))


def counted(w, x):
    return lax.fori_loop(0, 12, lambda _, z: jnp.tanh(w @ z + x), jnp.zeros_like(x))


def implicit(by):
    def backward(residuals, g):
        w, _, z = residuals
        slope = 1 - z**2
        u = fixed_point(lambda u: g + w.T @ (slope * u), jnp.zeros_like(g))
        return by * jnp.outer(slope * u, z), slope * u

    return backward


@pytest.mark.sample
@pytest.mark.parametrize("f", [equilibrium, counted])
def test_an_implicit_rule_is_right_to_the_digits_to_which_its_iterations_converge(f):
    args = jnp.float32([[0.2, 0.1], [0.0, 0.3]]), jnp.float32([0.5, -1.0])
    report = verify.custom_vjp(with_rule(f, implicit(1)), *args, points="given")
    assert (report.verdict, report.evidence) == (PASS, Evidence.EXACT), str(report)
    assert 4 < report.digits < 9
    assert any("iterations converge to" in note for note in report.notes)
    assert verify.custom_vjp(with_rule(f, implicit(1 + 1e-6)), *args, points="given").verdict == FAIL
    neglecting = with_rule(f, lambda residuals, g: jax.vjp(lambda w, x: jnp.tanh(w @ residuals[2] + x), *args)[1](g))
    assert verify.custom_vjp(neglecting, *args, points="given").verdict == FAIL


def test_a_loop_without_a_known_end_is_differentiated_forwards():
    cost = lambda a: (root(a) ** 2).sum()  # noqa: E731
    grad = lambda a: 2 * root(a) / (3 * root(a) ** 2 + 1)  # noqa: E731
    report = verify.gradient(cost, grad, A)
    assert (report.verdict, report.evidence) == (PASS, Evidence.EXACT)
    assert any("forward mode" in note for note in report.notes)
    assert verify.gradient(cost, lambda a: 1.0001 * grad(a), A).verdict == FAIL


def test_the_given_root_of_a_custom_root():
    def cost(a):
        solve = lambda g, y: y / jax.jvp(g, (y,), (jnp.ones_like(y),))[1]  # noqa: E731
        return lax.custom_root(lambda z: z**3 + z - a, jnp.zeros_like(a), lambda f, z: root(a), solve).sum()

    assert verify.gradient(cost, jax.grad(cost), A).ok
    assert verify.gradient(cost, lambda a: 1 / (3 * root(a) ** 2 + 1), A).ok
    assert verify.gradient(cost, lambda a: 1 / (3 * root(a) ** 2 + 2), A).verdict == FAIL


def sine(x):
    """By a callback."""
    return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")


@pytest.mark.sample(lambda by, verdict: verdict)
@pytest.mark.parametrize(("by", "verdict"), [(1, PASS), (1.0001, FAIL), (0, FAIL)])
def test_a_callback_is_differenced_in_float64(by, verdict):
    reports = [
        verify.custom_vjp(with_rule(sine, lambda residuals, g: (by * g * jnp.cos(residuals[0]),)), A),
        verify.vjp(lambda x: (sine(x), x), lambda x, g: (by * g * jnp.cos(x),), A),
        verify.gradient(lambda x: sine(x).sum(), lambda x: by * jnp.cos(x), A),
    ]
    rule = jax.custom_jvp(sine)
    rule.defjvp(lambda primals, tangents: (rule(*primals), by * tangents[0] * jnp.cos(primals[0])))
    reports.append(verify.custom_jvp(rule, A))
    for report in reports:
        assert (report.verdict, report.evidence) == (verdict, Evidence.FLOAT64), str(report)
        assert "NumPy" not in str(report)


def test_callbacks_that_are_the_same():
    assert verify.same(sine, lambda x: sine(x) * 1, A).ok
    assert verify.same(sine, lambda x: sine(x) * 1.001, A).verdict == FAIL
    assert verify.same(jnp.sin, sine, A).ok


@pytest.mark.parametrize("x", [30.0, 45.0])
def test_slopes_of_which_differences_see_nothing_at_first(x64, x):
    """1 − erf 30 is 1e-393, 1 − erf 45 is 1e-881: no difference is seen at 400 bits, nor the latter at 1600."""

    def cost(x):
        return jax.scipy.special.erf(x).sum()

    x = np.float64([x])
    report = verify.gradient(cost, lambda x: 2 / jnp.sqrt(jnp.pi) * jnp.exp(-(x**2)), x, points="given")
    assert report.ok
    assert [witness.agrees_with_truth for witness in report.witnesses] == [True]
    twice = jax.custom_jvp(jax.scipy.special.erf)
    twice.defjvp(lambda x, dx: (twice(*x), 4 / jnp.sqrt(jnp.pi) * jnp.exp(-(x[0] ** 2)) * dx[0]))
    wrong = verify.custom_jvp(twice, x, points="given")
    assert wrong.verdict == verify.FAIL


@pytest.mark.parametrize("f", [lambda x: jax.nn.gelu(x, approximate=False), jax.scipy.special.erf, jax.lax.erf_inv])
def test_rounded_constants_do_not_mislead_the_witness_of_differences(f):
    cost = lambda x: f(x / 2).sum()  # noqa: E731
    assert verify.gradient(cost, jax.grad(cost), A).ok


def test_what_is_infinite_behind_a_mask_does_not_count(standard_promotion):
    def cost(r):
        return jnp.sum(jnp.nan_to_num(1 / r - 1 / r**2) * jnp.float32([0.0, 1.0]))

    r = np.float32([0.0, 1.5])
    right = lambda r: jnp.float32([0.0, 1.0]) * jnp.where(r == 0, 0.0, -1 / r**2 + 2 / r**3)  # noqa: E731
    safe = lambda r: right(jnp.where(r == 0, 1.0, r)) * jnp.float32([0.0, 1.0])  # noqa: E731
    assert verify.gradient(cost, safe, r, points="given").ok
    assert verify.gradient(cost, lambda r: 2 * safe(r), r, points="given").verdict == FAIL
    assert verify.gradient(cost, jax.grad(cost), r, points="given").verdict == FAIL  # nan


def cubes(slope):
    """x³ by a primitive of one's own, whose derivative is slope(x)."""
    cube = Primitive("cube")
    cube.def_impl(lambda x: x * x * x)
    cube.def_abstract_eval(lambda x: x)
    ad.defjvp(cube, lambda t, x: t * slope(x))
    return lambda x: cube.bind(x).sum()


def test_a_primitive_of_another_package_is_what_its_implementation_computes():
    f, x = cubes(lambda x: 3 * x * x), np.array([0.5, -2.0])
    report = verify.gradient(f, lambda x: 3 * x**2, x)
    assert (report.verdict, report.evidence) == (PASS, Evidence.EXACT)
    assert verify.gradient(f, lambda x: 3.001 * x**2, x).verdict == FAIL
