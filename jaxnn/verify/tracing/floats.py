"""A jaxpr evaluated in float64 by NumPy. Nothing is compiled, which would take most of the time of one evaluation."""

import math
from collections.abc import Callable

import numpy as np
from jax.extend.core import JaxprEqn
from jax.typing import DTypeLike

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic.balls import is_balls, is_float
from jaxnn.verify.arithmetic.choices import COMPARISONS
from jaxnn.verify.arithmetic.evaluation import Evaluation
from jaxnn.verify.arithmetic.moves import MOVES
from jaxnn.verify.arithmetic.rules import EqnParams, Value

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def subscripts(params: EqnParams, x_rank: int, y_rank: int) -> tuple[str, str, str]:
    """The axes of x, y and x·y as letters, for np.einsum; params: of `dot_general`."""
    (cx, cy), (bx, by) = params["dimension_numbers"]
    letters = iter(LETTERS)
    x_axes, y_axes = [""] * x_rank, [""] * y_rank
    for i, j in [*zip(bx, by, strict=True), *zip(cx, cy, strict=True)]:
        x_axes[i] = y_axes[j] = next(letters)
    x_axes = [a or next(letters) for a in x_axes]
    y_axes = [a or next(letters) for a in y_axes]
    batch = [x_axes[i] for i in bx]
    x_free = [a for i, a in enumerate(x_axes) if i not in (*bx, *cx)]
    y_free = [a for i, a in enumerate(y_axes) if i not in (*by, *cy)]
    return "".join(x_axes), "".join(y_axes), "".join(batch + x_free + y_free)


def dot(params: EqnParams, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """dot_general, by np.einsum."""
    x_axes, y_axes, out = subscripts(params, x.ndim, y.ndim)
    return np.einsum(f"{x_axes},{y_axes}->{out}", x, y, optimize=True)


def over_axes(f: Callable[..., np.ndarray]) -> Callable[[EqnParams, np.ndarray], np.ndarray]:
    """f(x, axes) as a function of parameters and x."""
    return lambda params, x: f(x, tuple(params["axes"]))


def logistic(x: np.ndarray) -> np.ndarray:
    """σ(x) = 1 / (1 + e⁻ˣ), without overflow."""
    return np.exp(-np.logaddexp(0, -x))


def cast(params: EqnParams, x: np.ndarray) -> np.ndarray:
    """convert_element_type, to float64 if to any float."""
    dtype = params["new_dtype"]
    return np.asarray(x, np.float64 if np.issubdtype(dtype, np.floating) else dtype)


def choose(params: EqnParams, which: np.ndarray, *cases: np.ndarray) -> np.ndarray:
    """select_n: cases[which], entry by entry."""
    return np.choose(which, cases) if len(cases) > 2 else np.where(which, *cases[::-1])


def cumulative_sum(params: EqnParams, x: np.ndarray) -> np.ndarray:
    """cumsum, in either direction."""
    axis = params["axis"]
    return np.flip(np.cumsum(np.flip(x, axis), axis), axis) if params["reverse"] else np.cumsum(x, axis)


SAME_NAME = (  # in NumPy
    *("exp", "exp2", "log", "log1p", "log2", "expm1", "sin", "cos", "tan", "tanh", "sqrt"),
    *("sinh", "cosh", "abs", "sign", "floor", "ceil", "square", "cbrt", "arctan2"),
)
PLAIN: dict[str, Callable[..., Value]] = {
    **{name: getattr(np, name) for name in SAME_NAME},
    **{"add": np.add, "add_any": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "pow": np.power},
    **{"neg": np.negative, "max": np.maximum, "min": np.minimum, "is_finite": np.isfinite, "logistic": logistic},
    **COMPARISONS,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "one_minus_square": lambda x: 1 - x**2,
    "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
    "erf": np.frompyfunc(math.erf, 1, 1),
}
WITH_PARAMS: dict[str, Callable[..., np.ndarray]] = {
    "dot_general": dot,
    "integer_pow": lambda params, x: x ** params["y"] if params["y"] >= 0 else 1 / x ** -params["y"],
    "reduce_sum": over_axes(np.sum),
    "reduce_max": over_axes(np.max),
    "reduce_min": over_axes(np.min),
    "reduce_prod": over_axes(np.prod),
    "reduce_and": over_axes(np.all),
    "reduce_or": over_axes(np.any),
    "convert_element_type": cast,
    "select_n": choose,
    "cumsum": cumulative_sum,
}


class Approximation(Evaluation):
    """An `Evaluation` whose numbers are float64."""

    def enter(self, v: PyTree) -> Value:
        """A constant, in float64 if it is of floats."""
        return np.asarray(v, np.float64) if is_float(v) else super().enter(v)

    def literal(self, v: PyTree, dtype: DTypeLike = np.float64) -> Value:
        """A number in a formula, in float64 whatever its dtype."""
        return self.enter(v)

    def compute(self, eqn: JaxprEqn, inputs: list[Value], place: int) -> list[Value]:
        """The outputs of an equation that is no call: by NumPy if it can, else by JAX."""
        name, params = eqn.primitive.name, eqn.params
        arrays = all(isinstance(v, np.ndarray | np.generic) for v in inputs)
        with np.errstate(all="ignore"):
            if name in PLAIN and arrays:
                results = PLAIN[name](*inputs)
            elif name in WITH_PARAMS and arrays:
                results = WITH_PARAMS[name](params, *inputs)
            elif name in MOVES and name != "gather" and arrays:
                results = MOVES[name](self, params, place, *inputs)
            else:
                results = eqn.primitive.bind(*inputs, **eqn.primitive.get_bind_params(params))
        outputs = results if eqn.primitive.multiple_results else [results]
        avals: list[PyTree] = [var.aval for var in eqn.outvars]
        pairs = zip(outputs, avals, strict=True)
        # np.frompyfunc and rules of balls make arrays of objects.
        return [self.enter(np.asarray(v, a.dtype) if is_balls(v) else v) for v, a in pairs]
