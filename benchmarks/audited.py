"""Rules of public packages, each with the arguments that it is asked at: a `Rule` in `RULES` has what `ask` needs.

Each imports its package when it is asked. Chosen are rules with a table, a guard, a tie, an iteration or an implicit
derivative, for these are where a verifier can be wrong.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from jaxnn import verify
from jaxnn.verify import Report


class Rule(NamedTuple):
    """package: as pip names it. bug: the heading in docs/bugs_of_others.md that shows why the rule is wrong."""

    package: str
    name: str
    ask: Callable[[], Report]
    bug: str = ""


def normal(*shape: int) -> jax.Array:
    return jnp.float32(np.random.default_rng(0).normal(size=shape))


def positive(*shape: int) -> jax.Array:
    return jnp.float32(np.random.default_rng(1).uniform(0.2, 2, size=shape))


def within(low: float, high: float, *shape: int) -> jax.Array:
    return jnp.float32(np.random.default_rng(2).uniform(low, high, size=shape))


def positive_definite(n: int) -> jax.Array:
    a = np.random.default_rng(3).normal(size=(n, n))
    return jnp.float32(a @ a.T + n * np.eye(n))


def by_autodiff(f: Callable, *args: jax.Array, **options: object) -> Report:
    """Whether `jax.grad` of f, through whatever rules f has, is the gradient of the sum of f."""

    def cost(*args: jax.Array) -> jax.Array:
        return jnp.sum(f(*args))

    argnums = tuple(range(len(args)))
    return verify.gradient(cost, jax.grad(cost, argnums), *args, argnums=argnums, **options)


# JAX


def relu6() -> Report:
    return verify.custom_jvp(jax.nn.relu6, jnp.float32([-1, 0, 2, 6, 7]))


def xlogy() -> Report:
    return verify.custom_jvp(jax.scipy.special.xlogy, jnp.float32([0, 1, 2]), jnp.float32([2, 0.5, 3]))


def dawsn() -> Report:
    return verify.custom_jvp(jax.scipy.special.dawsn, normal(4))


def log1mexp_of_jax() -> Report:
    return verify.custom_jvp(jax.nn.log1mexp, jnp.float32([0.1, 0.5, 1.3]))


def pinv() -> Report:
    return verify.custom_jvp(jnp.linalg.pinv, normal(3, 2))


def conjugate_gradients() -> Report:
    a = positive_definite(4)

    def solution(d: jax.Array, b: jax.Array) -> jax.Array:
        return jax.scipy.sparse.linalg.cg(lambda v: a @ v + d * v, b, tol=1e-12)[0]

    return by_autodiff(solution, positive(4), normal(4))


def custom_root() -> Report:
    def newton(g: Callable, y: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 60, lambda _, y: y - g(y) / jax.grad(g)(y), y)

    def root(a: jax.Array) -> jax.Array:
        return jax.lax.custom_root(lambda y: y**3 + y - a, jnp.ones_like(a), newton, lambda g, y: y / g(1.0))

    return by_autodiff(root, jnp.float32(2.3))


def rms_norm() -> Report:
    from jax.experimental.pallas.ops.gpu.rms_norm import rms_norm, rms_norm_reference

    return verify.custom_vjp(rms_norm, normal(1, 2, 6), positive(6), normal(6), plain=rms_norm_reference)


def attention() -> Report:
    from jax.experimental.pallas.ops.gpu.attention import BlockSizes, mha, mha_reference

    def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return mha(q, k, v, None, 0.5, True, BlockSizes(*[2] * 6), "triton", None, 2, None, False)

    def plain(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return mha_reference(q, k, v, None, 0.5, True)

    return verify.custom_vjp(attend, *normal(3, 1, 4, 1, 2), plain=plain)


# optax


def weighted_logsoftmax() -> Report:
    from optax.losses._classification import weighted_logsoftmax

    weights = jnp.float32([[0, 0.3, 0.7], [0.2, 0.8, 0]])
    return verify.custom_jvp(weighted_logsoftmax, normal(2, 3), weights, argnums=(0, 1))


def projection_simplex() -> Report:
    from optax.projections import projection_simplex

    return verify.custom_jvp(projection_simplex, normal(5))


def projection_l1_ball() -> Report:
    from optax.projections import projection_l1_ball

    return verify.custom_jvp(projection_l1_ball, normal(5))


def scale_gradient() -> Report:
    from optax import scale_gradient

    return verify.custom_vjp(lambda x: scale_gradient(x, 0.5), normal(3), surrogate=lambda x: 0.5 * x)


def ctc_loss() -> Report:
    from optax.losses import ctc_loss

    labels = jnp.array([[1, 2]])
    return by_autodiff(lambda z: ctc_loss(z, jnp.zeros((1, 5)), labels, jnp.zeros((1, 2))), normal(1, 5, 3))


# distrax


def multiply_no_nan() -> Report:
    from distrax._src.utils.math import multiply_no_nan

    return verify.custom_jvp(multiply_no_nan, normal(3), jnp.float32([0, 0.5, -2]), argnums=(0, 1))


def power_no_nan() -> Report:
    from distrax._src.utils.math import power_no_nan

    return verify.custom_jvp(power_no_nan, positive(3), jnp.float32([0, 1, -2]), argnums=(0, 1), domain={0: "positive"})


def power_no_nan_of_0() -> Report:
    from distrax._src.utils.math import power_no_nan

    return verify.custom_jvp(power_no_nan, jnp.float32([0, 0.5, 3]), jnp.float32([2, 0.7, 1.5]), points="given")


def von_mises_cdf() -> Report:
    import distrax

    def cdf(x: jax.Array, concentration: jax.Array) -> jax.Array:
        return distrax.VonMises(0.0, concentration).cdf(x)

    return verify.custom_jvp(cdf, within(-2, 2, 2), within(1, 4, 2), domain={1: verify.Interval(0.5, 8)})


# numpyro


def power_law(method: str) -> Report:
    """Of a power law on an interval: its log density, distribution function, or quantiles."""
    from numpyro.distributions import DoublyTruncatedPowerLaw

    def of(x: jax.Array, alpha: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
        return getattr(DoublyTruncatedPowerLaw(alpha, low, high), method)(x)

    domain = (verify.Interval(0.4, 0.6), None, verify.Interval(0.1, 0.3), verify.Interval(1, 2))
    return verify.custom_jvp(of, *map(jnp.float32, (0.5, 1.3, 0.2, 1.5)), domain=domain)


def power_law_cdf_outside() -> Report:
    from numpyro.distributions import DoublyTruncatedPowerLaw

    def cdf(x: jax.Array) -> jax.Array:
        return DoublyTruncatedPowerLaw(1.3, 0.2, 1.5, validate_args=False).cdf(x)

    return verify.custom_jvp(cdf, jnp.float32(0.1), points="given")


def log1mexp() -> Report:
    from numpyro.distributions.util import log1mexp

    return verify.custom_jvp(log1mexp, -positive(4))


# TensorFlow Probability


def hpsd_quadratic_form_solve() -> Report:
    from tensorflow_probability.substrates.jax.math import hpsd_quadratic_form_solve

    return verify.custom_vjp(hpsd_quadratic_form_solve, positive_definite(3), normal(3, 2))


def hpsd_logdet() -> Report:
    from tensorflow_probability.substrates.jax.math import hpsd_logdet

    return verify.custom_vjp(hpsd_logdet, positive_definite(3))


def log_cosh() -> Report:
    from tensorflow_probability.substrates.jax.math import log_cosh

    return verify.custom_vjp(log_cosh, jnp.float32([-2, 0, 0.3, 8]))


# e3nn, jaxopt, OTT


def spherical_harmonics() -> Report:
    import e3nn_jax

    def harmonics(x: jax.Array) -> jax.Array:
        return e3nn_jax.spherical_harmonics("2e", e3nn_jax.IrrepsArray("1o", x), normalize=True).array

    return verify.custom_jvp(harmonics, normal(2, 3))


def projection_sparse_simplex() -> Report:
    from jaxopt.projection import projection_sparse_simplex

    return verify.custom_jvp(lambda x: projection_sparse_simplex(x, 2), normal(5))


def isotonic() -> Report:
    from jaxopt.isotonic import isotonic_l2_pav

    return verify.custom_jvp(isotonic_l2_pav, normal(5), digits=6)  # its rule has a guard of 1e-8


def ridge() -> Report:
    from jaxopt.implicit_diff import custom_root

    x, y = normal(6, 3), positive(6)

    @custom_root(lambda w, penalty: x.T @ (x @ w - y) + penalty * w)
    def solution(start: None, penalty: jax.Array) -> jax.Array:
        return jnp.linalg.solve(x.T @ x + penalty * jnp.eye(3), x.T @ y)

    return verify.custom_vjp(lambda penalty: solution(None, penalty), jnp.float32(0.5))


def fixed_point() -> Report:
    from jaxopt import FixedPointIteration

    solver = FixedPointIteration(lambda x, a: 0.5 * jnp.cos(x) + a, maxiter=200, tol=1e-7)
    return verify.custom_vjp(lambda a: solver.run(jnp.float32(0), a).params, jnp.float32(0.4))


def norm() -> Report:
    from ott.math.utils import norm

    return verify.custom_jvp(norm, jnp.zeros(3))


def norm_of_rows() -> Report:
    from ott.math.utils import norm

    return verify.custom_jvp(lambda x: norm(x, axis=1), normal(2, 3).at[0].set(0), points="given")


def softmin(*differentiated: int) -> Report:
    from ott.math.utils import softmin

    return verify.custom_vjp(lambda x, gamma: softmin(x, gamma, 1), normal(2, 3), positive(), argnums=differentiated)


def logsumexp() -> Report:
    from ott.math.utils import logsumexp

    return verify.custom_jvp(lambda x, b: logsumexp(x, 1, False, b), normal(2, 3), positive(2, 3))


def lambertw() -> Report:
    from ott.math.utils import lambertw

    return verify.custom_jvp(lambertw, positive(3), domain={0: verify.Interval(0.1, 3)})


# The solvers of Kidger and others


def newton() -> Report:
    import optimistix

    solver = optimistix.Newton(rtol=1e-6, atol=1e-6)

    def root(a: jax.Array) -> jax.Array:
        return optimistix.root_find(lambda y, a: y**3 + y - a, solver, jnp.float32(1), a).value

    return by_autodiff(root, jnp.float32(2.3), digits=6)  # its iteration ends at a tolerance


def linear_solve() -> Report:
    import lineax

    return by_autodiff(
        lambda a, b: lineax.linear_solve(lineax.MatrixLinearOperator(a), b, lineax.LU()).value,
        normal(3, 3),
        positive(3),
    )


def two_norm() -> Report:
    from lineax.internal import two_norm

    return verify.custom_jvp(two_norm, jnp.zeros(3))


def initial_value_problem(adjoint: str) -> Report:
    """y′ = −a y + b in four steps of Heun's method, through diffrax's adjoint of this name."""
    import diffrax

    term, solver = diffrax.ODETerm(lambda t, y, p: -p[0] * y + p[1]), diffrax.Heun()

    def solution(p: jax.Array) -> jax.Array:
        how = getattr(diffrax, adjoint)()
        return diffrax.diffeqsolve(term, solver, 0.0, 1.0, 0.25, jnp.float32([1, 0.5]), p, adjoint=how, max_steps=8).ys

    return by_autodiff(solution, jnp.float32([0.7, 0.3]))


def filter_custom_vjp() -> Report:
    import equinox

    @equinox.filter_custom_vjp
    def sine(x: jax.Array) -> jax.Array:
        return jnp.sin(x)

    sine.def_fwd(lambda perturbed, x: (jnp.sin(x), x))
    sine.def_bwd(lambda x, dout, perturbed, unused: dout * jnp.cos(x))
    return verify.custom_vjp(sine, normal(3))


# Attention, molecular dynamics, reinforcement learning


def flash_attention() -> Report:
    from flash_attention_jax import flash_attention

    mask = jnp.array([[1, 1, 0, 1, 0]], bool)

    def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return flash_attention(q, k, v, mask)

    return verify.custom_vjp(attend, *normal(3, 1, 2, 5, 4), digits=6)  # its sum has a guard of 1e-10


def causal_flash_attention() -> Report:
    from flash_attention_jax import causal_flash_attention

    return verify.custom_vjp(causal_flash_attention, *normal(3, 1, 2, 5, 4), digits=6)  # its sum has a guard of 1e-10


def quaternion_rotate() -> Report:
    from jax_md.rigid_body import _quaternion_rotate

    q = normal(4)
    return verify.custom_vjp(_quaternion_rotate, q / jnp.linalg.norm(q), positive(3), domain={0: "unit"})


def safe_sqrt() -> Report:
    from jax_md.mm_forcefields.reaxff.reaxff_helper import safe_sqrt

    return verify.custom_jvp(safe_sqrt, positive(3), domain={0: "positive"})


def segment_mm() -> Report:
    from jax_md._nn.uma.kernels import _segment_mm_2d

    return verify.custom_vjp(lambda x, w: _segment_mm_2d(x, w, jnp.array([2, 3])), normal(5, 2), positive(2, 3, 2))


def clip_gradient() -> Report:
    from rlax import clip_gradient

    return verify.custom_vjp(lambda x: clip_gradient(x, -100.0, 100.0), normal(3), points="given")


RULES = [
    Rule("jax", "`nn.relu6` at its kinks", relu6),
    Rule("jax", "`scipy.special.xlogy` at 0", xlogy),
    Rule("jax", "`scipy.special.dawsn`, a table", dawsn),
    Rule("jax", "`nn.log1mexp` in both branches", log1mexp_of_jax),
    Rule("jax", "`numpy.linalg.pinv`", pinv),
    Rule("jax", "`scipy.sparse.linalg.cg`, an implicit derivative", conjugate_gradients),
    Rule("jax", "`lax.custom_root` by Newton's method", custom_root),
    Rule("jax", "`pallas.ops.gpu.rms_norm`, a kernel", rms_norm),
    Rule("jax", "`pallas.ops.gpu.attention`, a kernel", attention),
    Rule("optax", "`weighted_logsoftmax` with weights of 0", weighted_logsoftmax),
    Rule("optax", "`projection_simplex`", projection_simplex),
    Rule("optax", "`projection_l1_ball`", projection_l1_ball),
    Rule("optax", "`scale_gradient`, as the derivative of x/2", scale_gradient),
    Rule("optax", "`ctc_loss`", ctc_loss),
    Rule("distrax", "`multiply_no_nan` at 0", multiply_no_nan),
    Rule("distrax", "`power_no_nan`, an exponent of 0", power_no_nan),
    Rule("distrax", "`power_no_nan` of 0", power_no_nan_of_0, bug="distrax-power_no_nan"),
    Rule("distrax", "`VonMises.cdf`, a series", von_mises_cdf),
    Rule("numpyro", "`DoublyTruncatedPowerLaw.log_prob`", lambda: power_law("log_prob"), bug="numpyro-log_prob"),
    Rule("numpyro", "`DoublyTruncatedPowerLaw.cdf`", lambda: power_law("cdf")),
    Rule("numpyro", "`DoublyTruncatedPowerLaw.cdf` below its support", power_law_cdf_outside, bug="numpyro-cdf"),
    Rule("numpyro", "`DoublyTruncatedPowerLaw.icdf`", lambda: power_law("icdf")),
    Rule("numpyro", "`log1mexp`", log1mexp),
    Rule("tfp-nightly", "`hpsd_quadratic_form_solve`", hpsd_quadratic_form_solve, bug="tfp-hpsd_quadratic_form_solve"),
    Rule("tfp-nightly", "`hpsd_logdet`", hpsd_logdet),
    Rule("tfp-nightly", "`log_cosh` at 0", log_cosh),
    Rule("e3nn-jax", "`spherical_harmonics` of degree 2", spherical_harmonics),
    Rule("jaxopt", "`projection_sparse_simplex`", projection_sparse_simplex),
    Rule("jaxopt", "`isotonic_l2_pav`, a callback", isotonic),
    Rule("jaxopt", "`custom_root` of ridge regression", ridge),
    Rule("jaxopt", "`FixedPointIteration`", fixed_point),
    Rule("ott-jax", "`norm` at 0", norm, bug="ott-norm"),
    Rule("ott-jax", "`norm` of rows, one of them 0", norm_of_rows, bug="ott-norm"),
    Rule("ott-jax", "`softmin` with respect to x", lambda: softmin(0)),
    Rule("ott-jax", "`softmin` with respect to gamma", lambda: softmin(1), bug="ott-softmin"),
    Rule("ott-jax", "`logsumexp` with weights", logsumexp),
    Rule("ott-jax", "`lambertw`, an iteration", lambertw),
    Rule("optimistix", "`root_find` by Newton's method", newton),
    Rule("lineax", "`linear_solve` by LU, 3 × 3", linear_solve),
    Rule("lineax", "`two_norm` at 0", two_norm),
    Rule("diffrax", "`diffeqsolve`, checkpointed", lambda: initial_value_problem("RecursiveCheckpointAdjoint")),
    Rule("diffrax", "`diffeqsolve`, `DirectAdjoint`", lambda: initial_value_problem("DirectAdjoint")),
    Rule("equinox", "`filter_custom_vjp`", filter_custom_vjp),
    Rule("flash-attention-jax", "`flash_attention`, masked", flash_attention),
    Rule("flash-attention-jax", "`causal_flash_attention`", causal_flash_attention),
    Rule("jax-md", "`_quaternion_rotate`, of unit quaternions", quaternion_rotate),
    Rule("jax-md", "`safe_sqrt`", safe_sqrt),
    Rule("jax-md", "`segment_mm`", segment_mm),
    Rule("rlax", "`clip_gradient`, where nothing is clipped", clip_gradient),
]
