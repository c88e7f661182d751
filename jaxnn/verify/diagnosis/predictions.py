"""The gradients that known mistakes make of a cost, at some points: by edits (edits_of_cost.py), by other data
(other_data.py).
"""

import collections
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import Problem
from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.diagnosis.edit import Change, Edit, Part
from jaxnn.verify.diagnosis.edits_of_cost import all_edits, other_arrays
from jaxnn.verify.diagnosis.gradients import Point, flat, inputs_at
from jaxnn.verify.diagnosis.mistakes import RANK
from jaxnn.verify.diagnosis.other_data import OtherData, gradients_of_other_data
from jaxnn.verify.diagnosis.several_equations import recomputed
from jaxnn.verify.diagnosis.values import Values
from jaxnn.verify.evidence.comparison import Comparison
from jaxnn.verify.tracing.tape import ROWS, Pulls, Substitute, Swap, Tape

EDITS = 4000
ENTRIES = 2e7  # of all gradients together

# What counts as nothing in float64. The first two are relative to the largest entry of the leaf.
RIGHT = 1e-9  # an error up to which an entry is right, a change up to which it is unchanged
ROUNDING = 1e-11  # what a guess may miss by rounding alone
PART_OF_ERROR = 1e-6  # a guess is the user's if it misses no more than this part of the user's error
SAME_FACTOR = 1e-6  # two factors are one, up to this difference relative to the larger
LEFT_OVER = 1e-9  # a sum of squares is explained, up to this part of it


class Trial(NamedTuple):
    """An edit, its changes multiplied by an amount."""

    edit: Edit
    amount: float


class Predictions(NamedTuple):
    """The true gradient at some points, whatever the rule, and those that mistakes make.

    A gradient is one vector, in float64: all entries of all leaves at one point, then those at the next.
    """

    paths: tuple[str, ...]  # of the leaves
    names: tuple[str, ...]  # of the inputs of the jaxprs
    shapes: list[tuple[int, ...]]  # of the leaves
    points: int
    leaf: np.ndarray  # of each entry: the number of its leaf
    true: np.ndarray
    scale: np.ndarray  # of each entry: the largest one of its leaf at its point
    params: np.ndarray  # what is differentiated, in the places of its gradient
    trials: list[Trial]
    gradients: np.ndarray  # (trials, entries)
    other_data: list[OtherData]
    m: int | None  # examples
    sizes: set[int]  # of what a mean may be taken over

    def part(self, gradient: np.ndarray, k: int) -> np.ndarray:
        """Leaf k of a gradient: (points, *its shape)."""
        return gradient[self.leaf == k].reshape(self.points, *self.shapes[k])

    def is_vector(self, k: int) -> bool:
        """Whether leaf k has one axis that is longer than 1, or none."""
        return math.prod(self.shapes[k]) == max(self.shapes[k], default=1)

    def with_part(self, k: int, values: np.ndarray) -> np.ndarray:
        """The true gradient with other values in leaf k."""
        out = self.true.copy()
        out[self.leaf == k] = np.ravel(values)
        return out

    def other_leaves(self, leaves: Sequence[int]) -> list[int]:
        """The leaves that are none of these."""
        return [k for k in range(len(self.paths)) if k not in leaves]


def predictions_of(
    problem: Problem,
    comparison: Comparison,
    points: Sequence[Point],
    problem_of: Callable[[tuple[PyTree, ...]], Problem],
    args: tuple[PyTree, ...],
) -> Predictions | None:
    """The `Predictions`; None if the points do not go the same way through the cost, or if it is too large.

    problem: problem_of(args), a problem whose cost and rule `comparison` has as jaxprs."""
    arguments, m = problem.arguments, examples_of(problem)
    asked = arguments.differentiated
    tapes = tapes_of(problem, comparison, points)
    if not go_the_same_way(tapes):
        return None
    entries = [arguments.floats[i].size for i in asked]
    most = min(EDITS, int(ENTRIES / (sum(entries) * len(points))))
    trials = trials_of(problem, comparison, points, tapes, m)[:most]
    if not trials:
        return None
    gradients = np.concatenate([with_edits(tape, trials) for tape in tapes], axis=1)
    true = np.concatenate([flat(true_leaves(tape)) for tape in tapes])
    leaf = np.tile(np.repeat(np.arange(len(asked)), entries), len(points))
    return Predictions(
        paths=problem.paths[: len(asked)],
        names=input_names(problem, comparison),
        shapes=[arguments.floats[i].shape for i in asked],
        points=len(points),
        leaf=leaf,
        true=true,
        scale=scale_of(true, leaf, np.repeat(np.arange(len(points)), sum(entries))),
        params=np.concatenate([flat([floats[i] for i in asked]) for floats in points]),
        trials=trials,
        gradients=gradients,
        other_data=list(gradients_of_other_data(problem, comparison, points, problem_of=problem_of, args=args, m=m)),
        m=m,
        sizes=sizes_of(problem, tapes[0], m),
    )


def input_names(problem: Problem, comparison: Comparison) -> tuple[str, ...]:
    """What the inputs of the jaxprs are called: by their paths, or by the argument if that is one array."""
    arguments = problem.arguments
    free = comparison.free(problem)
    return tuple(arguments.paths[i] or arguments.names[arguments.argument_of[i]] for i in free)


def examples_of(problem: Problem) -> int | None:
    """How many examples there are: the size that all data share in their first axis, or in their last; None if none."""
    arguments = problem.arguments
    asked = {arguments.argument_of[i] for i in arguments.differentiated}
    asked -= {arguments.argument_of[i] for i in problem.cotangents}
    args = arguments.treedef.unflatten(arguments.leaves)
    data = jax.tree.leaves([arg for n, arg in enumerate(args) if n not in asked])
    shapes = [np.shape(v) for v in data if np.ndim(v)]
    for axis in (0, -1):
        sizes = {shape[axis] for shape in shapes}
        if len(sizes) == 1:
            return sizes.pop()
    return shapes[0][0] if shapes else None


def sizes_of(problem: Problem, tape: Tape, m: int | None) -> set[int]:
    """Over what a mean may be taken: as many as an array has rows, or a mask has ones; more than 2, or m."""
    sizes = {m} if m and m > 1 else set()
    for v in (*tape.values, *problem.arguments.leaves):
        sizes |= {n for n in np.shape(v) if n > 2}
    for v in problem.arguments.leaves:
        if np.ndim(v) and np.isin(v, (0, 1)).all() and np.sum(v) > 2:
            sizes.add(int(np.sum(v)))
    return sizes


def scale_of(true: np.ndarray, leaf: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Of each entry, the largest one of its leaf at its point.

    A leaf that is almost 0 is measured by the largest leaf, and a point where all is 0 by the largest point."""
    largest = np.zeros((leaf.max() + 1, point.max() + 1))
    np.maximum.at(largest, (leaf, point), np.abs(true))
    at_point = largest.max(0)
    least = np.where(at_point > 0, 1e-6 * at_point, at_point.max() or 1.0)
    return np.maximum(largest[leaf, point], least[point])


# Tapes


def tapes_of(problem: Problem, comparison: Comparison, points: Sequence[Point]) -> list[Tape]:
    """The cost as a tape at each point."""
    pulls: Pulls = {}
    return [tape_at(problem, comparison, floats, pulls) for floats in points]


def tape_at(
    problem: Problem,
    comparison: Comparison,
    floats: Point,
    pulls: Pulls,
    swap: Swap | None = None,
) -> Tape:
    """The cost as a tape; pulls, swap: of `Tape`."""
    free = list(comparison.free(problem))
    asked = [free.index(i) for i in problem.arguments.differentiated]
    return Tape(comparison.jaxprs[1], inputs_at(problem, comparison, floats), asked, pulls, swap)


def go_the_same_way(tapes: list[Tape]) -> bool:
    """Whether these are the same equations of the same values."""
    return all((tape.ins, tape.outs) == (tapes[0].ins, tapes[0].outs) for tape in tapes)


def true_leaves(tape: Tape) -> list[np.ndarray]:
    """The true gradient; zeros for a leaf on which the cost does not depend."""
    return [tape.true.get(v, np.zeros(np.shape(tape.values[v]))) for v in tape.asked]


def with_edits(tape: Tape, trials: Sequence[Trial]) -> np.ndarray:
    """The gradient with each edit: (trials, entries)."""
    return np.concatenate([batch_with_edits(tape, trials[k : k + ROWS]) for k in range(0, len(trials), ROWS)])


def batch_with_edits(tape: Tape, trials: Sequence[Trial]) -> np.ndarray:
    """The gradient with each of at most ROWS edits, which one way back has all: (trials, entries)."""
    substitutes = collections.defaultdict(list)
    for row, (edit, amount) in enumerate(trials):
        for slot, change in edit.changes.items():
            substitutes[slot].append((row, substitute(change, amount)))
    D = tape.back(substitutes)
    leaves = [D[v] if v in D else np.zeros((ROWS, *np.shape(tape.values[v]))) for v in tape.asked]
    return np.concatenate([v.reshape(ROWS, -1) for v in leaves], 1)[: len(trials)]


def substitute(change: Change, amount: float) -> Substitute:
    """What goes back in the place of a part: the part, plus so many times the change."""
    return lambda tape, D, part: part + amount * change(tape, D, part)


# Edits


def trials_of(
    problem: Problem, comparison: Comparison, points: Sequence[Point], tapes: list[Tape], m: int | None
) -> list[Trial]:
    """Every edit of the cost with its amounts, the likeliest first."""
    values = values_of(problem, comparison, tapes[0])
    edits = list(all_edits(tapes[0], values, m))
    for key, (kind, what, *arrays) in enumerate(other_arrays(tapes[0], values)):
        for floats, tape in zip(points, tapes, strict=True):
            tape.others[key] = tape_at(problem, comparison, floats, tape.pulls, (arrays[0], arrays[1]))
        if all(tape.others[key].ins == tapes[0].ins for tape in tapes):
            edits += recomputed(tapes[0], values, key, kind, what)
    edits.sort(key=rank)
    trials: list[Trial] = []
    for edit in edits:
        trials += [Trial(edit, amount) for amount in edit.amounts or (1.0,)]
    return trials


def rank(edit: Edit) -> int:
    """The place of an edit among the likeliest, from 0 on; that of a part is 0, for it may be the likeliest mistake."""
    return 0 if isinstance(edit.kind, Part) else RANK[edit.kind]


def values_of(problem: Problem, comparison: Comparison, tape: Tape) -> Values:
    """What is known of the values of the cost."""
    inputs = list(zip(tape.inputs, comparison.free(problem), strict=True))
    data = [v for v, i in inputs if i not in problem.arguments.differentiated]
    constants = [v for v in tape.consts if np.ndim(tape.values[v])]
    # float data may be inputs: a constant array of floats is a part of the formula then
    if comparison.mode and comparison.mode.every:
        constants = [v for v in constants if not is_float(tape.values[v])]
    cotangents = [v for v, i in inputs if i in problem.cotangents]
    return Values(tape, input_names(problem, comparison), data + constants, cotangents)
