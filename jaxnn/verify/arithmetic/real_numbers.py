"""Real numbers that NumPy code computes with: arrays of objects that hold a ball, so that lecture code runs as it is.

Every float that the code brings along enters as in a jaxpr; a comparison that is not decided stops the evaluation; and
nothing becomes a float again, so that no digit is lost unseen. A number may be complex, as in a Fourier transform.
"""

import operator
import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import NoReturn, Self

import numpy as np
from flint import acb, arb
from numpy.typing import ArrayLike, DTypeLike

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic.balls import NEG_INF, Balls, enter, whole, wrap
from jaxnn.verify.arithmetic.decisions import Undecided
from jaxnn.verify.arithmetic.entrywise import cbrt, half_to_even, lgamma, power
from jaxnn.verify.arithmetic.evaluation import Evaluation
from jaxnn.verify.arithmetic.stand_ins import MODE

current: ContextVar[Evaluation] = ContextVar("evaluation")  # of the run


def ball(v: object) -> PyTree:
    """The ball of a number of ours, of Python or of NumPy, one of acb if it is complex; None for anything else."""
    if isinstance(v, Real):
        return v.ball
    if isinstance(v, (bool, np.bool_, int, np.integer)):
        return arb(int(v))
    if isinstance(v, (float, np.floating)):
        return current.get().literal(v)[()]
    if isinstance(v, (complex, np.complexfloating)):
        return acb(float(v.real), float(v.imag))
    if isinstance(v, np.ndarray) and v.ndim == 0:
        return ball(v[()])
    return None


NOT_THE_USERS = (os.path.dirname(__file__) + os.sep, os.path.dirname(np.__file__) + os.sep)  # the folders of other code


def power_of(x: PyTree, y: PyTree) -> PyTree:
    """xʸ"""
    return power(x, y) if isinstance(x, arb) and isinstance(y, arb) else x**y


Operator = Callable[["Real", object], PyTree]  # a method of `Real`: NotImplemented for what is no number


def binary(f: Callable[[arb, arb], arb]) -> tuple[Operator, Operator]:
    """f of two balls as the method of an operator, and as that of the operator with its sides exchanged."""

    def method(self: "Real", other: object) -> PyTree:
        current.get().tick()
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
        ev = current.get()
        caller = sys._getframe(1)
        while caller.f_back and caller.f_code.co_filename.startswith(NOT_THE_USERS):
            caller = caller.f_back
        order = ev.ties.order(self.ball, v, (caller.f_lineno, sum(map(len, ev.truths.values()))))
        if order is None:
            raise Undecided
        place = f"{os.path.basename(caller.f_code.co_filename)}:{caller.f_lineno} ({caller.f_code.co_name})"
        truth = getattr(operator, name)(order, 0)
        ev.truths.setdefault((place, name), []).append(truth)
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
    __pow__, __rpow__ = binary(power_of)
    __mod__, __rmod__ = binary(lambda x, y: x - (x / y).floor() * y)
    __floordiv__, __rfloordiv__ = binary(lambda x, y: (x / y).floor())
    __lt__, __le__, __gt__, __ge__, __eq__, __ne__ = map(comparison, ("lt", "le", "gt", "ge", "eq", "ne"))

    def __neg__(self) -> "Real":
        return Real(-self.ball)

    def __pos__(self) -> "Real":
        return self

    def __abs__(self) -> "Real":
        current.get().has_abs = True
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

    def __floor__(self) -> int:
        return int(Real(self.ball.floor()))

    def __ceil__(self) -> int:
        return int(Real(self.ball.ceil()))

    def __trunc__(self) -> int:
        return whole(self.ball)

    def __round__(self, digits: int | None = None) -> PyTree:
        scale = 10 ** (digits or 0)
        n = half_to_even(self.ball * scale)
        return int(Real(n)) if digits is None else Real(n / scale)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict) -> Self:
        return self

    def __format__(self, spec: str) -> str:
        return format(complex(self.ball) if isinstance(self.ball, acb) else float(self.ball.mid()), spec)

    def __getattr__(self, name: str) -> PyTree:
        """What an array of no dimensions has: shape, sum, reshape. NumPy asks each entry for much that it has not."""
        if name.startswith("__") or name == "dtype":
            raise AttributeError(name)
        return getattr(one(self), name)

    def item(self) -> Self:
        """Itself: float() of it would lose digits."""
        return self

    def conjugate(self) -> "Real":
        """As NumPy asks of a number: itself, if it is not complex."""
        return Real(self.ball.conjugate()) if isinstance(self.ball, acb) else self

    @property
    def real(self) -> "Real":
        """The real part."""
        return Real(self.ball.real)

    @property
    def imag(self) -> "Real":
        """The imaginary part, 0 if it is not complex."""
        return Real(self.ball.imag)

    def __repr__(self) -> str:
        return f"Real({self.ball.str(17)})"


def method_of(f: Callable[[arb], arb]) -> Callable[[Real], Real]:
    """f of a ball as a method of `Real`."""
    return lambda self: Real(f(self.ball))


def sinc(x: arb) -> arb:
    """sin(πx) / πx with NumPy's own π, 1 at 0."""
    return (x * ball(np.pi)).sinc()


def is_finite(x: arb) -> bool:
    """Whether a ball is finite; Undecided if it is only too wide to know."""
    if not (x.is_finite() or x.is_nan() or abs(x) == -NEG_INF):
        raise Undecided
    return x.is_finite()


def is_nan(x: arb) -> bool:
    """Whether a ball is no number."""
    return not is_finite(x) and x.is_nan()


def is_infinite(x: arb) -> bool:
    """Whether a ball is ±∞."""
    return not is_finite(x) and not x.is_nan()


SAME_NAME = (  # in NumPy or SciPy as in flint
    *("exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh", "floor", "ceil"),
    *("erf", "erfc", "gamma"),
)
FUNCTIONS: dict[str, Callable[[arb], arb]] = {  # NumPy calls the method of a ufunc's name on an object
    **{name: operator.methodcaller(name) for name in SAME_NAME},
    **{f"arc{name}": operator.methodcaller(f"a{name}") for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "fabs": abs,
    "exp2": lambda x: arb(2) ** x,
    "log2": lambda x: x.log() / arb(2).log(),
    "log10": lambda x: x.log() / arb(10).log(),
    "cbrt": cbrt,
    "square": lambda x: x**2,
    "reciprocal": lambda x: 1 / x,
    "trunc": lambda x: arb(whole(x)),
    "rint": half_to_even,
    "deg2rad": lambda x: x * arb.pi() / 180,
    "radians": lambda x: x * arb.pi() / 180,
    "rad2deg": lambda x: x * 180 / arb.pi(),
    "degrees": lambda x: x * 180 / arb.pi(),
    "sinc": sinc,
    "expit": lambda x: 1 / (1 + (-x).exp()),
    "log_expit": lambda x: -((-x).exp()).log1p(),
    "logit": lambda x: (x / (1 - x)).log(),
    "entr": lambda x: arb(0) if x == 0 else -x * x.log(),
    "gammaln": lgamma,
    "loggamma": lgamma,
    "psi": arb.digamma,
    "ndtr": lambda x: (-x / arb(2).sqrt()).erfc() / 2,
    "erfinv": arb.erfinv,
    "i0": lambda x: x.bessel_i(0),
    "i1": lambda x: x.bessel_i(1),
    "j0": lambda x: x.bessel_j(0),
    "j1": lambda x: x.bessel_j(1),
}
for _name, _f in FUNCTIONS.items():
    setattr(Real, _name, method_of(_f))


def on_numbers(f: Callable[..., arb], count: int) -> np.ufunc:
    """f of so many balls as a ufunc of real numbers and numbers of Python."""
    return np.frompyfunc(lambda *numbers: Real(f(*map(ball, numbers))), count, 1)


UNARY = {name: on_numbers(f, 1) for name, f in FUNCTIONS.items()}
BINARY = {
    "logaddexp": on_numbers(lambda x, y: (x.exp() + y.exp()).log(), 2),
    "logaddexp2": on_numbers(lambda x, y: (arb(2) ** x + arb(2) ** y).log() / arb(2).log(), 2),
    "arctan2": on_numbers(arb.atan2, 2),
    "hypot": on_numbers(lambda x, y: (x**2 + y**2).sqrt(), 2),
    "float_power": on_numbers(power_of, 2),
    "copysign": on_numbers(lambda x, y: -abs(x) if Real(y) < 0 else abs(x), 2),
    "heaviside": on_numbers(lambda x, y: y if Real(x) == 0 else arb(int(Real(x) > 0)), 2),
    "xlogy": on_numbers(lambda x, y: arb(0) if x == 0 else x * y.log(), 2),
    "xlog1py": on_numbers(lambda x, y: arb(0) if x == 0 else x * y.log1p(), 2),
    "rel_entr": on_numbers(lambda x, y: arb(0) if x == 0 else x * (x / y).log(), 2),
    "kl_div": on_numbers(lambda x, y: y if x == 0 else x * (x / y).log() - x + y, 2),
    "beta": on_numbers(lambda x, y: x.gamma() * y.gamma() / (x + y).gamma(), 2),
    "betaln": on_numbers(lambda x, y: lgamma(x) + lgamma(y) - lgamma(x + y), 2),
    "gammainc": on_numbers(lambda a, x: x.gamma_lower(a, regularized=1), 2),
    "gammaincc": on_numbers(lambda a, x: x.gamma_upper(a, regularized=1), 2),
    "jv": on_numbers(lambda v, x: x.bessel_j(v), 2),
    "iv": on_numbers(lambda v, x: x.bessel_i(v), 2),
}
TESTS = {
    "isnan": np.frompyfunc(lambda *x: is_nan(*map(ball, x)), 1, 1),
    "isfinite": np.frompyfunc(lambda *x: is_finite(*map(ball, x)), 1, 1),
    "isinf": np.frompyfunc(lambda *x: is_infinite(*map(ball, x)), 1, 1),
}


class Reals(np.ndarray):
    """An array of `Real`; functions that NumPy itself cannot run on objects (SciPy's expit, logaddexp) are here, and in
    the `special` ones of the mode of the run."""

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: PyTree, out: tuple = (), **settings: PyTree
    ) -> PyTree:
        if out:
            settings["out"] = tuple(plain(v) for v in out)
        f = ufunc
        if ufunc.__name__ in BINARY:
            f = BINARY[ufunc.__name__]
        elif method == "__call__" and ufunc.__name__ in UNARY:
            f = UNARY[ufunc.__name__]
        elif method == "__call__" and ufunc.__name__ in TESTS:
            return np.asarray(TESTS[ufunc.__name__](*map(plain, inputs)), bool)[()]
        result = getattr(f, method)(*map(plain, inputs), **settings)
        return out[0] if out else reals(result)

    def __array_function__(self, function: Callable, types: PyTree, args: PyTree, kwargs: PyTree) -> PyTree:
        mode = MODE.get()
        special = mode.special.get(function) if mode else None
        if special:
            return special(*args, **kwargs)
        return whole_tree(super().__array_function__(function, types, args, kwargs))

    def astype(self, dtype: DTypeLike | None, *args: PyTree, **kwargs: PyTree) -> np.ndarray:
        return self.copy() if np.dtype(dtype).kind in "fcO" else super().astype(dtype, *args, **kwargs)

    def item(self, *index: PyTree) -> PyTree:
        """An entry, itself."""
        return self[index or (0,) * self.ndim]

    @property  # type: ignore[misc]
    def real(self) -> PyTree:
        """The real parts."""
        return reals(real_part(plain(self)))

    @property  # type: ignore[misc]
    def imag(self) -> PyTree:
        """The imaginary parts."""
        return reals(imaginary_part(plain(self)))


real_part, imaginary_part = on_numbers(lambda v: v.real, 1), on_numbers(lambda v: v.imag, 1)


def plain(v: PyTree) -> PyTree:
    """`Reals` as NumPy's own array of objects; anything else as it is."""
    return v.view(np.ndarray) if isinstance(v, Reals) else v


def reals(v: PyTree) -> PyTree:
    """An array of objects as `Reals`, plain numbers among them included; anything else as it is."""
    if not isinstance(v, np.ndarray) or v.dtype != object:
        return v
    v = v.view(np.ndarray)
    if not {Real}.issuperset(map(type, v.flat)):
        v.flat[:] = list(map(as_real, v.flat))
    return v.view(Reals)


def as_real(entry: PyTree) -> PyTree:
    """A number as `Real`; 0 in the place of what is not yet there; anything else as it is."""
    number = arb(0) if entry is None else ball(entry)
    return entry if number is None else Real(number)


def whole_tree(v: PyTree) -> PyTree:
    """`reals` of every array in a list or tuple."""
    return type(v)(map(whole_tree, v)) if type(v) in (list, tuple) else reals(v)


def one(v: Real) -> Reals:
    """A number as an array of no dimensions."""
    return of_balls(wrap(v.ball))


def of_balls(v: Balls) -> Reals:
    """The balls as real numbers, an array even if it has no dimensions."""
    return wrap(AS_REALS(v)).view(Reals)


def to_balls(v: ArrayLike) -> Balls:
    """Real numbers as their balls; plain numbers among them enter exactly."""
    v = np.asarray(v)
    return wrap(AS_BALLS(v)) if v.dtype == object else enter(np.asarray(v, np.float64))


def real_ball(entry: object) -> arb:
    """The ball of a number; TypeError if there is none, or it is complex."""
    v = ball(entry)
    if not isinstance(v, arb):
        raise TypeError(f"{type(entry).__name__} is no real number")
    return v


AS_REALS, AS_BALLS = np.frompyfunc(Real, 1, 1), np.frompyfunc(real_ball, 1, 1)
