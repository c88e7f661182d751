"""Functions as jaxprs, both sides of a comparison in one mode; and the forward pass without other people's rules.

float64 first, so that the literals are as good as they get; where a function insists on its own dtype, as it is.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.extend.core.primitives import closed_call_p


class Mode(NamedTuple):
    """In float64 or as functions are written; with every float an input, or those alone that are asked about."""

    x64: bool
    every: bool


MODES = tuple(Mode(x64, every) for x64 in (True, False) for every in (True, False))


def trace(f: Callable, arguments, mode: Mode):
    """The closed jaxpr of f(floats) -> list, whose inputs are the float leaves; constants where the mode says so."""
    floats, dtypes = arguments.floats, arguments.dtypes
    free = free_inputs(arguments, mode)
    with jax.enable_x64(mode.x64 or jax.config.read("jax_enable_x64")):
        values = [np.asarray(v, np.float64 if mode.x64 else t) for v, t in zip(floats, dtypes, strict=True)]

        def of(*inputs):
            new = list(values)
            for i, v in zip(free, inputs, strict=True):
                new[i] = v
            return f(new)

        return jax.make_jaxpr(of)(*(values[i] for i in free))


def free_inputs(arguments, mode):
    """Which float leaves are inputs of a jaxpr traced in this mode."""
    return range(len(arguments.floats)) if mode.every else arguments.differentiated


def own_derivative(f: Callable):
    """(g, names): f with its custom derivative rules taken away, except those of JAX itself, and their names.

    A wrong rule inside a cost would otherwise be compared with itself. The names are known once g was traced.
    """
    names: list[str] = []

    def plain(jaxpr):
        names.clear()
        return without_rules(jaxpr, names)

    return through(f, plain), names


def value_and_gradient(scalar, floats, differentiated, own=lambda J: own_derivative(J)[0]):
    """By autodiff, with the custom rules in `scalar` taken away."""

    def J(diff):
        new = list(floats)
        for i, v in zip(differentiated, diff, strict=True):
            new[i] = v
        return scalar(new)

    return jax.value_and_grad(own(J))([floats[i] for i in differentiated])


def through(f: Callable, rewrite: Callable):
    """f by way of its jaxpr, rewritten."""

    def g(*args):
        closed, shape = jax.make_jaxpr(f, return_shape=True)(*args)
        out = jaxpr_as_fun(ClosedJaxpr(rewrite(closed.jaxpr), closed.consts))(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), out)

    return g


def rewritten(jaxpr, rule):
    """The jaxpr with rule(eqn) in the place of every equation, of those within calls and loops first."""

    def inner(v):
        if isinstance(v, ClosedJaxpr):
            return ClosedJaxpr(rewritten(v.jaxpr, rule), v.consts)
        if type(v) in (list, tuple):
            return type(v)(map(inner, v))
        return rewritten(v, rule) if hasattr(v, "eqns") and hasattr(v, "outvars") else v

    return jaxpr.replace(
        eqns=[rule(eqn.replace(params={k: inner(v) for k, v in eqn.params.items()})) for eqn in jaxpr.eqns]
    )


def without_rules(jaxpr, found):
    """The jaxpr with calls of the plain function in the place of calls with a rule that is not JAX's own."""

    def plain(eqn):
        if eqn.primitive.name not in ("custom_jvp_call", "custom_vjp_call"):
            return eqn
        call = eqn.params["call_jaxpr"]
        call = call if isinstance(call, ClosedJaxpr) else ClosedJaxpr(call, ())
        rules = [v for k, v in eqn.params.items() if k != "call_jaxpr" and hasattr(v, "debug_info")]
        if not wrapped(call.jaxpr) and all(map(jax_own, [call.jaxpr, *rules])):
            return eqn
        found.append(call.jaxpr.debug_info.func_name)
        return eqn.replace(primitive=closed_call_p, params={"call_jaxpr": call})

    return rewritten(jaxpr, plain)


def jax_own(f):
    """Whether a traced function, the primal or its rule, was written in JAX's own folder."""
    return os.path.dirname(jax.__file__) + os.sep in (f.debug_info.func_src_info or "")


def wrapped(f):
    """Whether a traced primal is what `jax.custom_gradient` makes of somebody's function."""
    return f"{os.sep}custom_derivatives.py:" in (f.debug_info.func_src_info or "")
