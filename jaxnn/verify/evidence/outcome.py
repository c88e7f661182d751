"""What is found at one point, and of what."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

import flint
import numpy as np
from flint import arb
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.verify.arguments import Problem, sums_to_one
from jaxnn.verify.arithmetic.balls import Balls, enter, finite, magnitude, midpoints, wrap
from jaxnn.verify.arithmetic.decisions import Undecided
from jaxnn.verify.arithmetic.evaluation import PRECISIONS, Evaluation
from jaxnn.verify.evidence.branches import Sides
from jaxnn.verify.evidence.comparison import Comparison
from jaxnn.verify.evidence.judge import Allowed, Judgement, State, judge, judgements, scales
from jaxnn.verify.evidence.kinks import Pairs
from jaxnn.verify.evidence.points import Kind
from jaxnn.verify.evidence.terms import terms
from jaxnn.verify.options import Options
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, Evidence, Verdict

Rounded = tuple[str, ...]  # which of "literals", "inputs" stand for the reals within half an ulp
ROUNDINGS: tuple[Rounded, ...] = ((), ("literals",), ("literals", "inputs"))
ENOUGH = 3200  # bits, at which what is still not finite is taken to be so


class Check(NamedTuple):
    """What is asked, and how. deadline: in seconds of `time.process_time`."""

    problem: Problem
    comparison: Comparison
    options: Options
    deadline: float


class Iterations(Enum):
    """What is known of the iterations at a point where a rule differs from the truth as they end."""

    CONVERGE = auto()  # to where it is known whether the rule is right
    BY_VALUES = auto()  # the same, and their derivatives do not converge to the slope of the values, as in a bisection
    DO_NOT_CONVERGE = auto()
    UNKNOWN = auto()  # flags hold them, or there was no time


@dataclass(frozen=True)
class Outcome:
    """What was found at one point.

    undefined: the truth is not finite there, or cannot be computed. jump: the value jumps there, so that there is no
    derivative, and the point decides nothing. blind: the derivative is 0 in every entry on both sides, though it
    depends on the arguments. by_limit: the truth is what the derivatives come to beside the point. iterations: None
    where nothing is asked of them."""

    kind: Kind
    verdict: Verdict
    reason: str
    judged: tuple[Judgement, ...] = ()
    sides: Sides = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    evidence: Evidence = Evidence.EXACT
    floats: tuple[np.ndarray, ...] = ()
    rounded: Rounded = ()
    undefined: bool = False
    jump: bool = False
    blind: bool = False
    by_limit: bool = False
    iterations: Iterations | None = None

    @property
    def digits(self) -> float:
        return min((j.digits for j in self.judged), default=math.nan)

    @property
    def has_cancelled(self) -> bool:
        """Whether an entry is neither right nor wrong."""
        return any(j.has(State.CANCELLED) for j in self.judged)


@dataclass(frozen=True)
class Judged:
    """Both sides at one precision, and what it says of every leaf."""

    ev: Evaluation
    balls: list[Balls]
    hand: list[Balls]
    true: list[Balls]
    ties: Pairs  # of the truth
    at_tie: bool  # whether the derivative may jump here
    judged: tuple[Judgement, ...]
    allowed: Allowed

    @property
    def verdicts(self) -> set[Verdict]:
        return {j.verdict for j in self.judged}

    @property
    def is_right(self) -> bool:
        """Whether the rule agrees with autodiff."""
        return FAIL not in self.verdicts

    @property
    def is_final(self) -> bool:
        """Whether no other precision can say anything else. Where all is 0 as far as is known, another may see more."""
        if FAIL in self.verdicts:
            return True
        shows = any(j.has(State.RIGHT) or j.has(State.CANCELLED) or j.is_blind for j in self.judged)
        return INCONCLUSIVE not in self.verdicts and (shows or self.ev.precision >= ENOUGH)

    @property
    def width(self) -> float:
        """The largest radius; infinite if a number is not finite."""
        width = 0.0
        for leaf in (*self.hand, *self.true):
            radii = [float(v.rad()) if v.is_finite() else math.inf for v in leaf.flat]
            width = max([width, *radii])
        return width


class Infinite(NamedTuple):
    """At one precision, the cost or the truth is not finite. where: in words."""

    where: str
    hand: list[Balls]
    true: list[Balls]
    allowed: Allowed


def judge_all(
    comparison: Comparison, ev: Evaluation, hand: list[Balls], true: list[Balls], allowed: Allowed
) -> tuple[Judgement, ...]:
    """A judgement of each leaf. Its terms are looked for only where an entry is not right; those of NumPy code are not
    known."""
    judged = judgements(hand, true, allowed)
    if comparison.numpy or comparison.differenced:
        return tuple(j._replace(apart=False) for j in judged)  # a difference is a little off by itself
    if all(j.is_plain for j in judged):
        return judged
    sizes = terms(ev.steps, [*hand, *true])
    either = map(larger, sizes[: len(hand)], sizes[len(hand) :])
    by_leaf = zip(hand, true, scales(true), either, strict=True)
    return tuple(judge(h, t, scale, allowed, terms_) for h, t, scale, terms_ in by_leaf)


def larger(a: Balls, b: Balls) -> Balls:
    """The larger one of each pair of entries."""
    return wrap(np.frompyfunc(arb.max, 2, 1)(a, b))


def is_float64(leaf: Balls) -> bool:
    """Whether a leaf is known as well as float64 can say: to its digits, or to be nearer to 0 than it reaches."""
    enough = 2.0**-60 * magnitude(leaf) + arb(2) ** -1140
    return finite(leaf) and all(v.rad() <= enough for v in leaf.flat)


def true_floats(comparison: Comparison, floats: Sequence[np.ndarray], deadline: float = math.inf) -> list[np.ndarray]:
    """The truth as the nearest floats. Undecided if no precision decides."""
    true: list[Balls] | None = None
    for precision in PRECISIONS:
        ev = Evaluation(precision, deadline=deadline)
        try:
            with flint.ctx.workprec(precision):
                true = comparison.truth(ev, [enter(v) for v in floats])
        except Undecided:
            continue
        if all(map(is_float64, true)) or precision >= ENOUGH:
            break
    if true is None:
        raise Undecided("no precision decides between values that are too close")
    return [midpoints(v) for v in true]


def entered(ev: Evaluation, floats: Sequence[np.ndarray], problem: Problem) -> list[Balls]:
    """The inputs of an evaluation: exactly what they are; except what was rounded, given distributions, and arguments
    that no float brings into their domain, such as unit vectors."""
    if "inputs" not in ev.rounded:
        return [ev.noted(enter(v)) for v in floats]
    drawn = {*problem.redrawable, *problem.cotangents}
    balls = [ev.noted(enter(v, i not in drawn and sums_to_one(v))) for i, v in enumerate(floats)]
    with flint.ctx.workprec(ev.precision):
        for i, domain in problem.domains.items():
            balls[i] = domain.onto(balls[i])
    return balls


def unit_of_inputs(problem: Problem) -> float:
    """How far given distributions are rounded; 0 if there are none."""
    return max((eps(v.dtype) for v in problem.arguments.floats if sums_to_one(v)), default=0.0)


def unit_of_domains(problem: Problem) -> float:
    """How far arguments are rounded that lie in a domain of fewer dimensions; 0 if none does."""
    units = [eps(problem.arguments.dtypes[i]) for i, domain in problem.domains.items() if not domain.is_open]
    return max(units, default=0.0)


def eps(dtype: DTypeLike) -> float:
    return float(jnp.finfo(dtype).eps)
