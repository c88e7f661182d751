"""What one finding is: a leaf, a point, a branch, a witness, a link, a cause. Plain data."""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np


class Verdict(StrEnum):
    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


PASS, FAIL, INCONCLUSIVE = Verdict


class Evidence(StrEnum):
    """How a verdict was found: proven at the points in ball arithmetic; in float64; in the dtype of a black box."""

    EXACT = "exact"
    FLOAT64 = "float64"
    DTYPE = "dtype"


@dataclass(frozen=True)
class Leaf:
    """One array of the answer, where it agrees least over all points.

    digits: how many decimal digits agree, or are proven to agree, relative to the largest entry of the leaf.
    """

    path: str
    verdict: Verdict
    digits: float
    index: tuple[int, ...]  # of the worst entry
    hand: float
    true: float
    point: str
    errors: np.ndarray = field(repr=False, compare=False)  # |hand − true| / largest |true| of the leaf, by entry


@dataclass(frozen=True)
class Point:
    """A place where both sides were evaluated."""

    kind: str
    verdict: Verdict
    reason: str
    digits: float


@dataclass(frozen=True)
class Branch:
    """A decision in the formulas, and the sides of it that were seen and reached an output."""

    place: str
    kind: str
    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    special: bool = False  # an (in)equality, which only a special case meets: isnan, == 0

    def __str__(self) -> str:
        return f"{self.kind} at {self.place}: seen {', '.join(self.seen) or 'nothing'}"


@dataclass(frozen=True)
class Witness:
    """Another way to the derivative, and whether it agrees with the hand rule and with the truth."""

    name: str
    agrees_with_hand: bool
    agrees_with_truth: bool
    digits: float  # of the agreement with the truth


@dataclass(frozen=True)
class Link:
    """A named value of the backward pass, or a leaf, where the rule is wrong.

    inherited: it is what follows from the cotangents that the rule itself has downstream, so the fault is not here.
    """

    name: str
    verdict: Verdict
    inherited: bool
    digits: float  # of the agreement with the truth


@dataclass(frozen=True)
class Cause:
    """An explanation of what is wrong. kind: one of `mistakes.TEXTS`; leaf: the leaves that it explains; digits: to
    which it gives the wrong values, at all points tried; fix: what would make it right. is_known: False if it is no
    mistake that is known, but what can be seen; `fix` is then what to do next."""

    kind: str
    sentence: str
    leaf: str
    digits: float
    fix: str
    is_known: bool = True


@dataclass(frozen=True)
class Survivor:
    """A change of the rule that this check did not notice, and why it could not."""

    what: str
    place: str
    reason: str


@dataclass(frozen=True)
class Power:
    """Of the changes of the rule that make another function of it, how many were noticed."""

    killed: int
    non_equivalent: int
    survivors: tuple[Survivor, ...]

    def __str__(self) -> str:
        lines = [f"{self.killed} of {self.non_equivalent} changes of the rule are noticed"]
        return "\n".join(lines + [f"  not {s.what} at {s.place}: {s.reason}" for s in self.survivors])


@dataclass(frozen=True)
class Grade:
    """The accuracy of one leaf in one dtype: correct digits, and the largest error in units in the last place."""

    path: str
    dtype: str
    hand_digits: float
    hand_ulps: float
    autodiff_digits: float
    autodiff_ulps: float
