"""What is found at one point: both sides in ball arithmetic, more precise until every entry is decided."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import flint
import numpy as np
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import Problem, sums_to_one
from jaxnn.verify.arithmetic.balls import Balls, enter, finite, is_balls, midpoints
from jaxnn.verify.arithmetic.decisions import Ties, Undecided
from jaxnn.verify.arithmetic.evaluation import PRECISIONS, Evaluation, Step
from jaxnn.verify.evidence import branches
from jaxnn.verify.evidence.branches import Side, Sides
from jaxnn.verify.evidence.comparison import Comparison
from jaxnn.verify.evidence.judge import DIGITS, UNDEFINED, Judgement, judge, scales
from jaxnn.verify.evidence.kinks import Explained, TieName, choice, kinks
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


@dataclass(frozen=True)
class Outcome:
    """What was found at one point. undefined: the truth is not finite there."""

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

    @property
    def digits(self) -> float:
        return min((j.digits for j in self.judged), default=math.nan)


@dataclass(frozen=True)
class Decided:
    """Both sides at the precision that decided every entry, or beyond which more does not help."""

    ev: Evaluation
    balls: list[Balls]
    hand: list[Balls]
    true: list[Balls]
    ties: dict[PyTree, tuple[TieName, PyTree, PyTree]]  # of the truth
    judged: tuple[Judgement, ...]
    digits: float  # that were asked for
    reason: str = ""  # why an entry is not decided

    @property
    def verdicts(self) -> set[Verdict]:
        return {j.verdict for j in self.judged}


def exactly(kind: Kind, check: Check, floats: Sequence[np.ndarray], roundings: Sequence[Rounded]) -> Outcome:
    """Literals and inputs as the exact numbers that they are; if that proves a difference, as the reals that they were
    rounded from: 1/3 and 0.1 are no floats, and rows such as .1 .2 .7 sum to 1 up to rounding alone."""
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
    problem, comparison, _, deadline = check
    outcome = Outcome(
        kind,
        PASS,
        "",
        judged=decided.judged,
        sides=sides_of(decided.ev, decided.balls, [*decided.true, *decided.hand]),
        floats=tuple(floats),
        rounded=rounded,
    )
    precision = decided.ev.precision
    ties: Sequence[TieName] = [name for name, _, _ in decided.ties.values()]
    if not comparison.numpy:
        asked = [decided.balls[i] for i in problem.arguments.differentiated]
        ties = kinks(decided.ties, decided.ev.steps, branches.dependent(decided.ev.steps, asked))
    if ties and FAIL in decided.verdicts and comparison.kinked:
        with flint.ctx.workprec(precision):
            if comparison.kinked(decided.ev, decided.balls):
                return replace(outcome, verdict=INCONCLUSIVE, reason="at a kink")
    if ties and not comparison.numpy and INCONCLUSIVE not in decided.verdicts:

        def truth(ties: Ties) -> list[Balls]:
            again = Evaluation(precision, rounded, ties, deadline)
            return comparison.truth(again, entered(again, floats, problem))

        chosen = choice(decided.hand, decided.true, truth, ties, decided.digits)
        if chosen.explained == Explained.TOO_MANY:
            return replace(outcome, verdict=INCONCLUSIVE, reason=f"at a kink of {len(ties)} ties")
        if chosen.explained == Explained.RIGHT:
            return replace(outcome, judged=tuple(map(as_right, decided.judged)), notes=(f"{kind}: {chosen.words}",))
    if FAIL in decided.verdicts:
        worst = min((j for j in decided.judged if j.verdict == FAIL), key=lambda j: j.digits)
        return replace(outcome, verdict=FAIL, reason=worst.reason)
    if INCONCLUSIVE in decided.verdicts:
        return replace(outcome, verdict=INCONCLUSIVE, reason=decided.reason)
    return outcome


def as_right(j: Judgement) -> Judgement:
    """The judgement of a leaf that is right by a choice at a kink."""
    if j.verdict == PASS:
        return j
    return j._replace(verdict=PASS, digits=math.inf, true=j.hand, errors=np.zeros(j.errors.shape))


def at_precisions(kind: Kind, check: Check, floats: Sequence[np.ndarray], rounded: Rounded) -> Decided | Outcome:
    """Both sides: precision is doubled until every entry is decided, or it no longer helps. An INCONCLUSIVE outcome if
    the truth is not finite, or no precision decides."""
    problem, comparison, options, deadline = check
    decided: Decided | None = None
    reason, undefined, widest = "precision: a decision between values that are too close", False, math.inf
    for precision in PRECISIONS:
        ev = Evaluation(precision, rounded, deadline=deadline)
        balls = entered(ev, floats, problem)
        with flint.ctx.workprec(precision):
            try:
                true = comparison.truth(ev, balls)
                ties = dict(ev.ties.pairs)
                scalar = comparison.scalar_jaxpr
                cost = [] if scalar is None else ev(scalar, [balls[i] for i in comparison.free(problem)])
                assert comparison.claim is not None, "a black box is not evaluated in balls"
                hand = comparison.claim(ev, balls)
            except Undecided:
                continue
            if not all(map(finite, [*cost, *true])):  # or not precise enough: log(1 − σ(800)) needs 1200 bits
                decided, undefined, reason = None, True, UNDEFINED + first_infinite(ev.steps)
                if precision < ENOUGH:
                    continue
                break
            unit = max(ev.unit, unit_of_inputs(problem) if "inputs" in rounded else 0)
            digits = options.digits or (max(1, min(DIGITS, -math.log10(1024 * unit))) if unit else DIGITS)
            slack = 10.0**-digits if options.digits else 0.0  # that the user allows
            pairs = zip(hand, true, scales(true), strict=True)
            judged = tuple(judge(h, t, scale, digits, slack) for h, t, scale in pairs)
        decided = Decided(ev, balls, hand, true, ties, judged, digits)
        if FAIL in decided.verdicts or decided.verdicts <= {PASS}:
            return decided
        decided = replace(decided, reason=next(j.reason for j in judged if j.verdict == INCONCLUSIVE))
        radii = [float(v.rad()) if v.is_finite() else math.inf for leaf in (*hand, *true) for v in leaf.flat]
        width = max(radii)
        if width < math.inf and not width < widest / 2:
            return decided
        widest = width
    if decided is None:
        return Outcome(kind, INCONCLUSIVE, reason, floats=tuple(floats), undefined=undefined)
    return decided


def true_floats(comparison: Comparison, floats: Sequence[np.ndarray], deadline: float = math.inf) -> list[np.ndarray]:
    """The truth as the nearest floats. Undecided if no precision decides."""
    for precision in PRECISIONS:
        ev = Evaluation(precision, deadline=deadline)
        with flint.ctx.workprec(precision):
            true = comparison.truth(ev, [enter(v) for v in floats])
        if all(map(finite, true)) or precision == ENOUGH:
            break
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
