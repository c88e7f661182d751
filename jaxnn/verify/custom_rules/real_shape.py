"""A rule as it is: at its real shape, in its own dtype, on the default device, against autodiff of what it computes.

It may err as autodiff does in that dtype, and as the resolution of the dtype allows, 16 times over.
"""

from collections.abc import Sequence
from math import inf, log10, nan

import jax
import numpy as np
from jax.typing import DTypeLike

from jaxnn.verify.arguments import Function, Problem
from jaxnn.verify.evidence.floating import first_line
from jaxnn.verify.evidence.outcome import eps
from jaxnn.verify.evidence.points import GIVEN, redraw
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS, Evidence, Leaf, Point, Verdict
from jaxnn.verify.reports.report import Report
from jaxnn.verify.reports.words import differs, shown

POINT = "real shape"
ROOM = 16  # how many times what is measured may be lost
CLEAR = 16  # beyond so many tolerances two numbers differ
Floats = Sequence[np.ndarray]


def at_real_shape(problem: Problem, seed: int | list[int]) -> Report:
    """The `Report` on a rule with its given arguments and random cotangents or tangents.

    INCONCLUSIVE if a side cannot be run, if the dtype of the rule leaves less than a third of its digits, or if a rule
    that is wrong in its dtype is right in float64: then it is inaccurate.
    """
    arguments, rng = problem.arguments, np.random.default_rng(seed)
    floats = redraw(GIVEN, arguments.floats, arguments.dtypes, problem.redrawable, problem.cotangents, rng, {})
    where = f"at its real shape, in its own dtype on {jax.devices()[0].device_kind}"
    try:
        true = run(problem.truth, floats, np.float64)
        hand, plain = run(problem.claim, floats), run(problem.truth, floats)
    except Exception as error:  # what it computes has no derivative, or needs another device, or more memory
        return report(problem, INCONCLUSIVE, f"{where}: {first_line(error).rstrip('.')}.", ())
    leaves = leaves_of(problem.paths, hand, plain, true)
    verdict = verdict_of(leaves)
    worst = min(leaves, key=lambda leaf: (leaf.verdict != FAIL, leaf.digits))
    if verdict == FAIL and is_right_in_float64(problem, floats, true):
        return report(problem, INCONCLUSIVE, f"{where}: inaccurate, for it is right in float64.", leaves)
    if verdict == PASS and worst.digits < min(-log10(eps(v.dtype)) for v in hand) / 3:
        return report(problem, INCONCLUSIVE, f"{where}: autodiff in float64 and in its own dtype differ.", leaves)
    words = {
        PASS: f"right, {shown(worst.digits)} digits agree {where}",
        FAIL: f"{worst.path} differs {differs(worst.digits)}, {where}.",
        INCONCLUSIVE: f"{where}: the two sides are too close to say whether they differ.",
    }
    return report(problem, verdict, words[verdict], leaves)


def report(problem: Problem, verdict: Verdict, reason: str, leaves: tuple[Leaf, ...]) -> Report:
    digits = min((leaf.digits for leaf in leaves), default=nan)
    return Report(
        title=problem.title,
        verdict=verdict,
        reason=reason,
        evidence=Evidence.DTYPE,
        digits=digits,
        leaves=leaves,
        points=(Point(POINT, verdict, "" if verdict != INCONCLUSIVE else reason.rstrip("."), digits),),
    )


def run(f: Function, floats: Floats, dtype: DTypeLike | None = None) -> list[np.ndarray]:
    """f, compiled for the default device, of floats that are cast to `dtype`, or as they are."""
    with jax.enable_x64(dtype == np.float64 or jax.config.read("jax_enable_x64")):
        return [np.asarray(v) for v in jax.jit(f)([np.asarray(v, dtype or v.dtype) for v in floats])]


def leaves_of(paths: Sequence[str], hand: Floats, plain: Floats, true: Floats) -> tuple[Leaf, ...]:
    """Each leaf of the rule, of autodiff in the same dtype, and of autodiff in float64."""
    largest = max(size(t) for t in true)
    leaves = []
    for path, h, p, t in zip(paths, hand, plain, true, strict=True):
        scale = size(t) or largest or 1.0
        errors, lost = (np.abs(np.asarray(v, np.float64) - t) / scale for v in (h, p))
        errors = np.where(np.isnan(errors), inf, errors)
        tolerance = ROOM * max(eps(h.dtype), float(np.max(lost, initial=0)))
        error, worst = float(np.max(errors, initial=0)), int(np.argmax(errors)) if errors.size else 0
        verdict = PASS if error <= tolerance else FAIL if error > CLEAR * tolerance else INCONCLUSIVE
        by_hand, really = (float(np.ravel(v)[worst]) if errors.size else 0.0 for v in (h, t))
        leaves.append(
            Leaf(
                path=path,
                verdict=verdict,
                digits=-log10(max(error, tolerance if verdict == PASS else 0)),
                index=tuple(int(i) for i in np.unravel_index(worst, errors.shape)) if errors.size else (),
                hand=by_hand,
                true=really,
                point=POINT,
                errors=errors,
            )
        )
    return tuple(leaves)


def size(v: np.ndarray) -> float:
    """The largest entry."""
    return float(np.abs(v).max(initial=0))


def verdict_of(leaves: Sequence[Leaf]) -> Verdict:
    verdicts = {leaf.verdict for leaf in leaves}
    return next((v for v in (FAIL, INCONCLUSIVE) if v in verdicts), PASS)


def is_right_in_float64(problem: Problem, floats: Floats, true: Floats) -> bool:
    """Whether half of the digits of float64 agree."""
    try:
        hand = run(problem.claim, floats, np.float64)
    except Exception:  # a rule that is written for its own dtype
        return False
    return all(size(h - t) <= 1e-8 * size(t) for h, t in zip(hand, true, strict=True))
