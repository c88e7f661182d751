"""A function whose loops have an end: where floats never meet a user's tolerance, nothing could interrupt its loop."""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, jaxpr_as_fun, jaxprs_in_params

from jaxnn.verify.tracing.counted_loops import has_loop

STEPS = 100_000  # of one loop; the floats of a loop that goes on are nan then
REBUILT = {"scan", "cond"}  # of their jaxprs with bounds; calls are opened
PARALLEL = {"shard_map", "pallas_call"}  # these stay as they are


def bounded(closed: ClosedJaxpr) -> Callable[..., list[Array]]:
    """The function of this jaxpr, with an end to each loop. It is not to be differentiated."""
    return (lambda *inputs: run(closed, inputs)) if has_loop(closed.jaxpr) else jaxpr_as_fun(closed)


def run(closed: ClosedJaxpr, inputs: Sequence[Array]) -> list[Array]:
    """The outputs of a jaxpr."""
    env = dict(zip([*closed.jaxpr.constvars, *closed.jaxpr.invars], [*closed.consts, *inputs], strict=True))

    def values(atoms: Sequence) -> list[Array]:
        return [atom.val if isinstance(atom, Literal) else env[atom] for atom in atoms]

    for eqn in closed.jaxpr.eqns:
        env.update(zip(eqn.outvars, outputs(eqn, values(eqn.invars)), strict=True))
    return values(closed.jaxpr.outvars)


def outputs(eqn: JaxprEqn, inputs: list[Array]) -> list[Array]:
    """The outputs of an equation."""
    name, params = eqn.primitive.name, eqn.params
    if name == "while":
        return while_(eqn, inputs)
    called = params.get("call_jaxpr") or params.get("jaxpr")
    if any(map(has_loop, jaxprs_in_params(params))) and name in REBUILT:
        out = eqn.primitive.bind(*inputs, **{key: with_bounds(value) for key, value in params.items()})
    elif called is not None and has_loop(getattr(called, "jaxpr", called)) and name not in PARALLEL:
        return run(called if isinstance(called, ClosedJaxpr) else ClosedJaxpr(called, ()), inputs)
    else:
        out = eqn.primitive.bind(*inputs, **eqn.primitive.get_bind_params(params))
    return list(out) if eqn.primitive.multiple_results else [out]


def with_bounds(value: object) -> object:
    """A parameter of an equation, with bounds in the jaxprs that it is or has."""
    if isinstance(value, tuple) and any(isinstance(v, ClosedJaxpr) for v in value):  # the branches of a cond
        return tuple(map(with_bounds, value))
    return closed_of(bounded(value), value.in_avals) if isinstance(value, ClosedJaxpr) else value


def closed_of(f: Callable, avals: Sequence) -> ClosedJaxpr:
    """f as a jaxpr of such inputs."""
    return jax.make_jaxpr(f)(*(jax.ShapeDtypeStruct(a.shape, a.dtype, weak_type=a.weak_type) for a in avals))


def while_(eqn: JaxprEqn, inputs: list[Array]) -> list[Array]:
    """What a loop carries at its end, or after so many steps nan; of loops that were vmapped each by itself."""
    test, body, c, b = (eqn.params[name] for name in ("cond_jaxpr", "body_jaxpr", "cond_nconsts", "body_nconsts"))
    (more,) = test.out_avals

    def goes_on(*values: Array) -> Array:
        *consts, n = values[: c + 1]
        (more,) = run(test, [*consts, *values[c + 1 :]])
        return more & (n < STEPS)

    def step(*values: Array) -> list[Array]:
        *consts, n = values[: b + 1]
        return [n + 1, *run(body, [*consts, *values[b + 1 :]])]

    n = jax.core.ShapedArray(more.shape, np.dtype("int32"))
    params = {
        "cond_jaxpr": closed_of(goes_on, [*test.in_avals[:c], n, *test.in_avals[c:]]),
        "body_jaxpr": closed_of(step, [*body.in_avals[:b], n, *body.in_avals[b:]]),
    }
    first = [*inputs[: c + b], jnp.zeros(more.shape, np.int32), *inputs[c + b :]]
    steps, *carry = eqn.primitive.bind(*first, **{**eqn.params, **params})

    def ended(v: Array) -> Array:
        is_short = (steps < STEPS).reshape(steps.shape + (1,) * (v.ndim - steps.ndim))
        return jnp.where(is_short, v, jnp.asarray(jnp.nan, v.dtype)) if jnp.issubdtype(v.dtype, jnp.inexact) else v

    return list(map(ended, carry))
