"""Which value on a tape is which function of which other, entry by entry; and the derivative of that function."""

import itertools
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from jaxnn.verify.arithmetic import primitives
from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.diagnosis.functions import Entrywise, unchanged, values_at, which
from jaxnn.verify.tracing.tape import Tape

BRANCHES = {"max", "min", "clamp"}
LONGEST = 40  # equations of one function, at most: an iteration has no end of them


class Composite(NamedTuple):
    """value = f(root), entry by entry, by these steps; name: of f, a known function, or ""."""

    value: int
    root: int
    steps: list[int]
    name: str = ""

    def derivative(
        self, tape: Tape, z: np.ndarray, constant: Entrywise = unchanged, truth: Entrywise | None = None
    ) -> np.ndarray:
        """f′(z). constant(c) stands in the place of each array c in f that does not depend on the root, truth(t) in
        the place of each array t of truth values by which f decides."""
        dual: dict[int, tuple[np.ndarray, np.ndarray]] = {self.root: (z, np.ones(np.shape(z)))}
        for n in self.steps:
            ins, out = tape.ins[n], tape.outs[n][0]
            inputs = [dual[v][0] if v in dual else constant(tape.values[v]) for v in ins]
            y, slope = tape.again(n, inputs), np.zeros(())
            if out in tape.active:
                for i in [i for i, v in enumerate(ins) if v in dual and v in tape.active]:
                    partial = tape.partial(n, i, inputs)
                    if truth and tape.steps[n].name in BRANCHES:
                        partial = np.asarray(truth(partial > 0), float)
                    slope = slope + partial * dual[ins[i]][1]
            elif truth:
                y = truth(y)
            dual[out] = y, slope
        return dual[self.value][1]

    def slope(self, tape: Tape) -> np.ndarray:
        """f′(root)."""
        if self.value not in tape.slopes:
            tape.slopes[self.value] = self.derivative(tape, tape.values[self.root])
        return tape.slopes[self.value]

    def entry(self, tape: Tape) -> tuple[int, int]:
        """(step, input) where the root enters."""
        n = next(n for n in self.steps if self.root in tape.ins[n])
        return n, tape.ins[n].index(self.root)


def composites_of(tape: Tape, maker: dict[int, int]) -> dict[int, Composite]:
    """Every value that is a function of one other, entry by entry: of the input of a known function, else of the value
    that is furthest back. maker: the step of each value."""
    whole: dict[int, Composite] = {}  # as far back as there is one root
    out: dict[int, Composite] = {}
    functions = cache(lambda z: values_at(np.asarray(tape.values[z])))
    for n, (step, ins) in enumerate(zip(tape.steps, tape.ins, strict=True)):
        roots = {out[v].root for v in ins if v in out}
        if step.name not in primitives.ELEMENTWISE or tape.active.isdisjoint({*ins, *roots}):
            continue
        composite = furthest(tape, n, whole)
        if composite:
            whole[composite.value] = composite
            out[composite.value] = known_part(tape, composite, out, maker, functions)
    return out


def furthest(tape: Tape, n: int, whole: dict[int, Composite]) -> Composite | None:
    """What step n makes as a function of the value that is furthest back; None if it depends on two,
    or is too long."""
    out = tape.outs[n][0]
    sources = [v for v in tape.ins[n] if v in tape.active or v in whole]
    roots = {whole[v].root if v in whole else v for v in sources}
    if len(roots) > 1 or any(np.shape(tape.values[v]) != np.shape(tape.values[out]) for v in sources):
        return None
    steps = {n}.union(*(whole[v].steps for v in sources if v in whole))
    return Composite(out, roots.pop(), sorted(steps)) if len(steps) <= LONGEST else None


def known_part(
    tape: Tape,
    composite: Composite,
    before: dict[int, Composite],
    maker: dict[int, int],
    functions: Callable[[int], dict[str, np.ndarray]],
) -> Composite:
    """The part of the composite that is a known function; the composite itself if there is none. functions:
    `values_at` a value."""
    value, root, steps, _ = composite
    if not is_float(tape.values[value]):
        return composite
    between = [tape.outs[n][0] for n in steps[-2::-1]]  # the nearest first, up to another known function
    between = list(itertools.takewhile(lambda v: not before[v].name, between))
    for z in [root, *between]:
        name = which(tape.values[z], np.asarray(tape.values[value]), functions(z))
        if name:
            return Composite(value, z, [n for n in steps if n > maker.get(z, -1)], name)
    return composite
