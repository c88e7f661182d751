"""Kernels as plain JAX functions: autodiff does not pull back through `pallas_call`, but does through all that it does.

The rules of arithmetic/kernels.py run on tracers. Whole numbers that are known while a function is traced stay NumPy's,
and decide blocks, branches and the lengths of loops; floats are JAX's.
"""

import functools
import math
from collections.abc import Callable, Sequence
from itertools import chain

import jax
import numpy as np
from jax import numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxprs_in_params

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic import primitives
from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.arithmetic.control_flow import CALLS
from jaxnn.verify.arithmetic.decisions import Ties, Unsupported
from jaxnn.verify.arithmetic.evaluation import needed_equations
from jaxnn.verify.arithmetic.kernels import KERNELS, Order
from jaxnn.verify.arithmetic.moves import rolled
from jaxnn.verify.arithmetic.refs import OUTSIDE, REFS, Memory, Origin, Why, check_entries, nothing, positions
from jaxnn.verify.arithmetic.rules import EqnParams, Value, open_jaxpr

ANYTHING = 0.5  # not nan, which the pullback of a masked entry would multiply by 0
INLINED = {"jit", "closed_call", "eval_jaxpr"}
DERIVED: dict[str, Callable[..., Value]] = {  # primitives without a derivative, as what has one
    "reciprocal": lambda params, x: 1 / x,
    "broadcast_to": lambda params, x: jnp.broadcast_to(x, params["shape"]),
    "roll": lambda params, x, shift: rolled(jnp, params, x, shift),
}


class TracedMemory(Memory):
    """A ref whose entries are one array in a list: NumPy's while they are known, else JAX's."""

    @classmethod
    def of(cls, value: Value, kernel: str, name: str) -> "TracedMemory":
        """A ref whose entries are those of an array."""
        end = np.full(1, anything(value.dtype), value.dtype)
        flat = (np if isinstance(value, np.ndarray) else jnp).concatenate([value.ravel(), end])
        return cls([flat], positions(value.shape), Origin(kernel, name, Why.BEYOND), [])

    @classmethod
    def new(cls, aval: PyTree, kernel: str, name: str) -> "TracedMemory":
        """A ref in which nothing is written."""
        check_entries(aval)
        entries = np.full(math.prod(aval.shape) + 1, anything(aval.dtype), aval.dtype)
        return cls([entries], positions(aval.shape), Origin(kernel, name, Why.UNWRITTEN), [])

    def read(self) -> Value:
        """A copy of the entries."""
        values = self.entries[0][np.maximum(self.at, OUTSIDE)]
        return np.asarray(values) if isinstance(values, np.generic) else values

    def write(self, value: Value) -> None:
        """Puts these values in the places of the entries."""
        self.update(value, np.put, "set")

    def add(self, value: Value) -> None:
        """Adds these values to the entries, each as often as its position is there."""
        self.update(value, np.add.at, "add")

    def update(self, value: Value, known: Callable, traced: str) -> None:
        """Changes the entries: by a function of NumPy if all are known, else by one of JAX's `.at[…]`."""
        inside, (entries,) = np.flatnonzero(self.at >= 0), self.entries
        places = self.at.ravel()[inside]
        if isinstance(entries, np.ndarray) and isinstance(value, np.ndarray):
            known(entries, places, np.broadcast_to(value, self.at.shape).ravel()[inside])
        else:
            values = jnp.broadcast_to(value, self.at.shape).ravel()[inside]
            self.entries[0] = getattr(jnp.asarray(entries).at[places], traced)(values)


def anything(dtype: np.dtype) -> PyTree:
    """What stands for an entry that nobody wrote. That nothing depends on it is seen in balls."""
    return ANYTHING if is_float(dtype) else nothing(dtype)


class Unrolling:
    """An evaluation of jaxprs on tracers, as far as rules of kernels and of control flow use one."""

    memory, order, ties, runs_on, deadline = TracedMemory, Order.FORWARDS, Ties(), 0, math.inf

    def __init__(self) -> None:
        self.program: list[tuple[int, int]] = []
        self.matrices: dict = {}
        self.floats: dict[int, tuple[Value, Value]] = {}  # that are known, by the ids of JAX's: (JAX's, what it is)

    def run(self, jaxpr: Jaxpr, consts: Sequence[Value], inputs: Sequence[Value]) -> list[Value]:
        """The outputs of a jaxpr, equation by equation."""
        env = dict(zip([*jaxpr.constvars, *jaxpr.invars], map(self.enter, [*consts, *inputs]), strict=True))

        def read(v: Var | Literal) -> Value:
            return np.asarray(v.val, getattr(v.aval, "dtype", None)) if isinstance(v, Literal) else env[v]

        for eqn in needed_equations(jaxpr):
            env.update(zip(eqn.outvars, self.apply(eqn, [read(v) for v in eqn.invars]), strict=True))
        return [read(v) for v in jaxpr.outvars]

    def apply(self, eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
        """The outputs of one equation: of a call that is opened, by its rule; of known numbers, known whole ones.

        A float that is known stays JAX's, or it would be rounded; what it is decides whole numbers alone."""
        name, params = eqn.primitive.name, eqn.params
        concrete = [self.concrete(v) for v in inputs]
        is_known = all(v is not None for v in concrete)
        is_whole = is_known and not any(is_float(v.aval) for v in eqn.outvars)
        if self.is_opened(name, params, inputs) and not (is_whole and name in INLINED):
            is_open = name == "cond" and not isinstance(inputs[0], np.ndarray)
            return self.branches(params, inputs) if is_open else CALLS[name](self, params, inputs)
        if is_whole:
            return self.known(eqn, concrete)
        outputs = DERIVED[name](params, *inputs) if name in DERIVED else bound(eqn, inputs)
        outputs = list(outputs) if eqn.primitive.multiple_results else [outputs]
        for i, value in enumerate(self.known(eqn, concrete) if is_known else ()):
            self.floats[id(outputs[i])] = outputs[i], value
            outputs[i] = outputs[i] if is_float(value) else value
        return outputs

    def known_nans(self, *values: Value) -> np.ndarray:
        """That no entry is known to be nan."""
        return np.array(False)

    def concrete(self, v: Value) -> Value | None:
        """What a value is, None if that is not known."""
        if isinstance(v, jax.core.Tracer):
            return self.floats.get(id(v), (v, None))[1]
        return v if isinstance(v, (np.ndarray, jax.Array)) else None

    def known(self, eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
        """The outputs of an equation of known inputs."""
        name = eqn.primitive.name
        if name in primitives.SAME_IN_NUMPY and not any(map(is_float, [*inputs, *(v.aval for v in eqn.outvars)])):
            with np.errstate(all="ignore"):
                outputs = primitives.RULES[name](self, eqn.params, 0, *inputs)
        else:
            with jax.ensure_compile_time_eval():
                outputs = bound(eqn, inputs)
        return list(map(self.enter, outputs if eqn.primitive.multiple_results else [outputs]))

    def is_opened(self, name: str, params: EqnParams, inputs: list[Value]) -> bool:
        """Whether a call is evaluated here, equation by equation, and not by JAX."""
        if name not in CALLS:
            return False
        if name in INLINED or name in KERNELS or name in REFS:
            return True
        inner = any(isinstance(v, Memory) for v in inputs) or any(map(has_kernel, jaxprs_in_params(params)))
        if name == "while":
            known = self.is_counted(params, inputs)
            if inner and not known:
                raise Unsupported("a kernel in which numbers decide when a loop ends")
            return known
        return inner or (name == "cond" and isinstance(inputs[0], np.ndarray))

    def branches(self, params: EqnParams, inputs: list[Value]) -> list[Value]:
        """The outputs of the branch that numbers choose; the memory is then what that branch makes of it."""
        index, *operands = inputs
        shared = list({id(v.entries): v.entries for v in operands if isinstance(v, Memory)}.values())

        def outputs_of(branch: ClosedJaxpr, memory: list[Value]) -> tuple[list[Value], list[Value]]:
            for entries, state in zip(shared, memory, strict=True):
                entries[0] = state
            jaxpr, consts = open_jaxpr(self, branch)
            outputs = self.run(jaxpr, consts, operands)
            return outputs, [entries[0] for entries in shared]

        branches = [functools.partial(outputs_of, branch) for branch in params["branches"]]
        outputs, memory = jax.lax.switch(index, branches, [jnp.asarray(entries[0]) for entries in shared])
        for entries, state in zip(shared, memory, strict=True):
            entries[0] = state
        return outputs

    def is_counted(self, params: EqnParams, inputs: list[Value]) -> bool:
        """Whether it is known when a loop ends."""
        c, b = params["cond_nconsts"], params["body_nconsts"]
        test, consts = open_jaxpr(self, params["cond_jaxpr"])
        (more,) = self.run(test, consts, [*inputs[:c], *inputs[c + b :]])
        return isinstance(more, np.ndarray)

    def enter(self, v: Value) -> Value:
        """A value as NumPy has it if it is known, and no float or key."""
        is_array = isinstance(v, (jax.Array, np.generic)) and not isinstance(v, jax.core.Tracer)
        is_number = is_array and not jax.dtypes.issubdtype(v.dtype, jax.dtypes.extended)
        return np.asarray(v) if is_number and not is_float(v) else v

    def entry(self, x: Value, t: int) -> Value:
        """x[t], one step of a loop."""
        return self.enter(x[t])

    def stack(self, values: list[Value]) -> Value:
        """The values that the steps of a loop gave, as one array."""
        known = all(isinstance(v, np.ndarray) for v in values)
        return np.stack(values) if known else jnp.stack(values)

    def choose(self, which: Value, no: Value, yes: Value) -> Value:
        """`yes` where `which` is true, else `no`."""
        return jnp.where(which, yes, no)

    def note_decision(self, v: Value) -> None:
        """Nothing is noted of a trace."""

    def note(self, name: str, inputs: list[Value], outputs: list[Value], **params: PyTree) -> None:
        """Nothing is noted of a trace."""

    def check_time(self, seconds: float, what: str) -> None:
        """A trace has no deadline."""


def bound(eqn: JaxprEqn, inputs: list[Value]) -> PyTree:
    """What JAX makes of an equation on other inputs."""
    return eqn.primitive.bind(*inputs, **eqn.primitive.get_bind_params(eqn.params))


def has(name: str, jaxpr: Jaxpr) -> bool:
    """Whether this primitive is in it, within calls and loops too."""
    here = any(eqn.primitive.name == name for eqn in jaxpr.eqns)
    inner = chain.from_iterable(jaxprs_in_params(eqn.params) for eqn in jaxpr.eqns)
    return here or any(has(name, v) for v in inner)


def has_kernel(jaxpr: Jaxpr) -> bool:
    """Whether `pallas_call` is in it."""
    return has("pallas_call", jaxpr)


def unrolled(closed: ClosedJaxpr) -> Callable[..., list[Value]]:
    """A closed jaxpr as a function of its inputs, in which no kernel is left; Unsupported if one depends on floats in
    its loops or branches."""
    return lambda *inputs: Unrolling().run(closed.jaxpr, closed.consts, inputs)
