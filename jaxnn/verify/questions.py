"""What can be asked: is this gradient, this pair of passes, this custom rule right; are these two functions one.

Every question takes the fields of `Options` as keywords, and returns a `Report`. TypeError: a keyword that is none of
them, or a complex argument. ValueError: an option out of range, or an entry to be differentiated that is not finite.
BadAnswer, a ValueError: a function returned something other than what is asked of it, or computes something else when
it is called again. What a function raises at the given arguments is raised as it is.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import ParamSpec

import jax
import numpy as np
from jax import numpy as jnp
from jax.typing import ArrayLike

from jaxnn import backprop
from jaxnn.protocols import Layer, Loss, LossPair, Params, Penalty, PyTree
from jaxnn.verify.arguments import Problem, called, is_float_leaf
from jaxnn.verify.custom_problems import custom_jvp_problem, custom_vjp_problem
from jaxnn.verify.custom_rules.contract import all_faults, faults, kernel_error
from jaxnn.verify.custom_rules.devices import split_faults
from jaxnn.verify.decide import decide
from jaxnn.verify.named_model import NamedLoss, named
from jaxnn.verify.options import Options
from jaxnn.verify.problems import (
    Argnums,
    chosen,
    function,
    gradient_problem,
    outputs,
    same_problem,
    vjp_problem,
    with_random,
)
from jaxnn.verify.reports.findings import FAIL
from jaxnn.verify.reports.report import Report
from jaxnn.verify.restriction import within
from jaxnn.verify.untraced import untraced
from jaxnn.verify.waiting import waiting

Asked = ParamSpec("Asked")
LATEST = 40.0  # seconds, after which nothing more is asked


def gradient(
    cost: Callable, grad: Callable, *args: PyTree, argnums: Argnums = 0, has_aux: bool = False, **options: PyTree
) -> Report:
    """Whether grad(*args) is the gradient of cost(*args) with respect to the arguments `argnums`: a `Report`.

    cost(params, *data) -> scalar, or (scalar, aux) with `has_aux`; grad(params, *data) -> a tree like params, or
    (value, tree), as `jax.grad` and `jax.value_and_grad` return. Either may be JAX or plain NumPy code.

    What can mean one thing only is understood, and `report.notes` says so: a cost (J, cache), or of shape (1, 1); keys
    dW1 for W1; a tuple for a dict; an array that lacks axes of size 1, or has more; parameters that are whole numbers.

    TypeError: the arguments `argnums` have no array of numbers. BadAnswer: cost returns no scalar; grad returns any
    other tree, shape or dtype than that of the arguments.
    """
    problem_at = functools.partial(gradient_problem, cost, grad, argnums=argnums, has_aux=has_aux)
    return answer(problem_at, args, options, f"gradient({called(cost)}, {called(grad)}, …")


def vjp(
    forward: Callable,
    backward: Callable,
    *args: PyTree,
    argnums: Argnums | None = None,
    surrogate: Callable | None = None,
    **options: PyTree,
) -> Report:
    """Whether backward(residuals, dout) is the vector-Jacobian product of forward: a `Report`.

    forward(*args) -> (out, residuals); backward(residuals, dout) -> a tuple of one cotangent for each argument, None
    for integers; alone if there is one argument. The cotangent is random at every point. Arguments that look like
    data with a meaning (whole numbers, rows of probabilities) stay as given, unless `argnums` names them.
    surrogate(*args) -> out: backward is meant to be the derivative of this function, and not of forward.

    BadAnswer: forward returns no pair; the surrogate returns another tree, shapes or dtypes than forward; backward
    returns another number of cotangents, or one of another tree, shape or dtype than its argument.
    """
    problem_at = functools.partial(vjp_problem, forward, backward, argnums=argnums, surrogate=surrogate)
    return answer(problem_at, args, options, f"vjp({called(forward)}, {called(backward)}, …")


def custom_vjp(
    f: Callable,
    *args: PyTree,
    argnums: Argnums | None = None,
    surrogate: Callable | None = None,
    plain: Callable | None = None,
    **options: PyTree,
) -> Report:
    """Whether the rules of the `jax.custom_vjp` functions in f are the derivative of what they compute: a `Report`.

    f's derivative by its own rules against autodiff of the same f with the rules taken away. Right rules must also give
    the same again, under jit and under vmap, and 0 for 0; whether they can be differentiated once more is noted.
    surrogate(*args) -> a tree like that of f: the rules are meant to be the derivative of this function, and not of f.

    plain: what f is meant to compute, plain(*args), in a plain or a slower form. f must then compute the same, and its
    rule be the derivative of that; the reason of a FAIL says which of the two is wrong.

    BadAnswer: f has no custom rule, and there is no surrogate; f returns no float array; the surrogate or `plain`
    returns another tree or other shapes than f.
    """
    problem_at = functools.partial(custom_vjp_problem, f, argnums=argnums, surrogate=surrogate, plain=plain)
    meant = f", plain={called(plain)}" if plain else ""
    report = answer(problem_at, args, options, f"custom_vjp({called(f)}, …{meant}")
    if report.ok:
        return with_faults(report, f, args, argnums, surrogate or f)
    return which_is_wrong(report, f, plain, args) if plain and report.verdict == FAIL else report


def which_is_wrong(report: Report, f: Callable, plain: Callable, args: tuple[PyTree, ...]) -> Report:
    """The report on a rule of f that is meant to compute `plain`, with what is wrong: f's values, or its rule."""
    if not report.leaves:
        return report
    n = 2 * len(outputs(f, args).names)  # the last leaves are values, of both passes
    if any(leaf.verdict == FAIL for leaf in report.leaves[-n:]):
        what = f"{called(f)} does not compute what {called(plain)} does"
    else:
        what = f"{called(f)} computes what {called(plain)} does, but its rule is not the derivative"
    return dataclasses.replace(report, reason=f"{what}: {report.reason}")


def with_faults(
    report: Report, f: Callable, args: tuple[PyTree, ...], argnums: Argnums | None, plain: Callable
) -> Report:
    """The report on a right rule of f, with what else JAX asks of it: FAIL if that is not so. plain: what the rule is
    the derivative of."""
    start = time.monotonic()
    if report.seconds > LATEST:
        note = "what else JAX asks of a rule (jit, vmap, devices) was not looked at, for lack of time"
        return dataclasses.replace(report, notes=(*report.notes, note))
    _, out, take = outputs(f, args)
    arguments, _ = with_random(args, chosen(argnums, args)[0], out, f)
    floats = [jnp.asarray(v, t) for v, t in zip(arguments.floats, arguments.dtypes, strict=True)]
    draw = np.random.default_rng([ord(c) for c in "dout"]).normal  # nobody else's
    dout = [jnp.asarray(draw(size=v.shape), v.dtype) for v in out]
    given = range(len(floats) - len(dout))
    of_given = dataclasses.replace(arguments, differentiated=tuple(given))
    asked = [floats[i] for i in arguments.differentiated]
    names = [arguments.name(i) for i in given]
    rule = function(f, take, arguments, floats)
    error = kernel_error(rule, asked, dout)
    if error:
        note = f"what else JAX asks of a rule is not known: its kernel does not run here ({error})"
        return dataclasses.replace(report, notes=(*report.notes, note))
    wrong, notes = all_faults(
        [
            faults(rule, asked, dout, function(plain, take, arguments, floats)),
            split_faults(function(f, take, of_given, floats), [floats[i] for i in given], dout, names),
        ]
    )
    if wrong:
        reason = f"the rule is the derivative, but {'; '.join(wrong)}."
        report = dataclasses.replace(report, verdict=FAIL, reason=reason)
    seconds = report.seconds + time.monotonic() - start
    return dataclasses.replace(report, notes=(*report.notes, *notes), seconds=seconds)


def custom_jvp(
    f: Callable,
    *args: PyTree,
    argnums: Argnums | None = None,
    surrogate: Callable | None = None,
    **options: PyTree,
) -> Report:
    """As `custom_vjp`, for `jax.custom_jvp`: the directional derivative along a random tangent.

    BadAnswer: as `custom_vjp`.
    """
    problem_at = functools.partial(custom_jvp_problem, f, argnums=argnums, surrogate=surrogate)
    return answer(problem_at, args, options, f"custom_jvp({called(f)}, …")


def layer(layer: Layer, x: ArrayLike, params: Params = None, **options: PyTree) -> Report:
    """Whether layer.backward is the vector-Jacobian product of layer.forward at x (m, …), and at its first example.

    params: where to begin; those of `layer.init` when not given. A layer that draws does so from one key throughout.

    TypeError: `layer` has no backward. BadAnswer: as `vjp`.
    """
    if not hasattr(layer, "backward"):
        raise TypeError(
            f"{called(layer)} is no layer with init, forward and backward: for two functions ask verify.vjp."
        )
    x = np.asarray(x)
    if params is None:
        params = layer.init(jax.random.key(0), x.dtype if is_float_leaf(x) else jnp.float32)

    def forward(params: Params, x: jax.Array) -> tuple[jax.Array, PyTree]:
        return layer.forward(params, x, jax.random.key(0))

    problem_at = functools.partial(vjp_problem, forward, layer.backward, argnums=None, title=f"backward of {layer}")
    others = [(params, x[:1])] if x.ndim > 1 and len(x) > 1 else []
    return answer(problem_at, (params, x), options, f"layer({layer}, x", others)


def loss(loss: Loss, z: ArrayLike, y: ArrayLike, w: ArrayLike | None = None, **options: PyTree) -> Report:
    """Whether loss.backward is the derivative of the scalar loss.forward(z, y, w) with respect to z.

    TypeError: z is no array of numbers, or y or w is a list. BadAnswer: forward returns no scalar; backward returns
    another shape or dtype than that of z.
    """

    def J(z: jax.Array, y: jax.Array, *w: jax.Array) -> jax.Array:
        return loss.forward(z, y, *w)[0]

    def dz(z: jax.Array, y: jax.Array, *w: jax.Array) -> jax.Array:
        return loss.backward(loss.forward(z, y, *w)[1])

    problem_at = functools.partial(gradient_problem, J, dz, argnums=0, has_aux=False, title=f"backward of {loss}")
    args: tuple[PyTree, ...] = (z, y) if w is None else (z, y, w)
    for name, v in zip("zyw", args, strict=False):
        if isinstance(v, (list, tuple)):
            raise TypeError(f"{name} is a {type(v).__name__}: give an array, such as np.array({name}).")
    shape = np.shape(z)
    others = [tuple(v[:1] for v in args)] if len(shape) > 1 and shape[0] > 1 else []
    return answer(problem_at, args, options, f"loss({loss}, z, y", others)


def model(
    model: Layer,
    loss: LossPair,
    x: ArrayLike,
    y: ArrayLike,
    params: Params = None,
    penalty: Penalty | None = None,
    **options: PyTree,
) -> Report:
    """Whether `jaxnn.value_and_grad` of this model and loss is the gradient of their cost, and the cost its value.

    params: those of `model.init` when not given. A layer that draws does so from one key throughout. BadAnswer: as
    `gradient`.
    """
    params = model.init(jax.random.key(0)) if params is None else params
    parts = named(model), NamedLoss(loss), penalty
    problem_at = functools.partial(
        gradient_problem,
        functools.partial(backprop.cost(*parts), key=jax.random.key(0)),
        functools.partial(backprop.value_and_grad(*parts), key=jax.random.key(0)),
        argnums=0,
        has_aux=False,
        title=f"gradient of {type(loss).__name__} of {model}",
    )
    return answer(problem_at, (params, x, y), options, f"model({model}, {loss}, x, y")


def same(f: Callable, g: Callable, *args: PyTree, argnums: Argnums | None = None, **options: PyTree) -> Report:
    """Whether f(*args) and g(*args) are the same function: a kernel and its plain form, a stable and a naive one.

    BadAnswer: f returns nothing that is a number, or g returns another tree or other shapes than f.
    """
    problem_at = functools.partial(same_problem, f, g, argnums=argnums)
    return answer(problem_at, args, options, f"same({called(f)}, {called(g)}, …")


class NotShownRight(AssertionError):
    """A check that did not pass. Its report is written when it is read: a property test fails many times before."""

    def __init__(self, report: Report):
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        return f"\n{self.report}"


def asserted(ask: Callable[Asked, Report]) -> Callable[Asked, Report]:
    """The check as an assertion: AssertionError with the whole report unless it passes, else the report."""

    @functools.wraps(ask)
    def check(*args: Asked.args, **options: Asked.kwargs) -> Report:
        with untraced():
            report = ask(*args, **options)
        if not report.ok:
            raise NotShownRight(report)
        return report

    check.__name__ = f"assert_{ask.__name__}"
    check.__doc__ = f"`{ask.__name__}`, raising AssertionError with the whole report unless the verdict is PASS."
    return check


assert_gradient = asserted(gradient)
assert_vjp = asserted(vjp)
assert_custom_vjp = asserted(custom_vjp)
assert_custom_jvp = asserted(custom_jvp)
assert_layer = asserted(layer)
assert_loss = asserted(loss)
assert_model = asserted(model)
assert_same = asserted(same)


def answer(
    problem_at: Callable[..., Problem],
    args: tuple[PyTree, ...],
    options: dict[str, PyTree],
    call: str,
    others: Sequence[tuple[PyTree, ...]] = (),
) -> Report:
    """The report on problem_at(*args), and on the same problem at `others`. call: how the question begins, in Python.

    TypeError: a keyword in `options` that is no field of `Options`. ValueError: an option out of range.
    """
    known = [field.name for field in dataclasses.fields(Options)]
    for name in sorted(options.keys() - set(known)):
        raise TypeError(
            f"{name}= is no option of this check: beside what its docstring names there are {', '.join(known)}."
        )
    settings, defaults = Options(**options), Options()
    replay = f"verify.{call}"
    for name, value in options.items():
        if name != "key" and value != getattr(defaults, name):
            is_short = isinstance(value, (int, float, str)) or (name == "domain" and "<" not in repr(value))
            replay += f", {name}={value!r}" if is_short else f", {name}=…"
    replay += f", key={settings.key})"

    def problem_of(args: tuple[PyTree, ...]) -> Problem:
        return within(problem_at(*args), settings)

    start = time.monotonic()
    with waiting(replay):
        report = decide(problem_of(args), settings, replay, problem_of, args, others)
    return dataclasses.replace(report, seconds=time.monotonic() - start)
