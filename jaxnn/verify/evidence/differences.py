"""Derivatives of a cost by differences at high precision."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from flint import arb

from jaxnn.verify.arguments import Arguments
from jaxnn.verify.arithmetic.balls import ZERO, Balls, enter, is_balls, wrap
from jaxnn.verify.arithmetic.evaluation import Evaluation

BallFunction = Callable[[Evaluation, list[Balls]], list[Balls]]  # of the float leaves
Ways = Mapping[int, Balls]  # {number of a float leaf: a direction in which it moves}


def difference(scalar: BallFunction, ev: Evaluation, balls: list[Balls], ways: Ways) -> arb:
    """(S(v + h·way) − S(v − h·way)) / 2h for the ways of some float leaves; its radius widened for what h leaves out.

    A rounded constant would be one number at one end and another at the other; it is taken exactly, and the slope
    widened by what its rounding can mean.
    """
    h, (after, before) = along_line(scalar, ev, balls, ways, (1, -1))
    slope = (after - before) / (2 * h)
    left_out = arb(2) ** -(ev.precision * 3 // 5) * (abs(slope) + abs(after))
    return slope + arb(0, 1) * (left_out + abs(slope) * 16 * ev.unit)


def along_line(
    scalar: BallFunction, ev: Evaluation, balls: list[Balls], ways: Ways, steps: Sequence[int]
) -> tuple[arb, list[arb]]:
    """h, and S(v + k·h·way) for every k in steps."""
    exact = Evaluation(ev.precision, ties=ev.ties, deadline=ev.deadline)
    exact.truths = ev.truths
    exact.check_time(0, "a difference of the cost")
    centre = [exact.noted(wrap(np.frompyfunc(arb.mid, 1, 1)(v))) for v in balls]
    h = arb(2) ** -(ev.precision * 2 // 5)
    values = []
    for k in steps:
        moved = [wrap(v + ways[i] * (k * h)) if i in ways else v for i, v in enumerate(centre)]
        values.append(scalar(exact, moved)[0].ravel()[0])
    for ball in filter(is_balls, exact.literals.values()):
        ev.literal(float(ball[()]))  # ev knows then how far constants are rounded
    return h, values


def is_kinked(scalar: BallFunction, ev: Evaluation, balls: list[Balls], arguments: Arguments) -> bool:
    """Whether the slopes to the two sides along a random direction differ."""
    ways = {i: random_direction(i, balls[i].shape) for i in arguments.differentiated}
    _, (after, here, before) = along_line(scalar, ev, balls, ways, (1, 0, -1))
    bend = abs(after - 2 * here + before)
    return not (bend.is_zero() or bend < (abs(after - here) + abs(here - before)) * 1e-9)


def gradient(
    scalar: BallFunction, ev: Evaluation, balls: list[Balls], arguments: Arguments, values: BallFunction
) -> list[Balls]:
    """The difference along every entry of every differentiated leaf; then the values."""
    out = []
    for i in arguments.differentiated:
        leaf = np.ndarray(balls[i].shape, object)
        for index in np.ndindex(leaf.shape):
            way = np.full(leaf.shape, ZERO)
            way[index] = arb(1)
            leaf[index] = difference(scalar, ev, balls, {i: way})
        out.append(leaf)
    scalar(ev, balls)  # evaluated though it is not asked for: it tells ev which numbers tie
    return [*out, *values(ev, balls)]


def slopes(
    scalar: BallFunction,
    ev: Evaluation,
    balls: list[Balls],
    arguments: Arguments,
    directions: list[Balls],
    values: BallFunction,
) -> list[Balls]:
    """The difference along one direction of each differentiated leaf; then the values."""
    pairs = zip(arguments.differentiated, directions, strict=True)
    out = [wrap(difference(scalar, ev, balls, {i: way})) for i, way in pairs]
    scalar(ev, balls)  # evaluated though it is not asked for: it tells ev which numbers tie
    return [*out, *values(ev, balls)]


def along(side: BallFunction, directions: list[Balls]) -> BallFunction:
    """The side's inner products with the directions."""

    def products(ev: Evaluation, balls: list[Balls]) -> list[Balls]:
        out = side(ev, balls)
        n = len(directions)
        return [wrap(np.sum(v * way)) for v, way in zip(out[:n], directions, strict=True)] + out[n:]

    return products


def random_direction(seed: int | tuple[int, ...], shape: tuple[int, ...]) -> Balls:
    """`direction` in balls."""
    return enter(direction(seed, shape))


def direction(seed: int | tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Odd multiples of 1/64 from −63/64 to 65/64, none of them 0."""
    return np.random.default_rng(seed).integers(-8, 9, shape) / 8 + 1 / 64
