"""Which of two balls is larger: decided, a tie of two exact numbers, or unknown; and logic with three values.

An unknown is never guessed: a select takes the union of both sides, which is rigorous, and only an integer that depends
on it stops the evaluation. At a tie, where a derivative jumps, `Ties` can be told which side to take (kinks.py).
"""

from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

import numpy as np
from flint import arb

FALSE, TRUE, UNKNOWN = 0.0, 1.0, 2.0  # between 0 and 1: a share of true, chosen at a tie

Place = int | tuple  # a step, or (a place, which of the comparisons there)
Extreme = Literal["larger", "smaller"]  # the method of `Ties` that finds it


class Undecided(ArithmeticError):
    """A decision, on which an integer depends, between balls that overlap: more precision is needed."""


class Unsupported(NotImplementedError):
    """There is no rule for a primitive on balls."""


class TooLarge(RuntimeError):
    """More work or memory than was allowed."""


class Endless(TooLarge):
    """A loop that has not ended in its share of the time."""


class Logic(NamedTuple):
    """An array of truth values, some of which are unknown or shares. If all are known, a plain array of bool stands
    for them instead."""

    codes: np.ndarray  # of FALSE, TRUE, UNKNOWN and shares

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.codes.shape


Truths = np.ndarray | Logic  # of bool if all are known


def logic(codes: np.ndarray) -> Truths:
    """Codes as truth values: an array of bool if all are known."""
    codes = np.asarray(codes, float)
    return codes == TRUE if np.isin(codes, (FALSE, TRUE)).all() else Logic(codes)


def codes(v: Truths) -> np.ndarray:
    """Truth values as an array of FALSE, TRUE, UNKNOWN and shares."""
    return v.codes if isinstance(v, Logic) else np.asarray(v, float)


class Ties:
    """Comparisons of exactly equal numbers. As IEEE has it they are equal; in `steps`, the first of two is the larger
    one to a share, 1 or 0 or between: the one that `choices` has for this tie, or else `default` (None: they are
    equal). A tie is named by the place where it came up first: (step, …)."""

    def __init__(
        self,
        choices: Mapping[Place, float] | None = None,
        default: float | None = None,
        steps: Collection[int] = (),
    ):
        self.choices = choices or {}
        self.default = default
        self.steps = steps
        self.pairs: dict[tuple[int, int], tuple[Place, arb, arb]] = {}  # by the ids of x and y: (name, x, y)
        self.members: set[int] = set()  # the ids of the numbers that have a part in a tie of `steps`

    def share(self, x: arb, y: arb, place: Place) -> float | None:
        """The share to which x is larger than y at this tie; None: they are equal."""
        if (id(y), id(x)) in self.pairs:
            share = self.choice(self.pairs[id(y), id(x)][0])
            return None if share is None else 1 - share
        if (id(x), id(y)) not in self.pairs and {id(x), id(y)} <= self.members:
            return 0.0  # each has a part in a tie that was decided, so they are not equal
        name, *_ = self.pairs.setdefault((id(x), id(y)), (place, x, y))  # x and y are kept, so their ids stay theirs
        if step_of(name) in self.steps:
            self.members |= {id(x), id(y)}
        return self.choice(name)

    def choice(self, name: Place) -> float | None:
        """The share that was chosen for the tie of this name; None if it is not in `steps`."""
        return self.choices.get(name, self.default) if step_of(name) in self.steps else None

    def order(self, x: arb, y: arb, place: Place) -> int | None:
        """1 if x > y, 0 if they are equal, −1 if x < y; None if the balls overlap."""
        if x is y:
            return None if x.is_nan() else 0
        if x > y or x < y:
            return 1 if x > y else -1
        if not tied(x, y):
            return None
        share = self.share(x, y, place)
        if share is None:
            return 0
        return 1 if share >= 0.5 else -1

    def larger(self, x: arb, y: arb, place: Place) -> arb:
        """The larger one itself, so that it can be recognised later; a hull of both if it is not known which."""
        order = self.order(x, y, place)
        if order is None:
            return x.max(y)
        return y if order < 0 else x

    def smaller(self, x: arb, y: arb, place: Place) -> arb:
        """The smaller one itself, the first if they are equal; a hull of both if it is not known which."""
        order = self.order(x, y, place)
        if order is None:
            return x.min(y)
        return y if order > 0 else x

    def compare(self, x: np.ndarray, y: np.ndarray, place: Place) -> tuple[np.ndarray, np.ndarray]:
        """(the truth of x > y, of x = y), entry by entry, each FALSE, TRUE, UNKNOWN or a share."""
        x, y = np.broadcast_arrays(x, y)
        greater, equal = np.array(x > y, float), np.zeros(x.shape)
        for i in np.flatnonzero(~np.asarray(x > y, bool) & ~np.asarray(x < y, bool)):
            a, b = x.flat[i], y.flat[i]
            if a is b and not a.is_nan():
                equal.flat[i] = TRUE
            elif tied(a, b):
                share = self.share(a, b, (place, i))
                equal.flat[i] = TRUE if share is None else FALSE
                greater.flat[i] = FALSE if share is None else share
            else:
                greater.flat[i] = equal.flat[i] = UNKNOWN
        return greater, equal


def tied(x: arb, y: arb) -> bool:
    """Whether two balls are one exact number."""
    return x.is_exact() and y.is_exact() and x == y


def step_of(place: Place) -> int:
    """The number of the step that a place is in."""
    return step_of(place[0]) if isinstance(place, tuple) else place


RELATIONS = {
    "gt": lambda greater, equal: greater,
    "ge": lambda greater, equal: greater + equal,
    "lt": lambda greater, equal: 1 - greater - equal,
    "le": lambda greater, equal: 1 - greater,
    "eq": lambda greater, equal: equal,
    "ne": lambda greater, equal: 1 - equal,
}


def relation(name: str, greater: np.ndarray, equal: np.ndarray) -> Truths:
    """The truth of x > y, x ≥ y, … from the codes of x > y and of x = y."""
    return logic(np.where(greater == UNKNOWN, UNKNOWN, RELATIONS[name](greater, equal)))


def conjunction(*truths: Truths) -> Truths:
    """a ∧ b ∧ …: FALSE ∧ anything is FALSE; of shares the smallest."""
    c = np.stack(np.broadcast_arrays(*map(codes, truths)))
    return logic(np.where((c == FALSE).any(0), FALSE, np.where((c == UNKNOWN).any(0), UNKNOWN, c.min(0))))


def negation(truth: Truths) -> Truths:
    """¬a; 1 minus a share."""
    c = codes(truth)
    return logic(np.where(c == UNKNOWN, UNKNOWN, 1 - c))


def disjunction(*truths: Truths) -> Truths:
    """a ∨ b ∨ …, by De Morgan: ¬(¬a ∧ ¬b ∧ …)."""
    return negation(conjunction(*map(negation, truths)))


def exclusive_or(a: Truths, b: Truths) -> Truths:
    """(a ∧ ¬b) ∨ (¬a ∧ b)"""
    return disjunction(conjunction(a, negation(b)), conjunction(negation(a), b))


def mixture(no: arb | float, yes: arb | float, code: float) -> arb | float:
    """`yes` if the code is TRUE, `no` if FALSE, the union of the two if UNKNOWN, their mean by a share."""
    if code == UNKNOWN:
        return union(no, yes)
    if code in (TRUE, FALSE):
        return yes if code == TRUE else no
    return no * (1 - code) + yes * code


def union(a: arb | float, b: arb | float) -> arb | float:
    """The smallest ball around both values, itself if they are one; Undecided if two integers differ."""
    if a is b or (not isinstance(a, arb) and a == b):
        return a
    if isinstance(a, arb):
        return a.union(b)
    raise Undecided
