"""What is wrong with a wrong gradient: each known mistake makes a gradient of its own, and one of these is the user's.

The mistakes are made on the way back through the user's cost (predictions.py), in the leaves of the true gradient, and
in the data. A cause is listed if its gradient is the wrong one at several points, in float64, and the right leaves stay
right.
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import Problem
from jaxnn.verify.diagnosis.gradients import Point, flat, gradient_by_hand, inputs_at, with_leaves
from jaxnn.verify.diagnosis.guesses import Guess, Origin, guesses_of, of_factor
from jaxnn.verify.diagnosis.mistakes import RANK, TEXTS, Mistake, Words
from jaxnn.verify.diagnosis.predictions import (
    PART_OF_ERROR,
    RIGHT,
    ROUNDING,
    SAME_FACTOR,
    Predictions,
    predictions_of,
)
from jaxnn.verify.diagnosis.repair import repairs
from jaxnn.verify.evidence.comparison import Comparison, comparison_of
from jaxnn.verify.evidence.comparison import run as run_in_floats
from jaxnn.verify.evidence.outcome import Outcome
from jaxnn.verify.evidence.points import GENERIC, redraw
from jaxnn.verify.reports.findings import Cause
from jaxnn.verify.tracing.floats import Approximation
from jaxnn.verify.tracing.numpy_code import in_jax

FEW = 20  # entries, of which so few points cannot tell mistakes apart
SAME_GRADIENT = 1e-7  # two ways to compute one gradient agree up to this difference, relative to it
ALIKE = 3  # causes that say the same of the same leaves


def causes(
    problem: Problem,
    comparison: Comparison,
    outcome: Outcome,
    problem_of: Callable[[tuple[PyTree, ...]], Problem],
    args: tuple[PyTree, ...],
    seed: int | list[int],
) -> tuple[Cause, ...]:
    """The `Cause`s of a wrong gradient, likeliest first; () for a rule or a cost that cannot be traced.

    problem: problem_of(args); outcome: of a point where the gradient is wrong; seed: of the points that are drawn."""
    if problem.scalar is None or comparison.claim is None:
        return ()
    x64 = jax.config.read("jax_enable_x64")
    given = problem
    try:
        in_numpy = {"has_numpy_rule": comparison.hand_jaxpr is None, "has_numpy_cost": comparison.scalar_jaxpr is None}
        if any(in_numpy.values()):
            with promotion_of_numpy():
                problem = in_jax(given, **in_numpy, decides=True)
                comparison = comparison_of(problem)
        if not (comparison.hand_jaxpr and comparison.scalar_jaxpr and comparison.mode and comparison.mode.x64):
            return ()

        def problem_of_in_jax(args: tuple[PyTree, ...]) -> Problem:
            with jax.enable_x64(x64):  # as the user has it
                return in_jax(problem_of(args), **in_numpy, decides=True)

        points = points_for(problem, outcome, seed)
        with jax.enable_x64(True), promotion_of_numpy(), np.errstate(all="ignore"):
            points = [floats for floats in points if has_finite_cost(problem, comparison, floats)]
            if problem is not given and not is_as_given(comparison, given, points):
                return ()
            predictions = predictions_of(problem, comparison, points, problem_of_in_jax, args)
            if not predictions:
                return ()
            hand = gradient_by_hand(problem, comparison, points)
            sevenfold = hand
            if problem.cotangents:
                scaled = with_leaves(points, problem.cotangents, lambda dout: 7 * np.asarray(dout, np.float64))
                sevenfold = gradient_by_hand(problem, comparison, scaled) / 7
            inputs = [inputs_at(problem, comparison, floats) for floats in points]
            return explained(predictions, hand, sevenfold, comparison.jaxprs[0], inputs)
    except Exception:  # An edit may not be possible for this cost: the verdict stands without an explanation.
        return ()


@contextlib.contextmanager
def promotion_of_numpy() -> Iterator[None]:
    """Shapes and dtypes are promoted as NumPy does it, whatever the user's settings."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def points_for(problem: Problem, outcome: Outcome, seed: int | list[int]) -> list[Point]:
    """The floats at which gradients are compared: those of the outcome, and new ones."""
    arguments, rng = problem.arguments, np.random.default_rng(seed)
    few = sum(arguments.floats[i].size for i in arguments.differentiated) < FEW
    same_shapes = [v.shape for v in outcome.floats] == [v.shape for v in arguments.floats]
    points: list[Point] = [list(outcome.floats if same_shapes else arguments.floats)]
    for _ in range(5 if few else 2):
        new = redraw(
            GENERIC,
            arguments.floats,
            arguments.dtypes,
            problem.redrawable,
            problem.cotangents,
            rng,
            problem.domains,
        )
        points.append(new)
    return points


def has_finite_cost(problem: Problem, comparison: Comparison, floats: Point) -> bool:
    """Whether a point is in the domain of the cost."""
    return bool(np.isfinite(Approximation()(comparison.jaxprs[1], inputs_at(problem, comparison, floats))[0]))


def is_as_given(comparison: Comparison, given: Problem, points: Sequence[Point]) -> bool:
    """Whether the traced rule and the traced cost give what the user's own code gives."""
    n = len(given.arguments.differentiated)
    pairs = list(zip(comparison.jaxprs, (given.claim, given.cost), strict=True))
    for floats in points:
        for traced, own in pairs:
            ours = flat(Approximation()(traced, inputs_at(given, comparison, floats))[:n])
            theirs = flat(run_in_floats(own, floats, np.float64)[:n])
            if not np.allclose(ours, theirs, SAME_GRADIENT, RIGHT * np.abs(theirs).max(initial=0)):
                return False
    return True


class Match(NamedTuple):
    """A guess that gives the wrong leaves, up to a factor for each."""

    guess: Guess
    leaves: frozenset[int]
    factors: dict[int, float]  # {leaf: c}, where c is not 1
    digits: float

    @property
    def rank(self) -> tuple[int, int, int]:
        """The best match has the least: fewer factors, more leaves, a likelier mistake."""
        return len(set(self.factors.values())), -len(self.leaves), RANK[self.guess.kind]

    @property
    def is_whole(self) -> bool:
        """Whether it gives one leaf as it is, without a factor."""
        return len(self.factors) < len(self.leaves)


def explained(
    predictions: Predictions,
    hand: np.ndarray,
    sevenfold: np.ndarray,
    rule: ClosedJaxpr,
    inputs: Sequence[Sequence[np.ndarray]],
) -> tuple[Cause, ...]:
    """The `Cause`s, so that each wrong leaf has its own.

    hand: what the rule gives; sevenfold: what it gives for 7 times the cotangents, over 7; rule: its jaxpr; inputs: of
    that, at each point."""
    fault = faults_of(predictions, hand)
    wrong = [k for k, error in enumerate(fault) if error > RIGHT]
    matches = matches_of(predictions, hand, fault, wrong)

    whole = best([match for match in matches if match.is_whole], [])
    explanations = causes_of(predictions, whole, hand)
    unexplained = without_match(wrong, whole)
    differs = np.abs(sevenfold - hand) > SAME_GRADIENT * predictions.scale
    nonlinear = [k for k in unexplained if differs[predictions.leaf == k].any()]
    linear = [k for k in unexplained if k not in nonlinear]
    if nonlinear:
        explanations.append(cause(predictions, Guess(Mistake.NONLINEAR_IN_COTANGENT, {}, hand), nonlinear, math.nan))
    repair_causes = repaired(predictions, linear, rule, inputs)
    if repair_causes:
        return (*explanations, *repair_causes)

    scaled = best([match for match in matches if not match.is_whole], whole)
    explanations += causes_of(predictions, scaled, hand)
    unknown_leaves = without_match(linear, scaled)
    if unknown_leaves:
        explanations.append(unknown(predictions, hand, unknown_leaves))
    return tuple(explanations)


def without_match(leaves: Sequence[int], matches: Sequence[Match]) -> list[int]:
    """The leaves that none of the matches gives."""
    return [k for k in leaves if not any(k in match.leaves for match in matches)]


def faults_of(predictions: Predictions, hand: np.ndarray) -> list[float]:
    """The largest error of each leaf, relative to it."""
    error = np.abs(hand - predictions.true) / predictions.scale
    return [error[predictions.leaf == k].max(initial=0) for k in range(len(predictions.paths))]


def matches_of(predictions: Predictions, hand: np.ndarray, fault: list[float], wrong: Sequence[int]) -> list[Match]:
    """The guesses that give the wrong leaves."""
    matches: list[Match] = []
    origins: set[Origin] = set()  # an edit that gives all leaves that it changes is not asked for one alone
    for guess in guesses_of(predictions, hand, wrong):
        if guess.origin in origins:
            continue
        match = match_of(predictions, hand, fault, guess)
        if match:
            matches.append(match)
            if guess.origin:
                origins.add(guess.origin)
    return matches


def match_of(predictions: Predictions, hand: np.ndarray, fault: list[float], guess: Guess) -> Match | None:
    """The `Match` of a guess; None if it changes no leaf, or one that is right, or one to what is not the user's."""
    factors: dict[int, float] = {}
    leaves: set[int] = set()
    digits = 16.0
    for k in range(len(predictions.paths)):
        entries = predictions.leaf == k
        G, H, T = (v[entries] / predictions.scale[entries] for v in (hand, guess.gradient, predictions.true))
        if np.abs(H - T).max(initial=0) < RIGHT:
            continue  # the guess does not change this leaf
        if guess.kind is Mistake.CONSTANT_FACTOR and np.abs(H).max(initial=0) < ROUNDING:
            return None  # a factor of one path, which cancels another
        c, enough = 1.0, max(PART_OF_ERROR * fault[k], ROUNDING)
        if np.abs(G - H).max() > enough and G.size > predictions.points:
            c = float(G @ H / max(H @ H, 1e-300))
        error = np.abs(G - c * H).max()
        if fault[k] <= RIGHT or not error <= enough:
            return None
        if abs(c - 1) > SAME_FACTOR:
            factors[k] = float(f"{c:.9g}")
        leaves.add(k)
        digits = min(digits, -math.log10(max(error, 1e-16)))
    return Match(guess, frozenset(leaves), factors, digits) if leaves else None


def best(matches: list[Match], chosen: list[Match]) -> list[Match]:
    """The matches that say more than those that are chosen already, the best first."""
    new: list[Match] = []
    for match in sorted(matches, key=lambda match: match.rank):
        better = [*chosen, *new]
        kinds = {other.guess.kind for other in better if other.leaves == match.leaves}
        is_said = match.guess.kind in kinds or (
            match.guess.kind is Mistake.EXTRA_MEAN and Mistake.BIAS_AVERAGED in kinds
        )
        if is_said or len(kinds) == ALIKE or any(explains_more(other, match) for other in better):
            continue
        new.append(match)
    return new


def explains_more(other: Match, match: Match) -> bool:
    """Whether another match makes this one needless: by more leaves, or by a leaf without a factor."""
    return match.leaves < other.leaves or (bool(match.factors) and not match.leaves.isdisjoint(other.leaves))


def causes_of(predictions: Predictions, matches: Sequence[Match], hand: np.ndarray) -> list[Cause]:
    """The cause that each match says, and one for each of its factors besides."""
    explanations = []
    for match in matches:
        explanations.append(cause(predictions, match.guess, match.leaves, match.digits))
        for c in dict.fromkeys(match.factors.values()):
            kind, words = of_factor(predictions, c, {})
            leaves = [k for k, factor in match.factors.items() if factor == c]
            explanations.append(cause(predictions, Guess(kind, words, hand), leaves, match.digits, besides=True))
    return explanations


def repaired(
    predictions: Predictions, leaves: list[int], rule: ClosedJaxpr, inputs: Sequence[Sequence[np.ndarray]]
) -> list[Cause]:
    """The causes of the faults in these leaves that a change of the rule itself shows."""
    if not leaves:
        return []
    true = {k: predictions.part(predictions.true, k) for k in leaves}
    scale = {k: predictions.part(predictions.scale, k) for k in leaves}

    def is_right(results: list[np.ndarray], point: int) -> bool:
        return all((np.abs(results[k] - true[k][point]) <= RIGHT * scale[k][point]).all() for k in leaves)

    first = itertools.islice(repairs(rule, inputs, is_right, predictions.names), ALIKE)
    return [cause(predictions, Guess(repair.kind, repair.words, predictions.true), leaves, 9.0) for repair in first]


def cause(
    predictions: Predictions, guess: Guess, leaves: Collection[int], digits: float, besides: bool = False
) -> Cause:
    """The `Cause` of the faults in these leaves; besides: whether it is said after another."""
    names = [predictions.paths[k] for k in sorted(leaves)]
    who = "the gradient" if len(names) == len(predictions.paths) > 1 else f"the gradient of {', '.join(names)}"
    words: Words = {"who": who}
    sentence, fix = TEXTS[guess.kind].filled(words | guess.words, besides)
    return Cause(
        kind=guess.kind.value,
        sentence=sentence,
        leaf=", ".join(names),
        digits=digits,
        fix=fix,
        is_known=guess.kind is not Mistake.UNKNOWN,
    )


def unknown(predictions: Predictions, hand: np.ndarray, leaves: Sequence[int]) -> Cause:
    """What can be seen of a mistake that is none of the known ones."""
    patterns = [f"{predictions.paths[k]}: {pattern(predictions, hand, k)}" for k in leaves]
    guess = Guess(Mistake.UNKNOWN, {"what": "; ".join(patterns)}, hand)
    return cause(predictions, guess, leaves, math.nan)


def pattern(predictions: Predictions, hand: np.ndarray, k: int) -> str:
    """Which entries of a leaf are wrong at the first point, and by how much."""
    ours, true = (predictions.part(v, k)[0] for v in (hand, predictions.true))
    wrong = np.abs(ours - true) > RIGHT * np.abs(true).max(initial=1e-300)
    sentence = f"{wrong.sum()} of {wrong.size} entries are wrong"
    rows = np.flatnonzero(wrong.reshape(len(wrong), -1).any(1)) if wrong.ndim else np.array([])
    if 0 < len(rows) <= len(wrong) / 2:
        noun = "row" if len(rows) == 1 else "rows"
        sentence += f", in {noun} {', '.join(map(str, rows))} alone"
    known = wrong & (true != 0)
    if known.any():
        ratio = ours[known] / true[known]
        sentence += f", by hand / true from {ratio.min():.3g} to {ratio.max():.3g}"
    return sentence
