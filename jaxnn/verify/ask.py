"""What can be asked: is this gradient, this pair of passes, this custom rule right; are these two functions one."""

import dataclasses
import decimal
import functools
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jaxnn import backprop
from jaxnn.layers.chain import Chain
from jaxnn.verify.arguments import BadAnswer, answer_like, arguments, called, check_dtypes, is_float_leaf
from jaxnn.verify.decide import Options, decide
from jaxnn.verify.decisions import Undecided
from jaxnn.verify.exact import PRECISIONS, Evaluation
from jaxnn.verify.outcome import sums_to_one
from jaxnn.verify.protocol import faults
from jaxnn.verify.report import FAIL
from jaxnn.verify.sharded import split_faults
from jaxnn.verify.sides import Problem, of_numpy, sides
from jaxnn.verify.trace import MODES, own_derivative, trace, value_and_gradient, without_rules


def gradient(cost, grad, *args, argnums=0, has_aux=False, **options):
    """Whether grad(*args) is the gradient of cost(*args) with respect to the arguments `argnums`: a `Report`.

    cost(params, *data) -> scalar, or (scalar, aux) with `has_aux`; grad(params, *data) -> a tree like params, or
    (value, tree), as `jax.grad` and `jax.value_and_grad` return. Either may be JAX or plain NumPy code.
    """
    problem = functools.partial(gradient_problem, cost, grad, argnums=argnums, has_aux=has_aux)
    return answer(problem, args, options, f"gradient({called(cost)}, {called(grad)}, …")


def vjp(forward, backward, *args, argnums=None, **options):
    """Whether backward(residuals, dout) is the vector-Jacobian product of forward: a `Report`.

    forward(*args) -> (out, residuals); backward(residuals, dout) -> a tuple of one cotangent for each argument, None
    for integers; alone where there is one argument. The cotangent is random at every point. Arguments that look like
    data with a meaning (whole numbers, rows of probabilities) stay as given, unless `argnums` names them.
    """
    problem = functools.partial(vjp_problem, forward, backward, argnums=argnums)
    return answer(problem, args, options, f"vjp({called(forward)}, {called(backward)}, …")


def custom_vjp(f, *args, argnums=None, **options):
    """Whether the rules of the `jax.custom_vjp` functions in f are the derivative of what they compute: a `Report`.

    f's derivative by its own rules against autodiff of the same f with the rules taken away. Right rules must also give
    the same again, under jit and under vmap, and 0 for 0; whether they can be differentiated once more is noted.
    """
    problem = functools.partial(custom_vjp_problem, f, argnums=argnums)
    report = answer(problem, args, options, f"custom_vjp({called(f)}, …")
    return keeps_protocol(report, f, args, argnums) if report.ok else report


def keeps_protocol(report, f, args, argnums):
    """The report on a right rule, with what else is asked of it."""
    _, out, leaves = outputs(f, args)
    its, _ = with_random(args, chosen(argnums, args)[0], out, f)
    floats = [jnp.asarray(v, t) for v, t in zip(its.floats, its.dtypes, strict=True)]
    draw = np.random.default_rng([ord(c) for c in "dout"]).normal  # nobody else's
    dout = [jnp.asarray(draw(size=v.shape), v.dtype) for v in out]
    wrong, notes = faults(function(f, leaves, its, floats), [floats[i] for i in its.differentiated], dout)
    given = range(len(floats) - len(dout))
    of_all = function(f, leaves, dataclasses.replace(its, differentiated=tuple(given)), floats)
    found = split_faults(of_all, [floats[i] for i in given], dout, [its.name(i) for i in given])
    wrong, notes = wrong + found[0], notes + found[1]
    if wrong:
        reason = f"the rule is the derivative, but {'; '.join(wrong)}."
        report = dataclasses.replace(report, verdict=FAIL, reason=reason)
    return dataclasses.replace(report, notes=(*report.notes, *notes))


def custom_jvp(f, *args, argnums=None, **options):
    """As `custom_vjp`, for `jax.custom_jvp`: the directional derivative along a random tangent."""
    problem = functools.partial(custom_jvp_problem, f, argnums=argnums)
    return answer(problem, args, options, f"custom_jvp({called(f)}, …")


def layer(layer, x, params=None, **options):
    """Whether layer.backward is the vector-Jacobian product of layer.forward at x (m, …), and at its first example.

    params: where to begin; those of `layer.init` when not given. A layer that draws does so from one key throughout.
    """
    if not hasattr(layer, "backward"):
        raise TypeError(
            f"{called(layer)} is no layer with init, forward and backward: for two functions ask verify.vjp."
        )
    x = np.asarray(x)
    if params is None:
        params = layer.init(jax.random.key(0), x.dtype if is_float_leaf(x) else jnp.float32)

    def forward(params, x):
        return layer.forward(params, x, jax.random.key(0))

    problem = functools.partial(vjp_problem, forward, layer.backward, argnums=None, title=f"backward of {layer}")
    others = ((params, x[:1]),) if x.ndim > 1 and len(x) > 1 else ()
    return answer(problem, (params, x), options, f"layer({layer}, x", others)


def loss(loss, z, y, w=None, **options):
    """Whether loss.backward is the derivative of the scalar loss.forward(z, y, w) with respect to z."""

    def J(z, y, *w):
        return loss.forward(z, y, *w)[0]

    def dz(z, y, *w):
        return loss.backward(loss.forward(z, y, *w)[1])

    problem = functools.partial(gradient_problem, J, dz, argnums=0, has_aux=False, title=f"backward of {loss}")
    args = (z, y) if w is None else (z, y, w)
    others = (tuple(v[:1] for v in args),) if np.ndim(z) > 1 and len(z) > 1 else ()
    return answer(problem, args, options, f"loss({loss}, z, y", others)


def model(model, loss, x, y, params=None, penalty=None, **options):
    """Whether `jaxnn.value_and_grad` of this model and loss is the gradient of their cost, and the cost its value."""
    params = model.init(jax.random.key(0)) if params is None else params
    its = named(model), NamedLoss(loss), penalty
    J, grad = backprop.cost(*its), backprop.value_and_grad(*its)
    problem = functools.partial(
        gradient_problem, J, grad, argnums=0, has_aux=False, title=f"gradient of {type(loss).__name__} of {model}"
    )
    return answer(problem, (params, x, y), options, f"model({model}, {loss}, x, y")


def named(model):
    """The model with names for what goes from layer to layer, so that a wrong one is found."""
    if not isinstance(model, Chain):
        return model
    layers: list[Any] = [
        NamedLayer(layer, f"x of layer {i} ({type(layer).__name__})") if i else layer
        for i, layer in enumerate(model.layers)
    ]
    return Chain(tuple(layers))


@dataclasses.dataclass(frozen=True)
class NamedLayer:
    """A layer whose x and dx have names."""

    layer: Any
    name: str

    def forward(self, params, x, key=None):
        return self.layer.forward(params, checkpoint_name(x, self.name), key)

    def backward(self, residuals, dout):
        dparams, dx = self.layer.backward(residuals, dout)
        return dparams, checkpoint_name(dx, f"d{self.name}")


@dataclasses.dataclass(frozen=True)
class NamedLoss:
    """A loss whose z and dz have names."""

    loss: Any

    def forward(self, z, y, w=None):
        return self.loss.forward(checkpoint_name(z, "z"), y, w)

    def backward(self, residuals):
        return checkpoint_name(self.loss.backward(residuals), "dz")


def same(f, g, *args, argnums=None, **options):
    """Whether f(*args) and g(*args) are the same function: a kernel and its plain form, a stable and a naive one."""
    problem = functools.partial(same_problem, f, g, argnums=argnums)
    return answer(problem, args, options, f"same({called(f)}, {called(g)}, …")


def exact(f, *args, digits=30):
    """The true value of f(*args) at exactly these floats, to so many digits: f's tree, with `decimal.Decimal` entries.

    A written constant such as 0.1 is the float that it is. ArithmeticError where the value is not finite, or where
    12,800 bits do not decide it.
    """
    its = arguments(args, range(len(args)), f)
    tree = jax.tree.structure(its.answer(f))
    flat = lambda floats: jax.tree.leaves(f(*its.build(floats)))  # noqa: E731
    both = sides(Problem(called(f), its, flat, flat, None, (), ()))
    side = both.claim or of_numpy(flat)
    for precision in PRECISIONS:
        ev = Evaluation(precision)
        try:
            out = side(ev, [ev.enter(v) for v in its.floats])
        except Undecided:
            continue
        balls = [v for leaf in out if leaf.dtype == object for v in leaf.flat]
        if all(v.is_finite() for v in balls) and all(
            v.is_exact() or v.rad() < abs(v.mid()) * 10.0**-digits for v in balls
        ):
            return jax.tree.unflatten(tree, [decimals(leaf, digits) for leaf in out])
    raise ArithmeticError(f"{called(f)} has no value to {digits} digits here: it is not finite, or 0 but for rounding.")


def decimals(leaf, digits):
    if leaf.dtype != object:
        return leaf
    with decimal.localcontext(prec=digits):
        return np.frompyfunc(lambda v: +decimal.Decimal(v.mid().str(digits + 5, radius=False)), 1, 1)(leaf)


def asserted(ask):
    """The check as an assertion: AssertionError with the whole report unless it passes, else the report."""

    @functools.wraps(ask)
    def check(*args, **options):
        report = ask(*args, **options)
        if not report.ok:
            raise AssertionError(f"\n{report}")
        return report

    check.__name__ = f"assert_{ask.__name__}"
    check.__doc__ = f"`{ask.__name__}`, raising AssertionError with the whole report unless the verdict is PASS."
    return check


(
    assert_gradient,
    assert_vjp,
    assert_custom_vjp,
    assert_custom_jvp,
    assert_layer,
    assert_loss,
    assert_model,
    assert_same,
) = map(asserted, (gradient, vjp, custom_vjp, custom_jvp, layer, loss, model, same))


# Questions as problems: two functions of the float leaves


def answer(problem, args, options, call, others=()):
    """The report on problem(*args), and on the same problem at other arguments."""
    known = [field.name for field in dataclasses.fields(Options)]
    for name in options.keys() - set(known):
        raise TypeError(
            f"{name}= is no option of this check: beside what its docstring names there are {', '.join(known)}."
        )
    settings = Options(**options)
    changed = {k: v for k, v in options.items() if k != "key" and v != getattr(Options(), k)}
    given = "".join(f", {k}={v!r}" if isinstance(v, (int, float, str)) else f", {k}=…" for k, v in changed.items())
    replay = f"verify.{call}{given}, key={settings.key})"
    return decide(problem(*args), settings, replay, lambda args: problem(*args), args, [problem(*o) for o in others])


def gradient_problem(cost, grad, *args, argnums, has_aux, title=None):
    single = isinstance(argnums, int)
    numbers = [i % len(args) for i in ([argnums] if single else argnums)]
    its = arguments(args, numbers, cost)
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
    out, _ = its_pair(arguments(args, wanted, forward).answer(forward), forward)
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
    asked = arguments(args, wanted, f)
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
    its = arguments(args, range(len(args)), f)
    names: list[str] = []
    without_rules(trace(lambda floats: jax.tree.leaves(f(*its.build(floats))), its, MODES[-2]).jaxpr, names)
    if not names:
        raise BadAnswer(
            f"{called(f)} has no custom derivative rule, but for JAX's own: is its decorator or defvjp missing?"
        )


def outputs(f, args, taken=is_float_leaf):
    """The leaves that f returns and that are `taken`: their names, their values or shapes, and the function that takes
    them, as floats, from the tree that f, or a function like it, returns."""
    entries = jax.tree_util.tree_leaves_with_path(arguments(args, range(len(args)), f).answer(f))
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
    its = arguments(args, wanted, f)
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
    its = arguments((*args, dout), wanted, f)
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
