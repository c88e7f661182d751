"""What a kernel does that is not defined: a result that depends on what nobody wrote, a store beyond a ref's end."""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from jaxnn.verify.arithmetic.balls import Balls, is_balls
from jaxnn.verify.arithmetic.evaluation import Step
from jaxnn.verify.arithmetic.refs import Origin, Undefined, Why
from jaxnn.verify.arithmetic.rules import Value
from jaxnn.verify.evidence.branches import used


class UndefinedEntry(ArithmeticError):
    """A result depends on an entry that nobody wrote, or a kernel writes where nothing is. The message says where."""

    def __init__(self, origin: Origin, place: str):
        self.origin = origin
        super().__init__(in_words(origin, place))


def check_defined(steps: Sequence[Step], outputs: Iterable[Balls]) -> None:
    """UndefinedEntry if an output depends on one, or a kernel wrote to one. What is no number is followed back to where
    it came up, entry by entry."""
    for step in steps:
        if step.name == "stray write":
            raise UndefinedEntry(step.params["origin"], step.place)
    entries = chain.from_iterable(leaf.flat for leaf in outputs)
    live = {id(v) for v in entries if v.is_nan()}
    for step in reversed(steps) if live else ():
        masks = [among(live, v) for v in step.outputs]
        if not any(mask.any() for mask in masks):
            continue
        for v in step.outputs[0].flat if step.name == "get" else ():
            if isinstance(v, Undefined) and id(v) in live:
                raise UndefinedEntry(v.origin, step.place)
        alike = step._replace(name="add") if step.name == "mul" else step  # `used` leaves out what is times 0
        for v, mask in zip(step.inputs, used(alike, masks), strict=True) if step.name != "get" else ():
            if is_balls(v):
                live |= {id(x) for x in v[np.broadcast_to(mask, v.shape)] if x.is_nan()}


def among(live: set[int], v: Value) -> np.ndarray:
    """Which entries of a value are these objects."""
    if not is_balls(v):
        return np.zeros((), bool)
    return np.array([id(x) in live for x in v.flat], bool).reshape(v.shape)


def in_words(origin: Origin, place: str) -> str:
    """What a kernel reads that is undefined, or does not write."""
    entry, block, step = (list(map(int, v or ())) for v in (origin.entry, origin.block, origin.step))
    who = f"the kernel {origin.kernel}"
    if origin.step is None:
        return f"{who} leaves {origin.ref} unwritten at {entry}"
    part = f" of the block that begins at {block}" if block else ""
    where = f"at {entry}{part}{f', grid step {step}' if step else ''}"
    if origin.why == Why.ASTRAY:
        return f"{who} writes {origin.ref} beyond its end, {where} ({place})"
    return f"{who} reads {origin.ref} {origin.why.value}, {where}, and the result depends on it ({place})"
