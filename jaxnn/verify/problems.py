"""Questions as instances of `arguments.Problem`: two functions of the same float leaves that should be one."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import (
    Arguments,
    BadAnswer,
    Function,
    Problem,
    answer_like,
    arguments_of,
    called,
    check_dtypes,
    is_float_leaf,
    sums_to_one,
)
from jaxnn.verify.tracing.jaxprs import (
    AS_WRITTEN,
    own_derivative,
    pulled_back,
    trace,
    value_and_gradient,
    without_rules,
)

Argnums = int | Sequence[int]


def gradient_problem(
    cost: Callable, grad: Callable, *args: PyTree, argnums: Argnums, has_aux: bool, title: str | None = None
) -> Problem:
    """grad against autodiff of cost."""
    single = isinstance(argnums, int)
    numbers = numbers_of(argnums, len(args))
    arguments = arguments_of(args, numbers, cost)
    if not arguments.differentiated:
        raise TypeError(f"argument {argnums} of {called(cost)} has no float array: there is nothing to differentiate.")
    like = args[numbers[0]] if single else tuple(args[i] for i in numbers)

    def scalar(floats: list) -> PyTree:
        out = cost(*arguments.build(floats))
        return out[0] if has_aux else out

    value = arguments.answer(cost)
    value = value[0] if has_aux else value
    if np.shape(value) != ():
        raise BadAnswer(f"{called(cost)} returned shape {np.shape(value)}: a cost is one number, a sum or a mean.")

    def fits(tree: PyTree) -> bool:
        return [np.shape(v) for v in jax.tree.leaves(tree)] == [np.shape(v) for v in jax.tree.leaves(like)]

    def is_valued(out: PyTree) -> bool:
        """Whether it can be (value, aux)."""
        return isinstance(out, tuple) and len(out) == 2 and np.shape(out[0]) == ()

    def split(out: PyTree) -> tuple[PyTree, list[PyTree]]:
        """(gradient, [value], or [] if there is none) of what grad returned."""
        if not isinstance(out, tuple) or len(out) != 2:  # the gradient
            return out, []
        if has_aux and fits(out[0]) and not (is_valued(out[0]) and fits(out[1])):  # (gradient, aux)
            return out[0], []
        if has_aux:  # ((value, aux), gradient)
            return out[1], [out[0][0]]
        if fits(out):  # the gradient, of a pair
            return out, []
        if np.shape(out[0]) == ():  # (value, gradient)
            return out[1], [out[0]]
        return out, []  # a wrong gradient, of which `answer_like` says what is wrong

    tree, values = split(arguments.answer(grad))
    check_dtypes(answer_like(tree, like, called(grad)), like, called(grad))

    def listed(out: PyTree) -> list[PyTree]:
        tree, values = split(out)
        return [*answer_like(tree, like, called(grad)), *values]

    def claim(floats: list) -> list[PyTree]:
        return listed(grad(*arguments.build(floats)))

    def truth(floats: list, **own: Callable) -> list[PyTree]:
        J, grads = value_and_gradient(scalar, floats, arguments.differentiated, **own)
        return [*grads, J] if values else grads

    return Problem(
        title=title or f"gradient of {called(cost)}",
        arguments=arguments,
        claim=claim,
        truth=truth,
        scalar=scalar,
        paths=(*argument_paths(arguments, single), *(["value"] if values else [])),
        has_value=bool(values),
        values=(lambda floats: [scalar(floats)]) if values else None,
        redrawable=arguments.differentiated,
        listed=listed,
        by_autodiff=truth,
    )


def vjp_problem(
    forward: Callable, backward: Callable, *args: PyTree, argnums: Argnums | None, title: str | None = None
) -> Problem:
    """backward against autodiff of forward, for a random cotangent."""
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
            leaves += answer_like(dargs[i], args[i], f"{called(backward)}, for argument {i},")
        return leaves

    def passes(*args: PyTree) -> list[PyTree]:
        *inputs, dout = args
        return listed(backward(pair(forward(*inputs), forward)[1], dout))

    def scalar(floats: list) -> PyTree:
        *args, dout = arguments.build(floats)
        return inner(pair(forward(*args), forward)[0], dout)

    def truth(floats: list, **own: Callable) -> list[PyTree]:
        return value_and_gradient(scalar, floats, arguments.differentiated, **own)[1]

    check_dtypes(arguments.answer(passes), tuple(args[i] for i in wanted), called(backward))
    return Problem(
        title=title or f"{called(backward)} of {called(forward)}",
        arguments=arguments,
        claim=lambda floats: passes(*arguments.build(floats)),
        truth=truth,
        scalar=scalar,
        paths=argument_paths(arguments),
        redrawable=redrawable_leaves(arguments, named),
        cotangents=cotangents,
        listed=listed,
        by_autodiff=truth,
    )


def custom_vjp_problem(f: Callable, *args: PyTree, argnums: Argnums | None) -> Problem:
    """The vector-Jacobian product by f's own rules against that of f with its rules taken away."""
    wanted, named = chosen(argnums, args)
    check_has_rule(f, args)
    out = outputs(f, args)
    arguments, cotangents = with_random(args, wanted, out.leaves, f)

    def derivative(own: Callable[[Callable], Callable]) -> Function:
        def of(floats: list) -> list[PyTree]:
            *_, dout = arguments.build(floats)
            inputs = [floats[i] for i in arguments.differentiated]
            values, dargs = pulled_back(own(function(f, out.take, arguments, floats)), inputs, dout)
            return [*dargs, *values]

        return of

    def scalar(floats: list) -> PyTree:
        *args, dout = arguments.build(floats)
        return inner(out.take(f(*args)), dout)

    return Problem(
        title=f"custom rule of {called(f)}",
        arguments=arguments,
        claim=derivative(lambda g: g),
        truth=derivative(lambda g: own_derivative(g)[0]),
        scalar=scalar,
        values=lambda floats: out.take(f(*arguments.build(floats)[:-1])),
        paths=(*argument_paths(arguments), *out.names),
        redrawable=redrawable_leaves(arguments, named),
        cotangents=cotangents,
    )


def custom_jvp_problem(f: Callable, *args: PyTree, argnums: Argnums | None) -> Problem:
    """The directional derivative by f's own rules against that of f with its rules taken away."""
    wanted, named = chosen(argnums, args)
    check_has_rule(f, args)
    out = outputs(f, args)
    asked = arguments_of(args, wanted, f)
    arguments, tangents = with_random(args, wanted, [asked.floats[i] for i in asked.differentiated], f)

    def derivative(own: Callable[[Callable], Callable]) -> Function:
        def of(floats: list) -> list[PyTree]:
            *_, tangents = arguments.build(floats)
            inputs = [floats[i] for i in arguments.differentiated]
            values, dout = jax.jvp(own(function(f, out.take, arguments, floats)), (inputs,), (tangents,))
            return [*dout, *values]

        return of

    return Problem(
        title=f"custom rule of {called(f)}",
        arguments=arguments,
        claim=derivative(lambda g: g),
        truth=derivative(lambda g: own_derivative(g)[0]),
        values=lambda floats: out.take(f(*arguments.build(floats)[:-1])),
        paths=(*(f"tangent of {name}" for name in out.names), *out.names),
        redrawable=redrawable_leaves(arguments, named),
        cotangents=tangents,
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


def check_has_rule(f: Callable, args: tuple[PyTree, ...]) -> None:
    """BadAnswer if no rule in f is somebody's own."""
    arguments = arguments_of(args, range(len(args)), f)
    names: list[str] = []
    closed = trace(lambda floats: jax.tree.leaves(f(*arguments.build(floats))), arguments, AS_WRITTEN)
    without_rules(closed.jaxpr, names)
    if not names:
        raise BadAnswer(
            f"{called(f)} has no custom derivative rule, except for JAX's own: is its decorator or defvjp missing?"
        )


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
