"""Rules that compute entry by entry."""

import functools
import operator

import numpy as np
from flint import arb
from jax import lax

from jaxnn.verify.arithmetic.balls import NEG_INF, whole
from jaxnn.verify.arithmetic.decisions import FALSE, TRUE, UNKNOWN, logic


def logistic(z):
    return 1 / (1 + (-z).exp())


def log(x):
    return NEG_INF if x == 0 else x.log()


def lgamma(x):  # log |Γ(x)|
    return x.lgamma() if x > 0 else abs(x.gamma()).log()


def cbrt(x):
    return x.root(3) if x > 0 else -(-x).root(3) if x < 0 else x if x == 0 else arb.nan()


def power(x, y):
    if not isinstance(y, arb):
        return x ** int(y)
    return x ** whole(y) if y.is_exact() and y.is_integer() else x**y


def polygamma(n, x):  # ψ⁽ⁿ⁾(x) = (−1)ⁿ⁺¹ n! ζ(n + 1, x)
    if not (n.is_exact() and n.is_integer() and n >= 0):
        return arb.nan()
    n = whole(n)
    return x.digamma() if n == 0 else (-1) ** (n + 1) * arb.fac_ui(n) * arb(n + 1).zeta(x)


def round_(ev, params, place, x):
    half_even = params["rounding_method"] == lax.RoundingMethod.TO_NEAREST_EVEN

    def nearest(v):
        if not half_even:
            return (abs(v) + 0.5).floor() * v.sgn()
        if v.is_exact() and (v + 0.5).is_integer():  # a tie
            return 2 * ((v + 0.5) / 2).floor()
        return (v - 0.5).ceil().union((v + 0.5).floor())

    return np.frompyfunc(nearest, 1, 1)(x)


def remainder(x, y):  # of the sign of x
    q = x / y
    return x - (q.floor() if q >= 0 else q.ceil() if q < 0 else q.floor().union(q.ceil())) * y


EACH = {
    "exp": arb.exp,
    "exp2": lambda x: arb(2) ** x,
    "expm1": arb.expm1,
    "log": log,
    "log1p": arb.log1p,
    "log2": lambda x: log(x) / arb(2).log(),
    "sqrt": arb.sqrt,
    "rsqrt": arb.rsqrt,
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
BOTH = {
    "pow": power,
    "atan2": arb.atan2,
    "rem": remainder,
    "igamma": lambda a, x: x.gamma_lower(a, regularized=1),
    "igammac": lambda a, x: x.gamma_upper(a, regularized=1),
    "polygamma": polygamma,
    "zeta": lambda s, a: s.zeta(a),  # Σ 1 / (a + k)ˢ
}
ARITHMETIC = {
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": operator.truediv,
    "neg": np.negative,
}


def integer_pow(ev, params, place, x):
    return x ** params["y"]


def polynomial(ev, params, place, x, *coefficients):
    return functools.reduce(lambda total, c: total * x + c, reversed(coefficients))


def is_finite(ev, params, place, x):
    # What is not known to be finite is known to be infinite only where it is exactly so.
    return logic(np.frompyfunc(lambda v: TRUE if v.is_finite() else FALSE if abs(v) == -NEG_INF else UNKNOWN, 1, 1)(x))
