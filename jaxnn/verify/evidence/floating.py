"""Where balls cannot be used: in floating point, with a tolerance that is measured rather than chosen."""

import math

import numpy as np

from jaxnn.verify.arithmetic.decisions import Undecided, Unsupported
from jaxnn.verify.arithmetic.evaluation import TooLarge
from jaxnn.verify.evidence.comparison import run
from jaxnn.verify.evidence.judge import UNDEFINED, Judgement
from jaxnn.verify.evidence.outcome import Outcome, eps, true_floats
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS


def as_judged(hand, true, tolerances):
    """Judgements of arrays of floats: equal within a tolerance of the scale, different beyond 16 of them."""
    out = []
    for h, t, tolerance, scale in zip(hand, true, tolerances, float_scales(true), strict=True):
        errors = np.abs(np.asarray(h, np.float64) - t) / scale
        errors = np.where(np.isnan(errors), np.inf, errors)
        worst = int(np.argmax(errors)) if errors.size else 0
        error = float(errors.max(initial=0))
        verdict = PASS if error <= tolerance else FAIL if error > 16 * tolerance else INCONCLUSIVE
        digits = -math.log10(max(error, tolerance if verdict == PASS else 0))
        index = tuple(int(i) for i in np.unravel_index(worst, errors.shape)) if errors.size else ()
        by_hand, really = (float(np.ravel(v)[worst]) if errors.size else 0.0 for v in (h, t))
        out.append(Judgement(verdict, digits, "", index, by_hand, really, errors, not np.any(t)))
    return tuple(out)


def float_scales(true):
    own = [float(np.abs(v).max(initial=0)) for v in true]
    return [v or max(own) or 1.0 for v in own]


def summed_up(kind, judged, evidence, floats, note):
    verdicts = {j.verdict for j in judged}
    verdict = FAIL if FAIL in verdicts else INCONCLUSIVE if INCONCLUSIVE in verdicts else PASS
    reason = "within what the precision allows, or not: too close to say" if verdict == INCONCLUSIVE else ""
    return Outcome(kind, verdict, reason, judged, {}, (note,), evidence, tuple(floats))


def in_floats(kind, check, floats, why):
    """Hand rule against autodiff in float64, within 256 times the error that float32 is seen to make, scaled down."""
    problem, floats = check.problem, tuple(floats)
    if check.options.require == "exact":
        return Outcome(kind, INCONCLUSIVE, f"{why}, and require='exact'", floats=floats)
    try:
        hand = run(problem.claim, floats, np.float64)
        if check.comparison.numpy and set(problem.paths[len(problem.arguments.differentiated) :]) - {"value"}:
            return Outcome(kind, INCONCLUSIVE, why, floats=floats)  # more than a gradient is asked
        if check.comparison.numpy:
            true, noise = numeric_gradient(problem, floats, len(hand))
        else:
            true, coarse = run(problem.truth, floats, np.float64), run(problem.truth, floats, np.float32)
            pairs = zip(coarse, true, float_scales(true), strict=True)
            noise = [np.abs(c - t).max(initial=0) / s * 2.0**-29 for c, t, s in pairs]
    except Exception as error:  # whatever a user's function raises in a dtype that it was not written for
        reason = f"{why}, and it does not run in float64: {first_line(error)}"
        return Outcome(kind, INCONCLUSIVE, reason, floats=floats)
    if not all(np.isfinite(t).all() for t in true):
        return Outcome(kind, INCONCLUSIVE, UNDEFINED, floats=floats)
    tolerances = [256 * max(n if np.isfinite(n) else 0.0, 2.0**-52) for n in noise]
    note = f"{why}: decided in float64, to a measured tolerance of {max(tolerances):.1g}"
    return summed_up(kind, as_judged(hand, true, tolerances), "float64", floats, note)


def numeric_gradient(problem, floats, n):
    """(differences of a NumPy cost, extrapolated as Richardson does; for each leaf how far the last two disagree)."""
    slopes, noise = [], []
    for i in problem.arguments.differentiated:
        steps = [np.zeros(floats[i].shape) for _ in range(2)]
        for index in np.ndindex(floats[i].shape):
            for leaf, h in zip(steps, (2.0**-8, 2.0**-9), strict=True):
                ends = []
                for k in (2, 1, -1, -2):
                    moved = [np.array(v, np.float64) for v in floats]
                    moved[i][index] += k * h
                    ends.append(float(problem.scalar(moved)))
                leaf[index] = (-ends[0] + 8 * ends[1] - 8 * ends[2] + ends[3]) / (12 * h)
        slope = steps[1] + (steps[1] - steps[0]) / 15
        slopes.append(slope)
        noise.append(np.abs(steps[1] - steps[0]).max(initial=0) / (np.abs(slope).max(initial=0) or 1) / 64)
    value = [np.asarray(problem.scalar([np.array(v, np.float64) for v in floats]))] * (n - len(slopes))
    return slopes + value, noise + [0.0] * len(value)


def black_box(kind, check, floats):
    """A rule that cannot be evaluated exactly, in its own dtype, against the exact truth: it may err as autodiff does
    in that dtype, and as the dtype's resolution allows, 16 times over."""
    problem, floats = check.problem, tuple(floats)
    if check.options.require == "exact":
        return Outcome(kind, INCONCLUSIVE, "the rule cannot be evaluated exactly, and require='exact'", floats=floats)
    hand = run(problem.claim, floats)
    note = "the rule is a black box (a kernel, a callback): it ran in its own dtype, against the exact truth"
    try:
        true = true_floats(check.comparison, floats, check.deadline)
    except (Unsupported, TooLarge, Undecided) as error:
        true = run(problem.truth, floats, np.float64)
        note = f"neither the rule nor the truth can be evaluated exactly ({error}): the truth is that of float64"
    if not all(np.isfinite(t).all() for t in true):
        return Outcome(kind, INCONCLUSIVE, UNDEFINED, floats=floats)
    resolution = [eps(h.dtype) for h in hand]
    try:
        pairs = zip(run(problem.truth, floats), true, float_scales(true), strict=True)
        noise = [np.abs(p - t).max(initial=0) / s for p, t, s in pairs]
    except Exception:  # a NumPy cost has no autodiff
        noise = [100 * r for r in resolution]
    tolerances = [16 * max(n, r) for n, r in zip(noise, resolution, strict=True)]
    return summed_up(kind, as_judged(hand, true, tolerances), "dtype", floats, note)


def first_line(error):
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
