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


def gelu() -> Report:
    return by_autodiff(lambda x: jax.nn.gelu(x, approximate=False), normal(4))


def relu6() -> Report:
    return by_autodiff(jax.nn.relu6, jnp.float32([-1, 0, 2, 6, 7]))


def xlogy() -> Report:
    return by_autodiff(jax.scipy.special.xlogy, jnp.float32([0, 1, 2]), jnp.float32([2, 0.5, 3]))


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
