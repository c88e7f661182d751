"""Questions as instances of `arguments.Problem`: two functions of the same float leaves that should be one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from jaxnn.protocols import PyTree
from jaxnn.verify.answers import Asked, Names, cost_in, gradient_in, whole_parameters, with_floats
from jaxnn.verify.arguments import (
    Arguments,
    BadAnswer,
    Problem,
    answer_like,
    arguments_of,
    by_path,
    called,
    check_dtypes,
    is_float_leaf,
    sums_to_one,
)
from jaxnn.verify.tracing.jaxprs import (
    value_and_gradient,
)

Argnums = int | Sequence[int]


def gradient_problem(
    cost: Callable, grad: Callable, *args: PyTree, argnums: Argnums, has_aux: bool, title: str | None = None
) -> Problem:
    """grad against autodiff of cost. Parameters that are whole numbers are floats."""
    single = isinstance(argnums, int)
    numbers = numbers_of(argnums, len(args))
    asked_for = tuple(args[i] for i in numbers)
    like = asked_for[0] if single else asked_for
    again = partial(gradient_problem, cost, grad, argnums=argnums, has_aux=has_aux, title=title)
    arguments = arguments_of(args, numbers, cost)
    if not arguments.differentiated:
        whole = whole_parameters(asked_for)
        if whole:
            return in_floats(again, args, numbers, whole)
        raise TypeError(f"argument {argnums} of {called(cost)} has no float array: there is nothing to differentiate.")
    J = cost_in(arguments.answer(cost), called(cost), has_aux)
    asked = Asked(like, called(grad), has_aux)
    answer = asked.split(arguments.answer(grad))
    whole = whole_parameters(asked_for, (answer.tree,) if single else answer.tree)
    if whole:
        return in_floats(again, args, numbers, whole)
    leaves, notes = gradient_in(answer.tree, like, called(grad))
    check_dtypes(leaves, like, called(grad))

    def scalar(floats: list) -> PyTree:
        return J.of(cost(*arguments.build(floats)))

    def truth(floats: list, **own: Callable) -> list[PyTree]:
        value, grads = value_and_gradient(scalar, floats, arguments.differentiated, **own)
        return [*grads, value] if answer.values else grads

    return Problem(
        title=title or f"gradient of {called(cost)}",
        arguments=arguments,
        claim=lambda floats: asked.listed(grad(*arguments.build(floats))),
        truth=truth,
        scalar=scalar,
        paths=(*argument_paths(arguments, single), *(["value"] if answer.values else [])),
        derivatives=len(arguments.differentiated),
        has_value=bool(answer.values),
        values=(lambda floats: [scalar(floats)]) if answer.values else None,
        redrawable=arguments.differentiated,
        listed=asked.listed,
        by_autodiff=truth,
        notes=(*J.notes, *notes),
    )


def in_floats(
    problem_at: Callable[..., Problem], args: tuple[PyTree, ...], numbers: Sequence[int], whole: set[Names]
) -> Problem:
    """problem_at(*args) with floats for these whole numbers in the arguments of these numbers."""
    new = list(args)
    for i, arg in zip(numbers, with_floats(tuple(args[i] for i in numbers), whole), strict=True):
        new[i] = arg
    problem = problem_at(*new)
    names = problem.arguments.names
    which = sorted(".".join((names[numbers[int(n)]], *path)) for n, *path in whole)
    return replace(problem, notes=(f"whole numbers are taken as floats: {', '.join(which)}", *problem.notes))


def vjp_problem(
    forward: Callable,
    backward: Callable,
    *args: PyTree,
    argnums: Argnums | None,
    title: str | None = None,
    surrogate: Callable | None = None,
) -> Problem:
    """backward against autodiff of forward, or of its surrogate, for a random cotangent."""
    wanted, named = chosen(argnums, args)
    out, _ = pair(arguments_of(args, wanted, forward).answer(forward), forward)
    arguments, cotangents = with_random(args, wanted, out, forward)

    def listed(out: PyTree) -> list[PyTree]:
        dargs = tuple(out) if isinstance(out, (tuple, list)) and (len(args) > 1 or len(out) == 1) else (out,)
        if len(dargs) != len(args):
            raise BadAnswer(
                f"{called(backward)} returned {len(dargs)} cotangents for the {len(args)} arguments of "
                f"{called(forward)}: one for each is needed, None for integers."
            )
        leaves: list[PyTree] = []
        for i in wanted:
            if dargs[i] is None and any(map(is_float_leaf, jax.tree.leaves(args[i]))):
                others = tuple(n for n in wanted if n != i)
                constant = f" or, if it is meant to be constant, leave it out with argnums={others}" if others else ""
                raise BadAnswer(
                    f"{called(backward)} returned None for argument {i}, which has floats: return its "
                    f"cotangent{constant}."
                )
            leaves += answer_like(dargs[i], args[i], f"{called(backward)}, for argument {i},")
        return leaves

    def passes(*args: PyTree) -> list[PyTree]:
        *inputs, dout = args
        return listed(backward(pair(forward(*inputs), forward)[1], dout))

    if surrogate:
        check_fits(arguments_of(args, wanted, surrogate).answer(surrogate), out, called(forward))

    def scalar(floats: list) -> PyTree:
        *args, dout = arguments.build(floats)
        return inner(surrogate(*args) if surrogate else pair(forward(*args), forward)[0], dout)

    def truth(floats: list, **own: Callable) -> list[PyTree]:
        return value_and_gradient(scalar, floats, arguments.differentiated, **own)[1]

    check_dtypes(arguments.answer(passes), tuple(args[i] for i in wanted), called(backward))
    return Problem(
        title=title or f"{called(backward)} of {called(forward)}{in_place_of(surrogate)}",
        arguments=arguments,
        claim=lambda floats: passes(*arguments.build(floats)),
        truth=truth,
        scalar=scalar,
        paths=argument_paths(arguments),
        derivatives=len(arguments.differentiated),
        redrawable=redrawable_leaves(arguments, named),
        cotangents=cotangents,
        listed=listed,
        by_autodiff=truth,
    )


def same_problem(f: Callable, g: Callable, *args: PyTree, argnums: Argnums | None) -> Problem:
    """The values of g against those of f."""
    wanted, named = chosen(argnums, args)
    arguments = arguments_of(args, wanted, f)
    out = outputs(f, args, is_number)
    answer_like(arguments.answer(g), arguments.answer(f), called(g))

    return Problem(
        title=f"{called(g)} against {called(f)}",
        arguments=arguments,
        claim=lambda floats: out.take(g(*arguments.build(floats))),
        truth=lambda floats: out.take(f(*arguments.build(floats))),
        paths=out.names,
        redrawable=redrawable_leaves(arguments, named),
    )


def check_fits(out: PyTree, like: PyTree, who: str) -> None:
    """BadAnswer if a surrogate returned something else than the function itself."""
    surrogate, itself = ({path: type_of(v) for path, v in by_path(tree).items()} for tree in (out, like))
    if surrogate != itself:
        raise BadAnswer(
            f"surrogate= returned {', '.join(surrogate.values())}, and {who} {', '.join(itself.values())}: a surrogate "
            "takes the same arguments and returns a tree of the same shapes and dtypes."
        )


def type_of(v: PyTree) -> str:
    """The dtype and the shape of an array, such as float32[3, 2]."""
    return f"{jnp.result_type(v)}{list(np.shape(v))}"


def in_place_of(surrogate: Callable | None) -> str:
    """The end of a title."""
    return f" against the derivative of the surrogate {called(surrogate)}" if surrogate else ""


class Outputs(NamedTuple):
    """Some leaves of what a function returns."""

    names: tuple[str, ...]
    leaves: list[PyTree]  # values or shapes
    take: Callable[[PyTree], list[PyTree]]  # of a tree that the function, or one like it, returns: these, as floats


def outputs(f: Callable, args: tuple[PyTree, ...], wanted: Callable[[PyTree], bool] = is_float_leaf) -> Outputs:
    """The leaves of f(*args) that are `wanted`."""
    entries = jax.tree_util.tree_leaves_with_path(arguments_of(args, range(len(args)), f).answer(f))
    numbers = [i for i, (_, v) in enumerate(entries) if wanted(v)]
    if not numbers:
        raise BadAnswer(f"{called(f)} returns no float array: there is nothing to compare.")

    def take(tree: PyTree) -> list[PyTree]:
        values = jax.tree.leaves(tree)
        return [values[i] if is_float_leaf(entries[i][1]) else values[i].astype(float) for i in numbers]

    return Outputs(
        names=tuple(f"out{jax.tree_util.keystr(entries[i][0])}" for i in numbers),
        leaves=[entries[i][1] for i in numbers],
        take=take,
    )


def is_number(v: PyTree) -> bool:
    return is_float_leaf(v) or getattr(v, "dtype", np.dtype(object)).kind in "iub"


def function(
    f: Callable, take: Callable[[PyTree], list[PyTree]], arguments: Arguments, floats: Sequence[PyTree]
) -> Callable[[Sequence[PyTree]], list[PyTree]]:
    """take(f(*args)) as a function of the differentiated leaves. The last argument is no argument of f."""

    def of(inputs: Sequence[PyTree]) -> list[PyTree]:
        new = list(floats)
        for i, v in zip(arguments.differentiated, inputs, strict=True):
            new[i] = v
        *args, _ = arguments.build(new)
        return take(f(*args))

    return of


def numbers_of(argnums: Argnums, n: int) -> list[int]:
    """Which of n arguments are meant, counted from 0; TypeError if one is not there."""
    numbers = [argnums] if isinstance(argnums, int) else list(argnums)
    for i in numbers:
        if not -n <= i < n:
            raise TypeError(f"argnums={argnums} means an argument {i}, and there are {n}: they are counted from 0.")
    return [i % n for i in numbers]


def chosen(argnums: Argnums | None, args: tuple[PyTree, ...]) -> tuple[list[int], list[int]]:
    """(the arguments that are differentiated, those that the user named)."""
    if argnums is None:  # a Python number is a setting
        arrays = [any(hasattr(v, "dtype") for v in jax.tree.leaves(arg)) for arg in args]
        return [i for i in range(len(args)) if arrays[i] or not any(arrays)], []
    numbers = numbers_of(argnums, len(args))
    return numbers, numbers


def pair(out: PyTree, forward: Callable) -> tuple[PyTree, PyTree]:
    """What forward returned; BadAnswer unless it is a pair."""
    if not isinstance(out, tuple) or len(out) != 2:
        raise BadAnswer(f"{called(forward)} returned {type(out).__name__}: forward returns a pair (out, residuals).")
    return out


def with_random(
    args: tuple[PyTree, ...], wanted: list[int], out: PyTree, f: Callable
) -> tuple[Arguments, tuple[int, ...]]:
    """(`Arguments` of args and a cotangent of `out`, the numbers of the cotangent's float leaves)."""
    dout = jax.tree.map(lambda v: np.ones(v.shape, v.dtype) if is_float_leaf(v) else None, out)
    arguments = arguments_of((*args, dout), wanted, f)
    return arguments, tuple(i for i, n in enumerate(arguments.argument_of) if n == len(args))


def inner(out: PyTree, dout: PyTree) -> PyTree:
    """⟨out, dout⟩ over all float leaves."""
    pairs = zip(jax.tree.leaves(out), jax.tree.leaves(dout, is_leaf=lambda v: v is None), strict=True)
    return sum((v * d).sum() for v, d in pairs if d is not None)


def argument_paths(arguments: Arguments, single: bool = False) -> tuple[str, ...]:
    """The names of the differentiated leaves: of a single argument that is a tree, without the argument's own."""
    return tuple(
        arguments.paths[i] or arguments.name(i) if single else arguments.name(i) for i in arguments.differentiated
    )


def redrawable_leaves(arguments: Arguments, named: list[int]) -> tuple[int, ...]:
    """The float leaves that may be drawn anew: those that were named; else those that do not look like data whose
    values mean something, such as one-hot rows, masks and probabilities."""
    if named:
        return tuple(i for i in arguments.differentiated if arguments.argument_of[i] in named)
    return tuple(i for i in arguments.differentiated if not is_meaningful(arguments.floats[i]))


def is_meaningful(v: np.ndarray) -> bool:
    """Whether the values are those of a mask, of one-hot rows or of distributions."""
    v = np.asarray(v, np.float64)
    mask = bool(np.isin(v, (0, 1)).all()) and len(np.unique(v)) == 2
    return mask or (v.ndim > 0 and v.shape[-1] > 1 and sums_to_one(v))
