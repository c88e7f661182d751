"""Where balls cannot be used: in floating point, with a tolerance that is measured rather than chosen.

A tolerance is what the truth itself loses (float_truth.py), or what the dtype of a black box does. A truth that is
known to too few digits decides nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import flint
import numpy as np

from jaxnn.verify.arguments import Problem
from jaxnn.verify.arithmetic.decisions import Undecided, Unsupported
from jaxnn.verify.arithmetic.evaluation import Evaluation, TooLarge
from jaxnn.verify.evidence.comparison import run
from jaxnn.verify.evidence.convergence import has_rule_of_jax
from jaxnn.verify.evidence.float_truth import Floats, Truth, by_autodiff, by_differences
from jaxnn.verify.evidence.judge import UNDEFINED, Judgement
from jaxnn.verify.evidence.outcome import Check, Outcome, entered, eps, true_floats
from jaxnn.verify.evidence.points import Kind
from jaxnn.verify.evidence.singular import has_tie
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS, Evidence, Verdict
from jaxnn.verify.reports.words import shown

CLEAR = 10  # beyond so many tolerances two numbers differ
SPARE = 15  # seconds for differences, when those of exact arithmetic are over
DIGITS = 6  # that a truth in float64 must have


def verdict_of(error: float, tolerance: float) -> Verdict:
    """PASS within a tolerance, FAIL beyond CLEAR of them."""
    return PASS if error <= tolerance else FAIL if error > CLEAR * tolerance else INCONCLUSIVE


def judged(hand: Floats, truth: Truth, needed: float, slacks: Sequence[float]) -> tuple[Judgement, ...]:
    """Judgements of arrays of floats: an entry is right within the tolerance of the truth, or within its leaf's slack,
    relative to the leaf's scale; and wrong beyond CLEAR of them. Where the truth has fewer digits than are needed, or
    the two sides agree to fewer, a leaf does not pass."""
    judgements = []
    leaves = zip(hand, truth.leaves, truth.tolerances, truth.scales, slacks, strict=True)
    for h, t, tolerance, scale, slack in leaves:
        errors, lost = np.abs(np.asarray(h, np.float64) - t) / scale, tolerance / scale
        errors = np.where(np.isnan(errors), np.inf, errors)
        allowed = np.maximum(lost, slack)
        wrong, close = errors > CLEAR * allowed, np.minimum(allowed, 10.0**-needed)
        is_open = (errors > close).any() or (lost > close).any()
        verdict = FAIL if wrong.any() else INCONCLUSIVE if is_open else PASS
        measure = np.where(wrong, errors, -1) if verdict == FAIL else np.maximum(errors, np.maximum(lost, close))
        worst = int(np.argmax(measure)) if errors.size else 0
        error = float(measure.max(initial=0))
        by_hand, really = (float(np.ravel(v)[worst]) if errors.size else 0.0 for v in (h, t))
        judgements.append(
            Judgement(
                verdict=verdict,
                digits=-math.log10(error) if error else math.inf,
                at=tuple(int(i) for i in np.unravel_index(worst, errors.shape)) if errors.size else (),
                hand=by_hand,
                true=really,
                errors=errors,
                zero=not np.any(t),
            )
        )
    return tuple(judgements)


def outcome_of(
    kind: Kind, hand: Floats, truth: Truth, needed: float, slacks: Sequence[float], evidence: Evidence, floats: Floats
) -> Outcome:
    """The outcome of a hand rule, see `judged`."""
    sides = [v if ways is None else along(v, ways) for v, ways in zip(hand, truth.ways, strict=True)]
    judgements = judged(sides, truth, needed, slacks)
    verdicts = {j.verdict for j in judgements}
    verdict = next((v for v in (FAIL, INCONCLUSIVE) if v in verdicts), PASS)
    reason = ""
    if verdict == INCONCLUSIVE and truth.digits < needed:
        reason = f"{truth.how}: the truth is known to {shown(truth.digits)} digits, and {shown(needed)} are needed"
    elif verdict == INCONCLUSIVE:
        reason = "the two sides are too close for floats to say whether they differ"
    notes = (truth.how,)
    return Outcome(kind, verdict, reason, judged=judgements, notes=notes, evidence=evidence, floats=tuple(floats))


def along(v: np.ndarray, ways: Floats) -> np.ndarray:
    """The inner products of an array with these directions."""
    return np.array([np.sum(v * way) for way in ways])


def undefined(kind: Kind, floats: Floats) -> Outcome:
    return Outcome(kind, INCONCLUSIVE, UNDEFINED, floats=tuple(floats), undefined=True)


def in_floats(kind: Kind, check: Check, floats: Floats, why: str) -> Outcome:
    """Hand rule against autodiff in float64 or, where there is none, against differences of the forward pass."""
    problem, floats, numpy = check.problem, tuple(floats), check.comparison.numpy
    if check.options.require == "exact":
        return Outcome(kind, INCONCLUSIVE, f"{why}, and require='exact'", floats=floats)
    try:
        hand = run(problem.claim, floats, np.float64, numpy)
        truth = truth_in_floats(check, floats)
    except TooLarge as error:
        return Outcome(kind, INCONCLUSIVE, f"{why}, and {error}", floats=floats)
    except Exception as error:  # whatever a user's function raises in a dtype that it was not written for
        reason = f"{why}, and it does not run in float64: {first_line(error)}"
        return Outcome(kind, INCONCLUSIVE, reason, floats=floats, undefined=True)
    if not all(np.isfinite(t).all() for t in truth.leaves):
        return undefined(kind, floats)
    truth = truth._replace(how=f"{why}: {truth.how}")
    return outcome_in_float64(kind, check, hand, truth, floats)


def outcome_in_float64(kind: Kind, check: Check, hand: Floats, truth: Truth, floats: Floats) -> Outcome:
    """The outcome of a hand rule in float64."""
    digits = check.options.digits
    slacks = [10.0**-digits if digits else 0.0 for _ in hand]
    return outcome_of(kind, hand, truth, digits or DIGITS, slacks, Evidence.FLOAT64, floats)


def where_balls_are_infinite(outcome: Outcome, check: Check) -> Outcome:
    """The outcome by differences where a number that is infinite, or none, does not reach the cost, as behind a mask;
    the outcome as it was if it does, or if differences do not decide."""
    problem, comparison = check.problem, check.comparison
    if problem.scalar is None or check.options.require == "exact":
        return outcome
    try:
        (cost,) = run(problem.cost, outcome.floats, np.float64, comparison.numpy)
        if not np.isfinite(cost):
            return outcome
        hand = run(problem.claim, outcome.floats, np.float64, comparison.numpy)
        truth = by_differences(problem, outcome.floats, comparison.numpy, check.deadline)
    except Exception:  # whatever a user's function raises in a dtype that it was not written for
        return outcome
    if not truth.digits >= (check.options.digits or DIGITS):
        return outcome
    truth = truth._replace(how=f"{outcome.reason}, but the cost is: {truth.how}")
    return outcome_in_float64(outcome.kind, check, hand, truth, outcome.floats)


def truth_in_floats(check: Check, floats: Floats) -> Truth:
    """The truth by autodiff or, where there is none, by differences. Whatever the forward pass raises."""
    problem, numpy = check.problem, check.comparison.numpy
    has_derivative = problem.scalar is not None or problem.cotangents
    truth = None
    if not (numpy and has_derivative):
        try:
            truth = by_autodiff(problem, floats)
        except Exception:  # whatever JAX says that cannot differentiate it
            if not has_derivative:
                raise
    if truth and not has_rule_of_jax(check.comparison):
        return truth
    differences = by_differences(problem, floats, numpy, check.deadline + SPARE)
    return with_accuracy(truth, differences) if truth else differences


def with_accuracy(truth: Truth, differences: Truth) -> Truth:
    """The truth by a rule of JAX's own, which is as accurate as it agrees with differences."""
    allowed = []
    for t, d, ways, *errors in zip(
        truth.leaves, differences.leaves, differences.ways, truth.tolerances, differences.tolerances, strict=True
    ):
        gap = np.abs((t if ways is None else along(t, ways)) - d).max(initial=0)
        allowed.append(np.maximum(*(np.max(error, initial=0) for error in errors)) + np.full(t.shape, gap))
    return truth._replace(tolerances=allowed, how=f"{truth.how}, and as JAX's own rule agrees with differences")


def black_box(kind: Kind, check: Check, floats: Floats) -> Outcome:
    """A rule that cannot be evaluated exactly, in its own dtype, against the exact truth: it may err as autodiff does
    in that dtype, and as the dtype's resolution allows, 16 times over; but half of the dtype's digits must agree."""
    problem, floats = check.problem, tuple(floats)
    if check.options.require == "exact":
        return Outcome(kind, INCONCLUSIVE, "the rule cannot be evaluated exactly, and require='exact'", floats=floats)
    what = ", ".join(check.comparison.unknown) or "no JAX code"
    try:
        hand = run(problem.claim, floats)
    except Exception as error:  # a kernel for another device
        reason = f"the rule is a black box ({what}), and it does not run here: {first_line(error)}"
        return Outcome(kind, INCONCLUSIVE, reason, floats=floats)
    how = f"the rule is a black box ({what}): it ran in its own dtype, against the exact truth"
    try:
        truth = exact(true_floats(check.comparison, floats, check.deadline), how)
    except (Unsupported, TooLarge, Undecided) as error:
        why = f"neither the rule nor the truth can be evaluated exactly ({error})"
        try:
            truth = truth_in_floats(check, floats)._replace(how=f"{why}: the truth is that of float64")
        except Exception as late:  # no time is left, or a user's function was not written for float64
            return Outcome(
                kind, INCONCLUSIVE, f"{why}, and there is none in float64: {first_line(late)}", floats=floats
            )
    if not all(np.isfinite(t).all() for t in truth.leaves):
        return undefined(kind, floats)
    units = [eps(h.dtype) for h in hand]
    needed = min(check.options.digits or DIGITS, -math.log10(max(map(math.sqrt, units), default=1)))
    slacks = [16 * loss for loss in losses(problem, floats, truth, units)]
    outcome = outcome_of(kind, hand, truth, needed, slacks, Evidence.DTYPE, floats)
    if outcome.verdict == FAIL and is_at_tie(check, floats):
        return replace(outcome, verdict=INCONCLUSIVE, reason=f"{how}; numbers tie there, so that it may be a choice")
    return outcome


def is_at_tie(check: Check, floats: Floats) -> bool:
    """Whether the derivative may jump here, as far as balls can tell."""
    ev = Evaluation(deadline=check.deadline)
    try:
        with flint.ctx.workprec(ev.precision):
            balls = entered(ev, floats, check.problem)
            check.comparison.truth(ev, balls)
            return has_tie(check.problem, check.comparison, ev, balls)
    except (Unsupported, TooLarge, Undecided):
        return False


def exact(true: Floats, how: str) -> Truth:
    """A truth that is known."""
    return Truth(true, [np.zeros(t.shape) for t in true], [None] * len(true), how)


def losses(problem: Problem, floats: Floats, truth: Truth, units: Sequence[float]) -> list[float]:
    """How much of each leaf's scale autodiff loses in the dtypes of these rounding units, and no less than a unit; 100
    units where it does not run, or its result is not finite."""
    unknown = [100 * unit for unit in units]
    try:
        leaves = zip(run(problem.truth, floats), truth.leaves, truth.scales, strict=True)
        lost = [float(np.abs(rough - true).max(initial=0)) / scale for rough, true, scale in leaves]
    except Exception:  # whatever JAX says that cannot differentiate it
        return unknown
    return [max(a, b) if math.isfinite(a) else c for a, b, c in zip(lost, units, unknown, strict=True)]


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160].rstrip(".") if str(error).strip() else type(error).__name__
