"""What can be asked: is this gradient, this pair of passes, this custom rule right; are these two functions one."""

import dataclasses
import functools

import jax
import numpy as np
from jax import numpy as jnp

from jaxnn import backprop
from jaxnn.verify.arguments import called, is_float_leaf
from jaxnn.verify.custom_rules.contract import faults
from jaxnn.verify.custom_rules.devices import split_faults
from jaxnn.verify.decide import Options, decide
from jaxnn.verify.named_model import NamedLoss, named
from jaxnn.verify.problems import (
    chosen,
    custom_jvp_problem,
    custom_vjp_problem,
    function,
    gradient_problem,
    outputs,
    same_problem,
    vjp_problem,
    with_random,
)
from jaxnn.verify.reports.findings import FAIL


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


def same(f, g, *args, argnums=None, **options):
    """Whether f(*args) and g(*args) are the same function: a kernel and its plain form, a stable and a naive one."""
    problem = functools.partial(same_problem, f, g, argnums=argnums)
    return answer(problem, args, options, f"same({called(f)}, {called(g)}, …")


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
