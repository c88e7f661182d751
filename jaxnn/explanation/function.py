"""The chain rule of a cost that the user wrote, link by link, by the names of the user's own variables."""

import traceback
from collections.abc import Callable, Iterator
from itertools import chain

import jax
import numpy as np
from jax import numpy as jnp

from jaxnn import verify
from jaxnn.explanation.explanation import Explanation
from jaxnn.explanation.lines import updated
from jaxnn.explanation.names import Names, backward_names, give_names, input_names, marked
from jaxnn.explanation.passes import Floats, Passes, backward_lines, equations, forward_lines, general_place
from jaxnn.explanation.variables import Variable, Watch, code_of, home
from jaxnn.protocols import PyTree
from jaxnn.verify import FAIL, PASS
from jaxnn.verify.arguments import Arguments, Problem, called
from jaxnn.verify.evidence.comparison import Comparison, comparison_of
from jaxnn.verify.problems import gradient_problem
from jaxnn.verify.tracing.jaxprs import IN_FLOAT64, trace
from jaxnn.verify.tracing.numpy_code import in_jax
from jaxnn.verify.tracing.tape import Record, Tape

MOST_STEPS = 1500  # equations of a cost


def explain_gradient(
    cost: Callable, grad: Callable | None, *args: PyTree, argnums: int = 0, learning_rate: float = 0.1
) -> Explanation:
    """The `Explanation` of cost(*args) and of grad, its gradient by hand; of that by autodiff where grad is None.

    cost(params, *data) -> scalar; grad(params, *data) -> a tree like params, or (value, tree); JAX or NumPy code. Its
    lines are the arrays that the code in the folder of `cost` has in variables, also in dicts, lists and attributes of
    self, and those with a `checkpoint_name`, in the order in which they are computed, each written in those before it.
    What is ∂J/∂v, v one of them, is called so wherever it is met, and PASS. Where the gradient is wrong, a variable dv
    that is no ∂J/∂v has FAIL. The leaves have the verdicts of `verify.gradient`. The update is that of gradient descent
    with this learning rate.
    TypeError: code that JAX cannot trace. ValueError: a cost that is not finite there, or has too many steps.
    """
    return next(descend_gradient(cost, grad, *args, argnums=argnums, learning_rate=learning_rate))


def descend_gradient(
    cost: Callable, grad: Callable | None, *args: PyTree, argnums: int = 0, learning_rate: float = 0.1
) -> Iterator[Explanation]:
    """The `Explanation`s of one iteration of gradient descent after the other, while J is finite and computed by the
    same equations; see `explain_gradient`. Names and verdicts are those of the first."""
    rule: Callable = grad or jax.grad(cost, argnums)
    check_steps(cost, args)
    try:
        report = verify.gradient(cost, rule, *args, argnums=argnums, points="given")
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
        if grad:
            raise
        raise TypeError(f"{untraced(cost, error)} Give grad, or write {called(cost)} in jax.numpy.") from None
    problem = gradient_problem(cost, rule, *args, argnums=argnums, has_aux=False)
    comparison = comparison_of(problem)
    array = np.asarray if comparison.scalar_jaxpr is None else jnp.asarray
    arguments = problem.arguments
    passes = Passes(*traceable(problem, comparison, cost, rule))
    floats = [np.asarray(v, np.float64) for v in arguments.floats]
    functions = [cost, grad] if grad else [cost]
    tape, back = passes(floats)
    J = float(tape.values[tape.J])
    if not np.isfinite(J):
        raise ValueError(f"{called(cost)} is {J} at these arguments: it has no gradient to explain.")
    first = equations(tape, back)
    names = names_of(functions, passes, arguments, floats, (tape, back), array)
    verdicts = [leaf.verdict for leaf in report.leaves]
    while equations(tape, back) == first:
        forward = tuple(forward_lines(tape, names.forward))
        wrong = report.verdict == FAIL
        backward = tuple(backward_lines(tape, back, names, leaves=verdicts, others=PASS, has_faults=wrong))
        leaves = zip(tape.asked, back.results, strict=False)  # a rule may return J too
        update = tuple(updated(names.forward[v], tape.values[v], back.values[dv], learning_rate) for v, dv in leaves)
        yield Explanation(forward, backward, update, report, None)
        if not np.isfinite(tape.values[tape.J]):
            return
        for i, line in zip(arguments.differentiated, update, strict=True):
            floats[i] = line.value
        tape, back = passes(floats)


def check_steps(cost: Callable, args: tuple[PyTree, ...]) -> None:
    """ValueError: the cost is computed in more steps than anybody reads."""
    try:
        steps = len(jax.make_jaxpr(cost)(*args).eqns)
    except Exception:  # NumPy code, or what is refused later
        return
    if steps > MOST_STEPS:
        raise ValueError(
            f"{called(cost)} is computed in {steps:,} steps, more than the {MOST_STEPS:,} that are explained: "
            "give it fewer, or write its loop as jax.lax.scan."
        )


def traceable(problem: Problem, comparison: Comparison, cost: Callable, rule: Callable) -> tuple[Problem, Comparison]:
    """Both sides as equations, NumPy code by way of JAX. TypeError: code that JAX cannot trace."""
    if comparison.hand_jaxpr and comparison.scalar_jaxpr:
        return problem, comparison
    problem = in_jax(
        problem,
        has_numpy_rule=comparison.hand_jaxpr is None,
        has_numpy_cost=comparison.scalar_jaxpr is None,
        decides=False,
    )
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):  # as NumPy has it
        comparison = comparison_of(problem)
        if comparison.hand_jaxpr and comparison.scalar_jaxpr:
            return problem, comparison
        if comparison.scalar_jaxpr:
            raise TypeError(untraced(rule, error_of(problem.claim, problem.arguments), cost))
        raise TypeError(
            untraced(cost, error_of(lambda floats: [cost(*problem.arguments.build(floats))], problem.arguments))
        )


def names_of(
    functions: list[Callable],
    passes: Passes,
    arguments: Arguments,
    floats: Floats,
    here: tuple[Tape, Record],
    array: Callable,
) -> Names:
    """The `Names` that the variables of a cost, and of its gradient by hand, give to their values."""

    def look(floats: Floats) -> list[list[Variable]]:
        return [watched(f, arguments, floats, array, home(code_of(functions[0]).co_filename)) for f in functions]

    tape, back, (of_cost, *of_grad) = general_place(passes, floats, here, look)
    inputs = input_names(arguments, passes.free, [tape.values[v] for v in tape.inputs], [*chain(of_cost, *of_grad)])
    symbols = dict(zip(tape.inputs, inputs, strict=True))
    give_names(tape, symbols, [*marked(tape), *((v.name, v.value) for v in of_cost)])
    symbols[tape.J] = "J"
    return backward_names(tape, back, symbols, of_grad[0] if of_grad else [])


def watched(f: Callable, arguments: Arguments, floats: Floats, array: Callable, folder: PyTree) -> list[Variable]:
    """The `Variable`s of the code in this folder, while f runs."""
    watch = Watch(folder)
    with jax.enable_x64(True):
        args = arguments.build([array(v, np.float64) for v in floats])
    watch(f, args)
    return watch.in_order()


def error_of(f: Callable, arguments: Arguments) -> Exception | None:
    """What JAX says of a function that it cannot trace."""
    try:
        trace(f, arguments, IN_FLOAT64)
    except Exception as error:
        return error
    return None


def untraced(f: Callable, error: Exception | None, cost: Callable | None = None) -> str:
    """The line of the user's code at which tracing stops, in a sentence."""
    folder, sentence = home(code_of(cost or f).co_filename), f"JAX cannot trace {called(f)}"
    frames = traceback.extract_tb(error.__traceback__) if error else []
    lines = [frame for frame in frames if home(frame.filename) == folder]
    if error is None or not lines:
        return f"{sentence}: there are no equations to explain."
    reason = str(error).strip().splitlines()[0].rstrip(".")
    return f"{sentence}, line {lines[-1].lineno}: {lines[-1].line} ({reason}): there are no equations to explain."
