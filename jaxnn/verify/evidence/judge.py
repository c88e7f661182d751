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

from jaxnn.verify.arithmetic.balls import ONE, ZERO, Balls, magnitude, wrap
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
    sizes = np.broadcast_to(wrap(scale) if terms is None else terms, hand.shape)
    triples = list(zip(hand.flat, true.flat, sizes.flat, strict=True))
    states = np.array([state(h, t, s, allowed or Allowed()) for h, t, s in triples])
    gaps = [abs(h - t) for h, t, _ in triples]
    errors = np.array([ratio(gap, scale) for gap in gaps])
    own = zip(gaps, triples, states, strict=True)
    relative = np.array([ratio(gap, against(t, s, found)) for gap, (_, t, s), found in own])
    verdict = {State.WRONG: FAIL, State.OPEN: INCONCLUSIVE}.get(states.max(), PASS)
    worst = int(np.argmax(relative if verdict == PASS else np.where(states == states.max(), errors, -1)))
    not_finite = not hand.flat[worst].is_finite()
    return Judgement(
        verdict=verdict,
        digits=-math.log10(relative[worst]) if relative[worst] else math.inf,
        at=tuple(int(i) for i in np.unravel_index(worst, hand.shape)),
        hand=float(hand.flat[worst].mid()),
        true=float(true.flat[worst].mid()),
        errors=errors.reshape(hand.shape),
        zero=all(v.contains(0) for v in true.flat),
        states=states.reshape(hand.shape),
        apart=any(not h.overlaps(t) for h, t, _ in triples),
        why=Why.NOT_FINITE if not_finite else Why.PRECISION if verdict == INCONCLUSIVE else None,
    )


def state(hand: arb, true: arb, terms: arb, allowed: Allowed) -> State:
    """The `State` of one entry."""
    if not hand.is_finite():
        return State.WRONG
    gap, size = abs(hand - true), abs(true)
    if true.contains(0) and hand.contains(0) and gap <= allowed.width * terms:
        return State.ZERO
    if size > 0 and gap <= allowed.width * size and not gap > allowed.apart * size:
        return State.RIGHT
    if gap > allowed.apart * size and gap > allowed.apart * terms:
        return State.WRONG
    is_rounded = allowed.width > allowed.apart  # then no precision tells more
    if gap <= allowed.width * terms and (is_rounded or gap > allowed.apart * size):
        return State.CANCELLED
    return State.OPEN


def against(true: arb, terms: arb, state: State) -> arb:
    """What the error of an entry is measured against: itself, or its terms where it is 0 or they cancel."""
    by_terms = state in (State.ZERO, State.CANCELLED) or true.contains(0)
    return terms if by_terms and terms > 0 else abs(true)


def ratio(gap: arb, size: arb) -> float:
    """gap / size from above; 0 if there is no gap, infinite if it is not finite."""
    quotient = gap / size
    return 0.0 if gap.is_zero() else float(quotient.upper()) if quotient.is_finite() else math.inf
