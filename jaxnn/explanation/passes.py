"""A forward pass and its backward pass by hand as equations, with names for their values, and as lines.

This is the engine of what has no formulas of its own: a user's cost and gradient, a layer, a loss. The equations are
those on the tape; the names come from whoever knows them.
"""

from collections.abc import Callable, Container, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.explanation.formulas import Formulas
from jaxnn.explanation.lines import Line
from jaxnn.explanation.names import Names, without_primes
from jaxnn.protocols import PyTree
from jaxnn.verify import FAIL
from jaxnn.verify.arguments import Problem
from jaxnn.verify.evidence.comparison import Comparison
from jaxnn.verify.tracing.tape import Record, Tape

Floats = Sequence[np.ndarray]


class Passes:
    """Both passes of a problem, as a comparison has them."""

    def __init__(self, problem: Problem, comparison: Comparison) -> None:
        self.comparison = comparison
        self.free = list(comparison.free(problem))  # the float leaves that are inputs
        self.differentiated = problem.arguments.differentiated

    def __call__(self, floats: Floats) -> tuple[Tape, Record]:
        """(the forward pass to J, the rule) at these float leaves."""
        with jax.enable_x64(True), np.errstate(all="ignore"):
            inputs = [floats[i] for i in self.free]
            asked = [self.free.index(i) for i in self.differentiated]
            hand, scalar = self.comparison.jaxprs
            return Tape(scalar, inputs, asked, {}), Record(hand, inputs)


def equations(tape: Tape, back: Record) -> tuple[PyTree, PyTree]:
    """What is computed of what; the same at two points unless the code takes another way there."""
    return tape.outs, back.outs


class Place(NamedTuple):
    """Both passes at some point, and what was seen of their code there."""

    tape: Tape
    back: Record
    seen: PyTree


def general_place(passes: Passes, floats: Floats, here: tuple[Tape, Record], look: Callable[[Floats], PyTree]) -> Place:
    """The `Place` where names are found: where no values are equal by accident, as of biases that are zero.

    That is next to the floats, in those that are differentiated, unless the code takes another way there: then it is
    here, at the floats. look(floats): what sees the variables.
    """
    rng = np.random.default_rng(0)
    near = [v + rng.uniform(1e-3, 2e-3, v.shape) if i in passes.differentiated else v for i, v in enumerate(floats)]
    try:
        tape, back = passes(near)
        if equations(tape, back) != equations(*here) or not np.isfinite(tape.values[tape.J]):
            raise ValueError
        return Place(tape, back, look(near))
    except Exception:  # the code may not bear other floats at all
        return Place(*here, look(floats))


def forward_lines(
    tape: Tape, symbols: dict[int, str], given: str = "given", hidden: Container[int] = ()
) -> Iterator[Line]:
    """A line for every value with a symbol that is not hidden, in the order in which they are computed; given: the
    formula of inputs."""
    formulas = Formulas(tape, symbols)
    for v in sorted(v for v in symbols if v not in hidden):
        formula = given if v in tape.inputs else formulas.formula(v)
        yield Line(symbols[v], formula, np.asarray(tape.values[v]))


def backward_lines(
    tape: Tape, back: Record, names: Names, *, leaves: Sequence[str], others: str, has_faults: bool
) -> Iterator[Line]:
    """The lines of the backward pass as the rule computes it, in its order.

    leaves: the verdict of each derivative that was asked for; others: that of every other ∂J/∂v that the rule computes;
    has_faults: whether the variables dv that are no ∂J/∂v are wrong, and FAIL.
    """
    _, known, again, is_right, wrong = names
    faults = wrong if has_faults else []
    asked: dict[int, list[int]] = {}
    for k, dv in enumerate(back.results[: len(tape.asked)]):
        asked.setdefault(dv, []).append(k)
    own = known.keys() - again
    formulas = Formulas(back, known)
    for v in sorted(own | asked.keys() | {v for v, _ in faults}):
        fault_names = [name for u, name in faults if u == v]
        headings = [(f"∂J/∂{names.forward[tape.asked[k]]}", leaves[k]) for k in asked.get(v, ())]
        if not headings and without_primes(known[v]) in fault_names:
            headings, fault_names = [(known[v], FAIL)], []
        elif not headings and v not in again:
            headings = [(known[v], others if v in is_right else "")]
        local, local_value = local_derivative(back, formulas, v, known, own)
        formula = known[v] if v in again else formulas.formula(v)
        value = np.asarray(back.values[v])
        for symbol, verdict in headings:
            yield Line(symbol, formula, value, local, local_value, verdict)
        for name in fault_names:
            yield Line(name, symbol_of(headings, known[v]), value, verdict=FAIL)


def symbol_of(headings: list[tuple[str, str]], name: str) -> str:
    """What a value that has been shown is called: by its first heading, if it has one."""
    return headings[0][0] if headings else name


def local_derivative(
    back: Record, formulas: Formulas, v: int, known: dict[int, str], cotangents: set[int]
) -> tuple[str, np.ndarray | None]:
    """(the formula of what v is the product of with a cotangent, "" if it is none; its value, unless it has a name)."""
    factor = formulas.local(v, cotangents)
    if factor is None:
        return "", None
    formula, number = factor
    return formula, None if number in known else np.asarray(back.values[number])
