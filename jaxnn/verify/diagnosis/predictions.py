"""The gradients that known mistakes make of a cost, at some points: those of edits (one_equation.py, derivatives.py,
losses.py, several_equations.py) at one equation, or at all that are one line of code; and those of other data.
"""

import collections
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import Problem
from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.diagnosis import derivatives, losses, one_equation, several_equations
from jaxnn.verify.diagnosis.edit import Change, Edit, Equation, Part, Tagged
from jaxnn.verify.diagnosis.functions import Entrywise
from jaxnn.verify.diagnosis.mistakes import RANK, Kind
from jaxnn.verify.diagnosis.values import MOVES, Values, is_guard, is_mask
from jaxnn.verify.evidence.comparison import Comparison
from jaxnn.verify.tracing.floats import Approximation
from jaxnn.verify.tracing.jaxprs import trace
from jaxnn.verify.tracing.tape import ROWS, Tape

EDITS = 4000
ENTRIES = 2e7  # of all gradients together
VISITS = 12  # of an equation that is met more often all are changed, none alone
GUARDS = MASKS = 4
AXES = 2  # along which labels may be shifted

Point = Sequence[np.ndarray]  # the float leaves of all arguments


class Trial(NamedTuple):
    """An edit, its changes multiplied by an amount."""

    edit: Edit
    amount: float


class OtherData(NamedTuple):
    """The gradient of somebody who takes other data. what: which data are how they should not be."""

    kind: Kind
    what: str
    gradient: np.ndarray


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
    again: Callable[[Sequence[PyTree]], Problem],
    args: Sequence[PyTree],
) -> Predictions | None:
    """The `Predictions`; None if the points do not go the same way through the cost, or if it is too large.

    problem: again(args), a problem whose cost and rule `comparison` has as jaxprs."""
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
        other_data=list(with_other_data(problem, comparison, points, again, args, m)),
        m=m,
        sizes=sizes_of(problem, tapes[0], m),
    )


def flat(leaves: Sequence[np.ndarray]) -> np.ndarray:
    """All entries of some arrays, in float64."""
    return np.concatenate([np.ravel(np.asarray(v, np.float64)) for v in leaves])


def gradient_by_hand(problem: Problem, comparison: Comparison, points: Sequence[Point]) -> np.ndarray:
    """What the rule says, as a gradient of `Predictions`."""
    return gradient_of(comparison.hand, problem, comparison, points)


def gradient_of(closed: ClosedJaxpr, problem: Problem, comparison: Comparison, points: Sequence[Point]) -> np.ndarray:
    """The first results of a jaxpr, as a gradient of `Predictions`."""
    gradients = []
    for floats in points:
        results = Approximation()(closed, inputs_at(problem, comparison, floats))
        gradients.append(flat(results[: len(problem.arguments.differentiated)]))
    return np.concatenate(gradients)


def inputs_at(problem: Problem, comparison: Comparison, floats: Point) -> list[np.ndarray]:
    """The inputs of the jaxprs at a point, in float64."""
    return [np.asarray(floats[i], np.float64) for i in comparison.free(problem)]


def input_names(problem: Problem, comparison: Comparison) -> tuple[str, ...]:
    """What the inputs of the jaxprs are called: by their paths, or by the argument if that is one array."""
    arguments = problem.arguments
    free = comparison.free(problem)
    return tuple(arguments.paths[i] or arguments.names[arguments.positions[i]] for i in free)


def examples_of(problem: Problem) -> int | None:
    """How many examples there are: the size that all data share in their first axis, or in their last; None if none."""
    arguments = problem.arguments
    asked = {arguments.positions[i] for i in arguments.differentiated}
    asked -= {arguments.positions[i] for i in problem.always}
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
    pulls: dict = {}
    return [tape_at(problem, comparison, floats, pulls) for floats in points]


def tape_at(
    problem: Problem,
    comparison: Comparison,
    floats: Point,
    pulls: dict,
    swap: tuple[np.ndarray, np.ndarray] | None = None,
) -> Tape:
    """The cost as a tape; pulls, swap: of `Tape`."""
    free = list(comparison.free(problem))
    asked = [free.index(i) for i in problem.arguments.differentiated]
    return Tape(comparison.scalar, inputs_at(problem, comparison, floats), asked, pulls, swap)


def go_the_same_way(tapes: list[Tape]) -> bool:
    """Whether these are the same equations of the same values."""
    return all((tape.ins, tape.outs) == (tapes[0].ins, tapes[0].outs) for tape in tapes)


def true_leaves(tape: Tape) -> list[np.ndarray]:
    """The true gradient; zeros for a leaf on which the cost does not depend."""
    return [tape.true.get(v, np.zeros(np.shape(tape.values[v]))) for v in tape.asked]


def with_edits(tape: Tape, trials: Sequence[Trial]) -> np.ndarray:
    """The gradient with each edit: (trials, entries)."""
    return np.concatenate([together(tape, trials[k : k + ROWS]) for k in range(0, len(trials), ROWS)])


def together(tape: Tape, trials: Sequence[Trial]) -> np.ndarray:
    """The same for so few edits that one way back has them all."""
    changes = collections.defaultdict(list)
    for row, (edit, amount) in enumerate(trials):
        for slot, change in edit.changes.items():
            changes[slot].append((row, added(change, amount)))
    D = tape.back(changes)
    leaves = [D[v] if v in D else np.zeros((ROWS, *np.shape(tape.values[v]))) for v in tape.asked]
    return np.concatenate([v.reshape(ROWS, -1) for v in leaves], 1)[: len(trials)]


def added(change: Change, amount: float) -> Change:
    """What goes back in the place of a part."""
    return lambda tape, D, part: part + amount * change(tape, D, part)


# Edits


def trials_of(
    problem: Problem, comparison: Comparison, points: Sequence[Point], tapes: list[Tape], m: int | None
) -> list[Trial]:
    """Every edit of the cost with its amounts, the likeliest first."""
    values = values_of(problem, comparison, tapes[0])
    edits = list(all_edits(tapes[0], values, m))
    for swap in swaps(tapes[0], values):
        for floats, tape in zip(points, tapes, strict=True):
            tape.others[swap.what] = tape_at(problem, comparison, floats, tape.pulls, (swap.array, swap.instead))
        if all(tape.others[swap.what].ins == tapes[0].ins for tape in tapes):
            edits += several_equations.recomputed(tapes[0], values, swap.kind, swap.what)
    edits.sort(key=rank)
    trials: list[Trial] = []
    for edit in edits:
        trials += [Trial(edit, amount) for amount in edit.amounts or (1.0,)]
    return trials


def rank(edit: Edit) -> int:
    """The likelihood of an edit, 0 first: a part may be the likeliest mistake."""
    return 0 if isinstance(edit.kind, Part) else RANK[edit.kind]


def values_of(problem: Problem, comparison: Comparison, tape: Tape) -> Values:
    """What is known of the values of the cost."""
    inputs = list(zip(tape.inputs, comparison.free(problem), strict=True))
    data = [v for v, i in inputs if i not in problem.arguments.differentiated]
    constants = [v for v in tape.consts if np.ndim(tape.values[v])]
    if (
        comparison.mode and comparison.mode.every
    ):  # float data are inputs then: a constant array of floats is a part of the formula
        constants = [v for v in constants if not is_float(tape.values[v])]
    cotangents = [v for v, i in inputs if i in problem.always]
    return Values(tape, input_names(problem, comparison), data + constants, cotangents)


def all_edits(tape: Tape, values: Values, m: int | None) -> Iterator[Edit]:
    """Every edit of a tape: at each equation alone, and at all equations of a site."""
    at_sites = collections.defaultdict(list)  # {(site, what is changed there): its edits}
    for n in range(len(tape.steps)):
        if tape.active.isdisjoint(tape.outs[n]) or not several_equations.reaches_cost(tape, n):
            continue
        site, _ = values.visit[n]
        visits = len(values.visits[site])
        for tags, edit in edits_at(Equation(tape, values, n), m):
            is_term = edit.kind in (Part.EXAMPLE, Part.POSITION)
            if visits <= VISITS or is_term:
                is_summand = edit.kind is Part.PATH and visits > 1
                yield edit._replace(group=(site, *tags)) if is_summand else edit
            for tag in tags if visits > 1 else ():
                at_sites[site, edit.kind, tag].append(edit)
    different = {tuple(map(id, edits)): edits for edits in at_sites.values()}
    for edits in different.values():
        yield from everywhere(edits, values, m)
    yield from several_equations.exchanges(tape, values)


def everywhere(edits: list[Edit], values: Values, m: int | None) -> Iterator[Edit]:
    """The edits of all visits of a site as one, if it changes more than one thing."""
    changes: dict = {}
    for edit in edits:
        changes |= edit.changes
    if len(changes) < 2:
        return
    amounts = edits[0].amounts
    linear = values.independent(changes)
    if not linear and not amounts:  # left out, twice, its sign, half, a mean that is missing, a mean too many
        amounts = (-1.0, 1.0, -2.0, -0.5, m - 1, 1 / m - 1) if m else (-1.0, 1.0, -2.0, -0.5)
    yield edits[-1]._replace(changes=changes, linear=linear, amounts=amounts)


def edits_at(equation: Equation, m: int | None) -> Iterator[Tagged]:
    """The edits at one equation."""
    tape, values, n, name = equation.tape, equation.values, equation.n, equation.name
    out, active = equation.out, equation.active
    if n in values.inner or name in MOVES:
        return
    yield from one_equation.paths(equation)
    if len(tape.outs[n]) > 1 or out not in tape.true:
        return
    is_composite = out in values.composites
    if name == "dot_general" or (name == "mul" and (len(active) == 1 or not is_composite)):
        for i in active:
            yield from one_equation.factors(equation, i)
    if name in ("dot_general", "add", "sub", "mul"):
        for i in active:
            yield from one_equation.cotangents(equation, i)
    if name == "dot_general":
        yield from one_equation.transposed(equation)
    if name == "reduce_sum":
        yield from one_equation.terms(equation, [0], tape.values[equation.inputs[0]], m)
    if name == "div":
        yield from several_equations.of_softmax(equation)
    if name in ("div", "mul"):
        yield from several_equations.of_normalised(equation)
    if name == "select_n" and not is_composite:
        yield from one_equation.choices(equation)
    if name == "reduce_max":
        yield from one_equation.largest(equation)
    if is_composite:
        yield from derivatives.derivatives(equation)
    elif np.ndim(equation.result) and name not in ("loop entry", "loop stack"):
        yield from one_equation.extra(equation)
        if out in values.in_loss:
            yield from losses.losses(equation)
        yield from one_equation.terms(equation, active, equation.result, m)


class Swap(NamedTuple):
    """An array of the cost, and what stands in its place for somebody who computes the cost again."""

    kind: Kind
    what: str
    array: np.ndarray
    instead: np.ndarray


def swaps(tape: Tape, values: Values) -> Iterator[Swap]:
    """Guards that are left out, masks of ones, masks transposed."""
    guards: set[float] = set()
    for step in tape.steps:
        guards |= {float(x) for x in step.inputs if is_guard(x)}
    for guard in sorted(guards)[:GUARDS]:
        yield Swap(Kind.GUARD_IGNORED, f"{guard:g}", np.array(guard), np.zeros(()))
    passive = [v for v in range(len(tape.values)) if v not in tape.active and v not in values.composites]
    masks = {tape.values[v].tobytes(): v for v in passive if is_mask(tape.values[v])}
    for v in list(masks.values())[:MASKS]:
        x, what = tape.values[v], values.label(v)
        yield Swap(Kind.WRONG_MASK, what, x, np.full_like(x, x.max()))
        if x.ndim == 2 and x.shape[0] == x.shape[1]:
            yield Swap(Kind.TRANSPOSE, f"{what}, where it is used again,", x, x.T)


# Other data


def with_other_data(
    problem: Problem,
    comparison: Comparison,
    points: Sequence[Point],
    again: Callable[[Sequence[PyTree]], Problem],
    args: Sequence[PyTree],
    m: int | None,
) -> Iterator[OtherData]:
    """A cotangent of ones; data shifted by one example, labels by one class."""
    arguments = problem.arguments
    true = functools.partial(gradient_of, traced_truth(problem, comparison), problem, comparison)

    if problem.always:
        ones = with_leaves(points, problem.always, np.ones_like)
        yield OtherData(Kind.IGNORED_COTANGENT, "the result", true(ones))
    asked = {arguments.positions[i] for i in arguments.differentiated}
    for n, arg in enumerate(args):
        if n in asked or not isinstance(arg, np.ndarray | jax.Array):
            continue
        array = np.asarray(arg)
        leaves = [i for i, position in enumerate(arguments.positions) if position == n]
        for what, f in shifts(array, arguments.names[n], m).items():
            if array.dtype.kind in "iu":  # whole numbers are constants of the jaxprs
                other = again([*args[:n], f(array), *args[n + 1 :]])
                shifted = gradient_of(traced_truth(other, comparison), other, comparison, points)
            else:
                shifted = true(with_leaves(points, leaves, f))
            yield OtherData(Kind.SHIFTED_LABELS, what, shifted)


def traced_truth(problem: Problem, comparison: Comparison) -> ClosedJaxpr:
    """The true gradient as a jaxpr, traced as the comparison is."""
    if comparison.mode is None:
        raise TypeError("a comparison without jaxprs has no diagnosis")
    return trace(problem.truth, problem.arguments, comparison.mode)


def with_leaves(points: Sequence[Point], leaves: Sequence[int], f: Entrywise) -> list[Point]:
    """The points with f of these float leaves in their places."""
    return [[f(v) if i in leaves else v for i, v in enumerate(floats)] for floats in points]


def shifts(array: np.ndarray, name: str, m: int | None) -> dict[str, Entrywise]:
    """{in words: the shift} of data by one along the first axes, and of whole numbers by one class."""
    ways: dict[str, Entrywise] = {}
    for axis in range(min(array.ndim, AXES)):
        if array.shape[axis] > 1:
            along = "one example" if array.shape[axis] == m else f"one along axis {axis}"
            ways[f"{name} by {along} on"] = functools.partial(np.roll, shift=1, axis=axis)
            ways[f"{name} by {along} back"] = functools.partial(np.roll, shift=-1, axis=axis)
    if array.dtype.kind in "iu":
        ways[f"{name} up by one class"] = lambda v: v + np.asarray(1, v.dtype)
        ways[f"{name} down by one class"] = lambda v: v - np.asarray(1, v.dtype)
    return ways
