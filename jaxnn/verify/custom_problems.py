"""A custom rule as a `Problem`: by the rule, and by autodiff of what it is meant to be the derivative of."""

from collections.abc import Callable

import jax
import numpy as np

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import Arguments, BadAnswer, Function, Problem, arguments_of, called
from jaxnn.verify.problems import (
    Argnums,
    Outputs,
    argument_paths,
    check_fits,
    chosen,
    function,
    in_place_of,
    inner,
    outputs,
    redrawable_leaves,
    with_random,
)
from jaxnn.verify.tracing.jaxprs import AS_WRITTEN, own_derivative, pulled_back, trace, without_rules

OF_JAX = "the rules that were checked are JAX's own: there are no others"


def custom_vjp_problem(
    f: Callable,
    *args: PyTree,
    argnums: Argnums | None,
    surrogate: Callable | None = None,
    plain: Callable | None = None,
) -> Problem:
    """The vector-Jacobian product by f's own rules against that of its surrogate, of `plain`, or of f itself, with all
    rules taken away; and the values: those of the rule's forward pass and, with `plain`, those of f where nothing is
    differentiated."""
    wanted, named = chosen(argnums, args)
    out = outputs(f, args)
    of_jax = has_rules_of_jax_alone(f, args, surrogate)
    arguments, cotangents = with_random(args, wanted, out.leaves, f)
    meant, times = (plain, 2) if plain else (f, 1)
    check_shapes(f, meant, args)

    def derivative(g: Callable, own: Callable[[Callable], Callable]) -> Function:
        def of(floats: list) -> list[PyTree]:
            *_, dout = arguments.build(floats)
            inputs = [floats[i] for i in arguments.differentiated]
            values, dargs = pulled_back(own(function(g, out.take, arguments, floats)), inputs, dout)
            return [*dargs, *values]

        return of

    by_rule, by_autodiff = derivative(f, lambda g: g), derivative(surrogate or meant, without_rules_of(of_jax))
    n, true = len(arguments.differentiated), with_values(by_autodiff, meant, surrogate, arguments, out)

    def claim(floats: list) -> list[PyTree]:
        *args, _ = arguments.build(floats)
        return [*by_rule(floats), *(out.take(f(*args)) if plain else [])]

    def truth(floats: list) -> list[PyTree]:
        leaves = true(floats)
        return [*leaves[:n], *leaves[n:] * times]

    def scalar(floats: list) -> PyTree:
        *args, dout = arguments.build(floats)
        return inner(out.take((surrogate or meant)(*args)), dout)

    undifferentiated = tuple(f"{name} where nothing is differentiated" for name in out.names) if plain else ()
    return Problem(
        title=f"custom rule of {called(f)}{in_place_of(surrogate)}",
        arguments=arguments,
        claim=claim,
        truth=truth,
        scalar=scalar,
        values=lambda floats: out.take(meant(*arguments.build(floats)[:-1])) * times,
        paths=(*argument_paths(arguments), *out.names, *undifferentiated),
        derivatives=n,
        redrawable=redrawable_leaves(arguments, named),
        cotangents=cotangents,
        notes=(OF_JAX,) if of_jax else (),
    )


def custom_jvp_problem(
    f: Callable, *args: PyTree, argnums: Argnums | None, surrogate: Callable | None = None
) -> Problem:
    """The directional derivative by f's own rules against that of f with its rules taken away, or of its surrogate."""
    wanted, named = chosen(argnums, args)
    out = outputs(f, args)
    of_jax = has_rules_of_jax_alone(f, args, surrogate)
    asked = arguments_of(args, wanted, f)
    arguments, tangents = with_random(args, wanted, [asked.floats[i] for i in asked.differentiated], f)

    def derivative(g: Callable, own: Callable[[Callable], Callable]) -> Function:
        def of(floats: list) -> list[PyTree]:
            *_, tangents = arguments.build(floats)
            inputs = [floats[i] for i in arguments.differentiated]
            values, dout = jax.jvp(own(function(g, out.take, arguments, floats)), (inputs,), (tangents,))
            return [*dout, *values]

        return of

    return Problem(
        title=f"custom rule of {called(f)}{in_place_of(surrogate)}",
        arguments=arguments,
        claim=derivative(f, lambda g: g),
        truth=with_values(derivative(surrogate or f, without_rules_of(of_jax)), f, surrogate, arguments, out),
        values=lambda floats: out.take(f(*arguments.build(floats)[:-1])),
        paths=(*(f"tangent of {name}" for name in out.names), *out.names),
        derivatives=len(out.names),
        redrawable=redrawable_leaves(arguments, named),
        cotangents=tangents,
        notes=(OF_JAX,) if of_jax else (),
    )


def without_rules_of(of_jax: bool) -> Callable[[Callable], Callable]:
    """What takes the custom rules of a function away, those of JAX itself too if they are what is asked about."""
    return lambda f: own_derivative(f, of_jax)[0]


def with_values(
    derivative: Function, f: Callable, surrogate: Callable | None, arguments: Arguments, out: Outputs
) -> Function:
    """The derivative of f, or that of its surrogate with the values of f in the place of the surrogate's."""
    if surrogate is None:
        return derivative

    def of(floats: list) -> list[PyTree]:
        values = own_derivative(function(f, out.take, arguments, floats))[0]
        inputs = [floats[i] for i in arguments.differentiated]
        return [*derivative(floats)[: -len(out.names)], *values(inputs)]

    return of


def check_shapes(f: Callable, plain: Callable, args: tuple[PyTree, ...]) -> None:
    """BadAnswer if plain(*args) has another tree or other shapes than f(*args)."""
    arguments = arguments_of(args, range(len(args)), f)
    ours, meant = (jax.tree.map(np.shape, arguments.answer(g)) for g in (f, plain))
    if ours != meant:
        raise BadAnswer(
            f"{called(plain)} returns the shapes {meant}, and {called(f)} {ours}: plain= must compute what it does."
        )


def has_rules_of_jax_alone(f: Callable, args: tuple[PyTree, ...], surrogate: Callable | None = None) -> bool:
    """Whether every rule in f is one of JAX's own. BadAnswer if there is none, and no surrogate for what is not the
    derivative, or if the surrogate does not fit f."""
    arguments = arguments_of(args, range(len(args)), f)
    if surrogate:
        check_fits(arguments.answer(surrogate), arguments.answer(f), called(f))
        return False
    closed = trace(lambda floats: jax.tree.leaves(f(*arguments.build(floats))), arguments, AS_WRITTEN)
    names: list[str] = []
    without_rules(closed.jaxpr, names, of_jax=True)
    if not names:
        raise BadAnswer(f"{called(f)} has no custom derivative rule: is its decorator or defvjp missing?")
    others: list[str] = []
    without_rules(closed.jaxpr, others)
    return not others
