"""Which of two balls is larger: decided, a tie of two exact numbers, or unknown; and logic with three values.

An unknown is never guessed: a select takes the union of both sides, which is rigorous, and only an integer that depends
on it stops the evaluation. At a tie, where a derivative jumps, `Ties` can be told which side to take (kinks.py).
"""

from typing import Any, NamedTuple

import numpy as np

FALSE, TRUE, UNKNOWN = 0.0, 1.0, 2.0  # between 0 and 1: a share of true, chosen at a tie


class Undecided(ArithmeticError):
    """A decision, on which an integer depends, between balls that overlap: more precision is needed."""


class Unsupported(NotImplementedError):
    """There is no rule for a primitive on balls."""


class Logic(NamedTuple):
    """An array of truth values of which some are unknown, or shares; one without is a plain array of bool."""

    codes: np.ndarray

    @property
    def shape(self):
        return self.codes.shape


def logic(codes):
    codes = np.asarray(codes, float)
    return codes == TRUE if np.isin(codes, (FALSE, TRUE)).all() else Logic(codes)


def codes(v):
    return v.codes if isinstance(v, Logic) else np.asarray(v, float)


class Ties:
    """Where exactly equal numbers were compared. As IEEE has it they are equal; in `steps`, the first is the larger one
    to a share, 1 or 0 or between, that was chosen. A tie is named by where it was first met: (step, …)."""

    def __init__(self, choices=None, default=None, steps=()):
        self.choices = choices or {}
        self.default = default
        self.steps = steps
        self.met: dict[Any, tuple] = {}
        self.told: set[int] = set()  # what has a part in a tie of `steps`

    def share(self, x, y, place):
        """The share chosen for this tie; None: they are equal."""
        if (id(y), id(x)) in self.met:
            share = self.choice(self.met[id(y), id(x)][0])
            return None if share is None else 1 - share
        if (id(x), id(y)) not in self.met and {id(x), id(y)} <= self.told:
            return 0.0  # both have a part in a tie that was decided, so they are not equal
        name, *_ = self.met.setdefault((id(x), id(y)), (place, x, y))  # x and y are kept, so their ids stay theirs
        if step_of(name) in self.steps:
            self.told |= {id(x), id(y)}
        return self.choice(name)

    def choice(self, name):
        return self.choices.get(name, self.default) if step_of(name) in self.steps else None

    def order(self, x, y, place):
        """1 if x > y, 0 if they are equal, −1 if x < y; None when the balls overlap."""
        if x is y:
            return None if x.is_nan() else 0
        if x > y or x < y:
            return 1 if x > y else -1
        if not tied(x, y):
            return None
        share = self.share(x, y, place)
        return 0 if share is None else 1 if share >= 0.5 else -1

    def larger(self, x, y, place):
        """The larger one itself, so that it can be recognised later; a hull of both when that is not known."""
        order = self.order(x, y, place)
        return x.max(y) if order is None else y if order < 0 else x

    def smaller(self, x, y, place):
        order = self.order(x, y, place)
        return x.min(y) if order is None else x if order < 0 else y if order > 0 else x

    def compare(self, x, y, place):
        """(the truth of x > y, of x = y), entry by entry, each FALSE, TRUE, UNKNOWN or a share."""
        x, y = np.broadcast_arrays(x, y)
        greater, equal = np.array(x > y, float), np.zeros(x.shape)
        for i in np.flatnonzero(~np.asarray(x > y, bool) & ~np.asarray(x < y, bool)):
            a, b = x.flat[i], y.flat[i]
            if a is b and not a.is_nan():
                equal.flat[i] = TRUE
            elif tied(a, b):
                share = self.share(a, b, (place, i))
                equal.flat[i] = share is None
                greater.flat[i] = share or FALSE
            else:
                greater.flat[i] = equal.flat[i] = UNKNOWN
        return greater, equal


def tied(x, y):
    return x.is_exact() and y.is_exact() and x == y


def step_of(place):
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


def relation(name, greater, equal):
    """The truth of x > y, x ≥ y, … from that of x > y and of x = y."""
    return logic(np.where(greater == UNKNOWN, UNKNOWN, RELATIONS[name](greater, equal)))


def conjunction(*v):
    """FALSE ∧ anything is FALSE; of shares the smallest."""
    c = np.stack(np.broadcast_arrays(*map(codes, v)))
    return logic(np.where((c == FALSE).any(0), FALSE, np.where((c == UNKNOWN).any(0), UNKNOWN, c.min(0))))


def negation(v):
    c = codes(v)
    return logic(np.where(c == UNKNOWN, UNKNOWN, 1 - c))


def disjunction(*v):
    return negation(conjunction(*map(negation, v)))


def exclusive(a, b):
    return disjunction(conjunction(a, negation(b)), conjunction(negation(a), b))


def mixed(a, b, code):
    """b where TRUE, a where FALSE, the union of both where UNKNOWN, their mean by a share."""
    if code == UNKNOWN:
        return either(a, b)
    return b if code == TRUE else a if code == FALSE else a * (1 - code) + b * code


def either(a, b):
    """The union of two values: itself where they are one."""
    if a is b or (not hasattr(a, "union") and a == b):
        return a
    if hasattr(a, "union"):
        return a.union(b)
    raise Undecided
