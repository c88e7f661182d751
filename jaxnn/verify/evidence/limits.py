"""The derivative at a point where autodiff's may not be one: limits of the derivatives beside it, along rays.

Where numbers tie, or the truth is not finite, a function is looked at beside the point, closer than any guard in
float64. If the gradients along all rays have one limit, and the value has no jump, that limit is the derivative. If
they differ, what lies between them is a subgradient (Clarke 1983, theorem 2.5.1: their convex hull), and right.
"""

from collections.abc import Iterator, Sequence
from enum import Enum, auto
from typing import NamedTuple

import flint
import numpy as np
from flint import arb
from scipy.optimize import nnls

from jaxnn.verify.arguments import Problem
from jaxnn.verify.arithmetic.balls import Balls, absolute, enter, finite, flat, magnitude, wrap
from jaxnn.verify.arithmetic.decisions import Undecided
from jaxnn.verify.arithmetic.evaluation import Evaluation, TooLarge
from jaxnn.verify.evidence.comparison import ENTRIES, Comparison, nothing, of_numpy
from jaxnn.verify.evidence.differences import gradient

NEAR = 1200  # bits: 2⁻¹²⁰⁰ is below every positive float64
PRECISIONS = (400, 3800)  # bits beyond those of the distance
MIXED = 4  # pairs of opposite rays
ROUNDS = 12
WIDTHS = (2.0**-6, 2.0**-12, 2.0**-30)  # of the noise on a ray that is aimed: a side may be thin
AXES = 8
OFF = 2.0**-300  # what is left of a derivative of √x there is twice as small
SAME = 1e-12  # two limits, relative to the largest entry
JUMP = 2.0**-16


class Beside(Enum):
    """What is found beside a point."""

    ONE = auto()  # derivative, whichever way the point is left
    SEVERAL = auto()  # limits, and between them the rule
    APART = auto()  # the rule is none of them
    JUMP = auto()  # of the value: there is no derivative
    NO_LIMIT = auto()
    UNTRIED = auto()  # there was no time, or no ray that balls can follow


class Ray(NamedTuple):
    value: list[Balls]
    slope: list[Balls]


class Rays:
    """Values and derivatives along rays from one point."""

    def __init__(self, problem: Problem, comparison: Comparison, floats: Sequence[np.ndarray], deadline: float):
        self.problem, self.comparison, self.deadline = problem, comparison, deadline
        self.floats = [enter(v) for v in floats]
        self.asked = problem.arguments.differentiated
        self.size = sum(self.floats[i].size for i in self.asked)
        self.by_differences = bool(comparison.differenced)
        self.more = PRECISIONS[-1 if self.by_differences else 0]
        self.here = self.at(np.zeros(self.size), 0, PRECISIONS[0]).value

    def at(self, direction: np.ndarray, distance: int, precision: int) -> Ray:
        """Both at x + 2^−distance · direction."""
        ev, start, n = Evaluation(precision, deadline=self.deadline), 0, self.problem.derivatives
        moved = list(map(ev.noted, self.floats))
        with flint.ctx.workprec(precision):
            for i in self.asked:
                v = self.floats[i]
                way = enter(direction[start : start + v.size].reshape(v.shape))
                moved[i] = wrap(v + way * arb(2) ** -distance)
                start += v.size
            if self.problem.scalar is None:
                leaves = self.comparison.truth(ev, moved)
                return Ray(leaves[n:], leaves[:n])
            cost = self.comparison.cost(self.problem)
            if self.by_differences and not self.comparison.differenced:
                leaves = gradient(cost, ev, moved, self.problem.arguments, of_numpy(nothing))
            else:
                leaves = self.comparison.truth(ev, moved)
            return Ray(cost(ev, moved), leaves[:n])

    def close(self, direction: np.ndarray, distance: int) -> Ray:
        """The same, as precise as is needed for narrow balls. Differences have steps that are far below 2^−distance."""
        for more in PRECISIONS[PRECISIONS.index(self.more) :]:
            self.more = more  # for the rays that follow too
            try:
                ray = self.at(direction, distance, distance + more)
            except Undecided:
                if more == PRECISIONS[-1]:
                    raise
                continue
            if all(map(is_narrow, ray.slope)):
                break
        return ray

    def limit(self, direction: np.ndarray) -> list[Balls] | Beside | None:
        """The derivative along a ray; the reason why there is none; None where the ray leaves the domain.

        Where autodiff is not finite though the value is, differences of the value may be."""
        ray = self.close(direction, NEAR)
        can_differ = self.problem.scalar is not None and not self.by_differences and self.size <= ENTRIES
        if can_differ and all(map(finite, ray.value)) and not all(map(finite, ray.slope)):
            self.by_differences, self.more = True, PRECISIONS[-1]
            ray = self.close(direction, NEAR)
        if not all(map(finite, ray.value)):
            return None
        if any(map(jumps, ray.value, self.here)):
            return Beside.JUMP
        return ray.slope if all(map(finite, ray.slope)) else Beside.NO_LIMIT

    def is_limit(self, direction: np.ndarray, slope: list[Balls]) -> bool:
        """Whether the derivative twice as near is still nearly this one."""
        return is_one(slope, self.close(direction, 2 * NEAR).slope, JUMP)


def is_narrow(leaf: Balls) -> bool:
    """Whether a leaf is known to more digits than two limits are compared to."""
    most = magnitude(leaf) * 2.0**-60
    return finite(leaf) and all(v.rad() <= most for v in leaf.flat)


def jumps(v: Balls, here: Balls) -> bool:
    """Whether two values, one beside the other, are not nearly equal."""
    pairs = zip(v.flat, here.flat, strict=True)
    return not all(abs(a - b) <= (1 + abs(b)) * JUMP for a, b in pairs)


def is_one(a: Sequence[Balls], b: Sequence[Balls], tolerance: float = SAME) -> bool:
    """Whether two limits are one, to the size of the larger."""
    whole = max(map(magnitude, (*a, *b)), default=arb(0))
    most = tolerance * whole + OFF
    return all(np.asarray(absolute(x - y) <= most, bool).all() for x, y in zip(a, b, strict=True))


class Search:
    """The limits that were met beside a point, and where the rule lies among them."""

    def __init__(self, rays: Rays, hand: Sequence[Balls]):
        self.rays, self.hand = rays, flat(hand)
        self.draw = np.random.default_rng(0)
        self.limits: list[list[Balls]] = []
        self.directions: list[np.ndarray] = []  # of the rays that met them first
        self.is_whole = True  # whether there was time for all rays

    def around(self) -> Beside:
        """What mixed rays find, each with its opposite."""
        for k, direction in enumerate(self.mixed()):
            try:
                reason = self.walk(direction)
            except TooLarge:
                self.is_whole = False
                if k < 2:
                    return Beside.UNTRIED
                break
            if reason:
                return reason
        return self.concluded()

    def aim(self) -> Beside:
        """What rays find that are aimed at the rule, until they come no nearer to it."""
        stalled, apart = 0, self.apart()
        for turn in range(ROUNDS):
            before, largest = len(self.limits), np.abs(apart).max()
            for width in WIDTHS:
                try:
                    reasons = [self.walk(direction) for direction in self.aimed(apart, width, axes=turn < 2)]
                except TooLarge:
                    return Beside.UNTRIED
                if any(reasons):
                    return next(filter(None, reasons))
                if self.is_inside(self.apart()):
                    return self.concluded()
            apart = self.apart()
            stalled = stalled + 1 if np.abs(apart).max() > largest / 2 or len(self.limits) == before else 0
            if stalled == 3:
                break
        return self.concluded()

    def concluded(self) -> Beside:
        """What the limits that were met say of the rule."""
        if not self.limits:
            return Beside.UNTRIED
        if not all(map(self.rays.is_limit, self.directions[:2], self.limits)):  # from one side and, mostly, the other
            return Beside.NO_LIMIT
        inside = self.is_inside(self.apart())
        if len(self.limits) == 1:
            return Beside.ONE
        return Beside.SEVERAL if inside else Beside.APART

    def walk(self, direction: np.ndarray) -> Beside | None:
        """Adds the limit along this ray, if it is a new one; a reason why it has none."""
        limit = self.rays.limit(direction)
        if isinstance(limit, Beside):
            return limit
        if limit is not None and not any(is_one(limit, other) for other in self.limits):
            self.limits.append(limit)
            self.directions.append(direction)
        return None

    def mixed(self) -> Iterator[np.ndarray]:
        """Directions, each with its opposite."""
        for _ in range(MIXED):
            way = self.generic()
            yield from (way, -way)

    def generic(self) -> np.ndarray:
        """A direction of which no entry is 0."""
        return self.draw.integers(-32, 32, self.rays.size) / 32 + 1 / 64

    @property
    def table(self) -> np.ndarray:
        """The limits as rows of floats."""
        return np.array([flat(limit) for limit in self.limits])

    @property
    def scale(self) -> float:
        """The largest entry of the limits."""
        return float(np.abs(self.table).max(initial=0)) or 1.0

    @property
    def settled(self) -> np.ndarray:
        """In which entries all limits agree."""
        return np.ptp(self.table, axis=0) <= SAME * self.scale

    @property
    def keeps_what_is_settled(self) -> bool:
        """Whether the rule is right in these entries."""
        return bool((np.abs(self.hand - self.table[0])[self.settled] <= SAME * self.scale).all())

    @property
    def shares(self) -> np.ndarray:
        """Of each limit, in the point of their convex hull that is nearest to the rule."""
        table = self.table / self.scale
        one = np.full(len(table), 1e3)
        return nnls(np.vstack([table.T, one]), np.append(self.hand / self.scale, 1e3))[0]

    def apart(self) -> np.ndarray:
        """From the nearest point of the limits' convex hull to the rule."""
        return self.hand - self.shares @ self.table

    def nearest(self) -> list[Balls]:
        """The limit or, of several, the nearest point of their hull; as wide as a limit may be off."""
        if len(self.limits) == 1:
            return [wrap(v + off(v)) for v in self.limits[0]]
        weights = [arb(share) for share in self.shares]
        by_leaf = zip(*self.limits, strict=True)
        return [wrap(sum(w * v for w, v in zip(weights, leaves, strict=True)) + off(leaves[0])) for leaves in by_leaf]

    def is_inside(self, apart: np.ndarray) -> bool:
        """Whether this is nothing but the rounding of floats."""
        return bool((np.abs(apart) <= 1e-9 * self.scale).all())

    def aimed(self, apart: np.ndarray, width: float, axes: bool) -> Iterator[np.ndarray]:
        """Rays towards where the rule is, with so much noise, and along the entries in which it is furthest from all
        limits; more mixed ones where the derivative has not an entry for each entry of what moves."""
        if self.rays.size != len(self.hand):
            yield from self.mixed()
            return
        way = apart / np.abs(apart).max()
        furthest: np.ndarray = np.argsort(-np.abs(apart))[: AXES if axes else 0]
        for centre in (way, *(np.eye(1, len(way), j)[0] for j in furthest)):
            noise = self.generic() * width
            yield from (centre + noise, centre - noise, noise - centre)


def off(v: Balls) -> arb:
    """How far a limit may be from where the last ray ended, as a ball around 0."""
    return arb(0, OFF) * (1 + magnitude(v))
