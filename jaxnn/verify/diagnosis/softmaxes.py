"""What the derivative of a softmax A = softmax(z), dz = A (dA − Σ A dA), is mistaken for."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from jaxnn.verify.diagnosis.edit import Change, Cotangents, Equation, Slot, Tagged, reaches_cost
from jaxnn.verify.diagnosis.functions import softmax
from jaxnn.verify.diagnosis.mistakes import Mistake
from jaxnn.verify.tracing.tape import Tape


class WrongSoftmax(NamedTuple):
    """What stands in the place of dz, a function of A and dA; other: what is said to stand there."""

    kind: Mistake
    dz: Callable[[np.ndarray, np.ndarray], np.ndarray]
    other: str = ""


def of_softmax(equation: Equation) -> Iterator[Tagged]:
    """What the derivative of a softmax, whose last equation this is, is mistaken for."""
    slot_and_axis = softmax_entry(equation)
    if slot_and_axis is None:
        return
    slot, axis = slot_and_axis
    what = f"the softmax of {equation.values.label(equation.tape.ins[slot[0]][slot[1]])}"
    for tag, wrong in enumerate(wrong_softmaxes(axis, np.ndim(equation.result))):
        changes = {slot: with_softmax(equation.out, axis, wrong)}
        yield Tagged([tag], equation.edit(wrong.kind, changes, what, other=wrong.other))


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


def wrong_softmaxes(axis: int, ndim: int) -> Iterator[WrongSoftmax]:
    """What is mistaken for dz."""
    sigmoid = "A(1 − A), the derivative of a sigmoid,"
    yield WrongSoftmax(Mistake.MISSING_ACTIVATION_DERIVATIVE, lambda A, D: D)
    yield WrongSoftmax(Mistake.DERIVATIVE_OF_OTHER_FUNCTION, lambda A, D: A * (1 - A) * D, sigmoid)
    yield WrongSoftmax(Mistake.PATH_LEFT_OUT, lambda A, D: A * D, "its sum")
    sum_alone = "the sum of the cotangents alone"
    yield WrongSoftmax(Mistake.STALE_RESIDUAL, lambda A, D: A * (D - D.sum(axis, keepdims=True)), sum_alone)
    yield WrongSoftmax(Mistake.STALE_RESIDUAL, lambda A, D: D - (A * D).sum(axis, keepdims=True), "1")
    for other in range(-ndim, 0):
        if other != axis:
            yield WrongSoftmax(Mistake.WRONG_AXIS, summed_over(other))


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
