"""Where balls cannot be used: in floating point, with a tolerance that is measured rather than chosen.

A tolerance is what the truth itself loses: autodiff in float32, scaled down to float64, or two steps of differences.
"""

import math
from collections.abc import Sequence

import numpy as np

from jaxnn.verify.arguments import Problem
from jaxnn.verify.arithmetic.decisions import Undecided, Unsupported
from jaxnn.verify.arithmetic.evaluation import TooLarge
from jaxnn.verify.evidence.comparison import run
from jaxnn.verify.evidence.judge import UNDEFINED, Judgement
from jaxnn.verify.evidence.outcome import Check, Outcome, eps, true_floats
from jaxnn.verify.evidence.points import Kind
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS, Evidence, Verdict

DOWN = 2.0**-29  # from what float32 loses to what float64 does
UNIT = 2.0**-52  # of float64
ROOM = 256  # how many times what is measured may be lost
CLEAR = 16  # beyond so many tolerances two numbers differ
Floats = Sequence[np.ndarray]


def verdict_of(error: float, tolerance: float) -> Verdict:
    """PASS within a tolerance, FAIL beyond CLEAR of them."""
    return PASS if error <= tolerance else FAIL if error > CLEAR * tolerance else INCONCLUSIVE


def judged(hand: Floats, true: Floats, tolerances: Sequence[float]) -> tuple[Judgement, ...]:
    """Judgements of arrays of floats: equal within a tolerance of the scale, different beyond CLEAR of them."""
    judgements = []
    for h, t, tolerance, scale in zip(hand, true, tolerances, float_scales(true), strict=True):
        errors = np.abs(np.asarray(h, np.float64) - t) / scale
        errors = np.where(np.isnan(errors), np.inf, errors)
        worst = int(np.argmax(errors)) if errors.size else 0
        error = float(np.max(errors, initial=0))
        verdict = verdict_of(error, tolerance)
        digits = -math.log10(max(error, tolerance if verdict == PASS else 0))
        index = tuple(int(i) for i in np.unravel_index(worst, errors.shape)) if errors.size else ()
        by_hand, really = (float(np.ravel(v)[worst]) if errors.size else 0.0 for v in (h, t))
        judgements.append(
            Judgement(
                verdict=verdict,
                digits=digits,
                at=index,
                hand=by_hand,
                true=really,
                errors=errors,
                zero=not np.any(t),
            )
        )
    return tuple(judgements)


def float_scales(true: Floats) -> list[float]:
    """The largest entry of each leaf, or of all leaves where that is 0, or 1."""
    own = [float(np.abs(v).max(initial=0)) for v in true]
    return [v or max(own) or 1.0 for v in own]


def outcome_of(kind: Kind, judgements: tuple[Judgement, ...], evidence: Evidence, floats: Floats, note: str) -> Outcome:
    """The outcome of these judgements."""
    verdicts = {j.verdict for j in judgements}
    verdict = next((v for v in (FAIL, INCONCLUSIVE) if v in verdicts), PASS)
    reason = "the two sides are too close for floats to say whether they differ" if verdict == INCONCLUSIVE else ""
    return Outcome(kind, verdict, reason, judged=judgements, notes=(note,), evidence=evidence, floats=tuple(floats))


def undefined(kind: Kind, floats: Floats) -> Outcome:
    return Outcome(kind, INCONCLUSIVE, UNDEFINED, floats=tuple(floats), undefined=True)


def in_floats(kind: Kind, check: Check, floats: Floats, why: str) -> Outcome:
    """Hand rule against autodiff in float64, within ROOM times the error that float32 is seen to make, scaled down."""
    problem, floats = check.problem, tuple(floats)
    if check.options.require == "exact":
        return Outcome(kind, INCONCLUSIVE, f"{why}, and require='exact'", floats=floats)
    try:
        hand = run(problem.claim, floats, np.float64)
        if check.comparison.numpy and not problem.is_gradient:
            return Outcome(kind, INCONCLUSIVE, why, floats=floats)
        if check.comparison.numpy:
            true, noise = numeric_gradient(problem, floats)
        else:
            true, coarse = (run(problem.truth, floats, dtype) for dtype in (np.float64, np.float32))
            pairs = zip(coarse, true, float_scales(true), strict=True)
            noise = [np.abs(c - t).max(initial=0) / scale * DOWN for c, t, scale in pairs]
    except Exception as error:  # whatever a user's function raises in a dtype that it was not written for
        reason = f"{why}, and it does not run in float64: {first_line(error)}"
        return Outcome(kind, INCONCLUSIVE, reason, floats=floats, undefined=True)
    if not all(np.isfinite(t).all() for t in true):
        return undefined(kind, floats)
    tolerances = [ROOM * max(n if np.isfinite(n) else 0.0, UNIT) for n in noise]
    note = f"{why}: decided in float64, to a measured tolerance of {max(tolerances):.1g}"
    return outcome_of(kind, judged(hand, true, tolerances), Evidence.FLOAT64, floats, note)


def numeric_gradient(problem: Problem, floats: Floats) -> tuple[list[np.ndarray], list[float]]:
    """(differences of a NumPy cost, extrapolated as Richardson does, and its value; for each leaf how far the last two
    disagree)."""
    assert problem.scalar is not None, "there is no cost"
    slopes, noise = [], []
    for i in problem.arguments.differentiated:
        wide, narrow = (central_slopes(problem, floats, i, h) for h in (2.0**-8, 2.0**-9))
        slope = narrow + (narrow - wide) / 15
        slopes.append(slope)
        noise.append(float(np.abs(narrow - wide).max(initial=0) / (np.abs(slope).max(initial=0) or 1) / 64))
    if problem.has_value:
        slopes.append(np.asarray(problem.scalar([np.array(v, np.float64) for v in floats])))
        noise.append(0.0)
    return slopes, noise


def central_slopes(problem: Problem, floats: Floats, i: int, h: float) -> np.ndarray:
    """Differences of fourth order along every entry of float leaf i, with this step."""
    assert problem.scalar is not None, "there is no cost"
    slopes = np.zeros(floats[i].shape)
    for index in np.ndindex(slopes.shape):
        ends = []
        for k in (2, 1, -1, -2):
            moved = [np.array(v, np.float64) for v in floats]
            moved[i][index] += k * h
            ends.append(float(problem.scalar(moved)))
        slopes[index] = (-ends[0] + 8 * ends[1] - 8 * ends[2] + ends[3]) / (12 * h)
    return slopes


def black_box(kind: Kind, check: Check, floats: Floats) -> Outcome:
    """A rule that cannot be evaluated exactly, in its own dtype, against the exact truth: it may err as autodiff does
    in that dtype, and as the dtype's resolution allows, 16 times over."""
    problem, floats = check.problem, tuple(floats)
    if check.options.require == "exact":
        return Outcome(kind, INCONCLUSIVE, "the rule cannot be evaluated exactly, and require='exact'", floats=floats)
    what = ", ".join(check.comparison.unknown) or "no JAX code"
    try:
        hand = run(problem.claim, floats)
    except Exception as error:  # a kernel for another device
        reason = f"the rule is a black box ({what}), and it does not run here: {first_line(error)}"
        return Outcome(kind, INCONCLUSIVE, reason, floats=floats)
    note = f"the rule is a black box ({what}): it ran in its own dtype, against the exact truth"
    try:
        true = true_floats(check.comparison, floats, check.deadline)
    except (Unsupported, TooLarge, Undecided) as error:
        true = run(problem.truth, floats, np.float64)
        note = f"neither the rule nor the truth can be evaluated exactly ({error}): the truth is that of float64"
    if not all(np.isfinite(t).all() for t in true):
        return undefined(kind, floats)
    resolution = [eps(h.dtype) for h in hand]
    try:
        pairs = zip(run(problem.truth, floats), true, float_scales(true), strict=True)
        noise = [np.abs(p - t).max(initial=0) / scale for p, t, scale in pairs]
    except Exception:  # a NumPy cost has no autodiff
        noise = [100 * r for r in resolution]
    tolerances = [16 * max(n, r) for n, r in zip(noise, resolution, strict=True)]
    return outcome_of(kind, judged(hand, true, tolerances), Evidence.DTYPE, floats, note)


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160].rstrip(".") if str(error).strip() else type(error).__name__
