"""A cost as the list of its equations, each with its arrays; and the way back through them, on which any cotangent can
be changed, many times at once.

Loops are taken step by step and calls are entered: an equation is there as often as it was computed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic import primitives
from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.arithmetic.control_flow import CALLS
from jaxnn.verify.arithmetic.evaluation import Step, key_of
from jaxnn.verify.arithmetic.rules import EqnParams, Value
from jaxnn.verify.tracing.floats import Approximation, subscripts

ROWS = 64  # ways back at once

Swap = tuple[PyTree, PyTree]  # (an array, the array that stands in its place)
Replacement = tuple[Callable[[list], np.ndarray], Sequence[int]]  # (a function of a list of arrays, their numbers)
# substitute(tape, D, part): the array that goes back instead of `part`; D(v): the cotangent of value v so far
Substitute = Callable[["Tape", Callable[[int], np.ndarray], np.ndarray], np.ndarray]
Pulls = dict[tuple, tuple[ClosedJaxpr, JaxprEqn]]  # the derivatives of equations, as jaxprs
Substitutes = Mapping[tuple[int, int], Sequence[tuple[int, Substitute]]]  # {(step, input): [(row, substitute)]}


class Record(Approximation):
    """values: all arrays by number, in the order in which they were computed; ins, outs: the numbers of the inputs and
    the outputs of each of `steps`; inputs, consts, results: those of the arguments, the constants and the outputs.

    swap: an array that is replaced wherever it enters. unused: the equations that no output needs are there too."""

    def __init__(self, closed: ClosedJaxpr, inputs: Sequence[Value], swap: Swap | None = None, unused: bool = False):
        super().__init__()
        self.swap, self.unused, self.evaluations = swap, unused, 0  # evaluations: of steps, by `results_with`
        arguments, consts = [self.enter(v) for v in inputs], [self.enter(v) for v in closed.consts]
        with jax.enable_x64(True):
            results = self.run(closed.jaxpr, consts, arguments)
        self.values: list[np.ndarray] = []
        self.number: dict[int, int] = {}  # of a value, by its id
        self.steps = [step for step in self.steps if not {*map(id, step.inputs)} & {*map(id, step.outputs)}]
        self.inputs, self.consts = self.numbers_of(arguments), self.numbers_of(consts)
        self.ins: list[list[int]] = []
        self.outs: list[list[int]] = []
        for step in self.steps:
            self.ins.append(self.numbers_of(step.inputs))
            self.outs.append(self.numbers_of(step.outputs))
        self.results = self.numbers_of(results)

    def equations(self, jaxpr: Jaxpr) -> list[JaxprEqn]:
        """The equations of a jaxpr that are evaluated: those that the outputs need, or all."""
        return jaxpr.eqns if self.unused else super().equations(jaxpr)

    def numbers_of(self, values: Iterable[Value]) -> list[int]:
        """The numbers of these values; a new value gets the next one."""
        numbers = []
        for v in values:
            if id(v) not in self.number:
                self.number[id(v)] = len(self.values)
                self.values.append(v)
            numbers.append(self.number[id(v)])
        return numbers

    def enter(self, v: PyTree) -> Value:
        """A constant, or the array that stands in its place."""
        v = super().enter(v)
        if self.swap is None or np.shape(v) != np.shape(self.swap[0]) or not np.array_equal(v, self.swap[0]):
            return v
        return np.array(self.swap[1])

    def apply(self, eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
        """As an `Evaluation`, but stop_gradient is a step of its own, with an output of its own."""
        if eqn.primitive.name != "stop_gradient":
            return super().apply(eqn, inputs)
        self.steps.append(Step("stop_gradient", {}, inputs, [np.array(inputs[0])], self.place))
        return self.steps[-1].outputs

    def again(self, n: int, inputs: list[np.ndarray]) -> np.ndarray:
        """The first output of step n for other inputs."""
        return self.outputs_for(n, inputs)[0]

    def outputs_for(self, n: int, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """The outputs of step n for other inputs."""
        step = self.steps[n]
        if step.name == "loop entry":
            return [inputs[0][step.params["t"]]]
        if step.name == "loop stack":
            return [np.stack(inputs)]
        if step.name == "stop_gradient":
            return [inputs[0]]
        assert step.eqn is not None
        return self.compute(step.eqn, inputs, n)

    def results_with(self, replacements: Mapping[int, Replacement]) -> list[np.ndarray]:
        """The results if these steps compute something else, {step: (function, the numbers of its inputs)}."""
        new: dict[int, np.ndarray] = {}
        for n, own in enumerate(self.ins):
            f, ins = replacements.get(n, (None, own))
            if f or (self.outs[n] and not new.keys().isdisjoint(ins)):
                inputs = [new[v] if v in new else self.values[v] for v in ins]
                outputs = [f(inputs)] if f else self.outputs_for(n, inputs)
                new |= zip(self.outs[n], outputs, strict=True)
                self.evaluations += 1
        return [new[v] if v in new else self.values[v] for v in self.results]

    def label(self, v: int) -> str:
        """What a value is called, or where it is computed; "" for a constant."""
        names: dict[int, str] = {}
        for name, named in self.named_values.items():
            names |= {self.number[id(x)]: name for _, x in named if id(x) in self.number}
        if names.get(v):
            return names[v]
        steps = [step for step, outs in zip(self.steps, self.outs, strict=True) if v in outs]
        return f"the value at {steps[-1].place}" if steps else ""


class Tape(Record):
    """A cost J and the way back through it.

    asked: the numbers of the inputs that are differentiated; active: those of the values that depend on them; true:
    their cotangents, ∂J/∂v; others: tapes of the same cost with something swapped. pulls: the derivatives that were
    traced on the way, shared by the tapes of one cost. A linear solve is one step: its derivative is not that of its
    solver."""

    calls = {name: call for name, call in CALLS.items() if name != "custom_linear_solve"}  # noqa: RUF012

    def __init__(
        self,
        closed: ClosedJaxpr,
        inputs: Sequence[Value],
        asked: Iterable[int],
        pulls: Pulls,
        swap: Swap | None = None,
    ):
        super().__init__(closed, inputs, swap)
        self.pulls = pulls
        self.others: dict[int, Tape] = {}
        (self.J,) = self.results
        self.asked = [self.inputs[i] for i in asked]
        self.active = set(self.asked)
        for step, ins, outs in zip(self.steps, self.ins, self.outs, strict=True):
            if self.active.intersection(ins) and step.name != "stop_gradient":
                self.active |= {v for v in outs if is_float(self.values[v])}
        self.partials: dict[tuple[int, int], np.ndarray] = {}  # of elementwise steps, by (step, input)
        self.slopes: dict[int, PyTree] = {}  # what the diagnosis keeps of a value
        self.true = {v: D[0] for v, D in self.back({}).items()}

    def back(self, substitutes: Substitutes) -> dict[int, np.ndarray]:
        """{number: its cotangents, one above the other}: ROWS ways back through all equations, in each row with the
        substitutes of this row."""
        cotangents = {self.J: np.ones(ROWS)} if self.J in self.active else {}

        def in_row(row: int) -> Callable[[int], np.ndarray]:
            return lambda v: cotangents[v][row]

        for n in reversed(range(len(self.steps))):
            outs = self.outs[n]
            if not any(v in cotangents for v in outs):
                continue
            D = [cotangents[v] if v in cotangents else np.zeros((ROWS, *np.shape(self.values[v]))) for v in outs]
            for i, v in enumerate(self.ins[n]):
                if v not in self.active:
                    continue
                part = self.part(n, i, D)
                if (n, i) in substitutes:
                    part = np.array(part)
                    for row, substitute in substitutes[n, i]:
                        part[row] = substitute(self, in_row(row), part[row])
                cotangents[v] = cotangents[v] + part if v in cotangents else part
        return cotangents

    def part(self, n: int, i: int, D: list[np.ndarray], inputs: list[np.ndarray] | None = None) -> np.ndarray:
        """What goes back from step n to its input i if the rows of D are cotangents of its outputs.

        inputs: of the step; by default its own."""
        step = self.steps[n]
        xs = step.inputs if inputs is None else inputs
        shape = np.shape(xs[i])
        if step.name == "loop entry":
            out = np.zeros((len(D[0]), *shape))
            out[:, step.params["t"]] = D[0]
            return out
        if step.name == "loop stack":
            return D[0][:, i]
        if step.name == "custom_linear_solve" and is_of_solver(step.params, i):
            return np.zeros((len(D[0]), *shape))
        if step.name == "dot_general":
            x_axes, y_axes, out_axes = subscripts(step.params, *map(np.ndim, xs))
            mine, other = (x_axes, y_axes) if i == 0 else (y_axes, x_axes)
            return np.einsum(f"Z{out_axes},{other}->Z{mine}", D[0], xs[1 - i], optimize=True)
        if step.name in primitives.ELEMENTWISE:
            slope = self.own_partial(n, i) if inputs is None else self.partial(n, i, inputs)
            return unbroadcast(D[0] * slope, shape)
        return self.derivative(n, i, vjp_of, [*D, *xs])

    def own_partial(self, n: int, i: int) -> np.ndarray:
        """The derivative of an elementwise step with respect to input i, for its own inputs, computed once."""
        if (n, i) not in self.partials:
            self.partials[n, i] = self.partial(n, i, self.steps[n].inputs)
        return self.partials[n, i]

    def partial(self, n: int, i: int, xs: list[np.ndarray]) -> np.ndarray:
        """The derivative of an elementwise step with respect to input i, for the inputs xs."""
        return self.derivative(n, i, jvp_of, xs)

    def derivative(
        self, n: int, i: int, f: Callable[[JaxprEqn, int, Sequence], jax.Array], args: list[np.ndarray]
    ) -> np.ndarray:
        """f(the equation of step n, i, args), `jvp_of` or `vjp_of`: traced once for all equations that are alike."""
        eqn = self.steps[n].eqn
        assert eqn is not None
        key = f, i, eqn.primitive, key_of(eqn.params), tuple((np.shape(v), v.dtype) for v in args)
        if key not in self.pulls:
            # The equation is kept, so that ids of its parameters in the key stay theirs.
            self.pulls[key] = jax.make_jaxpr(lambda *args: f(eqn, i, args))(*args), eqn
        (out,) = Approximation()(self.pulls[key][0], list(args))
        return out


def is_of_solver(params: EqnParams, i: int) -> bool:
    """Whether input i of a linear solve says only how it is solved: neither the matrix, as A v, nor the right side."""
    lengths = params["const_lengths"]
    return lengths.matvec <= i < lengths.matvec + lengths.vecmat + lengths.solve + lengths.transpose_solve


def unbroadcast(v: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Rows of v summed over the axes along which an array of this shape was repeated."""
    v = v.reshape(len(v), -1).sum(1) if shape == () else v
    axes = tuple(k for k, (n, m) in enumerate(zip(v.shape[1:], shape, strict=True), 1) if n != m)
    return v.sum(axes, keepdims=True)


def bind(eqn: JaxprEqn, xs: Sequence) -> list[jax.Array]:
    """The outputs of an equation for the inputs xs."""
    out = eqn.primitive.bind(*xs, **eqn.primitive.get_bind_params(eqn.params))
    return list(out) if eqn.primitive.multiple_results else [out]


def jvp_of(eqn: JaxprEqn, i: int, xs: Sequence) -> jax.Array:
    """The derivative of an elementwise equation with respect to its input i, for the inputs xs."""
    return jax.jvp(lambda x: bind(eqn, [*xs[:i], x, *xs[i + 1 :]])[0], (xs[i],), (np.ones(xs[i].shape),))[1]


def in_kind_of(aval: PyTree, x: Array) -> Array:
    """x as whole numbers where these are asked for: an index that was divided is kept as a float."""
    return x.astype(aval.dtype) if jnp.issubdtype(aval.dtype, jnp.integer) else x


def vjp_of(eqn: JaxprEqn, i: int, args: Sequence) -> jax.Array:
    """What goes back to input i; args: rows of cotangents for every output, then the inputs."""
    n = len(eqn.outvars)
    D, xs = args[:n], [in_kind_of(v.aval, x) for v, x in zip(eqn.invars, args[n:], strict=True)]
    floats = [k for k, v in enumerate(eqn.outvars) if is_float(v.aval)]

    def outputs(x: jax.Array) -> list[jax.Array]:
        out = bind(eqn, [*xs[:i], x, *xs[i + 1 :]])
        return [out[k] for k in floats]

    return jax.vmap(lambda D: jax.vjp(outputs, xs[i])[1](D)[0])([D[k] for k in floats])
