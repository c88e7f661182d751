"""The gradients of somebody who takes other data: labels by one example, or by one class, a cotangent of ones."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import Problem
from jaxnn.verify.diagnosis.functions import Entrywise
from jaxnn.verify.diagnosis.gradients import Point, gradient_of, with_leaves
from jaxnn.verify.diagnosis.mistakes import Mistake
from jaxnn.verify.evidence.comparison import Comparison
from jaxnn.verify.tracing.jaxprs import trace

AXES = 2  # along which labels may be shifted


class OtherData(NamedTuple):
    """The true gradient for other data. what: which data, and what was done to them."""

    kind: Mistake
    what: str
    gradient: np.ndarray


def gradients_of_other_data(
    problem: Problem,
    comparison: Comparison,
    points: Sequence[Point],
    problem_of: Callable[[tuple[PyTree, ...]], Problem],
    args: tuple[PyTree, ...],
    m: int | None,
) -> Iterator[OtherData]:
    """A cotangent of ones; data shifted by one example, labels by one class."""
    arguments = problem.arguments
    true = functools.partial(gradient_of, traced_truth(problem, comparison), problem, comparison)

    if problem.cotangents:
        ones = with_leaves(points, problem.cotangents, np.ones_like)
        yield OtherData(Mistake.IGNORED_COTANGENT, "the result", true(ones))
    asked = {arguments.argument_of[i] for i in arguments.differentiated}
    for n, arg in enumerate(args):
        if n in asked or not isinstance(arg, np.ndarray | jax.Array):
            continue
        array = np.asarray(arg)
        leaves = [i for i, position in enumerate(arguments.argument_of) if position == n]
        for what, f in shifts(array, arguments.names[n], m).items():
            if array.dtype.kind in "iu":  # whole numbers are constants of the jaxprs
                other = problem_of((*args[:n], f(array), *args[n + 1 :]))
                shifted = gradient_of(traced_truth(other, comparison), other, comparison, points)
            else:
                shifted = true(with_leaves(points, leaves, f))
            yield OtherData(Mistake.SHIFTED_LABELS, what, shifted)


def traced_truth(problem: Problem, comparison: Comparison) -> ClosedJaxpr:
    """The true gradient as a jaxpr, traced as the comparison is."""
    if comparison.mode is None:
        raise TypeError("a comparison without jaxprs has no diagnosis")
    return trace(problem.truth, problem.arguments, comparison.mode)


def shifts(array: np.ndarray, name: str, m: int | None) -> dict[str, Entrywise]:
    """{in words: the shift} of data by one along the first axes, and of whole numbers by one class."""
    ways: dict[str, Entrywise] = {}
    for axis in range(min(array.ndim, AXES)):
        if array.shape[axis] > 1:
            is_of_examples = array.shape[axis] == m and array.shape[:AXES].count(m) == 1
            along = "one example" if is_of_examples else f"one along axis {axis}"
            ways[f"{name} by {along} on"] = functools.partial(np.roll, shift=1, axis=axis)
            ways[f"{name} by {along} back"] = functools.partial(np.roll, shift=-1, axis=axis)
    if array.dtype.kind in "iu":
        ways[f"{name} up by one class"] = lambda v: v + np.asarray(1, v.dtype)
        ways[f"{name} down by one class"] = lambda v: v - np.asarray(1, v.dtype)
    return ways
