"""Both sides of a problem at one point, in ball arithmetic: more precise until every entry is decided."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import flint
import numpy as np

from jaxnn.verify.arguments import Problem
from jaxnn.verify.arithmetic.balls import Balls, finite, is_balls
from jaxnn.verify.arithmetic.decisions import Undecided
from jaxnn.verify.arithmetic.evaluation import PRECISIONS, Evaluation, Step
from jaxnn.verify.evidence import branches
from jaxnn.verify.evidence.branches import Side, Sides
from jaxnn.verify.evidence.judge import DIGITS, UNDEFINED, Allowed, Why
from jaxnn.verify.evidence.outcome import (
    ENOUGH,
    Check,
    Infinite,
    Judged,
    Outcome,
    Rounded,
    entered,
    judge_all,
    unit_of_domains,
    unit_of_inputs,
)
from jaxnn.verify.evidence.points import Kind
from jaxnn.verify.evidence.singular import at_pole, at_tie, has_tie
from jaxnn.verify.evidence.undefined import UndefinedEntry, check_defined
from jaxnn.verify.options import Options
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS

ROUNDING = 0.05  # of the largest entry: no rounding of constants makes more of a difference


def outcome_by_balls(kind: Kind, check: Check, floats: Sequence[np.ndarray], roundings: Sequence[Rounded]) -> Outcome:
    """The `Outcome` with all constants exact; if an entry is then not right, with literals, then also inputs, as the
    reals they were rounded from. FAIL only if all of them are.

    A kernel's constants are float32, and rows such as .1 .2 .7 sum to 1 up to rounding alone."""
    found: list[Outcome] = []
    of_inputs = 64 * max(unit_of_inputs(check.problem), unit_of_domains(check.problem))
    most = {rounded: min(of_inputs, ROUNDING) if "inputs" in rounded else ROUNDING for rounded in roundings}
    for rounded in roundings:
        if found and max(j.errors.max(initial=0) for j in found[-1].judged) > most[rounded]:
            break
        outcome = at_rounding(kind, check, floats, rounded)
        if not outcome.judged or (outcome.verdict == PASS and not outcome.has_cancelled):
            return outcome
        found.append(outcome)
        if outcome.verdict == INCONCLUSIVE:
            break
    for verdict in (PASS, INCONCLUSIVE):
        if any(o.verdict == verdict for o in found):
            return next(o for o in found if o.verdict == verdict)
    first, *_, last = (*found, found[-1])  # what is wrong all the same, by how much it is exactly
    pairs = zip(first.judged, last.judged, strict=True)
    return replace(last, judged=tuple(a if b.verdict == FAIL else b for a, b in pairs))


def at_rounding(kind: Kind, check: Check, floats: Sequence[np.ndarray], rounded: Rounded) -> Outcome:
    """The outcome with these constants rounded: agreement, a difference, or a choice at a kink."""
    decided = at_precisions(kind, check, floats, rounded)
    if isinstance(decided, Outcome):
        return decided
    if isinstance(decided, Infinite):
        reason = UNDEFINED + decided.where
        outcome = Outcome(kind, INCONCLUSIVE, reason, floats=tuple(floats), rounded=rounded, undefined=True)
        return at_pole(check, decided, outcome)
    outcome = Outcome(
        kind,
        PASS,
        "",
        judged=decided.judged,
        sides=sides_of(decided.ev, decided.balls, [*decided.true, *decided.hand]),
        floats=tuple(floats),
        rounded=rounded,
        blind=is_blind(check.problem, decided),
    )
    if decided.at_tie:
        settled = at_tie(check, decided, outcome)
        if settled:
            return settled
    for verdict in (FAIL, INCONCLUSIVE):
        if verdict in decided.verdicts:
            worst = min((j for j in decided.judged if j.verdict == verdict), key=lambda j: j.digits)
            return replace(outcome, verdict=verdict, reason=in_words(worst.why, decided.ev.precision))
    return outcome


def in_words(why: Why | None, precision: int) -> str:
    """Why a leaf is not PASS at this precision, the last that was tried; "" if its digits say it."""
    if why is None:
        return ""
    if why == Why.NOT_FINITE:
        return "the hand rule is not finite"
    if precision == PRECISIONS[-1]:
        return f"no precision up to {precision:,} bits decides whether the two sides differ"
    return f"{precision:,} bits do not decide whether the two sides differ, and more do not help"


def at_precisions(
    kind: Kind, check: Check, floats: Sequence[np.ndarray], rounded: Rounded
) -> Judged | Infinite | Outcome:
    """Both sides: precision is doubled until every entry is decided, or it no longer helps. An INCONCLUSIVE outcome if
    neither can be evaluated at any precision."""
    latest: Judged | Infinite | None = None
    width = math.inf
    for precision in PRECISIONS:
        try:
            latest = judged_at(precision, check, floats, rounded)
        except Undecided:
            continue
        except UndefinedEntry as error:
            return Outcome(kind, FAIL, str(error), floats=tuple(floats))
        if isinstance(latest, Judged):
            if latest.is_final or width / 2 <= latest.width < math.inf:
                break
            width = latest.width
        elif precision >= ENOUGH:
            break
    if latest:
        return latest
    reason = f"no precision up to {PRECISIONS[-1]:,} bits decides between values that are too close"
    return Outcome(kind, INCONCLUSIVE, reason, floats=tuple(floats))


def judged_at(precision: int, check: Check, floats: Sequence[np.ndarray], rounded: Rounded) -> Judged | Infinite:
    """Both sides at one precision. `Infinite` may mean that it is too low: log(1 − σ(800)) needs 1200 bits.

    Undecided: an integer depends on which of two balls that overlap is larger. UndefinedEntry: a result depends on what
    nobody wrote."""
    problem, comparison, options, deadline = check
    ev = Evaluation(precision, rounded, deadline=deadline)
    balls = entered(ev, floats, problem)
    with flint.ctx.workprec(precision):
        true = comparison.truth(ev, balls)
        ties, scalar = dict(ev.ties.pairs), comparison.scalar_jaxpr
        cost = [] if scalar is None else ev(scalar, [balls[i] for i in comparison.free(problem)])
        at_tie = has_tie(problem, comparison, ev, balls)
        assert comparison.claim is not None, "a black box is not evaluated in balls"
        hand = comparison.claim(ev, balls)
        check_defined(ev.steps, [*cost, *true, *hand])
        digits = digits_asked(options, max(ev.unit, unit_of_inputs(problem) if "inputs" in rounded else 0))
        allowed = Allowed(apart=10.0 ** -(options.digits or DIGITS), width=10.0**-digits)
        if not all(map(finite, [*cost, *true])):
            return Infinite(first_infinite(ev.steps), hand=hand, true=true, allowed=allowed)
        judged = judge_all(comparison, ev, hand, true, allowed)
    return Judged(ev=ev, balls=balls, hand=hand, true=true, ties=ties, at_tie=at_tie, judged=judged, allowed=allowed)


def digits_asked(options: Options, unit: float) -> float:
    """How many digits must be known. unit: how far constants are rounded, relative to themselves; 0 if they are not."""
    if options.digits:
        return options.digits
    return max(1, min(DIGITS, -math.log10(1024 * unit))) if unit else DIGITS


def first_infinite(steps: Sequence[Step]) -> str:
    """Where finite numbers first gave one that is not, in words."""
    for step in steps:
        before, after = ([v for v in values if is_balls(v)] for values in (step.inputs, step.outputs))
        if all(map(finite, before)) and not all(map(finite, after)):
            return f", first in {step.name} at {step.place}"
    return ""


def is_blind(problem: Problem, decided: Judged) -> bool:
    """Whether the derivative is 0 in every entry on both sides, though it depends on the arguments: all saturated."""
    leaves = decided.judged[: problem.derivatives]
    if not leaves or not all(j.is_blind for j in leaves):
        return False
    asked = [decided.balls[i] for i in problem.arguments.differentiated]
    steps = decided.ev.steps
    moving = set(map(id, chain.from_iterable(steps[n].outputs for n in branches.dependent(steps, asked))))
    return not steps or any(id(v) in moving for v in decided.true[: problem.derivatives])


def sides_of(ev: Evaluation, inputs: list[Balls], outputs: list[Balls]) -> Sides:
    """The sides of decisions, in jaxprs and in NumPy code, that reach an output."""
    sides = branches.seen(ev.steps, inputs, outputs)
    for site, truths in ev.truths.items():
        sides[site] |= {Side("true" if truth else "false") for truth in set(truths)}
    return sides
