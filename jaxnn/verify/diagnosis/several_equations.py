"""What mistakes in a known formula of several equations change on the way back: in the gradient of a softmax, or of a
normalisation; and what two equations, or all before a value, have changed at once.
"""

import itertools
from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple

import numpy as np

from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.diagnosis.edit import Change, Cotangents, Edit, Equation, Slot, Tagged, back, value, with_partner
from jaxnn.verify.diagnosis.functions import softmax
from jaxnn.verify.diagnosis.mistakes import Kind
from jaxnn.verify.diagnosis.values import Values
from jaxnn.verify.tracing.tape import Tape

PAIRS = 150  # of factors that may have been exchanged
CUTS = 12  # values before which somebody may have computed all again


# A softmax A = softmax(z): dz = A (dA − Σ A dA)


class WrongSoftmax(NamedTuple):
    """What stands in the place of dz, a function of A and dA; other: what is said to stand there."""

    kind: Kind
    dz: Callable[[np.ndarray, np.ndarray], np.ndarray]
    other: str = ""
    tag: int = 0


def of_softmax(equation: Equation) -> Iterator[Tagged]:
    """What the derivative of a softmax, whose last equation this is, is mistaken for."""
    slot_and_axis = softmax_entry(equation)
    if slot_and_axis is None:
        return
    slot, axis = slot_and_axis
    what = f"the softmax of {equation.values.label(equation.tape.ins[slot[0]][slot[1]])}"
    for wrong in wrong_softmaxes(axis, np.ndim(equation.result)):
        changes = {slot: with_softmax(equation.out, axis, wrong)}
        yield Tagged([(wrong.kind, wrong.other, wrong.tag)], equation.edit(wrong.kind, changes, what, wrong.other))


def softmax_entry(equation: Equation) -> tuple[Slot, int] | None:
    """((step, input) where z enters softmax(z), the axis), if the result is that of a value; None if not."""
    tape, values, a = equation.tape, equation.values, equation.result
    alike = [v for v in range(equation.out) if v in tape.active and np.shape(tape.values[v]) == np.shape(a) != ()]
    for v in alike:
        axes = [axis for axis in range(-np.ndim(a), 0) if a.shape[axis] > 1]
        axes = [axis for axis in axes if np.allclose(a, softmax(tape.values[v], axis), 1e-9, 1e-12)]
        slots = [(n, i) for n, i in values.uses[v] if n < equation.n and reaches_cost(tape, n)]
        if axes and slots:
            return slots[0], axes[0]
    return None


def reaches_cost(tape: Tape, n: int) -> bool:
    """Whether something comes back to what step n makes."""
    return not tape.true.keys().isdisjoint(tape.outs[n])


def wrong_softmaxes(axis: int, ndim: int) -> Iterator[WrongSoftmax]:
    """What is mistaken for dz."""
    sigmoid = "A(1 − A), the derivative of a sigmoid,"
    yield WrongSoftmax(Kind.MISSING_ACTIVATION_DERIVATIVE, lambda A, D: D)
    yield WrongSoftmax(Kind.DERIVATIVE_OF_OTHER_FUNCTION, lambda A, D: A * (1 - A) * D, sigmoid)
    yield WrongSoftmax(Kind.PATH_LEFT_OUT, lambda A, D: A * D, "its sum")
    yield WrongSoftmax(
        Kind.STALE_RESIDUAL, lambda A, D: A * (D - D.sum(axis, keepdims=True)), "the sum of the cotangents alone"
    )
    yield WrongSoftmax(Kind.STALE_RESIDUAL, lambda A, D: D - (A * D).sum(axis, keepdims=True), "1")
    for other in range(-ndim, 0):
        if other != axis:
            yield WrongSoftmax(Kind.WRONG_AXIS, summed_over(other), tag=other)


def summed_over(axis: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """dz, with its sum over an axis."""
    return lambda A, D: A * (D - (A * D).sum(axis, keepdims=True))


def with_softmax(a: int, axis: int, wrong: WrongSoftmax) -> Change:
    """The change that the wrong dz makes where z enters the softmax A, a value."""
    right = summed_over(axis)

    def change(tape: Tape, D: Cotangents, part: np.ndarray) -> np.ndarray:
        A, dA = tape.values[a], D(a)
        return wrong.dz(A, dA) - right(A, dA)

    return change


# A normalisation y = c / s, with c = z or z − mean z, and s² = mean c² + ε or Σ c² + ε


class Normalisation(NamedTuple):
    """z, y: values. centred: whether c = z − mean z. summed: whether s² is a sum."""

    z: int
    y: int
    axis: int
    centred: bool
    summed: bool

    def centre(self, z: np.ndarray) -> np.ndarray:
        """c."""
        return z - z.mean(self.axis, keepdims=True) if self.centred else z

    def squares(self, c: np.ndarray) -> np.ndarray:
        """mean c² or Σ c²."""
        return (np.sum if self.summed else np.mean)(c**2, self.axis, keepdims=True)

    def dz(
        self,
        p: "Normalised",
        *,
        y: np.ndarray | None = None,
        left: np.ndarray | None = None,
        right: np.ndarray | None = None,
        s: np.ndarray | float | None = None,
        axis: int | None = None,
        times: float = 1.0,
    ) -> np.ndarray:
        """(dy − mean dy − y mean(dy y)) / s, or with sums. What is given stands in the place of the right one: left and
        right in that of the first and the second y, axis in that of the axis; the sums are multiplied by `times`."""
        y, s, axis = p.y if y is None else y, p.s if s is None else s, self.axis if axis is None else axis
        left, right = y if left is None else left, y if right is None else right
        over = np.sum if self.summed else np.mean
        mean = p.dy.mean(axis, keepdims=True) if self.centred else 0.0
        return (p.dy - times * mean - times * left * over(p.dy * right, axis, keepdims=True)) / s


class Normalised(NamedTuple):
    """The arrays of a normalisation on one tape; guardless: s without ε."""

    dy: np.ndarray
    y: np.ndarray
    c: np.ndarray
    s: np.ndarray
    guardless: np.ndarray


class WrongNormalisation(NamedTuple):
    """What stands in the place of dz; the rest are fields of `Tagged` and `Edit`."""

    kind: Kind
    tag: Hashable
    dz: Callable[[Normalised], np.ndarray]
    what: str
    other: str = ""


def of_normalised(equation: Equation) -> Iterator[Tagged]:
    """What the derivative of a normalisation, whose last equation this is, is mistaken for."""
    tape, values = equation.tape, equation.values
    f = normalisation(equation)
    if f is None:
        return
    slot = next((n, i) for n, i in values.uses[f.z] if reaches_cost(tape, n))
    for wrong in wrong_normalisations(f, np.shape(equation.result), values):
        changes = {slot: with_normalisation(f, wrong)}
        yield Tagged([wrong.tag], equation.edit(wrong.kind, changes, wrong.what, wrong.other))


def normalisation(equation: Equation) -> Normalisation | None:
    """The normalisation that makes the result; None if there is none."""
    tape, out, y = equation.tape, equation.out, equation.result
    if np.ndim(y) == 0 or not (y != 0).all():
        return None
    axes = [axis for axis in range(-1, -1 - y.ndim, -1) if y.shape[axis] > 2]
    for z in range(out):
        x = tape.values[z]
        if z not in tape.active or np.shape(x) != y.shape or z in equation.values.composites:
            continue
        for axis, centred in itertools.product(axes, (True, False)):
            mean = Normalisation(z, out, axis, centred, summed=False)
            c = mean.centre(x)
            s = c / y
            if not np.allclose(s, s.max(axis, keepdims=True), 1e-9):
                continue
            for f in (mean, mean._replace(summed=True)):
                squares = f.squares(c)
                guard = s.max(axis, keepdims=True) ** 2 - squares
                if np.ptp(guard) < 1e-9 * squares.max():
                    return f
    return None


def wrong_normalisations(f: Normalisation, shape: tuple[int, ...], values: Values) -> Iterator[WrongNormalisation]:
    """What is mistaken for dz; shape: of y."""
    z, y = values.label(f.z), values.label(f.y)
    sums = f"each sum in the derivative of {y}"
    for k in range(len(shape)):
        if k != f.axis % len(shape):
            share = shape[k] / shape[f.axis]  # a sum over k is still divided by the right size
            yield WrongNormalisation(Kind.WRONG_AXIS, ("axis", k), over_axis(f, k), sums)
            yield WrongNormalisation(Kind.WRONG_AXIS, ("sum", k), over_axis(f, k, share), sums)
    kind, what = Kind.GUARD_IGNORED, f"in the length of {z}"
    yield WrongNormalisation(kind, "s", lambda p: f.dz(p, s=p.guardless), what)
    yield WrongNormalisation(kind, "s, y", lambda p: f.dz(p, y=p.c / p.guardless, s=p.guardless), what)
    kind, what = Kind.STALE_RESIDUAL, f"{y}, in its derivative,"
    yield WrongNormalisation(kind, "cc", lambda p: f.dz(p, left=p.c, right=p.c), what, z)
    yield WrongNormalisation(kind, "cy", lambda p: f.dz(p, left=p.c), what, z)
    yield WrongNormalisation(kind, "yc", lambda p: f.dz(p, right=p.c), what, z)
    yield WrongNormalisation(kind, "1y", lambda p: f.dz(p, left=np.ones_like(p.y)), what, "1")
    yield WrongNormalisation(kind, "y1", lambda p: f.dz(p, right=np.ones_like(p.y)), what, "1")
    what = f"the length of {z}, in the derivative of {y},"
    yield WrongNormalisation(kind, "s²", lambda p: f.dz(p, s=p.s**2), what, "its square")
    kind, other = Kind.PATH_LEFT_OUT, "the division by its length"
    yield WrongNormalisation(kind, "1/s", lambda p: f.dz(p, s=1.0), z, other)
    if not f.summed:
        size = shape[f.axis]
        yield WrongNormalisation(Kind.MISSING_MEAN, "sums", lambda p: f.dz(p, times=size), sums, f"{size}")


def over_axis(f: Normalisation, axis: int, times: float = 1.0) -> Callable[[Normalised], np.ndarray]:
    """dz with sums over another axis."""
    return lambda p: f.dz(p, axis=axis, times=times)


def with_normalisation(f: Normalisation, wrong: WrongNormalisation) -> Change:
    """The change that the wrong dz makes where z enters the normalisation."""

    def change(tape: Tape, D: Cotangents, part: np.ndarray) -> np.ndarray:
        y, c = tape.values[f.y], f.centre(tape.values[f.z])
        s = np.abs(c / y).max(f.axis, keepdims=True)
        p = Normalised(D(f.y), y, c, s, np.sqrt(f.squares(c)))
        return wrong.dz(p) - f.dz(p)

    return change


# Two equations, and all before a value


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
        yield Edit(Kind.SWAPPED_OPERANDS, what, values.place(one[0]), changes)


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


def recomputed(tape: Tape, values: Values, kind: Kind, what: str) -> Iterator[Edit]:
    """The mistakes of those whose backward pass computes again what comes before a value, from something else.

    what: names that, and in `Tape.others` the tape on which all is computed from it."""
    pairs = enumerate(zip(tape.values, tape.others[what].values, strict=True))
    changed = {v for v, (x, y) in pairs if not np.array_equal(x, y)}
    cuts = [v for v in sorted(changed) if v in tape.true and np.ndim(tape.values[v])]
    cuts = [v for v in cuts if values.maker.get(v, -1) not in values.inner]
    steps = [n for n, ins in enumerate(tape.ins) if changed.intersection(ins) and len(tape.outs[n]) == 1]
    for cut in cuts[:CUTS]:
        changes: dict[Slot, Change] = {}
        for n in [n for n in steps if n <= values.maker[cut]]:
            changes |= {(n, i): from_other_tape(what, (n, i)) for i, v in enumerate(tape.ins[n]) if v in tape.active}
        place = f"where what is before {values.label(cut)} is computed again"
        yield Edit(kind, what, place, changes, linear=False)


def from_other_tape(what: str, slot: Slot) -> Change:
    """The change that the inputs of the step on another tape make."""
    n, _ = slot

    def change(tape: Tape, D: Cotangents, part: np.ndarray) -> np.ndarray:
        return back(tape, slot, D(tape.outs[n][0]), tape.others[what].steps[n].inputs) - part

    return change
