"""Every edit on the way back through a cost: at one equation, and at all equations that are one line of code."""

import collections
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxnn.verify.diagnosis import derivatives, factors, losses, normalisations, one_equation, softmaxes
from jaxnn.verify.diagnosis.edit import Change, Edit, Equation, Part, Slot, Tagged, reaches_cost
from jaxnn.verify.diagnosis.mistakes import Mistake
from jaxnn.verify.diagnosis.several_equations import exchanges
from jaxnn.verify.diagnosis.values import MOVES, Values, is_guard, is_mask
from jaxnn.verify.tracing.tape import Tape

VISITS = 12  # of an equation that is met more often all are changed, none alone
GUARDS = MASKS = 4


def all_edits(tape: Tape, values: Values, m: int | None) -> Iterator[Edit]:
    """Every edit of a tape: at each equation alone, and at all equations of a site."""
    at_sites = collections.defaultdict(list)  # {(site, what is changed there): its edits}
    for n in range(len(tape.steps)):
        if tape.active.isdisjoint(tape.outs[n]) or not reaches_cost(tape, n):
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
    yield from exchanges(tape, values)


def everywhere(edits: list[Edit], values: Values, m: int | None) -> Iterator[Edit]:
    """The edits of all visits of a site as one, if it changes more than one thing."""
    changes: dict[Slot, Change] = {}
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
            yield from factors.factors_of(equation, i)
    if name in ("dot_general", "add", "sub", "mul"):
        for i in active:
            yield from one_equation.stale_cotangents(equation, i)
    if name == "dot_general":
        yield from one_equation.transposes(equation)
    if name == "reduce_sum":
        yield from one_equation.terms(equation, [0], tape.values[equation.inputs[0]], m)
    if name == "div":
        yield from softmaxes.of_softmax(equation)
    if name in ("div", "mul"):
        yield from normalisations.of_normalised(equation)
    if name == "select_n" and not is_composite:
        yield from one_equation.choices(equation)
    if name == "reduce_max":
        yield from one_equation.largest(equation)
    if is_composite:
        yield from derivatives.of_composite(equation)
    elif np.ndim(equation.result) and name not in ("loop entry", "loop stack"):
        yield from one_equation.extra(equation)
        if out in values.in_loss:
            yield from losses.of_loss(equation)
        yield from one_equation.terms(equation, active, equation.result, m)


class OtherArray(NamedTuple):
    """An array of the cost, and what stands in its place for somebody who computes the cost again."""

    kind: Mistake
    what: str
    array: np.ndarray
    instead: np.ndarray


def other_arrays(tape: Tape, values: Values) -> Iterator[OtherArray]:
    """Guards that are left out, masks of ones, masks transposed."""
    guards: set[float] = set()
    for step in tape.steps:
        guards |= {float(x) for x in step.inputs if is_guard(x)}
    for guard in sorted(guards)[:GUARDS]:
        yield OtherArray(Mistake.GUARD_IGNORED, f"{guard:g}", np.array(guard), np.zeros(()))
    passive = [v for v in range(len(tape.values)) if v not in tape.active and v not in values.composites]
    masks = {tape.values[v].tobytes(): v for v in passive if is_mask(tape.values[v])}
    for v in list(masks.values())[:MASKS]:
        x, what = tape.values[v], values.label(v)
        yield OtherArray(Mistake.WRONG_MASK, what, x, np.full_like(x, x.max()))
        if x.ndim == 2 and x.shape[0] == x.shape[1]:
            yield OtherArray(Mistake.TRANSPOSE, f"{what}, where it is used again,", x, x.T)
