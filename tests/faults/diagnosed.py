"""Wrong gradients as students and researchers derive them, each with its true cause: a blind test of the diagnosis.

Written without knowledge of how `jaxnn.verify` finds causes. In JAX the intermediates are named by `checkpoint_name`,
forward (z1) and backward (dz1); plain NumPy code has no names, so that its `first_wrong` is None.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.nn import log_softmax, one_hot, softmax


class Fault(NamedTuple):
    cost: Callable  # (params, *data) -> scalar
    grad: Callable  # (params, *data) -> tree like params
    params: Any
    data: tuple
    kinds: set  # the causes that a good teacher would accept
    leaves: tuple  # the paths of the leaves whose gradient comes out wrong
    first_wrong: str | None  # the first wrong link in the order of the backward pass


def normal(seed, **shapes):
    """Named float32 NumPy arrays from N(0, 1)."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def ints(*values):
    return np.array(values, np.int32)


def computed(lines, named, v):
    """v, with each line's value under its name; a line sees the values of all above it."""
    for name, line in lines.items():
        value = line(v)
        setattr(v, name, checkpoint_name(value, name) if name in named else value)
    return v


def written(values, params, forward, J, backward, named=""):
    """A right gradient, whose lines are open to replacement: wrong(kinds, first wrong link, leaves, dz=its wrong line).

    `params` names the leaves among the values; the others are data. dW is the gradient of W. Where no wrong leaves are
    given they are the first wrong link, if it is a leaf, and all otherwise.
    """
    params, named = params.split(), named.split()
    data = tuple(name for name in values if name not in params)

    def entered(p, arrays):
        return SimpleNamespace(**p, **dict(zip(data, arrays, strict=True)))

    def cost(p, *arrays):
        return J(computed(forward, named, entered(p, arrays)))

    def wrong(kinds="", first=None, leaves=None, **changed):
        unknown = changed.keys() - forward.keys() - backward.keys()
        assert not unknown, unknown

        def grad(p, *arrays):
            v = computed(forward | backward | changed, named, entered(p, arrays))
            return {name: getattr(v, "d" + name) for name in params}

        def path(name):
            return f"['{name}']" if name in params else name

        if leaves is None:
            leaves = first if first in params else " ".join(params)
        paths = tuple(path(name) for name in leaves.split()) if kinds else ()
        its = {name: values[name] for name in params}, tuple(values[name] for name in data)
        return Fault(cost, grad, *its, set(kinds.split()), paths, path(first))

    return wrong


def sigmoid(z):
    """In NumPy as in JAX."""
    return 1 / (1 + (np if isinstance(z, np.ndarray) else jnp).exp(-z))


RATE = 0.1  # of the gradient descent that updates weights too early


# --- 1: two layers, tanh, half squared errors -------------------------------------------------------------------------


def regression():
    wrong = written(
        normal(0, W1=(5, 3), b1=5, W2=(2, 5), b2=2, x=(7, 3), y=(7, 2)),
        "W1 b1 W2 b2",
        forward={
            "m": lambda v: len(v.x),
            "z1": lambda v: v.x @ v.W1.T + v.b1[None],
            "a1": lambda v: jnp.tanh(v.z1),
            "z2": lambda v: v.a1 @ v.W2.T + v.b2[None],
        },
        J=lambda v: ((v.z2 - v.y) ** 2).sum() / (2 * v.m),
        backward={
            "dz2": lambda v: (v.z2 - v.y) / v.m,
            "dW2": lambda v: v.dz2.T @ v.a1,
            "db2": lambda v: v.dz2.sum(0),
            "dz1": lambda v: v.dz2 @ v.W2 * (1 - v.a1**2),
            "dW1": lambda v: v.dz1.T @ v.x,
            "db1": lambda v: v.dz1.sum(0),
        },
        named="z1 a1 z2 dz2 dz1",
    )

    def length(*arrays):
        return jnp.sqrt(sum((a**2).sum() for a in arrays))

    return wrong, {
        "the mean over the examples is forgotten": wrong("missing_mean", "dz2", dz2=lambda v: v.z2 - v.y),
        "dW1 is divided by m although dz2 is already": wrong("extra_mean", "W1", dW1=lambda v: v.dz1.T @ v.x / v.m),
        "the residual has the wrong sign": wrong("constant_factor", "dz2", dz2=lambda v: (v.y - v.z2) / v.m),
        "the half of the cost is overlooked": wrong("constant_factor", "dz2", dz2=lambda v: 2 * (v.z2 - v.y) / v.m),
        "the mean is taken over the outputs too": wrong(
            "constant_factor extra_mean", "dz2", dz2=lambda v: (v.z2 - v.y) / v.z2.size
        ),
        "tanh is not differentiated": wrong(
            "missing_activation_derivative", "dz1", "W1 b1", dz1=lambda v: v.dz2 @ v.W2
        ),
        "the linear output gets tanh' as well": wrong(
            "extra_activation_derivative", "dz2", dz2=lambda v: (v.z2 - v.y) * (1 - jnp.tanh(v.z2) ** 2) / v.m
        ),
        "tanh' is 1 - z**2": wrong(
            "derivative_at_activation", "dz1", "W1 b1", dz1=lambda v: v.dz2 @ v.W2 * (1 - v.z1**2)
        ),
        "tanh is applied once more to a1": wrong(
            "derivative_at_activation", "dz1", "W1 b1", dz1=lambda v: v.dz2 @ v.W2 * (1 - jnp.tanh(v.a1) ** 2)
        ),
        "tanh' is a(1 - a)": wrong(
            "derivative_of_other_function", "dz1", "W1 b1", dz1=lambda v: v.dz2 @ v.W2 * v.a1 * (1 - v.a1)
        ),
        "dW2 is reshaped where it had to be transposed": wrong(
            "transpose", "W2", dW2=lambda v: (v.a1.T @ v.dz2).reshape(v.W2.shape)
        ),
        "db1 is a mean": wrong("bias_averaged", "b1", db1=lambda v: v.dz1.mean(0)),
        "the loop for dW1 stops before the last example": wrong(
            "example_left_out", "W1", dW1=lambda v: sum(jnp.outer(v.dz1[i], v.x[i]) for i in range(v.m - 1))
        ),
        "dW2 is taken with z1 for a1": wrong("stale_residual", "W2", dW2=lambda v: v.dz2.T @ v.z1),
        "the loop for db1 starts at 1": wrong(
            "single_entry", "b1", db1=lambda v: jnp.stack([0.0 * v.b1[0], *(v.dz1[:, j].sum() for j in range(1, 5))])
        ),
        "dW1 is clipped to length 0.1": wrong(
            "unknown constant_factor", "W1", dW1=lambda v: (v.dz1.T @ v.x) * 0.1 / length(v.dz1.T @ v.x)
        ),
        "b1 is added to db1": wrong("unknown extra_penalty", "b1", db1=lambda v: v.dz1.sum(0) + v.b1),
    }


# --- 2: three layers, softmax cross-entropy, L2 -----------------------------------------------------------------------

LAMBDA, CLASSES = 0.3, 3

ACTIVATIONS = {
    "sigmoid": (jax.nn.sigmoid, lambda z, a: a * (1 - a)),
    "tanh": (jnp.tanh, lambda z, a: 1 - a**2),
    "relu": (jax.nn.relu, lambda z, a: (z > 0).astype(z.dtype)),
}


def classifier(activation, seed):
    """The hidden layers are as wide as each other, so that W2 is square."""
    f, df = ACTIVATIONS[activation]
    values = normal(seed, W1=(5, 4), b1=5, W2=(5, 5), b2=5, W3=(3, 5), b3=3, x=(7, 4))
    return written(
        values | {"y": ints(0, 2, 1, 1, 2, 0, 0)},
        "W1 b1 W2 b2 W3 b3",
        forward={
            "m": lambda v: len(v.x),
            "z1": lambda v: v.x @ v.W1.T + v.b1[None],
            "a1": lambda v: f(v.z1),
            "z2": lambda v: v.a1 @ v.W2.T + v.b2[None],
            "a2": lambda v: f(v.z2),
            "z3": lambda v: v.a2 @ v.W3.T + v.b3[None],
        },
        J=lambda v: (
            -(log_softmax(v.z3) * one_hot(v.y, CLASSES, dtype=v.z3.dtype)).sum() / v.m
            + 0.5 * LAMBDA / v.m * sum((W**2).sum() for W in (v.W1, v.W2, v.W3))
        ),
        backward={
            "l2": lambda v: LAMBDA / v.m,
            "Y": lambda v: one_hot(v.y, CLASSES, dtype=v.z3.dtype),
            "P": lambda v: softmax(v.z3),
            "dz3": lambda v: (v.P - v.Y) / v.m,
            "dW3": lambda v: v.dz3.T @ v.a2 + v.l2 * v.W3,
            "db3": lambda v: v.dz3.sum(0),
            "da2": lambda v: v.dz3 @ v.W3,
            "dz2": lambda v: v.da2 * df(v.z2, v.a2),
            "dW2": lambda v: v.dz2.T @ v.a1 + v.l2 * v.W2,
            "db2": lambda v: v.dz2.sum(0),
            "da1": lambda v: v.dz2 @ v.W2,
            "dz1": lambda v: v.da1 * df(v.z1, v.a1),
            "dW1": lambda v: v.dz1.T @ v.x + v.l2 * v.W1,
            "db1": lambda v: v.dz1.sum(0),
        },
        named="z1 a1 z2 a2 z3 dz3 da2 dz2 da1 dz1",
    )


def classifier_sigmoid():
    wrong = classifier("sigmoid", 1)

    def again(v):
        return sigmoid(v.a1) * (1 - sigmoid(v.a1))

    return wrong, {
        "W2 is transposed on the way down": wrong("transpose", "da1", "W1 b1", da1=lambda v: v.dz2 @ v.W2.T),
        "classes are counted from one": wrong(
            "shifted_labels", "dz3", Y=lambda v: one_hot(v.y - 1, CLASSES, dtype=v.z3.dtype)
        ),
        "layer 2 forgets its penalty": wrong("missing_penalty", "W2", dW2=lambda v: v.dz2.T @ v.a1),
        "the penalty is not divided by m": wrong("scaled_penalty", "W3", "W1 W2 W3", l2=lambda v: LAMBDA),
        "the biases are penalised too": wrong(
            "extra_penalty",
            "b3",
            "b1 b2 b3",
            db3=lambda v: v.dz3.sum(0) + v.l2 * v.b3,
            db2=lambda v: v.dz2.sum(0) + v.l2 * v.b2,
            db1=lambda v: v.dz1.sum(0) + v.l2 * v.b1,
        ),
        "sigmoid' is taken at a1": wrong("derivative_at_activation", "dz1", "W1 b1", dz1=lambda v: v.da1 * again(v)),
        "layer 1 is copied from layer 2 with its a2": wrong(
            "derivative_of_other_layer", "dz1", "W1 b1", dz1=lambda v: v.da1 * v.a2 * (1 - v.a2)
        ),
        "sigmoid' is in da2 and in dz2": wrong(
            "extra_activation_derivative", "da2", "W1 b1 W2 b2", da2=lambda v: v.dz3 @ v.W3 * v.a2 * (1 - v.a2)
        ),
        "cross-entropy gets P(1 - P) as squared errors do": wrong(
            "extra_activation_derivative", "dz3", dz3=lambda v: (v.P - v.Y) * v.P * (1 - v.P) / v.m
        ),
        "W3 is updated before the error passes through it": wrong(
            "updated_weights", "da2", "W1 b1 W2 b2", da2=lambda v: v.dz3 @ (v.W3 - RATE * v.dW3)
        ),
        "db1 and db2 are returned in each other's place": wrong(
            "other_leaf",
            "b2",
            "b1 b2",
            db2=lambda v: (v.dz2 @ v.W2 * v.a1 * (1 - v.a1)).sum(0),
            db1=lambda v: v.dz2.sum(0),
        ),
        "sigmoid' is 1 - a**2": wrong(
            "derivative_of_other_function", "dz2", "W1 b1 W2 b2", dz2=lambda v: v.da2 * (1 - v.a2**2)
        ),
    }


def classifier_tanh():
    wrong = classifier("tanh", 2)

    def by_batches(v):
        batches = (slice(0, 4), slice(3, 7))
        return sum(v.dz3[rows].T @ v.a2[rows] for rows in batches) + v.l2 * v.W3

    return wrong, {
        "dW2 is taken from da2": wrong(
            "missing_activation_derivative stale_residual", "W2", dW2=lambda v: v.da2.T @ v.a1 + v.l2 * v.W2
        ),
        "db2 is summed from da2": wrong(
            "missing_activation_derivative stale_residual", "b2", db2=lambda v: v.da2.sum(0)
        ),
        "dW2 is a1.T @ dz2": wrong("transpose swapped_operands", "W2", dW2=lambda v: v.a1.T @ v.dz2 + v.l2 * v.W2),
        "softmax runs over the examples": wrong("wrong_axis", "dz3", P=lambda v: softmax(v.z3, axis=0)),
        "the penalty keeps its half": wrong("scaled_penalty", "W3", "W1 W2 W3", l2=lambda v: 0.5 * LAMBDA / v.m),
        "batches of four overlap at one example": wrong("example_counted_twice", "W3", dW3=by_batches),
        "labels are those of the example before": wrong(
            "shifted_labels",
            "dz3",
            "W1 b1 W2 b2 W3",
            Y=lambda v: one_hot(jnp.roll(v.y, 1), CLASSES, dtype=v.z3.dtype),
        ),
        "the mean is taken over the classes": wrong(
            "missing_mean constant_factor", "dz3", dz3=lambda v: (v.P - v.Y) / v.P.shape[1]
        ),
        "the error passes through W2 after its update": wrong(
            "updated_weights", "da1", "W1 b1", da1=lambda v: v.dz2 @ (v.W2 - RATE * v.dW2)
        ),
        "the derivative of layer 2 is that of layer 1": wrong(
            "derivative_of_other_layer", "dz2", "W1 b1 W2 b2", dz2=lambda v: v.da2 * (1 - v.a1**2)
        ),
        "the penalty of W3 is subtracted": wrong("scaled_penalty", "W3", dW3=lambda v: v.dz3.T @ v.a2 - v.l2 * v.W3),
        "db1 is divided by m once more": wrong("bias_averaged extra_mean", "b1", db1=lambda v: v.dz1.sum(0) / v.m),
    }


def classifier_relu():
    wrong = classifier("relu", 23)
    return wrong, {
        "relu' of layer 2 looks at z1": wrong(
            "derivative_of_other_layer wrong_mask",
            "dz2",
            "W1 b1 W2 b2",
            dz2=lambda v: v.da2 * (v.z1 > 0).astype(v.z1.dtype),
        ),
        "relu' looks at the sign of da1": wrong(
            "wrong_mask", "dz1", "W1 b1", dz1=lambda v: jnp.where(v.da1 > 0, v.da1, 0)
        ),
        "relu lets through what is negative": wrong(
            "wrong_mask", "dz1", "W1 b1", dz1=lambda v: jnp.where(v.z1 > 0, 0, v.da1)
        ),
        "tanh' is left over from the net before": wrong(
            "derivative_of_other_function", "dz2", "W1 b1 W2 b2", dz2=lambda v: v.da2 * (1 - v.a2**2)
        ),
        "relu is not differentiated in layer 1": wrong(
            "missing_activation_derivative", "dz1", "W1 b1", dz1=lambda v: v.da1
        ),
        "dW3 is taken with z2 for a2": wrong("stale_residual", "W3", dW3=lambda v: v.dz3.T @ v.z2 + v.l2 * v.W3),
        "dW3 is taken with a1 for a2": wrong("stale_residual", "W3", dW3=lambda v: v.dz3.T @ v.a1 + v.l2 * v.W3),
        "no weight is decayed": wrong("missing_penalty", "W3", "W1 W2 W3", l2=lambda v: 0.0),
        "the first example is skipped as if a header": wrong(
            "example_left_out",
            "W1",
            "W1 b1",
            dW1=lambda v: v.dz1[1:].T @ v.x[1:] + v.l2 * v.W1,
            db1=lambda v: v.dz1[1:].sum(0),
        ),
        "1/m is in dz3 and in every weight": wrong(
            "extra_mean",
            "W3",
            "W1 W2 W3",
            dW3=lambda v: v.dz3.T @ v.a2 / v.m + v.l2 * v.W3,
            dW2=lambda v: v.dz2.T @ v.a1 / v.m + v.l2 * v.W2,
            dW1=lambda v: v.dz1.T @ v.x / v.m + v.l2 * v.W1,
        ),
        "W2 is penalised by W2 transposed": wrong("transpose", "W2", dW2=lambda v: v.dz2.T @ v.a1 + v.l2 * v.W2.T),
        "db3 is the last example's": wrong("bias_not_summed", "b3", db3=lambda v: v.dz3[-1]),
    }


# --- 3: a recurrent net -----------------------------------------------------------------------------------------------


def recurrent():
    """x is (m, time, n_in); the backward pass is a scan in reverse, `step` the lines of one step of it."""
    names = {"dout", "dh", "dz"}

    def unrolled(v):
        def step(h, x):
            z = checkpoint_name(h @ v.W.T + x @ v.U.T + v.b[None], "z")
            h = checkpoint_name(jnp.tanh(z), "h")
            return h, (h, checkpoint_name(h @ v.V.T + v.c[None], "out"))

        start = jnp.broadcast_to(v.h0[None], (v.m, len(v.h0)))
        _, (h, out) = lax.scan(step, start, jnp.swapaxes(v.x, 0, 1))
        return SimpleNamespace(h=h, out=out, before=jnp.concatenate([start[None], h[:-1]]))

    def through_time(v):
        def step(carried, now):
            s = computed(v.step, names, SimpleNamespace(**vars(v) | now, carried=carried))
            return s.down, {name: getattr(s, "d" + name) for name in "WUbVc"}

        over = {"x": jnp.swapaxes(v.x, 0, 1), "t": jnp.swapaxes(v.t, 0, 1)}
        over |= {"h": v.states.h, "before": v.states.before, "out": v.states.out, "last": np.arange(4) == 3}
        return lax.scan(step, jnp.zeros_like(v.states.h[0]), over, reverse=True)

    lines = {
        "dout": lambda v: (v.out - v.t) / v.m,
        "dV": lambda v: v.dout.T @ v.h,
        "dc": lambda v: v.dout.sum(0),
        "dh": lambda v: v.dout @ v.V + v.carried,
        "dz": lambda v: v.dh * (1 - v.h**2),
        "dW": lambda v: v.dz.T @ v.before,
        "dU": lambda v: v.dz.T @ v.x,
        "db": lambda v: v.dz.sum(0),
        "down": lambda v: v.dz @ v.W,  # to the step before
    }
    wrong = written(
        normal(4, W=(5, 5), U=(5, 3), b=5, V=(2, 5), c=2, h0=5, x=(6, 4, 3), t=(6, 4, 2)),
        "W U b V c h0",
        forward={"m": lambda v: len(v.x), "states": unrolled},
        J=lambda v: ((v.states.out - jnp.swapaxes(v.t, 0, 1)) ** 2).sum() / (2 * v.m),
        backward={
            "step": lambda v: lines,
            "scanned": through_time,
            "dW": lambda v: v.scanned[1]["W"].sum(0),
            "dU": lambda v: v.scanned[1]["U"].sum(0),
            "db": lambda v: v.scanned[1]["b"].sum(0),
            "dV": lambda v: v.scanned[1]["V"].sum(0),
            "dc": lambda v: v.scanned[1]["c"].sum(0),
            "dh0": lambda v: v.scanned[0].sum(0),
        },
    )

    def step(**changed):
        return lambda v: lines | changed

    return wrong, {
        "no error comes from the step after": wrong(
            "path_left_out", "dh", "W U b h0", step=step(dh=lambda v: v.dout @ v.V)
        ),
        "dW is taken with the state of the same step": wrong(
            "stale_residual", "W", step=step(dW=lambda v: v.dz.T @ v.h)
        ),
        "the error passes through W transposed": wrong(
            "transpose", "dh", "W U b h0", step=step(down=lambda v: v.dz @ v.W.T)
        ),
        "tanh' is taken at the state before": wrong(
            "derivative_of_other_layer stale_residual",
            "dz",
            "W U b h0",
            step=step(dz=lambda v: v.dh * (1 - v.before**2)),
        ),
        "db is overwritten at every step": wrong("bias_not_summed", "b", db=lambda v: v.scanned[1]["b"][0]),
        "dU is overwritten at every step": wrong("path_left_out", "U", dU=lambda v: v.scanned[1]["U"][0]),
        "the error of time is averaged as well": wrong(
            "extra_mean constant_factor", "dout", step=step(dout=lambda v: (v.out - v.t) / v.m / 4)
        ),
        "dh goes down in place of dz": wrong(
            "missing_activation_derivative", "dh", "W U b h0", step=step(down=lambda v: v.dh @ v.W)
        ),
        "targets are those of the next step": wrong(
            "shifted_labels",
            "dout",
            "W U b V h0",
            scanned=lambda v: through_time(SimpleNamespace(**vars(v) | {"t": jnp.roll(v.t, -1, axis=1)})),
        ),
        "1/m is missing in the output layer alone": wrong(
            "missing_mean",
            "V",
            "V c",
            step=step(dV=lambda v: (v.out - v.t).T @ v.h, dc=lambda v: (v.out - v.t).sum(0)),
        ),
        "the initial state gets the mean of its rows": wrong(
            "extra_mean bias_averaged", "h0", dh0=lambda v: v.scanned[0].mean(0)
        ),
        "tanh' is missing at every step": wrong(
            "missing_activation_derivative", "dz", "W U b h0", step=step(dz=lambda v: v.dh)
        ),
        "only the last output sends its error back": wrong(
            "path_left_out",
            "dh",
            "W U b h0",
            step=step(dh=lambda v: jnp.where(v.last, v.dout @ v.V, 0) + v.carried),
        ),
    }


# --- 4: layer norm and a linear layer ---------------------------------------------------------------------------------

EPSILON = 1e-3


def layer_norm():
    def mean(a):
        return a.mean(1, keepdims=True)

    wrong = written(
        normal(5, W=(5, 3), b=5, g=5, c=5, V=(2, 5), d=2, x=(6, 3), t=(6, 2)),
        "W b g c V d",
        forward={
            "m": lambda v: len(v.x),
            "z": lambda v: v.x @ v.W.T + v.b[None],
            "s": lambda v: jnp.sqrt(((v.z - mean(v.z)) ** 2).mean(1, keepdims=True) + EPSILON),
            "h": lambda v: (v.z - mean(v.z)) / v.s,
            "n": lambda v: v.g[None] * v.h + v.c[None],
            "out": lambda v: v.n @ v.V.T + v.d[None],
        },
        J=lambda v: ((v.out - v.t) ** 2).sum() / (2 * v.m),
        backward={
            "dout": lambda v: (v.out - v.t) / v.m,
            "dV": lambda v: v.dout.T @ v.n,
            "dd": lambda v: v.dout.sum(0),
            "dn": lambda v: v.dout @ v.V,
            "dg": lambda v: (v.dn * v.h).sum(0),
            "dc": lambda v: v.dn.sum(0),
            "dh": lambda v: v.dn * v.g[None],
            "dz": lambda v: (v.dh - mean(v.dh) - v.h * mean(v.dh * v.h)) / v.s,
            "dW": lambda v: v.dz.T @ v.x,
            "db": lambda v: v.dz.sum(0),
        },
        named="z h n out dout dn dh dz",
    )

    def over_examples(a):
        return a.mean(0, keepdims=True)

    def without_guard(v):
        s = jnp.std(v.z, axis=1, keepdims=True)
        return (v.dh - mean(v.dh) - v.h * mean(v.dh * v.h)) / s

    def sums(v):
        return v.dh.sum(1, keepdims=True), v.h * (v.dh * v.h).sum(1, keepdims=True)

    return wrong, {
        "the path through the mean is left out": wrong(
            "path_left_out", "dz", "W b", dz=lambda v: (v.dh - v.h * mean(v.dh * v.h)) / v.s
        ),
        "the path through the variance is left out": wrong(
            "path_left_out", "dz", "W b", dz=lambda v: (v.dh - mean(v.dh)) / v.s
        ),
        "mean and deviation are taken for constants": wrong("path_left_out", "dz", "W b", dz=lambda v: v.dh / v.s),
        "statistics run over the batch in the backward pass": wrong(
            "wrong_axis",
            "dz",
            "W b",
            dz=lambda v: (v.dh - over_examples(v.dh) - v.h * over_examples(v.dh * v.h)) / v.s,
        ),
        "epsilon is only in the forward pass": wrong("guard_ignored", "dz", "W b", dz=without_guard),
        "dg forgets its factor h and is dc": wrong("other_leaf", "g", dg=lambda v: v.dn.sum(0)),
        "dg is taken with z for h": wrong("stale_residual", "g", dg=lambda v: (v.dn * v.z).sum(0)),
        "the two means of dz are sums": wrong("missing_mean", "dz", "W b", dz=lambda v: (v.dh - sum(sums(v))) / v.s),
        "the gain is left out of dh": wrong("unknown path_left_out", "dh", "W b", dh=lambda v: v.dn),
        "dc is a mean": wrong("bias_averaged", "c", dc=lambda v: v.dn.mean(0)),
        "dV is taken before gain and shift": wrong("stale_residual", "V", dV=lambda v: v.dout.T @ v.h),
        "the deviation multiplies": wrong(
            "swapped_operands unknown", "dz", "W b", dz=lambda v: (v.dh - mean(v.dh) - v.h * mean(v.dh * v.h)) * v.s
        ),
    }


# --- 5: causal attention with one head --------------------------------------------------------------------------------


def attention():
    """x holds six tokens, a token a row; a token looks at those before it and itself."""
    scale = 3**-0.5
    causal = np.tril(np.ones((6, 6), bool))

    def weights(v, mask):
        return softmax(jnp.where(mask, v.q @ v.k.T * scale, -1e9))

    wrong = written(
        normal(6, Q=(3, 4), K=(3, 4), V=(5, 4), x=(6, 4), t=(6, 5)),
        "Q K V",
        forward={
            "q": lambda v: v.x @ v.Q.T,
            "k": lambda v: v.x @ v.K.T,
            "u": lambda v: v.x @ v.V.T,
            "A": lambda v: weights(v, causal),
            "out": lambda v: v.A @ v.u,
        },
        J=lambda v: ((v.out - v.t) ** 2).sum() / (2 * len(v.x)),
        backward={
            "dout": lambda v: (v.out - v.t) / len(v.x),
            "again": lambda v: v.A,  # the weights recomputed, as in flash attention
            "du": lambda v: v.again.T @ v.dout,
            "dV": lambda v: v.du.T @ v.x,
            "dA": lambda v: v.dout @ v.u.T,
            "dS": lambda v: v.again * (v.dA - (v.again * v.dA).sum(1, keepdims=True)),
            "dq": lambda v: v.dS @ v.k * scale,
            "dQ": lambda v: v.dq.T @ v.x,
            "dk": lambda v: v.dS.T @ v.q * scale,
            "dK": lambda v: v.dk.T @ v.x,
        },
        named="q k u A out dout du dA dq dk",
    )
    return wrong, {
        "the sum in softmax's Jacobian is left out": wrong("path_left_out", "dq", "Q K", dS=lambda v: v.A * v.dA),
        "softmax' is A(1 - A) as for a sigmoid": wrong(
            "path_left_out derivative_of_other_function", "dq", "Q K", dS=lambda v: v.A * (1 - v.A) * v.dA
        ),
        "softmax' sums over the queries": wrong(
            "wrong_axis", "dq", "Q K", dS=lambda v: v.A * (v.dA - (v.A * v.dA).sum(0, keepdims=True))
        ),
        "the scale of the scores is not differentiated": wrong(
            "constant_factor", "dq", "Q K", dq=lambda v: v.dS @ v.k, dk=lambda v: v.dS.T @ v.q
        ),
        "the scale is the dimension and not its root": wrong(
            "constant_factor", "dk", "K", dk=lambda v: v.dS.T @ v.q / 3
        ),
        "A is not transposed for the values": wrong("transpose", "du", "V", du=lambda v: v.A @ v.dout),
        "the scores are not transposed for the keys": wrong("transpose", "dk", "K", dk=lambda v: v.dS @ v.q * scale),
        "dA is u @ dout.T": wrong("transpose swapped_operands", "dA", "Q K", dA=lambda v: v.u @ v.dout.T),
        "dq is taken with the queries": wrong(
            "stale_residual swapped_operands", "dq", "Q", dq=lambda v: v.dS @ v.q * scale
        ),
        "dQ and dK are returned in each other's place": wrong(
            "other_leaf", "Q", "Q K", dQ=lambda v: (v.dS.T @ v.q * scale).T @ v.x, dK=lambda v: v.dq.T @ v.x
        ),
        "the weights are recomputed without their mask": wrong(
            "wrong_mask", "du", again=lambda v: weights(v, np.ones_like(causal))
        ),
        "the mask is transposed where weights are recomputed": wrong(
            "wrong_mask transpose", "du", again=lambda v: weights(v, causal.T)
        ),
        "the keys get no gradient": wrong("path_left_out", "dk", "K", dk=lambda v: 0 * v.k),
        "the softmax is passed by": wrong(
            "missing_activation_derivative", "dq", "Q K", dS=lambda v: jnp.where(causal, v.dA, 0)
        ),
    }


# --- 6: a residual block ----------------------------------------------------------------------------------------------


def residual_block():
    """h = tanh(x W0ᵀ + b0), r = h + W2 silu(W1 h + b1) + b2, and a linear layer."""
    wrong = written(
        normal(7, W0=(4, 3), b0=4, W1=(5, 4), b1=5, W2=(4, 5), b2=4, V=(2, 4), c=2, x=(7, 3), t=(7, 2)),
        "W0 b0 W1 b1 W2 b2 V c",
        forward={
            "m": lambda v: len(v.x),
            "z0": lambda v: v.x @ v.W0.T + v.b0[None],
            "h": lambda v: jnp.tanh(v.z0),
            "z1": lambda v: v.h @ v.W1.T + v.b1[None],
            "s1": lambda v: jax.nn.sigmoid(v.z1),
            "a1": lambda v: v.z1 * v.s1,
            "r": lambda v: v.h + v.a1 @ v.W2.T + v.b2[None],
            "out": lambda v: v.r @ v.V.T + v.c[None],
        },
        J=lambda v: ((v.out - v.t) ** 2).sum() / (2 * v.m),
        backward={
            "dout": lambda v: (v.out - v.t) / v.m,
            "dV": lambda v: v.dout.T @ v.r,
            "dc": lambda v: v.dout.sum(0),
            "dr": lambda v: v.dout @ v.V,
            "dW2": lambda v: v.dr.T @ v.a1,
            "db2": lambda v: v.dr.sum(0),
            "da1": lambda v: v.dr @ v.W2,
            "dz1": lambda v: v.da1 * (v.s1 + v.z1 * v.s1 * (1 - v.s1)),
            "dW1": lambda v: v.dz1.T @ v.h,
            "db1": lambda v: v.dz1.sum(0),
            "dh": lambda v: v.dr + v.dz1 @ v.W1,
            "dz0": lambda v: v.dh * (1 - v.h**2),
            "dW0": lambda v: v.dz0.T @ v.x,
            "db0": lambda v: v.dz0.sum(0),
        },
        named="z0 h z1 a1 r out dout dr da1 dz1 dh dz0",
    )
    below = "W0 b0 W1 b1"
    return wrong, {
        "the skip connection is left out": wrong("path_left_out", "dh", "W0 b0", dh=lambda v: v.dz1 @ v.W1),
        "the branch is left out": wrong("path_left_out", "dh", "W0 b0", dh=lambda v: v.dr),
        "the product rule of silu loses its second term": wrong(
            "path_left_out derivative_of_other_function", "dz1", below, dz1=lambda v: v.da1 * v.s1
        ),
        "silu is differentiated as a sigmoid": wrong(
            "derivative_of_other_function", "dz1", below, dz1=lambda v: v.da1 * v.s1 * (1 - v.s1)
        ),
        "silu' is taken at a1": wrong(
            "derivative_at_activation",
            "dz1",
            below,
            dz1=lambda v: v.da1 * (sigmoid(v.a1) + v.a1 * sigmoid(v.a1) * (1 - sigmoid(v.a1))),
        ),
        "tanh' of the skip is taken at the sum": wrong(
            "derivative_of_other_layer stale_residual", "dz0", "W0 b0", dz0=lambda v: v.dh * (1 - v.r**2)
        ),
        "W2 is updated before the branch goes back": wrong(
            "updated_weights", "da1", below, da1=lambda v: v.dr @ (v.W2 - RATE * v.dW2)
        ),
        "V is updated before anything goes back": wrong(
            "updated_weights", "dr", "W0 b0 W1 b1 W2 b2", dr=lambda v: v.dout @ (v.V - RATE * v.dV)
        ),
        "the branch goes back through W1 transposed for W2": wrong(
            "other_leaf transpose", "da1", below, da1=lambda v: v.dr @ v.W1.T
        ),
        "db1 is the first row": wrong("bias_not_summed", "b1", db1=lambda v: v.dz1[0]),
        "dV is taken with the branch alone": wrong(
            "path_left_out stale_residual", "V", dV=lambda v: v.dout.T @ (v.r - v.h)
        ),
        "dV sees the input of the block": wrong("stale_residual", "V", dV=lambda v: v.dout.T @ v.h),
        "the last example is padded twice": wrong(
            "example_counted_twice",
            "W2",
            "W2 b2",
            dW2=lambda v: v.dr.T @ v.a1 + jnp.outer(v.dr[-1], v.a1[-1]),
            db2=lambda v: v.dr.sum(0) + v.dr[-1],
        ),
        "db0 is summed from dh": wrong("missing_activation_derivative stale_residual", "b0", db0=lambda v: v.dh.sum(0)),
    }


# --- 7: lectures in NumPy, an example a column ------------------------------------------------------------------------


def planar():
    """The net of two layers that classifies points in the plane: tanh, sigmoid, binary cross-entropy."""
    wrong = written(
        normal(8, W1=(5, 4), b1=(5, 1), W2=(1, 5), b2=(1, 1), X=(4, 7))
        | {"Y": np.array([[1, 0, 0, 1, 1, 0, 1]], np.float32)},
        "W1 b1 W2 b2",
        forward={
            "m": lambda v: v.X.shape[1],
            "Z1": lambda v: np.dot(v.W1, v.X) + v.b1,
            "A1": lambda v: np.tanh(v.Z1),
            "Z2": lambda v: np.dot(v.W2, v.A1) + v.b2,
            "A2": lambda v: sigmoid(v.Z2),
        },
        J=lambda v: -np.sum(v.Y * np.log(v.A2) + (1 - v.Y) * np.log(1 - v.A2)) / v.m,
        backward={
            "dZ2": lambda v: v.A2 - v.Y,
            "dW2": lambda v: 1 / v.m * np.dot(v.dZ2, v.A1.T),
            "db2": lambda v: 1 / v.m * np.sum(v.dZ2, axis=1, keepdims=True),
            "dA1": lambda v: np.dot(v.W2.T, v.dZ2),
            "dZ1": lambda v: v.dA1 * (1 - v.A1**2),
            "dW1": lambda v: 1 / v.m * np.dot(v.dZ1, v.X.T),
            "db1": lambda v: 1 / v.m * np.sum(v.dZ1, axis=1, keepdims=True),
        },
    )

    def dA2(v):
        return -(v.Y / v.A2 - (1 - v.Y) / (1 - v.A2))

    return wrong, {
        "1/m is forgotten in dW1": wrong("missing_mean", leaves="W1", dW1=lambda v: np.dot(v.dZ1, v.X.T)),
        "db2 is summed and not averaged": wrong(
            "missing_mean", leaves="b2", db2=lambda v: np.sum(v.dZ2, axis=1, keepdims=True)
        ),
        "1/m is in dZ2 already": wrong("extra_mean", dZ2=lambda v: (v.A2 - v.Y) / v.m),
        "dZ2 is Y - A2": wrong("constant_factor", dZ2=lambda v: v.Y - v.A2),
        "the output is differentiated twice": wrong(
            "extra_activation_derivative", dZ2=lambda v: (v.A2 - v.Y) * v.A2 * (1 - v.A2)
        ),
        "dA2 is taken for dZ2": wrong("missing_activation_derivative", dZ2=dA2),
        "only the log of the right class is differentiated": wrong(
            "path_left_out", dZ2=lambda v: -(v.Y / v.A2) * v.A2 * (1 - v.A2)
        ),
        "W2 is updated before dZ1": wrong(
            "updated_weights", leaves="W1 b1", dA1=lambda v: np.dot((v.W2 - 1.2 * v.dW2).T, v.dZ2)
        ),
        "tanh' is 1 - Z1**2": wrong("derivative_at_activation", leaves="W1 b1", dZ1=lambda v: v.dA1 * (1 - v.Z1**2)),
        "tanh' is that of the sigmoid": wrong(
            "derivative_of_other_function", leaves="W1 b1", dZ1=lambda v: v.dA1 * sigmoid(v.Z1) * (1 - sigmoid(v.Z1))
        ),
        "np.sum has no axis": wrong(
            "wrong_axis", leaves="b1", db1=lambda v: 1 / v.m * np.sum(v.dZ1) * np.ones((5, 1), np.float32)
        ),
        "db1 is the first column": wrong("bias_not_summed", leaves="b1", db1=lambda v: 1 / v.m * v.dZ1[:, :1]),
        "the last column is cut off": wrong(
            "example_left_out", leaves="W2", dW2=lambda v: 1 / v.m * np.dot(v.dZ2[:, :-1], v.A1[:, :-1].T)
        ),
        "tanh' is the tanh": wrong("derivative_of_other_function", leaves="W1 b1", dZ1=lambda v: v.dA1 * v.A1),
        "dW1 is reshaped and not transposed": wrong(
            "transpose", leaves="W1", dW1=lambda v: 1 / v.m * np.dot(v.X, v.dZ1.T).reshape(5, 4)
        ),
    }


def regularised():
    """Three layers of relu, with dropout and L2."""
    keep = 0.8
    masks = {"D1": np.random.default_rng(90).uniform(size=(5, 7)) < keep}
    masks = {name: mask.astype(np.float32) for name, mask in masks.items()}
    wrong = written(
        normal(9, W1=(5, 4), b1=(5, 1), W2=(3, 5), b2=(3, 1), W3=(1, 3), b3=(1, 1), X=(4, 7))
        | {"Y": np.array([[0, 1, 0, 0, 1, 1, 0]], np.float32)}
        | masks,
        "W1 b1 W2 b2 W3 b3",
        forward={
            "m": lambda v: v.X.shape[1],
            "Z1": lambda v: np.dot(v.W1, v.X) + v.b1,
            "A1": lambda v: np.maximum(0, v.Z1) * v.D1 / keep,
            "Z2": lambda v: np.dot(v.W2, v.A1) + v.b2,
            "A2": lambda v: np.maximum(0, v.Z2),
            "Z3": lambda v: np.dot(v.W3, v.A2) + v.b3,
            "A3": lambda v: sigmoid(v.Z3),
        },
        J=lambda v: (
            -1 / v.m * np.sum(v.Y * np.log(v.A3) + (1 - v.Y) * np.log(1 - v.A3))
            + LAMBDA / (2 * v.m) * (np.sum(v.W1**2) + np.sum(v.W2**2) + np.sum(v.W3**2))
        ),
        backward={
            "l2": lambda v: LAMBDA / v.m,
            "dZ3": lambda v: v.A3 - v.Y,
            "dW3": lambda v: 1 / v.m * np.dot(v.dZ3, v.A2.T) + v.l2 * v.W3,
            "db3": lambda v: 1 / v.m * np.sum(v.dZ3, axis=1, keepdims=True),
            "dA2": lambda v: np.dot(v.W3.T, v.dZ3),
            "dZ2": lambda v: v.dA2 * (v.Z2 > 0),
            "dW2": lambda v: 1 / v.m * np.dot(v.dZ2, v.A1.T) + v.l2 * v.W2,
            "db2": lambda v: 1 / v.m * np.sum(v.dZ2, axis=1, keepdims=True),
            "dA1": lambda v: np.dot(v.W2.T, v.dZ2) * v.D1 / keep,
            "dZ1": lambda v: v.dA1 * (v.Z1 > 0),
            "dW1": lambda v: 1 / v.m * np.dot(v.dZ1, v.X.T) + v.l2 * v.W1,
            "db1": lambda v: 1 / v.m * np.sum(v.dZ1, axis=1, keepdims=True),
        },
    )
    return wrong, {
        "the backward pass forgets which units were dropped": wrong(
            "wrong_mask", leaves="W1 b1", dA1=lambda v: np.dot(v.W2.T, v.dZ2) / keep
        ),
        "keep_prob is not divided by": wrong(
            "constant_factor", leaves="W1 b1", dA1=lambda v: np.dot(v.W2.T, v.dZ2) * v.D1
        ),
        "relu' looks at dA2": wrong("wrong_mask", leaves="W1 b1 W2 b2", dZ2=lambda v: v.dA2 * (v.dA2 > 0)),
        "relu of layer 1 is not differentiated": wrong(
            "missing_activation_derivative", leaves="W1 b1", dZ1=lambda v: v.dA1
        ),
        "lambda is divided by 2m as in the cost": wrong(
            "scaled_penalty", leaves="W1 W2 W3", l2=lambda v: LAMBDA / (2 * v.m)
        ),
        "dW1 has no penalty": wrong("missing_penalty", leaves="W1", dW1=lambda v: 1 / v.m * np.dot(v.dZ1, v.X.T)),
        "b2 is penalised": wrong(
            "extra_penalty", leaves="b2", db2=lambda v: 1 / v.m * np.sum(v.dZ2, axis=1, keepdims=True) + v.l2 * v.b2
        ),
        "the incomplete batch of three is dropped": wrong(
            "example_left_out",
            leaves="W2",
            dW2=lambda v: 1 / v.m * np.dot(v.dZ2[:, :4], v.A1[:, :4].T) + v.l2 * v.W2,
        ),
        "dW2 is taken with the units before dropout": wrong(
            "stale_residual wrong_mask",
            leaves="W2",
            dW2=lambda v: 1 / v.m * np.dot(v.dZ2, np.maximum(0, v.Z1).T) + v.l2 * v.W2,
        ),
        "dW3 is taken with Z2": wrong(
            "stale_residual", leaves="W3", dW3=lambda v: 1 / v.m * np.dot(v.dZ3, v.Z2.T) + v.l2 * v.W3
        ),
        "1/m divides the penalty again": wrong(
            "scaled_penalty",
            leaves="W1 W2 W3",
            dW3=lambda v: 1 / v.m * (np.dot(v.dZ3, v.A2.T) + v.l2 * v.W3),
            dW2=lambda v: 1 / v.m * (np.dot(v.dZ2, v.A1.T) + v.l2 * v.W2),
            dW1=lambda v: 1 / v.m * (np.dot(v.dZ1, v.X.T) + v.l2 * v.W1),
        ),
    }


def logistic():
    """The lecture on logistic regression: theta[0] belongs to a column of ones, and is not penalised."""
    values = normal(10, theta=5, X=(7, 5))
    values["X"][:, 0] = 1
    values |= {"y": np.array([1, 0, 1, 1, 0, 0, 1], np.float32)}

    def tail(theta):
        return theta * np.array([0, 1, 1, 1, 1], np.float32)

    wrong = written(
        values,
        "theta",
        forward={"m": lambda v: len(v.y), "h": lambda v: sigmoid(np.dot(v.X, v.theta))},
        J=lambda v: (
            -np.sum(v.y * np.log(v.h) + (1 - v.y) * np.log(1 - v.h)) / v.m
            + LAMBDA / (2 * v.m) * np.sum(tail(v.theta) ** 2)
        ),
        backward={"dtheta": lambda v: (np.dot(v.X.T, v.h - v.y) + LAMBDA * tail(v.theta)) / v.m},
    )

    def one_by_one(v):
        theta, slopes = v.theta, []
        for j in range(5):
            slope = (np.dot(v.X[:, j], sigmoid(np.dot(v.X, theta)) - v.y) + LAMBDA * tail(theta)[j]) / v.m
            slopes.append(slope)
            theta = theta - RATE * slope * np.eye(5, dtype=np.float32)[j]
        return np.stack(slopes)

    return wrong, {
        "theta[0] is penalised too": wrong(
            "extra_penalty single_entry", dtheta=lambda v: (np.dot(v.X.T, v.h - v.y) + LAMBDA * v.theta) / v.m
        ),
        "the penalty has no slope": wrong("missing_penalty", dtheta=lambda v: np.dot(v.X.T, v.h - v.y) / v.m),
        "the penalty is divided by two": wrong(
            "scaled_penalty", dtheta=lambda v: (np.dot(v.X.T, v.h - v.y) + LAMBDA / 2 * tail(v.theta)) / v.m
        ),
        "theta is updated entry by entry": wrong("updated_weights", dtheta=one_by_one),
        "the hypothesis is linear": wrong(
            "stale_residual derivative_of_other_function",
            dtheta=lambda v: (np.dot(v.X.T, np.dot(v.X, v.theta) - v.y) + LAMBDA * tail(v.theta)) / v.m,
        ),
        "the errors are squared errors": wrong(
            "extra_activation_derivative",
            dtheta=lambda v: (np.dot(v.X.T, (v.h - v.y) * v.h * (1 - v.h)) + LAMBDA * tail(v.theta)) / v.m,
        ),
        "the answers are off by one row": wrong(
            "shifted_labels",
            dtheta=lambda v: (np.dot(v.X.T, v.h - np.roll(v.y, -1)) + LAMBDA * tail(v.theta)) / v.m,
        ),
        "the first row is read twice": wrong(
            "example_counted_twice",
            dtheta=lambda v: (np.dot(v.X.T, v.h - v.y) + v.X[0] * (v.h[0] - v.y[0]) + LAMBDA * tail(v.theta)) / v.m,
        ),
    }


# --- 8: shared weights, an embedding, a convolution, a gate, guards ---------------------------------------------------


def tied_autoencoder():
    wrong = written(
        normal(11, W=(5, 4), b=5, c=4, x=(6, 4)),
        "W b c",
        forward={
            "m": lambda v: len(v.x),
            "z": lambda v: v.x @ v.W.T + v.b[None],
            "a": lambda v: jax.nn.sigmoid(v.z),
            "r": lambda v: v.a @ v.W + v.c[None],
        },
        J=lambda v: ((v.r - v.x) ** 2).sum() / (2 * v.m),
        backward={
            "dr": lambda v: (v.r - v.x) / v.m,
            "dc": lambda v: v.dr.sum(0),
            "da": lambda v: v.dr @ v.W.T,
            "dz": lambda v: v.da * v.a * (1 - v.a),
            "dW": lambda v: v.dz.T @ v.x + v.a.T @ v.dr,
            "db": lambda v: v.dz.sum(0),
        },
        named="z a r dr da dz",
    )
    return wrong, {
        "the decoder's use of W is left out": wrong("path_left_out", "W", dW=lambda v: v.dz.T @ v.x),
        "the encoder's use of W is left out": wrong("path_left_out", "W", dW=lambda v: v.a.T @ v.dr),
        "the uses of W are averaged": wrong(
            "constant_factor extra_mean", "W", dW=lambda v: (v.dz.T @ v.x + v.a.T @ v.dr) / 2
        ),
        "the decoder's part is reshaped": wrong(
            "transpose", "W", dW=lambda v: v.dz.T @ v.x + (v.dr.T @ v.a).reshape(v.W.shape)
        ),
        "the code is taken before its sigmoid": wrong("stale_residual", "W", dW=lambda v: v.dz.T @ v.x + v.z.T @ v.dr),
        "the encoder is trained on the reconstruction": wrong(
            "stale_residual", "W", dW=lambda v: v.dz.T @ v.r + v.a.T @ v.dr
        ),
        "the sigmoid of the code is not differentiated": wrong(
            "missing_activation_derivative", "dz", "W b", dz=lambda v: v.da
        ),
        "sigmoid' is z(1 - z)": wrong("derivative_at_activation", "dz", "W b", dz=lambda v: v.da * v.z * (1 - v.z)),
        "the decoder is updated before the encoder": wrong(
            "updated_weights", "da", "W b", da=lambda v: v.dr @ (v.W - RATE * v.a.T @ v.dr).T
        ),
        "the reconstruction error has the wrong sign": wrong("constant_factor", "dr", dr=lambda v: (v.x - v.r) / v.m),
    }


def embedding():
    """A word a row, a linear softmax over the next class; words of padding have mask 0."""
    masked = {"mask": np.array([1, 1, 0, 1, 1, 1, 0], np.float32)}
    wrong = written(
        normal(12, E=(6, 4), W=(3, 4), c=3)
        | {"ids": ints(1, 3, 0, 3, 5, 2, 0), "y": ints(0, 2, 0, 1, 1, 2, 0)}
        | masked,
        "E W c",
        forward={
            "e": lambda v: jnp.asarray(v.E)[v.ids],
            "a": lambda v: jnp.tanh(v.e),
            "z": lambda v: v.a @ v.W.T + v.c[None],
        },
        J=lambda v: -(log_softmax(v.z) * one_hot(v.y, 3, dtype=v.z.dtype) * v.mask[:, None]).sum() / v.mask.sum(),
        backward={
            "error": lambda v: softmax(v.z) - one_hot(v.y, 3, dtype=v.z.dtype),
            "dz": lambda v: v.error * v.mask[:, None] / v.mask.sum(),
            "dW": lambda v: v.dz.T @ v.a,
            "dc": lambda v: v.dz.sum(0),
            "da": lambda v: v.dz @ v.W,
            "de": lambda v: v.da * (1 - v.a**2),
            "dE": lambda v: jnp.zeros_like(v.E).at[v.ids].add(v.de),
        },
        named="e a z dz da de",
    )

    def overwritten(v):
        dE = jnp.zeros_like(v.E)
        for i in range(len(v.ids)):
            dE = dE.at[v.ids[i]].set(v.de[i])
        return dE

    return wrong, {
        "a word seen again overwrites its row": wrong("path_left_out example_left_out", "E", dE=overwritten),
        "padding is not masked": wrong("wrong_mask", "dz", dz=lambda v: v.error / v.mask.sum()),
        "the mean is over the padding too": wrong(
            "wrong_mask constant_factor", "dz", dz=lambda v: v.error * v.mask[:, None] / len(v.mask)
        ),
        "the mask is that of the next word": wrong(
            "wrong_mask", "dz", dz=lambda v: v.error * jnp.roll(v.mask, -1)[:, None] / v.mask.sum()
        ),
        "the bias forgets the mask": wrong("wrong_mask", "c", dc=lambda v: v.error.sum(0) / v.mask.sum()),
        "rows are counted from one": wrong(
            "shifted_labels other_leaf", "E", dE=lambda v: jnp.zeros_like(v.E).at[v.ids - 1].add(v.de)
        ),
        "the labels are those of the word before": wrong(
            "shifted_labels",
            "dz",
            error=lambda v: softmax(v.z) - one_hot(jnp.roll(v.y, 1), 3, dtype=v.z.dtype),
        ),
        "W is updated before the rows": wrong("updated_weights", "da", "E", da=lambda v: v.dz @ (v.W - RATE * v.dW)),
        "dW is divided by the number of words once more": wrong(
            "extra_mean", "W", dW=lambda v: v.dz.T @ v.a / v.mask.sum()
        ),
        "the rows get da": wrong(
            "missing_activation_derivative stale_residual",
            "E",
            dE=lambda v: jnp.zeros_like(v.E).at[v.ids].add(v.da),
        ),
    }


def convolution():
    """Four kernels of width three over eight positions, softplus, the mean over the positions, a linear layer."""
    windows = np.arange(6)[:, None] + np.arange(3)[None]
    wrong = written(
        normal(13, k=(4, 3), b=4, V=(2, 4), x=(7, 8), t=(7, 2)),
        "k b V",
        forward={
            "m": lambda v: len(v.x),
            "X": lambda v: v.x[:, windows],  # (m, position, width)
            "z": lambda v: v.X @ v.k.T + v.b[None, None],
            "a": lambda v: jax.nn.softplus(v.z),
            "p": lambda v: v.a.mean(1),
            "out": lambda v: v.p @ v.V.T,
        },
        J=lambda v: ((v.out - v.t) ** 2).sum() / (2 * v.m),
        backward={
            "dout": lambda v: (v.out - v.t) / v.m,
            "dV": lambda v: v.dout.T @ v.p,
            "dp": lambda v: v.dout @ v.V,
            "da": lambda v: jnp.broadcast_to(v.dp[:, None] / v.a.shape[1], v.a.shape),
            "dz": lambda v: v.da * jax.nn.sigmoid(v.z),
            "dk": lambda v: jnp.einsum("mtc,mtw->cw", v.dz, v.X),
            "db": lambda v: v.dz.sum((0, 1)),
        },
        named="z a p out dout dp da dz",
    )
    return wrong, {
        "the pooled mean is passed back as a sum": wrong(
            "missing_mean constant_factor", "da", "k b", da=lambda v: jnp.broadcast_to(v.dp[:, None], v.a.shape)
        ),
        "db is that of the first position": wrong("bias_not_summed", "b", db=lambda v: v.dz[:, 0].sum(0)),
        "db is averaged over the positions": wrong("bias_averaged extra_mean", "b", db=lambda v: v.dz.mean(1).sum(0)),
        "dk is flipped": wrong("unknown wrong_axis", "k", dk=lambda v: jnp.einsum("mtc,mtw->cw", v.dz, v.X[..., ::-1])),
        "the last position is left out of dk": wrong(
            "path_left_out example_left_out", "k", dk=lambda v: jnp.einsum("mtc,mtw->cw", v.dz[:, :-1], v.X[:, :-1])
        ),
        "softplus' is a sigmoid of a": wrong(
            "derivative_at_activation", "dz", "k b", dz=lambda v: v.da * jax.nn.sigmoid(v.a)
        ),
        "softplus' is a sigmoid's derivative": wrong(
            "derivative_of_other_function", "dz", "k b", dz=lambda v: v.da * sigmoid(v.z) * (1 - sigmoid(v.z))
        ),
        "softplus' is relu's": wrong(
            "derivative_of_other_function", "dz", "k b", dz=lambda v: jnp.where(v.z > 0, v.da, 0)
        ),
        "one tap of one kernel stays frozen": wrong(
            "single_entry", "k", dk=lambda v: jnp.einsum("mtc,mtw->cw", v.dz, v.X).at[2, 1].set(0)
        ),
        "one sign of dV is mistyped": wrong("single_entry", "V", dV=lambda v: (v.dout.T @ v.p).at[1, 3].multiply(-1)),
        "dV is taken with the sum over the positions": wrong(
            "missing_mean constant_factor", "V", dV=lambda v: v.dout.T @ v.a.sum(1)
        ),
    }


def gate():
    """A gated linear unit: u ⊙ σ(g)."""
    wrong = written(
        normal(14, A=(5, 4), b=5, B=(5, 4), e=5, V=(3, 5), x=(6, 4)) | {"y": ints(2, 0, 1, 1, 0, 2)},
        "A b B e V",
        forward={
            "m": lambda v: len(v.x),
            "u": lambda v: v.x @ v.A.T + v.b[None],
            "g": lambda v: v.x @ v.B.T + v.e[None],
            "s": lambda v: jax.nn.sigmoid(v.g),
            "h": lambda v: v.u * v.s,
            "z": lambda v: v.h @ v.V.T,
        },
        J=lambda v: -jnp.take_along_axis(log_softmax(v.z), v.y[:, None], 1).sum() / v.m,
        backward={
            "dz": lambda v: (softmax(v.z) - one_hot(v.y, 3, dtype=v.z.dtype)) / v.m,
            "dV": lambda v: v.dz.T @ v.h,
            "dh": lambda v: v.dz @ v.V,
            "du": lambda v: v.dh * v.s,
            "dA": lambda v: v.du.T @ v.x,
            "db": lambda v: v.du.sum(0),
            "ds": lambda v: v.dh * v.u,
            "dg": lambda v: v.ds * v.s * (1 - v.s),
            "dB": lambda v: v.dg.T @ v.x,
            "de": lambda v: v.dg.sum(0),
        },
        named="u g s h z dz dh du ds dg",
    )
    return wrong, {
        "the factors of the product rule are exchanged": wrong(
            "swapped_operands stale_residual", "du", "A b B e", du=lambda v: v.dh * v.u, ds=lambda v: v.dh * v.s
        ),
        "u is differentiated as if it were the gate": wrong(
            "swapped_operands stale_residual", "du", "A b", du=lambda v: v.dh * v.u
        ),
        "u is scaled by the gate before its sigmoid": wrong("stale_residual", "du", "A b", du=lambda v: v.dh * v.g),
        "the gate gets no gradient": wrong("path_left_out", "ds", "B e", ds=lambda v: 0 * v.u),
        "the two branches are returned in each other's place": wrong(
            "other_leaf",
            "A",
            "A b B e",
            dA=lambda v: (v.dh * v.u * v.s * (1 - v.s)).T @ v.x,
            db=lambda v: (v.dh * v.u * v.s * (1 - v.s)).sum(0),
            dB=lambda v: v.du.T @ v.x,
            de=lambda v: v.du.sum(0),
        ),
        "the gate's sigmoid is not differentiated": wrong(
            "missing_activation_derivative", "dg", "B e", dg=lambda v: v.ds
        ),
        "the gate's sigmoid is differentiated twice": wrong(
            "extra_activation_derivative", "dg", "B e", dg=lambda v: v.ds * (v.s * (1 - v.s)) ** 2
        ),
        "the bias of u is returned for that of the gate": wrong("other_leaf", "e", de=lambda v: v.du.sum(0)),
        "u has a sigmoid' as well": wrong(
            "extra_activation_derivative", "du", "A b", du=lambda v: v.dh * v.s * (1 - v.s)
        ),
        "the sign is that of the likelihood": wrong(
            "constant_factor", "dz", dz=lambda v: (one_hot(v.y, 3, dtype=v.z.dtype) - softmax(v.z)) / v.m
        ),
    }


def guards():
    """Unit vectors z / √(Σ z² + ε), a neuron, and a cross-entropy with log(p + ε)."""
    guard = 1e-2
    wrong = written(
        normal(15, W=(5, 3), b=5, w=(1, 5), x=(6, 3)) | {"t": np.array([[1], [0], [0], [1], [1], [0]], np.float32)},
        "W b w",
        forward={
            "m": lambda v: len(v.x),
            "z": lambda v: v.x @ v.W.T + v.b[None],
            "r": lambda v: jnp.sqrt((v.z**2).sum(1, keepdims=True) + guard),
            "u": lambda v: v.z / v.r,
            "s": lambda v: v.u @ v.w.T,
            "p": lambda v: jax.nn.sigmoid(v.s),
        },
        J=lambda v: -(v.t * jnp.log(v.p + guard) + (1 - v.t) * jnp.log(1 - v.p + guard)).sum() / v.m,
        backward={
            "dp": lambda v: ((1 - v.t) / (1 - v.p + guard) - v.t / (v.p + guard)) / v.m,
            "ds": lambda v: v.dp * v.p * (1 - v.p),
            "dw": lambda v: v.ds.T @ v.u,
            "du": lambda v: v.ds @ v.w,
            "dz": lambda v: (v.du - v.u * (v.u * v.du).sum(1, keepdims=True)) / v.r,
            "dW": lambda v: v.dz.T @ v.x,
            "db": lambda v: v.dz.sum(0),
        },
        named="z u s p dp ds du dz",
    )

    def unguarded(v):
        r = jnp.sqrt((v.z**2).sum(1, keepdims=True))
        return (v.du - v.z / r * (v.z / r * v.du).sum(1, keepdims=True)) / r

    return wrong, {
        "the guards of the logarithms are ignored: p - t": wrong("guard_ignored", "ds", ds=lambda v: (v.p - v.t) / v.m),
        "the guard of one logarithm is ignored": wrong(
            "guard_ignored", "dp", dp=lambda v: ((1 - v.t) / (1 - v.p + guard) - v.t / v.p) / v.m
        ),
        "the guards are in no denominator": wrong(
            "guard_ignored", "dp", dp=lambda v: ((1 - v.t) / (1 - v.p) - v.t / v.p) / v.m
        ),
        "the guard of the length is ignored": wrong("guard_ignored", "dz", "W b", dz=unguarded),
        "the length is taken for a constant": wrong("path_left_out", "dz", "W b", dz=lambda v: v.du / v.r),
        "the projection sums over the examples": wrong(
            "wrong_axis", "dz", "W b", dz=lambda v: (v.du - v.u * (v.u * v.du).sum(0, keepdims=True)) / v.r
        ),
        "the projection is taken with z for u": wrong(
            "stale_residual", "dz", "W b", dz=lambda v: (v.du - v.z * (v.z * v.du).sum(1, keepdims=True)) / v.r
        ),
        "the neuron's sigmoid is not differentiated": wrong("missing_activation_derivative", "ds", ds=lambda v: v.dp),
        "the neuron's sigmoid is differentiated at p": wrong(
            "derivative_at_activation", "ds", ds=lambda v: v.dp * sigmoid(v.p) * (1 - sigmoid(v.p))
        ),
        "the division by the length is left out": wrong(
            "unknown path_left_out", "dz", "W b", dz=lambda v: v.du - v.u * (v.u * v.du).sum(1, keepdims=True)
        ),
        "dw is taken with the vector before it has length one": wrong("stale_residual", "w", dw=lambda v: v.ds.T @ v.z),
    }


ARCHITECTURES = {
    "tanh regression": regression(),
    "softmax classifier with sigmoid": classifier_sigmoid(),
    "softmax classifier with tanh": classifier_tanh(),
    "softmax classifier with relu": classifier_relu(),
    "recurrent net": recurrent(),
    "layer norm": layer_norm(),
    "attention": attention(),
    "residual block": residual_block(),
    "lecture in columns": planar(),
    "lecture on dropout and L2": regularised(),
    "lecture on logistic regression": logistic(),
    "tied autoencoder": tied_autoencoder(),
    "embedding": embedding(),
    "convolution": convolution(),
    "gated linear unit": gate(),
    "guarded neuron": guards(),
}

RIGHT = {name: wrong() for name, (wrong, _) in ARCHITECTURES.items()}
FAULTS = {f"{name}: {fault}": wrong for name, (_, faults) in ARCHITECTURES.items() for fault, wrong in faults.items()}
