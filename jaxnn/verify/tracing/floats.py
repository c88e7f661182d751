"""A jaxpr evaluated in float64 by NumPy: nothing is compiled, which for one small evaluation is what takes the time."""

import math
from typing import Any

import numpy as np

from jaxnn.verify.arithmetic.balls import is_balls, is_float
from jaxnn.verify.arithmetic.evaluation import Evaluation
from jaxnn.verify.arithmetic.moves import MOVES

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def subscripts(params, *dims):
    """The axes of x, y and x·y as letters."""
    (cx, cy), (bx, by) = params["dimension_numbers"]
    letters = iter(LETTERS)
    x_axes, y_axes = ([""] * n for n in dims)
    for i, j in [*zip(bx, by, strict=True), *zip(cx, cy, strict=True)]:
        x_axes[i] = y_axes[j] = next(letters)
    x_axes, y_axes = ([a or next(letters) for a in axes] for axes in (x_axes, y_axes))
    batch = [x_axes[i] for i in bx]
    rest = [
        a for axes, used in ((x_axes, (*bx, *cx)), (y_axes, (*by, *cy))) for i, a in enumerate(axes) if i not in used
    ]
    return "".join(x_axes), "".join(y_axes), "".join(batch + rest)


def dot(params, x, y):
    x_axes, y_axes, out = subscripts(params, x.ndim, y.ndim)
    return np.einsum(f"{x_axes},{y_axes}->{out}", x, y, optimize=True)


def reduced(f):
    return lambda params, x: f(x, tuple(params["axes"]))


def logistic(x):
    return np.exp(-np.logaddexp(0, -x))


PLAIN = {
    **{
        name: getattr(np, name)
        for name in ("exp", "exp2", "log", "log1p", "expm1", "sin", "cos", "tan", "tanh", "sqrt")
    },
    **{
        name: getattr(np, name)
        for name in ("sinh", "cosh", "abs", "sign", "floor", "ceil", "square", "cbrt", "arctan2")
    },
    **{"add": np.add, "add_any": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "pow": np.power},
    **{"neg": np.negative, "max": np.maximum, "min": np.minimum, "is_finite": np.isfinite, "logistic": logistic},
    **{
        "eq": np.equal,
        "ne": np.not_equal,
        "lt": np.less,
        "le": np.less_equal,
        "gt": np.greater,
        "ge": np.greater_equal,
    },
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "one_minus_square": lambda x: 1 - x**2,
    "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
    "erf": np.frompyfunc(math.erf, 1, 1),
    "log2": np.log2,
}
WITH_PARAMS = {
    "dot_general": dot,
    "integer_pow": lambda params, x: x ** params["y"] if params["y"] >= 0 else 1 / x ** -params["y"],
    "reduce_sum": reduced(np.sum),
    "reduce_max": reduced(np.max),
    "reduce_min": reduced(np.min),
    "reduce_prod": reduced(np.prod),
    "reduce_and": reduced(np.all),
    "reduce_or": reduced(np.any),
    "convert_element_type": lambda params, x: np.asarray(
        x, np.float64 if np.issubdtype(params["new_dtype"], np.floating) else params["new_dtype"]
    ),
    "select_n": lambda params, which, *cases: (
        np.choose(which, cases) if len(cases) > 2 else np.where(which, *cases[::-1])
    ),
    "cumsum": lambda params, x: (
        np.flip(np.cumsum(np.flip(x, params["axis"]), params["axis"]), params["axis"])
        if params["reverse"]
        else np.cumsum(x, params["axis"])
    ),
}


class Approximation(Evaluation):
    """An `Evaluation` whose numbers are float64."""

    def enter(self, v):
        return np.asarray(v, np.float64) if is_float(v) else super().enter(v)

    def literal(self, v, dtype=np.float64):
        return self.enter(v)

    def compute(self, eqn, inputs, place):
        name, params = eqn.primitive.name, eqn.params
        arrays = all(isinstance(v, np.ndarray | np.generic) for v in inputs)
        with np.errstate(all="ignore"):
            if name in PLAIN and arrays:
                outputs = PLAIN[name](*inputs)
            elif name in WITH_PARAMS and arrays:
                outputs = WITH_PARAMS[name](params, *inputs)
            elif name in MOVES and name != "gather" and arrays:
                move: Any = MOVES[name]
                outputs = move(None, params, place, *inputs)
            else:
                outputs = eqn.primitive.bind(*inputs, **eqn.primitive.get_bind_params(params))
        outputs = outputs if eqn.primitive.multiple_results else [outputs]
        kinds = [var.aval.dtype for var in eqn.outvars]  # a rule of balls makes arrays of objects
        return [self.enter(np.asarray(v, t) if is_balls(v) else v) for v, t in zip(outputs, kinds, strict=True)]
