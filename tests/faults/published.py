"""Wrong derivative rules that were published, in the repositories that are named: the formulas, wrong and right."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jax.nn import log_softmax, one_hot, sigmoid, silu, softmax, softplus
from jax.scipy.special import gammaln, i0e, i1e

from jaxnn import verify


class Issue(NamedTuple):
    """Where a rule was reported to be wrong, or mended, and what was wrong."""

    row: int  # in the list of published bugs
    name: str
    what: str


@dataclass(frozen=True)
class Bug:
    """A rule that was wrong, and its right form: the functions that a question of `verify` takes."""

    issue: Issue
    question: Callable
    wrong: tuple[Callable, ...]
    right: tuple[Callable, ...]
    arguments: tuple
    kinds: str = ""  # of the causes that are true of it
    dtype: str = ""  # in which the wrong rule has no digit, where both formulas are right
    options: dict = field(default_factory=dict)

    def report_of(self, functions):
        return self.question(*functions, *self.arguments, **self.options)


def backward(issue, f, wrong, right, *arguments, kinds="", dtype=""):
    """Rules (g, *arguments) -> the cotangents of the arguments; g is that of f(*arguments)."""

    def pair(rule):
        return (lambda *args: (f(*args), args)), (lambda args, g: rule(g, *args))

    options = {"points": "given"} if dtype else {}
    return Bug(issue, verify.vjp, pair(wrong), pair(right), arguments, kinds, dtype, options)


def slope(issue, f, wrong, right, x, kinds="", dtype=""):
    """Derivatives f′ of a function of single numbers, at these x."""
    rules = [lambda g, x, slope=slope: g * slope(x) for slope in (wrong, right)]
    return backward(issue, f, *rules, np.float32(x), kinds=kinds, dtype=dtype)


def forward(issue, f, wrong, right, x):
    """Rules (x, dx) -> dy of forward mode."""
    return Bug(issue, verify.custom_jvp, (by_rule(f, wrong),), (by_rule(f, right),), (x,))


def saved(issue, f, rule, x, v, **options):
    """A rule (save, x, dx) -> dy of forward mode: right, but differentiated again it is wrong, for save(v) has no
    derivative."""

    def along(f):
        return lambda x, v, weights: (weights * jax.jvp(f, (x,), (v,))[1]).sum()

    def second(save):
        return along(f), jax.grad(along(by_rule(f, lambda x, dx: rule(save, x, dx))))

    wrong, right = second(lax.stop_gradient), second(lambda v: v)
    arguments = x, v, normal(99, f(x).shape)
    return Bug(issue, verify.gradient, wrong, right, arguments, kinds="path_left_out", options=options)


def by_rule(f, rule):
    """f with this rule of forward mode."""
    custom = jax.custom_jvp(f)
    custom.defjvp(lambda primals, tangents: (custom(*primals), rule(*primals, *tangents)))
    return custom


def normal(seed, *shapes):
    """float32 arrays from N(0, 1); alone if it is one."""
    rng = np.random.default_rng(seed)
    arrays = tuple(np.float32(rng.normal(size=shape)) for shape in shapes)
    return arrays if len(arrays) > 1 else arrays[0]


def ints(*values):
    return np.array(values, np.int32)


# --- JAX: functions of single numbers ---------------------------------------------------------------------------------


def log_sigmoid(x):
    return -(jnp.maximum(-x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x))))


def logistic(x):
    return 1 / (1 + jnp.exp(-x))


def logistic_slope(x):
    return sigmoid(x) * sigmoid(-x)


def safe_logistic(x):
    e = jnp.exp(-jnp.abs(x))
    return jnp.where(x >= 0, 1 / (1 + e), e / (1 + e))


def i0(x):
    return jnp.exp(jnp.abs(x)) * i0e(x)


def i1(x):
    return jnp.exp(jnp.abs(x)) * i1e(x)


def i0_slope_that_cancels(x):
    e, s = jnp.exp(jnp.abs(x)), jnp.sign(x)
    return e * (i1e(x) - s * i0e(x)) + s * e * i0e(x)


def except_at_zero(value, slope):
    """A slope that is this value at 0."""
    return lambda x: jnp.where(x == 0, value, slope(x))


def xlogy(x, y):
    return jnp.where(x == 0, 0.0, x * jnp.log(y))


def powers(x):
    return x[:, None] ** jnp.arange(3)


def power_slopes(of_constant):
    return lambda g, x: (g * jnp.stack([jnp.full_like(x, of_constant), jnp.ones_like(x), 2 * x], 1)).sum(1)


SELU = 1.0507009873554805, 1.6732632423543772


def selu(x):
    scale, alpha = SELU
    return scale * jnp.where(x > 0, x, alpha * jnp.expm1(jnp.where(x > 0, 0.0, x)))


def selu_slope(of_negative):
    scale, alpha = SELU
    return lambda x: scale * jnp.where(x > 0, 1.0, alpha * of_negative(jnp.where(x > 0, 0.0, x)))


def celu(x):
    return jnp.where(x > 0, x, 2 * jnp.expm1(jnp.where(x > 0, 0.0, x) / 2))


def focal(z):
    """(1 − p)^½ (−log p), p = σ(z)"""
    return sigmoid(-z) ** 0.5 * softplus(-z)


def focal_slope(q):
    """q: how 1 − p is computed, and its power −½ with it."""
    return lambda z: -0.5 * q(z) ** -0.5 * sigmoid(z) * q(z) * softplus(-z) - q(z) ** 1.5


SINGLE_NUMBERS = [
    backward(
        Issue(1, "jax dfd3d93", "atan2 with the opposite sign"),
        jnp.arctan2,
        lambda g, y, x: (-g * x / (x**2 + y**2), g * y / (x**2 + y**2)),
        lambda g, y, x: (g * x / (x**2 + y**2), -g * y / (x**2 + y**2)),
        *normal(0, 5, 5),
        kinds="constant_factor",
    ),
    backward(
        Issue(2, "jax daf6e3b", "rem with floor for trunc"),
        lax.rem,
        lambda g, x, y: (g, -g * jnp.floor(x / y)),
        lambda g, x, y: (g, -g * jnp.trunc(x / y)),
        *np.float32([[5.5, -5.5, 3.25, -7.125], [2, 2, -1.5, -3]]),
    ),
    backward(
        Issue(3, "jax 0a89fc8", "the power 0 has the slope 1"),
        lambda x: jnp.stack([lax.integer_pow(x, n) for n in range(3)], 1),
        power_slopes(1.0),
        power_slopes(0.0),
        normal(1, 4),
    ),
    backward(
        Issue(4, "jax #17995", "the integer exponent 0 has the slope 1"),
        powers,
        power_slopes(1.0),
        power_slopes(0.0),
        np.float32([0, 0.5, -1.5]),
    ),
    slope(
        Issue(6, "jax #11479, #40628", "the slope of i0 at 0 is 1"),
        i0,
        except_at_zero(1.0, i1),
        i1,
        [0, 0.5, -1],
        kinds="single_entry",
    ),
    slope(
        Issue(7, "jax #2140", "the slope of log_sigmoid at 0 is 0"),
        log_sigmoid,
        except_at_zero(0.0, lambda x: sigmoid(-x)),
        lambda x: sigmoid(-x),
        [0, 0.5, -1],
        kinds="single_entry",
    ),
    slope(
        Issue(8, "Mooncake #1258", "the slope of the sigmoid at 0 is 0"),
        logistic,
        except_at_zero(0.0, logistic_slope),
        logistic_slope,
        [0, 0.5, -1],
        kinds="single_entry",
    ),
    slope(
        Issue(8, "Mooncake #1258", "the slope of the sigmoid of |x| at 0 is 0"),
        safe_logistic,
        except_at_zero(0.0, logistic_slope),
        logistic_slope,
        [0, 0.5, -1],
        kinds="single_entry",
    ),
    backward(
        Issue(9, "Mooncake #1196", "copysign without the sign of x"),
        jnp.copysign,
        lambda g, x, y: (g * jnp.sign(y), jnp.zeros_like(y)),
        lambda g, x, y: (g * jnp.sign(x) * jnp.sign(y), jnp.zeros_like(y)),
        *np.float32([[1.5, -2, 0.5, -1], [1, 2, -3, -1]]),
        kinds="missing_activation_derivative path_left_out wrong_mask",
    ),
    backward(
        Issue(10, "jax dd023e2", "the slope of xlogy is 0 where x is 0"),
        xlogy,
        lambda g, x, y: (g * jnp.where(x == 0, 0, jnp.log(y)), g * x / y),
        lambda g, x, y: (g * jnp.log(y), g * x / y),
        *np.float32([[0, 1.5, -0.5], [2.5, 0.5, 3]]),
    ),
    slope(
        Issue(26, "jax 43be8d8, b0805a8", "the slope of celu is 0 times infinity where x is large"),
        celu,
        lambda x: jnp.where(x > 0, 1.0, 0.0) + jnp.where(x > 0, 0.0, 1.0) * jnp.exp(x / 2),
        lambda x: jnp.where(x > 0, 1.0, jnp.exp(jnp.where(x > 0, 0.0, x) / 2)),
        [2000, -1, 0.5],
        dtype="float64",
    ),
    slope(
        Issue(27, "jax #39794", "the slope of expm1 at -40 is 0"),
        jnp.expm1,
        lambda x: jnp.expm1(x) + 1,
        jnp.exp,
        [-40],
        dtype="float64",
    ),
    slope(
        Issue(28, "jax #39796", "the slope of selu at -700 is 0"),
        selu,
        selu_slope(lambda x: jnp.expm1(x) + 1),
        selu_slope(jnp.exp),
        [-700],
        dtype="float64",
    ),
    backward(
        Issue(29, "jax #39797", "the slope of i0 at 1e-300 is 0"),
        i0,
        lambda g, x: g * i0_slope_that_cancels(x),
        lambda g, x: g * i1(x),
        np.float64([1e-300]),
        dtype="float64",
    ),
    slope(
        Issue(30, "jax #40342, #40385", "the slope of the sigmoid at 40 is 0"),
        sigmoid,
        lambda x: sigmoid(x) * (1 - sigmoid(x)),
        logistic_slope,
        [40],
        dtype="float64",
    ),
    slope(
        Issue(30, "jax #40343, #40388", "the slope of tanh at 40 is 0"),
        jnp.tanh,
        lambda x: 1 - jnp.tanh(x) ** 2,
        lambda x: 4 * logistic_slope(2 * x),
        [40],
        dtype="float64",
    ),
    backward(
        Issue(32, "jax #10993", "a choice by a number that is neither 0 nor 1"),
        lambda a, b, number: jnp.where(number != 0, a, b),
        lambda g, a, b, number: (jnp.where(number == 1, g, 0), jnp.where(number == 0, g, 0), None),
        lambda g, a, b, number: (jnp.where(number != 0, g, 0), jnp.where(number == 0, g, 0), None),
        *normal(2, 6, 6),
        ints(0, 1, 5, -1, 1, 0),
        kinds="wrong_mask example_left_out",
    ),
    slope(
        Issue(37, "optax #1267", "the focal loss of a certain answer, with a power below 1"),
        focal,
        focal_slope(lambda z: 1 - sigmoid(z)),
        focal_slope(lambda z: sigmoid(-z)),
        [40],
        dtype="float64",
    ),
    backward(
        Issue(40, "HIPS autograd 155f0bf", "the density's default mean is -1 in the rule"),
        lambda x: -(x**2) / 2 - np.log(2 * np.pi) / 2,
        lambda g, x: -g * (x + 1),
        lambda g, x: -g * x,
        normal(3, 4),
        kinds="stale_residual",
    ),
    slope(
        Issue(43, "SciLean a223e5e7", "the slope of cos is -cos"),
        jnp.cos,
        lambda x: -jnp.cos(x),
        lambda x: -jnp.sin(x),
        [0.5, -1, 2],
        kinds="derivative_of_other_function missing_activation_derivative stale_residual",
    ),
]


# --- JAX: slices, windows, convolutions -------------------------------------------------------------------------------


def interpolated(v, c):
    """v between its entries, at the real indices c."""
    i = jnp.clip(jnp.floor(c).astype(int), 0, len(v) - 2)
    return (1 - (c - i)) * v[i] + (c - i) * v[i + 1]


def interpolated_back(upper):
    """upper: the index above c, where i is that below."""

    def back(g, v, c):
        i = jnp.clip(jnp.floor(c).astype(int), 0, len(v) - 2)
        dv = jnp.zeros_like(v).at[i].add(g * (1 - (c - i))).at[i + 1].add(g * (c - i))
        return dv, g * (v[upper(i, c)] - v[i])

    return back


def windows(x):
    """Sums of three neighbours of x₀ 0 x₁ 0 x₂ …"""
    return lax.reduce_window(x, 0.0, lax.add, (3,), (1,), "VALID", base_dilation=(2,))


def sums(x, n):
    return sum(x[i : len(x) - n + 1 + i] for i in range(n))


KERNEL = normal(4, (2, 2, 3))  # (channels of the output, of the input, width)


def convolution(x, kernel, padding, dilation):
    numbers = ("NCH", "OIH", "NCH")
    return lax.conv_general_dilated(x, kernel, (1,), [padding], rhs_dilation=(dilation,), dimension_numbers=numbers)


def dilated(x):
    return convolution(x, KERNEL, (0, 0), 2)


def slices(x, starts):
    return jax.vmap(lambda i: lax.dynamic_slice(x, (i,), (3,)))(starts)


def slices_back(start):
    def back(g, x, starts):
        return jnp.zeros_like(x).at[start(starts)[:, None] + jnp.arange(3)].add(g), None

    return back


def between_knots(divisor):
    """Σ cᵢ f(xᵢ), where f is linear between the knots."""

    def cost(x, knots, values, c):
        i = jnp.clip((x[:, None] >= knots).sum(1), 1, len(knots) - 1)
        width = knots[i] - knots[i - 1]
        inside = values[i - 1] + (x - knots[i - 1]) / divisor(width) * (values[i] - values[i - 1])
        return (c * jnp.where(width == 0, values[i], inside)).sum()

    return cost


def guarded(width):
    return jnp.where(width == 0, 1.0, width)


def spectrum(sign):
    def back(g, re, im):
        G = jnp.fft.rfft(g) * jnp.array([1, 2, 2]) / 5
        return G.real, sign * G.imag

    return back


def bounded_loop(w):
    """wᵏ, until it is 4 or k is 5."""
    x = jnp.ones_like(w)
    for _ in range(5):
        x = jnp.where(x < 4, w * x, x)
    return x


def loop_back(counts):
    """counts: whether a step from x was made."""

    def back(g, w):
        xs = [jnp.ones_like(w)]
        for _ in range(4):
            xs.append(jnp.where(xs[-1] < 4, w * xs[-1], xs[-1]))
        dw = jnp.zeros_like(w)
        for x in xs[::-1]:
            dw, g = dw + jnp.where(counts(x), g * x, 0), jnp.where(counts(x), g * w, g)
        return dw

    return back


ARRAYS = [
    backward(
        Issue(12, "jax #3024", "the upper neighbour of a knot is the knot"),
        interpolated,
        interpolated_back(lambda i, c: jnp.ceil(c).astype(int)),
        interpolated_back(lambda i, c: i + 1),
        *np.float32([[0, 1, 3, 6, 10], [1, 0.5, 2.25, 3, 2]]),
        kinds="stale_residual",
    ),
    backward(
        Issue(15, "jax dcded6a", "the operand of the window is sliced, not its result"),
        windows,
        lambda g, x: sums(jnp.pad(g[::2], 1), 2),
        lambda g, x: sums(jnp.pad(g, 2), 3)[::2],
        normal(5, 4),
        kinds="example_left_out",
    ),
    backward(
        Issue(17, "jax 6c4bba8", "the dilation of the kernel is left out"),
        dilated,
        lambda g, x: convolution(g, KERNEL[:, :, ::-1].swapaxes(0, 1), (2, 4), 1),
        lambda g, x: convolution(g, KERNEL[:, :, ::-1].swapaxes(0, 1), (4, 4), 2),
        normal(6, (1, 2, 7)),
    ),
    backward(
        Issue(17, "jax 2292681", "the kernel's channels are not exchanged"),
        dilated,
        lambda g, x: convolution(g, KERNEL[:, :, ::-1], (4, 4), 2),
        lambda g, x: convolution(g, KERNEL[:, :, ::-1].swapaxes(0, 1), (4, 4), 2),
        normal(6, (1, 2, 7)),
        kinds="transpose",
    ),
    backward(
        Issue(18, "jax #6223", "irfft without the conjugate"),
        lambda re, im: jnp.fft.irfft(lax.complex(re, im), 5),
        spectrum(-1),
        spectrum(1),
        *normal(7, 3, 3),
        kinds="constant_factor",
    ),
    backward(
        Issue(21, "jax 0b4a440", "slices beyond the end are not moved back"),
        slices,
        slices_back(lambda starts: starts),
        slices_back(lambda starts: jnp.clip(starts, 0, 2)),
        normal(8, 5),
        ints(0, 1, 4),
    ),
    Bug(
        Issue(25, "jax dc4591d, 892dea5", "interp between equal knots"),
        verify.gradient,
        wrong=(between_knots(guarded), jax.grad(between_knots(lambda width: width))),
        right=(between_knots(guarded), jax.grad(between_knots(guarded))),
        arguments=(np.float32([0.5, 1.5, 3]), np.float32([0, 1, 2, 2]), *normal(9, 4, 3)),
    ),
    backward(
        Issue(38, "equinox 190a73a", "steps after the end of a bounded loop are counted"),
        bounded_loop,
        loop_back(lambda x: True),
        loop_back(lambda x: x < 4),
        np.float32([1.75, 2.5, 1.25]),
        kinds="wrong_mask",
    ),
    backward(
        Issue(41, "HIPS autograd 72a6ccc", "repeat taken for tile"),
        lambda x: jnp.repeat(x, 2, total_repeat_length=6),
        lambda g, x: g.reshape(2, 3).sum(0),
        lambda g, x: g.reshape(3, 2).sum(1),
        normal(10, 3),
        kinds="transpose wrong_axis",
    ),
]


# --- Linear algebra ---------------------------------------------------------------------------------------------------


def log_density(C, d):
    """−½ log|C| − ½ dᵀ C⁻¹ d"""
    return -0.5 * jnp.linalg.slogdet(C)[1] - 0.5 * d @ jnp.linalg.solve(C, d)


def log_density_back(sign):
    def back(g, C, d):
        inverse = jnp.linalg.inv(C)
        u, v = inverse.T @ d, inverse @ d
        return g * (-0.5 * inverse.T + sign * 0.5 * jnp.outer(u, v)), -0.5 * g * (u + v)

    return back


def root_of_matrix(A):
    """The root of a 2 × 2 matrix whose eigenvalues are positive: (A + s I) / √(tr A + 2 s), s² = |A|."""
    s = jnp.sqrt(A[0, 0] * A[1, 1] - A[0, 1] * A[1, 0])
    return (A + s * jnp.eye(2)) / jnp.sqrt(A[0, 0] + A[1, 1] + 2 * s)


def root_of_matrix_back(right):
    """The Z for which Xᵀ Z + Z right(X) = g, X the root."""

    def back(g, A):
        X = root_of_matrix(A)
        equations = jnp.kron(X.T, jnp.eye(2)) + jnp.kron(jnp.eye(2), right(X).T)
        return jnp.linalg.solve(equations, g.reshape(4)).reshape(2, 2)

    return back


def cholesky_inverse(L):
    return jnp.linalg.inv(L @ L.T)


def cholesky_inverse_forward(order):
    """order: the half of −dA⁻¹ that has dL in it, of X = A⁻¹, L, dL."""

    def forward(L, dL):
        half = order(cholesky_inverse(L), L, dL)
        return -(half + half.T)

    return forward


def unit_triangular(L, b):
    """The solution of L′ x = b, L′ being L below its diagonal, with ones on it."""
    return jax.scipy.linalg.solve_triangular(L, b, lower=True, unit_diagonal=True)


def unit_triangular_back(first):
    """first: 0 with the diagonal, −1 without it."""

    def back(g, L, b):
        db = jax.scipy.linalg.solve_triangular(L, g, trans=1, lower=True, unit_diagonal=True)
        return -jnp.tril(jnp.outer(db, unit_triangular(L, b)), first), db

    return back


RIGHT_SIDE = normal(11, 3)
LINEAR_ALGEBRA = [
    backward(
        Issue(39, "HIPS autograd fec14ad", "the sign of the outer product in a normal density"),
        log_density,
        log_density_back(-1),
        log_density_back(1),
        np.float32([[2, 0.5, 0.25], [0.5, 1.5, -0.5], [0.25, -0.5, 1]]),
        normal(12, 3),
        kinds="scaled_penalty constant_factor",
    ),
    backward(
        Issue(41, "HIPS autograd 39fc253", "sqrtm by Lyapunov's equation for Sylvester's"),
        root_of_matrix,
        root_of_matrix_back(lambda X: X),
        root_of_matrix_back(lambda X: X.T),
        np.float32([[2, 0.5], [0.25, 3]]),
        kinds="transpose",
    ),
    forward(
        Issue(44, "pytorch #196682", "cholesky_inverse with its factors in the wrong order"),
        cholesky_inverse,
        cholesky_inverse_forward(lambda X, L, dL: X @ dL @ X @ L.T),
        cholesky_inverse_forward(lambda X, L, dL: X @ dL @ L.T @ X),
        np.float32([[1.5, 0], [0.5, 2]]),
    ),
    backward(
        Issue(46, "pytorch #196707", "entries that a triangular solve ignores are differentiated"),
        unit_triangular,
        unit_triangular_back(0),
        unit_triangular_back(-1),
        *normal(13, (3, 3), 3),
        kinds="wrong_mask",
    ),
    saved(
        Issue(47, "pytorch #192540", "solve with a saved factorisation"),
        lambda A: jnp.linalg.solve(A, RIGHT_SIDE),
        lambda save, A, dA: -save(jnp.linalg.inv(A)) @ (dA @ jnp.linalg.solve(A, RIGHT_SIDE)),
        *normal(14, (3, 3), (3, 3)),
    ),
    saved(
        Issue(48, "pytorch #196696", "det with a saved inverse"),
        jnp.linalg.det,
        lambda save, A, dA: jnp.linalg.det(A) * jnp.trace(save(jnp.linalg.inv(A)) @ dA),
        *normal(15, (2, 2), (2, 2)),
        points="given",  # A singular matrix has no inverse.
    ),
    saved(
        Issue(48, "pytorch #196697", "slogdet with a saved inverse"),
        lambda A: jnp.linalg.slogdet(A)[1],
        lambda save, A, dA: jnp.trace(save(jnp.linalg.inv(A)) @ dA),
        *normal(16, (2, 2), (2, 2)),
    ),
]


# --- Second derivatives -----------------------------------------------------------------------------------------------


def layer_norm(x):
    return (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 0.25)


def batch_norm(x):
    return layer_norm(x.T).T


def layer_norm_forward(save, x, dx):
    mean, r = save(x.mean(-1, keepdims=True)), save(lax.rsqrt(x.var(-1, keepdims=True) + 0.25))
    n, dn = (x - mean) * r, (dx - dx.mean(-1, keepdims=True)) * r
    return dn - n * (n * dn).mean(-1, keepdims=True)


def others(x):
    """The products of all entries except one, in each place."""
    return jnp.stack([jnp.concatenate([x[:i], x[i + 1 :]]).prod() for i in range(len(x))])


def slope_of_product(summands):
    """Along v, of all summands, each the product without one entry, times that of v."""
    return lambda x, v: summands(x, v * others(x)).sum()


def of_the_zeros(x, summands):
    """Only the summands without an entry that is 0, if there is one: true of the slope's value alone."""
    return jnp.where((x == 0).any() & (x != 0), 0, summands)


def of_one_zero(x, summands):
    """No summands, if two entries are 0: true of the slope's value alone."""
    return jnp.where((x == 0).sum() > 1, 0, summands)


def reflection(x):
    """I − τ v vᵀ of x = (τ, v₁, v₂)"""
    return jnp.eye(2) - x[0] * jnp.outer(x[1:], x[1:])


def reflection_forward(save, x, dx):
    tau, v = save(x[0]), save(x[1:])
    return -dx[0] * jnp.outer(v, v) - tau * (jnp.outer(dx[1:], v) + jnp.outer(v, dx[1:]))


def log_beta(v):
    """log B(a, b)"""
    return gammaln(v[0]) + gammaln(v[1]) - gammaln(v[0] + v[1])


def sorted_log_beta(v):
    return log_beta(jnp.stack([jnp.minimum(v[0], v[1]), jnp.maximum(v[0], v[1])]))


def slope_of(f):
    return lambda x, v: jax.jvp(f, (x,), (v,))[1]


SECOND = [
    Bug(
        Issue(31, "jax #34353", "the Hessian of betaln where a = b, which are sorted"),
        verify.gradient,
        wrong=(slope_of(log_beta), jax.grad(slope_of(sorted_log_beta))),
        right=(slope_of(log_beta), jax.grad(slope_of(log_beta))),
        arguments=(np.float32([1.5, 1.5]), np.float32([1, -0.5])),
    ),
    saved(
        Issue(49, "pytorch #196700", "layer_norm with saved statistics"),
        layer_norm,
        layer_norm_forward,
        *normal(17, (2, 3), (2, 3)),
    ),
    saved(
        Issue(49, "pytorch #196699", "batch_norm with saved statistics"),
        batch_norm,
        lambda save, x, dx: layer_norm_forward(save, x.T, dx.T).T,
        *normal(18, (3, 2), (3, 2)),
    ),
    Bug(
        Issue(50, "pytorch #196701", "the second derivative of a product at a zero"),
        verify.gradient,
        wrong=(slope_of(jnp.prod), jax.grad(slope_of_product(of_the_zeros))),
        right=(slope_of(jnp.prod), jax.grad(slope_of_product(lambda x, summands: summands))),
        arguments=(np.float32([0, 3, 4]), np.float32([1, 2, 1])),
        kinds="single_entry",
    ),
    saved(
        Issue(51, "pytorch #196698", "a reflection with a saved vector"),
        reflection,
        reflection_forward,
        *normal(19, 3, 3),
    ),
    saved(
        Issue(52, "pytorch #197867", "a square with a saved input, twice"),
        lambda x: (x**2) ** 2,
        lambda save, x, dx: 2 * save(x) ** 2 * (2 * save(x) * dx),
        np.float32([3]),
        np.float32([1]),
    ),
    Bug(
        Issue(53, "pytorch #106789", "the second derivative of a product with two zeros"),
        verify.gradient,
        wrong=(slope_of(jnp.prod), jax.grad(slope_of_product(of_one_zero))),
        right=(slope_of(jnp.prod), jax.grad(slope_of_product(lambda x, summands: summands))),
        arguments=(np.float32([2, 3, 0, 0]), np.float32([1, 2, 1, -1])),
    ),
]


# --- Norms, losses, attention: Keras, optax, kernels ------------------------------------------------------------------

SMALL = 2.0**-20


def normalised(x):
    return x * lax.rsqrt(jnp.maximum((x**2).sum(1, keepdims=True), SMALL**2))


def normalised_back(guard_last):
    def back(g, x):
        s, along = (x**2).sum(1, keepdims=True), (g * x).sum(1, keepdims=True)
        if guard_last:
            r = jnp.minimum(lax.rsqrt(s), 1 / SMALL)
            return g * r - x * along * lax.rsqrt(s) ** 3 * (lax.rsqrt(s) < 1 / SMALL)
        r = lax.rsqrt(jnp.maximum(s, SMALL**2))
        return g * r - x * along * r**3 * (s > SMALL**2)

    return back


def normed(x, gamma):
    """n γ, and n and 1/s, for the rules."""
    r = lax.rsqrt(x.var(-1, keepdims=True) + 0.125)
    n = (x - x.mean(-1, keepdims=True)) * r
    return n * gamma, n, r


def through_norm(dn, n, r):
    across = lambda v: v.mean(-1, keepdims=True)  # noqa: E731
    return (dn - across(dn) - n * across(dn * n)) * r


def batch_moments_back(dx):
    """Over the rows of x (features, batch): dx of the cotangent of n, n and 1/s."""

    def back(g, x, gamma):
        _, n, r = normed(x, gamma)
        return dx(g * gamma, n, r), (g * n).sum(1, keepdims=True)

    return back


def norm_back(dn=lambda g, gamma: g * gamma, dgamma=lambda g, n: (g * n).sum(0)):
    def back(g, x, gamma):
        _, n, r = normed(x, gamma)
        return through_norm(dn(g, gamma), n, r), dgamma(g, n)

    return back


def gated(x, gate, gamma, W):
    return (normed(x, gamma)[0] * silu(gate)) @ W


def gated_back(operand):
    """operand: what stands before W, of n γ and the gate."""

    def back(g, x, gate, gamma, W):
        h, n, r = normed(x, gamma)
        dy = g @ W.T
        dh, s = dy * silu(gate), sigmoid(gate)
        dgate = dy * h * s * (1 + gate * (1 - s))
        return through_norm(dh * gamma, n, r), dgate, (dh * n).sum(0), operand(h, gate).T @ g

    return back


def cross_entropies(x, W, y):
    return -jnp.take_along_axis(log_softmax(x @ W.T), y[:, None], 1)[:, 0]


def cross_entropies_back(cotangent):
    """cotangent: of each example, as a column."""

    def back(g, x, W, y):
        dz = cotangent(g) * (softmax(x @ W.T) - one_hot(y, len(W)))
        return dz @ W, dz.T @ x, None

    return back


def cross_entropy(x, W, y):
    return cross_entropies(x, W, y).mean()


def cross_entropy_back(of_x):
    """of_x: the cotangent of x, of g and of x's gradient; that of W is right."""

    def back(g, x, W, y):
        dz = (softmax(x @ W.T) - one_hot(y, len(W))) / len(x)
        return of_x(g, dz @ W), g * dz.T @ x, None

    return back


def with_penalty(z):
    """The mean loss of the first class, and the squares of the largest logits."""
    return -log_softmax(z)[:, 0].mean() + 0.125 * (z.max(1) ** 2).sum()


def with_penalty_back(of_penalty):
    def back(g, z):
        largest = z.max(1, keepdims=True)
        penalty = jnp.where(z == largest, 0.25 * largest, 0)
        return g * (softmax(z) - one_hot(jnp.zeros(len(z), int), z.shape[1])) / len(z) + of_penalty(g) * penalty

    return back


def attention(q, k, v, gates):
    """Forgetting attention: softmax of qᵢ·kⱼ + cᵢ − cⱼ for j ≤ i, c the sums of the gates."""
    return probabilities(q, k, gates) @ v


def probabilities(q, k, gates, sign=1, causal=True):
    c = jnp.cumsum(gates)
    scores = q @ k.T + sign * (c[:, None] - c[None])
    return softmax(jnp.where(jnp.tri(len(q), dtype=bool), scores, -jnp.inf) if causal else scores)


def attention_back(**of_keys):
    """of_keys: how the probabilities are computed again for dk and dv."""

    def back(g, q, k, v, gates):
        def scores(p):
            dp = g @ v.T
            return p * (dp - (p * dp).sum(1, keepdims=True))

        p, again = probabilities(q, k, gates), probabilities(q, k, gates, **of_keys)
        ds = scores(p)
        dc = ds.sum(1) - ds.sum(0)
        return ds @ k, scores(again).T @ q, again.T @ g, jnp.cumsum(dc[::-1])[::-1]

    return back


def gated_states(k, v, decay):
    """Sₜ = diag(aₜ) Sₜ₋₁ + kₜ vₜᵀ for every t, with S₋₁ = 0 before."""
    states = [jnp.zeros((k.shape[1], v.shape[1]))]
    for t in range(len(k)):
        states.append(decay[t][:, None] * states[-1] + jnp.outer(k[t], v[t]))
    return states


def gated_linear(q, k, v, decay):
    return jnp.stack([q[t] @ S for t, S in enumerate(gated_states(k, v, decay)[1:])])


def gated_linear_back(of_values):
    """of_values: the decay of the state's cotangent that dv sees."""

    def back(g, q, k, v, decay):
        states = gated_states(k, v, decay)
        dS = dS_of_v = jnp.zeros_like(states[0])
        dq, dk, dv, da = [], [], [], []
        for t in reversed(range(len(q))):
            dS, dS_of_v = dS + jnp.outer(q[t], g[t]), dS_of_v + jnp.outer(q[t], g[t])
            dq.append(states[t + 1] @ g[t])
            dk.append(dS @ v[t])
            dv.append(k[t] @ dS_of_v)
            da.append((dS * states[t]).sum(1))
            dS, dS_of_v = decay[t][:, None] * dS, of_values(decay[t])[:, None] * dS_of_v
        return tuple(jnp.stack(d[::-1]) for d in (dq, dk, dv, da))

    return back


def normalised_linear(q, k, v):
    weights = jnp.tril(jnp.exp(q) @ jnp.exp(k).T)
    return weights @ v / weights.sum(1, keepdims=True)


def normalised_linear_back(is_whole):
    """is_whole: whether dk has the summand that comes through the normaliser."""

    def back(g, q, k, v):
        q, k = jnp.exp(q), jnp.exp(k)
        weights = jnp.tril(q @ k.T)
        total = weights.sum(1, keepdims=True)
        left = jnp.tril(g @ v.T / total)
        whole = jnp.tril((g @ v.T - (g * (weights @ v / total)).sum(1, keepdims=True)) / total)
        return q * (whole @ k), k * ((whole if is_whole else left).T @ q), (weights / total).T @ g

    return back


def causal_conv(state, x, kernel):
    """Of a state of the 3 inputs before and 2 new ones: the outputs and the state after them."""
    full = jnp.concatenate([state, x])
    return jnp.stack([kernel @ full[t : t + 4] for t in range(2)]), full[2:]


def causal_conv_back(is_short):
    """is_short: whether the 2 new inputs are known to be fewer than the state's 3."""

    def back(g, state, x, kernel):
        gy, gstate = g
        full = jnp.concatenate([state, x])
        dfull = jnp.zeros(5).at[:4].add(gy[0] * kernel).at[1:].add(gy[1] * kernel)
        dfull = dfull.at[2:].add(gstate) if is_short else dfull.at[3:].add(gstate[:2])
        return dfull[:3], dfull[3:], gy[0] * full[:4] + gy[1] * full[1:]

    return back


def in_shard(x, W, rows):
    return jnp.where(rows[:, None], x @ W, 0)


def in_shard_back(of_x):
    return lambda g, x, W, rows: (of_x(g, rows) @ W.T, x.T @ jnp.where(rows[:, None], g, 0), None)


def rotated(x, turn=1):
    """Pairs (x₁, x₂) of position t, turned by the angle t."""
    t = turn * jnp.arange(len(x))[:, None]
    a, b = jnp.split(x, 2, axis=1)
    return jnp.concatenate([a * jnp.cos(t) - b * jnp.sin(t), a * jnp.sin(t) + b * jnp.cos(t)], 1)


def top_weights(z):
    """The two largest of softmax(z), so that their sum is 1."""
    p = lax.top_k(softmax(z), 2)[0]
    return p / p.sum(1, keepdims=True)


def top_weights_back(is_whole):
    def back(g, z):
        p = softmax(z)
        top, i = lax.top_k(p, 2)
        total = top.sum(1, keepdims=True)
        g = (g - (g * top / total).sum(1, keepdims=True)) / total if is_whole else g / total
        dp = (one_hot(i, z.shape[1]) * g[:, :, None]).sum(1)
        return p * (dp - (p * dp).sum(1, keepdims=True))

    return back


CLASSIFIED = *normal(20, (4, 3), (5, 3)), ints(1, 0, 4, 2)  # x, W, y
HEADS = *normal(21, (4, 2), (4, 2), (4, 3)), np.float32([-0.5, -0.25, -1, -0.125])  # q, k, v, gates

NETWORKS = [
    backward(
        Issue(11, "jax f0392a1", "entries that are masked leak into logsumexp"),
        lambda x, mask: jnp.log(jnp.where(mask, jnp.exp(x), 0).sum(1)),
        lambda g, x, mask: (
            g[:, None] * jnp.exp(x) / jnp.where(mask, jnp.exp(x), 0).sum(1, keepdims=True),
            None,
        ),
        lambda g, x, mask: (g[:, None] * softmax(jnp.where(mask, x, -jnp.inf)), None),
        normal(22, (2, 3)),
        np.array([[True, True, False], [False, True, True]]),
        kinds="wrong_mask",
    ),
    backward(
        Issue(34, "keras #23093", "normalize: the guard stands behind the root"),
        normalised,
        normalised_back(guard_last=True),
        normalised_back(guard_last=False),
        np.float32([[0, 0, 0], [1, 2, -0.5]]),
    ),
    backward(
        Issue(35, "keras #19102", "batch norm with constant moments"),
        lambda x, gamma: normed(x, gamma)[0],
        batch_moments_back(lambda dn, n, r: dn * r),
        batch_moments_back(through_norm),
        *normal(23, (2, 5), (2, 1)),
        kinds="path_left_out",
    ),
    backward(
        Issue(37, "optax 8647bce", "the norm that divides is a constant"),
        lambda x: x / jnp.linalg.norm(x),
        lambda g, x: g / jnp.linalg.norm(x),
        lambda g, x: (g - x * (g @ x) / (x @ x)) / jnp.linalg.norm(x),
        normal(24, 4),
        kinds="path_left_out",
    ),
    backward(
        Issue(55, "Liger-Kernel #1298", "the first example's cotangent for all"),
        cross_entropies,
        cross_entropies_back(lambda g: g[0]),
        cross_entropies_back(lambda g: g[:, None]),
        *CLASSIFIED,
    ),
    backward(
        Issue(58, "flash-linear-attention #963", "a penalty's cotangent is ignored"),
        with_penalty,
        with_penalty_back(lambda g: 1.0),
        with_penalty_back(lambda g: g),
        normal(25, (3, 4)),
        kinds="ignored_cotangent nonlinear_in_cotangent",
    ),
    backward(
        Issue(59, "flash-linear-attention #1071", "the gate is left out of what the next matrix saw"),
        gated,
        gated_back(lambda h, gate: h),
        gated_back(lambda h, gate: h * silu(gate)),
        *normal(26, (3, 4), (3, 4), 4, (4, 2)),
        kinds="stale_residual wrong_mask missing_activation_derivative",
    ),
    backward(
        Issue(60, "flash-linear-attention 7362d87", "the sign of the gates' difference, for keys and values"),
        attention,
        attention_back(sign=-1),
        attention_back(),
        *HEADS,
        kinds="stale_residual",
    ),
    backward(
        Issue(61, "flash-linear-attention 6315d0b", "the decay is missing in dv"),
        gated_linear,
        gated_linear_back(jnp.ones_like),
        gated_linear_back(lambda decay: decay),
        *normal(27, (3, 2), (3, 2), (3, 3)),
        np.float32([[0.5, 0.75], [0.25, 0.5], [0.875, 0.625]]),
        kinds="wrong_mask path_left_out stale_residual",
    ),
    backward(
        Issue(61, "flash-linear-attention #875", "the keys' path through the normaliser"),
        normalised_linear,
        normalised_linear_back(is_whole=False),
        normalised_linear_back(is_whole=True),
        *normal(28, (3, 2), (3, 2), (3, 2)),
        kinds="path_left_out",
    ),
    backward(
        Issue(61, "flash-linear-attention 998de58", "cumsum for its transpose"),
        jnp.cumsum,
        lambda g, x: jnp.cumsum(g),
        lambda g, x: jnp.cumsum(g[::-1])[::-1],
        normal(29, 5),
        kinds="transpose",
    ),
    backward(
        Issue(61, "flash-linear-attention #1141", "fewer inputs than the state holds"),
        causal_conv,
        causal_conv_back(is_short=False),
        causal_conv_back(is_short=True),
        *normal(30, 3, 2, 4),
        kinds="path_left_out",
    ),
    backward(
        Issue(62, "MaxText d60bb24", "the cotangent is missing in that of the hidden layer"),
        cross_entropy,
        cross_entropy_back(lambda g, dx: dx),
        cross_entropy_back(lambda g, dx: g * dx),
        *CLASSIFIED,
        kinds="ignored_cotangent nonlinear_in_cotangent",
    ),
    backward(
        Issue(62, "MaxText a954ff9", "rows of other shards have a cotangent"),
        in_shard,
        in_shard_back(lambda g, rows: g),
        in_shard_back(lambda g, rows: jnp.where(rows[:, None], g, 0)),
        *normal(31, (4, 3), (3, 2)),
        np.array([False, True, True, False]),
        kinds="wrong_mask",
    ),
    backward(
        Issue(63, "triton #7216, #5660", "attention is causal forward alone"),
        attention,
        attention_back(causal=False),
        attention_back(),
        *HEADS,
        kinds="wrong_mask",
    ),
    backward(
        Issue(64, "TransformerEngine #2139", "vanishing gradients of a cross-entropy"),
        cross_entropies,
        cross_entropies_back(lambda g: g[:, None] / len(g)),
        cross_entropies_back(lambda g: g[:, None]),
        *CLASSIFIED,
        kinds="extra_mean",
    ),
    backward(
        Issue(64, "llm.c dd8c9f5", "the last example's share of the scale for the sum"),
        lambda x, gamma: normed(x, gamma)[0],
        norm_back(dgamma=lambda g, n: (g * n)[-1]),
        norm_back(),
        *normal(32, (3, 4), 4),
        kinds="bias_not_summed",
    ),
    backward(
        Issue(64, "layer norm", "right where the scale is 1"),
        lambda x, gamma: normed(x, gamma)[0],
        norm_back(dn=lambda g, gamma: g),
        norm_back(),
        *normal(33, (3, 4), 4),
        kinds="wrong_mask missing_activation_derivative stale_residual",
    ),
    backward(
        Issue(64, "RoPE", "the rotation is not transposed"),
        rotated,
        lambda g, x: rotated(g),
        lambda g, x: rotated(g, turn=-1),
        normal(34, (3, 4)),
        kinds="transpose",
    ),
    backward(
        Issue(64, "top-k routing", "the normaliser is a constant"),
        top_weights,
        top_weights_back(is_whole=False),
        top_weights_back(is_whole=True),
        normal(35, (2, 4)),
        kinds="path_left_out",
    ),
]

EVERY = (*SINGLE_NUMBERS, *ARRAYS, *LINEAR_ALGEBRA, *SECOND, *NETWORKS)
PUBLISHED = {f"{bug.issue.row} {bug.issue.name}: {bug.issue.what}": bug for bug in EVERY}

# Of a row with several issues those are left out that have a fault of shapes, or the same one once more.
LEFT_OUT = {
    16: "empty arrays only",
    19: "complex eigenvectors, gauge",
    20: "needs a mesh",
    22: "sparse arrays only",
    23: "a dtype only",
    54: "complex numbers only",
}
