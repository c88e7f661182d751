"""What a mistake at one equation changes on the way back through it.

An `Edit` adds to what goes back to the inputs; the gradient that comes out is that of somebody who made the mistake.
"""

from collections.abc import Hashable, Iterator

import numpy as np

from jaxnn.verify.diagnosis.edit import (
    Change,
    Cotangents,
    Equation,
    Operand,
    Part,
    Slot,
    Tagged,
    back,
    cotangent,
    value,
    with_cotangent,
    with_input,
)
from jaxnn.verify.diagnosis.functions import KNOWN, Entrywise, softmax, unchanged
from jaxnn.verify.diagnosis.mistakes import Mistake, operation
from jaxnn.verify.tracing.tape import Tape

EXAMPLES = 24  # of up to so many each one has an edit
SIDES: tuple[Entrywise, ...] = (np.ones_like, np.zeros_like, np.logical_not)  # everywhere, nowhere, on the other side


def paths(equation: Equation) -> Iterator[Tagged]:
    """All that goes back to each input, weighed anew."""
    values, n = equation.values, equation.n
    for i in equation.active:
        v = equation.inputs[i]
        slots = [(n, j) for j in equation.active if equation.inputs[j] == v] if equation.name == "mul" else [(n, i)]
        if (n, i) != slots[0]:
            continue  # the other factor of a square
        tags: list[Hashable] = [("path", i)]
        if v in values.maker and v not in values.moves:
            tags.append(("path", i, "carried"))
        changes: dict[Slot, Change] = dict.fromkeys(slots, once_more)
        edit = equation.edit(Part.PATH, changes, values.label(v), operation(equation.name), amounts=())
        yield Tagged(tags, edit._replace(penalty=values.is_penalty(n, v)))


def once_more(tape: Tape, D: Cotangents, part: np.ndarray) -> np.ndarray:
    """The change that doubles a part."""
    return part


# Another cotangent


def stale_cotangents(equation: Equation, i: int) -> Iterator[Tagged]:
    """Other cotangents than that of the result: one from before it, or of another layer."""
    tape, values, n, out = equation.tape, equation.values, equation.n, equation.out
    v = equation.inputs[i]
    others = [w for w in equation.alternatives(out) if w in tape.true]
    equal = {w: np.allclose(tape.true[w], tape.true[out], 1e-9, 1e-300) for w in others}
    roots = {w: values.composites[w].root for w in others if w in values.composites}
    later = [w for w, root in roots.items() if equal.get(root, root == out)]  # da for dz, where a = f(z)
    if v not in values.moves and equation.name != "dot_general":
        others = later
    for w in [w for w in others if not equal[w]]:
        kind, what = Mistake.STALE_RESIDUAL, f"d({values.label(out)}), on the way to d({values.label(v)}),"
        if w in later:
            kind, what = Mistake.MISSING_ACTIVATION_DERIVATIVE, values.label(w)
        operand = cotangent(w) if values.maker.get(w, -1) > n else true_cotangent(w)
        edit = equation.edit(kind, {(n, i): with_cotangent((n, i), operand)}, what, other=f"d({values.label(w)})")
        yield Tagged([(i, "D", tag) for tag in values.tags(w, n)], edit)


def true_cotangent(v: int) -> Operand:
    """The cotangent of a value that is not reached yet on this way back."""
    return lambda tape, D: tape.true[v]


def transposes(equation: Equation) -> Iterator[Tagged]:
    """A square cotangent, or a result, transposed."""
    values, n, out = equation.values, equation.n, equation.out
    shape = np.shape(equation.result)
    for i in equation.active:
        v = equation.inputs[i]
        x = np.shape(equation.tape.values[v])
        if len(shape) == 2 and shape[0] == shape[1]:
            change = with_cotangent((n, i), cotangent(out, np.transpose))
            what = f"d({values.label(out)}), where d({values.label(v)}) is taken from it,"
            yield Tagged([(i, "D.T")], equation.edit(Mistake.TRANSPOSE, {(n, i): change}, what))
        if len(x) == 2:
            what = f"what comes back to d({values.label(v)})" + (", but reshaped," if x[0] != x[1] else "")
            yield Tagged([(i, "part.T")], equation.edit(Mistake.TRANSPOSE, {(n, i): transposed_part}, what))


def transposed_part(tape: Tape, D: Cotangents, part: np.ndarray) -> np.ndarray:
    """The change that transposes a part, in its shape."""
    return part.T.reshape(part.shape) - part


def terms(equation: Equation, inputs: list[int], x: np.ndarray, examples: int | None) -> Iterator[Tagged]:
    """One example, or one position, of what goes back to these inputs; x: the array whose axes are meant."""
    n = equation.n
    for axis, size in enumerate(x.shape):
        is_position = x.ndim > 2 and axis < x.ndim - 1
        if not 1 < size <= EXAMPLES or not (size == examples or is_position):
            continue
        part = Part.EXAMPLE if size == examples else Part.POSITION
        for k in range(size):
            only = np.reshape(np.arange(size) == k, [size if a == axis else 1 for a in range(x.ndim)])
            changes = {(n, i): one_term(equation, i, only) for i in inputs}
            yield Tagged([], equation.edit(part, changes)._replace(group=(n, axis)))


def one_term(equation: Equation, i: int, only: np.ndarray) -> Change:
    """The change that doubles what goes back from the part `only` of the result; of a sum, to that part of what is
    summed."""
    slot, out = (equation.n, i), equation.out
    summed = equation.tape.values[equation.inputs[0]]
    of_summands = equation.name == "reduce_sum" and np.ndim(only) == np.ndim(summed)

    def change(tape: Tape, D: Cotangents, part: np.ndarray) -> np.ndarray:
        return back(tape, slot, D(out)) * only if of_summands else back(tape, slot, D(out) * only)

    return change


# Choices


def choices(equation: Equation) -> Iterator[Tagged]:
    """Other truth values than those that chose between two arrays."""
    n, out, truth = equation.n, equation.out, equation.inputs[0]
    what = f"of where {equation.values.label(out)} is which"
    wrong = [(Mistake.WRONG_MASK, value(truth, side)) for side in SIDES]
    wrong.append((Mistake.WRONG_MASK, cotangent(out, is_positive)))
    wrong.append((Mistake.DERIVATIVE_AT_ACTIVATION, value(out, is_positive)))
    for tag, (kind, operand) in enumerate(wrong):
        changes = {(n, i): with_input((n, i), 0, operand) for i in equation.active}
        yield Tagged([tag], equation.edit(kind, changes, what, other="taken from the result"))


def is_positive(x: np.ndarray) -> np.ndarray:
    """Whether each entry is greater than 0."""
    return x > 0


def largest(equation: Equation) -> Iterator[Tagged]:
    """Others than the largest get what goes back."""
    (v,), out, n = equation.inputs, equation.out, equation.n
    axes = equation.tape.steps[n].params["axes"]
    size = np.prod([np.shape(equation.tape.values[v])[k] for k in axes])

    def weighed(weights: Entrywise, of_cotangent: Entrywise = unchanged) -> dict[Slot, Change]:
        def change(tape: Tape, D: Cotangents, part: np.ndarray) -> np.ndarray:
            x = tape.values[v]
            is_largest = x == x.max(axes, keepdims=True)
            return np.expand_dims(of_cotangent(D(out)), axes) * weights(is_largest) - part

        return {(n, 0): change}

    what = f"1 where {equation.values.label(v)} is the largest"
    mean = weighed(lambda is_largest: np.full(is_largest.shape, 1 / size))
    yield Tagged(["all"], equation.edit(Mistake.WRONG_MASK, weighed(np.ones_like), what))
    yield Tagged(["others"], equation.edit(Mistake.WRONG_MASK, weighed(np.logical_not), what))
    yield Tagged(
        ["mean"], equation.edit(Mistake.DERIVATIVE_OF_OTHER_FUNCTION, mean, what, other="the derivative of a mean")
    )
    what = f"the largest of {equation.values.label(v)}"
    yield Tagged(["1"], equation.edit(Mistake.IGNORED_COTANGENT, weighed(unchanged, np.ones_like), what))


# A derivative too many


def extra(equation: Equation) -> Iterator[Tagged]:
    """A derivative that does not belong to a value, and a cotangent that is no factor."""
    values, out, kind = equation.values, equation.out, Mistake.EXTRA_ACTIVATION_DERIVATIVE
    label = values.label(out)
    axes = {-1: "a softmax", 0: "a softmax over the first axis"} if np.ndim(equation.result) > 1 else {}
    slopes: dict[str, Entrywise] = {f"a {name}": KNOWN[name].slope for name in values.functions}
    slopes |= {f"a {name} with that as its output": KNOWN[name].formula for name in values.functions}
    slopes |= {name: softmax_diagonal(axis) for axis, name in axes.items()}
    for name, slope in slopes.items():
        yield Tagged([name], equation.edit_with_cotangent(kind, times(out, value(out, slope)), f"{name}, of {label},"))
    for axis, name in axes.items():
        edit = equation.edit_with_cotangent(kind, through_softmax(out, axis), f"{name}, of {label},")
        yield Tagged([f"J {axis}"], edit)
    for w in equation.alternatives(out):
        if w in values.composites and values.composites[w].root == out:
            what = f"{values.label(w)}, as a factor of d({label}),"
            edit = equation.edit_with_cotangent(kind, times(out, value(w)), what)
            yield Tagged(values.tags(w, equation.n), edit)
    ones, square = cotangent(out, np.ones_like), cotangent(out, np.square)
    yield Tagged(["1"], equation.edit_with_cotangent(Mistake.IGNORED_COTANGENT, ones, label))
    yield Tagged(["D²"], equation.edit_with_cotangent(Mistake.NONLINEAR_IN_COTANGENT, square))


def times(v: int, factor: Operand) -> Operand:
    """The cotangent of a value, times a factor."""
    return lambda tape, D: D(v) * factor(tape, D)


def softmax_diagonal(axis: int) -> Entrywise:
    """∂Pᵢ/∂zᵢ = Pᵢ (1 − Pᵢ) of P = softmax(z)."""
    return lambda z: softmax(z, axis) * (1 - softmax(z, axis))


def through_softmax(v: int, axis: int) -> Operand:
    """The cotangent of z, a value, as if it were that of P = softmax(z): P (D − Σ P D)."""

    def operand(tape: Tape, D: Cotangents) -> np.ndarray:
        P = softmax(tape.values[v], axis)
        return P * (D(v) - (P * D(v)).sum(axis, keepdims=True))

    return operand
