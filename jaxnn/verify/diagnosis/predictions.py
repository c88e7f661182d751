"""The gradients that known mistakes make of a cost, at some points: those of edits (one_equation.py,
several_equations.py) at one equation, or at all that are one line of code; and those of other data.
"""

import collections
import functools
import itertools
import math
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.diagnosis import one_equation, several_equations
from jaxnn.verify.diagnosis.edit import Edit
from jaxnn.verify.diagnosis.mistakes import RANK
from jaxnn.verify.diagnosis.values import MOVES, Notes, is_guard, is_mask
from jaxnn.verify.tracing.floats import Approximation
from jaxnn.verify.tracing.jaxprs import trace
from jaxnn.verify.tracing.tape import ROWS, Tape

EDITS = 4000
ENTRIES = 2e7  # of all gradients together
VISITS = 12  # of an equation that is met more often all are changed, none alone
GUARDS = MASKS = 4
AXES = 2  # along which labels may be shifted


class Facts(NamedTuple):
    """What is known of the true gradient at some points, whatever the rule: one vector v of all entries of all leaves,
    at one point after the other, in float64."""

    paths: tuple[str, ...]
    names: tuple[str, ...]  # of the inputs of the jaxprs
    shapes: list
    points: int
    leaf: np.ndarray  # of each entry of v: the number of its leaf
    true: np.ndarray
    scale: np.ndarray  # of the leaf, at the point
    params: np.ndarray  # what is differentiated, entry by entry
    edits: list  # (Edit, amount)
    turned: np.ndarray  # (edits, entries)
    shifted: list  # (kind, what was shifted, v)
    m: int | None  # examples
    sizes: set  # of what a mean may be taken over

    def part(self, v, k):
        """Leaf k of v, for each point."""
        return v[self.leaf == k].reshape(self.points, *self.shapes[k])

    def is_vector(self, k):
        return math.prod(self.shapes[k]) == max(self.shapes[k], default=1)

    def with_part(self, k, values):
        """The truth, but for leaf k."""
        out = self.true.copy()
        out[self.leaf == k] = np.ravel(values)
        return out


def facts_of(problem, comparison, points, again, args):
    """The `Facts`, None where there are too many entries for them."""
    its, m = problem.arguments, examples_of(problem)
    asked = its.differentiated
    met = turned(problem, comparison, points, m)
    if met is None:
        return None
    rows, found, sizes = met
    entries = [its.floats[i].size for i in asked]
    true = np.concatenate([flat(leaves) for leaves, _ in found])
    leaf = np.tile(np.repeat(np.arange(len(asked)), entries), len(points))
    point = np.repeat(np.arange(len(points)), sum(entries))
    largest = np.array([np.abs(true[point == p]).max(initial=0) for p in range(len(points))])
    scale = np.array(
        [
            [np.abs(true[(leaf == k) & (point == p)]).max(initial=0) for p in range(len(points))]
            for k in range(len(asked))
        ]
    )
    return Facts(
        problem.paths[: len(asked)],
        tuple(its.paths[i] or its.names[its.positions[i]] for i in comparison.free(problem)),
        [its.floats[i].shape for i in asked],
        len(points),
        leaf,
        true,
        np.maximum(scale[leaf, point], np.where(largest > 0, 1e-6 * largest, largest.max() or 1.0)[point]),
        np.concatenate([flat([floats[i] for i in asked]) for floats in points]),
        rows,
        np.concatenate([its for _, its in found], axis=1),
        list(shifts(problem, comparison, points, again, args, m)),
        m,
        sizes,
    )


def flat(leaves):
    return np.concatenate([np.ravel(np.asarray(v, np.float64)) for v in leaves])


def hand_of(problem, comparison, points):
    """What the rule says, as the vector of `Facts`."""
    return np.concatenate([gradient_at(comparison.hand, problem, comparison, floats) for floats in points])


def gradient_at(closed, problem, comparison, floats):
    out = Approximation()(closed, [np.asarray(floats[i], np.float64) for i in comparison.free(problem)])
    return flat(out[: len(problem.arguments.differentiated)])


def examples_of(problem):
    """How many examples there are: the size that all data share in their first axis, or in their last; None if none."""
    its = problem.arguments
    asked = {its.positions[i] for i in its.differentiated} - {its.positions[i] for i in problem.always}
    args = its.treedef.unflatten(its.leaves)
    data = [np.shape(v) for n, arg in enumerate(args) if n not in asked for v in jax.tree.leaves(arg) if np.ndim(v)]
    for axis in (0, -1):
        shared = {shape[axis] for shape in data}
        if len(shared) == 1:
            return shared.pop()
    return data[0][0] if data else None


def turned(problem, comparison, points, m):
    """(the edits, with amounts; at each point the true leaves and a row for each edit; over what a mean may be taken);
    None where the points do not go the same way through the cost, or are too large."""
    its = problem.arguments
    free, asked = list(comparison.free(problem)), its.differentiated
    pulls: dict = {}

    def tape(floats, swap=None):
        inputs = [np.asarray(floats[i], np.float64) for i in free]
        return Tape(comparison.scalar, inputs, map(free.index, asked), pulls, swap)

    first, *others = tapes = [tape(floats) for floats in points]
    if any((other.ins, other.outs) != (first.ins, first.outs) for other in others):
        return None
    data = [v for v, i in zip(first.inputs, free, strict=True) if i not in asked]
    formula = comparison.mode.every  # float data are inputs then: a constant array of floats is a part of the formula
    data += [v for v in first.consts if np.ndim(first.values[v]) and not (formula and is_float(first.values[v]))]
    notes = Notes(first, [its.paths[i] or its.names[its.positions[i]] for i in free], data)
    notes.dout = {v for v, i in zip(first.inputs, free, strict=True) if i in problem.always}
    rows = list(all_edits(first, notes, m))
    for kind, what, swap in swaps(first, notes):
        for floats, its in zip(points, tapes, strict=True):
            its.others[what] = tape(floats, swap)
        if all(its.others[what].ins == first.ins for its in tapes):
            rows += several_equations.recomputed(first, notes, first.others[what], kind, what)
    entries = sum(problem.arguments.floats[i].size for i in asked) * len(points)
    rows.sort(key=lambda edit: RANK.get(edit.kind, 0))  # of a large net the likeliest
    rows = [(edit, t) for edit in rows for t in edit.values or (1.0,)][: min(EDITS, int(ENTRIES / entries))]
    if not rows:
        return None
    found = [(leaves_of(its), changed(its, rows)) for its in tapes]
    shapes = [np.shape(v) for v in (*first.values, *problem.arguments.leaves)]
    ones = [int(np.sum(v)) for v in problem.arguments.leaves if np.ndim(v) and np.isin(v, (0, 1)).all()]
    sizes = {n for shape in shapes for n in shape} | set(ones)
    return rows, found, {n for n in sizes if n > 2} | ({m} if m and m > 1 else set())


def all_edits(tape, notes, examples):
    """Every `Edit` of a tape: at each equation alone, and at all equations of a site."""
    sites = collections.defaultdict(list)  # {(site, what is changed there): [Edit]}
    for n in range(len(tape.steps)):
        if not tape.active.intersection(tape.outs[n]) or not set(tape.outs[n]) & tape.true.keys():
            continue
        site, _ = notes.sites[n]
        visits = len(notes.visits[site])
        for tags, edit in at(tape, notes, n, examples):
            if visits <= VISITS or edit.kind == "term":
                yield edit._replace(group=(site, *tags)) if edit.kind == "path" and visits > 1 else edit
            for tag in tags if visits > 1 else ():
                sites[site, edit.kind, tag].append(edit)
    for found in {tuple(map(id, found)): found for found in sites.values()}.values():
        changes = {key: change for edit in found for key, change in edit.changes.items()}
        if len(changes) > 1:
            linear = notes.independent(changes)
            some = (-1.0, 1.0, -2.0, -0.5, examples - 1, 1 / examples - 1) if examples else (-1.0, 1.0, -2.0, -0.5)
            values = found[0].values or (() if linear else some)
            yield found[-1]._replace(changes=changes, linear=linear, values=values)
    yield from several_equations.exchanges(tape, notes)


def at(tape, notes, n, examples):
    """(tags, Edit) for step n; a tag is the same for the same edit of the same site."""
    step, (out, *more) = tape.steps[n], tape.outs[n]
    active = [i for i, v in enumerate(tape.ins[n]) if v in tape.active]
    edit = functools.partial(Edit, place=step.place)
    if n in notes.inner or step.name in MOVES:
        return
    yield from one_equation.paths(tape, notes, n, active, edit)
    if more or out not in tape.true:
        return
    if step.name == "dot_general" or (step.name == "mul" and (len(active) == 1 or out not in notes.root)):
        for i in active:
            yield from one_equation.partners(tape, notes, n, i, edit)
    if step.name in ("dot_general", "add", "sub", "mul"):
        for i in active:
            yield from one_equation.cotangents(tape, notes, n, i, edit)
    if step.name == "dot_general":
        yield from one_equation.transposed(tape, notes, n, active, edit)
    if step.name == "reduce_sum":
        yield from one_equation.terms(n, [0], tape.steps[n].inputs[0], examples, edit)
    if step.name == "div":
        yield from several_equations.of_softmax(tape, notes, out, edit)
    if step.name in ("div", "mul"):
        yield from several_equations.of_normalised(tape, notes, n, edit)
    if step.name == "select_n" and out not in notes.root:
        yield from one_equation.choices(tape, notes, n, active, edit)
    if step.name == "reduce_max":
        yield from one_equation.largest(tape, notes, n, edit)
    if out in notes.root:
        yield from one_equation.slopes(tape, notes, out, edit)
    elif np.ndim(tape.values[out]) and step.name not in ("loop entry", "loop stack"):
        yield from one_equation.extra(tape, notes, n, active, edit)
        if out in notes.in_loss:
            yield from several_equations.losses(tape, notes, n, active, edit)
        yield from one_equation.terms(n, active, tape.values[out], examples, edit)


def swaps(tape, notes):
    """(kind, what, (an array, what stands in its place)): guards that are left out, masks of ones, masks transposed."""
    guards = sorted({float(x) for step in tape.steps for x in step.inputs if is_guard(x)})[:GUARDS]
    for guard in guards:
        yield "guard_ignored", f"{guard:g}", (np.float64(guard), 0.0)
    given = [v for v in range(len(tape.values)) if v not in tape.active and v not in notes.root]
    masks = {tape.values[v].tobytes(): v for v in given if is_mask(tape.values[v])}
    for v in [*masks.values()][:MASKS]:
        x, what = tape.values[v], notes.label(v)
        yield "wrong_mask", what, (x, np.full_like(x, x.max()))
        if x.ndim == 2 and x.shape[0] == x.shape[1]:
            yield "transpose", f"{what}, where it is used again,", (x, x.T)


def leaves_of(tape):
    return [tape.true.get(v, np.zeros(np.shape(tape.values[v]))) for v in tape.asked]


def changed(tape, rows):
    """The leaves with each edit, one below the other."""
    out = []
    for start in range(0, len(rows), ROWS):
        changes = collections.defaultdict(list)
        for row, (edit, t) in enumerate(rows[start : start + ROWS]):
            for key, f in edit.changes.items():
                changes[key].append((row, lambda tape, D, part, f=f, t=t: part + t * f(tape, D, part)))
        D = tape.back(changes)
        leaves = [D[v] if v in D else np.zeros((ROWS, *np.shape(tape.values[v]))) for v in tape.asked]
        out.append(np.concatenate([v.reshape(ROWS, -1) for v in leaves], 1)[: len(rows) - start])
    return np.concatenate(out)


def shifts(problem, comparison, points, again, args, m):
    """(kind, what is shifted, the true gradient then): labels by one example, or by one; a cotangent of ones."""
    its = problem.arguments
    truth = trace(problem.truth, its, comparison.mode)

    def at(change, problem=problem, truth=truth):
        return np.concatenate([gradient_at(truth, problem, comparison, change(floats)) for floats in points])

    if problem.always:
        ones = lambda floats: [np.ones_like(v) if i in problem.always else v for i, v in enumerate(floats)]  # noqa: E731
        yield "ignored_cotangent", "the result", at(ones)
    asked = {its.positions[i] for i in its.differentiated}
    for n, arg in enumerate(args):
        if n in asked or not isinstance(arg, np.ndarray | jax.Array):
            continue
        arg = np.asarray(arg)
        ways: dict = {}
        for axis, (how, by) in itertools.product(range(np.ndim(arg)), {"on": 1, "back": -1}.items()):
            if arg.shape[axis] > 1 and axis < AXES:
                along = "one example" if arg.shape[axis] == m else f"one along axis {axis}"
                ways[f"{its.names[n]} by {along} {how}"] = lambda v, by=by, axis=axis: np.roll(v, by, axis)
        if arg.dtype.kind in "iu":
            for how, by in {"up": 1, "down": -1}.items():
                ways[f"{its.names[n]} {how} by one class"] = lambda v, by=by: v + np.asarray(by, v.dtype)
        for what, f in ways.items():
            if arg.dtype.kind in "iu":
                other = again([*args[:n], f(arg), *args[n + 1 :]])
                moved = at(list, other, trace(other.truth, other.arguments, comparison.mode))
            else:
                moved = at(
                    lambda floats, f=f, n=n: [f(v) if its.positions[i] == n else v for i, v in enumerate(floats)]
                )
            yield "shifted_labels", what, moved
