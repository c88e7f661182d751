"""Which sides of every decision were seen, and reached an output.

Between kinks both formulas are analytic: agreement at one generic point settles them for this side of every decision.
A side that was never seen, or whose value another select threw away, is not settled.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic import primitives
from jaxnn.verify.arithmetic.balls import is_balls
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
}
SPECIAL = {"eq", "ne"}
POSITIVE = {"exp", "exp2", "logistic", "abs", "square", "cosh", "erfc", "sqrt", "rsqrt"}
KEEPS_SIGN = {
    *("add", "add_any", "mul", "div", "max", "min", "pow", "integer_pow", "reduce_sum", "reduce_max", "reduce_min"),
    *("cumsum", "select_n", "convert_element_type", "loop stack", "loop entry", "log1p", *MOVES),
}
OPEN = -1  # not decided, or a tie


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
    live = {id(v): np.ones(v.shape, bool) for v in outputs}
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
                met = [k for k in np.unique(numbers[masks[0]]) if k != OPEN]
                sides[step.place, step.name] |= {Side(POSSIBLE[step.name][k]) for k in met} | never.get(n, set())
        for v, mask in zip(step.inputs, used(step, masks), strict=True):
            if hasattr(v, "shape"):
                live[id(v)] = live.get(id(v), False) | mask
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
    """The number of the side in POSSIBLE for every entry of the output; None if infinity alone decides."""
    name, x = step.name, step.inputs
    out = step.outputs[0]
    if name in ("abs", "sign"):
        return np.asarray(x[0] > 0, int) - np.asarray(x[0] == 0, int)
    if name in ("max", "min"):
        a, b = np.broadcast_arrays(*x)
        if any(all(not v.is_finite() for v in side.flat) for side in (a, b)):
            return None
        ours = np.frompyfunc(lambda o, v: o is v, 2, 1)
        first, second = np.asarray(ours(out, a), bool), np.asarray(ours(out, b), bool)
        return np.where(first == second, OPEN, np.where(first, 0, 1))
    if name == "clamp":
        low, v, high = np.broadcast_arrays(*x)
        return np.where(np.asarray(v < low, bool), 0, np.where(np.asarray(v > high, bool), 2, 1))
    true = codes(out)
    return np.select([true == 1, true == 0], [0, 1], OPEN)


def used(step: Step, masks: Sequence[PyTree]) -> list[np.ndarray]:
    """For every input, which entries the live entries of the output came from; all if that is not followed."""
    name, inputs = step.name, step.inputs
    if name == "loop stack":
        return list(masks[0])
    if name == "loop entry":
        whole = np.zeros(inputs[0].shape, bool)
        whole[step.params["t"]] = masks[0]
        return [whole]
    mask = masks[0] if masks[0] is not None else np.zeros((), bool)
    if name == "select_n" and not any(isinstance(v, Logic) for v in inputs):
        which, *cases = inputs
        matters = np.zeros(mask.shape, bool)
        for case in cases[1:]:
            matters |= np.asarray(np.frompyfunc(lambda a, b: a is not b, 2, 1)(cases[0], case), bool)
        return [folded(mask & matters, which), *(folded(mask & (which == k), case) for k, case in enumerate(cases))]
    if name == "mul" and all(map(is_balls, inputs)):
        zero = [np.asarray(np.frompyfunc(lambda v: v.is_zero(), 1, 1)(v), bool) for v in inputs]
        return [folded(mask & ~zero[1], inputs[0]), folded(mask & ~zero[0], inputs[1])]
    if name in primitives.ELEMENTWISE:
        return [folded(mask, v) for v in inputs]
    if name in MOVES and len(masks) == 1 and all(map(is_balls, inputs)):
        ids, offset = [], 0
        for v in inputs:
            ids.append(np.arange(offset, offset + v.size).reshape(v.shape))
            offset += v.size
        flat = np.zeros(offset, bool)
        if name not in ("pad", "gather", "dynamic_slice", "dynamic_update_slice"):
            flat[MOVES[name](None, step.params, 0, *ids)[mask]] = True
            return [flat[i] for i in ids]
    return [np.ones(getattr(v, "shape", ()), bool) for v in inputs]


def folded(mask: PyTree, v: np.ndarray) -> np.ndarray:
    """The mask on the shape of an input that was broadcast."""
    if np.shape(mask) == v.shape:
        return mask
    extra = tuple(range(mask.ndim - len(v.shape)))
    mask = mask.any(extra) if extra else mask
    return mask.any(tuple(i for i, n in enumerate(v.shape) if n == 1), keepdims=True) if mask.shape != v.shape else mask


def table(sides: Mapping[Site, set[Side]]) -> tuple[Branch, ...]:
    """A `Branch` for every decision."""
    return tuple(
        Branch(
            place,
            kind,
            tuple(name for name in POSSIBLE[kind] if Side(name) in known),
            tuple(name for name in POSSIBLE[kind] if not known & {Side(name), Side(name, possible=False)}),
            kind in SPECIAL,
        )
        for (place, kind), known in sorted(sides.items())
    )
