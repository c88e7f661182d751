"""What mistakes in the gradient of a loss change on the way back: in dz = c (P − Y), for a prediction P of z and a
target Y.
"""

import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxnn.verify.diagnosis.edit import Cotangents, Equation, Operand, Tagged
from jaxnn.verify.diagnosis.functions import Entrywise, softmax, unchanged
from jaxnn.verify.diagnosis.mistakes import Mistake
from jaxnn.verify.tracing.floats import logistic
from jaxnn.verify.tracing.tape import Tape

OnTape = Callable[[Tape], np.ndarray]


class Prediction(NamedTuple):
    """A possible P. kind: of the mistake to take it for the right one."""

    name: str
    f: Entrywise
    kind: Mistake = Mistake.DERIVATIVE_OF_OTHER_FUNCTION


class Target(NamedTuple):
    """A possible Y. value: its number on the tape, if it has one."""

    name: str
    array: OnTape
    value: int | None = None


class Residual(NamedTuple):
    """P − Y of a loss, and for what P may be mistaken."""

    prediction: Prediction
    target: Target
    others: list[Prediction]


class Wrong(NamedTuple):
    """What stands in the place of P and Y; the rest are fields of `Tagged` and `Edit`."""

    kind: Mistake
    tags: Sequence[Hashable]
    prediction: OnTape
    target: OnTape
    what: str
    other: str = ""


def of_loss(equation: Equation) -> Iterator[Tagged]:
    """The gradient of another loss: another prediction, or another target. z is the result of the equation."""
    given = [v for v in equation.values.candidates if v not in equation.tape.active]
    given = [v for v in given if np.shape(equation.tape.values[v]) == np.shape(equation.result)]
    residual = residual_of(equation, given)
    if residual is None:
        return
    for wrong in itertools.chain(
        other_predictions(equation, residual),
        other_scores(equation, residual),
        values_for_predictions(equation, residual),
        shifted_targets(equation, residual),
        other_targets(equation, residual, given),
    ):
        cotangent = with_residual(equation.out, residual, wrong)
        edit = equation.edit_with_cotangent(wrong.kind, cotangent, wrong.what, other=wrong.other)
        yield Tagged(wrong.tags, edit)


def with_residual(z: int, residual: Residual, wrong: Wrong) -> Operand:
    """The cotangent of z with the wrong P − Y in the place of the right one; 0 where that is 0."""
    prediction, target, _ = residual

    def cotangent(tape: Tape, D: Cotangents) -> np.ndarray:
        right = prediction.f(tape.values[z]) - target.array(tape)
        return D(z) / np.where(right == 0, np.inf, right) * (wrong.prediction(tape) - wrong.target(tape))

    return cotangent


# The right P − Y


def residual_of(equation: Equation, given: list[int]) -> Residual | None:
    """The P − Y whose multiple the true dz is; None if it is none. given: the values that Y may be."""
    z, dz = equation.result, equation.tape.true[equation.out]
    for axis in (-1, -2) if np.ndim(z) > 1 else (-1,):  # of the classes: the last, or the first of columns
        right, mistaken = predictions(z, axis)
        for prediction, target in itertools.product(right, targets(equation, given, axis)):
            if is_multiple(dz, prediction.f(z) - target.array(equation.tape), axis):
                return Residual(prediction, target, [p for p in right + mistaken if p is not prediction])
    return None


def predictions(z: np.ndarray, axis: int) -> tuple[list[Prediction], list[Prediction]]:
    """What P may be, and what is mistaken for it."""
    right = [Prediction("the sigmoid", logistic), Prediction("the value itself", unchanged)]
    right.append(Prediction("the tanh", np.tanh))
    if np.ndim(z) < 2:
        return right, []
    right.append(Prediction("the softmax", lambda z: softmax(z, axis)))
    other_axis = 0 if axis != -np.ndim(z) else -1
    across = Prediction("the softmax over the other axis", lambda z: softmax(z, other_axis), Mistake.WRONG_AXIS)
    largest = Prediction("the largest alone", lambda z: (z == z.max(axis, keepdims=True)).astype(float))
    return right, [across, largest]


def targets(equation: Equation, given: list[int], axis: int) -> list[Target]:
    """What Y may be: a value, zeros as for log Σ exp, or classes that are no array of the cost."""
    out, z = equation.out, equation.result
    possible = [Target(equation.values.label(v), at(v), v) for v in given]
    possible.append(Target("nothing", lambda tape: np.zeros(np.shape(z))))
    if np.ndim(z) > 1 and are_classes(classes(equation.tape, out, axis), axis):
        possible.append(Target("the target", lambda tape: np.round(classes(tape, out, axis))))
    return possible


def classes(tape: Tape, z: int, axis: int) -> np.ndarray:
    """Y of dz = c (P − Y) for P = softmax(z), with a number c for each example, if Y is 0 for most classes."""
    D, P = tape.true[z], softmax(tape.values[z], axis)
    with np.errstate(all="ignore"):
        c = np.median(D / P, axis, keepdims=True)
        return P - D / c


def are_classes(Y: np.ndarray, axis: int) -> bool:
    """Whether there is one 1 among the classes of each example, and 0 for the others."""
    whole = bool(np.isfinite(Y).all()) and np.allclose(Y, np.round(Y), 0, 1e-9)
    return whole and bool((np.round(Y).sum(axis) == 1).all())


def is_multiple(D: np.ndarray, residual: np.ndarray, axis: int) -> bool:
    """Whether D is the residual, times a number for each example, or for each entry of a mask."""
    with np.errstate(all="ignore"):
        c = D / residual
    if not np.isfinite(c).all():
        return False
    spread = np.ptp(c, axis=axis) if np.ndim(c) else 0.0
    return np.max(spread) <= 1e-9 * np.abs(c).max() or len(np.unique(np.round(c / np.abs(c).max(), 9))) <= 2


# What is mistaken for it


def other_predictions(equation: Equation, residual: Residual) -> Iterator[Wrong]:
    """Another function of z for P."""
    what = f"{residual.prediction.name} of {equation.values.label(equation.out)}"
    for name, f, kind in residual.others:
        yield Wrong(kind, [name], at(equation.out, f), residual.target.array, what, name)


def other_scores(equation: Equation, residual: Residual) -> Iterator[Wrong]:
    """P of z without one of its terms, and P of that term alone."""
    values, z = equation.values, equation.out
    (_, P, _), Y = residual.prediction, residual.target.array
    what = f"{values.label(z)}, in the gradient of the loss,"
    for w in values.terms(z):
        tags = values.tags(w, equation.n)
        other = f"{values.label(z)} without {values.label(w)}"
        yield Wrong(Mistake.STALE_RESIDUAL, tags, without_term(z, w, P), Y, what, other)
        if np.shape(equation.tape.values[w]) == np.shape(equation.result):
            yield Wrong(Mistake.STALE_RESIDUAL, [("alone", tag) for tag in tags], at(w, P), Y, what, values.label(w))


def values_for_predictions(equation: Equation, residual: Residual) -> Iterator[Wrong]:
    """Another value for P, one row for all examples included."""
    values, n, z = equation.values, equation.n, equation.out
    shape = np.shape(equation.result)
    others = values.alternatives(shape, z, n)
    if len(shape) > 1:
        others += values.alternatives(shape[-1:], z, n)
    what = f"{residual.prediction.name} of {values.label(z)}"
    for w in others:
        tags = [("P", tag) for tag in values.tags(w, n)]
        yield Wrong(Mistake.STALE_RESIDUAL, tags, at(w), residual.target.array, what, values.label(w))


def shifted_targets(equation: Equation, residual: Residual) -> Iterator[Wrong]:
    """Y, shifted by one along an axis: around, or with zeros for what comes in."""
    P, Y = at(equation.out, residual.prediction.f), residual.target
    for axis, by in itertools.product(range(np.ndim(equation.result)), (1, -1)):
        yield Wrong(Mistake.SHIFTED_LABELS, [(axis, by, "around")], P, rolled(Y.array, by, axis), Y.name)
        yield Wrong(Mistake.SHIFTED_LABELS, [(axis, by, "zeros")], P, moved(Y.array, by, axis), Y.name)


def other_targets(equation: Equation, residual: Residual, given: list[int]) -> Iterator[Wrong]:
    """Another value for Y; that of another visit of a loop is one that is shifted."""
    values, (name, _, y) = equation.values, residual.target
    P = at(equation.out, residual.prediction.f)
    if y is None:
        return
    for w in [w for w in given if w != y]:
        kind = Mistake.SHIFTED_LABELS if values.of_two_visits(w, y) else Mistake.STALE_RESIDUAL
        yield Wrong(kind, values.tags(w, equation.n), P, at(w), name, values.label(w))


def at(v: int, f: Entrywise = unchanged) -> OnTape:
    """f of a value."""
    return lambda tape: f(tape.values[v])


def without_term(v: int, w: int, f: Entrywise) -> OnTape:
    """f of a value without one of its terms."""
    return lambda tape: f(tape.values[v] - tape.values[w])


def rolled(array: OnTape, by: int, axis: int) -> OnTape:
    """An array, shifted along an axis; what goes out comes in at the other end."""
    return lambda tape: np.roll(array(tape), by, axis)


def moved(array: OnTape, by: int, axis: int) -> OnTape:
    """An array, shifted along an axis; zeros come in."""

    def on_tape(tape: Tape) -> np.ndarray:
        x = array(tape)
        index = np.arange(x.shape[axis]) - by
        inside = (index >= 0) & (index < x.shape[axis])
        return np.where(inside.reshape([-1 if k == axis else 1 for k in range(x.ndim)]), np.roll(x, by, axis), 0)

    return on_tape
