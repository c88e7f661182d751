"""A gradient at some points as one vector, in float64: all entries of all leaves at one point, then those at the next
point.
"""

from collections.abc import Sequence

import numpy as np
from jax.extend.core import ClosedJaxpr

from jaxnn.verify.arguments import Problem
from jaxnn.verify.diagnosis.functions import Entrywise
from jaxnn.verify.evidence.comparison import Comparison
from jaxnn.verify.tracing.floats import Approximation

Point = Sequence[np.ndarray]  # the float leaves of all arguments


def flat(leaves: Sequence[np.ndarray]) -> np.ndarray:
    """All entries of some arrays, in float64."""
    return np.concatenate([np.ravel(np.asarray(v, np.float64)) for v in leaves])


def gradient_by_hand(problem: Problem, comparison: Comparison, points: Sequence[Point]) -> np.ndarray:
    """What the rule says, as a gradient at these points."""
    return gradient_of(comparison.jaxprs[0], problem, comparison, points)


def gradient_of(closed: ClosedJaxpr, problem: Problem, comparison: Comparison, points: Sequence[Point]) -> np.ndarray:
    """The first results of a jaxpr, as a gradient at these points."""
    gradients = []
    for floats in points:
        results = Approximation()(closed, inputs_at(problem, comparison, floats))
        gradients.append(flat(results[: len(problem.arguments.differentiated)]))
    return np.concatenate(gradients)


def inputs_at(problem: Problem, comparison: Comparison, floats: Point) -> list[np.ndarray]:
    """The inputs of the jaxprs at a point, in float64."""
    return [np.asarray(floats[i], np.float64) for i in comparison.free(problem)]


def with_leaves(points: Sequence[Point], leaves: Sequence[int], f: Entrywise) -> list[Point]:
    """The points with f of these float leaves in their places."""
    return [[f(v) if i in leaves else v for i, v in enumerate(floats)] for floats in points]
