"""What somebody puts in the place of the derivative of a function of one value, entry by entry."""

import itertools
from collections.abc import Hashable, Iterator
from typing import NamedTuple

import numpy as np

from jaxnn.verify.diagnosis.composites import Composite
from jaxnn.verify.diagnosis.edit import Change, Cotangents, Equation, Operand, Tagged, cotangent, value
from jaxnn.verify.diagnosis.functions import KNOWN, Entrywise, unchanged
from jaxnn.verify.diagnosis.mistakes import Mistake
from jaxnn.verify.diagnosis.one_equation import SIDES
from jaxnn.verify.diagnosis.values import is_guard, is_mask
from jaxnn.verify.tracing.tape import Tape


class Slope(NamedTuple):
    """What stands in the place of f′(z), for a = f(z) and D = ∂J/∂a. what: "" stands for the function."""

    kind: Mistake
    tags: list[Hashable]
    slope: Operand
    other: str = ""
    what: str = ""
    of_cotangent: Entrywise = unchanged  # what stands in the place of D is this function of it


def of_composite(equation: Equation) -> Iterator[Tagged]:
    """Other derivatives than the right one, of the result of an equation that is a function of one value."""
    tape, values, f = equation.tape, equation.values, equation.values.composites[equation.out]
    right = f.slope(tape)
    if np.ndim(tape.values[f.root]) == 0 or not np.ptp(right) > 1e-9 * np.abs(right).max():
        return
    place = f"of {values.names[f.root]}" if f.root in values.names else f"at {equation.place}"
    what = f"{f.name or 'the function'} {place}"
    for slope in itertools.chain(
        powers(f),
        other_arguments(f),
        other_functions(equation, f),
        values_for_slopes(f),
        other_layers(equation, f),
        other_cotangents(f),
        other_constants(equation, f),
        other_branches(equation, f),
    ):
        changes = {f.entry(tape): with_slope(f, slope.slope, slope.of_cotangent)}
        yield Tagged(slope.tags, equation.edit(slope.kind, changes, slope.what or what, other=slope.other))


def with_slope(f: Composite, slope: Operand, of_cotangent: Entrywise) -> Change:
    """The change that another slope makes, and another cotangent; 0 where the slope is not finite."""

    def change(tape: Tape, D: Cotangents, part: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            wrong = slope(tape, D)
        return of_cotangent(D(f.value)) * np.where(np.isfinite(wrong), wrong, 0) - D(f.value) * f.slope(tape)

    return change


def powers(f: Composite) -> Iterator[Slope]:
    """1 and f′(z)²."""
    yield Slope(Mistake.MISSING_ACTIVATION_DERIVATIVE, ["1"], value(f.value, np.ones_like))
    yield Slope(Mistake.EXTRA_ACTIVATION_DERIVATIVE, ["f′²"], lambda tape, D: f.slope(tape) ** 2)


def other_arguments(f: Composite) -> Iterator[Slope]:
    """f′(a), and the formula of a taken of z."""
    kind = Mistake.DERIVATIVE_AT_ACTIVATION
    yield Slope(kind, ["f′(a)"], derivative_at(f, f.value), "at its output instead of its input")
    if f.name:
        of_input = value(f.root, KNOWN[f.name].formula)
        yield Slope(kind, ["formula(z)"], of_input, "by the formula for its output, but of its input")


def other_functions(equation: Equation, f: Composite) -> Iterator[Slope]:
    """g′(z), and the formula of a for the derivative of g, for other functions g."""
    kind = Mistake.DERIVATIVE_OF_OTHER_FUNCTION
    for name in equation.values.functions:
        if name != f.name:
            g, other = KNOWN[name], f"the derivative of {name}"
            yield Slope(kind, [name], value(f.root, g.slope), other)
            yield Slope(kind, [f"{name}(a)"], value(f.value, g.formula), f"{other}, in terms of the output,")


def values_for_slopes(f: Composite) -> Iterator[Slope]:
    """a, 2a and z."""
    kind = Mistake.DERIVATIVE_OF_OTHER_FUNCTION
    yield Slope(kind, ["a"], value(f.value), "the output")
    yield Slope(kind, ["2a"], value(f.value, lambda a: 2 * a), "twice the output")
    yield Slope(kind, ["z"], value(f.root), "the input")


def other_layers(equation: Equation, f: Composite) -> Iterator[Slope]:
    """f′ and the formula at other values, and the slopes of other known functions."""
    tape, values, n = equation.tape, equation.values, equation.n
    if not f.name:
        return
    formula = KNOWN[f.name].formula
    kind = Mistake.STALE_RESIDUAL if f.name == "exp" else Mistake.DERIVATIVE_OF_OTHER_LAYER
    for w in equation.alternatives(f.root):
        if not np.array_equal(tape.values[w], equation.result):
            label, tags = values.label(w), values.tags(w, n)
            yield Slope(kind, [(tag, "f′") for tag in tags], derivative_at(f, w), label)
            other = f"{label}, as if that were its output"
            yield Slope(kind, [(tag, "formula") for tag in tags], value(w, formula), other)
    shape = np.shape(tape.values[f.root])
    for w, g in values.composites.items():
        if g.name not in ("", f.name) and np.shape(tape.values[w]) == shape and values.maker[w] not in f.steps:
            tags = [(tag, "other") for tag in values.tags(w, n)]
            yield Slope(
                Mistake.DERIVATIVE_OF_OTHER_LAYER, tags, slope_of(g), f"{values.label(g.root)}, and of {g.name}"
            )


def other_cotangents(f: Composite) -> Iterator[Slope]:
    """1 and D² for D; the formula and f′ of D instead of a and z."""
    yield Slope(Mistake.IGNORED_COTANGENT, ["1"], slope_of(f), of_cotangent=np.ones_like)
    kind = Mistake.NONLINEAR_IN_COTANGENT
    yield Slope(kind, ["D²"], slope_of(f), of_cotangent=np.square)
    if f.name:
        yield Slope(kind, ["formula(D)"], cotangent(f.value, KNOWN[f.name].formula))
        yield Slope(kind, ["f′(D)"], derivative_at_cotangent(f))


def other_constants(equation: Equation, f: Composite) -> Iterator[Slope]:
    """f′ without the guards in f, and without the masks."""
    tape, values = equation.tape, equation.values
    operands = dict.fromkeys(itertools.chain.from_iterable(tape.ins[n] for n in f.steps))
    for v in [v for v in operands if v not in tape.active and v not in values.composites]:
        x = tape.values[v]
        if is_guard(x):
            yield Slope(
                Mistake.GUARD_IGNORED, ["guard"], derivative_at(f, f.root, guards_as_zeros), what=f"{float(x):g}"
            )
        if is_mask(x):
            what = values.names.get(v) or f"at {equation.place}"
            yield Slope(Mistake.WRONG_MASK, ["mask"], derivative_at(f, f.root, masks_as_ones), what=what)


def other_branches(equation: Equation, f: Composite) -> Iterator[Slope]:
    """f′ on other sides of the decision in f."""
    values = equation.values
    if (f.name and not KNOWN[f.name].kinked) or not values.decides(f):
        return
    label = values.label(f.root)
    sides = SIDES
    if (
        f.name and KNOWN[f.name].dies
    ):  # 1 everywhere: in a layer its missing derivative (see `powers`), in a loss a wrong mask
        sides = (np.ones_like, np.logical_not) if f.value in values.in_loss else (np.logical_not,)
    for side in sides:
        yield Slope(Mistake.WRONG_MASK, [side], on_side(f, side), what=f"1 where {label} is on its side")
        if not f.name:
            other = "the derivative of its other branch"
            yield Slope(Mistake.DERIVATIVE_OF_OTHER_FUNCTION, [side], on_side(f, side), other)
    if f.name:
        yield Slope(Mistake.WRONG_MASK, ["D"], derivative_at_cotangent(f), what=f"1 where {label} > 0")


def slope_of(f: Composite) -> Operand:
    """f′ at its root."""
    return lambda tape, D: f.slope(tape)


def derivative_at(f: Composite, v: int, constant: Entrywise = unchanged) -> Operand:
    """f′ at a value; `constant` as in `Composite.derivative`."""
    return lambda tape, D: f.derivative(tape, tape.values[v], constant)


def derivative_at_cotangent(f: Composite) -> Operand:
    """f′ at the cotangent of its value."""
    return lambda tape, D: f.derivative(tape, D(f.value))


def on_side(f: Composite, truth: Entrywise) -> Operand:
    """f′ at its root; `truth` as in `Composite.derivative`."""
    return lambda tape, D: f.derivative(tape, tape.values[f.root], truth=truth)


def guards_as_zeros(x: np.ndarray) -> np.ndarray:
    """0 for a guard."""
    return np.zeros(()) if is_guard(x) else x


def masks_as_ones(x: np.ndarray) -> np.ndarray:
    """Ones for a mask."""
    return np.ones_like(x) if is_mask(x) else x
