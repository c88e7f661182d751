"""What mistakes change at several equations at once: at two whose factors are exchanged, or at all before a value."""

import itertools
from collections.abc import Iterator

import numpy as np

from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.diagnosis.edit import Change, Cotangents, Edit, Slot, back, value, with_partner
from jaxnn.verify.diagnosis.mistakes import Mistake
from jaxnn.verify.diagnosis.values import Values
from jaxnn.verify.tracing.tape import Tape

PAIRS = 150  # of factors that may have been exchanged
CUTS = 12  # values before which somebody may have computed all again


def exchanges(tape: Tape, values: Values) -> Iterator[Edit]:
    """Two factors that stand in each other's place."""
    slots: list[Slot] = []
    for n, step in enumerate(tape.steps):
        if step.name in ("dot_general", "mul") and n not in values.inner and tape.outs[n][0] in tape.true:
            slots += [(n, i) for i, v in enumerate(tape.ins[n]) if v in tape.active and is_factor(tape, n, i)]
    pairs = (pair for pair in itertools.combinations(slots, 2) if may_be_exchanged(tape, *pair))
    for one, other in itertools.islice(pairs, PAIRS):
        a, b = partner(tape, *one), partner(tape, *other)
        changes = {one: with_partner(one, value(b)), other: with_partner(other, value(a))}
        what = f"{values.label(a)} and {values.label(b)}"
        yield Edit(Mistake.SWAPPED_OPERANDS, what=what, place=values.place(one[0]), changes=changes)


def partner(tape: Tape, n: int, i: int) -> int:
    """The other factor of a product."""
    return tape.ins[n][1 - i]


def is_factor(tape: Tape, n: int, i: int) -> bool:
    """Whether the other factor is an array of floats."""
    x = tape.values[partner(tape, n, i)]
    return np.ndim(x) > 0 and is_float(x)


def may_be_exchanged(tape: Tape, one: Slot, other: Slot) -> bool:
    """Whether the factors of two products have the same shape and are not the same."""
    x, y = (tape.values[partner(tape, *slot)] for slot in (one, other))
    return one[0] != other[0] and np.shape(x) == np.shape(y) and not np.array_equal(x, y)


def recomputed(tape: Tape, values: Values, other: int, kind: Mistake, what: str) -> Iterator[Edit]:
    """The mistakes of those whose backward pass computes again what comes before a value, from something else.

    other: in `Tape.others`, the tape on which all is computed from that; what: its name."""
    pairs = enumerate(zip(tape.values, tape.others[other].values, strict=True))
    changed = {v for v, (x, y) in pairs if not np.array_equal(x, y)}
    cuts = [v for v in sorted(changed) if v in tape.true and np.ndim(tape.values[v])]
    cuts = [v for v in cuts if values.maker.get(v, -1) not in values.inner]
    steps = [n for n, ins in enumerate(tape.ins) if changed.intersection(ins) and len(tape.outs[n]) == 1]
    for cut in cuts[:CUTS]:
        changes: dict[Slot, Change] = {}
        for n in [n for n in steps if n <= values.maker[cut]]:
            changes |= {(n, i): from_other_tape(other, (n, i)) for i, v in enumerate(tape.ins[n]) if v in tape.active}
        place = f"where what is before {values.label(cut)} is computed again"
        yield Edit(kind, what=what, place=place, changes=changes, linear=False)


def from_other_tape(other: int, slot: Slot) -> Change:
    """The change that the inputs of the step on another tape make."""
    n, _ = slot

    def change(tape: Tape, D: Cotangents, part: np.ndarray) -> np.ndarray:
        return back(tape, slot, D(tape.outs[n][0]), tape.others[other].steps[n].inputs) - part

    return change
