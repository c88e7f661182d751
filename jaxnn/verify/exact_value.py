"""The true value of a function, to as many digits as are asked for."""

import decimal
from collections.abc import Callable
from itertools import chain

import jax
import numpy as np

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import Problem, arguments_of, called
from jaxnn.verify.arithmetic.decisions import Undecided, Unsupported
from jaxnn.verify.arithmetic.evaluation import PRECISIONS, Evaluation, TooLarge
from jaxnn.verify.evidence.comparison import comparison_of, of_numpy


def exact(f: Callable[..., PyTree], *args: PyTree, digits: int = 30) -> PyTree:
    """The true value of f(*args) at exactly these floats, to so many digits: f's tree, with `decimal.Decimal` entries.

    A written constant such as 0.1 is the float that it is. ArithmeticError if the value is not finite, 12,800 bits do
    not decide it, or f has a primitive (an FFT) or a size that cannot be evaluated exactly.
    """
    arguments = arguments_of(args, range(len(args)), f)
    tree = jax.tree.structure(arguments.answer(f))

    def flat(floats: list) -> list[PyTree]:
        return jax.tree.leaves(f(*arguments.build(floats)))

    problem = Problem(title=called(f), arguments=arguments, claim=flat, truth=flat, paths=())
    value = comparison_of(problem).claim or of_numpy(flat)
    for precision in PRECISIONS:
        ev = Evaluation(precision)
        try:
            leaves = value(ev, [ev.enter(v) for v in arguments.floats])
        except Undecided:
            continue
        except (Unsupported, TooLarge) as error:
            raise ArithmeticError(f"{called(f)} cannot be evaluated exactly ({error}).") from None
        balls = chain.from_iterable(leaf.flat for leaf in leaves if leaf.dtype == object)
        if all(v.is_finite() and (v.is_exact() or v.rad() < abs(v.mid()) * 10.0**-digits) for v in balls):
            return jax.tree.unflatten(tree, [decimals(leaf, digits) for leaf in leaves])
    raise ArithmeticError(
        f"{called(f)} has no value to {digits} digits here: it is not finite, or 0 up to rounding alone."
    )


def decimals(leaf: np.ndarray, digits: int) -> np.ndarray:
    """Balls as decimal numbers; other arrays as they are."""
    if leaf.dtype != object:
        return leaf
    with decimal.localcontext(prec=digits):
        return np.frompyfunc(lambda v: +decimal.Decimal(v.mid().str(digits + 5, radius=False)), 1, 1)(leaf)
