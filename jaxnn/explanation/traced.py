"""Any other layer or loss: its formulas are the equations of its own code, its names those of its own variables."""

from contextlib import suppress

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp

from jaxnn.explanation.formulas import Formulas
from jaxnn.explanation.iteration import Values
from jaxnn.explanation.layer_variables import OUT, LayerWatch, Part, indexed, parts
from jaxnn.explanation.lines import Line
from jaxnn.explanation.names import Names, backward_names, give_names, marked, same, unused
from jaxnn.explanation.passes import Floats, Passes, Place, backward_lines, equations, forward_lines, general_place
from jaxnn.explanation.textbook import Parameter
from jaxnn.explanation.verdicts import Verdicts
from jaxnn.protocols import Layer, LossPair, Params, PyTree, Residuals
from jaxnn.verify.arguments import Problem, called, is_float_leaf
from jaxnn.verify.evidence.comparison import comparison_of
from jaxnn.verify.problems import gradient_problem, vjp_problem
from jaxnn.verify.tracing.tape import Record, Tape


class OtherEquations(Exception):
    """In this iteration the code computes by other equations than in the first, so that its names are unknown."""


class TracedLayer:
    """A layer with the names that its code gives to the values, for an input that is called x.

    k: the number of the layer before it, and then its own. taken: the symbols of the layers before it. out: the symbol
    of its output. TypeError: a layer that JAX cannot trace.
    """

    def __init__(self, layer: Layer, params: Params, x: Array, *, symbol: str, k: int, taken: set[str]) -> None:
        self.x = symbol
        self.parts = parts(layer, k)
        self.k = self.parts[-1].k

        def forward(params: Params, x: Array) -> tuple[Array, Residuals]:
            return layer.forward(params, x)

        def look(floats: Floats) -> tuple[LayerWatch, LayerWatch]:
            of_forward, of_backward = LayerWatch(self.parts), LayerWatch(self.parts)
            with suppress(Exception):  # code that insists on its own dtype: its equations then have fewer names
                params, x, dout = arguments_at(problem, floats)
                _, residuals = of_forward(layer.forward, (params, x))
                of_backward(layer.backward, (residuals, dout))
            return of_forward, of_backward

        problem = vjp_problem(forward, layer.backward, params, x, argnums=None)
        self.arguments = problem.arguments
        self.passes = traced_passes(problem, layer)
        dout = np.random.default_rng(0).normal(size=problem.arguments.floats[-1].shape)  # has no zeros
        floats = [*float_leaves(problem.arguments.floats[:-1]), dout]
        here = self.passes(floats)
        self.equations = equations(*here)
        self.names, self.out = self.named(general_place(self.passes, floats, here, look), x, taken)

    @property
    def symbols(self) -> set[str]:
        """Those that the values of both passes have."""
        return {*self.names.forward.values(), *self.names.backward.values()}

    @property
    def n_params(self) -> int:
        """How many of the float leaves are parameters; then come x, if it has floats, and dout."""
        return self.arguments.argument_of.count(0)

    def named(self, place: Place, x: Array, taken: set[str]) -> tuple[Names, str]:
        """(the `Names`, the symbol of the output)."""
        tape, back, (of_forward, of_backward) = place
        words = [*marked(tape), *of_forward.words()]
        *inputs, dout = tape.inputs
        symbols = dict.fromkeys(inputs[self.n_params :], self.x)
        used = {*taken}
        for path, v in zip(self.arguments.paths, inputs[: self.n_params], strict=False):  # then come x and dout
            last = path[max(path.rfind("."), path.rfind("[")) :].strip(".[]'")
            name = indexed(last, self.k) if last.isidentifier() else indexed("params", self.k) + path
            symbols[v] = unused(next((word for word, value in words if same(tape.values[v], value)), name), used)
            used.add(symbols[v])
        symbols[dout] = ""  # until the output has its symbol
        params = {symbols[v]: tape.values[v] for v in inputs[: self.n_params]}
        others = [(word, value) for word, value in words if word not in params or not repeats(value, params[word])]
        give_names(tape, symbols, others, taken)
        out = symbols.setdefault(output(tape), unused(indexed(OUT, self.k), {*used, *symbols.values()}))
        symbols[dout] = f"∂J/∂{out}"
        names = backward_names(tape, back, symbols, of_backward.in_order(), taken)
        if not is_float_leaf(x):
            self.name_indices(names, tape, back, np.asarray(x))
        return names, out

    def name_indices(self, names: Names, tape: Tape, back: Record, x: np.ndarray) -> None:
        """Whole numbers are no inputs of the equations: they are found in them by their values."""
        names.forward.update(dict.fromkeys(numbers_of_whole(tape, x), self.x))
        again = numbers_of_whole(back, x)
        names.backward.update(dict.fromkeys(again, self.x))
        names.again.update(again)

    def parameters(self, params: Params) -> list[Parameter]:
        leaves = [v for v in jax.tree.leaves(params) if is_float_leaf(v)]
        symbols = [self.names.forward[v] for v in range(self.n_params)]  # a record numbers its inputs first
        return [Parameter(symbol, np.asarray(v)) for symbol, v in zip(symbols, leaves, strict=True) if np.size(v)]

    def at(self, values: Values) -> tuple[Tape, Record]:
        """Both passes in this iteration. OtherEquations: what was traced is not what is computed now."""
        tape, back = self.passes(float_leaves((values.params, values.x, values.dout)))
        if equations(tape, back) != self.equations:
            raise OtherEquations
        return tape, back

    def forward(self, values: Values) -> list[Line]:
        tape, _ = self.at(values)
        hidden = {v for v, symbol in self.names.forward.items() if symbol == self.x} | {tape.inputs[-1]}
        return list(forward_lines(tape, self.names.forward, "the parameters", hidden))

    def backward(self, values: Values, verdicts: Verdicts) -> list[Line]:
        tape, back = self.at(values)
        leaves = [*verdicts.dparams, verdicts.dx]  # the last for x, which is not asked for if it is whole numbers
        others, faults = verdicts.dout, verdicts.has_faults
        return list(backward_lines(tape, back, self.names, leaves=leaves, others=others, has_faults=faults))


class TracedLoss:
    """A loss with the names that its code gives to the values, of an output that is called z."""

    def __init__(self, loss: LossPair, z: Array, y: PyTree, *, symbol: str, taken: set[str]) -> None:
        self.loss, self.z = loss, symbol

        def J(z: Array, y: PyTree) -> Array:
            return loss.forward(z, y)[0]

        def gradient(z: Array, y: PyTree) -> Array:
            return loss.backward(loss.forward(z, y)[1])

        def look(floats: Floats) -> tuple[LayerWatch, LayerWatch]:
            of_forward, of_backward = (LayerWatch([Part(loss, 0)]) for _ in range(2))
            with suppress(Exception):  # as for a layer
                z, y = arguments_at(problem, floats)
                _, residuals = of_forward(loss.forward, (z, y))
                of_backward(loss.backward, (residuals,))
            return of_forward, of_backward

        problem = gradient_problem(J, gradient, z, y, argnums=0, has_aux=False)
        self.passes = traced_passes(problem, loss)
        floats = float_leaves((z, y))
        here = self.passes(floats)
        self.equations = equations(*here)
        tape, back, (of_forward, of_backward) = general_place(self.passes, floats, here, look)
        symbols = dict(zip(tape.inputs, (symbol, "y"), strict=False)) | {tape.J: "J"}
        give_names(tape, symbols, [*marked(tape), *of_forward.words()], taken)
        self.names = backward_names(tape, back, symbols, of_backward.in_order(), taken)

    def at(self, z: Array, y: PyTree) -> tuple[Tape, Record]:
        tape, back = self.passes(float_leaves((z, y)))
        if equations(tape, back) != self.equations:
            raise OtherEquations
        return tape, back

    def forward(self, z: Array, y: PyTree) -> list[Line]:
        """ŷ, the values on the way to J, and J last."""
        tape, _ = self.at(z, y)
        lines = list(forward_lines(tape, self.names.forward, hidden=tape.inputs))
        J = next(line for line in lines if line.symbol == "J")
        return [*self.prediction(z), *(line for line in lines if line is not J), J]

    def prediction(self, z: Array) -> list[Line]:
        """ŷ, if the loss says what it is."""
        if not hasattr(self.loss, "predict"):
            return []
        with jax.enable_x64(True):
            record = Record(jax.make_jaxpr(self.loss.predict)(np.float64(z)), [np.float64(z)])
        (v,) = record.results
        symbols = {record.inputs[0]: self.z}
        formula = symbols[v] if v in symbols else Formulas(record, symbols).formula(v)
        return [Line("ŷ", formula, np.asarray(record.values[v]))]

    def backward(self, z: Array, y: PyTree, verdicts: Verdicts) -> list[Line]:
        tape, back = self.at(z, y)
        faults = verdicts.has_faults
        return list(
            backward_lines(tape, back, self.names, leaves=[verdicts.dx], others=verdicts.dout, has_faults=faults)
        )


def traced_passes(problem: Problem, rule: Layer | LossPair) -> Passes:
    """Both passes of a layer or a loss as equations of all its floats. TypeError: code that JAX cannot trace."""
    comparison = comparison_of(problem)
    floats = len(problem.arguments.floats)
    if not (comparison.hand_jaxpr and comparison.scalar_jaxpr) or len(list(comparison.free(problem))) < floats:
        raise TypeError(f"{called(rule)} cannot be explained: JAX cannot trace it for any x, so it has no equations.")
    return Passes(problem, comparison)


def arguments_at(problem: Problem, floats: Floats) -> tuple:
    """The arguments of a problem with these float leaves, in float64."""
    with jax.enable_x64(True):
        return problem.arguments.build([jnp.asarray(v, jnp.float64) for v in floats])


def float_leaves(tree: PyTree) -> list[np.ndarray]:
    return [np.asarray(v, np.float64) for v in jax.tree.leaves(tree) if is_float_leaf(v)]


def output(tape: Tape) -> int:
    """The number of a layer's output: J = Σ out ⊙ dout."""
    dout = tape.inputs[-1]
    (factors,) = (ins for step, ins in zip(tape.steps, tape.ins, strict=True) if step.name == "mul" and dout in ins)
    return next(v for v in factors if v != dout)


def repeats(value: np.ndarray, param: np.ndarray) -> bool:
    """Whether a value is a parameter along more axes, gamma = jnp.broadcast_to(gamma, x.shape): it is still gamma."""
    if np.shape(value)[np.ndim(value) - np.ndim(param) :] != np.shape(param):
        return False
    return same(np.broadcast_to(param, np.shape(value)), value)


def numbers_of_whole(record: Record, x: np.ndarray) -> list[int]:
    """The numbers of the arrays that have the entries of x, which are whole numbers."""
    arrays = [(v, np.asarray(value)) for v, value in enumerate(record.values) if np.size(value) == np.size(x)]
    return [v for v, array in arrays if array.dtype.kind in "iu" and np.array_equal(array.ravel(), x.ravel())]
