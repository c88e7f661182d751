"""Questions as problems: two functions of the same float leaves that should be one."""

import jax
import numpy as np

from jaxnn.verify.arguments import (
    BadAnswer,
    Problem,
    answer_like,
    arguments_of,
    called,
    check_dtypes,
    is_float_leaf,
    sums_to_one,
)
from jaxnn.verify.tracing.jaxprs import MODES, own_derivative, trace, value_and_gradient, without_rules


def gradient_problem(cost, grad, *args, argnums, has_aux, title=None):
    single = isinstance(argnums, int)
    numbers = [i % len(args) for i in ([argnums] if single else argnums)]
    its = arguments_of(args, numbers, cost)
    if not its.differentiated:
        raise TypeError(f"argument {argnums} of {called(cost)} has no float array: there is nothing to differentiate.")
    like = args[argnums] if single else tuple(args[i] for i in numbers)

    def scalar(floats):
        out = cost(*its.build(floats))
        return out[0] if has_aux else out

    value = its.answer(cost)
    value = value[0] if has_aux else value
    if np.shape(value) != ():
        raise BadAnswer(f"{called(cost)} returned shape {np.shape(value)}: a cost is one number, a sum or a mean.")

    def fits(tree):
        shapes = [[np.shape(v) for v in jax.tree.leaves(of)] for of in (tree, like)]
        return shapes[0] == shapes[1]

    def taken(out):
        """(gradient, [value]) of what grad returned."""
        if not isinstance(out, tuple) or len(out) != 2 or (fits(out) and not has_aux):
            return out, []
        if has_aux:
            return (out[0], []) if fits(out[0]) else (out[1], [out[0][0]])
        return (out[1], [out[0]]) if np.shape(out[0]) == () else (out, [])

    tree, values = taken(its.answer(grad))
    check_dtypes(answer_like(tree, like, called(grad)), like, called(grad))

    def listed(out):
        tree, values = taken(out)
        return [*answer_like(tree, like, called(grad)), *values]

    def claim(floats):
        return listed(grad(*its.build(floats)))

    def truth(floats, **own):
        J, grads = value_and_gradient(scalar, floats, its.differentiated, **own)
        return [*grads, *[J] * len(values)]

    paths = argument_paths(its, single) + ("value",) * len(values)
    title = title or f"gradient of {called(cost)}"
    return Problem(title, its, claim, truth, scalar, paths, its.differentiated, (), listed, truth)


def vjp_problem(forward, backward, *args, argnums, title=None):
    wanted, checked = chosen(argnums, args)
    out, _ = its_pair(arguments_of(args, wanted, forward).answer(forward), forward)
    its, cotangents = with_random(args, wanted, out, forward)

    def listed(out):
        dargs = tuple(out) if isinstance(out, (tuple, list)) and (len(args) > 1 or len(out) == 1) else (out,)
        if len(dargs) != len(args):
            raise BadAnswer(
                f"{called(backward)} returned {len(dargs)} cotangents for the {len(args)} arguments of "
                f"{called(forward)}: one for each is needed, None for integers."
            )
        return [
            leaf for i in wanted for leaf in answer_like(dargs[i], args[i], f"{called(backward)}, for argument {i},")
        ]

    def passes(*args):
        *inputs, dout = args
        return listed(backward(its_pair(forward(*inputs), forward)[1], dout))

    def scalar(floats):
        *args, dout = its.build(floats)
        return inner(its_pair(forward(*args), forward)[0], dout)

    def truth(floats, **own):
        return value_and_gradient(scalar, floats, its.differentiated, **own)[1]

    check_dtypes(its.answer(passes), tuple(args[i] for i in wanted), called(backward))
    return Problem(
        title or f"{called(backward)} of {called(forward)}",
        its,
        lambda floats: passes(*its.build(floats)),
        truth,
        scalar,
        argument_paths(its),
        redrawable(its, checked),
        cotangents,
        listed,
        truth,
    )


def custom_vjp_problem(f, *args, argnums):
    wanted, checked = chosen(argnums, args)
    check_has_rule(f, args)
    names, out, leaves = outputs(f, args)
    its, cotangents = with_random(args, wanted, out, f)

    def derivative(own):
        def of(floats):
            *_, dout = its.build(floats)
            out, pull = jax.vjp(own(function(f, leaves, its, floats)), [floats[i] for i in its.differentiated])
            return [*pull(dout)[0], *out]

        return of

    def scalar(floats):
        *args, dout = its.build(floats)
        return inner(leaves(f(*args)), dout)

    return Problem(
        f"custom rule of {called(f)}",
        its,
        derivative(lambda g: g),
        derivative(lambda g: own_derivative(g)[0]),
        scalar,
        (*argument_paths(its), *names),
        redrawable(its, checked),
        cotangents,
    )


def custom_jvp_problem(f, *args, argnums):
    wanted, checked = chosen(argnums, args)
    check_has_rule(f, args)
    names, _, leaves = outputs(f, args)
    asked = arguments_of(args, wanted, f)
    its, tangents = with_random(args, wanted, [asked.floats[i] for i in asked.differentiated], f)

    def derivative(own):
        def of(floats):
            *_, tangents = its.build(floats)
            diff = [floats[i] for i in its.differentiated]
            out, dout = jax.jvp(own(function(f, leaves, its, floats)), (diff,), (tangents,))
            return [*dout, *out]

        return of

    return Problem(
        f"custom rule of {called(f)}",
        its,
        derivative(lambda g: g),
        derivative(lambda g: own_derivative(g)[0]),
        None,
        (*(f"tangent of {name}" for name in names), *names),
        redrawable(its, checked),
        tangents,
    )


def check_has_rule(f, args):
    its = arguments_of(args, range(len(args)), f)
    names: list[str] = []
    without_rules(trace(lambda floats: jax.tree.leaves(f(*its.build(floats))), its, MODES[-2]).jaxpr, names)
    if not names:
        raise BadAnswer(
            f"{called(f)} has no custom derivative rule, but for JAX's own: is its decorator or defvjp missing?"
        )


def outputs(f, args, taken=is_float_leaf):
    """The leaves that f returns and that are `taken`: their names, their values or shapes, and the function that takes
    them, as floats, from the tree that f, or a function like it, returns."""
    entries = jax.tree_util.tree_leaves_with_path(arguments_of(args, range(len(args)), f).answer(f))
    numbers = [i for i, (_, v) in enumerate(entries) if taken(v)]
    if not numbers:
        raise BadAnswer(f"{called(f)} returns no float array: there is nothing to compare.")

    def leaves(tree):
        found = jax.tree.leaves(tree)
        return [found[i] if is_float_leaf(entries[i][1]) else found[i].astype(float) for i in numbers]

    return tuple(f"out{jax.tree_util.keystr(entries[i][0])}" for i in numbers), [entries[i][1] for i in numbers], leaves


def is_number(v):
    return is_float_leaf(v) or getattr(v, "dtype", np.dtype(object)).kind in "iub"


def function(f, leaves, its, floats):
    """The float leaves of f(*args) as a function of the differentiated ones."""

    def of(diff):
        new = list(floats)
        for i, v in zip(its.differentiated, diff, strict=True):
            new[i] = v
        *args, _ = its.build(new)
        return leaves(f(*args))

    return of


def same_problem(f, g, *args, argnums):
    wanted, checked = chosen(argnums, args)
    its = arguments_of(args, wanted, f)
    names, _, leaves = outputs(f, args, is_number)
    answer_like(its.answer(g), its.answer(f), called(g))

    return Problem(
        f"{called(g)} against {called(f)}",
        its,
        lambda v: leaves(g(*its.build(v))),
        lambda v: leaves(f(*its.build(v))),
        None,
        names,
        redrawable(its, checked),
    )


def chosen(argnums, args):
    """(the arguments that are differentiated, those that the user named)."""
    if argnums is None:  # a Python number is a setting
        arrays = [any(hasattr(v, "dtype") for v in jax.tree.leaves(arg)) for arg in args]
        return [i for i in range(len(args)) if arrays[i] or not any(arrays)], []
    numbers = [i % len(args) for i in ([argnums] if isinstance(argnums, int) else argnums)]
    return numbers, numbers


def its_pair(out, forward):
    if not isinstance(out, tuple) or len(out) != 2:
        raise BadAnswer(f"{called(forward)} returned {type(out).__name__}: forward returns a pair (out, residuals).")
    return out


def with_random(args, wanted, out, f):
    """(`Arguments` of args and a cotangent of `out`, the numbers of the cotangent's float leaves)."""
    dout = jax.tree.map(lambda v: np.ones(v.shape, v.dtype) if is_float_leaf(v) else None, out)
    its = arguments_of((*args, dout), wanted, f)
    return its, tuple(i for i, n in enumerate(its.positions) if n == len(args))


def inner(out, dout):
    """⟨out, dout⟩ over all float leaves."""
    pairs = zip(jax.tree.leaves(out), jax.tree.leaves(dout, is_leaf=lambda v: v is None), strict=True)
    return sum((v * d).sum() for v, d in pairs if d is not None)


def argument_paths(its, single=False):
    """The names of the differentiated leaves: of a single argument that is a tree, without the argument's own."""
    return tuple(its.paths[i] if single and its.paths[i] else its.name(i) for i in its.differentiated)


def redrawable(its, named):
    """The float leaves that may be drawn anew: those that were named; else those that do not look like data whose
    values mean something, such as one-hot rows, masks and probabilities."""
    return tuple(i for i in its.differentiated if its.positions[i] in named or not (named or meaningful(its.floats[i])))


def meaningful(v):
    v = np.asarray(v, np.float64)
    mask = bool(np.isin(v, (0, 1)).all()) and len(np.unique(v)) == 2
    return mask or (v.ndim > 0 and v.shape[-1] > 1 and sums_to_one(v))
