"""A cost as the list of its equations, each with the arrays that it met; and the way back through them, on which any
cotangent can be changed, many times at once.

Loops are taken step by step and calls are entered: an equation is there as often as it was computed.
"""

import jax
import numpy as np

from jaxnn.verify.arithmetic import primitives
from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.arithmetic.evaluation import Step, frozen
from jaxnn.verify.tracing.floats import Approximation, subscripts

ROWS = 64  # ways back at once


class Record(Approximation):
    """values: all arrays by number, in the order in which they are met; ins, outs: the numbers of those of each of
    `steps`; inputs, consts, results: of others.

    swap: (an array, what stands in its place). unused: what is computed in vain is there too."""

    def __init__(self, closed, inputs, swap=None, unused=False):
        super().__init__()
        self.swap, self.unused, self.redone = swap, unused, 0
        inputs, consts = ([self.enter(v) for v in its] for its in (inputs, closed.consts))
        with jax.enable_x64(True):
            results = self.run(closed.jaxpr, consts, inputs)
        self.values: list = []
        self.number: dict[int, int] = {}
        self.steps = [step for step in self.steps if not {*map(id, step.inputs)} & {*map(id, step.outputs)}]
        self.inputs, self.consts = ([self.numbered(v) for v in its] for its in (inputs, consts))
        arrays = [[[*map(self.numbered, its)] for its in (step.inputs, step.outputs)] for step in self.steps]
        self.ins, self.outs = ([its[k] for its in arrays] for k in (0, 1))
        self.results = [self.numbered(v) for v in results]

    def equations(self, jaxpr):
        return jaxpr.eqns if self.unused else super().equations(jaxpr)

    def numbered(self, v):
        if id(v) not in self.number:
            self.number[id(v)] = len(self.values)
            self.values.append(v)
        return self.number[id(v)]

    def enter(self, v):
        v = super().enter(v)
        if self.swap is None or np.shape(v) != np.shape(self.swap[0]) or not np.array_equal(v, self.swap[0]):
            return v
        return np.array(self.swap[1])

    def apply(self, eqn, inputs):
        if eqn.primitive.name != "stop_gradient":
            return super().apply(eqn, inputs)
        self.steps.append(Step("stop_gradient", {}, inputs, [np.array(inputs[0])], self.place))
        return self.steps[-1].outputs

    def again(self, n, inputs):
        """What step n makes of other inputs."""
        step = self.steps[n]
        if step.name == "loop entry":
            return inputs[0][step.params["t"]]
        if step.name == "loop stack":
            return np.stack(inputs)
        if step.name == "stop_gradient":
            return inputs[0]
        return self.compute(step.eqn, inputs, n)[0]

    def changed(self, changes):
        """The results where some steps are others: {step: (a function of a list of arrays, their numbers)}."""
        new: dict = {}
        for n, ins in enumerate(self.ins):
            f, ins = changes.get(n, (None, ins))
            if f or (self.outs[n] and not new.keys().isdisjoint(ins)):
                inputs = [new[v] if v in new else self.values[v] for v in ins]
                outputs = [f(inputs)] if f else self.remade(n, inputs)
                new |= zip(self.outs[n], outputs, strict=True)
                self.redone += 1
        return [new[v] if v in new else self.values[v] for v in self.results]

    def remade(self, n, inputs):
        several = len(self.outs[n]) > 1
        return self.compute(self.steps[n].eqn, inputs, n) if several else [self.again(n, inputs)]

    def label(self, v):
        """What a value is called, or where it is made; "" for a constant."""
        names = {self.number[id(x)]: name for name, met in self.named.items() for _, x in met if id(x) in self.number}
        made = {v: n for n, outs in enumerate(self.outs) for v in outs}
        return names.get(v) or (f"the value at {self.steps[made[v]].place}" if v in made else "")


class Tape(Record):
    """active: the numbers of the values that depend on `asked`, the inputs that are differentiated; true: their
    cotangents, ∂J/∂v. pulls: what was traced on the way, shared by tapes of one cost."""

    def __init__(self, closed, inputs, asked, pulls, swap=None):
        super().__init__(closed, inputs, swap)
        self.pulls = pulls
        self.others: dict = {}  # tapes of the same cost with something swapped
        (self.J,) = self.results
        self.asked = [self.inputs[i] for i in asked]
        self.active = set(self.asked)
        for step, ins, outs in zip(self.steps, self.ins, self.outs, strict=True):
            if self.active.intersection(ins) and step.name != "stop_gradient":
                self.active |= {v for v in outs if is_float(self.values[v])}
        self.partials: dict = {}
        self.slopes: dict = {}
        self.true = {v: D[0] for v, D in self.back({}).items()}

    def back(self, changes):
        """{number: its cotangents, one above the other}: ROWS ways back through all equations.

        changes: {(step, input): [(row, change)]}, where change(self, D, part), D the cotangents of this row so far,
        gives what goes back to that input in the place of `part`."""
        cotangents = {self.J: np.ones(ROWS)} if self.J in self.active else {}
        for n in reversed(range(len(self.steps))):
            if not any(v in cotangents for v in self.outs[n]):
                continue
            D = [
                cotangents[v] if v in cotangents else np.zeros((ROWS, *np.shape(self.values[v]))) for v in self.outs[n]
            ]
            for i, v in enumerate(self.ins[n]):
                if v not in self.active:
                    continue
                part = self.part(n, i, D)
                if (n, i) in changes:
                    part = np.array(part)
                    for row, change in changes[n, i]:
                        part[row] = change(self, lambda v, row=row: cotangents[v][row], part[row])
                cotangents[v] = cotangents[v] + part if v in cotangents else part
        return cotangents

    def part(self, n, i, D, inputs=None):
        """What goes back from step n to its input i, for cotangents D of its outputs; with other inputs, if given."""
        step, changed = self.steps[n], inputs is not None
        xs = inputs if changed else step.inputs
        shape = np.shape(xs[i])
        if step.name == "loop entry":
            out = np.zeros((len(D[0]), *shape))
            out[:, step.params["t"]] = D[0]
            return out
        if step.name == "loop stack":
            return D[0][:, i]
        if step.name == "dot_general":
            x, y, out = subscripts(step.params, *map(np.ndim, xs))
            its, other = ((x, y), (y, x))[i]
            return np.einsum(f"Z{out},{other}->Z{its}", D[0], xs[1 - i], optimize=True)
        if step.name in primitives.ELEMENTWISE:
            if changed or (n, i) not in self.partials:
                slope = self.partial(n, i, xs)
                if not changed:
                    self.partials[n, i] = slope
            part = D[0] * (slope if changed else self.partials[n, i])
            return summed(part, shape)
        return self.traced(n, i, "pulled", pulled, [*D, *xs])

    def partial(self, n, i, xs):
        """The derivative of an elementwise step with respect to input i."""
        return self.traced(n, i, "pushed", pushed, xs)

    def traced(self, n, i, what, f, args):
        eqn = self.steps[n].eqn
        key = what, i, eqn.primitive, frozen(eqn.params), tuple((np.shape(v), v.dtype) for v in args)
        if key not in self.pulls:
            self.pulls[key] = jax.make_jaxpr(lambda *args: f(eqn, i, args))(*args), eqn
        (out,) = Approximation()(self.pulls[key][0], list(args))
        return out


def summed(v, shape):
    """v over the axes along which an array of this shape was repeated."""
    v = v.reshape(len(v), -1).sum(1) if shape == () else v
    axes = tuple(k for k, (n, m) in enumerate(zip(v.shape[1:], shape, strict=True), 1) if n != m)
    return v.sum(axes, keepdims=True)


def bind(eqn, xs):
    out = eqn.primitive.bind(*xs, **eqn.primitive.get_bind_params(eqn.params))
    return list(out) if eqn.primitive.multiple_results else [out]


def pushed(eqn, i, xs):
    """The derivative of an elementwise equation with respect to its input i."""
    return jax.jvp(lambda x: bind(eqn, [*xs[:i], x, *xs[i + 1 :]])[0], (xs[i],), (np.ones(xs[i].shape),))[1]


def pulled(eqn, i, args):
    """What goes back to input i for each of several cotangents."""
    n = len(eqn.outvars)
    D, xs = args[:n], args[n:]
    its = [k for k, v in enumerate(eqn.outvars) if is_float(v.aval)]
    f = lambda x: [bind(eqn, [*xs[:i], x, *xs[i + 1 :]])[k] for k in its]  # noqa: E731
    return jax.vmap(lambda D: jax.vjp(f, xs[i])[1](D)[0])([D[k] for k in its])
