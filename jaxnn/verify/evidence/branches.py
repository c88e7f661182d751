"""Which sides of every decision were seen, and reached an output.

Between kinks both formulas are analytic: agreement at one generic point settles them for this side of every decision.
A side that was never seen, or whose value another select threw away, is not settled.
"""

import operator
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic import primitives
from jaxnn.verify.arithmetic.balls import Balls, is_balls
from jaxnn.verify.arithmetic.decisions import Logic, codes
from jaxnn.verify.arithmetic.evaluation import Step
from jaxnn.verify.arithmetic.moves import MOVES
from jaxnn.verify.reports.findings import Branch

POSSIBLE = {
    **dict.fromkeys(("gt", "ge", "lt", "le", "eq", "ne"), ("true", "false")),
    **dict.fromkeys(("max", "min"), ("first", "second")),
    "clamp": ("below", "inside", "above"),
    "abs": ("negative", "positive"),
    "sign": ("negative", "positive"),
    "direction": ("opposite", "mixed"),  # in which a tie was left, see singular.py
}
SPECIAL = {"eq", "ne"}
POSITIVE = {"exp", "exp2", "logistic", "abs", "square", "cosh", "erfc", "sqrt", "rsqrt"}
KEEPS_SIGN = {
    *("add", "add_any", "mul", "div", "max", "min", "pow", "integer_pow", "reduce_sum", "reduce_max", "reduce_min"),
    *("cumsum", "select_n", "convert_element_type", "loop stack", "loop entry", "log1p", *MOVES),
}
PLACED = {"pad", "gather", "dynamic_slice", "dynamic_update_slice"}  # moves whose inputs are not entries alone
OPEN = -1  # not decided, or a tie

same_object = np.frompyfunc(operator.is_, 2, 1)
Mask = np.ndarray  # of truths: which entries of a value are used


class Side(NamedTuple):
    """One side of a decision. possible: False if no numbers whatever could take it."""

    name: str
    possible: bool = True


Site = tuple[str, str]  # (place, kind) of a decision
Sides = dict[Site, set[Side]]  # that were seen, or are known to be impossible


def seen(steps: Sequence[Step], inputs: Iterable[PyTree], outputs: Iterable[PyTree]) -> Sides:
    """The sides of the decisions that depend on the inputs, and whose entry is used for an output."""
    inputs = list(inputs)
    ours, never = dependent(steps, inputs), impossible(steps, inputs)
    live: dict[int, Mask] = {id(v): np.ones(v.shape, bool) for v in outputs}
    sides: Sides = defaultdict(set)
    for n, step in reversed(list(enumerate(steps))):
        if step.name == "control":
            live |= {id(v): np.ones(np.shape(v), bool) for v in step.inputs}
            continue
        masks = [live.get(id(v)) for v in step.outputs]
        if not any(mask is not None and mask.any() for mask in masks):
            continue
        if n in ours and step.name in POSSIBLE and any(map(is_balls, step.inputs)):
            numbers = side_of(step)
            if numbers is not None:
                names = [POSSIBLE[step.name][k] for k in np.unique(numbers[masks[0]]) if k != OPEN]
                sides[step.place, step.name] |= {*map(Side, names), *never.get(n, ())}
        for v, mask in zip(step.inputs, used(step, masks), strict=True):
            if hasattr(v, "shape"):
                live[id(v)] = live.get(id(v), np.zeros((), bool)) | mask
    return sides


def dependent(steps: Sequence[Step], inputs: Iterable[PyTree]) -> set[int]:
    """Which steps, by number, compute with values that depend on these inputs."""
    touched, numbers = set(map(id, inputs)), set()
    for n, step in enumerate(steps):
        if any(id(v) in touched for v in step.inputs):
            numbers.add(n)
            touched.update(map(id, step.outputs))
    return numbers


def impossible(steps: Sequence[Step], inputs: Iterable[PyTree]) -> dict[int, set[Side]]:
    """{step: the side that it never takes} of decisions on a number that cannot be negative: a sum of squares, of
    exponentials."""
    touched: set[int] = set(map(id, inputs))
    sure: dict[int, bool] = {}
    never: dict[int, set[Side]] = {}

    def positive(v: PyTree) -> bool:
        if id(v) not in touched and is_balls(v):
            return all(x >= 0 for x in v.flat)
        return sure.get(id(v), False)

    for n, step in enumerate(steps):
        touched.update(map(id, step.outputs) if any(id(v) in touched for v in step.inputs) else ())
        signs = [positive(v) for v in step.inputs]
        even = step.name == "integer_pow" and step.params["y"] % 2 == 0
        square = step.name == "mul" and step.inputs[0] is step.inputs[1]
        kept = step.name in KEEPS_SIGN and all(signs[1:] if step.name == "select_n" else signs)
        for v in step.outputs:
            sure[id(v)] = step.name in POSITIVE or even or square or kept or (step.name == "max" and any(signs))
        if step.name in ("abs", "sign") and signs[0]:
            never[n] = {Side("negative", possible=False)}
        elif step.name in ("gt", "ge", "lt", "le") and all(map(is_balls, step.inputs)):
            _, y = step.inputs
            if signs[0] and id(y) not in touched and all(v <= 0 for v in y.flat):
                never[n] = {Side("false" if step.name in ("gt", "ge") else "true", possible=False)}
    return never


def side_of(step: Step) -> np.ndarray | None:
    """The number of the side in POSSIBLE for every entry of the output, OPEN if it is not known; None if infinity alone
    decides."""
    if step.name in ("abs", "sign"):
        (x,) = step.inputs
        positive, zero = np.asarray(x > 0, bool), np.asarray(x == 0, bool)
        return np.select([positive, zero], [1, OPEN], 0)
    if step.name in ("max", "min"):
        a, b = np.broadcast_arrays(*step.inputs)
        if is_infinite(a) or is_infinite(b):
            return None
        first, second = (np.asarray(same_object(step.outputs[0], v), bool) for v in (a, b))
        return np.select([first == second, first], [OPEN, 0], 1)
    if step.name == "clamp":
        low, v, high = np.broadcast_arrays(*step.inputs)
        return np.select([np.asarray(v < low, bool), np.asarray(v > high, bool)], [0, 2], 1)
    truths = codes(step.outputs[0])
    return np.select([truths == 1, truths == 0], [0, 1], OPEN)


def is_infinite(balls: Balls) -> bool:
    """Whether no entry is finite."""
    return not any(v.is_finite() for v in balls.flat)


def used(step: Step, masks: Sequence[Mask | None]) -> list[Mask]:
    """For every input, which entries the used entries of the outputs came from; all if that is not followed.

    masks: of the outputs; None for one of which nothing is used.
    """
    name, inputs = step.name, step.inputs
    mask = masks[0] if masks[0] is not None else np.zeros((), bool)
    if name == "loop stack":
        return list(mask)
    if name == "loop entry":
        whole = np.zeros(inputs[0].shape, bool)
        whole[step.params["t"]] = mask
        return [whole]
    if name == "select_n" and not any(isinstance(v, Logic) for v in inputs):
        return used_by_select(mask, *inputs)
    if name == "mul" and all(map(is_balls, inputs)):
        x, y = inputs
        return [folded(mask & ~is_zero(y), x), folded(mask & ~is_zero(x), y)]
    if name in primitives.ELEMENTWISE:
        return [folded(mask, v) for v in inputs]
    if name in MOVES and name not in PLACED and len(masks) == 1 and all(map(is_balls, inputs)):
        return used_by_move(step, mask)
    return [np.ones(getattr(v, "shape", ()), bool) for v in inputs]


def used_by_select(mask: Mask, which: np.ndarray, *cases: np.ndarray) -> list[Mask]:
    """`which` is used where the cases are not one and the same; a case is used where it was selected."""
    matters = np.zeros(mask.shape, bool)
    for case in cases[1:]:
        matters |= ~np.asarray(same_object(cases[0], case), bool)
    return [folded(mask & matters, which), *(folded(mask & (which == k), case) for k, case in enumerate(cases))]


def used_by_move(step: Step, mask: Mask) -> list[Mask]:
    """The entries that are moved to where the mask is True: their numbers are moved in the same way."""
    numbers, size = [], 0
    for v in step.inputs:
        numbers.append(np.arange(size, size + v.size).reshape(v.shape))
        size += v.size
    is_used = np.zeros(size, bool)
    moved = MOVES[step.name](None, step.params, 0, *numbers)
    is_used[(moved[0] if isinstance(moved, list) else moved)[mask]] = True
    return [is_used[n] for n in numbers]


def is_zero(balls: Balls) -> Mask:
    """Which entries are exactly 0."""
    return np.asarray(np.frompyfunc(lambda v: v.is_zero(), 1, 1)(balls), bool)


def folded(mask: Mask, v: np.ndarray) -> Mask:
    """The mask on the shape of an input that was broadcast: an entry is used if one of its copies is."""
    if mask.shape == v.shape:
        return mask
    new_axes = tuple(range(mask.ndim - len(v.shape)))
    mask = np.asarray(mask.any(new_axes)) if new_axes else mask
    if mask.shape == v.shape:
        return mask
    return np.asarray(mask.any(tuple(i for i, n in enumerate(v.shape) if n == 1), keepdims=True))


def table(sides: Mapping[Site, set[Side]]) -> tuple[Branch, ...]:
    """A `Branch` for every decision."""
    return tuple(
        Branch(
            place=place,
            kind=kind,
            seen=tuple(name for name in POSSIBLE[kind] if Side(name) in known),
            unseen=tuple(name for name in POSSIBLE[kind] if not known & {Side(name), Side(name, possible=False)}),
            special=kind in SPECIAL,
        )
        for (place, kind), known in sorted(sides.items())
    )
