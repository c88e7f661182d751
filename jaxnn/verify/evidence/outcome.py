"""What is found at one point: both sides in ball arithmetic, more precise until every entry is decided."""

import math
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import flint
import numpy as np
from jax import numpy as jnp

from jaxnn.verify.arguments import Problem, sums_to_one
from jaxnn.verify.arithmetic.balls import enter, finite, is_balls, midpoints
from jaxnn.verify.arithmetic.decisions import Undecided
from jaxnn.verify.arithmetic.evaluation import PRECISIONS, Evaluation
from jaxnn.verify.evidence import branches, kinks
from jaxnn.verify.evidence.comparison import Comparison
from jaxnn.verify.evidence.judge import DIGITS, UNDEFINED, Judgement, judge, scales
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS

ROUNDINGS: tuple[tuple[str, ...], ...] = ((), ("literals",), ("literals", "inputs"))
ENOUGH = 3200  # bits, at which what is still not finite is taken to be so


class Check(NamedTuple):
    """What is asked, and how."""

    problem: Problem
    comparison: Comparison
    options: Any
    deadline: float


@dataclass(frozen=True)
class Outcome:
    """What was found at one point."""

    kind: str
    verdict: str
    reason: str
    judged: tuple[Judgement, ...] = ()
    sides: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    evidence: str = "exact"
    floats: tuple = ()
    rounded: tuple = ()  # what stands for the reals within half an ulp

    @property
    def digits(self):
        return min((j.digits for j in self.judged), default=math.nan)


def exactly(kind, check, floats, roundings):
    """Literals and inputs as the exact numbers that they are; where that proves a difference, as the reals that they
    were rounded from: 1/3 and 0.1 are no floats, and rows such as .1 .2 .7 sum to 1 up to rounding alone."""
    first: Outcome | None = None
    for rounded in roundings:
        if first and "inputs" in rounded:
            error = max(j.errors.max(initial=0) for j in first.judged)
            if error > min(64 * unit_of_inputs(check.problem), 0.05):
                break
        outcome = at_rounding(kind, check, floats, rounded)
        if outcome.verdict != FAIL:
            return outcome
        if first:  # what is wrong all the same, by how much it is exactly
            pairs = zip(first.judged, outcome.judged, strict=True)
            outcome = replace(outcome, judged=tuple(a if b.verdict == FAIL else b for a, b in pairs))
        first = outcome
    return first


def at_rounding(kind, check, floats, rounded):
    """Precision is doubled until every entry is decided, or it no longer helps."""
    problem, comparison, _, deadline = check
    judged: list[Judgement] = []
    reason, widest = "precision: a decision between values that are too close", math.inf
    for precision in PRECISIONS:
        ev = Evaluation(precision, rounded, deadline=deadline)
        balls = entered(ev, floats, problem)
        with flint.ctx.workprec(precision):
            try:
                true = comparison.truth(ev, balls)
                met = dict(ev.ties.pairs)
                cost = (
                    []
                    if comparison.scalar is None
                    else ev(comparison.scalar, [balls[i] for i in comparison.free(problem)])
                )
                hand = comparison.claim(ev, balls)
            except Undecided:
                continue
            if not all(map(finite, [*cost, *true])):  # or not precise enough: log(1 − σ(800)) needs 1200 bits
                judged, reason = [], UNDEFINED + first_infinite(ev.steps)
                if precision < ENOUGH:
                    continue
                break
            unit = max(ev.unit, unit_of_inputs(problem) if "inputs" in rounded else 0)
            digits = check.options.digits or (max(1, min(DIGITS, -math.log10(1024 * unit))) if unit else DIGITS)
            slack = 10.0**-digits if check.options.digits else 0.0  # that the user allows
            judged = [judge(h, t, s, digits, slack) for h, t, s in zip(hand, true, scales(true), strict=True)]
        verdicts = {j.verdict for j in judged}
        if FAIL in verdicts:
            break
        if verdicts <= {PASS}:
            break
        reason = next(j.reason for j in judged if j.verdict == INCONCLUSIVE)
        width = max(float(v.rad()) if v.is_finite() else math.inf for leaf in (*hand, *true) for v in leaf.flat)
        if width < math.inf and not width < widest / 2:
            break
        widest = width
    if not judged:
        return Outcome(kind, INCONCLUSIVE, reason, floats=tuple(floats))
    seen = sides_of(ev, balls, [*true, *hand])
    found = Outcome(kind, PASS, "", tuple(judged), seen, floats=tuple(floats), rounded=rounded)
    asked = [balls[i] for i in problem.arguments.differentiated]
    ties = kinks.kinks(met, ev.steps, branches.dependent(ev.steps, asked)) if not comparison.numpy else met
    if ties and FAIL in verdicts and comparison.kinked:
        with flint.ctx.workprec(precision):
            if comparison.kinked(ev, balls):
                return replace(found, verdict=INCONCLUSIVE, reason="at a kink")
    if ties and not comparison.numpy and INCONCLUSIVE not in verdicts:

        def truth(choice):
            again = Evaluation(precision, rounded, choice, deadline)
            return comparison.truth(again, entered(again, floats, problem))

        sentence = kinks.explained(hand, true, truth, ties, digits)
        if sentence == "":
            return replace(found, verdict=INCONCLUSIVE, reason=f"at a kink of {len(ties)} ties")
        if sentence:
            agreed = tuple(
                j
                if j.verdict == PASS
                else j._replace(verdict=PASS, digits=math.inf, true=j.hand, errors=np.zeros(j.errors.shape))
                for j in judged
            )
            return replace(found, judged=agreed, notes=(f"{kind}: {sentence}",))
    if FAIL in verdicts:
        worst = min((j for j in judged if j.verdict == FAIL), key=lambda j: j.digits)
        return replace(found, verdict=FAIL, reason=worst.reason)
    if INCONCLUSIVE in verdicts:
        return replace(found, verdict=INCONCLUSIVE, reason=reason)
    return found


def true_floats(comparison, floats, deadline=math.inf):
    """The truth as the nearest floats."""
    for precision in PRECISIONS:
        ev = Evaluation(precision, deadline=deadline)
        with flint.ctx.workprec(precision):
            true = comparison.truth(ev, [enter(v) for v in floats])
        if all(map(finite, true)) or precision == ENOUGH:
            return [midpoints(v) for v in true]


def first_infinite(steps):
    """Where finite numbers first gave one that is not."""
    for step in steps:
        balls = [[v for v in vs if is_balls(v)] for vs in (step.inputs, step.outputs)]
        if all(map(finite, balls[0])) and not all(map(finite, balls[1])):
            return f", first in {step.name} at {step.place}"
    return ""


def entered(ev, floats, problem):
    """The inputs of an evaluation: exactly what they are, but for given distributions, which were rounded."""
    drawn = {*problem.redrawn, *problem.always}
    return [enter(v, "inputs" in ev.rounded and i not in drawn and sums_to_one(v)) for i, v in enumerate(floats)]


def unit_of_inputs(problem):
    """How far given distributions are rounded; 0 where there are none."""
    return max((eps(v.dtype) for v in problem.arguments.floats if sums_to_one(v)), default=0.0)


def sides_of(ev, inputs, outputs):
    seen = branches.seen(ev.steps, inputs, outputs)
    for place, name, truth in ev.sides:
        seen[place, name].add("true" if truth else "false")
    return seen


def eps(dtype):
    return float(jnp.finfo(dtype).eps)
