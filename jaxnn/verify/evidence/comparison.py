"""The two sides of a comparison, each a function (evaluation, balls of the float leaves) -> list of arrays of balls.

A side is the jaxpr of a JAX function; or NumPy code run on real numbers; or, for the truth of NumPy code, central
differences of its cost at high precision. A rule that is none of these is a black box: it runs in its dtype.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import chain
from weakref import WeakKeyDictionary

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxprs_in_params
from jax.typing import DTypeLike

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import Arguments, BadAnswer, Function, Problem
from jaxnn.verify.arithmetic import primitives
from jaxnn.verify.arithmetic.balls import Balls, is_float
from jaxnn.verify.arithmetic.control_flow import CALLS, written_out
from jaxnn.verify.arithmetic.decisions import Undecided, Unsupported
from jaxnn.verify.arithmetic.evaluation import TRANSPARENT, Evaluation, TooLarge
from jaxnn.verify.arithmetic.numpy_code import computing
from jaxnn.verify.arithmetic.places import with_stand_ins
from jaxnn.verify.arithmetic.real_numbers import of_balls, to_balls
from jaxnn.verify.evidence.differences import BallFunction, along, gradient, random_direction, slopes
from jaxnn.verify.tracing.bounded_loops import bounded
from jaxnn.verify.tracing.counted_loops import has_loop
from jaxnn.verify.tracing.jaxprs import (
    AS_WRITTEN,
    AS_WRITTEN_BY_PARAMETERS,
    IN_FLOAT64,
    IN_FLOAT64_BY_PARAMETERS,
    MODES,
    Mode,
    backwards,
    free_inputs,
    own_derivative,
    trace,
    with_own_constants,
)
from jaxnn.verify.tracing.kernels import has_kernel

SECONDS = 3  # to see whether a side can be evaluated
ENTRIES = 200  # up to so many, every one is differenced; beyond, a random direction of each leaf
CALLS_OF_NUMPY = 4  # a mask of few entries may be drawn twice
STEADY = 1e-4  # relative to the largest entry: what is drawn anew differs by more
COMPILED: WeakKeyDictionary[Function, dict[tuple, Callable[..., list]]] = WeakKeyDictionary()
Jaxprs = dict[Mode, ClosedJaxpr]


class Way(StrEnum):
    """How the truth is found, where not by reverse mode. In words, for a note."""

    REVERSE_MODE = ""
    FORWARD_MODE = "JAX cannot go back through the forward pass: the truth is that of forward mode"
    DIFFERENCES = "JAX cannot differentiate the forward pass: the truth is that of its differences"


@dataclass(frozen=True)
class Comparison:
    """How each side of a problem is computed."""

    claim: BallFunction | None  # None: a black box
    truth: BallFunction
    mode: Mode | None  # of the jaxprs; None for NumPy code
    scalar_jaxpr: ClosedJaxpr | None = None  # the forward pass
    hand_jaxpr: ClosedJaxpr | None = None  # the hand rule, if it can be traced
    numpy: bool = False
    differenced: BallFunction | None = None  # the forward pass, where the truth is that of its differences
    unknown: tuple[str, ...] = ()  # the primitives that make a black box of the hand rule
    has_kernel: bool = False  # whether a kernel is evaluated on either side
    way: Way = Way.REVERSE_MODE

    @property
    def jaxprs(self) -> tuple[ClosedJaxpr, ClosedJaxpr]:
        """(the hand rule, the forward pass)."""
        assert self.hand_jaxpr is not None, "the hand rule is not traced"
        assert self.scalar_jaxpr is not None, "the forward pass is not traced"
        return self.hand_jaxpr, self.scalar_jaxpr

    def cost(self, problem: Problem) -> BallFunction:
        """The forward pass itself."""
        if self.differenced:
            return self.differenced
        if self.scalar_jaxpr is None or self.mode is None:
            return of_numpy(problem.cost)
        return of_jaxpr(self.scalar_jaxpr, problem.arguments, self.mode)

    def free(self, problem: Problem) -> Sequence[int]:
        """Which float leaves are inputs of the jaxprs."""
        assert self.mode is not None, "NumPy code has no jaxprs"
        return free_inputs(problem.arguments, self.mode)


def comparison_of(problem: Problem) -> Comparison:
    """The `Comparison` of a problem; the error of the user's own function if it does not run at all.

    | hand rule               | truth            | how                                                               |
    |-------------------------|------------------|-------------------------------------------------------------------|
    | a jaxpr, in some mode   | a jaxpr, in that | both are evaluated, in the first such mode                        |
    | NumPy code              | a jaxpr          | the rule runs on real numbers                                     |
    | neither, or a kernel    | a jaxpr          | a black box                                                       |
    | a jaxpr                 | JAX has none     | differences of the cost's jaxpr                                   |
    | a jaxpr or NumPy code   | NumPy code       | differences of the cost; the truth itself if no cost is known     |

    NumPy code of both is preferred to jaxprs in which the data are constants: they would be rounded.
    """
    claims, truths = jaxprs_of(problem)
    for mode in MODES:
        if not both_known(claims, truths, mode):
            continue
        hand, true = (of_jaxpr(jaxprs[mode], problem.arguments, mode) for jaxprs in (claims, truths))
        scalar = traced_scalar(problem, mode)
        every = [closed.jaxpr for closed in (claims[mode], truths[mode], scalar) if closed]
        way, kernels = way_to(problem, scalar), any(map(has_kernel, every))
        return Comparison(hand, true, mode, scalar, claims[mode], way=way, has_kernel=kernels)
    own_dtype_first = (AS_WRITTEN, AS_WRITTEN_BY_PARAMETERS, IN_FLOAT64, IN_FLOAT64_BY_PARAMETERS)
    own = next((mode for mode in own_dtype_first if mode in truths), None)
    if own:
        in_numpy = not claims and works(of_numpy(problem.claim), problem.arguments)
        claim = of_numpy(problem.claim) if in_numpy else None
        truth, scalar = of_jaxpr(truths[own], problem.arguments, own), traced_scalar(problem, own)
        unknown = tuple(dict.fromkeys(unknown_primitives(claims[own].jaxpr))) if own in claims else ()
        return Comparison(claim, truth, own, scalar, unknown=unknown)
    if claims:
        mode, jaxpr = next(iter(claims.items()))
        return with_differenced_truth(problem, of_jaxpr(jaxpr, problem.arguments, mode), mode)
    return with_differenced_truth(problem, of_numpy(problem.claim), None)


def way_to(problem: Problem, scalar: ClosedJaxpr | None) -> Way:
    """How the derivative of a forward pass is traced; reverse mode fails for a loop with no known end alone."""
    loops = scalar is not None and has_loop(scalar.jaxpr)
    return Way.FORWARD_MODE if loops and not goes_back(problem) else Way.REVERSE_MODE


def jaxprs_of(problem: Problem) -> tuple[Jaxprs, Jaxprs]:
    """(jaxprs of the hand rule, of the truth) in the modes in which each can be traced, up to the first in which both
    can; none if both sides are NumPy code."""
    claims: Jaxprs = {}
    truths: Jaxprs = {}
    for mode in MODES:
        if not mode.every and is_numpy(problem):  # a jaxpr would round what NumPy makes of data that are constants
            return {}, {}
        for jaxprs, f in ((claims, problem.claim), (truths, problem.truth)):
            try:
                jaxprs[mode] = trace(f, problem.arguments, mode)
            except BadAnswer:
                raise
            except Exception:  # whatever a function says that was not written for this mode
                continue
        if both_known(claims, truths, mode):
            break
    return claims, truths


def both_known(claims: Jaxprs, truths: Jaxprs, mode: Mode) -> bool:
    """Whether both sides can be evaluated as jaxprs of this mode. A rule that is a kernel or a callback, of a truth
    that is none, runs in its own dtype instead."""
    if mode not in claims or mode not in truths:
        return False
    return not has_unknown(claims[mode].jaxpr) or has_unknown(truths[mode].jaxpr)


def with_differenced_truth(problem: Problem, claim: BallFunction, mode: Mode | None) -> Comparison:
    """The comparison with the differences of a cost that JAX cannot differentiate: of its jaxpr, if it has one in this
    mode, else of NumPy code. The comparison with the truth itself if there is no cost."""
    sides = {} if mode is None else traced_sides(problem, mode)
    numpy = not sides
    if problem.scalar is None:
        truth: BallFunction = of_numpy(problem.truth) if numpy else undifferentiable
        return Comparison(claim, truth, None, numpy=numpy, way=Way.REVERSE_MODE if numpy else Way.DIFFERENCES)
    arguments = problem.arguments
    way = Way.REVERSE_MODE if numpy else Way.DIFFERENCES
    scalar, values = (sides.get(f, of_numpy(f)) for f in (problem.cost, problem.values or nothing))
    if sum(arguments.floats[i].size for i in arguments.differentiated) <= ENTRIES:
        truth = partial(gradient, scalar, arguments=arguments, values=values)
        return Comparison(claim, truth, None, numpy=numpy, differenced=scalar, way=way)
    directions = [random_direction(i, arguments.floats[i].shape) for i in arguments.differentiated]
    truth = partial(slopes, scalar, arguments=arguments, directions=directions, values=values)
    return Comparison(along(claim, directions), truth, None, numpy=numpy, differenced=scalar, way=way)


def traced_sides(problem: Problem, mode: Mode) -> dict[Function, BallFunction]:
    """The cost and the values of JAX code as sides; none of NumPy code."""
    functions = [problem.cost] if problem.scalar else []
    functions += [problem.values] if problem.values else []
    try:
        return {f: of_jaxpr(trace(f, problem.arguments, mode), problem.arguments, mode) for f in functions}
    except Exception:  # whatever NumPy says of a tracer
        return {}


def nothing(floats: list) -> list[PyTree]:
    """The values of a problem that asks for none."""
    return []


def undifferentiable(ev: Evaluation, balls: list[Balls]) -> list[Balls]:
    """The truth of a function of JAX for which it has no derivative."""
    raise Unsupported("JAX cannot differentiate the forward pass")


def forward_pass(problem: Problem, floats: list) -> Callable[[list], jax.Array]:
    """The cost as a function of the differentiated leaves, its custom rules taken away."""

    def J(inputs: list) -> jax.Array:
        new = dict(zip(problem.arguments.differentiated, inputs, strict=True))
        return problem.cost([new.get(i, v) for i, v in enumerate(floats)])[0]

    return own_derivative(J)[0]


def goes_back(problem: Problem) -> bool:
    """Whether reverse mode goes through the forward pass: no derivative passes through a loop that ends by floats."""

    def back(floats: list) -> list[jax.Array]:
        J = forward_pass(problem, floats)
        return backwards(lambda inputs: [J(inputs)], [floats[i] for i in problem.arguments.differentiated])[1]

    try:
        trace(back, problem.arguments, AS_WRITTEN)
    except Exception:  # whatever JAX says
        return False
    return True


def has_unknown(jaxpr: Jaxpr) -> bool:
    """Whether a primitive computes with floats in a way that balls do not know."""
    return any(True for _ in unknown_primitives(jaxpr))


def unknown_primitives(jaxpr: Jaxpr) -> Iterator[str]:
    """The names of primitives that compute with floats in a way that balls do not know."""
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        known = name in primitives.RULES.keys() | CALLS.keys() | TRANSPARENT | {"debug_callback"}
        inside = None if known else written_out(eqn)
        if not known and not inside and any(is_float(v.aval) for v in eqn.invars if hasattr(v.aval, "dtype")):
            yield name
        for inner in [inside.jaxpr] if inside else jaxprs_in_params(eqn.params) if name in CALLS else ():
            yield from unknown_primitives(inner)


def traced_scalar(problem: Problem, mode: Mode) -> ClosedJaxpr | None:
    return None if problem.scalar is None else trace(problem.cost, problem.arguments, mode)


def check_steady(problem: Problem, comparison: Comparison) -> None:
    """BadAnswer if one of the functions computes something else when it is called again with the same arguments."""
    functions: list[tuple[str, Function, ClosedJaxpr | None]] = []
    functions += [("forward pass", problem.cost, comparison.scalar_jaxpr)] if problem.scalar else []
    functions += [("hand rule", problem.claim, comparison.hand_jaxpr)]
    for who, f, before in functions:
        try:
            again = partial(trace_in_own_mode, f, problem.arguments, comparison)
            same = summary(before or again()) == summary(again())
        except Exception:  # NumPy code
            once, *others = (run(f, problem.arguments.floats) for _ in range(CALLS_OF_NUMPY))
            same = all(all(map(is_close, once, other)) for other in others)
        if not same:
            raise BadAnswer(
                f"The {who} computes something else when it is called again with the same arguments: it draws random "
                "numbers without a key or a seed, or changes something outside of itself. Make it a function of its "
                "arguments alone."
            )


def trace_in_own_mode(f: Function, arguments: Arguments, comparison: Comparison) -> ClosedJaxpr:
    """The jaxpr of f, in the mode of the comparison. TypeError: it is NumPy code."""
    if comparison.mode is None:
        raise TypeError("NumPy code")
    return trace(f, arguments, comparison.mode)


def is_close(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are equal, up to what sums in another order can lose."""
    scale = np.abs(a[np.isfinite(a)]).max(initial=0)
    return a.shape == b.shape and np.allclose(a, b, STEADY, STEADY * scale, equal_nan=True)


def summary(closed: ClosedJaxpr) -> tuple[PyTree, ...]:
    """The primitives and constants of a jaxpr: two of one function have the same."""
    parameters = chain.from_iterable(eqn.params.values() for eqn in closed.jaxpr.eqns)
    operands = chain.from_iterable(eqn.invars for eqn in closed.jaxpr.eqns)
    return (
        [eqn.primitive.name for eqn in closed.jaxpr.eqns],
        [np.asarray(v.val).tobytes() for v in operands if isinstance(v, Literal)],
        [np.asarray(c).tobytes() for c in closed.consts if has_bytes(c)],
        [summary(v) for v in parameters if isinstance(v, ClosedJaxpr)],
    )


def has_bytes(c: PyTree) -> bool:
    """Whether a constant has bytes: JAX's random keys have none, nor has the memory that a kernel is given."""
    is_key = jax.dtypes.issubdtype(getattr(c, "dtype", None), jax.dtypes.prng_key)
    return not is_key and not isinstance(c, jax.core.Tracer)


def is_numpy(problem: Problem) -> bool:
    """Whether both the rule and the cost can be evaluated as NumPy code."""
    functions = [problem.claim] if problem.scalar is None else [problem.claim, problem.cost]
    return all(works(of_numpy(f), problem.arguments) for f in functions)


def works(side: BallFunction, arguments: Arguments) -> bool:
    """Whether a side can be evaluated at all, as far as is seen in a few seconds."""
    ev = Evaluation(deadline=time.process_time() + SECONDS)
    try:
        side(ev, [ev.enter(v) for v in arguments.floats])
    except Unsupported:
        return False
    except (Undecided, TooLarge):
        pass
    return True


def of_jaxpr(closed: ClosedJaxpr, arguments: Arguments, mode: Mode) -> BallFunction:
    """A jaxpr that was traced in this mode, as a side."""
    free = free_inputs(arguments, mode)
    return lambda ev, balls: ev(closed, [balls[i] for i in free])


def of_numpy(f: Function) -> BallFunction:
    """NumPy code as a side. Unsupported if it does not run on real numbers."""
    on_reals = with_stand_ins(f)

    def side(ev: Evaluation, balls: list[Balls]) -> list[Balls]:
        with computing(ev):
            try:
                return list(map(to_balls, on_reals(list(map(of_balls, balls)))))
            except (Undecided, TooLarge):
                raise
            except Exception as error:  # NumPy has many ways to say that a function does not work on objects
                line = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
                raise Unsupported(f"NumPy code on real numbers: {line}") from error

    return side


def compiled(f: Function, values: Sequence[np.ndarray], x64: bool) -> Callable[..., list]:
    """f compiled for arrays like these, as a function of them; once."""
    key = x64, *((v.shape, v.dtype) for v in values)
    known = COMPILED.setdefault(f, {})
    if key not in known:
        closed = jax.make_jaxpr(lambda floats: f(floats))(list(values))  # JAX keeps a trace of f as long as f
        known[key] = jax.jit(bounded(with_own_constants(closed)))
    return known[key]


def run(
    f: Function, floats: Sequence[np.ndarray], dtype: DTypeLike | None = None, numpy: bool = False
) -> list[np.ndarray]:
    """f in floating point, on floats cast to `dtype`, or as they are: a list of NumPy arrays. What is not known to be
    NumPy code is compiled, once for all floats."""
    x64 = jax.config.read("jax_enable_x64") if dtype is None else dtype == np.float64
    with jax.enable_x64(x64), np.errstate(all="ignore"):
        values = [np.array(v, dtype) for v in floats]
        try:
            out = f(values) if numpy else compiled(f, values, x64)(*values)
        except Exception:
            if numpy:
                raise
            out = f(values)  # it may not be traceable; or there is a mistake, which it says again
        return [np.asarray(v) for v in out]
