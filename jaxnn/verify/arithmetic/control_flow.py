"""Calls and loops: rules (evaluation, params, inputs) -> outputs, which evaluate jaxprs.

An evaluation that `runs_on` goes on with every iteration, a loop that takes and gives nothing step by step, behind its
end: to what it converges to (evidence/run_on.py). A loop within an iteration ends where it ends: a line search that
ran on would come to a step of 0.
"""

import functools
import inspect
import itertools
import time
from collections.abc import Callable, Iterable

import jax
import numpy as np
from flint import arb
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic.balls import ZERO, absolute, finite, is_balls, is_float, magnitude, wrap
from jaxnn.verify.arithmetic.choices import select
from jaxnn.verify.arithmetic.decisions import TRUE, Endless, Logic, Undecided, codes, logic
from jaxnn.verify.arithmetic.kernels import KERNELS
from jaxnn.verify.arithmetic.refs import REFS
from jaxnn.verify.arithmetic.rules import EqnParams, Evaluator, Value, open_jaxpr

Call = Callable[[Evaluator, EqnParams, list[Value]], list[Value]]
SHARE = 0.25  # of the time that is left, in which a loop must end
FEW = 8  # steps, as which iterations of fewer run on
SETTLED = 2.0**-133  # of the largest float that is carried: no float moves any more


def outputs_of(ev: Evaluator, jaxpr: ClosedJaxpr | Jaxpr, inputs: list[Value]) -> list[Value]:
    """The outputs of a jaxpr within an equation."""
    inner, consts = open_jaxpr(ev, jaxpr)
    return ev.run(inner, consts, inputs)


def high_level(ev: Evaluator, params: EqnParams, inputs: list[Value]) -> list[Value]:
    """A primitive that says itself what it is in terms of others."""
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), params["_prim"].in_avals)
    return outputs_of(ev, jax.make_jaxpr(params["_prim"].expand)(*shapes), inputs)


@functools.lru_cache(512)
def written_out(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """What a primitive that JAX does not have computes, as its package has it in terms of others; None if that cannot
    be traced."""
    impl = eqn.primitive.impl
    if not inspect.isfunction(impl) or impl.__module__.partition(".")[0] in ("jax", "jaxlib"):
        return None
    avals: list[PyTree] = [v.aval for v in eqn.invars]

    def outputs(*inputs: jax.Array) -> list[jax.Array]:
        out = impl(*inputs, **eqn.params)
        return list(out) if eqn.primitive.multiple_results else [out]

    try:
        with jax.enable_x64(True):
            return jax.make_jaxpr(outputs)(*(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals))
    except Exception:  # whatever an implementation says that needs numbers
        return None


def call(ev: Evaluator, params: EqnParams, inputs: list[Value]) -> list[Value]:
    """The function that is called, whatever rules come with it."""
    (name,) = {"jaxpr", "call_jaxpr", "call"} & params.keys()
    return outputs_of(ev, params[name], inputs)


def custom_jvp_call(ev: Evaluator, params: EqnParams, inputs: list[Value]) -> list[Value]:
    """The function itself. JAX's `exp_neg_sq` (0.12, in erf's derivative) splits x in two floats by their bits, to
    round less: of a real number it is exp(−x²)."""
    called: ClosedJaxpr | Jaxpr = params["call_jaxpr"]
    jaxpr = called.jaxpr if isinstance(called, ClosedJaxpr) else called
    if jaxpr.debug_info.func_name == "exp_neg_sq" and is_balls(inputs[0]):
        return [np.frompyfunc(lambda x: (-(x**2)).exp(), 1, 1)(inputs[0])]
    return call(ev, params, inputs)


def parts_of_scan(params: EqnParams, inputs: list[Value]) -> Iterable[list[Value]]:
    """The inputs of a scan: what stays the same, what is carried, and what is taken step by step."""
    if "ft_in" in params:  # since JAX 0.12
        return map(list, params["ft_in"].update(inputs).unpack())
    n, k = params["num_consts"], params["num_carry"]
    return inputs[:n], inputs[n : n + k], inputs[n + k :]


def scan(ev: Evaluator, params: EqnParams, inputs: list[Value]) -> list[Value]:
    """(carry, ys) of a loop over the entries of xs: one step after the other, or from the last to the first."""
    jaxpr, consts = open_jaxpr(ev, params["jaxpr"])
    fixed, carry, xs = parts_of_scan(params, inputs)
    k = len(carry)
    steps = range(params["length"])
    ys: dict[int, list[Value]] = {}
    is_iteration, times = not xs and len(jaxpr.outvars) == k, ev.runs_on
    ev.runs_on = 0 if is_iteration else times
    for t in reversed(steps) if params["reverse"] else steps:
        out = ev.run(jaxpr, consts, [*fixed, *carry, *(ev.entry(x, t) for x in xs)])
        carry, ys[t] = out[:k], out[k:]
    if is_iteration:
        carry = further(carry, lambda carry: ev.run(jaxpr, consts, [*fixed, *carry]), times * max(len(steps), FEW))
        ev.runs_on = times
        return carry
    if not steps:
        avals: list[PyTree] = [v.aval for v in jaxpr.outvars[k:]]
        return [*carry, *(np.empty((0, *a.shape), object if is_float(a) else a.dtype) for a in avals)]
    columns = zip(*(ys[t] for t in steps), strict=True)
    return [*carry, *(ev.stack(list(column)) for column in columns)]


def while_(ev: Evaluator, params: EqnParams, inputs: list[Value]) -> list[Value]:
    """The carry when the loop ends; of loops that were vmapped, each goes on until its own end.

    Endless: it does not end in its share of the time."""
    now = time.process_time()
    deadline = now + SHARE * (ev.deadline - now)
    c, b = params["cond_nconsts"], params["body_nconsts"]
    carry = inputs[c + b :]
    test, test_consts = open_jaxpr(ev, params["cond_jaxpr"])
    body, body_consts = open_jaxpr(ev, params["body_jaxpr"])
    times, ev.runs_on = ev.runs_on, 0

    def step(carry: list[Value]) -> list[Value]:
        return ev.run(body, body_consts, [*inputs[c : c + b], *carry])

    for n in itertools.count():
        (more,) = ev.run(test, test_consts, [*inputs[:c], *carry])
        ev.note_decision(more)
        if not goes_on(more):
            break
        if time.process_time() > deadline:
            raise Endless(f"a while_loop of more than {n} steps")
        new = step(carry)
        carry = [select_loops(more, *values) for values in zip(carry, new, strict=True)] if more.shape else new
    carry = further(carry, step, times * max(n, FEW))
    ev.runs_on = times
    return carry


def further(carry: list[Value], step: Callable[[list[Value]], list[Value]], n: int) -> list[Value]:
    """What an iteration carries after n steps more, or when no float moves any more, or before one would be lost, or
    when numbers have come so near to each other that a decision between them is no longer known.

    Each step starts from midpoints: what converges forgets its errors, and radii that only grow would say nothing."""
    for _ in range(n):
        old = [wrap(np.frompyfunc(arb.mid, 1, 1)(v)) if is_balls(v) else v for v in carry]
        try:
            new = step(old)
        except Undecided:
            break
        pairs = [(a, b) for a, b in zip(old, new, strict=True) if is_balls(b)]
        if not all(finite(b) for _, b in pairs):
            break
        carry = new
        allowed = max((magnitude(b) for _, b in pairs), default=ZERO) * SETTLED
        if all(np.all(absolute(b - a) <= allowed) for a, b in pairs):
            break
    return carry


def goes_on(more: Value) -> bool:
    """Whether a loop goes on; if loops were vmapped, whether any of them does."""
    if isinstance(more, Logic) and TRUE not in more.codes:
        raise Undecided
    return (codes(more) == TRUE).any()


def select_loops(more: Value, old: Value, new: Value) -> Value:
    """The new values of those vmapped loops that go on, the old ones of the others."""
    axes = tuple(range(len(more.shape), len(new.shape)))
    which = logic(np.broadcast_to(np.expand_dims(codes(more), axes), new.shape))
    return select(which, old, new)


def cond(ev: Evaluator, params: EqnParams, inputs: list[Value]) -> list[Value]:
    """The branch that the index says, on the operands."""
    index, *operands = inputs
    ev.note_decision(index)
    return outputs_of(ev, params["branches"][int(index)], operands)


def linear_solve(ev: Evaluator, params: EqnParams, inputs: list[Value]) -> list[Value]:
    """custom_linear_solve: its own `solve`, with that part of the constants."""
    lengths = params["const_lengths"]
    ends = np.cumsum([lengths.matvec, lengths.vecmat, lengths.solve, lengths.transpose_solve])
    return outputs_of(ev, params["jaxprs"].solve, [*inputs[ends[1] : ends[2]], *inputs[ends[3] :]])


CALLS: dict[str, Call] = {
    **dict.fromkeys(("jit", "closed_call", "eval_jaxpr", "remat2", "composite"), call),
    "custom_jvp_call": custom_jvp_call,
    **dict.fromkeys(("custom_vjp_call", "custom_vmap_call"), call),
    "scan": scan,
    "while": while_,
    "cond": cond,
    "custom_linear_solve": linear_solve,
    "call_hi_primitive": high_level,
    **KERNELS,
    **REFS,
}
