"""Where iterations run on: both sides of a problem, and differences of the values to which the forward pass converges.

The values converge where derivatives of the iterates need not: those of a bisection are 0, or of its bracket.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import flint
import jax
import numpy as np
from flint import arb
from jax import numpy as jnp

from jaxnn.verify.arguments import Problem
from jaxnn.verify.arithmetic.balls import Balls, enter, magnitude, wrap
from jaxnn.verify.arithmetic.decisions import Undecided
from jaxnn.verify.arithmetic.evaluation import Evaluation
from jaxnn.verify.evidence.comparison import Comparison, forward_pass, of_jaxpr
from jaxnn.verify.evidence.differences import BallFunction, Ways, along, direction, random_direction
from jaxnn.verify.evidence.judge import judgements
from jaxnn.verify.evidence.outcome import Check, entered
from jaxnn.verify.tracing.jaxprs import trace

PRECISIONS = (400, 1600, 6400)  # bits
TIMES, FEWER = 7, 4  # as many steps more as an iteration took
WIDEST = 8  # part of the numbers that move, the step of a difference
FINEST = 2.0**-120  # no value of an iteration is known better, relative to itself
FROZEN = 30  # digits, to which the values of what runs on stay as they were: a flag says that it is done
Found = TypeVar("Found")


class Sides(NamedTuple):
    """The rule and the truth, along one direction of each leaf."""

    hand: list[Balls]
    true: list[Balls]


class Limit(NamedTuple):
    """Differences of the values to which the forward pass converges, along one direction of each leaf.

    digits: to which they are known. moves: whether the values change behind the end at all."""

    slopes: list[Balls]
    digits: float
    moves: bool


def decided(find: Callable[[int], Found]) -> Found:
    """What is found with the first precision that decides; Undecided if none does."""
    for precision in PRECISIONS:
        try:
            with flint.ctx.workprec(precision):
                return find(precision)
        except Undecided:
            continue
    raise Undecided


def sides(check: Check, floats: Sequence[np.ndarray], times: int) -> Sides:
    """Both sides, where iterations run on for `times` as many steps; Undecided if no precision decides.

    The truth is that of forward mode: what reverse mode saves in an iteration is no longer the same when it runs on."""
    problem, comparison = check.problem, check.comparison
    assert comparison.claim is not None, "a black box is not evaluated in balls"
    rule, derivative = comparison.claim, comparison.truth
    if problem.scalar is not None:  # else they are along tangents as it is
        wanted = problem.arguments.differentiated
        directions = [random_direction(i, problem.arguments.floats[i].shape) for i in wanted]
        rule, derivative = along(rule, directions), slopes(problem, comparison)
    n = problem.derivatives

    def at(precision: int) -> Sides:
        ev = Evaluation(precision, deadline=check.deadline, runs_on=times)
        balls = entered(ev, floats, problem)
        return Sides(rule(ev, balls)[:n], derivative(ev, balls)[:n])

    return decided(at)


def slopes(problem: Problem, comparison: Comparison) -> BallFunction:
    """The derivatives of the forward pass along one direction of each leaf, by forward mode."""
    arguments = problem.arguments
    wanted = arguments.differentiated

    def of(floats: list) -> list[jax.Array]:
        g, inputs = forward_pass(problem, floats), [floats[i] for i in wanted]
        out = []
        for i in wanted:
            ways = [direction(i, v.shape) if k == i else np.zeros(v.shape) for k, v in zip(wanted, inputs, strict=True)]
            tangents = [jnp.asarray(way, v.dtype) for way, v in zip(ways, inputs, strict=True)]
            out.append(jax.jvp(g, (inputs,), (tangents,))[1])
        return out

    assert comparison.mode is not None, "NumPy code has no forward mode"
    return of_jaxpr(trace(of, arguments, comparison.mode), arguments, comparison.mode)


def limit(check: Check, floats: Sequence[np.ndarray]) -> Limit:
    """The `Limit`, by central differences; they are known as far as others agree, of fewer steps and a wider h.

    A difference leaves out h², and divides by h what the values have left to converge, which fewer steps tell."""
    values, lines = values_along(check.problem, check.comparison, floats)

    def at(precision: int) -> Limit:
        def values_at(times: int, h: float = 0.0, ways: Ways | None = None) -> list[Balls]:
            ev = Evaluation(precision, deadline=check.deadline, runs_on=times)
            balls = entered(ev, floats, check.problem)
            return values(ev, [wrap(v + ways[i] * h) if ways and i in ways else v for i, v in enumerate(balls)])

        def slopes(times: int, relative: float) -> list[Balls]:
            out = []
            for ways in lines:
                size = max(float(magnitude(enter(floats[i])) / magnitude(way)) for i, way in ways.items()) or 1.0
                h = size * relative
                ends = zip(values_at(times, h, ways), values_at(times, -h, ways), strict=True)
                out += [wrap((after - before) / (2 * arb(h))) for after, before in ends]
            return out

        end, before, here = (values_at(times) for times in (0, FEWER, TIMES))
        relative = min(1.0, (10.0 ** -agreement(before, here) + FINEST) ** (1 / 3)) / WIDEST
        found = slopes(TIMES, relative / 8)
        return Limit(found, agreement(slopes(FEWER, relative), found), moves=agreement(end, here) < FROZEN)

    return decided(at)


def values_along(
    problem: Problem, comparison: Comparison, floats: Sequence[np.ndarray]
) -> tuple[BallFunction, list[Ways]]:
    """(the values of the forward pass, the lines along which their derivatives are asked): of a cost, one of each leaf;
    of a function whose derivative is along tangents, these."""
    wanted = problem.arguments.differentiated
    if problem.scalar is not None:
        cost = comparison.cost(problem)
        return lambda ev, balls: cost(ev, balls)[:1], [{i: random_direction(i, floats[i].shape)} for i in wanted]
    assert problem.values is not None, "what has no cost has values"
    assert comparison.mode is not None, "NumPy code does not run on"
    values = of_jaxpr(trace(problem.values, problem.arguments, comparison.mode), problem.arguments, comparison.mode)
    tangents = {i: enter(floats[k]) for i, k in zip(wanted, problem.cotangents, strict=True)}
    return lambda ev, balls: values(ev, balls)[: problem.derivatives], [tangents]


def agreement(a: list[Balls], b: list[Balls]) -> float:
    """To how many digits of its leaf no entry differs."""
    error = max((float(j.errors.max(initial=0)) for j in judgements(a, b)), default=0.0)
    return -math.log10(error) if error else math.inf
