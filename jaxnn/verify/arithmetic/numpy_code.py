"""Real numbers that NumPy code computes with: arrays of objects that hold a ball, so that lecture code runs as it is.

Every float that the code brings along enters as in a jaxpr; a comparison that is not decided stops the evaluation; and
nothing becomes a float again, so that no digit is lost unseen.
"""

import operator
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NoReturn
from unittest import mock

import flint
import numpy as np
from flint import arb
from numpy.typing import ArrayLike, DTypeLike

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic.balls import Balls, enter
from jaxnn.verify.arithmetic.decisions import Undecided
from jaxnn.verify.arithmetic.entrywise import power
from jaxnn.verify.arithmetic.evaluation import Evaluation

_evaluation: ContextVar[Evaluation] = ContextVar("evaluation")

NEW_ARRAYS = ("zeros", "ones", "empty", "full", "eye", "identity")


@contextmanager
def computing(evaluation: Evaluation) -> Iterator[None]:
    """Real numbers in here take their precision, rounding and ties from this evaluation, and report to it."""
    token = _evaluation.set(evaluation)
    replacements: dict[str, PyTree] = {name: in_reals(getattr(np, name)) for name in NEW_ARRAYS}
    try:
        with flint.ctx.workprec(evaluation.precision), mock.patch.multiple(np, **replacements):
            yield
    finally:
        _evaluation.reset(token)


def in_reals(f: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """f, np.zeros or its like, so that it makes real numbers instead of floats: what is added to them stays real."""

    def make(*args: PyTree, **kwargs: PyTree) -> np.ndarray:
        out = f(*args, **kwargs)
        return of_balls(enter(out)) if out.dtype.kind == "f" else out

    return make


def ball(v: object) -> arb | None:
    """The ball of a real number or of a number of Python or NumPy; None for anything else."""
    if isinstance(v, Real):
        return v.ball
    if isinstance(v, (bool, np.bool_, int, np.integer)):
        return arb(int(v))
    if isinstance(v, (float, np.floating)):
        return _evaluation.get().literal(v)[()]
    return None


Operator = Callable[["Real", object], PyTree]  # a method of `Real`: NotImplemented for what is no number


def binary(f: Callable[[arb, arb], arb]) -> tuple[Operator, Operator]:
    """f of two balls as the method of an operator, and as that of the operator with its sides exchanged."""

    def method(self: "Real", other: object) -> PyTree:
        _evaluation.get().tick()
        v = ball(other)
        return NotImplemented if v is None else Real(f(self.ball, v))

    def reflected(self: "Real", other: object) -> PyTree:
        v = ball(other)
        return NotImplemented if v is None else Real(f(v, self.ball))

    return method, reflected


def comparison(name: str) -> Operator:
    """The method of a comparison, `lt` to `ne`: Undecided if balls overlap. The evaluation notes the truth of each."""

    def method(self: "Real", other: object) -> PyTree:
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


class Real:
    """A real number with a proven error bound."""

    __slots__ = ("ball",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: arb):
        self.ball = value

    __add__, __radd__ = binary(operator.add)
    __sub__, __rsub__ = binary(operator.sub)
    __mul__, __rmul__ = binary(operator.mul)
    __truediv__, __rtruediv__ = binary(operator.truediv)
    __pow__, __rpow__ = binary(power)
    __lt__, __le__, __gt__, __ge__, __eq__, __ne__ = map(comparison, ("lt", "le", "gt", "ge", "eq", "ne"))

    def __neg__(self) -> "Real":
        return Real(-self.ball)

    def __pos__(self) -> "Real":
        return self

    def __abs__(self) -> "Real":
        return Real(abs(self.ball))

    def __bool__(self) -> bool:
        return self != 0

    def __float__(self) -> NoReturn:
        raise TypeError("float() of a real number would lose digits")

    def __int__(self) -> int:
        n = self.ball.unique_fmpz()
        if n is None:
            raise Undecided
        return int(n)

    def conjugate(self) -> "Real":
        """Itself, as NumPy asks of a number."""
        return self

    @property
    def real(self) -> "Real":
        """Itself, as NumPy asks of a number."""
        return self

    def __repr__(self) -> str:
        return f"Real({self.ball.str(17)})"


def method_of(f: Callable[[arb], arb]) -> Callable[[Real], Real]:
    """f of a ball as a method of `Real`."""
    return lambda self: Real(f(self.ball))


FUNCTIONS: dict[str, Callable[[arb], arb]] = {  # NumPy calls the method of a ufunc's name on an object
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
    setattr(Real, _name, method_of(_f))


def on_numbers(f: Callable[..., arb], count: int) -> np.ufunc:
    """f of so many balls as a ufunc of real numbers and numbers of Python."""
    return np.frompyfunc(lambda *numbers: Real(f(*map(ball, numbers))), count, 1)


UNARY = {name: on_numbers(f, 1) for name, f in FUNCTIONS.items()}
BINARY = {
    "logaddexp": on_numbers(lambda x, y: (x.exp() + y.exp()).log(), 2),
    "arctan2": on_numbers(arb.atan2, 2),
    "hypot": on_numbers(lambda x, y: (x**2 + y**2).sqrt(), 2),
}


class Reals(np.ndarray):
    """An array of `Real`; functions that NumPy itself cannot run on objects (SciPy's expit, logaddexp) are here."""

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: PyTree, out: tuple = (), **settings: PyTree
    ) -> PyTree:
        if out:
            settings["out"] = tuple(plain(v) for v in out)
        f = ufunc
        if method == "__call__" and ufunc.__name__ in BINARY:
            f = BINARY[ufunc.__name__]
        elif method == "__call__" and ufunc.__name__ in UNARY:
            f = UNARY[ufunc.__name__]
        result = getattr(f, method)(*map(plain, inputs), **settings)
        return out[0] if out else reals(result)

    def astype(self, dtype: DTypeLike | None, *args: PyTree, **kwargs: PyTree) -> np.ndarray:
        return self.copy() if np.issubdtype(dtype, np.floating) else super().astype(dtype, *args, **kwargs)


def plain(v: PyTree) -> PyTree:
    """`Reals` as NumPy's own array of objects; anything else as it is."""
    return v.view(np.ndarray) if isinstance(v, Reals) else v


def reals(v: PyTree) -> PyTree:
    """An array of objects as `Reals`; anything else as it is."""
    return v.view(Reals) if isinstance(v, np.ndarray) and v.dtype == object else v


def of_balls(v: Balls) -> Reals:
    """The balls as real numbers, an array even if it has no dimensions."""
    out = np.ndarray(v.shape, object)
    out.ravel()[:] = [Real(b) for b in v.flat]
    return out.view(Reals)


def to_balls(v: ArrayLike) -> Balls:
    """Real numbers as their balls; plain numbers among them enter exactly."""
    v = np.asarray(v)
    if v.dtype != object:
        return enter(np.asarray(v, np.float64))
    out = np.ndarray(v.shape, object)
    out.ravel()[:] = [ball(entry) for entry in v.flat]
    return out
