"""A jaxpr evaluated in ball arithmetic: every float a `flint.arb`, a number with a proven error bound.

Integers, truth values and keys are as JAX computes them; a rule for each primitive on balls is in primitives.py.
"""

import functools
import math
import re
import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import flint
import jax
import numpy as np
from flint import arb_mat
from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from jax.typing import DTypeLike

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic import primitives
from jaxnn.verify.arithmetic.balls import Balls, enter, is_balls, is_float, wrap
from jaxnn.verify.arithmetic.choices import select
from jaxnn.verify.arithmetic.control_flow import CALLS, outputs_of, written_out
from jaxnn.verify.arithmetic.decisions import Logic, Ties, TooLarge, Unsupported, codes, logic
from jaxnn.verify.arithmetic.kernels import Order
from jaxnn.verify.arithmetic.moves import MOVES
from jaxnn.verify.arithmetic.refs import Memory, is_ref
from jaxnn.verify.arithmetic.rules import EqnParams, Value

PRECISIONS = (200, 400, 800, 1600, 3200, 6400, 12800)  # bits
TRANSPARENT = {  # they compute nothing
    *("copy", "copy_p", "name", "named", "stop_gradient", "optimization_barrier", "sharding_constraint"),
    *("reduce_precision", "device_put", "mesh_cast", "pvary", "reshard"),
    *("multiple_of", "max_contiguous"),
}
ENTRIES = 2e7  # about 2 GiB of balls
TICKS = 4096  # operations of NumPy code between two looks at the time


class Step(NamedTuple):
    """One equation as it was evaluated, and the place where the user wrote it."""

    name: str  # of its primitive
    params: EqnParams
    inputs: list
    outputs: list
    place: str
    eqn: JaxprEqn | None = None  # None for a step that no equation stands for: of a loop, or a decision


class Evaluation:
    """The evaluation of any number of jaxprs on the same inputs at one precision.

    What one of them has computed is not computed again for another: a hand-derived rule and autodiff share their
    forward pass, and a value is then one object in both, which keeps comparisons of a value with itself decided.

    precision: in bits; deadline: in seconds of `time.process_time`, so that a busy machine changes no verdict, beyond
    which an equation raises TooLarge; runs_on: for how many times as many steps iterations go on behind their end, see
    control_flow.py.
    """

    memory = Memory  # what a kernel's refs are
    calls = CALLS  # the primitives that are evaluated by evaluating what they call

    def __init__(
        self,
        precision: int = PRECISIONS[0],
        rounded: Collection[str] = (),
        ties: Ties | None = None,
        deadline: float = math.inf,
        order: Order = Order.FORWARDS,
        runs_on: int = 0,
    ):
        self.precision = precision
        self.runs_on = runs_on
        self.rounded = rounded  # which of "literals", "inputs" stand for the reals within half an ulp
        self.ties = ties or Ties()
        self.deadline = deadline
        self.order = order  # of the steps of a kernel's grid
        self.program: list[tuple[int, int]] = []  # of each axis of the grid: (which step, of how many)
        self.steps: list[Step] = []
        self.entries = 0  # how many were computed
        self.operations = 0  # of NumPy code
        self.place = ""  # of the call that is being evaluated
        self.literals: dict[tuple[bytes, str], Value] = {}  # by their bytes and dtype
        self.outputs: dict[tuple, list[Value]] = {}  # of an equation, by its primitive, inputs and parameters
        self.truths: dict[tuple[str, str], list[bool]] = {}  # of the decisions of NumPy code, by place and kind
        self.has_abs = False  # whether NumPy code took an absolute value, which is no decision in `truths`
        self.named_values: dict[str, list[tuple[int, Balls]]] = {}  # by `checkpoint_name`: [(step, value), …]
        self.pull: Callable[[str, Balls], Balls] = lambda name, dv: dv  # what goes on in the place of dv, in links.py
        self.nans: dict[int, np.ndarray] = {}  # which entries of a value are nan because the data are, by its id
        self.matrices: dict[tuple, arb_mat] = {}  # flint's matrix of an array, for products.py

    def tick(self) -> None:
        """Counts one operation on two numbers. TooLarge: it is too late for more."""
        self.operations += 1
        if self.operations % TICKS == 0:
            self.check_time(0, f"NumPy code of more than {self.operations:,} operations")

    def enter(self, v: PyTree) -> Value:
        """A constant. A float of rank 0 is a number that someone wrote down or computed: rounded like a literal."""
        if not is_float(v):
            return v if jax.dtypes.issubdtype(getattr(v, "dtype", None), jax.dtypes.prng_key) else np.asarray(v)
        if not np.ndim(v):
            return self.literal(v, getattr(v, "dtype", np.float64))
        return self.noted(enter(v, "inputs" in self.rounded))

    def noted(self, data: Balls) -> Balls:
        """Data, of which nan entries are known to be nan: whatever is made of them is too, and no comparison holds."""
        if not all(v.is_finite() for v in data.flat):
            self.nans[id(data)] = is_nan(data)
        return data

    def literal(self, v: PyTree, dtype: DTypeLike = np.float64) -> Value:
        """A number in a formula: the same one wherever it is written."""
        v = np.asarray(v, dtype)  # np.asarray alone would take every Python number for 64 bits
        key = (v.tobytes(), str(v.dtype))
        if key not in self.literals:
            self.literals[key] = enter(v, "literals" in self.rounded) if is_float(v) else v
        return self.literals[key]

    @property
    def unit(self) -> float:
        """How wide the widest rounded constant is, relative to itself; 0 if all are exact."""
        constants = [ball[()] for ball in self.literals.values() if is_balls(ball)]
        return max((float(2 * v.rad() / abs(v.mid())) for v in constants if not v.is_exact()), default=0.0)

    def __call__(self, closed: ClosedJaxpr, inputs: Sequence[Value]) -> list[Balls]:
        """The outputs of a closed jaxpr of floats, from inputs that `enter` has made."""
        with flint.ctx.workprec(self.precision), jax.enable_x64(True):
            return self.run(closed.jaxpr, [self.enter(c) for c in closed.consts], inputs)

    def run(self, jaxpr: Jaxpr, consts: Sequence[Value], inputs: Sequence[Value]) -> list[Value]:
        """The outputs of a jaxpr, equation by equation."""
        env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))

        def read(v: Var | Literal) -> Value:
            return self.literal(v.val, getattr(v.aval, "dtype", np.float64)) if isinstance(v, Literal) else env[v]

        for eqn in self.equations(jaxpr):
            outputs = self.apply(eqn, [read(v) for v in eqn.invars])
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def equations(self, jaxpr: Jaxpr) -> list[JaxprEqn]:
        """The equations of a jaxpr that are evaluated."""
        return needed_equations(jaxpr)

    def apply(self, eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
        """The outputs of one equation: of a call, by evaluating what it calls; of a known one, as they were."""
        name, params = eqn.primitive.name, eqn.params
        if name == "name":
            self.named_values.setdefault(params["name"], []).append((len(self.steps), *inputs))
        if name == "pull":
            return [self.pull(params["name"], *inputs)]
        if name in TRANSPARENT:
            return inputs
        if name == "debug_callback":
            return []
        place = short(source_info_util.summarize(eqn.source_info)) or self.place  # JAX's own code has its caller's
        inside = None if name in self.calls or name in primitives.RULES else written_out(eqn)
        if name in self.calls or inside:
            outer, self.place = self.place, place
            outputs = outputs_of(self, inside, inputs) if inside else self.calls[name](self, params, inputs)
            self.place = outer
            return outputs
        key = (eqn.primitive, tuple(map(id, inputs)), key_of(params))
        if key not in self.outputs:
            self.check_size(name, params, eqn.outvars, inputs)
            outputs = self.compute(eqn, inputs, len(self.steps))
            self.steps.append(Step(name, params, inputs, outputs, place, eqn))
            self.outputs[key] = outputs
            self.note_nans(inputs, outputs)
        return self.outputs[key]

    def note_nans(self, inputs: list[Value], outputs: list[Value]) -> None:
        """Notes which entries of the outputs are nan because those of the inputs are."""
        masks = [self.nans[id(v)] for v in inputs if id(v) in self.nans]
        for out in filter(is_balls, outputs if masks else ()):
            same_shape = all(mask.shape == out.shape for mask in masks)
            self.nans[id(out)] = is_nan(out) & (
                functools.reduce(np.logical_or, masks) if same_shape else np.array(True)
            )

    def known_nans(self, *values: Value) -> np.ndarray:
        """Which entries are nan in one of these values because the data are."""
        masks = [self.nans[id(v)] for v in values if id(v) in self.nans]
        return functools.reduce(np.logical_or, masks, np.array(False))

    def compute(self, eqn: JaxprEqn, inputs: list[Value], place: int) -> list[Value]:
        """The outputs of an equation that is no call: by JAX or NumPy if no input is a ball, else by a rule."""
        name, params = eqn.primitive.name, eqn.params
        known = not any(is_balls(v) or isinstance(v, Logic) for v in inputs)
        keys = any(isinstance(v, jax.Array) for v in inputs)
        if known and (keys or name not in primitives.SAME_IN_NUMPY):
            try:
                outputs = eqn.primitive.bind(*inputs, **params)
            except NotImplementedError as error:  # a primitive that another device has
                raise Unsupported(f"the primitive {name}") from error
            return list(map(self.enter, outputs if eqn.primitive.multiple_results else [outputs]))
        if name not in primitives.RULES:
            raise Unsupported(f"the primitive {name}")
        with np.errstate(all="ignore"):
            results = primitives.RULES[name](self, params, place, *inputs)
        outputs = results if eqn.primitive.multiple_results else [results]
        return [
            wrap(v) if is_float(var.aval) and not isinstance(v, Logic) else v
            for v, var in zip(outputs, eqn.outvars, strict=True)
        ]

    def entry(self, x: Value, t: int) -> Value:
        """x[t], one step of a loop."""
        out = logic(x.codes[t]) if isinstance(x, Logic) else x[t]
        out = wrap(out) if is_balls(x) else out
        self.note("loop entry", [x], [out], t=t)
        return out

    def stack(self, values: list[Value]) -> Value:
        """The values that the steps of a loop gave, as one array."""
        out: Value
        if any(isinstance(v, Logic) for v in values):
            out = logic(np.stack([codes(v) for v in values]))
        else:
            out = np.stack(values) if isinstance(values[0], np.ndarray) else jax.numpy.stack(values)
        self.note("loop stack", values, [out])
        return out

    def choose(self, which: Value, no: Value, yes: Value) -> Value:
        """`yes` where `which` is true, else `no`, in their common shape."""
        shape = np.broadcast_shapes(which.shape, no.shape, yes.shape)
        mask = logic(np.broadcast_to(codes(which), shape))
        out = wrap(select(mask, *(np.broadcast_to(v, shape) for v in (no, yes))))
        self.note("select_n", [which, no, yes], [out])
        return out

    def note_decision(self, v: Value) -> None:
        """Notes a value on which the flow of control depended."""
        self.note("control", [v], [])

    def note(self, name: str, inputs: list[Value], outputs: list[Value], **params: PyTree) -> None:
        """Notes a step that no equation stands for."""
        self.steps.append(Step(name, params, inputs, outputs, self.place))

    def check_size(self, name: str, params: EqnParams, outvars: Sequence[Var], inputs: list[Value]) -> None:
        """Raises TooLarge for an equation that would take more time or memory than there is."""
        size = sum(math.prod(v.aval.shape) for v in outvars if hasattr(v.aval, "shape"))
        seconds = size * 5e-7
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            seconds = size * (1e-6 + 1e-8 * math.prod(inputs[0].shape[i] for i in contracted))
        if any(map(is_balls, inputs)) and name not in MOVES:
            self.entries += size
        self.check_time(seconds, f"{name} of {size:,} entries")

    def check_time(self, seconds: float, what: str) -> None:
        """Raises TooLarge, for what would take these seconds, if there are none."""
        if time.process_time() + seconds > self.deadline or self.entries > ENTRIES:
            raise TooLarge(what)


def is_nan(balls: Balls) -> np.ndarray:
    """Which entries are nan."""
    return np.asarray(np.frompyfunc(lambda v: v.is_nan(), 1, 1)(balls), bool)


def short(place: str) -> str:
    """'/folder/file.py:12:5 (f)' without the folder."""
    return re.sub(r"^.*[/\\\\](?=[^/\\\\]+:\d+:\d+)", "", place)


@functools.lru_cache(4096)
def needed_equations(jaxpr: Jaxpr) -> list[JaxprEqn]:
    """The equations of a jaxpr that its outputs depend on, and those that have a part in its refs."""
    needed = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    eqns = []
    for eqn in reversed(jaxpr.eqns):
        if needed.intersection(eqn.outvars) or any(map(is_ref, eqn.invars)):
            needed.update(v for v in eqn.invars if not isinstance(v, Literal))
            eqns.append(eqn)
    return eqns[::-1]


def key_of(params: EqnParams) -> tuple:
    """The parameters of an equation as a key of a dict; a parameter that does not hash stands for itself alone."""
    return tuple((k, v if has_hash(v) else id(v)) for k, v in sorted(params.items()))


def has_hash(v: PyTree) -> bool:
    """Whether `hash` takes v, with all that is in it."""
    try:
        hash(v)
    except TypeError:
        return False
    return True
