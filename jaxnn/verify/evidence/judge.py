"""Two arrays of balls, by hand and true: different, the same to so many digits, or not yet known."""

import math
from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

import numpy as np
from flint import arb

from jaxnn.verify.arithmetic.balls import ONE, ZERO, Balls, finite, magnitude
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS, Verdict

DIGITS = 12
UNDEFINED = "the true value is not finite"


class Why(Enum):
    """Why a leaf is not PASS, if not by the digits of its worst entry."""

    NOT_FINITE = auto()  # by hand, and the truth is
    PRECISION = auto()  # the balls are too wide to tell


class Judgement(NamedTuple):
    """What is found of one leaf."""

    verdict: Verdict
    digits: float  # that agree
    at: tuple[int, ...]  # the worst entry's index
    hand: float  # the worst entry
    true: float
    errors: np.ndarray  # |hand − true| over the scale, by entry
    zero: bool  # whether every true entry is 0, as far as is known
    why: Why | None = None


def scales(true: Sequence[Balls]) -> list[arb]:
    """What an error in each leaf is measured against: its largest entry, or, if every entry may be 0, the largest of
    all leaves; 1 if they all may be."""
    own = [ZERO if all(v.contains(0) for v in leaf.flat) else magnitude(leaf) for leaf in true]
    whole = max((v for v in own), default=ZERO)
    return [v if v > 0 else whole if whole > 0 else ONE for v in own]


def judge(hand: Balls, true: Balls, scale: arb, digits: float = DIGITS, slack: float = 0.0) -> Judgement:
    """Whether two arrays of balls differ: some entry's balls are disjoint; or agree: all overlap, and none is wider
    than 10**-digits of the scale. slack: a difference, relative to the scale, that is allowed."""
    hand, true = np.broadcast_arrays(hand, true)
    if not hand.size:
        return Judgement(
            verdict=PASS, digits=math.inf, at=(), hand=0.0, true=0.0, errors=np.zeros(hand.shape), zero=True
        )
    gaps = [abs(h - t) for h, t in zip(hand.flat, true.flat, strict=True)]
    errors = np.array([float((gap / scale).upper()) if gap.is_finite() else math.inf for gap in gaps])
    apart = (errors > slack) & [not h.overlaps(t) for h, t in zip(hand.flat, true.flat, strict=True)]

    def judgement(verdict: Verdict, worst: int, why: Why | None = None) -> Judgement:
        error = errors[worst]
        return Judgement(
            verdict=verdict,
            digits=-math.log10(error) if error else math.inf,
            why=why,
            at=tuple(int(i) for i in np.unravel_index(worst, hand.shape)),
            hand=float(hand.flat[worst].mid()),
            true=float(true.flat[worst].mid()),
            errors=errors.reshape(hand.shape),
            zero=all(v.contains(0) for v in true.flat),
        )

    if not finite(hand):
        return judgement(FAIL, int(np.argmax([not v.is_finite() for v in hand.flat])), Why.NOT_FINITE)
    if apart.any():
        return judgement(FAIL, int(np.argmax(np.where(apart, errors, -1))))
    worst = int(np.argmax(errors))
    if max(max(h.rad(), t.rad()) for h, t in zip(hand.flat, true.flat, strict=True)) > scale * 10.0**-digits:
        return judgement(INCONCLUSIVE, worst, Why.PRECISION)
    return judgement(PASS, worst)
