"""`domain=`: where arguments are drawn, along which changes they are compared, and what is said without it."""

import flint
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from jax import numpy as jnp

from jaxnn import verify
from jaxnn.verify.arithmetic.balls import enter, midpoints
from jaxnn.verify.domains import CURVED, NAMED, plain, within_interval
from jaxnn.verify.evidence.points import Draw, Kind, redraw
from jaxnn.verify.strategies import arrays

M = np.array([[1.0, 2], [3, 4], [5, -1]])
EPS = float(np.finfo(np.float32).eps)
KINDS = [*map(Kind, (Draw.GENERIC, Draw.TINY, Draw.SATURATED, Draw.ZEROS, Draw.MIXED, Draw.NEAR)), Kind(Draw.WIDE, 1e6)]
OPEN = [within_interval(verify.Interval(*ends)) for ends in ((0, 1), (2, np.inf), (-np.inf, -1), (-np.inf, np.inf))]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def point(domain, shape=(3, 3)):
    """A float32 point in a domain."""
    return np.float32(domain.brought(normal(*shape)))


# The maps


@pytest.mark.parametrize("domain", [*NAMED.values(), *OPEN], ids=lambda d: d.name)
@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 4)])
def test_whatever_is_drawn_lies_in_the_domain(domain, shape):
    given = [point(domain, shape)]
    for kind in KINDS:
        (drawn,) = redraw(kind, given, [np.float32], [0], [], np.random.default_rng(1), {0: domain})
        assert domain.has(drawn.astype(np.float64), EPS), kind


@pytest.mark.parametrize("domain", CURVED, ids=lambda d: d.name)
@pytest.mark.parametrize("numbers", [np.asarray, jnp.asarray, enter])
def test_onto_leaves_points_of_the_domain_where_they_are(domain, numbers):
    """Also where they are balls: what float32 rounds is brought back, to far more digits than float64 has."""
    v = point(domain)
    with flint.ctx.workprec(200):
        onto = domain.onto(numbers(v))
        again = domain.onto(onto)
        assert max(abs(a - b) for a, b in zip(np.ravel(again), np.ravel(onto), strict=True)) < (
            1e-40 if numbers is enter else 1e-6
        )
    onto = midpoints(onto) if numbers is enter else onto
    assert np.abs(onto - v).max() < 4 * EPS * np.abs(v).max()


@pytest.mark.parametrize("domain", CURVED, ids=lambda d: d.name)
def test_tangent_is_the_derivative_of_onto_and_its_own_transpose(domain):
    u = point(domain) * 1.0625  # beside the domain too
    passes = lambda u: (domain.onto(u), u), domain.tangent
    verify.assert_vjp(*passes, u, points="given")
    g, t = (jnp.float32(normal(3, 3, seed=k)) for k in (1, 2))
    assert (domain.tangent(u, g) * t).sum() == pytest.approx(float((g * domain.tangent(u, t)).sum()), rel=1e-3)


def test_orthogonal_matrices_need_not_be_square():
    for shape in ((5, 3), (3, 5)):
        q = point(NAMED["orthogonal"], shape)
        verify.assert_vjp(lambda u: (NAMED["orthogonal"].onto(u), u), NAMED["orthogonal"].tangent, q, points="given")


@settings(max_examples=25)
@given(arrays((4, 4)))
def test_the_tangent_space_is_what_a_projection_leaves(v):
    v = np.asarray(v, np.float64)
    for domain in CURVED:
        u = domain.brought(v)
        once = domain.tangent(u, v + 1)
        np.testing.assert_allclose(domain.tangent(u, once), once, atol=1e-9 * (1 + np.abs(v).max()))


TELLING = {
    "symmetric": [[1.5, 2.0], [2.0, -1.0]],
    "positive definite": [[2.0, 0.5], [0.5, 1.0]],
    "orthogonal": [[0.6, -0.8], [0.8, 0.6]],
    "unit": [[0.6, 0.8], [1.0, 0.0]],
    "simplex": [[0.25, 0.75], [0.5, 0.5]],
    "sorted": [-1.0, 0.25, 2.0, 7.0],
}
SIMPLE = [
    np.eye(3),
    np.zeros((3, 3)),
    np.ones((1, 1)),
    np.eye(3)[[0, 2, 2, 1]],
    np.eye(3)[[1, 0, 2]],
    np.diag([1.0, 2, 3]),
    np.full((2, 2), 0.5),
    np.ones(4),
    np.array([0.5, 1.0, 2.0]),
    np.array(3.0),
    normal(4, 4),
]


@pytest.mark.parametrize("name", TELLING)
def test_what_arguments_plainly_are(name):
    assert plain(np.array(TELLING[name]), EPS) is NAMED[name]


@pytest.mark.parametrize("v", SIMPLE, ids=str)
def test_what_is_simple_is_plainly_nothing(v):
    assert plain(v, EPS) is None


# What is drawn


def interpolated(x, knots, values):
    i = jnp.clip(jnp.searchsorted(knots, x, side="right"), 1, len(knots) - 1)
    width = jnp.maximum(knots[i] - knots[i - 1], 1e-12)
    r = (x - knots[i - 1]) / width
    return (1 - r) * values[i - 1] + r * values[i], (i, r, width, knots, values)


def slopes(residuals, g, last=1.0):
    i, r, width, knots, values = residuals
    slope = (values[i] - values[i - 1]) / width
    dknots = jnp.zeros_like(knots).at[i - 1].add(-g * slope * (1 - r)).at[i].add(-g * slope * r * last)
    return g * slope, dknots, jnp.zeros_like(values).at[i - 1].add(g * (1 - r)).at[i].add(g * r)


def test_knots_stay_sorted():
    args = jnp.float32([0.3, 1.2, 2.1]), jnp.float32([0, 1, 2, 3.5]), jnp.float32([0, 1, 3, 2])
    report = verify.vjp(interpolated, slopes, *args)
    assert report.ok
    assert len(report.points) > 5
    assert any("knots is drawn in the domain 'sorted'" in note for note in report.notes)
    assert verify.vjp(interpolated, lambda residuals, g: slopes(residuals, g, 1.01), *args).verdict == verify.FAIL
    assert verify.vjp(interpolated, slopes, *args, domain={"knots": None}).verdict == verify.FAIL


@pytest.mark.parametrize("sort", [jnp.sort, np.sort])
def test_what_the_forward_pass_sorts_itself_is_not_kept_sorted(sort):
    w, c = np.array([-1.0, -0.25, 0.5, 2.0]), np.array([1.0, 3, -2, 5])
    assert verify.gradient(lambda w, c: (c * sort(w)).sum(), lambda w, c: 1 * c, w, c).verdict == verify.FAIL


def test_a_point_outside_the_forward_pass_domain_is_drawn_again():
    """log(p (1 − p)) of p near 1: at most points of the first size are not finite either."""
    p = jnp.float32([0.97, 0.5, 0.99, 0.02, 0.9])
    report = verify.gradient(lambda p: jnp.log(p * (1 - p)).sum(), lambda p: 1 / p - 1 / (1 - p), p)
    assert report.ok
    assert all(p.verdict == verify.PASS for p in report.points)


def test_a_function_that_refuses_drawn_arguments_is_asked_again():
    def cost(p):
        if (p <= 0).any() or (p >= 1).any():
            raise ValueError("p is a probability")
        return np.sum(np.log(p))

    report = verify.gradient(cost, lambda p: 1 / p, np.array([0.9, 0.5, 0.99]))
    assert report.ok
    assert all(p.verdict == verify.PASS for p in report.points)


# What is compared


def cost(W):
    return jnp.tanh(W @ M.astype(W.dtype)).sum() + (W @ W.T @ W).sum()


def transposed(W):
    return jax.grad(cost)(W).T


def without_radial_part(W):
    g = jax.grad(cost)(W)
    return g - W * (W * g).sum(-1, keepdims=True)


def turning(q):
    g = jax.grad(cost)(q)
    return q @ (q.T @ g - g.T @ q) / 2


def averaged(W):
    g = jax.grad(cost)(W)
    return (g + g.T) / 2


def centred(p):
    g = jax.grad(cost)(p)
    return g - g.mean(-1, keepdims=True)


RULES = {
    "symmetric": averaged,
    "positive definite": averaged,
    "unit": without_radial_part,
    "orthogonal": turning,
    "simplex": centred,
}


@pytest.mark.parametrize("W", [np.eye(3), np.zeros((3, 3)), np.eye(3)[[1, 0, 2]], np.ones((3, 3))], ids=str)
def test_simple_arguments_are_compared_in_full(W):
    """A transposed gradient is wrong, though at these W it may be right."""
    W = jnp.float32(W)
    assert verify.gradient(cost, transposed, W).verdict == verify.FAIL
    assert verify.gradient(lambda W: (W**2).sum(), lambda W: 2 * W.T, W).verdict == verify.FAIL


@pytest.mark.parametrize("rows", [[0, 1, 2], [0, 2, 2, 1]])
def test_one_hot_rows_are_compared_in_full(rows):
    W = jnp.float32(np.eye(3)[rows])
    assert verify.gradient(cost, without_radial_part, W).verdict == verify.FAIL


def test_a_single_entry_is_compared_in_full():
    one = jnp.ones((1, 1), jnp.float32)
    assert verify.gradient(lambda W: jnp.sin(W).sum(), lambda W: jnp.cos(W) - W, one).verdict == verify.FAIL


@pytest.mark.parametrize("name", RULES)
def test_a_rule_of_the_tangent_space(name):
    """It is wrong, and a note says what would make it right; within its domain it is, and 1 + 1e-6 times it is not."""
    W, rule = point(NAMED[name]), RULES[name]
    report = verify.gradient(cost, rule, W)
    assert report.verdict == verify.FAIL
    assert any(f"domain={{'W': '{name}'}}" in note for note in report.notes)
    assert verify.gradient(cost, rule, W, domain={"W": name}).ok
    assert verify.gradient(cost, jax.grad(cost), W, domain={"W": name}).ok
    almost = verify.gradient(cost, lambda W: rule(W) * (1 + 1e-6), W, domain={"W": name})
    assert almost.verdict == verify.FAIL
    assert almost.digits == pytest.approx(6, abs=0.5)


def test_a_domain_in_numpy_code():
    def cost(a):
        return np.sum(np.tanh(a @ M))

    def grad(a):
        g = (1 - np.tanh(a @ M) ** 2) @ M.T
        return (g + g.T) / 2

    a = normal(3, 3) + normal(3, 3).T
    assert verify.gradient(cost, grad, a).verdict == verify.FAIL
    assert verify.gradient(cost, grad, a, domain="symmetric").ok
    assert verify.gradient(cost, lambda a: 1.01 * grad(a), a, domain="symmetric").verdict == verify.FAIL


def largest(a):
    w, v = jnp.linalg.eigh(a)
    return w[-1] + v[0, -1] ** 2, (w, v)


def largest_backward(residuals, g):
    """Right for symmetric changes of a."""
    w, v = residuals
    dw, dv = jnp.zeros_like(w).at[-1].set(g), jnp.zeros_like(v).at[0, -1].set(2 * v[0, -1] * g)
    gaps = w[None] - w[:, None] + jnp.eye(len(w))
    return (v @ (jnp.diag(dw) + (1 / gaps - jnp.eye(len(w))) * (v.T @ dv)) @ v.T,)


def test_eigenvectors_of_a_symmetric_matrix():
    a = jnp.float32(normal(3, 3) + normal(3, 3).T)
    without = verify.vjp(largest, largest_backward, a, points="given")
    assert without.verdict == verify.FAIL
    assert any("domain={'a': 'symmetric'}" in note for note in without.notes)
    assert verify.vjp(largest, largest_backward, a, domain={"a": "symmetric"}).ok


def test_tangents_are_pushed_into_the_domain():
    @jax.custom_jvp
    def logdet(a):
        return jnp.linalg.slogdet(a)[1]

    @logdet.defjvp
    def rule(primals, tangents):
        lower = 2 * jnp.tril(tangents[0], -1) + jnp.diag(jnp.diag(tangents[0]))
        return logdet(*primals), (jnp.linalg.inv(primals[0]) * lower).sum()

    a = point(NAMED["positive definite"])
    assert verify.custom_jvp(logdet, a).verdict == verify.FAIL
    assert verify.custom_jvp(logdet, a, domain="positive definite").ok


def logdet(a):
    return 2 * jnp.log(jnp.diag(jax.lax.linalg.cholesky(a, symmetrize_input=False))).sum(), a


def in_upper_triangle(a, g):
    """JAX has it in the lower triangle, or a half in each."""
    inverse = jnp.linalg.inv(a)
    return (g * (2 * jnp.triu(inverse) - jnp.diag(jnp.diag(inverse))),)


def test_a_triangle_that_is_not_read():
    """Any share between an entry and its mirror image is right, if the forward pass reads one of the two alone."""
    a = point(NAMED["positive definite"])
    report = verify.vjp(logdet, in_upper_triangle, a)
    assert report.ok
    assert any("one triangle of a alone" in note and "up to" in note for note in report.notes)
    assert verify.vjp(logdet, lambda a, g: (g * jnp.triu(jnp.linalg.inv(a)),), a).verdict == verify.FAIL
    both = lambda a: (jnp.linalg.slogdet(a)[1], a)  # noqa: E731
    assert verify.vjp(both, in_upper_triangle, a).verdict == verify.FAIL


def test_a_rule_that_takes_unit_vectors_for_granted():
    """q / ‖q‖ with the derivative where ‖q‖ = 1: float32 rounds what it takes for granted."""

    def forward(q):
        return q / jnp.sqrt((q * q).sum(-1, keepdims=True)), q

    def backward(q, g):
        return g - q * (q * g).sum(-1, keepdims=True)

    q = point(NAMED["unit"], (5, 4))
    report = verify.vjp(forward, backward, q)
    assert report.ok
    assert any("rounding of the inputs" in note for note in report.notes)
    assert verify.vjp(forward, backward, q, domain="unit").ok
    assert verify.vjp(forward, lambda q, g: backward(q, g) * (1 + 1e-6), q).verdict == verify.FAIL
    assert verify.vjp(forward, backward, q * 2).verdict == verify.FAIL


# How it is said


def test_ways_to_name_an_argument():
    a = jnp.float32(normal(3, 3) + normal(3, 3).T)
    tree = {"W": a, "b": jnp.float32(normal(3))}
    for domain in ("symmetric", ("symmetric",), ["symmetric"], {0: "symmetric"}, {"W": "symmetric"}):
        assert verify.gradient(cost, averaged, a, domain=domain).ok

    def cost_of_tree(params):
        return cost(params["W"]) + jnp.sin(params["b"]).sum()

    def rule(params):
        return {"W": averaged(params["W"]), "b": jnp.cos(params["b"])}

    for domain in ({"params": {"W": "symmetric"}}, {"W": "symmetric"}, {"['W']": "symmetric"}, ({"W": "symmetric"},)):
        report = verify.gradient(cost_of_tree, rule, tree, domain=domain)
        assert report.ok
        assert f"domain={domain!r}" in report.replay


def test_a_function_brings_drawn_numbers_there():
    """Where it makes matrices that are plainly symmetric, symmetric changes are compared."""
    a = point(NAMED["positive definite"])
    assert verify.gradient(cost, averaged, a, domain={"W": lambda v: v @ v.T + jnp.eye(3)}).ok
    v = np.array([0.5, 2.0])
    report = verify.gradient(lambda v: np.sum(np.log(v) * v), lambda v: np.log(v) + 1, v, domain=np.exp)
    assert report.ok
    assert "near" not in {p.kind for p in report.points}


NEGATIVE = {
    "no argument": ({"w": "unit"}, "names w"),
    "no argument of this number": ({3: "unit"}, "names 3"),
    "no domain": ("round", "'round'"),
    "no kind of domain": ({"W": 3}, "3"),
    "not there": ({"W": "sorted"}, "does not lie in the domain 'sorted'"),
    "not in the interval": (verify.Interval(0, 1), "does not lie"),
    "another shape": ({"W": lambda v: v.sum()}, "same shape"),
}


@pytest.mark.parametrize("name", NEGATIVE)
def test_what_is_no_domain_gets_a_sentence(name):
    domain, words = NEGATIVE[name]
    with pytest.raises(ValueError, match="domain") as error:
        verify.gradient(cost, jax.grad(cost), jnp.float32(normal(3, 3)), domain=domain)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_interval():
    with pytest.raises(ValueError, match="low must be less than high"):
        verify.Interval(1, 0)
