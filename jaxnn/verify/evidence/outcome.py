"""What is found at one point: both sides in ball arithmetic, more precise until every entry is decided."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import NamedTuple

import flint
import numpy as np
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.verify.arguments import Problem, sums_to_one
from jaxnn.verify.arithmetic.balls import Balls, enter, finite, is_balls, midpoints
from jaxnn.verify.arithmetic.decisions import Ties, Undecided
from jaxnn.verify.arithmetic.evaluation import PRECISIONS, Evaluation, Step
from jaxnn.verify.evidence import branches
from jaxnn.verify.evidence.branches import Side, Sides
from jaxnn.verify.evidence.comparison import Comparison
from jaxnn.verify.evidence.judge import DIGITS, UNDEFINED, Judgement, Why, judge, scales
from jaxnn.verify.evidence.kinks import Explained, Pairs, choice, kinks
from jaxnn.verify.evidence.points import Kind
from jaxnn.verify.options import Options
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS, Evidence, Verdict

Rounded = tuple[str, ...]  # which of "literals", "inputs" stand for the reals within half an ulp
ROUNDINGS: tuple[Rounded, ...] = ((), ("literals",), ("literals", "inputs"))
ENOUGH = 3200  # bits, at which what is still not finite is taken to be so


class Check(NamedTuple):
    """What is asked, and how. deadline: in seconds of `time.monotonic`."""

    problem: Problem
    comparison: Comparison
    options: Options
    deadline: float


class Iterations(Enum):
    """What is known of the iterations at a point where a rule differs from the truth as they end."""

    CONVERGE = auto()  # to where the rule and the truth agree
    DO_NOT_CONVERGE = auto()


@dataclass(frozen=True)
class Outcome:
    """What was found at one point. undefined: the truth is not finite there. iterations: None where nothing is asked of
    them."""

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
    iterations: Iterations | None = None

    @property
    def digits(self) -> float:
        return min((j.digits for j in self.judged), default=math.nan)


@dataclass(frozen=True)
class Judged:
    """Both sides at one precision, and what it says of every leaf."""

    ev: Evaluation
    balls: list[Balls]
    hand: list[Balls]
    true: list[Balls]
    ties: Pairs  # of the truth
    judged: tuple[Judgement, ...]
    digits: float  # that were asked for

    @property
    def verdicts(self) -> set[Verdict]:
        return {j.verdict for j in self.judged}

    @property
    def is_final(self) -> bool:
        """Whether no other precision can say anything else."""
        return FAIL in self.verdicts or INCONCLUSIVE not in self.verdicts

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


def outcome_by_balls(kind: Kind, check: Check, floats: Sequence[np.ndarray], roundings: Sequence[Rounded]) -> Outcome:
    """The `Outcome` with all constants exact; if that is FAIL, with literals, then also inputs, as the reals they were
    rounded from. FAIL only if all of them are.

    1/3 and 0.1 are no floats, and rows such as .1 .2 .7 sum to 1 up to rounding alone."""
    wrong: Outcome | None = None
    for rounded in roundings:
        if wrong and "inputs" in rounded:
            error = max(j.errors.max(initial=0) for j in wrong.judged)
            if error > min(64 * unit_of_inputs(check.problem), 0.05):
                break
        outcome = at_rounding(kind, check, floats, rounded)
        if outcome.verdict != FAIL:
            return outcome
        if wrong:  # what is wrong all the same, by how much it is exactly
            pairs = zip(wrong.judged, outcome.judged, strict=True)
            outcome = replace(outcome, judged=tuple(a if b.verdict == FAIL else b for a, b in pairs))
        wrong = outcome
    assert wrong is not None
    return wrong


def at_rounding(kind: Kind, check: Check, floats: Sequence[np.ndarray], rounded: Rounded) -> Outcome:
    """The outcome with these constants rounded: agreement, a difference, or a choice at a kink."""
    decided = at_precisions(kind, check, floats, rounded)
    if isinstance(decided, Outcome):
        return decided
    outcome = Outcome(
        kind,
        PASS,
        "",
        judged=decided.judged,
        sides=sides_of(decided.ev, decided.balls, [*decided.true, *decided.hand]),
        floats=tuple(floats),
        rounded=rounded,
    )
    chosen = at_kink(check, decided, outcome)
    if chosen:
        return chosen
    for verdict in (FAIL, INCONCLUSIVE):
        if verdict in decided.verdicts:
            worst = min((j for j in decided.judged if j.verdict == verdict), key=lambda j: j.digits)
            return replace(outcome, verdict=verdict, reason=in_words(worst.why, decided.ev.precision))
    return outcome


def at_kink(check: Check, decided: Judged, outcome: Outcome) -> Outcome | None:
    """The outcome where a derivative jumps: PASS if a choice between the sides makes the rule right, INCONCLUSIVE if
    that cannot be tried out. None if the point is at no kink, or the kink does not explain what was found.

    outcome: of the same point, without its verdict."""
    problem, comparison, _, deadline = check
    ev, names = decided.ev, [name for name, *_ in decided.ties.values()]
    if comparison.numpy:
        if not names or FAIL not in decided.verdicts or comparison.kinked is None:
            return None
        with flint.ctx.workprec(ev.precision):
            is_kinked = comparison.kinked(ev, decided.balls)
        return replace(outcome, verdict=INCONCLUSIVE, reason="the cost has a kink") if is_kinked else None
    asked = [decided.balls[i] for i in problem.arguments.differentiated]
    names = kinks(decided.ties, ev.steps, branches.dependent(ev.steps, asked))
    if not names or INCONCLUSIVE in decided.verdicts:
        return None

    def truth(ties: Ties) -> list[Balls]:
        other = Evaluation(ev.precision, ev.rounded, ties, deadline)
        return comparison.truth(other, entered(other, outcome.floats, problem))

    explained, words = choice(decided.hand, decided.true, truth, names, decided.digits)
    if explained == Explained.TOO_MANY:
        reason = f"the cost has a kink of {len(names)} ties, too many to try every choice"
        return replace(outcome, verdict=INCONCLUSIVE, reason=reason)
    if explained == Explained.RIGHT:
        judged = tuple(map(as_right, decided.judged))
        return replace(outcome, judged=judged, notes=(f"{outcome.kind}: {words}",))
    return None


def as_right(j: Judgement) -> Judgement:
    """The judgement of a leaf that is right by a choice at a kink."""
    if j.verdict == PASS:
        return j
    return j._replace(verdict=PASS, digits=math.inf, true=j.hand, errors=np.zeros(j.errors.shape))


def in_words(why: Why | None, precision: int) -> str:
    """Why a leaf is not PASS at this precision, the last that was tried; "" if its digits say it."""
    if why is None:
        return ""
    if why == Why.NOT_FINITE:
        return "the hand rule is not finite"
    if precision == PRECISIONS[-1]:
        return f"no precision up to {precision:,} bits decides whether the two sides differ"
    return f"{precision:,} bits do not decide whether the two sides differ, and more do not help"


def at_precisions(kind: Kind, check: Check, floats: Sequence[np.ndarray], rounded: Rounded) -> Judged | Outcome:
    """Both sides: precision is doubled until every entry is decided, or it no longer helps. An INCONCLUSIVE outcome if
    the truth is not finite, or neither can be evaluated at any precision."""
    latest: Judged | Infinite | None = None
    width = math.inf
    for precision in PRECISIONS:
        try:
            latest = judged_at(precision, check, floats, rounded)
        except Undecided:
            continue
        if isinstance(latest, Judged):
            if latest.is_final or width / 2 <= latest.width < math.inf:
                break
            width = latest.width
        elif precision >= ENOUGH:
            break
    if isinstance(latest, Judged):
        return latest
    if latest is None:
        reason = f"no precision up to {PRECISIONS[-1]:,} bits decides between values that are too close"
    else:
        reason = UNDEFINED + latest.where
    return Outcome(kind, INCONCLUSIVE, reason, floats=tuple(floats), undefined=latest is not None)


def judged_at(precision: int, check: Check, floats: Sequence[np.ndarray], rounded: Rounded) -> Judged | Infinite:
    """Both sides at one precision. `Infinite` may mean that it is too low: log(1 − σ(800)) needs 1200 bits.

    Undecided: an integer depends on which of two balls that overlap is larger."""
    problem, comparison, options, deadline = check
    ev = Evaluation(precision, rounded, deadline=deadline)
    balls = entered(ev, floats, problem)
    with flint.ctx.workprec(precision):
        true = comparison.truth(ev, balls)
        ties = dict(ev.ties.pairs)
        scalar = comparison.scalar_jaxpr
        cost = [] if scalar is None else ev(scalar, [balls[i] for i in comparison.free(problem)])
        assert comparison.claim is not None, "a black box is not evaluated in balls"
        hand = comparison.claim(ev, balls)
        if not all(map(finite, [*cost, *true])):
            return Infinite(first_infinite(ev.steps))
        digits = digits_asked(options, max(ev.unit, unit_of_inputs(problem) if "inputs" in rounded else 0))
        slack = 10.0**-digits if options.digits else 0.0  # that the user allows
        pairs = zip(hand, true, scales(true), strict=True)
        judged = tuple(judge(h, t, scale, digits, slack) for h, t, scale in pairs)
    return Judged(ev=ev, balls=balls, hand=hand, true=true, ties=ties, judged=judged, digits=digits)


def digits_asked(options: Options, unit: float) -> float:
    """How many digits must agree. unit: how far constants are rounded, relative to themselves; 0 if they are exact."""
    if options.digits:
        return options.digits
    return max(1, min(DIGITS, -math.log10(1024 * unit))) if unit else DIGITS


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
        if all(map(finite, true)) or precision >= ENOUGH:
            break
    if true is None:
        raise Undecided("no precision decides between values that are too close")
    return [midpoints(v) for v in true]


def first_infinite(steps: Sequence[Step]) -> str:
    """Where finite numbers first gave one that is not, in words."""
    for step in steps:
        before, after = ([v for v in values if is_balls(v)] for values in (step.inputs, step.outputs))
        if all(map(finite, before)) and not all(map(finite, after)):
            return f", first in {step.name} at {step.place}"
    return ""


def entered(ev: Evaluation, floats: Sequence[np.ndarray], problem: Problem) -> list[Balls]:
    """The inputs of an evaluation: exactly what they are, except given distributions, which were rounded."""
    drawn = {*problem.redrawable, *problem.cotangents}
    return [enter(v, "inputs" in ev.rounded and i not in drawn and sums_to_one(v)) for i, v in enumerate(floats)]


def unit_of_inputs(problem: Problem) -> float:
    """How far given distributions are rounded; 0 if there are none."""
    return max((eps(v.dtype) for v in problem.arguments.floats if sums_to_one(v)), default=0.0)


def sides_of(ev: Evaluation, inputs: list[Balls], outputs: list[Balls]) -> Sides:
    """The sides of decisions, in jaxprs and in NumPy code, that reach an output."""
    sides = branches.seen(ev.steps, inputs, outputs)
    for place, name, truth in ev.sides:
        sides[place, name].add(Side("true" if truth else "false"))
    return sides


def eps(dtype: DTypeLike) -> float:
    return float(jnp.finfo(dtype).eps)
