"""The two sides of a comparison, each a function (evaluation, balls of the float leaves) -> list of arrays of balls.

A side is the jaxpr of a JAX function; or NumPy code run on real numbers; or, for the truth of NumPy code, central
differences of its cost at high precision. A rule that is none of these is a black box: it runs in its dtype.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flint import arb

from jaxnn.verify import reals
from jaxnn.verify.arguments import Arguments, BadAnswer
from jaxnn.verify.balls import ZERO, enter, wrap
from jaxnn.verify.decisions import Undecided
from jaxnn.verify.exact import Evaluation, TooLarge, Unsupported
from jaxnn.verify.trace import MODES, Mode, free_inputs, trace

ENTRIES = 200  # up to so many, every one is differenced; beyond, a random direction of each leaf


@dataclass(frozen=True)
class Problem:
    """Two functions of the same float leaves that should be one: `claim` by hand, `truth` by autodiff.

    Both give a list of arrays, named by `paths`. The first of them, one for each differentiated float leaf, are the
    gradient of `scalar`, where there is one.
    """

    title: str
    arguments: Arguments
    claim: Callable
    truth: Callable
    scalar: Callable | None
    paths: tuple[str, ...]
    redrawn: tuple[int, ...]  # of the float leaves
    always: tuple[int, ...] = ()  # cotangents: random at every point


@dataclass(frozen=True)
class Sides:
    claim: Callable | None  # None: a black box
    truth: Callable
    mode: Mode | None
    directions: Any = None  # one for each leaf, where the truth is known along these alone
    numpy: bool = False


def sides(problem):
    """`Sides` of a problem; the error of the user's own function where it does not run at all."""
    arguments = problem.arguments
    found: dict[str, dict] = {"claim": {}, "truth": {}}
    for mode in MODES:
        for name in found:
            try:
                found[name][mode] = trace(getattr(problem, name), arguments, mode)
            except BadAnswer:
                raise
            except Exception:  # whatever a function says that was not written for this mode
                continue
        if all(mode in jaxprs for jaxprs in found.values()):
            return Sides(*(of_jaxpr(found[name][mode], arguments, mode) for name in ("claim", "truth")), mode)
    mode = next((m for m in (*MODES[2:], *MODES[:2]) if m in found["truth"]), None)
    if mode:
        claim = of_numpy(problem.claim) if works(of_numpy(problem.claim), arguments) else None
        return Sides(claim, of_jaxpr(found["truth"][mode], arguments, mode), mode)
    if found["claim"]:
        its, jaxpr = next(iter(found["claim"].items()))
        claim = of_jaxpr(jaxpr, arguments, its)
    else:
        claim = of_numpy(problem.claim)
    if problem.scalar is None:
        return Sides(claim, of_numpy(problem.truth), None, numpy=True)
    scalar = of_numpy(lambda floats: [problem.scalar(floats)])
    extra = len(problem.paths) - len(arguments.differentiated)  # the value itself
    if sum(arguments.floats[i].size for i in arguments.differentiated) <= ENTRIES:
        return Sides(claim, lambda ev, balls: gradient(scalar, ev, balls, arguments, extra), None, numpy=True)
    directions = [random_direction(i, arguments.floats[i].shape) for i in arguments.differentiated]
    return Sides(
        along(claim, directions),
        lambda ev, balls: slopes(scalar, ev, balls, arguments, directions, extra),
        None,
        directions,
        numpy=True,
    )


def works(side, arguments):
    """Whether a side can be evaluated at all."""
    ev = Evaluation()
    try:
        side(ev, [ev.enter(v) for v in arguments.floats])
    except Unsupported:
        return False
    except Undecided:
        pass
    return True


def of_jaxpr(closed, arguments, mode):
    free = free_inputs(arguments, mode)
    return lambda ev, balls: ev(closed, [balls[i] for i in free])


def of_numpy(f):
    def side(ev, balls):
        with reals.computing(ev):
            try:
                return [reals.to_balls(v) for v in f([reals.of_balls(b) for b in balls])]
            except (Undecided, TooLarge):
                raise
            except Exception as error:  # NumPy has many ways to say that a function does not work on objects
                raise Unsupported(f"NumPy code on real numbers: {error}") from error

    return side


def difference(scalar, ev, balls, i, way):
    """(S(v + h·way) − S(v − h·way)) / 2h of float leaf i, its radius widened for what h leaves out.

    A rounded constant would be one number at one end and another at the other; it is taken exactly, and the slope
    widened by what its rounding can mean.
    """
    exact = Evaluation(ev.precision, ties=ev.ties, deadline=ev.deadline)
    exact.sides = ev.sides
    balls = [np.frompyfunc(arb.mid, 1, 1)(v) for v in balls]
    h = arb(2) ** -(ev.precision * 2 // 5)
    ends = [scalar(exact, [*balls[:i], wrap(balls[i] + way * step), *balls[i + 1 :]])[0].ravel()[0] for step in (h, -h)]
    slope = (ends[0] - ends[1]) / (2 * h)
    left_out = arb(2) ** -(ev.precision * 3 // 5) * (abs(slope) + abs(ends[0]))
    return slope + arb(0, 1) * (left_out + (abs(slope) * 2.0**-48 if ev.rounded else 0))


def gradient(scalar, ev, balls, arguments, extra):
    out = []
    for i in arguments.differentiated:
        leaf = np.empty(balls[i].shape, object)
        for index in np.ndindex(leaf.shape):
            way = np.full(leaf.shape, ZERO)
            way[index] = arb(1)
            leaf[index] = difference(scalar, ev, balls, i, way)
        out.append(leaf)
    return out + scalar(ev, balls)[:extra]


def slopes(scalar, ev, balls, arguments, directions, extra):
    pairs = zip(arguments.differentiated, directions, strict=True)
    return [wrap(difference(scalar, ev, balls, i, way)) for i, way in pairs] + scalar(ev, balls)[:extra]


def along(side, directions):
    """The side's inner products with the directions."""

    def products(ev, balls):
        out = side(ev, balls)
        n = len(directions)
        return [wrap((v * way).sum()) for v, way in zip(out[:n], directions, strict=True)] + out[n:]

    return products


def random_direction(i, shape):
    return enter(np.random.default_rng(i).integers(-8, 9, shape) / 8 + 1 / 64)


def run(f, floats, dtype=None):
    """f in floating point, on floats cast to `dtype`, or as they are: a list of NumPy arrays."""
    with jax.enable_x64(jax.config.read("jax_enable_x64") if dtype is None else dtype == np.float64):
        return [np.asarray(v) for v in f([np.array(v, dtype) for v in floats])]
