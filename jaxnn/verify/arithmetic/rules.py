"""Ways to make a rule of a function. A rule: (evaluation, params, place, *inputs) -> the output, or a list of them."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from flint import arb, arb_mat
from jax.extend.core import ClosedJaxpr, Jaxpr

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic.decisions import Logic, Place, Ties, Undecided, codes, logic

EqnParams = dict[str, PyTree]  # of an equation, as its primitive has them
Value = PyTree  # `Balls`, `Truths`, an array of integers, or one of keys, as JAX has them
Rule = Callable[..., Value | list[Value]]  # of (Evaluator, EqnParams, Place, *Value)


class Evaluator(Protocol):
    """The `Evaluation` (evaluation.py) that runs a rule, as far as rules use it."""

    ties: Ties
    matrices: dict[tuple, arb_mat]
    memory: PyTree  # the class of refs
    order: PyTree  # of a kernel's grid
    program: list[tuple[int, int]]
    runs_on: int
    deadline: float

    def enter(self, v: PyTree) -> Value: ...

    def run(self, jaxpr: Jaxpr, consts: Sequence[Value], inputs: Sequence[Value]) -> list[Value]: ...

    def entry(self, x: Value, t: int) -> Value: ...

    def stack(self, values: list[Value]) -> Value: ...

    def known_nans(self, *values: Value) -> np.ndarray: ...

    def choose(self, which: Value, no: Value, yes: Value) -> Value: ...

    def note_decision(self, v: Value) -> None: ...

    def note(self, name: str, inputs: list[Value], outputs: list[Value], **params: PyTree) -> None: ...

    def check_time(self, seconds: float, what: str) -> None: ...


def each_entry(f: Callable[[arb], arb]) -> Rule:
    """f of one ball as a rule: on every entry of an array."""
    g = np.frompyfunc(f, 1, 1)
    return lambda ev, params, place, x: g(x)


def each_pair(f: Callable[[arb, arb], arb]) -> Rule:
    """f of two balls as a rule: on every pair of entries of two arrays."""
    g = np.frompyfunc(f, 2, 1)
    return lambda ev, params, place, x, y: g(x, y)


def of_arrays(f: Callable[..., Value]) -> Rule:
    """f of arrays as a rule, which needs no parameters."""
    return lambda ev, params, place, *inputs: f(*inputs)


def on_balls(rule: Rule) -> Rule:
    """A rule that asks for numbers: Undecided if an input has unknown truth values."""

    def guarded(ev: Evaluator, params: EqnParams, place: Place, *inputs: Value) -> Value | list[Value]:
        if any(isinstance(v, Logic) for v in inputs):
            raise Undecided
        return rule(ev, params, place, *inputs)

    return guarded


def on_entries(rule: Rule) -> Rule:
    """A rule that only moves entries, for unknown truth values as well: it moves their codes."""

    def moving(ev: Evaluator, params: EqnParams, place: Place, *inputs: Value) -> Value | list[Value]:
        if not any(isinstance(v, Logic) for v in inputs):
            return rule(ev, params, place, *inputs)
        entries = [codes(v).astype(object) if isinstance(v, Logic) or v.dtype == bool else v for v in inputs]
        out = rule(ev, params, place, *entries)
        return [logic(v) for v in out] if isinstance(out, list) else logic(out)

    return moving


def on_truths(three_valued: Callable[..., Value], ufunc: np.ufunc) -> Rule:
    """A rule of logic: `three_valued` if an input has unknown truth values, NumPy's `ufunc` if all are known."""

    def rule(ev: Evaluator, params: EqnParams, place: Place, *inputs: Value) -> Value:
        return three_valued(*inputs) if any(isinstance(v, Logic) for v in inputs) else ufunc(*inputs)

    return rule


def open_jaxpr(ev: Evaluator, jaxpr: ClosedJaxpr | Jaxpr) -> tuple[Jaxpr, list[Value]]:
    """(the jaxpr itself, its constants as the evaluation enters them); a jaxpr that is not closed has none."""
    if isinstance(jaxpr, ClosedJaxpr):
        return jaxpr.jaxpr, [ev.enter(c) for c in jaxpr.consts]
    return jaxpr, []
