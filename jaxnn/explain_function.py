"""The chain rule of a cost that the user wrote, link by link, by the names of the user's own variables."""

import re
import sys
from pathlib import Path

import jax
import numpy as np
from jax import numpy as jnp

from jaxnn import verify
from jaxnn.chain_rule import Explanation, Link, decimal
from jaxnn.verify import FAIL, PASS
from jaxnn.verify.arguments import called
from jaxnn.verify.ask import gradient_problem
from jaxnn.verify.diagnosis import in_jax
from jaxnn.verify.sides import sides
from jaxnn.verify.tape import Record, Tape
from jaxnn.verify.written import Written

SAME = 1e-9  # two arrays are one where no entry differs by more, of the largest


def explain_gradient(cost, grad, *args, argnums=0, learning_rate=0.1):
    """The `Explanation` of cost(*args) and of grad, its gradient by hand; of that by autodiff where grad is None.

    cost(params, *data) -> scalar; grad(params, *data) -> a tree like params, or (value, tree); JAX or NumPy code. Its
    links are the arrays that the code in the folder of `cost` has in variables, and those with a `checkpoint_name`, in
    the order in which they are computed, each written in those before it. What is ∂J/∂v, v one of them, is called so
    wherever it is met, and PASS; a variable dv that is not has FAIL. The leaves have the verdicts of `verify.gradient`.
    The update is that of gradient descent with this learning rate.
    TypeError: code that JAX cannot trace.
    """
    return next(descend_gradient(cost, grad, *args, argnums=argnums, learning_rate=learning_rate))


def descend_gradient(cost, grad, *args, argnums=0, learning_rate=0.1):
    """The `Explanation`s of one iteration of gradient descent after the other, while J is finite and computed by the
    same equations; see `explain_gradient`. The verdicts of leaves are of the first, and given there alone."""
    rule = grad or jax.grad(cost, argnums)
    report = verify.gradient(cost, rule, *args, argnums=argnums, points="given")
    problem = gradient_problem(cost, rule, *args, argnums=argnums, has_aux=False)
    both, its = sides(problem), problem.arguments
    is_jax = both.scalar is not None
    if not (both.hand and both.scalar):
        problem = in_jax(problem, both)
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):  # as NumPy has it
            both = sides(problem)
    if not (both.hand and both.scalar):
        raise TypeError(f"JAX cannot trace {called(cost)} or {called(rule)}: there are no equations to explain.")
    free, floats = list(both.free(problem)), [np.asarray(v, np.float64) for v in its.floats]
    asked = [free.index(i) for i in its.differentiated]
    found = variables([cost, *[grad] * bool(grad)], cost, its, jnp.asarray if is_jax else np.asarray)
    equations = None
    while True:
        with jax.enable_x64(True), np.errstate(all="ignore"):
            inputs = [floats[i] for i in free]
            tape, back = Tape(both.scalar, inputs, asked, {}), Record(both.hand, inputs)
        if equations is None:
            equations = tape.outs, back.outs
            symbols = forward_symbols(tape, [bare(its, i) for i in free], found[0])
        elif equations != (tape.outs, back.outs):
            return
        J, ways = tape.values[tape.J], list(forward_links(tape, symbols))
        backward = list(backward_links(tape, back, symbols, found[-1] if grad else [], report))
        pairs = zip(tape.asked, back.results, strict=False)  # a rule may return J too
        leaves = [(symbols[v], tape.values[v], back.values[dv]) for v, dv in pairs]
        step = f"− {decimal(learning_rate)} ∂J/∂"
        update = tuple(Link(name, f"{name} {step}{name}", v - learning_rate * dv) for name, v, dv in leaves)
        yield Explanation(tuple(ways), tuple(backward), update, report, None)
        if not np.isfinite(J):
            return
        for i, link in zip(its.differentiated, update, strict=True):
            floats[i] = link.value


def bare(arguments, i):
    """What a float leaf is called, without brackets and quotes: its path, or its argument where that is no name."""
    path, name = (re.sub(r"\W", "", s) for s in (arguments.paths[i], arguments.name(i)))
    return path if path.isidentifier() else name


def forward_symbols(tape, names, found):
    """{number: what it is called} of the inputs, the named values, and J."""
    symbols = dict(zip(tape.inputs, names, strict=True))
    call(tape, symbols, marked(tape) + found)
    symbols[tape.J] = "J"
    return symbols


def marked(record):
    """(name, value) of what has a `checkpoint_name`."""
    return [(name, v) for name, met in record.named.items() for _, v in met]


def call(record, symbols, found):
    """Gives the values of a record the names that were found, each once."""
    for name, value in found:
        v = number_of(record, value)
        if v is not None and v not in symbols:
            taken = [*symbols.values()]
            symbols[v] = next(s for k in range(1, len(taken) + 2) if (s := name + "′" * (k - 1)) not in taken)


def number_of(record, value):
    """The number of the first value that is computed and the same, or None."""
    made = (v for outs in record.outs for v in outs)
    return next((v for v in made if same(record.values[v], value)), None)


def same(v, value):
    if np.shape(v) != np.shape(value) or not np.issubdtype(np.asarray(v).dtype, np.floating):
        return False
    return bool(np.abs(v - value).max(initial=0) <= SAME * np.abs(value).max(initial=0))


def forward_links(tape, symbols):
    written = Written(tape, symbols)
    for v in sorted(symbols):
        formula = "given" if v in tape.inputs else written.formula(v)
        yield Link(symbols[v], formula, np.asarray(tape.values[v]))


def backward_links(tape, back, symbols, found, report):
    """The links of the backward pass as the rule computes it, in its order."""
    known = dict(zip(back.inputs, (symbols[v] for v in tape.inputs), strict=True))
    call(back, known, [(name, tape.values[v]) for v, name in symbols.items()])
    before = set(known)  # the forward pass, computed again
    true = {name: tape.true[v] for v, name in symbols.items() if v in tape.true and v not in (*tape.inputs, tape.J)}
    call(back, known, [(f"∂J/∂{name}", dv) for name, dv in true.items()])
    right = set(known) - before
    call(back, known, [(multiple(v, true.get(name.removeprefix("d"))) + name, v) for name, v in marked(back) + found])
    leaves = {v: k for k, v in enumerate(back.results[: len(tape.asked)])}
    known |= {v: f"∂J/∂{symbols[tape.asked[k]]}" for v, k in leaves.items() if v not in before}
    written = Written(back, known)
    for v in sorted(known.keys() - before | leaves.keys()):
        symbol = f"∂J/∂{symbols[tape.asked[leaves[v]]]}" if v in leaves else known[v]
        verdict = PASS if v in right else FAIL if symbol[:1] == "d" and symbol[1:] in true else ""
        if v in leaves:
            verdict = report.leaves[leaves[v]].verdict
        local = written.local(v, known.keys() - before)
        formula = known[v] if v in before else written.formula(v)
        slope = np.asarray(back.values[local[1]]) if local and local[1] not in known else None
        yield Link(symbol, formula, np.asarray(back.values[v]), local[0] if local else "", slope, verdict)


def multiple(v, true):
    """What a variable dv is of the true ∂J/∂v, where it is so many times that: courses leave 1/m for later."""
    if true is None or np.shape(v) != np.shape(true) or not np.any(true):
        return ""
    at = np.unravel_index(np.abs(true).argmax(), np.shape(true))
    c = v[at] / true[at]
    return f"{c:g}·" if c and same(v, c * true) else ""


def variables(functions, cost, its, array):
    """For each function, (name, value) of the float arrays in variables of the code in the folder of `cost`."""
    with jax.enable_x64(True), jax.disable_jit(), np.errstate(all="ignore"):
        args = its.build([array(v, np.float64) for v in its.floats])
        return [watched(f, args, folder_of(cost)) for f in functions]


def folder_of(f):
    while hasattr(f, "__wrapped__") or hasattr(f, "func"):  # jit, partial
        f = getattr(f, "__wrapped__", None) or f.func
    code = f.__code__ if hasattr(f, "__code__") else type(f).__call__.__code__
    return Path(code.co_filename).parent


def watched(f, args, folder):
    """(name, value) of the float arrays in the variables of every function in this folder, as it returns."""
    found: list = []

    def look(frame, event, arg):
        if event == "return" and Path(frame.f_code.co_filename).parent == folder:
            for name, v in frame.f_locals.items():
                if isinstance(v, jax.Array | np.ndarray) and not isinstance(v, jax.core.Tracer):
                    v = np.array(v)
                    found.extend([(name, v)] * bool(np.issubdtype(v.dtype, np.floating)))

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        f(*args)
    finally:
        sys.setprofile(before)
    return found
