"""The chain rule of a cost that the user wrote, link by link, by the names of the user's own variables."""

import re
import traceback

import jax
import numpy as np
from jax import numpy as jnp

from jaxnn import verify
from jaxnn.explanation.explanation import Explanation, Link, decimal
from jaxnn.explanation.formulas import Written
from jaxnn.explanation.names import named
from jaxnn.explanation.variables import code_of, home
from jaxnn.verify import FAIL, PASS
from jaxnn.verify.arguments import called
from jaxnn.verify.evidence.comparison import comparison_of
from jaxnn.verify.problems import gradient_problem
from jaxnn.verify.tracing.jaxprs import MODES, trace
from jaxnn.verify.tracing.numpy_code import in_jax
from jaxnn.verify.tracing.tape import Record, Tape


def explain_gradient(cost, grad, *args, argnums=0, learning_rate=0.1):
    """The `Explanation` of cost(*args) and of grad, its gradient by hand; of that by autodiff where grad is None.

    cost(params, *data) -> scalar; grad(params, *data) -> a tree like params, or (value, tree); JAX or NumPy code. Its
    links are the arrays that the code in the folder of `cost` has in variables, also in dicts, lists and attributes of
    self, and those with a `checkpoint_name`, in the order in which they are computed, each written in those before it.
    What is ∂J/∂v, v one of them, is called so wherever it is met, and PASS. Where the gradient is wrong, a variable dv
    that is no ∂J/∂v has FAIL. The leaves have the verdicts of `verify.gradient`. The update is that of gradient descent
    with this learning rate.
    TypeError: code that JAX cannot trace.
    """
    return next(descend_gradient(cost, grad, *args, argnums=argnums, learning_rate=learning_rate))


def descend_gradient(cost, grad, *args, argnums=0, learning_rate=0.1):
    """The `Explanation`s of one iteration of gradient descent after the other, while J is finite and computed by the
    same equations; see `explain_gradient`. Names and verdicts are those of the first."""
    rule = grad or jax.grad(cost, argnums)
    try:
        report = verify.gradient(cost, rule, *args, argnums=argnums, points="given")
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
        if grad:
            raise
        raise TypeError(f"{untraced(cost, error)} Give grad, or write {called(cost)} in jax.numpy.") from None
    problem = gradient_problem(cost, rule, *args, argnums=argnums, has_aux=False)
    comparison, its = comparison_of(problem), problem.arguments
    is_jax = comparison.scalar is not None
    if not (comparison.hand and comparison.scalar):
        problem = in_jax(problem, comparison)
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):  # as NumPy has it
            comparison = comparison_of(problem)
            if not (comparison.hand and comparison.scalar):
                f, one = (rule, problem.claim) if comparison.scalar else (cost, lambda floats: [problem.scalar(floats)])
                raise TypeError(untraced(f, error_of(one, its), cost))
    free, floats = list(comparison.free(problem)), [np.asarray(v, np.float64) for v in its.floats]

    def passes(floats):
        with jax.enable_x64(True), np.errstate(all="ignore"):
            inputs = [floats[i] for i in free]
            asked = [free.index(i) for i in its.differentiated]
            return Tape(comparison.scalar, inputs, asked, {}), Record(comparison.hand, inputs)

    names = None
    while True:
        tape, back = passes(floats)
        if names is None:
            equations = tape.outs, back.outs
            array = jnp.asarray if is_jax else np.asarray
            names = named(passes, [cost, *[grad] * bool(grad)], its, free, floats, equations, array)
        elif equations != (tape.outs, back.outs):
            return
        J, symbols = tape.values[tape.J], names.forward
        forward, backward = list(forward_links(tape, symbols)), list(backward_links(tape, back, names, report))
        pairs = zip(tape.asked, back.results, strict=False)  # a rule may return J too
        leaves = [(symbols[v], tape.values[v], back.values[dv]) for v, dv in pairs]
        step = f"− {decimal(learning_rate)} ∂J/∂"
        update = tuple(Link(name, f"{name} {step}{name}", v - learning_rate * dv) for name, v, dv in leaves)
        yield Explanation(tuple(forward), tuple(backward), update, report, None)
        if not np.isfinite(J):
            return
        for i, link in zip(its.differentiated, update, strict=True):
            floats[i] = link.value


def error_of(f, its):
    """What JAX says of a function that it cannot trace."""
    try:
        trace(f, its, MODES[0])
    except Exception as error:
        return error


def untraced(f, error, cost=None):
    """The line of the user's code at which tracing stops, in a sentence."""
    where, sentence = home(code_of(cost or f).co_filename), f"JAX cannot trace {called(f)}"
    lines = [at for at in traceback.extract_tb(error and error.__traceback__) if home(at.filename) == where]
    if not lines:
        return f"{sentence}: there are no equations to explain."
    reason = str(error).strip().splitlines()[0].rstrip(".")
    return f"{sentence}, line {lines[-1].lineno}: {lines[-1].line} ({reason}): there are no equations to explain."


def forward_links(tape, symbols):
    written = Written(tape, symbols)
    for v in sorted(symbols):
        formula = "given" if v in tape.inputs else written.formula(v)
        yield Link(symbols[v], formula, np.asarray(tape.values[v]))


def backward_links(tape, back, names, report):
    """The links of the backward pass as the rule computes it, in its order."""
    _, known, again, right, wrong = names
    wrong = wrong if report.verdict == FAIL else []
    leaves = {v: k for k, v in enumerate(back.results[: len(tape.asked)])}
    written = Written(back, known)
    for v in sorted(known.keys() - again | leaves.keys() | {v for v, _ in wrong}):
        value, verdict = np.asarray(back.values[v]), PASS if v in right else ""
        symbol = f"∂J/∂{names.forward[tape.asked[leaves[v]]]}" if v in leaves else known[v]
        others = [name for u, name in wrong if u == v]
        if v in leaves:
            verdict = report.leaves[leaves[v]].verdict
        elif re.sub(r"[′⁽⁾⁰¹²³⁴⁵⁶⁷⁸⁹]+$", "", symbol) in others:
            verdict, others = FAIL, []
        local = written.local(v, known.keys() - again)
        formula = known[v] if v in again else written.formula(v)
        slope = np.asarray(back.values[local[1]]) if local and local[1] not in known else None
        if v not in again or v in leaves:
            yield Link(symbol, formula, value, local[0] if local else "", slope, verdict)
        for name in others:
            yield Link(name, symbol, value, verdict=FAIL)
