"""The cost with knobs that turn its derivative and leave its value: what a known mistake makes of the gradient.

stop(v) + s (v − stop(v)) is v, with s times its derivative. Such a knob sits on every path, on every elementwise
function (for another slope), on every product (for another factor in its derivative) and on every sum over examples.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from jax.extend import source_info_util
from jax.extend.core import Literal

from jaxnn.verify import primitives
from jaxnn.verify.balls import is_float
from jaxnn.verify.exact import short

EXAMPLES = 24  # of up to so many each one has a knob
STEPS = 12  # of a loop that is taken step by step
OTHERS = 16  # factors that may have been taken for the right one
CALLS = {"jit", "closed_call", "eval_jaxpr", "remat2", "checkpoint"}
MOVES = {"reshape", "squeeze", "transpose", "broadcast_in_dim", "convert_element_type", "copy", "copy_p"}
KNOWN = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "relu": lambda z: jnp.maximum(z, 0.0),
    "leaky relu": lambda z: jnp.where(z > 0, z, 0.01 * z),
    "exp": jnp.exp,
    "softplus": lambda z: jnp.logaddexp(z, 0.0),
}


FORMULAS = {"tanh": lambda a: 1 - a**2, "sigmoid": lambda a: a * (1 - a), "relu": lambda a: jnp.where(a > 0, 1.0, 0.0)}


class Knob(NamedTuple):
    """kind: of the mistake that it makes, or "path": its derivative times 1 + amount.

    values: the amounts that mean something; none: any does. linear: the gradient is, in the amount."""

    kind: str
    what: str
    place: str
    values: tuple[float, ...] = (1.0,)
    linear: bool = True
    other: str = ""
    penalty: bool = False  # on a path that no data are on
    alone: bool = False  # in one leaf, where a knob for all of them may say the same


@dataclass(eq=False)
class Value:
    """An array of the forward pass, and what is known of it."""

    x: Any
    active: bool = False  # depends on what is differentiated
    data: bool = False  # depends on data
    name: str = ""
    root: Any = None  # the Value that it is an elementwise function of
    f: Callable | None = None  # that function
    slope: Any = None  # its derivative
    leaf: tuple | None = None  # (which argument, moves): it is an argument, moved
    place: str = ""
    cotangent: Any = None
    same: Any = field(default_factory=object)  # of all copies

    @property
    def label(self):
        return self.name or f"the value at {self.place}"


@dataclass
class Board:
    """The knobs in the order in which they are met. Without amounts it takes note of them; with, it turns them."""

    examples: int | None = None  # how many there are
    every: bool = True  # float data are inputs: a constant array of floats is a part of the formula
    gradient: Any = ()  # for those who update weights too early
    others: Any = ()  # values of another run: what may have been mistaken for the right one
    base: int = 0  # the number of the first of them
    per_step: dict = field(default_factory=dict)  # of them, by loop
    leaves: Any = ()  # what is differentiated
    offsets: Any = ()  # to be added to the values
    answers: dict = field(default_factory=dict)  # to the tests of another run
    amounts: Any = None
    knobs: list = field(default_factory=list)
    values: list = field(default_factory=list)
    tests: dict = field(default_factory=dict)
    keys: dict = field(default_factory=dict)  # the numbers of the knobs; those of one equation in a loop are the same
    guards: dict = field(default_factory=dict)
    extra: list = field(default_factory=list)  # zeros with a derivative, to be added to the cost
    met: int = 0
    equations: int = 0
    looping: bool = False
    shared: bool = False  # in a loop, whose knobs turn all steps
    place: str = ""

    def knob(self, kind, what, tag: Any = 0, **more):
        key = (self.equations, kind, tag) if self.shared else self.met
        n = self.keys.setdefault(key, self.met)
        if n == self.met:
            self.met += 1
            knob = Knob(kind, what, self.place, **more)
            self.knobs[n:] = [knob._replace(linear=knob.linear and not (self.looping or self.shared))]
        return 0.0 if self.amounts is None else self.amounts[n] if n < len(self.amounts) else 0.0

    def note(self, v):
        """A value that others may be mistaken for."""
        if not self.looping:  # what is in a loop of JAX's cannot be kept
            v.x = v.x + self.offsets[len(self.values)] if len(self.offsets) else v.x
            self.values.append(v)
        return v

    @property
    def next(self):
        """The value that is noted next, as it was in the other run."""
        n = len(self.values) - self.base
        return self.others[n] if n < len(self.others) else None

    def sure(self, what, test):
        """Whether a test of numbers held in another run; in a loop, where numbers vary, it is taken to."""
        if self.looping:
            return True
        self.tests[self.equations, what] = test()
        return self.answers.get((self.equations, what), True)


stop = jax.lax.stop_gradient


def bent(x, slope):
    return stop(x) + slope * (x - stop(x))


def run(board, jaxpr, consts, inputs):
    """The `Value`s that a jaxpr gives."""
    given = [Value(jnp.asarray(c), data=np.ndim(c) > 0 and not (board.every and is_float(c))) for c in consts]
    env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*given, *inputs], strict=True))

    def read(v):
        return Value(v.val) if isinstance(v, Literal) else env[v]

    for eqn in jaxpr.eqns:
        outer = board.place
        board.place = short(source_info_util.summarize(eqn.source_info)) or outer
        env.update(zip(eqn.outvars, equation(board, eqn, [read(v) for v in eqn.invars]), strict=True))
        board.place = outer
    return [read(v) for v in jaxpr.outvars]


def equation(board, eqn, inputs):
    name, params = eqn.primitive.name, eqn.params
    board.equations += 1
    if name == "name":
        return [replace(inputs[0], name=params["name"])]
    if name in CALLS:
        inner = params.get("jaxpr") or params["call_jaxpr"]
        jaxpr, consts = primitives.closed(inner)
        return run(board, jaxpr, consts, inputs)
    active = [v for v in inputs if v.active]
    if not active:
        return plain(board, eqn, inputs)
    if name == "scan":
        return scan(board, eqn, inputs)
    if name in MOVES:
        (out,) = plain(board, eqn, inputs)
        (v,) = inputs
        if v.leaf:
            number, moves = v.leaf
            out.leaf, out.name = (number, lambda w: bind(eqn, [moves(w)])[0]), v.name
        if name == "convert_element_type":
            out = replace(v, x=out.x, leaf=out.leaf)
        if name in ("reshape", "squeeze", "broadcast_in_dim"):
            out.name = v.name
        return [out]
    inputs = [on_path(board, eqn, v, inputs) for v in inputs]
    roots = {(v.root or v).same for v in inputs if v.active}
    if name == "dot_general" or (name == "mul" and (len(roots) > 1 or sum(v.active for v in inputs) < 2)):
        return [noted(board, product(board, eqn, *inputs))]
    if name == "add":
        for v in inputs:
            if v.leaf:
                leaf_alone(board, v, v.x, eqn.outvars[0].aval.shape)
    if name == "reduce_sum":
        inputs = [examples(board, inputs[0], params["axes"])]
    if name in ("add", "sub", "max", "min", "clamp"):
        inputs = [guard(board, v) for v in inputs]
    outs = plain(board, eqn, inputs)
    if name == "div":
        outs = [softmaxed(board, v) for v in outs]
    if len(outs) == 1 and elementwise(eqn) and jnp.issubdtype(outs[0].x.dtype, jnp.floating):
        outs = [sloped(board, eqn, inputs, outs[0])]
    return [noted(board, v) for v in outs]


def bind(eqn, xs):
    out = eqn.primitive.bind(*xs, **eqn.primitive.get_bind_params(eqn.params))
    return list(out) if eqn.primitive.multiple_results else [out]


def plain(board, eqn, inputs):
    """An equation as it is."""
    active, data = any(v.active for v in inputs), any(v.data for v in inputs)
    return [Value(x, active and jnp.issubdtype(x.dtype, jnp.floating), data) for x in bind(eqn, [v.x for v in inputs])]


def noted(board, v):
    """A value that starts anew: what it is called, and a derivative that does not belong there."""
    if not v.active or v.root is not None or jnp.ndim(v.x) == 0:
        return v
    v.place = board.place
    board.note(v)
    z = stop(v.x)
    extra = {
        "sigmoid": jax.nn.sigmoid(z) * jax.nn.sigmoid(-z),
        "tanh": 1 - jnp.tanh(z) ** 2,
        "relu": jnp.where(z > 0, 1.0, 0.0),
    }
    if jnp.ndim(z) > 1:
        P = jax.nn.softmax(z)
        extra["softmax"] = P * (1 - P)
    if jnp.ndim(z) == 2:
        t = board.knob("wrong_axis", f"the softmax of {v.label}", values=())
        board.extra.append(t * ((jax.nn.softmax(z, 0) - P) * (v.x - stop(v.x))).sum())
    for of, slope in extra.items():
        v.x = v.x + board.knob("extra_activation_derivative", f"a {of}, of {v.label},", of) * (slope - 1) * (
            v.x - stop(v.x)
        )
    return v


def on_path(board, eqn, v, inputs):
    if not v.active:
        return v
    in_loop = board.looping or board.shared
    penalty = not in_loop and not v.data and (not any(w.data for w in inputs) or jnp.ndim(v.x) == 0)
    values = (-1.0, 1.0, -2.0, -0.5) if in_loop else ()
    t = board.knob(
        "path", v.label if v.place or v.name else "the value", other=eqn.primitive.name, values=values, penalty=penalty
    )
    return replace(v, x=bent(v.x, 1 + t))


def product(board, eqn, a, b):
    """a·b, in whose derivatives other factors may be taken for a and b."""
    f = lambda a, b: bind(eqn, [a, b])[0]  # noqa: E731
    pull = jax.vjp(f, stop(a.x), stop(b.x))[1]
    wrong_a = mistaken(board, a, b, 0, lambda D: pull(D)[0])
    wrong_b = mistaken(board, b, a, 1, lambda D: pull(D)[1])
    x = f(stop(a.x), stop(b.x))
    if a.active:
        x = x + f(a.x, wrong_b) - f(stop(a.x), wrong_b)
    if b.active:
        x = x + f(wrong_a, b.x) - f(wrong_a, stop(b.x))
    for v, value in ((a, lambda a_: f(a_, stop(b.x))), (b, lambda b_: f(stop(a.x), b_))):
        if v.leaf:
            leaf_alone(board, v, value(v.x), jnp.shape(x))
        if v.active:
            transposed(board, eqn, v, value)
    out = Value(x, True, a.data or b.data)
    if eqn.primitive.name == "mul" and not (a.active and b.active):
        v = a if a.active else b
        if jnp.shape(v.x) == jnp.shape(x):
            out = follow(out, eqn, [a, b])
    return out


def transposed(board, eqn, v, value):
    """A product with a square operand, or a square result, in whose derivative it is transposed."""
    own = None if board.looping else board.next
    if eqn.primitive.name != "dot_general" or own is None or own.cotangent is None:
        return
    D = own.cotangent
    if D.ndim == 2 and D.shape[0] == D.shape[1]:
        t = board.knob("transpose", f"d({own.label}), where d({v.label}) is taken from it,")
        board.extra.append(t * ((D.T - D) * (value(v.x) - stop(value(v.x)))).sum())
    if jnp.ndim(v.x) == 2 and v.x.shape[0] == v.x.shape[1]:
        t = board.knob("transpose", f"the gradient of {v.label}, but for its penalty,")
        wrong = value(v.x.T) - value(v.x)
        board.extra.append(t * (D * (wrong - stop(wrong))).sum())


def leaf_alone(board, v, contribution, shape):
    """Another cotangent for a leaf alone: one that comes before it, or of another layer."""
    own = None if board.looping else board.next
    if own is None or own.cotangent is None or own.cotangent.shape != shape:
        return
    n = len(board.values) - board.base
    later = [w for w in board.others[n + 1 :] if w.slope is not None and w.cotangent.shape == shape]
    for w in board.others:
        if w.cotangent.shape == shape and w is not own:
            missing = later and w is later[0]
            kind = "missing_activation_derivative" if missing else "stale_residual"
            what = (
                f"{w.label}, in the gradient of {v.label} alone,"
                if missing
                else f"d({own.label}), in the gradient of {v.label} alone,"
            )
            t = board.knob(kind, what, other=f"d({w.label})", alone=True)
            board.extra.append(t * ((w.cotangent - own.cotangent) * (contribution - stop(contribution))).sum())


def softmaxed(board, out):
    """A softmax, with knobs for what its derivative is mistaken for."""
    root = next((v for v in reversed(board.values) if v.root is None and jnp.shape(v.x) == jnp.shape(out.x)), None)
    if root is None or jnp.ndim(out.x) < 2 or board.looping:
        return out
    z = stop(root.x)
    tests = {
        axis: board.sure(f"softmax {axis}", lambda axis=axis: jnp.allclose(out.x, jax.nn.softmax(z, axis), 1e-9, 1e-12))
        for axis in (-1, 0, -2)
        if z.shape[axis] > 1
    }
    for axis in [axis for axis, same in tests.items() if same][:1]:
        A = jax.nn.softmax(z, axis)
        step, right = root.x - stop(root.x), out.x - stop(out.x)
        what = f"the softmax of {root.label}"
        other = 0 if axis != 0 else -1
        wrong = {
            ("missing_activation_derivative", ""): step,
            ("derivative_of_other_function", "A(1 − A), the derivative of a sigmoid,"): A * (1 - A) * step,
            ("wrong_axis", what): A * (step - (A * step).sum(other, keepdims=True)),
            ("path_left_out", "its sum"): A * step,
        }
        for (kind, instead), value in wrong.items():
            t = board.knob(kind, what, instead, other=instead)
            out.x = out.x + t * (value - right)
    return out


def mistaken(board, b, partner, side, part=None):
    """What may stand in the place of b in the derivative with respect to its partner."""
    x = right = stop(b.x)
    if not partner.active or jnp.ndim(right) == 0:
        return x
    where = {"other": partner.label}
    if jnp.ndim(right) == 2 and right.shape[0] == right.shape[1]:
        x = x + board.knob("transpose", b.label, side, **where) * (right.T - right)
    if b.leaf and len(board.gradient):
        number, moves = b.leaf
        t = board.knob("updated_weights", b.name, side, values=(), **where)
        x = x + t * moves(board.gradient[number])
        own = None if board.looping else board.next
        if own is not None and own.cotangent is not None and part is not None:
            t = board.knob("updated_weights", b.name, (side, "part"), values=(), **where)
            x = x + t * part(own.cotangent)
    if not b.active:
        x = x + board.knob("wrong_mask", b.name or f"the factor at {board.place}", side, **where) * (1 - right)
    others = [
        (v, v.x)
        for v in (*board.leaves, *board.others)
        if v.x.shape == right.shape and (v.label != b.label or board.shared)
    ]
    if jnp.ndim(right) == 2 and not board.looping:
        others += [
            (v, v.x.T) for v in (*board.leaves, *board.others) if v.x.shape == right.shape[::-1] and v.label != b.label
        ]
    for n, (v, instead) in enumerate(others[:OTHERS] if b.active else ()):
        kind = "other_leaf" if v.leaf and b.leaf else "stale_residual"
        x = x + board.knob(kind, b.label, (side, n), other=v.label) * (stop(instead) - right)
    return x


def examples(board, v, axes):
    """A sum, of which one example may be left out."""
    for axis in axes:
        m = v.x.shape[axis]
        if m == board.examples and 1 < m <= EXAMPLES and not board.looping:
            ones = [board.knob("example", f"{i}") for i in range(m)]
            shape = [m if a == axis else 1 for a in range(v.x.ndim)]
            return replace(v, x=bent(v.x, 1 + jnp.stack([jnp.asarray(t, v.x.dtype) for t in ones]).reshape(shape)))
    return v


def guard(board, v):
    """A small number that keeps a logarithm or a root from infinity."""
    if v.active or v.data or jnp.ndim(v.x) or not jnp.issubdtype(jnp.result_type(v.x), jnp.floating):
        return v
    if isinstance(v.x, jax.core.Tracer) or not 0 < abs(float(v.x)) <= 1e-2:
        return v
    what = f"{float(v.x):g}"
    if what not in board.guards:
        board.guards[what] = board.knob("guard_ignored", what, values=(-1.0,), linear=False)
    return replace(
        v, x=v.x * (1 + board.guards[what] + board.knob("guard_ignored", what, values=(-1.0,), linear=False))
    )


def elementwise(eqn):
    if eqn.primitive.name == "custom_jvp_call":
        jaxpr, _ = primitives.closed(eqn.params["call_jaxpr"])
        shapes = {v.aval.shape for v in (*jaxpr.invars, *jaxpr.outvars)} - {()}
        return len(shapes) == 1 and all(map(elementwise, jaxpr.eqns))
    if eqn.primitive.name == "jit":
        return all(map(elementwise, primitives.closed(eqn.params["jaxpr"])[0].eqns))
    return eqn.primitive.name in primitives.ELEMENTWISE


def follow(out, eqn, inputs):
    """What is known of a value that is an elementwise function of one before it."""
    active = [v for v in inputs if v.active and jnp.shape(v.x) == jnp.shape(out.x)]
    roots = {(v.root or v).same: v.root or v for v in active}
    if len(roots) != 1 or len(active) != sum(v.active for v in inputs):
        return out
    (root,) = roots.values()

    def f(s):
        xs = [(v.f(s) if v.f else s) if v.active else v.x for v in inputs]
        return bind(eqn, xs)[0]

    z = stop(root.x)
    _, slope = jax.jvp(f, (z,), (jnp.ones_like(z),))
    return replace(out, root=root, f=f, slope=slope)


def sloped(board, eqn, inputs, out):
    """A value with knobs for other slopes, where it is a function of one before it that is not straight."""
    out = follow(out, eqn, inputs)
    if out.root is None or not board.sure("curved", lambda: jnp.ptp(out.slope) > 1e-9 * jnp.abs(out.slope).max()):
        return out
    root, right = out.root, stop(out.slope)
    z = stop(root.x)
    is_known = {
        name: board.sure(name, lambda g=g: jnp.allclose(out.x, g(z), 1e-9, 1e-12)) and not board.looping
        for name, g in KNOWN.items()
    }
    called = next((name for name, same in is_known.items() if same), "")
    if called and root.name and not out.name:
        out.name = f"{called}({root.name})"
    out.place = board.place
    what = f"{called or 'the function'} {f'of {root.name}' if root.name else f'at {board.place}'}"
    a, ones = stop(out.x), jnp.ones_like(z)
    slopes = {
        ("missing_activation_derivative", ""): ones,
        ("extra_activation_derivative", ""): right**2,
        ("derivative_at_activation", "at its output instead of its input"): jax.jvp(out.f, (a,), (ones,))[1],
    }
    if called in FORMULAS:
        slopes["derivative_at_activation", "by the formula for its output, but of its input"] = FORMULAS[called](z)
    for name, formula in FORMULAS.items():
        if name != called:
            slopes["derivative_of_other_function", f"the derivative of {name}"] = jax.jvp(KNOWN[name], (z,), (ones,))[1]
            slopes["derivative_of_other_function", f"the derivative of {name}, in terms of the output,"] = formula(a)
    slopes["derivative_of_other_function", "the output"] = a
    slopes["derivative_of_other_function", "the input"] = z
    for v in board.others:
        if v.slope is not None and v.x.shape == z.shape and (v.place != out.place or board.shared):
            slopes["derivative_of_other_layer", v.root.label] = v.slope
    own = board.next if called else None
    if called == "relu":
        slopes["wrong_mask", "of the other sign"] = 1 - right
        if own is not None and own.cotangent is not None:
            slopes["wrong_mask", "of the cotangent's sign"] = jnp.where(own.cotangent > 0, 1.0, 0.0)
    step = root.x - stop(root.x)
    for (kind, other), slope in slopes.items():
        slope = jnp.where(jnp.isfinite(slope), slope, 0)
        out.x = out.x + board.knob(kind, what, other, other=other) * (stop(slope) - right) * step
    return board.note(out) if called else out


def scan(board, eqn, inputs):
    """A loop: a knob in its body turns all steps."""
    params = eqn.params
    jaxpr, consts = primitives.closed(params["jaxpr"])
    fixed, carry, xs = primitives.scanned(params, inputs)
    if params["length"] <= STEPS:
        return unrolled(board, jaxpr, consts, fixed, carry, xs, params)
    data = any(v.data for v in inputs)
    met, equations, looping = board.met, board.equations, board.looping
    outs: list = []

    def body(carried, x):
        board.met, board.equations, board.looping = met, equations, True
        now = [
            Value(v, jnp.issubdtype(v.dtype, jnp.floating), data, was.name)
            for v, was in zip(carried, carry, strict=True)
        ]
        new = [replace(was, x=v, leaf=None) for v, was in zip(x, xs, strict=True)]
        outs[:] = run(board, jaxpr, consts, [*fixed, *now, *new])
        values = [jnp.asarray(v.x, a.aval.dtype) for v, a in zip(outs, jaxpr.outvars, strict=True)]
        return values[: len(carry)], values[len(carry) :]

    carried, ys = jax.lax.scan(
        body, [v.x for v in carry], [v.x for v in xs], length=params["length"], reverse=params["reverse"]
    )
    board.looping = looping
    return [
        Value(x, jnp.issubdtype(x.dtype, jnp.floating), data, v.name)
        for x, v in zip([*carried, *ys], outs, strict=True)
    ]


def unrolled(board, jaxpr, consts, fixed, carry, xs, params):
    """A short loop, step by step: a knob in its body turns all steps, and one on what enters it turns one alone."""
    loop, others, base = board.equations, board.others, board.base
    steps = range(params["length"])
    turns = {
        (t, k): board.knob("step", f"{t}", other=v.name, values=(1.0,))
        for t in steps
        for k, v in enumerate(fixed)
        if v.active and v.leaf
    }
    ys: dict = {}
    carry = [replace(v, leaf=None) for v in carry]
    for t in reversed(steps) if params["reverse"] else steps:
        board.equations, start = loop, len(board.values)
        n = board.per_step.get(loop, 0)
        board.others, board.base = others[start - base : start - base + n], start
        its = [replace(v, x=bent(v.x, 1 + turns[t, k])) if (t, k) in turns else v for k, v in enumerate(fixed)]
        entries = [replace(v, x=v.x[t], leaf=None, root=None) for v in xs]
        inside, board.shared = board.shared, True
        out = run(board, jaxpr, consts, [*its, *carry, *entries])
        for v in out[: len(carry)]:
            if v.active:
                turn = board.knob("path", v.name or "what is carried on", values=(-1.0,), other="the next step")
                v.x = bent(v.x, 1 + turn)
        board.shared = inside
        board.per_step[loop] = len(board.values) - start
        carry, ys[t] = out[: len(carry)], out[len(carry) :]
    board.others, board.base = others, base
    each = zip(*(ys[t] for t in steps), strict=True)
    stacked = [Value(jnp.stack([v.x for v in vs]), any(v.active for v in vs), any(v.data for v in vs)) for vs in each]
    return [*carry, *stacked]
