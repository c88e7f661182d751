"""The true value of a function, to as many digits as are asked for."""

import decimal

import jax
import numpy as np

from jaxnn.verify.arguments import Problem, arguments_of, called
from jaxnn.verify.arithmetic.decisions import Undecided
from jaxnn.verify.arithmetic.evaluation import PRECISIONS, Evaluation
from jaxnn.verify.evidence.comparison import comparison_of, of_numpy


def exact(f, *args, digits=30):
    """The true value of f(*args) at exactly these floats, to so many digits: f's tree, with `decimal.Decimal` entries.

    A written constant such as 0.1 is the float that it is. ArithmeticError where the value is not finite, or where
    12,800 bits do not decide it.
    """
    its = arguments_of(args, range(len(args)), f)
    tree = jax.tree.structure(its.answer(f))
    flat = lambda floats: jax.tree.leaves(f(*its.build(floats)))  # noqa: E731
    comparison = comparison_of(Problem(called(f), its, flat, flat, None, (), ()))
    side = comparison.claim or of_numpy(flat)
    for precision in PRECISIONS:
        ev = Evaluation(precision)
        try:
            out = side(ev, [ev.enter(v) for v in its.floats])
        except Undecided:
            continue
        balls = [v for leaf in out if leaf.dtype == object for v in leaf.flat]
        if all(v.is_finite() for v in balls) and all(
            v.is_exact() or v.rad() < abs(v.mid()) * 10.0**-digits for v in balls
        ):
            return jax.tree.unflatten(tree, [decimals(leaf, digits) for leaf in out])
    raise ArithmeticError(f"{called(f)} has no value to {digits} digits here: it is not finite, or 0 but for rounding.")


def decimals(leaf, digits):
    if leaf.dtype != object:
        return leaf
    with decimal.localcontext(prec=digits):
        return np.frompyfunc(lambda v: +decimal.Decimal(v.mid().str(digits + 5, radius=False)), 1, 1)(leaf)
