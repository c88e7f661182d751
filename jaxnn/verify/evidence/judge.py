"""Two arrays of balls, by hand and true: different, the same to so many digits, or not yet known.

An entry is right if |hand − true| ≤ 10⁻ᵈ |true|. Where its terms cancel, their own rounding is larger than that; a
difference within 10⁻ᵈ of their sum is then neither right nor wrong, and the entry is looked at elsewhere.
"""

import math
from collections.abc import Sequence
from enum import Enum, IntEnum, auto
from typing import NamedTuple

import numpy as np
from flint import arb

from jaxnn.verify.arithmetic.balls import ONE, ZERO, Balls, absolute, magnitude, wrap
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS, Verdict

DIGITS = 12
UNDEFINED = "the true value is not finite"


class State(IntEnum):
    """What two balls say of one entry."""

    RIGHT = auto()
    ZERO = auto()  # both may be 0, to d digits of the terms
    CANCELLED = auto()  # they differ by less than d digits of the terms
    OPEN = auto()  # the balls are too wide to tell
    WRONG = auto()


class Why(Enum):
    """Why a leaf is not PASS, if not by the digits of its worst entry."""

    NOT_FINITE = auto()  # by hand, and the truth is
    PRECISION = auto()  # the balls are too wide to tell


class Allowed(NamedTuple):
    """How far two balls may be apart, and how wide they may be, relative to the true entry."""

    apart: float = 10.0**-DIGITS
    width: float = 10.0**-DIGITS

    @classmethod
    def of(cls, digits: float) -> "Allowed":
        """Apart by no more than so many digits; a thousand times as wide, for constants may be rounded."""
        return cls(10.0**-digits, 10.0 ** (3 - digits))


class Judgement(NamedTuple):
    """What is found of one leaf."""

    verdict: Verdict
    digits: float  # that agree in every entry, relative to itself; in one that may be 0, to its terms
    at: tuple[int, ...]  # the worst entry's index
    hand: float  # the worst entry
    true: float
    errors: np.ndarray  # |hand − true| over the scale of the leaf, by entry
    zero: bool  # whether every true entry is 0, as far as is known
    states: np.ndarray | None = None  # the `State` of every entry; None if floats decided
    why: Why | None = None
    apart: bool = False  # whether two balls do not touch

    def has(self, state: State) -> bool:
        """Whether an entry is in this state."""
        return self.states is not None and bool((self.states == state).any())

    @property
    def is_plain(self) -> bool:
        """Whether every entry is right beyond doubt, whatever its terms are: 0 for 0 too."""
        return self.states is not None and bool(((self.states == State.RIGHT) | (self.errors == 0)).all())

    @property
    def is_blind(self) -> bool:
        """Whether every entry is exactly 0 on both sides."""
        return self.states is not None and bool(((self.states == State.ZERO) & (self.errors == 0)).all())


def scales(true: Sequence[Balls]) -> list[arb]:
    """What an error in each leaf is measured against: its largest entry, or, if every entry may be 0, the largest of
    all leaves; 1 if they all may be."""
    own = [ZERO if all(v.contains(0) for v in leaf.flat) else magnitude(leaf) for leaf in true]
    whole = max((v for v in own), default=ZERO)
    return [v if v > 0 else whole if whole > 0 else ONE for v in own]


def judge(
    hand: Balls, true: Balls, scale: arb, allowed: Allowed | None = None, terms: Balls | None = None
) -> Judgement:
    """Whether two arrays of balls differ in some entry, FAIL; are too wide to tell, INCONCLUSIVE; or agree, PASS.

    terms: for every entry, the sum of the absolute values of what adds up to it; the scale, where that is not known."""
    hand, true = np.broadcast_arrays(hand, true)
    if not hand.size:
        nothing = np.zeros(hand.shape)
        return Judgement(verdict=PASS, digits=math.inf, at=(), hand=0.0, true=0.0, errors=nothing, zero=True)
    allowed = allowed or Allowed()
    sizes = np.broadcast_to(wrap(scale) if terms is None else terms, hand.shape).ravel()
    hands, trues = hand.ravel(), true.ravel()
    gaps, own = absolute(hands - trues), absolute(trues)
    states = np.full(hand.size, State.RIGHT)
    for i in np.flatnonzero(~are_right(gaps, own, allowed)):
        states[i] = state(hands[i], trues[i], sizes[i], allowed)
    errors = ratios(gaps, np.full(hand.size, scale))
    relative = ratios(gaps, np.where(by_terms(states, trues, sizes), sizes, own))
    verdict = {State.WRONG: FAIL, State.OPEN: INCONCLUSIVE}.get(states.max(), PASS)
    worst = int(np.argmax(relative if verdict == PASS else np.where(states == states.max(), errors, -1)))
    return Judgement(
        verdict=verdict,
        digits=-math.log10(relative[worst]) if relative[worst] else math.inf,
        at=tuple(int(i) for i in np.unravel_index(worst, hand.shape)),
        hand=float(hands[worst].mid()),
        true=float(trues[worst].mid()),
        errors=errors.reshape(hand.shape),
        zero=all(v.contains(0) for v in trues),
        states=states.reshape(hand.shape),
        apart=bool((gaps > 0).any()),
        why=Why.NOT_FINITE if not hands[worst].is_finite() else Why.PRECISION if verdict == INCONCLUSIVE else None,
    )


def judgements(hand: Sequence[Balls], true: Sequence[Balls], allowed: Allowed | None = None) -> tuple[Judgement, ...]:
    """A judgement of each leaf."""
    return tuple(judge(h, t, scale, allowed) for h, t, scale in zip(hand, true, scales(true), strict=True))


def agree(hand: Sequence[Balls], true: Sequence[Balls], digits: float = DIGITS) -> bool:
    """Whether no entry differs by more than so many digits, of itself or of the largest of its leaf."""
    return all(j.verdict == PASS for j in judgements(hand, true, Allowed.of(digits)))


def state(hand: arb, true: arb, terms: arb, allowed: Allowed) -> State:
    """The `State` of one entry."""
    if not hand.is_finite():
        return State.WRONG
    gap, size = abs(hand - true), abs(true)
    if true.contains(0) and hand.contains(0) and gap <= allowed.width * terms:
        return State.ZERO
    if allowed.apart > 10.0**-DIGITS and abs(hand) <= allowed.apart * terms and size <= allowed.apart * terms:
        return State.ZERO  # to the few digits that are asked for
    if size > 0 and gap <= allowed.width * size and not gap > allowed.apart * size:
        return State.RIGHT
    if gap > allowed.apart * size and gap > allowed.apart * terms:
        return State.WRONG
    is_rounded = allowed.width > allowed.apart  # then no precision tells more
    if gap <= allowed.width * terms and (is_rounded or gap > allowed.apart * size):
        return State.CANCELLED
    return State.OPEN


def are_right(gaps: Balls, own: Balls, allowed: Allowed) -> np.ndarray:
    """Which entries are right, given |hand − true| and |true|."""
    near = np.asarray(gaps <= allowed.width * own, bool) & np.asarray(own > 0, bool)
    return near if allowed.width == allowed.apart else near & ~np.asarray(gaps > allowed.apart * own, bool)


def by_terms(states: np.ndarray, trues: Balls, terms: Balls) -> np.ndarray:
    """For which entries an error is measured against the terms: those that may be 0, or whose terms cancel."""
    out = np.isin(states, (State.ZERO, State.CANCELLED))
    for i in np.flatnonzero(states != State.RIGHT):
        out[i] = (out[i] or trues[i].contains(0)) and terms[i] > 0
    return out


def ratios(gaps: Balls, sizes: Balls) -> np.ndarray:
    """gaps / sizes from above, as floats: 0 where there is no gap, infinite where that is not finite."""
    return np.array([ratio(gap, size) for gap, size in zip(gaps, sizes, strict=True)])


def ratio(gap: arb, size: arb) -> float:
    """gap / size from above."""
    if gap.is_zero():
        return 0.0
    quotient = gap / size
    return float(quotient.upper()) if quotient.is_finite() else math.inf
