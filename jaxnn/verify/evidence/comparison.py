"""The two sides of a comparison, each a function (evaluation, balls of the float leaves) -> list of arrays of balls.

A side is the jaxpr of a JAX function; or NumPy code run on real numbers; or, for the truth of NumPy code, central
differences of its cost at high precision. A rule that is none of these is a black box: it runs in its dtype.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal, jaxprs_in_params

from jaxnn.verify.arguments import BadAnswer
from jaxnn.verify.arithmetic import numpy_code, primitives
from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.arithmetic.control_flow import CALLS
from jaxnn.verify.arithmetic.decisions import Undecided, Unsupported
from jaxnn.verify.arithmetic.evaluation import TRANSPARENT, Evaluation, TooLarge
from jaxnn.verify.evidence.differences import along, gradient, kinked, random_direction, slopes
from jaxnn.verify.tracing.jaxprs import MODES, Mode, free_inputs, trace

ENTRIES = 200  # up to so many, every one is differenced; beyond, a random direction of each leaf


@dataclass(frozen=True)
class Comparison:
    claim: Callable | None  # None: a black box
    truth: Callable
    mode: Mode | None
    scalar: Any = None  # the forward pass as a jaxpr
    hand: Any = None  # the hand rule as one, where it can be
    directions: Any = None  # one for each leaf, where the truth is known along these alone
    numpy: bool = False
    kinked: Callable | None = None  # of NumPy code: whether there is a kink at these balls

    def free(self, problem):
        """Which float leaves are inputs of its jaxprs."""
        assert self.mode is not None, "NumPy code has no jaxprs"
        return free_inputs(problem.arguments, self.mode)

    @property
    def dtype(self):
        """In which the constants are written."""
        return np.float64 if self.mode is None or self.mode.x64 else np.float32


def comparison_of(problem):
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
        if not mode.every and in_numpy(problem):  # which would round what it makes of data that are constants
            found = {"claim": {}, "truth": {}}
            break
        if all(mode in jaxprs for jaxprs in found.values()):
            if without_rule(found["claim"][mode].jaxpr) and not without_rule(found["truth"][mode].jaxpr):
                continue  # a kernel or a callback: it runs in its own dtype
            claim, truth = (of_jaxpr(found[name][mode], arguments, mode) for name in ("claim", "truth"))
            return Comparison(claim, truth, mode, traced_scalar(problem, mode), found["claim"][mode])
    own = next((m for m in (*MODES[2:], *MODES[:2]) if m in found["truth"]), None)
    if own:
        claim = None if found["claim"] or not works(of_numpy(problem.claim), arguments) else of_numpy(problem.claim)
        return Comparison(claim, of_jaxpr(found["truth"][own], arguments, own), own, traced_scalar(problem, own))
    if found["claim"]:
        its, jaxpr = next(iter(found["claim"].items()))
        claim = of_jaxpr(jaxpr, arguments, its)
    else:
        claim = of_numpy(problem.claim)
    if problem.scalar is None:
        return Comparison(claim, of_numpy(problem.truth), None, numpy=True)
    scalar = of_numpy(lambda floats: [problem.scalar(floats)])
    extra = len(problem.paths) - len(arguments.differentiated)  # the value itself
    if sum(arguments.floats[i].size for i in arguments.differentiated) <= ENTRIES:
        truth = functools.partial(gradient, scalar, arguments=arguments, extra=extra)
        return Comparison(claim, truth, None, numpy=True, kinked=functools.partial(kinked, scalar, arguments=arguments))
    directions = [random_direction(i, arguments.floats[i].shape) for i in arguments.differentiated]
    return Comparison(
        along(claim, directions),
        lambda ev, balls: slopes(scalar, ev, balls, arguments, directions, extra),
        None,
        directions=directions,
        numpy=True,
        kinked=functools.partial(kinked, scalar, arguments=arguments),
    )


def without_rule(jaxpr):
    """Whether a primitive computes with floats in a way that balls do not know."""
    for eqn in jaxpr.eqns:
        known = eqn.primitive.name in primitives.RULES.keys() | CALLS.keys() | TRANSPARENT | {"debug_callback"}
        if not known and any(is_float(v.aval) for v in eqn.invars if hasattr(v.aval, "dtype")):
            return True
        if any(map(without_rule, jaxprs_in_params(eqn.params))) and eqn.primitive.name in CALLS:
            return True
    return False


def traced_scalar(problem, mode):
    if problem.scalar is None:
        return None
    return trace(lambda floats: [problem.scalar(floats)], problem.arguments, mode)


def check_steady(problem, comparison, floats):
    """BadAnswer if one of the functions computes something else when it is called again."""
    scalar = problem.scalar and (lambda v: [problem.scalar(v)])
    for who, f, before in (("hand rule", problem.claim, comparison.hand), ("forward pass", scalar, comparison.scalar)):
        if f is None:
            continue
        try:
            again = functools.partial(trace, f, problem.arguments, comparison.mode or MODES[0])
            same = written(before or again()) == written(again())
        except Exception:  # NumPy code
            once, twice = (run(f, floats) for _ in range(2))
            same = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(once, twice, strict=True))
        if not same:
            raise BadAnswer(
                f"The {who} computes something else when it is called again: it draws without a key, or changes "
                "something outside of itself. Make it a function of its arguments alone."
            )


def written(closed):
    """A jaxpr as its primitives and constants."""
    inner = [written(v) for eqn in closed.jaxpr.eqns for v in eqn.params.values() if isinstance(v, ClosedJaxpr)]
    names = [eqn.primitive.name for eqn in closed.jaxpr.eqns]
    literals = [np.asarray(v.val).tobytes() for eqn in closed.jaxpr.eqns for v in eqn.invars if isinstance(v, Literal)]
    return names, literals, [np.asarray(c).tobytes() for c in closed.consts if is_float(c)], inner


def in_numpy(problem):
    """Whether both the rule and the cost can be evaluated as NumPy code."""
    of = [problem.claim, *[lambda floats: [problem.scalar(floats)]] * (problem.scalar is not None)]
    return all(works(of_numpy(f), problem.arguments) for f in of)


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
        with numpy_code.computing(ev):
            try:
                return [numpy_code.to_balls(v) for v in f([numpy_code.of_balls(b) for b in balls])]
            except (Undecided, TooLarge):
                raise
            except Exception as error:  # NumPy has many ways to say that a function does not work on objects
                line = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
                raise Unsupported(f"NumPy code on real numbers: {line}") from error

    return side


def run(f, floats, dtype=None):
    """f in floating point, on floats cast to `dtype`, or as they are: a list of NumPy arrays."""
    x64 = jax.config.read("jax_enable_x64") if dtype is None else dtype == np.float64
    with jax.enable_x64(x64), np.errstate(all="ignore"):
        return [np.asarray(v) for v in f([np.array(v, dtype) for v in floats])]
