"""Right derivatives at a kink: where exactly equal numbers were compared, any convex choice of the two sides is one.

Bolte and Pauwels (2020): for each tied unit one s in [0, 1], the same in every entry, between the derivatives that hold
if it fell to the one or the other side. max(z, 0) at z = 0 may have 0, ½ or 1.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple

import numpy as np
from flint import arb
from scipy.optimize import lsq_linear

from jaxnn.verify.arithmetic.balls import finite, flat, wrap
from jaxnn.verify.arithmetic.decisions import Place, Ties, Undecided, step_of
from jaxnn.verify.arithmetic.evaluation import Step
from jaxnn.verify.evidence.judge import agree

UNITS = 32
Leaves = list[np.ndarray]  # of balls
Pairs = Mapping[tuple[int, int], tuple[Place, arb, arb]]  # `Ties.pairs`: numbers that tie, and the place where they do


class Explained(Enum):
    """Whether a choice at the ties makes a rule right."""

    RIGHT = auto()
    WRONG = auto()
    TOO_MANY = auto()  # ties, to try all choices


class Choice(NamedTuple):
    explained: Explained
    words: str = ""  # which choice makes it right


def kinks(ties: Pairs, steps: Sequence[Step], dependent: Collection[int]) -> list[Place]:
    """The ties at which a derivative can jump: of values that depend on the arguments, compared for order, not for
    equality."""
    numbers = {name: step_of(name) for name, _, _ in ties.values()}
    return [name for name, n in numbers.items() if n in dependent and steps[n].name not in ("eq", "ne")]


def choice(
    hand: Leaves, truth: Leaves, evaluate: Callable[[Ties], Leaves], names: Sequence[Place], digits: float
) -> Choice:
    """The `Choice` at the ties `names` that makes `hand` right; evaluate(ties): the truth with the ties chosen so."""
    steps = sorted({step_of(name) for name in names})
    if agree(hand, truth, digits):
        return right(names, "does as JAX does")
    try:
        for shares in equal_shares(len(steps)):
            by_step = dict(zip(steps, itertools.cycle(shares), strict=False))
            ties = Ties({name: by_step[step_of(name)] for name in names}, shares[0], steps)
            if agree(hand, evaluate(ties), digits):
                share = ", ".join(f"{v:g}" for v in dict.fromkeys(shares))
                return right(names, f"takes {share} of the derivative of the larger side")
        if len(names) > UNITS or len(steps) > 3:
            return Choice(Explained.TOO_MANY)
        base = evaluate(Ties(default=1.0, steps=steps))
        flips = [(name, evaluate(Ties({name: 0.0}, default=1.0, steps=steps))) for name in names]
    except Undecided:
        return Choice(Explained.TOO_MANY)
    finite_flips = [(name, leaves) for name, leaves in flips if all(map(finite, leaves))]  # no choice is not finite
    if not finite_flips or not all(map(finite, base)):
        return Choice(Explained.WRONG)
    names, moved = zip(*finite_flips, strict=True)
    found, firsts = least_squares(hand, base, moved, names, digits)
    if found.explained == Explained.RIGHT:  # ties within ties do not add up: all the choices at once
        ties = Ties(dict(zip(names, firsts, strict=True)), 1.0, steps)
        return found if agree(hand, evaluate(ties), min(digits, 9)) else Choice(Explained.WRONG)
    return found


def equal_shares(n: int) -> Iterable[tuple[float, ...]]:
    """Shares of n steps to try first: every combination of 0, ½ and 1 for up to 3 steps, else one for all."""
    return itertools.product((0.0, 0.5, 1.0), repeat=n) if n <= 3 else ((0.0,), (0.5,), (1.0,))


def least_squares(
    hand: Leaves, base: Leaves, moved: Sequence[Leaves], names: Sequence[Place], digits: float
) -> tuple[Choice, np.ndarray]:
    """(the choice that comes nearest to `hand`, the share in [0, 1] of the first side in each tie), were every tie's
    part in the derivative the same whatever the others are. base: all ties fall to the first side; moved: for each
    tie, that one falls to the other."""
    moves = [[wrap(b - a) for a, b in zip(base, leaves, strict=True)] for leaves in moved]
    gap = [wrap(h - a) for h, a in zip(hand, base, strict=True)]
    A = np.array([flat(move) for move in moves]).T
    size = np.abs(A).max(initial=0) or 1  # lsq_linear stops at an absolute tolerance
    s = lsq_linear(A / size, flat(gap) / size, bounds=(0, 1), method="bvls", max_iter=10 * UNITS).x
    mixed = [wrap(a + sum(m[k] * arb(v) for v, m in zip(s, moves, strict=True))) for k, a in enumerate(base)]
    if not agree(hand, mixed, min(digits, 9)):
        return Choice(Explained.WRONG), 1 - s
    groups: dict[Place, float] = defaultdict(float)  # of those that tie for one maximum, one alone can be it
    for name, share in zip(names, s, strict=True):
        groups[place_of_maximum(name)] += share
    if max(groups.values()) > 1 + 1e-9:  # other shares can give the same, unless no tie's move depends on the others'
        return Choice(Explained.WRONG if np.linalg.matrix_rank(A) == len(s) else Explained.TOO_MANY), 1 - s
    words = f"takes {', '.join(f'{round(1 - v, 3):g}' for v in s)} of the derivative of the larger side"
    return right(names, words), 1 - s


def place_of_maximum(name: Place) -> Place:
    """What ties for one maximum have in common: where its comparisons are; a tie of any other kind is alone."""
    if isinstance(name, tuple) and isinstance(name[0], tuple):
        return name[0]
    return name


def right(names: Sequence[Place], words: str) -> Choice:
    ties = f"{len(names)} exact {'tie' if len(names) == 1 else 'ties'}"
    where = f"at a kink ({ties}), where any choice between the two sides is right"
    return Choice(Explained.RIGHT, f"{where}, the rule {words}")
