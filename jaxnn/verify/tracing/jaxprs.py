"""Functions as jaxprs, both sides of a comparison in one mode; and the forward pass without other people's rules.

They are traced in float64 first, so that literals keep all their digits; a function that insists on its own dtype is
traced as it is written.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxpr_as_fun, jaxprs_in_params
from jax.extend.core.primitives import closed_call_p

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import Arguments
from jaxnn.verify.tracing.counted_loops import with_counted_loops
from jaxnn.verify.tracing.kernels import has_kernel, unrolled


class Mode(NamedTuple):
    """How a function is traced."""

    x64: bool  # in float64, or in the dtypes that it is written for
    every: bool  # every float leaf is an input of the jaxpr, or only those that are differentiated


IN_FLOAT64 = Mode(x64=True, every=True)
IN_FLOAT64_BY_PARAMETERS = Mode(x64=True, every=False)
AS_WRITTEN = Mode(x64=False, every=True)
AS_WRITTEN_BY_PARAMETERS = Mode(x64=False, every=False)
MODES = (IN_FLOAT64, IN_FLOAT64_BY_PARAMETERS, AS_WRITTEN, AS_WRITTEN_BY_PARAMETERS)  # the first that works is taken


def trace(f: Callable[[list], list], arguments: Arguments, mode: Mode) -> ClosedJaxpr:
    """The closed jaxpr of f(floats) -> list, whose inputs are float leaves; the others are constants in it."""
    floats, dtypes = arguments.floats, arguments.dtypes
    free = free_inputs(arguments, mode)
    with jax.enable_x64(mode.x64 or jax.config.read("jax_enable_x64")):
        values = [np.asarray(v, np.float64 if mode.x64 else t) for v, t in zip(floats, dtypes, strict=True)]

        def of_free(*inputs: jax.Array) -> list:
            new: list = list(values)
            for i, v in zip(free, inputs, strict=True):
                new[i] = v
            return f(new)

        return with_own_constants(jax.make_jaxpr(of_free)(*(values[i] for i in free)))


def with_own_constants(closed: ClosedJaxpr) -> ClosedJaxpr:
    """The jaxpr with copies of NumPy's arrays. JAX takes such an array for what it once made of it, as long as anybody
    holds that: a function that captured one of 64 bits would not run in 32 any more."""
    return ClosedJaxpr(closed.jaxpr, [np.array(c) if isinstance(c, np.ndarray) else c for c in closed.consts])


def equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """Every equation, those within calls and loops too."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jaxprs_in_params(eqn.params):
            yield from equations(inner)


def free_inputs(arguments: Arguments, mode: Mode) -> Sequence[int]:
    """Which float leaves are inputs of a jaxpr traced in this mode."""
    return range(len(arguments.floats)) if mode.every else arguments.differentiated


def own_derivative(f: Callable, of_jax: bool = False) -> tuple[Callable, list[str]]:
    """(g, names): f with its custom derivative rules taken away, those of JAX itself only if `of_jax`, and their names.

    A wrong rule inside a cost would otherwise be compared with itself. The list of names is filled when g is traced.
    """
    names: list[str] = []

    def plain(jaxpr: Jaxpr) -> Jaxpr:
        names.clear()
        return without_rules(jaxpr, names, of_jax)

    return through(f, plain), names


def value_and_gradient(
    scalar: Callable[[list], jax.Array],
    floats: Sequence[PyTree],
    differentiated: Sequence[int],
    own: Callable[[Callable], Callable] = lambda J: own_derivative(J)[0],
) -> tuple[jax.Array, list[jax.Array]]:
    """(J, [∂J/∂v for each differentiated float leaf v]) of J = scalar(floats), by autodiff.

    own: rewrites J first; by default it takes its custom rules away."""

    def J(diff: list[jax.Array]) -> jax.Array:
        new: list = list(floats)
        for i, v in zip(differentiated, diff, strict=True):
            new[i] = v
        return scalar(new)

    g = own(J)
    (value,), grads = pulled_back(lambda diff: [g(diff)], [floats[i] for i in differentiated])
    return value, grads


def pulled_back(
    f: Callable[[list], list[jax.Array]], inputs: list, dout: Sequence[PyTree] | None = None
) -> tuple[list[jax.Array], list[jax.Array]]:
    """(f(inputs), the cotangents of the inputs) for the cotangents `dout` of the outputs, ones if there are none.

    By reverse mode; by forward mode where there is no other, through a loop that ends by floats."""

    def inner(inputs: list) -> jax.Array:
        outputs = f(inputs)
        return sum((v * d).sum() for v, d in zip(outputs, dout or map(jnp.ones_like, outputs), strict=True))

    try:
        return backwards(f, inputs, dout)
    except Exception as error:
        try:
            return f(inputs), jax.jacfwd(inner)(inputs)
        except Exception:  # it was a mistake of the user's
            raise error from None


def backwards(
    f: Callable[[list], list[jax.Array]], inputs: list, dout: Sequence[PyTree] | None = None
) -> tuple[list[jax.Array], list[jax.Array]]:
    """`pulled_back` by reverse mode alone: where JAX does not go back through a loop, through its steps, if it is known
    how many they are."""

    def pull(f: Callable[[list], list[jax.Array]]) -> tuple[list[jax.Array], list[jax.Array]]:
        values, of = jax.vjp(f, inputs)
        return values, of(dout or list(map(jnp.ones_like, values)))[0]

    try:
        return pull(f)
    except Exception as error:
        try:
            return pull(through(f, lambda jaxpr: jaxpr, with_counted_loops))
        except Exception:
            raise error from None


def through(
    f: Callable,
    rewrite: Callable[[Jaxpr], Jaxpr],
    evaluator: Callable[[ClosedJaxpr], Callable[..., list]] = jaxpr_as_fun,
) -> Callable:
    """f by way of its jaxpr, which `rewrite` changes and `evaluator` evaluates. Kernels are unrolled, for autodiff."""

    def g(*args: PyTree) -> PyTree:
        closed, shape = jax.make_jaxpr(f, return_shape=True)(*args)
        new = ClosedJaxpr(rewrite(closed.jaxpr), closed.consts)
        evaluated = unrolled(new) if has_kernel(new.jaxpr) else evaluator(new)
        out = evaluated(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), out)

    return g


def rewritten(jaxpr: Jaxpr, rule: Callable[[JaxprEqn], JaxprEqn]) -> Jaxpr:
    """The jaxpr with rule(eqn) in the place of every equation; of those within calls and loops first."""

    def inner(v: PyTree) -> PyTree:
        if isinstance(v, ClosedJaxpr):
            return ClosedJaxpr(rewritten(v.jaxpr, rule), v.consts)
        if type(v) in (list, tuple):
            return type(v)(map(inner, v))
        return rewritten(v, rule) if hasattr(v, "eqns") and hasattr(v, "outvars") else v

    def replacement(eqn: JaxprEqn) -> JaxprEqn:
        return rule(eqn.replace(params={k: inner(v) for k, v in eqn.params.items()}))

    return jaxpr.replace(eqns=list(map(replacement, jaxpr.eqns)))


def without_rules(jaxpr: Jaxpr, names: list[str], of_jax: bool = False) -> Jaxpr:
    """The jaxpr with calls of the plain function in the place of calls with a rule; with one of JAX's own if `of_jax`.

    The names of these functions are appended to `names`."""

    def plain(eqn: JaxprEqn) -> JaxprEqn:
        if eqn.primitive.name not in ("custom_jvp_call", "custom_vjp_call"):
            return eqn
        call = eqn.params["call_jaxpr"]
        call = call if isinstance(call, ClosedJaxpr) else ClosedJaxpr(call, ())
        rules = [v for k, v in eqn.params.items() if k != "call_jaxpr" and hasattr(v, "debug_info")]
        if not (of_jax or is_custom_gradient(call.jaxpr)) and all(map(is_jax_own, [call.jaxpr, *rules])):
            return eqn
        names.append(call.jaxpr.debug_info.func_name)
        return eqn.replace(primitive=closed_call_p, params={"call_jaxpr": call})

    return rewritten(jaxpr, plain)


def is_jax_own(f: PyTree) -> bool:
    """Whether a traced function, the primal or its rule, was written in JAX's own folder, with all its parts."""
    folder = os.path.dirname(jax.__file__) + os.sep
    return folder in (f.debug_info.func_src_info or "") and all(folder in v.__code__.co_filename for v in parts(f))


def parts(f: PyTree) -> Iterator[FunctionType]:
    """The functions of which JAX has put a rule together, as `defjvps` does: those in its closure, and in theirs."""
    pending, known = [f], set[int]()
    while pending:
        v = pending.pop()
        if id(v) in known:
            continue
        known.add(id(v))
        if isinstance(v, FunctionType):
            yield v
            pending += [cell.cell_contents for cell in v.__closure__ or ()]
        elif isinstance(v, (tuple, list)):
            pending += v
        else:
            pending += [getattr(v, name) for name in ("f", "__wrapped__") if hasattr(v, name)]


def is_custom_gradient(f: Jaxpr) -> bool:
    """Whether a traced primal is what `jax.custom_gradient` makes of somebody's function."""
    return f"{os.sep}custom_derivatives.py:" in (f.debug_info.func_src_info or "")
