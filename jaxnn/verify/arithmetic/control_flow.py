"""Calls and loops: rules (evaluation, params, inputs) -> outputs, which evaluate jaxprs."""

import jax
import numpy as np

from jaxnn.verify.arithmetic.balls import is_balls, is_float
from jaxnn.verify.arithmetic.choices import select_n
from jaxnn.verify.arithmetic.decisions import TRUE, Logic, Undecided, codes, logic
from jaxnn.verify.arithmetic.rules import closed


def high_level(ev, params, inputs):
    """A primitive that says itself what it is in terms of others."""
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), params["_prim"].in_avals)
    jaxpr, consts = closed(jax.make_jaxpr(params["_prim"].expand)(*shapes))
    return ev.run(jaxpr, [ev.enter(c) for c in consts], inputs)


def call(ev, params, inputs):
    (name,) = {"jaxpr", "call_jaxpr", "call"} & params.keys()
    jaxpr, consts = closed(params[name])
    return ev.run(jaxpr, [ev.enter(c) for c in consts], inputs)


def custom_jvp_call(ev, params, inputs):
    """The function itself. JAX's `exp_neg_sq` (0.12, in erf's derivative) splits x in two floats by their bits, to
    round less: of a real number it is exp(−x²)."""
    jaxpr, _ = closed(params["call_jaxpr"])
    if jaxpr.debug_info.func_name == "exp_neg_sq" and is_balls(inputs[0]):
        return [np.frompyfunc(lambda x: (-(x**2)).exp(), 1, 1)(inputs[0])]
    return call(ev, params, inputs)


def scanned(params, inputs):
    """What stays the same, what is carried, and what is taken step by step, of the inputs of a scan."""
    if "ft_in" in params:  # since JAX 0.12
        return map(list, params["ft_in"].update(inputs).unpack())
    n, k = params["num_consts"], params["num_carry"]
    return inputs[:n], inputs[n : n + k], inputs[n + k :]


def scan(ev, params, inputs):
    jaxpr, consts = closed(params["jaxpr"])
    consts = [ev.enter(c) for c in consts]
    fixed, carry, xs = scanned(params, inputs)
    k = len(carry)
    steps = range(params["length"])
    ys = {}
    for t in reversed(steps) if params["reverse"] else steps:
        out = ev.run(jaxpr, consts, [*fixed, *carry, *(ev.entry(x, t) for x in xs)])
        carry, ys[t] = out[:k], out[k:]
    if not steps:
        shapes = [v.aval for v in jaxpr.outvars[k:]]
        return [*carry, *(np.empty((0, *a.shape), object if is_float(a) else a.dtype) for a in shapes)]
    return [*carry, *(ev.stack([ys[t][i] for t in steps]) for i in range(len(ys[0])))]


def while_(ev, params, inputs):
    c, b = params["cond_nconsts"], params["body_nconsts"]
    carry = inputs[c + b :]
    test, test_consts = closed(params["cond_jaxpr"])
    body, body_consts = closed(params["body_jaxpr"])
    test_consts, body_consts = [ev.enter(v) for v in test_consts], [ev.enter(v) for v in body_consts]
    while any_more(more := ev.run(test, test_consts, [*inputs[:c], *carry])[0]):
        ev.decided(more)
        new = ev.run(body, body_consts, [*inputs[c : c + b], *carry])
        carry = [chosen(ev, more, *values) for values in zip(carry, new, strict=True)] if more.shape else new
    return carry


def any_more(v):
    """Whether a loop goes on; of a loop that was vmapped, any of them."""
    if isinstance(v, Logic) and TRUE not in v.codes:
        raise Undecided
    return (codes(v) == TRUE).any()


def chosen(ev, which, old, new):
    """The new values of those loops of a batch that go on."""
    axes = tuple(range(len(which.shape), new.ndim))
    which = logic(np.broadcast_to(np.expand_dims(codes(which), axes), new.shape))
    return select_n(ev, {}, None, which, old, new)


def cond(ev, params, inputs):
    index, *operands = inputs
    ev.decided(index)
    jaxpr, consts = closed(params["branches"][int(index)])
    return ev.run(jaxpr, [ev.enter(c) for c in consts], operands)


def linear_solve(ev, params, inputs):
    """custom_linear_solve: its own `solve`, with that part of the constants."""
    lengths = params["const_lengths"]
    ends = np.cumsum([lengths.matvec, lengths.vecmat, lengths.solve, lengths.transpose_solve])
    jaxpr, consts = closed(params["jaxprs"].solve)
    return ev.run(jaxpr, [ev.enter(c) for c in consts], [*inputs[ends[1] : ends[2]], *inputs[ends[3] :]])


CALLS = {
    **dict.fromkeys(("jit", "closed_call", "eval_jaxpr", "remat2", "composite"), call),
    "custom_jvp_call": custom_jvp_call,
    **dict.fromkeys(("custom_vjp_call", "custom_vmap_call"), call),
    "scan": scan,
    "while": while_,
    "cond": cond,
    "custom_linear_solve": linear_solve,
    "call_hi_primitive": high_level,
}
