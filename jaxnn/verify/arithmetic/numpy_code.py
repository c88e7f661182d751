"""Real numbers that NumPy code computes with: arrays of objects that hold a ball, so that lecture code runs as it is.

Every float that the code brings along enters as in a jaxpr; a comparison that is not decided stops the evaluation; and
nothing becomes a float again, so that no digit is lost unseen.
"""

import operator
import os
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from unittest import mock

import flint
import numpy as np
from flint import arb

from jaxnn.verify.arithmetic.balls import enter
from jaxnn.verify.arithmetic.decisions import Undecided

_evaluation: ContextVar = ContextVar("evaluation")


@contextmanager
def computing(evaluation):
    """Real numbers in here take their precision, rounding and ties from this evaluation, and report to it."""
    token = _evaluation.set(evaluation)
    made = {name: making(getattr(np, name)) for name in ("zeros", "ones", "empty", "full", "eye", "identity")}
    try:
        with flint.ctx.workprec(evaluation.precision), mock.patch.multiple(np, **made):
            yield
    finally:
        _evaluation.reset(token)


def making(f):
    """np.zeros and its like, of real numbers where they would be of floats: what is added to them stays real."""

    def make(*args, **kwargs):
        out = f(*args, **kwargs)
        return of_balls(enter(out)) if out.dtype.kind == "f" else out

    return make


def ball(v):
    """The ball of a real number or of a number of Python or NumPy; None of anything else."""
    if isinstance(v, Real):
        return v.ball
    if isinstance(v, (bool, np.bool_, int, np.integer)):
        return arb(int(v))
    if isinstance(v, (float, np.floating)):
        return _evaluation.get().literal(v)[()]
    return None


def binary(f):
    def method(self, other):
        v = ball(other)
        return NotImplemented if v is None else Real(f(self.ball, v))

    def reflected(self, other):
        v = ball(other)
        return NotImplemented if v is None else Real(f(v, self.ball))

    return method, reflected


def comparison(name):
    def method(self, other):
        v = ball(other)
        if v is None:
            return NotImplemented
        ev = _evaluation.get()
        caller = sys._getframe(1)
        while caller.f_back and caller.f_code.co_filename == __file__:
            caller = caller.f_back
        order = ev.ties.order(self.ball, v, (caller.f_lineno, len(ev.sides)))
        if order is None:
            raise Undecided
        place = f"{os.path.basename(caller.f_code.co_filename)}:{caller.f_lineno} ({caller.f_code.co_name})"
        truth = getattr(operator, name)(order, 0)
        ev.sides.add((place, name, truth))
        return truth

    return method


def power(x, y):
    return x ** int(y.unique_fmpz()) if y.is_exact() and y.is_integer() else x**y


class Real:
    """A real number with a proven error bound."""

    __slots__ = ("ball",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value):
        self.ball = value

    __add__, __radd__ = binary(operator.add)
    __sub__, __rsub__ = binary(operator.sub)
    __mul__, __rmul__ = binary(operator.mul)
    __truediv__, __rtruediv__ = binary(operator.truediv)
    __pow__, __rpow__ = binary(power)
    __lt__, __le__, __gt__, __ge__, __eq__, __ne__ = map(comparison, ("lt", "le", "gt", "ge", "eq", "ne"))

    def __neg__(self):
        return Real(-self.ball)

    def __pos__(self):
        return self

    def __abs__(self):
        return Real(abs(self.ball))

    def __bool__(self):
        return self != 0

    def __float__(self):
        raise TypeError("float() of a real number would lose digits")

    def __int__(self):
        n = self.ball.unique_fmpz()
        if n is None:
            raise Undecided
        return int(n)

    def conjugate(self):
        return self

    @property
    def real(self):
        return self

    def __repr__(self):
        return f"Real({self.ball.str(17)})"


def _method(f):
    return lambda self: Real(f(self.ball))


FUNCTIONS = {  # NumPy calls the method of a ufunc's name on an object
    "exp": arb.exp,
    "exp2": lambda x: arb(2) ** x,
    "expm1": arb.expm1,
    "log": arb.log,
    "log1p": arb.log1p,
    "log2": lambda x: x.log() / arb(2).log(),
    "log10": lambda x: x.log() / arb(10).log(),
    "sqrt": arb.sqrt,
    "cbrt": lambda x: x.root(3),
    "square": lambda x: x**2,
    "reciprocal": lambda x: 1 / x,
    "sin": arb.sin,
    "cos": arb.cos,
    "tan": arb.tan,
    "sinh": arb.sinh,
    "cosh": arb.cosh,
    "tanh": arb.tanh,
    "arcsin": arb.asin,
    "arccos": arb.acos,
    "arctan": arb.atan,
    "arcsinh": arb.asinh,
    "arccosh": arb.acosh,
    "arctanh": arb.atanh,
    "floor": arb.floor,
    "ceil": arb.ceil,
    "expit": lambda x: 1 / (1 + (-x).exp()),
    "log_expit": lambda x: -((-x).exp()).log1p(),
    "erf": arb.erf,
    "erfc": arb.erfc,
    "gammaln": arb.lgamma,
    "psi": arb.digamma,
}
for _name, _f in FUNCTIONS.items():
    setattr(Real, _name, _method(_f))

UNARY = {name: np.frompyfunc(lambda x, f=f: Real(f(ball(x))), 1, 1) for name, f in FUNCTIONS.items()}
BINARY = {
    "logaddexp": np.frompyfunc(lambda x, y: Real((ball(x).exp() + ball(y).exp()).log()), 2, 1),
    "arctan2": np.frompyfunc(lambda x, y: Real(arb.atan2(ball(x), ball(y))), 2, 1),
    "hypot": np.frompyfunc(lambda x, y: Real((ball(x) ** 2 + ball(y) ** 2).sqrt()), 2, 1),
}


class Reals(np.ndarray):
    """An array of `Real`; functions that NumPy itself cannot run on objects (SciPy's expit, logaddexp) are here."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **settings):
        if out:
            settings["out"] = tuple(plain(v) for v in out)
        f = ufunc
        if method == "__call__" and ufunc.__name__ in BINARY:
            f = BINARY[ufunc.__name__]
        elif method == "__call__" and ufunc.__name__ in UNARY:
            f = UNARY[ufunc.__name__]
        result = getattr(f, method)(*map(plain, inputs), **settings)
        return out[0] if out else reals(result)

    def astype(self, dtype, *args, **kwargs):
        return self.copy() if np.issubdtype(dtype, np.floating) else super().astype(dtype, *args, **kwargs)


def plain(v):
    return v.view(np.ndarray) if isinstance(v, Reals) else v


def reals(v):
    return v.view(Reals) if isinstance(v, np.ndarray) and v.dtype == object else v


def of_balls(v):
    """The balls as real numbers, an array even of no dimensions."""
    out = np.ndarray(v.shape, object)
    out.ravel()[:] = [Real(b) for b in v.flat]
    return out.view(Reals)


def to_balls(v):
    """Back again; plain numbers among them enter exactly."""
    v = np.asarray(v)
    if v.dtype != object:
        return enter(np.asarray(v, np.float64))
    out = np.ndarray(v.shape, object)
    out.ravel()[:] = [ball(entry) for entry in v.flat]
    return out
