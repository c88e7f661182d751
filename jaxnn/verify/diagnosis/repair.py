"""What would make a wrong rule right: at one equation of it, another value in the place of an operand, or one factor or
one summand more. For mistakes that are none of the known ones.
"""

import collections
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jax.extend.core import ClosedJaxpr

from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.diagnosis.mistakes import Mistake, Words, operation
from jaxnn.verify.tracing.tape import Record

EQUATIONS = {"add", "sub", "mul", "div", "dot_general", "reduce_sum"}
OTHERS = 24  # values that may have been meant
EVALUATIONS = 60_000  # of equations, at most

Compute = Callable[[list[np.ndarray]], np.ndarray]  # what an equation makes of its inputs
Rewrite = Callable[[Compute, list[np.ndarray]], np.ndarray]  # (the equation, inputs): what is made instead


class Repair(NamedTuple):
    """A change of one equation of the rule. kind, words: of the mistake that it would mend."""

    kind: Mistake
    words: Words
    steps: list[int]  # of the equation, which in a loop is several
    inputs: list[list[int]]  # of each step: the values that it takes now
    rewrite: Rewrite


def repairs(
    hand: ClosedJaxpr,
    inputs: Sequence[Sequence[np.ndarray]],
    is_right: Callable[[list[np.ndarray], int], bool],
    names: Sequence[str],
) -> Iterator[Repair]:
    """Each change of one equation of the rule, a jaxpr, that makes it right.

    inputs: its inputs, of these names, at each point; is_right(results, point): whether its results are right there."""
    first, *others = records = [Record(hand, values, unused=True) for values in inputs]
    if any((other.ins, other.outs) != (first.ins, first.outs) for other in others):
        return
    with np.errstate(all="ignore"):
        for repair in RuleRecord(first, names).repairs():
            if first.evaluations > EVALUATIONS:
                return
            if all(is_right(repaired(record, repair), k) for k, record in enumerate(records)):
                yield repair


def repaired(record: Record, repair: Repair) -> list[np.ndarray]:
    """The results of the rule with a repair."""
    pairs = zip(repair.steps, repair.inputs, strict=True)
    return record.results_with({n: (rewritten(record, n, repair.rewrite), inputs) for n, inputs in pairs})


def rewritten(record: Record, n: int, rewrite: Rewrite) -> Compute:
    """What step n makes of its inputs, if it is rewritten."""
    return lambda inputs: rewrite(lambda inputs: record.again(n, inputs), inputs)


class RuleRecord:
    """A rule as the record of its equations at one point; names: of its inputs."""

    def __init__(self, record: Record, names: Sequence[str]) -> None:
        self.record = record
        self.names = dict(zip(record.inputs, names, strict=True))
        self.equations: dict[int, list[int]] = collections.defaultdict(list)  # their steps
        for n, step in enumerate(record.steps):
            self.equations[id(step.eqn) if step.eqn else n].append(n)
        self.equation: dict[int, list[int]] = {}  # by which each value is made: its steps
        for steps in self.equations.values():
            for n in steps:
                self.equation |= dict.fromkeys(record.outs[n], steps)

    def label(self, v: int) -> str:
        """What a value is called; "" for a number."""
        shape = np.shape(self.record.values[v])
        return self.names.get(v) or self.record.label(v) or (f"the array of shape {shape}" if shape else "")

    def repairs(self) -> Iterator[Repair]:
        """Every change of one equation that may be a repair."""
        for steps in self.equations.values():
            step = self.record.steps[steps[-1]]
            if step.name in EQUATIONS and is_float(step.outputs[0]):
                for i in range(len(step.inputs)):
                    yield from self.other_operands(steps, i)
                (out,) = self.record.outs[steps[-1]]
                yield from self.one_more(steps, out)
                if step.name == "reduce_sum":
                    yield from self.factors_of_summands(steps)

    def others(self, v: int, steps: list[int]) -> Iterator[tuple[int, list[int]]]:
        """Every other array of the shape of v that is there before the equation: (value, its value at each step)."""
        values = self.record.values
        x = np.asarray(values[v])
        contents = {x.tobytes()}
        (out,) = self.record.outs[steps[-1]]
        for w in range(out - 1, -1, -1):
            y = np.asarray(values[w])
            is_new = y.shape == x.shape and is_float(y) and y.tobytes() not in contents
            if is_new and self.label(w) and (y.size == 1 or np.ptp(y) > 0):
                contents.add(y.tobytes())
                makers = self.equation.get(w, [])
                beside = len(makers) == len(steps)  # in the same loop
                yield w, [self.record.outs[n][0] for n in makers] if beside else [w] * len(steps)

    def other_operands(self, steps: list[int], i: int) -> Iterator[Repair]:
        """Another value in the place of input i."""
        v = self.record.ins[steps[-1]][i]
        what = self.label(v)
        if not what:
            return
        for w, each in itertools.islice(self.others(v, steps), OTHERS):
            kind = Mistake.OTHER_LEAF if {v, w} <= {*self.record.inputs} else Mistake.STALE_RESIDUAL
            inputs = [list(self.record.ins[n]) for n in steps]
            for operands, value in zip(inputs, each, strict=True):
                operands[i] = value
            if self.label(w) != what:
                yield Repair(kind, {"what": self.label(w), "other": what}, steps, inputs, as_it_is)

    def one_more(self, steps: list[int], out: int) -> Iterator[Repair]:
        """Another value as one more factor, or one more summand, of the result."""
        for w, inputs in self.with_one_more(out, steps):
            yield Repair(Mistake.WRONG_MASK, self.words(w, steps), steps, inputs, times_last)
            yield Repair(Mistake.PATH_LEFT_OUT, self.words(w, steps), steps, inputs, plus_last)

    def factors_of_summands(self, steps: list[int]) -> Iterator[Repair]:
        """Another value as one more factor of what is summed."""
        for w, inputs in self.with_one_more(self.record.ins[steps[-1]][0], steps):
            yield Repair(Mistake.WRONG_MASK, self.words(w, steps), steps, inputs, of_product)

    def with_one_more(self, v: int, steps: list[int]) -> Iterator[tuple[int, list[list[int]]]]:
        """Every value that may stand beside v: (value, the inputs of each step with it at their end)."""
        for w, each in itertools.islice(self.others(v, steps), OTHERS):
            yield w, [[*self.record.ins[n], value] for n, value in zip(steps, each, strict=True)]

    def words(self, w: int, steps: list[int]) -> Words:
        """The words for a factor or a summand that is missing at an equation."""
        step = self.record.steps[steps[-1]]
        return {"what": self.label(w), "place": step.place, "other": operation(step.name)}


def as_it_is(equation: Compute, inputs: list[np.ndarray]) -> np.ndarray:
    """The equation itself."""
    return equation(inputs)


def times_last(equation: Compute, inputs: list[np.ndarray]) -> np.ndarray:
    """The result of the equation times one more input."""
    return equation(inputs[:-1]) * inputs[-1]


def plus_last(equation: Compute, inputs: list[np.ndarray]) -> np.ndarray:
    """The result of the equation plus one more input."""
    return equation(inputs[:-1]) + inputs[-1]


def of_product(equation: Compute, inputs: list[np.ndarray]) -> np.ndarray:
    """What the equation makes of its input times one more input."""
    return equation([inputs[0] * inputs[1]])
