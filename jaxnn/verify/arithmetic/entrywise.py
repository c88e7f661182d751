"""Rules that compute entry by entry."""

import functools
import operator
from collections.abc import Callable

import numpy as np
from flint import arb
from jax import lax

from jaxnn.verify.arithmetic.balls import NEG_INF, ONE, Balls, whole, wrap
from jaxnn.verify.arithmetic.decisions import FALSE, TRUE, UNKNOWN, Place, Truths, logic
from jaxnn.verify.arithmetic.rules import EqnParams, Evaluator, Rule, each_entry, each_pair, of_arrays


def logistic(z: arb) -> arb:
    """1 / (1 + e⁻ᶻ)"""
    return 1 / (1 + (-z).exp())


def log(x: arb) -> arb:
    """ln x; −∞ at 0."""
    return NEG_INF if x == 0 else x.log()


def rsqrt(x: arb) -> arb:
    """1 / √x; ∞ at 0."""
    return -NEG_INF if x == 0 else x.rsqrt()


def lgamma(x: arb) -> arb:
    """log |Γ(x)|"""
    return x.lgamma() if x > 0 else abs(x.gamma()).log()


def cbrt(x: arb) -> arb:
    """The real third root; NaN if the sign of x is not known."""
    if x > 0:
        return x.root(3)
    if x < 0:
        return -(-x).root(3)
    return x if x == 0 else arb.nan()


def power(x: arb, y: arb | int) -> arb:
    """xʸ: of any x if y is a whole number, else of a positive one."""
    if not isinstance(y, arb):
        return x ** int(y)
    return x ** whole(y) if y.is_exact() and y.is_integer() else x**y


def polygamma(n: arb, x: arb) -> arb:
    """ψ⁽ⁿ⁾(x) = (−1)ⁿ⁺¹ n! ζ(n + 1, x); NaN if n is not known to be a whole number ≥ 0."""
    if not (n.is_exact() and n.is_integer() and n >= 0):
        return arb.nan()
    order = whole(n)
    if order == 0:
        return x.digamma()
    return (-1) ** (order + 1) * arb.fac_ui(order) * arb(order + 1).zeta(x)


def remainder(x: arb, y: arb) -> arb:
    """x − n y, of the sign of x: n is x / y rounded towards zero."""
    q = x / y
    if q >= 0:
        return x - q.floor() * y
    if q < 0:
        return x - q.ceil() * y
    return x - q.floor().union(q.ceil()) * y


def half_to_even(v: arb) -> arb:
    """The integer next to v, of two the even one."""
    if v.is_exact() and (v + 0.5).is_integer():  # a tie
        return 2 * ((v + 0.5) / 2).floor()
    return (v - 0.5).ceil().union((v + 0.5).floor())


def half_away_from_zero(v: arb) -> arb:
    """The integer next to v, of two the one that is further from zero."""
    return (abs(v) + 0.5).floor() * v.sgn()


def is_finite_ball(v: arb) -> float:
    """TRUE, FALSE or UNKNOWN: a ball that is not known to be finite is known to be infinite only if it is ±∞ itself."""
    if v.is_finite():
        return TRUE
    return FALSE if abs(v) == -NEG_INF else UNKNOWN


def round_(ev: Evaluator, params: EqnParams, place: Place, x: Balls) -> Balls:
    """The integers next to the entries of x."""
    half_even = params["rounding_method"] == lax.RoundingMethod.TO_NEAREST_EVEN
    return wrap(np.frompyfunc(half_to_even if half_even else half_away_from_zero, 1, 1)(x))


def integer_pow(ev: Evaluator, params: EqnParams, place: Place, x: Balls) -> Balls:
    """xʸ for an integer y of either sign, a parameter."""
    return x ** params["y"]


def polynomial(ev: Evaluator, params: EqnParams, place: Place, x: Balls, *coefficients: Balls) -> Balls:
    """c₀ + c₁ x + c₂ x² + …, by Horner's rule."""
    return functools.reduce(lambda total, c: total * x + c, reversed(coefficients))


def is_finite(ev: Evaluator, params: EqnParams, place: Place, x: Balls) -> Truths:
    """Which entries of x are finite."""
    return logic(np.where(ev.known_nans(x), FALSE, wrap(np.frompyfunc(is_finite_ball, 1, 1)(x))))


OF_A_BALL: dict[str, Callable[[arb], arb]] = {
    "exp": arb.exp,
    "exp2": lambda x: arb(2) ** x,
    "expm1": arb.expm1,
    "log": log,
    "log1p": arb.log1p,
    "log2": lambda x: log(x) / arb(2).log(),
    "sqrt": arb.sqrt,
    "rsqrt": rsqrt,
    "cbrt": cbrt,
    "logistic": logistic,
    "sin": arb.sin,
    "cos": arb.cos,
    "tan": arb.tan,
    "asin": arb.asin,
    "acos": arb.acos,
    "atan": arb.atan,
    "sinh": arb.sinh,
    "cosh": arb.cosh,
    "tanh": arb.tanh,
    "asinh": arb.asinh,
    "acosh": arb.acosh,
    "atanh": arb.atanh,
    "erf": arb.erf,
    "erfc": arb.erfc,
    "erf_inv": arb.erfinv,
    "lgamma": lgamma,
    "digamma": arb.digamma,
    "abs": abs,
    "square": lambda x: x**2,
    "one_minus_square": lambda x: 1 - x**2,
    "sign": arb.sgn,
    "floor": arb.floor,
    "ceil": arb.ceil,
    "bessel_i0e": lambda x: x.bessel_i(0) * (-abs(x)).exp(),
    "bessel_i1e": lambda x: x.bessel_i(1) * (-abs(x)).exp(),
}
OF_TWO_BALLS: dict[str, Callable[[arb, arb], arb]] = {
    "pow": power,
    "atan2": arb.atan2,
    "rem": remainder,
    "igamma": lambda a, x: x.gamma_lower(a, regularized=1),
    "igammac": lambda a, x: x.gamma_upper(a, regularized=1),
    "polygamma": polygamma,
    "zeta": lambda s, a: s.zeta(a),  # Σ 1 / (a + k)ˢ
}
OF_ARRAYS: dict[str, Callable[..., Balls]] = {
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": operator.truediv,
    "neg": np.negative,
    "reciprocal": lambda x: ONE / x,
}
ENTRYWISE: dict[str, Rule] = {
    **{name: of_arrays(f) for name, f in OF_ARRAYS.items()},
    **{name: each_entry(f) for name, f in OF_A_BALL.items()},
    **{name: each_pair(f) for name, f in OF_TWO_BALLS.items()},
    "integer_pow": integer_pow,
    "polynomial": polynomial,
    "round": round_,
    "is_finite": is_finite,
}
