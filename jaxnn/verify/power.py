"""What a check could have seen: the rule's own equations are changed, one at a time, and each change must be noticed.

A change that no point notices is equivalent, if it is not noticed for other data either; else it survives, and whoever
made that mistake would have passed.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import flint
import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxprs_in_params
from jax.extend.core.primitives import closed_call_p
from jax.typing import DTypeLike

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import Arguments, Problem
from jaxnn.verify.arithmetic.balls import Balls, enter, finite
from jaxnn.verify.arithmetic.decisions import Undecided
from jaxnn.verify.arithmetic.evaluation import Evaluation, short
from jaxnn.verify.arithmetic.primitives import RULES
from jaxnn.verify.arithmetic.refs import is_ref
from jaxnn.verify.evidence.comparison import Comparison, of_jaxpr
from jaxnn.verify.evidence.judge import judgements
from jaxnn.verify.evidence.outcome import Outcome
from jaxnn.verify.evidence.points import GENERIC, redraw
from jaxnn.verify.reports.findings import FAIL, PASS, Evidence, Power, Survivor
from jaxnn.verify.tracing.jaxprs import rewritten

MUTANTS, SECONDS, FRESH = 400, 30, 5
PRECISION = 400
MOVES_ALONE = {"broadcast_in_dim", "reshape", "convert_element_type", "squeeze", "transpose", "copy", "name"}


class Mutation(NamedTuple):
    """A mistake in one equation. what: in words; eqn: the equation that takes its place."""

    what: str
    eqn: JaxprEqn


class Mutant(NamedTuple):
    """The hand rule with one mistake. what: in words; place: where the user wrote the equation."""

    what: str
    place: str
    jaxpr: ClosedJaxpr


def power(problem: Problem, comparison: Comparison, outcomes: Sequence[Outcome], seed: int | list[int]) -> Power | None:
    """The `Power` of the points that were visited; None for a rule that cannot be traced."""
    if comparison.hand_jaxpr is None or comparison.numpy:
        return None
    deadline = time.process_time() + SECONDS
    arguments = problem.arguments
    proven = [o for o in outcomes if o.verdict == PASS and o.evidence == Evidence.EXACT]
    visited = [o.floats for o in proven if fits(o.floats, arguments)]
    rng = np.random.default_rng(seed)
    everything = tuple(range(len(arguments.floats)))
    data = [i for i in everything if i not in problem.redrawable and i not in problem.cotangents]
    fresh = [
        redraw(GENERIC, arguments.floats, arguments.dtypes, everything, (), rng, problem.domains) for _ in range(FRESH)
    ]
    observers = [Observer(problem, comparison, floats) for floats in visited]
    others = [Observer(problem, comparison, floats) for floats in fresh]
    killed, survivors = 0, []
    every = list(mutants(comparison.hand_jaxpr))
    for mutant in every[:: max(1, -(-len(every) // MUTANTS))]:
        if time.process_time() > deadline:
            break
        if any(observer.notices(mutant) for observer in observers):
            killed += 1
        elif any(observer.notices(mutant) for observer in others):
            reason = why_hidden(problem, comparison, mutant, data, fresh[0])
            survivors.append(Survivor(mutant.what, mutant.place, reason))
    return Power(killed, killed + len(survivors), tuple(survivors))


def fits(floats: Sequence[np.ndarray], arguments: Arguments) -> bool:
    return [v.shape for v in floats] == [v.shape for v in arguments.floats]


def why_hidden(
    problem: Problem, comparison: Comparison, mutant: Mutant, data: Sequence[int], fresh: Sequence[np.ndarray]
) -> str:
    """Why the points could not see a mutant: which data, were they others, would have shown it."""
    arguments = problem.arguments
    for i in data:
        floats = [fresh[k] if k == i or k not in data else v for k, v in enumerate(arguments.floats)]
        if Observer(problem, comparison, floats).notices(mutant):
            return f"{arguments.name(i)}, as it is given, hides it"
    return "it is seen only where other arguments are drawn anew too"


class Observer:
    """Both sides at some floats, evaluated once; a mutant shares with them what it has not changed."""

    def __init__(self, problem: Problem, comparison: Comparison, floats: Sequence[np.ndarray]):
        self.problem, self.comparison = problem, comparison
        self.ev = Evaluation(PRECISION, ("literals",))
        self.balls = [enter(v) for v in floats]
        self.true: list[Balls] | None = None  # None: it is not finite, or cannot be decided
        with flint.ctx.workprec(PRECISION):
            try:
                true = comparison.truth(self.ev, self.balls)
                self.true = true if all(map(finite, true)) else None
            except Undecided:
                pass

    def notices(self, mutant: Mutant) -> bool:
        """Whether the mutant is another function than the truth here."""
        if self.true is None:
            return False
        assert self.comparison.mode is not None, "NumPy code has no mutants"
        side = of_jaxpr(mutant.jaxpr, self.problem.arguments, self.comparison.mode)
        with flint.ctx.workprec(PRECISION):
            try:
                hand = side(self.ev, self.balls)
            except Undecided:
                return False
        return any(j.verdict == FAIL for j in judgements(hand, self.true))


def mutants(closed: ClosedJaxpr) -> Iterator[Mutant]:
    """The mutants of each equation that computes with floats, inner ones too."""
    for eqn, before in equations(closed.jaxpr, {}):
        yield from mutants_at(closed, eqn, before)


def mutants_at(closed: ClosedJaxpr, eqn: JaxprEqn, before: Sequence[Var]) -> Iterator[Mutant]:
    """The mutants of one equation. before: the variables that were there before it."""
    place = short(source_info_util.summarize(eqn.source_info))
    for mutation in mutations(eqn, before):
        replaced = partial(replacement, old=eqn, new=mutation.eqn)
        yield Mutant(mutation.what, place, ClosedJaxpr(rewritten(closed.jaxpr, replaced), closed.consts))


def replacement(eqn: JaxprEqn, old: JaxprEqn, new: JaxprEqn) -> JaxprEqn:
    """`new` if this is the equation `old`, which may have been copied, else the equation itself."""
    return new if eqn.outvars and eqn.outvars[0] is old.outvars[0] else eqn


def equations(jaxpr: Jaxpr, seen: dict[int, Jaxpr]) -> Iterator[tuple[JaxprEqn, list[Var]]]:
    """Each equation of one float output, of none but values, with the variables that were there before it. seen: jaxprs
    that are done."""
    before = [v for v in jaxpr.invars if not is_ref(v)]
    for eqn in jaxpr.eqns:
        is_one = eqn.primitive.name in RULES  # with a jaxpr or without: a scatter has one for its sums
        called = [] if is_one else list(jaxprs_in_params(eqn.params))
        for inner in called:
            if id(inner) not in seen:
                seen[id(inner)] = inner
                yield from equations(inner, seen)
        is_of_values = not called and not any(map(is_ref, eqn.invars))
        if is_of_values and len(eqn.outvars) == 1 and is_float(eqn.outvars[0]) and not is_dropped(eqn.outvars[0]):
            yield eqn, list(before)
        before += eqn.outvars


def mutations(eqn: JaxprEqn, before: Sequence[Var]) -> Iterator[Mutation]:
    """The mistakes that can be made in one equation; `before`: the variables that it could have used."""
    yield from of_any(eqn)
    yield from of_arithmetic(eqn)
    yield from of_matrices(eqn)
    yield from of_sum(eqn)
    yield from of_operands(eqn, before)


def altered(eqn: JaxprEqn, f: Callable[..., Array]) -> JaxprEqn:
    """The equation with f(out, *inputs) in the place of its output."""
    expected, *inputs = (jax.ShapeDtypeStruct(shape_of(v), dtype_of(v)) for v in (*eqn.outvars, *eqn.invars))

    def g(*inputs: Array) -> Array:
        out = eqn.primitive.bind(*inputs, **eqn.primitive.get_bind_params(eqn.params))
        return jnp.broadcast_to(f(out, *inputs), expected.shape).astype(expected.dtype)

    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        call = jax.make_jaxpr(g)(*inputs)
    return eqn.replace(primitive=closed_call_p, params={"call_jaxpr": call})


def of_any(eqn: JaxprEqn) -> Iterator[Mutation]:
    """A wrong sign, a forgotten 1/n, a row that is a little off."""
    name, shape = eqn.primitive.name, shape_of(eqn.outvars[0])
    if name in MOVES_ALONE:
        return
    yield Mutation(f"the sign of {name} flipped", altered(eqn, lambda out, *_: -out))
    if shape:
        yield Mutation(f"{name} times {max(shape)}", altered(eqn, lambda out, *_: out * max(shape)))
        yield Mutation(f"1 % added to a row of {name}", altered(eqn, lambda out, *_: out.at[0].multiply(1.01)))


def of_arithmetic(eqn: JaxprEqn) -> Iterator[Mutation]:
    """A factor or a summand forgotten."""
    name = eqn.primitive.name
    if name not in ("mul", "div", "add", "sub"):
        return
    what = "factor" if name in ("mul", "div") else "summand"
    yield Mutation(f"the second {what} of {name} dropped", altered(eqn, lambda out, x, y: x))
    if name != "div":
        sign = -1 if name == "sub" else 1
        yield Mutation(f"the first {what} of {name} dropped", altered(eqn, lambda out, x, y: sign * y))


def of_matrices(eqn: JaxprEqn) -> Iterator[Mutation]:
    """A square matrix transposed, or not transposed."""
    name = eqn.primitive.name
    if name == "dot_general":
        for k, v in enumerate(eqn.invars):
            if is_square(shape_of(v)):
                yield Mutation(f"operand {k + 1} of a product transposed", altered(eqn, with_transposed(eqn, k)))
    if name == "transpose" and is_square(shape_of(eqn.outvars[0])):
        yield Mutation("a transposition dropped", altered(eqn, lambda out, x: x))


def with_transposed(eqn: JaxprEqn, k: int) -> Callable[..., Array]:
    """(out, *inputs) -> the equation's output, for operand k transposed."""

    def product(out: Array, *inputs: Array) -> Array:
        return eqn.primitive.bind(*(x.T if i == k else x for i, x in enumerate(inputs)), **eqn.params)

    return product


def of_sum(eqn: JaxprEqn) -> Iterator[Mutation]:
    """A mean for a sum, or a sum over the other axis of a square matrix."""
    if eqn.primitive.name != "reduce_sum":
        return
    (x,), axes = eqn.invars, eqn.params["axes"]
    n = int(np.prod([shape_of(x)[axis] for axis in axes]))
    yield Mutation("a sum averaged", altered(eqn, lambda out, x: out / n))
    if is_square(shape_of(x)) and len(axes) == 1:
        yield Mutation("a sum over the other axis", altered(eqn, lambda out, x: x.sum(1 - axes[0])))


def of_operands(eqn: JaxprEqn, before: Sequence[Var]) -> Iterator[Mutation]:
    """Another value of the same shape, the last one that was there."""
    name = eqn.primitive.name
    if name not in ("mul", "dot_general", "sub", "add"):
        return
    for k, v in enumerate(eqn.invars):
        if isinstance(v, Literal) or not is_float(v):
            continue
        others = [w for w in before if w is not v and has_type_of(w, v) and not is_dropped(w)]
        if others:
            operands = [others[-1] if i == k else u for i, u in enumerate(eqn.invars)]
            yield Mutation(f"operand {k + 1} of {name}: another value of its shape", eqn.replace(invars=operands))


def is_square(shape: Sequence[int]) -> bool:
    return len(shape) == 2 and shape[0] == shape[1]


def is_float(v: Var | Literal) -> bool:
    return jnp.issubdtype(dtype_of(v), jnp.floating)


def shape_of(v: Var | Literal) -> tuple[int, ...]:
    aval: PyTree = v.aval
    return aval.shape


def dtype_of(v: Var | Literal) -> DTypeLike:
    """The dtype of an array; int32 for what is no array."""
    return getattr(v.aval, "dtype", np.int32)


def is_dropped(v: Var) -> bool:
    """Whether it is an output that nothing uses."""
    return type(v).__name__ == "DropVar"


def has_type_of(v: Var, w: Var) -> bool:
    return (shape_of(v), dtype_of(v)) == (shape_of(w), dtype_of(w))
