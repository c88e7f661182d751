"""What is asked of a custom rule beside being right: the same again, under jit and vmap, and differentiable twice."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from jax.extend.core import jaxpr_as_fun

from jaxnn.verify.evidence.comparison import summary
from jaxnn.verify.evidence.floating import first_line
from jaxnn.verify.evidence.outcome import eps
from jaxnn.verify.tracing.counted_loops import has_loop
from jaxnn.verify.tracing.jaxprs import own_derivative
from jaxnn.verify.tracing.kernels import has_kernel

ROUNDINGS = 64

Arrays = list[Array]
ArraysFunction = Callable[[Arrays], Arrays]
Rule = Callable[[Arrays, Arrays], Arrays]  # (args, dout) -> the cotangents of args


class Faults(NamedTuple):
    """wrong: why a rule is no rule as JAX asks for one. notes: what else is to be known of it. All are sentences."""

    wrong: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def all_faults(parts: Iterable[Faults]) -> Faults:
    """The faults of several parts, as one."""
    wrong: list[str] = []
    notes: list[str] = []
    for part in parts:
        wrong += part.wrong
        notes += part.notes
    return Faults(tuple(wrong), tuple(notes))


def faults(g: ArraysFunction, args: Arrays, dout: Arrays, plain: ArraysFunction) -> Faults:
    """The `Faults` of the rule of g, the derivative of `plain`, taken at `args` for the cotangents `dout`.

    It runs as it is once; what it gives elsewhere is compiled, or runs as it is too if that cannot be. Nothing of the
    user's is raised, unless the rule fails as it is, or for a cotangent of zeros.
    """
    rule = rule_of(g)
    jitted = jax.jit(rule)
    of_jit = under_jit(jitted, rule, args, dout)
    fast = rule if of_jit.wrong else jitted
    return all_faults(
        [
            when_called_again(fast, rule, args, dout),
            of_jit,
            for_zeros(fast, args, dout),
            under_vmap(fast, args, dout),
            when_differentiated(g, args, dout, plain),
        ]
    )


def kernel_error(g: ArraysFunction, args: Arrays, dout: Arrays) -> str | None:
    """Why a rule that has kernels in it is not for this device; None if it is, or has none."""
    rule = rule_of(g)
    if has_kernel(jax.make_jaxpr(rule)(args, dout).jaxpr):
        try:
            jax.jit(rule).lower(args, dout)
        except Exception as error:  # whatever JAX raises without the device
            return first_line(error)
    return None


def rule_of(g: ArraysFunction) -> Rule:
    """The vector-Jacobian product of g."""

    def rule(args: Arrays, dout: Arrays) -> Arrays:
        return jax.vjp(g, args)[1](dout)[0]

    return rule


class Trial(NamedTuple):
    """Whether something gives the same as the rule; its error if it fails."""

    same: bool
    error: str | None = None


def trial(f: Rule, rule: Rule, args: Arrays, dout: Arrays) -> Trial:
    """Whether f, which may fail, gives the same as the rule."""
    try:
        return Trial(alike(f(args, dout), rule(args, dout)))
    except Exception as error:  # whatever a user's rule raises
        return Trial(False, first_line(error))


def when_called_again(fast: Rule, rule: Rule, args: Arrays, dout: Arrays) -> Faults:
    """Whether the rule gives the same when it is called again, and is the same when it is traced again."""
    if trial(fast, fast, args, dout).same and (fast is rule or is_steady(rule, args, dout)):
        return Faults()
    return Faults(wrong=("it gives something else when it is called again",))


def is_steady(rule: Rule, args: Arrays, dout: Arrays) -> bool:
    """Whether two traces of the rule compute the same."""
    traces = (jax.make_jaxpr(lambda args, dout: rule(args, dout)) for _ in range(2))  # one function is traced once
    first, second = (trace(args, dout) for trace in traces)
    if summary(first) == summary(second):
        return True
    once, twice = (jax.jit(jaxpr_as_fun(closed))(*args, *dout) for closed in (first, second))
    return alike(once, twice)


def under_jit(jitted: Rule, rule: Rule, args: Arrays, dout: Arrays) -> Faults:
    under = trial(jitted, rule, args, dout)
    if under.same:
        return Faults()
    how = "gives something else" if under.error is None else f"fails: {under.error}"
    return Faults(wrong=(f"under jit it {how}",))


def for_zeros(rule: Rule, args: Arrays, dout: Arrays) -> Faults:
    zeros = rule(args, [jnp.zeros_like(v) for v in dout])
    if any(np.any(np.asarray(v, np.float64)) for v in zeros):
        return Faults(wrong=("for a cotangent of zeros it is not 0",))
    return Faults()


def under_vmap(rule: Rule, args: Arrays, dout: Arrays) -> Faults:
    """Whether vmap over three examples gives what a loop over them gives. With a `while` in it they lie near each
    other: at the negative of its arguments it may have no end, and nothing could interrupt it."""
    try:
        factors = (1, 7 / 8, 9 / 8) if has_loop(jax.make_jaxpr(rule)(args, dout).jaxpr) else (1, 1 / 2, -1)
        batch = jax.tree.map(lambda v: jnp.stack([v * c for c in factors]), (args, dout))
        examples = [jax.tree.map(lambda v, i=i: v[i], batch) for i in range(3)]
        one_by_one = [jnp.stack(v) for v in zip(*(rule(*example) for example in examples), strict=True)]
        if not alike(jax.jit(jax.vmap(rule))(*batch), one_by_one):
            return Faults(wrong=("under vmap it gives something else than in a loop",))
    except Exception as error:  # whatever a user's rule raises
        return Faults(notes=(f"the rule cannot be vmapped: {first_line(error)}",))
    return Faults()


def when_differentiated(g: ArraysFunction, args: Arrays, dout: Arrays, plain: ArraysFunction) -> Faults:
    """Whether the derivative of the rule is that of the rule that autodiff makes of `plain`."""

    def second(f: ArraysFunction) -> Arrays:
        rule = rule_of(f)
        return jax.jit(jax.grad(lambda args: sum((v * v).sum() for v in rule(args, dout))))(args)

    try:
        if not alike(second(g), second(own_derivative(plain)[0])):
            return Faults(notes=("second derivatives through the rule are not those of what it computes",))
    except Exception as error:  # whatever a user's rule raises
        return Faults(notes=(f"the rule cannot be differentiated again: {first_line(error)}",))
    return Faults()


def alike(ours: Sequence[Array], true: Sequence[Array]) -> bool:
    return not unlike(ours, true)


def unlike(ours: Sequence[Array | np.ndarray], true: Sequence[Array | np.ndarray]) -> list[int]:
    """Which of a list of arrays differ, by more than roundings of the largest or, if that is nothing, of the
    cotangents': a derivative may be 0 by cancellation. What is undefined on both sides is alike."""
    our_floats, true_floats = ([np.asarray(v, np.float64) for v in arrays] for arrays in (ours, true))
    size = max((np.abs(v[np.isfinite(v)]).max(initial=0.1) for v in true_floats), default=0.1)
    different = []
    for i, (a, t, array) in enumerate(zip(our_floats, true_floats, true, strict=True)):
        if not np.allclose(a, t, rtol=0, atol=ROUNDINGS * eps(array.dtype) * size, equal_nan=True):
            different.append(i)
    return different
