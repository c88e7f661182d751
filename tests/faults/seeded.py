"""Wrong backward passes, as people write them, and right ones written differently: the verifier's controls, as data.

Hidden layers are as wide as the output, so that every transposed, swapped or neighbouring operand has the right shape.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jax.nn import logsumexp, softmax


class Case(NamedTuple):
    cost: Callable  # (params, *data) -> scalar
    grad: Callable  # (params, *data) -> tree like params
    params: Any
    data: tuple = ()


def float32(*arrays):
    return tuple(jnp.asarray(a, jnp.float32) for a in arrays)


def normal(seed, **shapes):
    """Named float32 arrays from N(0, 1)."""
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}


def ints(*values):
    return jnp.asarray(values, jnp.int32)


def by_lines(cost, params, data, lines, factor=1):
    """A family of cases whose backward pass is a table of lines, each open to replacement: family(dz=wrong line).

    A line sees everything named before it: the entries of params and data, and the values of the lines above; dW is the
    gradient of W.
    """

    def family(**changed):
        def grad(params, *values):
            v = SimpleNamespace(**params, **dict(zip(data, values, strict=True)), factor=factor)
            for name, line in (lines | changed).items():
                setattr(v, name, line(v))
            return {name: factor * getattr(v, "d" + name) for name in params}

        return Case(cost, grad, params, tuple(data.values()))

    return family


def cases(family, lines):
    return {name: family(**changed) for name, changed in lines.items()}


# --- Three layers, softmax cross-entropy, L2 --------------------------------------------------------------------------

LAMBDA, K = 0.1, 3

ACTIVATIONS = {
    "tanh": (jnp.tanh, lambda z, a: 1 - a**2),
    "sigmoid": (jax.nn.sigmoid, lambda z, a: a * (1 - a)),
    "relu": (jax.nn.relu, lambda z, a: (z > 0).astype(z.dtype)),
}

SCALES = {"unit": (1, 1), "loss x 1e-3": (1e-3, 1), "weights x 1e-2": (1, 1e-2)}  # (factor of the loss, of the weights)


def net_lines(activation):
    f, df = ACTIVATIONS[activation]
    return {
        "f": lambda v: f,
        "df": lambda v: df,
        "m": lambda v: len(v.x),
        "l2": lambda v: LAMBDA / v.m,
        "Y": lambda v: jax.nn.one_hot(v.y, K, dtype=v.x.dtype),
        "z1": lambda v: v.x @ v.W1.T + v.b1[None],
        "a1": lambda v: v.f(v.z1),
        "z2": lambda v: v.a1 @ v.W2.T + v.b2[None],
        "a2": lambda v: v.f(v.z2),
        "z3": lambda v: v.a2 @ v.W3.T + v.b3[None],
        "P": lambda v: softmax(v.z3),
        "dz3": lambda v: (v.P - v.Y) / v.m,
        "dW3": lambda v: v.dz3.T @ v.a2 + v.l2 * v.W3,
        "db3": lambda v: v.dz3.sum(0),
        "da2": lambda v: v.dz3 @ v.W3,
        "dz2": lambda v: v.da2 * v.df(v.z2, v.a2),
        "dW2": lambda v: v.dz2.T @ v.a1 + v.l2 * v.W2,
        "db2": lambda v: v.dz2.sum(0),
        "da1": lambda v: v.dz2 @ v.W2,
        "dz1": lambda v: v.da1 * v.df(v.z1, v.a1),
        "dW1": lambda v: v.dz1.T @ v.x + v.l2 * v.W1,
        "db1": lambda v: v.dz1.sum(0),
    }


def net(activation="tanh", factor=1, weights=1, m=5):
    f, _ = ACTIVATIONS[activation]

    def cost(params, x, y):
        a = x
        for i in (1, 2, 3):
            z = a @ params[f"W{i}"].T + params[f"b{i}"][None]
            a = f(z)
        cross_entropy = logsumexp(z, axis=1) - (z * jax.nn.one_hot(y, K, dtype=z.dtype)).sum(1)
        squares = sum((params[f"W{i}"] ** 2).sum() for i in (1, 2, 3))
        return factor * (cross_entropy.mean() + 0.5 * LAMBDA * squares / len(x))

    drawn = normal(3, W1=(3, 4), b1=3, W2=(3, 3), b2=3, W3=(3, 3), b3=3, x=(m, 4))
    x = drawn.pop("x")
    params = {name: jnp.float32(weights) * value for name, value in drawn.items()}
    return by_lines(cost, params, {"x": x, "y": ints(0, 2, 1, 1, 2)[:m]}, net_lines(activation), factor)


def softmax_vjp(P, dP):
    return P * (dP - (P * dP).sum(1, keepdims=True))


def swap(one, other):
    return lambda v: vars(v).update({one: getattr(v, other), other: getattr(v, one)})


FAULTS = {
    # the mean over the examples
    "1/m missing": {"dz3": lambda v: v.P - v.Y},
    "1/m twice": {"dz3": lambda v: (v.P - v.Y) / v.m**2},
    "1/m twice in one layer": {"dW1": lambda v: v.dz1.T @ v.x / v.m + v.l2 * v.W1},
    "1/(m K) for 1/m": {"dz3": lambda v: (v.P - v.Y) / v.P.size},
    "1/(m − 1) for 1/m": {"dz3": lambda v: (v.P - v.Y) / (v.m - 1)},
    "1/K for 1/m": {"dz3": lambda v: (v.P - v.Y) / K},
    "1/√m for 1/m": {"dz3": lambda v: (v.P - v.Y) / v.m**0.5},
    "1/m typed in as 0.199": {"dz3": lambda v: 0.199 * (v.P - v.Y)},
    # L2
    "L2 missing": {"l2": lambda v: 0},
    "L2 missing in layer 2": {"dW2": lambda v: v.dz2.T @ v.a1},
    "L2 without its factor 2": {"l2": lambda v: LAMBDA / v.m / 2},
    "L2 twice": {"l2": lambda v: 2 * LAMBDA / v.m},
    "L2 not divided by m": {"l2": lambda v: LAMBDA},
    "L2 divided by m twice": {"l2": lambda v: LAMBDA / v.m**2},
    "L2 with the wrong sign": {"l2": lambda v: -LAMBDA / v.m},
    "L2 on a bias too": {"db2": lambda v: v.dz2.sum(0) + v.l2 * v.b2},
    "L2 of the neighbouring layer": {"dW3": lambda v: v.dz3.T @ v.a2 + v.l2 * v.W2},
    "L2 of the transpose": {"dW2": lambda v: v.dz2.T @ v.a1 + v.l2 * v.W2.T},
    "L1 for L2": {"dW1": lambda v: v.dz1.T @ v.x + v.l2 * jnp.sign(v.W1)},
    "the norm of W for its square": {"dW3": lambda v: v.dz3.T @ v.a2 + v.l2 * v.W3 / jnp.linalg.norm(v.W3)},
    # softmax cross-entropy
    "sign": {"dz3": lambda v: (v.Y - v.P) / v.m},
    "factor 2": {"dz3": lambda v: 2 * (v.P - v.Y) / v.m},
    "times P(1 − P)": {"dz3": lambda v: (v.P - v.Y) * v.P * (1 - v.P) / v.m},
    "softmax's Jacobian diagonal only": {"dz3": lambda v: -v.Y * (1 - v.P) / v.m},
    "softmax's Jacobian forgotten": {"dz3": lambda v: -v.Y / v.P / v.m},
    "squared error for cross-entropy": {"dz3": lambda v: softmax_vjp(v.P, v.P - v.Y) / v.m},
    "sigmoid for softmax": {"P": lambda v: jax.nn.sigmoid(v.z3)},
    "softmax over the examples": {"P": lambda v: softmax(v.z3, axis=0)},
    "softmax of a temperature": {"P": lambda v: softmax(v.z3 / 2)},
    "logits for probabilities": {"P": lambda v: v.z3},
    "gradient of the sum of the logits": {"dz3": lambda v: jnp.ones_like(v.P) / v.m},
    "the normaliser's gradient stopped": {
        "dz3": lambda v: jax.grad(
            lambda z: (v.Y * (lax.stop_gradient(logsumexp(z, 1, keepdims=True)) - z)).sum() / v.m
        )(v.z3)
    },
    "labels forgotten": {"dz3": lambda v: v.P / v.m},
    "classes shifted by one": {"Y": lambda v: jax.nn.one_hot((v.y + 1) % K, K, dtype=v.x.dtype)},
    "labels of the next example": {"Y": lambda v: jax.nn.one_hot(jnp.roll(v.y, 1), K, dtype=v.x.dtype)},
    "classes counted from 1": {"Y": lambda v: jax.nn.one_hot(v.y - 1, K, dtype=v.x.dtype)},
    "classes flipped": {"dz3": lambda v: (v.P - v.Y)[:, ::-1] / v.m},
    "smoothed labels": {"Y": lambda v: 0.9 * jax.nn.one_hot(v.y, K, dtype=v.x.dtype) + 0.1 / K},
    "a guard of 1e-3 in the logarithm": {"dz3": lambda v: softmax_vjp(v.P, -v.Y / (v.P + 1e-3)) / v.m},
    "residuals clipped": {"dz3": lambda v: jnp.clip(v.P - v.Y, -0.5, 0.5) / v.m},
    # the sizes
    "one per mille too large": {"dW2": lambda v: 1.001 * (v.dz2.T @ v.a1 + v.l2 * v.W2)},
    "one millionth too large": {"dW2": lambda v: 1.000001 * (v.dz2.T @ v.a1 + v.l2 * v.W2)},
    "scaled to length 1": {"_": lambda v: vars(v).update(dW1=v.dW1 / jnp.linalg.norm(v.dW1))},
    "one entry 1 % off": {"dW1": lambda v: (v.dz1.T @ v.x + v.l2 * v.W1).at[1, 2].multiply(1.01)},
    "one entry left out": {"dW3": lambda v: (v.dz3.T @ v.a2 + v.l2 * v.W3).at[2, 0].set(0)},
    "one row left out": {"dW2": lambda v: (v.dz2.T @ v.a1 + v.l2 * v.W2).at[1].set(0)},
    "1e-6 added": {"dW2": lambda v: v.dz2.T @ v.a1 + v.l2 * v.W2 + 1e-6},
    # biases
    "bias averaged": {"db1": lambda v: v.dz1.mean(0)},
    "bias summed over the outputs": {"db3": lambda v: v.dz3.sum(1)[:K]},
    "bias averaged over the outputs": {"db1": lambda v: v.dz1.sum(0).mean(keepdims=True).repeat(3)},
    "bias of the first example": {"db2": lambda v: v.dz2[0]},
    "bias of the last example": {"db1": lambda v: v.dz1[-1]},
    "bias forgotten": {"db2": lambda v: jnp.zeros_like(v.b2)},
    "bias times its input": {"db1": lambda v: v.dz1.sum(0) * v.b1},
    "bias of the layer above": {"db2": lambda v: v.dz3.sum(0)},
    "bias from da for dz": {"db1": lambda v: v.da1.sum(0)},
    "bias left out of the forward pass": {"z2": lambda v: v.a1 @ v.W2.T},
    # the matrix products
    "W3 transposed": {"da2": lambda v: v.dz3 @ v.W3.T},
    "W2 transposed": {"da1": lambda v: v.dz2 @ v.W2.T},
    "dW2 transposed": {"dW2": lambda v: v.a1.T @ v.dz2 + v.l2 * v.W2},
    "dW3 transposed": {"dW3": lambda v: v.a2.T @ v.dz3 + v.l2 * v.W3},
    "W3 for W2": {"da1": lambda v: v.dz2 @ v.W3},
    "dz3 for dz2": {"da1": lambda v: v.dz3 @ v.W2},
    "z2 for a2": {"dW3": lambda v: v.dz3.T @ v.z2 + v.l2 * v.W3},
    "a1 for a2": {"dW3": lambda v: v.dz3.T @ v.a1 + v.l2 * v.W3},
    "a2 for a1": {"dW2": lambda v: v.dz2.T @ v.a2 + v.l2 * v.W2},
    "x for a1": {"dW2": lambda v: v.dz2.T @ v.x[:, :3] + v.l2 * v.W2},
    "da for dz": {"dW2": lambda v: v.da2.T @ v.a1 + v.l2 * v.W2},
    "W summed for the product": {"da2": lambda v: v.dz3 * v.W3.sum(0)[None]},
    "weights already updated": {"da2": lambda v: v.dz3 @ (v.W3 - 0.1 * v.dW3)},
    "gradients of W2 and W3 swapped": {"_": swap("dW2", "dW3")},
    "gradients of b1 and b2 swapped": {"_": swap("db1", "db2")},
    "gradient stopped below layer 2": {"da1": lambda v: jnp.zeros_like(v.a1)},
    "gradient stopped below layer 3": {"da2": lambda v: lax.stop_gradient(jnp.zeros_like(v.a2))},
    "a path of the gradient left out": {"da1": lambda v: v.dz2[:, :2] @ v.W2[:2]},
    # the examples
    "an example left out": {"dW1": lambda v: v.dz1[1:].T @ v.x[1:] + v.l2 * v.W1},
    "an example counted twice": {"dW1": lambda v: v.dz1.T @ v.x + jnp.outer(v.dz1[0], v.x[0]) + v.l2 * v.W1},
    "examples reversed": {"dW1": lambda v: v.dz1[::-1].T @ v.x + v.l2 * v.W1},
    "examples shifted by one": {"dW3": lambda v: jnp.roll(v.dz3, 1, axis=0).T @ v.a2 + v.l2 * v.W3},
    "inputs flipped": {"dW1": lambda v: v.dz1.T @ v.x[:, ::-1] + v.l2 * v.W1},
    "the mean example for the examples": {
        "dW1": lambda v: jnp.outer(v.dz1.sum(0), v.x.mean(0)) + v.l2 * v.W1,
    },
    # the activation's derivative
    "derivative missing": {"dz2": lambda v: v.da2},
    "derivative missing in layer 1": {"dz1": lambda v: v.da1},
    "derivative twice": {"dz2": lambda v: v.da2 * v.df(v.z2, v.a2) ** 2},
    "derivative at a for z": {"dz1": lambda v: v.da1 * v.df(v.a1, v.f(v.a1))},
    "derivative at z for a": {"dz1": lambda v: v.da1 * v.df(v.z1, v.z1)},
    "derivative of the layer above": {"dz1": lambda v: v.da1 * v.df(v.z2, v.a2)},
    "derivative of the layer below": {"dz2": lambda v: v.da2 * v.df(v.z1, v.a1)},
    "derivative of the logits too": {"dz3": lambda v: v.df(v.z3, v.f(v.z3)) * (v.P - v.Y) / v.m},
    "derivative after the product": {"da2": lambda v: (v.dz3 * v.df(v.z2, v.a2)) @ v.W3, "dz2": lambda v: v.da2},
    "derivative of the sum": {"dz1": lambda v: v.da1 * v.df(v.z1, v.a1).mean(0)[None]},
    "the function for its derivative": {"dz2": lambda v: v.da2 * v.a2},
    "a guard of 1e-3 on the derivative": {"dz1": lambda v: v.da1 * (v.df(v.z1, v.a1) + 1e-3)},
}

FAULTS_OF = {
    "tanh": {
        "1 − a for 1 − a²": {"dz1": lambda v: v.da1 * (1 - v.a1)},
        "1 + a²": {"dz1": lambda v: v.da1 * (1 + v.a1**2)},
        "1 − z²": {"dz2": lambda v: v.da2 * (1 - v.z2**2)},
        "sech for sech²": {"dz2": lambda v: v.da2 / jnp.cosh(v.z2)},
        "derivative of the sigmoid": {"df": lambda v: lambda z, a: a * (1 - a)},
        "derivative of relu": {"dz1": lambda v: v.da1 * (v.z1 > 0).astype(v.z1.dtype)},
    },
    "sigmoid": {
        "1 − a for a(1 − a)": {"dz1": lambda v: v.da1 * (1 - v.a1)},
        "a(1 + a)": {"dz1": lambda v: v.da1 * v.a1 * (1 + v.a1)},
        "a − 1": {"dz2": lambda v: v.da2 * v.a2 * (v.a2 - 1)},
        "exp(−z) not squared": {"dz2": lambda v: v.da2 * jnp.exp(-v.z2) / (1 + jnp.exp(-v.z2))},
        "derivative of tanh": {"df": lambda v: lambda z, a: 1 - a**2},
        "sigmoid of 2z": {"dz1": lambda v: v.da1 * (1 - jnp.tanh(v.z1) ** 2)},
        "derivative of relu": {"dz1": lambda v: v.da1 * (v.z1 > 0).astype(v.z1.dtype)},
    },
    "relu": {
        "the negative side": {"dz1": lambda v: v.da1 * (v.z1 < 0).astype(v.z1.dtype)},
        "a leak": {"dz2": lambda v: jnp.where(v.z2 > 0, v.da2, 0.01 * v.da2)},
        "a threshold on da": {"dz1": lambda v: v.da1 * (v.da1 > 0).astype(v.z1.dtype)},
        "guided: both thresholds": {"dz2": lambda v: jax.nn.relu(v.da2) * (v.z2 > 0).astype(v.z2.dtype)},
        "the sign": {"dz2": lambda v: v.da2 * jnp.sign(v.z2)},
        "derivative of tanh": {"df": lambda v: lambda z, a: 1 - a**2},
        "derivative of the sigmoid": {"df": lambda v: lambda z, a: a * (1 - a)},
    },
}

# relu′ is 0 or 1, and z > 0 ⇔ a > 0
NO_FAULT = {"relu": {"derivative twice", "derivative at a for z", "derivative at z for a"}}

FAULTS_OF_A_SCALED_LOSS = {
    "the factor of the loss forgotten": {
        "l2": lambda v: LAMBDA / v.m / v.factor,
        "dz3": lambda v: (v.P - v.Y) / v.m / v.factor,
    },
    "the factor of the loss forgotten in L2": {"l2": lambda v: LAMBDA / v.m / v.factor},
    "the factor of the loss twice": {"dz3": lambda v: v.factor * (v.P - v.Y) / v.m},
}

RIGHT = {
    "as in the article": {},
    "1/m as a factor": {"dz3": lambda v: (1 / v.m) * (v.P - v.Y)},
    "1/m typed in as 0.2": {"dz3": lambda v: 0.2 * (v.P - v.Y)},
    "1/m late": {
        "dz3": lambda v: v.P - v.Y,
        "dW3": lambda v: (v.dz3.T @ v.a2 + LAMBDA * v.W3) / v.m,
        "db3": lambda v: v.dz3.mean(0),
        "dW2": lambda v: (v.dz2.T @ v.a1 + LAMBDA * v.W2) / v.m,
        "db2": lambda v: v.dz2.mean(0),
        "dW1": lambda v: (v.dz1.T @ v.x + LAMBDA * v.W1) / v.m,
        "db1": lambda v: v.dz1.mean(0),
    },
    "(P Σy − y)/m": {"dz3": lambda v: (v.P * v.Y.sum(1, keepdims=True) - v.Y) / v.m},
    "from probabilities": {"dz3": lambda v: softmax_vjp(v.P, -v.Y / v.P / v.m)},
    "the whole Jacobian of softmax": {
        "dz3": lambda v: (
            jnp.einsum("mij,mj->mi", jax.vmap(lambda p: jnp.diag(p) - jnp.outer(p, p))(v.P), -v.Y / v.P) / v.m
        )
    },
    "P as exp z over its sum": {"P": lambda v: jnp.exp(v.z3) / jnp.exp(v.z3).sum(1, keepdims=True)},
    "P with the maximum taken off": {
        "P": lambda v: (e := jnp.exp(v.z3 - v.z3.max(1, keepdims=True))) / e.sum(1, keepdims=True)
    },
    "P − 1 at the label": {"dz3": lambda v: v.P.at[jnp.arange(v.m), v.y].add(-1) / v.m},
    "sums of outer products": {"dW1": lambda v: jax.vmap(jnp.outer)(v.dz1, v.x).sum(0) + v.l2 * v.W1},
    "a loop over the examples, from the last": {
        "dW2": lambda v: v.l2 * v.W2 + sum(jnp.outer(v.dz2[i], v.a1[i]) for i in reversed(range(v.m)))
    },
    "a scan over the examples": {
        "dW1": lambda v: lax.scan(lambda s, e: (s + jnp.outer(*e), None), v.l2 * v.W1, (v.dz1, v.x))[0]
    },
    "einsum": {"dW3": lambda v: jnp.einsum("mi,mj->ij", v.dz3, v.a2) + v.l2 * v.W3},
    "bias as a product with ones": {"db2": lambda v: jnp.ones_like(v.dz2[:, 0]) @ v.dz2},
    "columns for rows": {
        "dW2": lambda v: v.dz2.T @ v.a1 + v.l2 * v.W2,
        "da1": lambda v: (v.W2.T @ v.dz2.T).T,
        "db1": lambda v: v.dz1.T.sum(1),
    },
    "activations recomputed": {
        "dW3": lambda v: v.dz3.T @ v.f(v.f(v.x @ v.W1.T + v.b1[None]) @ v.W2.T + v.b2[None]) + v.l2 * v.W3
    },
    "L2 as two halves": {"dW1": lambda v: v.dz1.T @ v.x + 0.5 * v.l2 * v.W1 + 0.5 * v.l2 * v.W1},
    "the derivative by autodiff": {"dz2": lambda v: jax.vjp(v.f, v.z2)[1](v.da2)[0]},
}

RIGHT_OF = {
    "tanh": {
        "1 − tanh²": {"dz1": lambda v: v.da1 * (1 - jnp.tanh(v.z1) ** 2)},
        "sech²": {"dz1": lambda v: v.da1 / jnp.cosh(v.z1) ** 2},
        "(1 − a)(1 + a)": {"dz2": lambda v: v.da2 * (1 - v.a2) * (1 + v.a2)},
        "4σ(2z)(1 − σ(2z))": {"dz2": lambda v: 4 * v.da2 * (s := jax.nn.sigmoid(2 * v.z2)) * (1 - s)},
    },
    "sigmoid": {
        "a − a²": {"dz1": lambda v: v.da1 * (v.a1 - v.a1**2)},
        "exp(−z)/(1 + exp(−z))²": {"dz1": lambda v: v.da1 * jnp.exp(-v.z1) / (1 + jnp.exp(-v.z1)) ** 2},
        "sech²(z/2)/4": {"dz2": lambda v: v.da2 / (2 * jnp.cosh(v.z2 / 2)) ** 2},
        "σ(z)σ(−z)": {"dz2": lambda v: v.da2 * jax.nn.sigmoid(v.z2) * jax.nn.sigmoid(-v.z2)},
    },
    "relu": {
        "a > 0": {"dz1": lambda v: v.da1 * (v.a1 > 0).astype(v.a1.dtype)},
        "where": {"dz1": lambda v: jnp.where(v.z1 <= 0, 0, v.da1)},
        "heaviside": {"dz2": lambda v: v.da2 * jnp.heaviside(v.z2, jnp.zeros_like(v.z2))},
        "(1 + sign)/2": {"dz2": lambda v: v.da2 * (1 + jnp.sign(v.z2)) / 2},
    },
}


def three_layer(activation, scale):
    """The wrong and the right backward passes of one net, by name."""
    factor, weights = SCALES[scale]
    family = net(activation, factor, weights)
    wrong = FAULTS | FAULTS_OF[activation] | (FAULTS_OF_A_SCALED_LOSS if factor != 1 else {})
    no_fault = NO_FAULT.get(activation, set())
    return (
        cases(family, {name: changed for name, changed in wrong.items() if name not in no_fault}),
        cases(family, RIGHT | RIGHT_OF[activation] | {name: FAULTS[name] for name in sorted(no_fault)}),
    )


# --- Other architectures ----------------------------------------------------------------------------------------------


def ridge():
    def cost(params, x, t):
        e = x @ params["w"] + params["b"] - t
        return (e @ e + LAMBDA * params["w"] @ params["w"]) / (2 * len(x))

    n = normal(0, w=3, b=(), x=(5, 3), t=5)
    lines = {
        "e": lambda v: (v.x @ v.w + v.b - v.t) / len(v.x),
        "dw": lambda v: v.e @ v.x + LAMBDA / len(v.x) * v.w,
        "db": lambda v: v.e.sum(),
    }
    faults = {
        "L2 left out": {"dw": lambda v: v.e @ v.x},
        "factor 2": {"dw": lambda v: v.e @ v.x + 2 * LAMBDA / len(v.x) * v.w},
        "λ not divided by m": {"dw": lambda v: v.e @ v.x + LAMBDA * v.w},
        "on the bias too": {"db": lambda v: v.e.sum() + LAMBDA / len(v.x) * v.b},
        "added, not differentiated": {"dw": lambda v: v.e @ v.x + LAMBDA / 2 / len(v.x) * v.w @ v.w},
    }
    return by_lines(cost, {k: n[k] for k in "wb"}, {k: n[k] for k in "xt"}, lines), faults


def residual_connection():
    def cost(params, x, t):
        a1 = jnp.tanh(x @ params["W1"].T)
        return ((a1 + jnp.tanh(a1 @ params["W2"].T + params["b"][None]) - t) ** 2).sum() / 2

    n = normal(1, W1=(3, 4), W2=(3, 3), b=3, x=(2, 4), t=(2, 3))
    lines = {
        "a1": lambda v: jnp.tanh(v.x @ v.W1.T),
        "a2": lambda v: jnp.tanh(v.a1 @ v.W2.T + v.b[None]),
        "da2": lambda v: v.a1 + v.a2 - v.t,
        "dz2": lambda v: v.da2 * (1 - v.a2**2),
        "dW2": lambda v: v.dz2.T @ v.a1,
        "db": lambda v: v.dz2.sum(0),
        "da1": lambda v: v.da2 + v.dz2 @ v.W2,
        "dW1": lambda v: (v.da1 * (1 - v.a1**2)).T @ v.x,
    }
    faults = {
        "skip path left out": {"da1": lambda v: v.dz2 @ v.W2},
        "branch left out": {"da1": lambda v: v.da2},
        "skip path twice": {"da1": lambda v: 2 * v.da2 + v.dz2 @ v.W2},
        "skip path through the activation": {"da1": lambda v: v.dz2 + v.dz2 @ v.W2},
        "derivative of the sum": {"dz2": lambda v: v.da2 * (1 - (v.a1 + v.a2) ** 2)},
    }
    return by_lines(cost, {k: n[k] for k in ("W1", "W2", "b")}, {k: n[k] for k in "xt"}, lines), faults


def shared_weight():
    def cost(params, x, t):
        a1 = jnp.tanh(x @ params["W"].T)
        return ((jnp.tanh(a1 @ params["W"].T) - t) ** 2).sum() / 2

    n = normal(2, W=(3, 3), x=(4, 3), t=(4, 3))
    lines = {
        "a1": lambda v: jnp.tanh(v.x @ v.W.T),
        "a2": lambda v: jnp.tanh(v.a1 @ v.W.T),
        "dz2": lambda v: (v.a2 - v.t) * (1 - v.a2**2),
        "dz1": lambda v: v.dz2 @ v.W * (1 - v.a1**2),
        "dW": lambda v: v.dz2.T @ v.a1 + v.dz1.T @ v.x,
    }
    faults = {
        "first use left out": {"dW": lambda v: v.dz2.T @ v.a1},
        "second use left out": {"dW": lambda v: v.dz1.T @ v.x},
        "uses averaged": {"dW": lambda v: (v.dz2.T @ v.a1 + v.dz1.T @ v.x) / 2},
        "inputs swapped": {"dW": lambda v: v.dz2.T @ v.x + v.dz1.T @ v.a1},
        "transposed": {"dz1": lambda v: v.dz2 @ v.W.T * (1 - v.a1**2)},
    }
    return by_lines(cost, {"W": n["W"]}, {k: n[k] for k in "xt"}, lines), faults


def tied_autoencoder():
    def cost(params, x):
        return ((jnp.tanh(x @ params["W"].T) @ params["W"] - x) ** 2).sum() / 2

    n = normal(3, W=(3, 3), x=(4, 3))
    lines = {
        "a": lambda v: jnp.tanh(v.x @ v.W.T),
        "dout": lambda v: v.a @ v.W - v.x,
        "dz": lambda v: v.dout @ v.W.T * (1 - v.a**2),
        "dW": lambda v: v.dz.T @ v.x + v.a.T @ v.dout,
    }
    faults = {
        "decoder left out": {"dW": lambda v: v.dz.T @ v.x},
        "encoder left out": {"dW": lambda v: v.a.T @ v.dout},
        "decoder's part not transposed": {"dW": lambda v: v.dz.T @ v.x + v.dout.T @ v.a},
        "decoder's weight transposed": {"dz": lambda v: v.dout @ v.W * (1 - v.a**2)},
    }
    return by_lines(cost, {"W": n["W"]}, {"x": n["x"]}, lines), faults


def masked_loss():
    """As many sequences as steps, so that a transposed mask fits."""

    def cost(params, x, y, mask):
        logp = jax.nn.log_softmax(x @ params["W"].T + params["b"][None, None])
        return -(mask * jnp.take_along_axis(logp, y[..., None], -1)[..., 0]).sum() / mask.sum()

    n = normal(4, W=(3, 4), b=3, x=(3, 3, 4))
    (mask,) = float32([[1, 1, 0], [1, 0, 0], [1, 1, 1]])
    y = jnp.asarray([[0, 2, 0], [1, 0, 0], [2, 1, 1]], jnp.int32)
    lines = {
        "e": lambda v: softmax(v.x @ v.W.T + v.b[None, None]) - jax.nn.one_hot(v.y, 3, dtype=v.x.dtype),
        "dz": lambda v: v.e * v.mask[..., None] / v.mask.sum(),
        "dW": lambda v: jnp.einsum("nti,ntj->ij", v.dz, v.x),
        "db": lambda v: v.dz.sum((0, 1)),
    }
    faults = {
        "mask forgotten": {"dz": lambda v: v.e / v.mask.sum()},
        "mask forgotten in the normaliser": {"dz": lambda v: v.e * v.mask[..., None] / v.mask.size},
        "normalised by the sequences": {"dz": lambda v: v.e * v.mask[..., None] / len(v.mask)},
        "normalised per sequence": {"dz": lambda v: v.e * (v.mask / v.mask.sum(1, keepdims=True))[..., None] / 3},
        "mask transposed": {"dz": lambda v: v.e * v.mask.T[..., None] / v.mask.sum()},
        "mask on the residuals of one leaf": {"db": lambda v: v.e.sum((0, 1)) / v.mask.sum()},
    }
    data = {"x": n["x"], "y": y, "mask": mask}
    return by_lines(cost, {k: n[k] for k in "Wb"}, data, lines), faults


def hidden_states(W, U, b, x):
    def step(h, x):
        h = jnp.tanh(W @ h + U @ x + b)
        return h, h

    return lax.scan(step, jnp.zeros_like(b), x)[1]


def recurrent(steps=4, width=3, seed=5):
    """Back-propagation through time, by a scan in reverse."""

    def cost(params, x, t):
        return ((hidden_states(*(params[k] for k in "WUb"), x) - t) ** 2).sum() / (2 * len(x))

    def through_time(v):
        def step(dh, now):
            h, e, i = now
            dz = v.through(dh + e, h)
            return v.carry(dz, i), dz

        steps = jnp.arange(len(v.x), dtype=jnp.int32)
        return lax.scan(step, jnp.zeros_like(v.b), (v.h, v.e, steps), reverse=True)[1]

    n = normal(seed, W=(width, width), U=(width, 2), b=width, x=(steps, 2), t=(steps, width))
    lines = {
        "h": lambda v: hidden_states(v.W, v.U, v.b, v.x),
        "before": lambda v: jnp.concatenate([jnp.zeros_like(v.h[:1]), v.h[:-1]]),
        "e": lambda v: (v.h - v.t) / len(v.x),
        "through": lambda v: lambda dh, h: dh * (1 - h**2),
        "carry": lambda v: lambda dz, i: dz @ v.W,
        "dz": through_time,
        "dW": lambda v: v.dz.T @ v.before,
        "dU": lambda v: v.dz.T @ v.x,
        "db": lambda v: v.dz.sum(0),
    }
    faults = {
        "nothing carried through time": {"carry": lambda v: lambda dz, i: jnp.zeros_like(dz)},
        "truncated after two steps": {"carry": lambda v: lambda dz, i: jnp.where(i % 2 == 0, 0, dz @ v.W)},
        "W transposed": {"carry": lambda v: lambda dz, i: v.W @ dz},
        "this step's state for the last one's": {"before": lambda v: v.h},
        "loss of the last step only": {"e": lambda v: ((v.h - v.t) / len(v.x)).at[:-1].set(0)},
        "derivative missing": {"through": lambda v: lambda dh, h: dh},
        "1/T missing": {"e": lambda v: v.h - v.t},
        "bias of the last step": {"db": lambda v: v.dz[-1]},
    }
    return by_lines(cost, {k: n[k] for k in "WUb"}, {k: n[k] for k in "xt"}, lines), faults


def attention():
    """One head, as many tokens as features."""

    def cost(params, x, t):
        q, k, u = (x @ params[w] + params[b][None] for w, b in (("Q", "q"), ("K", "k"), ("V", "u")))
        return ((softmax(q @ k.T / 3**0.5) @ u - t) ** 2).sum() / 2

    n = normal(6, Q=(3, 3), q=3, K=(3, 3), k=3, V=(3, 3), u=3, x=(3, 3), t=(3, 3))
    lines = {
        "queries": lambda v: v.x @ v.Q + v.q[None],
        "keys": lambda v: v.x @ v.K + v.k[None],
        "values": lambda v: v.x @ v.V + v.u[None],
        "scale": lambda v: 3**-0.5,
        "A": lambda v: softmax(v.queries @ v.keys.T * v.scale),
        "dout": lambda v: v.A @ v.values - v.t,
        "dvalues": lambda v: v.A.T @ v.dout,
        "dA": lambda v: v.dout @ v.values.T,
        "dS": lambda v: softmax_vjp(v.A, v.dA) * v.scale,
        "dqueries": lambda v: v.dS @ v.keys,
        "dkeys": lambda v: v.dS.T @ v.queries,
        "dQ": lambda v: v.x.T @ v.dqueries,
        "dq": lambda v: v.dqueries.sum(0),
        "dK": lambda v: v.x.T @ v.dkeys,
        "dk": lambda v: v.dkeys.sum(0),
        "dV": lambda v: v.x.T @ v.dvalues,
        "du": lambda v: v.dvalues.sum(0),
    }
    faults = {
        "softmax's Jacobian diagonal only": {"dS": lambda v: v.A * (1 - v.A) * v.dA * v.scale},
        "softmax's Jacobian over the queries": {"dS": lambda v: softmax_vjp(v.A.T, v.dA.T).T * v.scale},
        "softmax's Jacobian without its sum": {"dS": lambda v: v.A * v.dA * v.scale},
        "scale missing": {"dS": lambda v: softmax_vjp(v.A, v.dA)},
        "scale twice": {"dS": lambda v: softmax_vjp(v.A, v.dA) / 3},
        "A not transposed": {"dvalues": lambda v: v.A @ v.dout},
        "dS not transposed": {"dkeys": lambda v: v.dS @ v.queries},
        "keys for queries": {"dkeys": lambda v: v.dS.T @ v.keys},
        "gradient through the keys left out": {"dkeys": lambda v: jnp.zeros_like(v.keys)},
    }
    return by_lines(cost, {k: n[k] for k in "QqKkVu"}, {k: n[k] for k in "xt"}, lines), faults


EPSILON = 1e-5


def normalised(z, axis):
    σ = jnp.sqrt(z.var(axis, keepdims=True) + EPSILON)
    return (z - z.mean(axis, keepdims=True)) / σ, σ


def norm(axis):
    """Layer norm (axis 1) or batch norm (axis 0) behind a dense layer; as many examples as features."""

    def cost(params, x, t):
        h, _ = normalised(x @ params["W"].T + params["b"][None], axis)
        return ((params["g"][None] * h + params["c"][None] - t) ** 2).sum() / 2

    def mean(a):
        return a.mean(axis, keepdims=True)

    n = normal(7, W=(4, 3), b=4, g=4, c=4, x=(4, 3), t=(4, 4))
    lines = {
        "z": lambda v: v.x @ v.W.T + v.b[None],
        "h": lambda v: normalised(v.z, axis)[0],
        "σ": lambda v: normalised(v.z, axis)[1],
        "dout": lambda v: v.g[None] * v.h + v.c[None] - v.t,
        "dg": lambda v: (v.dout * v.h).sum(0),
        "dc": lambda v: v.dout.sum(0),
        "dh": lambda v: v.dout * v.g[None],
        "dz": lambda v: (v.dh - mean(v.dh) - v.h * mean(v.dh * v.h)) / v.σ,
        "dW": lambda v: v.dz.T @ v.x,
        "db": lambda v: v.dz.sum(0),
    }
    faults = {
        "term of the mean dropped": {"dz": lambda v: (v.dh - v.h * mean(v.dh * v.h)) / v.σ},
        "term of the variance dropped": {"dz": lambda v: (v.dh - mean(v.dh)) / v.σ},
        "statistics held constant": {"dz": lambda v: v.dh / v.σ},
        "1/σ² for 1/σ": {"dz": lambda v: (v.dh - mean(v.dh) - v.h * mean(v.dh * v.h)) / v.σ**2},
        "ε forgotten": {"σ": lambda v: v.z.std(axis, keepdims=True)},
        "the unbiased variance": {
            "dz": lambda v: (v.dh - mean(v.dh) - v.h * (v.dh * v.h).sum(axis, keepdims=True) / 3) / v.σ
        },
        "statistics over the other axis": {
            "dz": lambda v: (
                (v.dh - v.dh.mean(1 - axis, keepdims=True) - v.h * (v.dh * v.h).mean(1 - axis, keepdims=True)) / v.σ
            )
        },
        "z for its normalised value": {"dg": lambda v: (v.dout * v.z).sum(0)},
        "gain forgotten": {"dh": lambda v: v.dout},
    }
    return by_lines(cost, {k: n[k] for k in "Wbgc"}, {k: n[k] for k in "xt"}, lines), faults


def convolution():
    """Two 1-D layers; the second kernel is as long as its output, so that a flip or a swap fits."""

    def cost(params, x, t):
        a = jnp.tanh(jnp.correlate(x, params["k1"]))
        return ((jnp.correlate(a, params["k2"]) - t) ** 2).sum() / 2

    n = normal(8, k1=3, k2=3, x=7, t=3)
    lines = {
        "a": lambda v: jnp.tanh(jnp.correlate(v.x, v.k1)),
        "dz2": lambda v: jnp.correlate(v.a, v.k2) - v.t,
        "dk2": lambda v: jnp.correlate(v.a, v.dz2),
        "da": lambda v: jnp.convolve(v.dz2, v.k2),
        "dz1": lambda v: v.da * (1 - v.a**2),
        "dk1": lambda v: jnp.correlate(v.x, v.dz1),
    }
    faults = {
        "kernel flipped": {"da": lambda v: jnp.convolve(v.dz2, v.k2[::-1])},
        "gradient of the kernel flipped": {"dk2": lambda v: jnp.convolve(v.a, v.dz2, mode="valid")},
        "a position left out": {"dk1": lambda v: jnp.correlate(v.x[:-1], v.dz1[:-1])},
        "the border left out": {"da": lambda v: jnp.convolve(v.dz2, v.k2).at[0].set(0)},
    }
    return by_lines(cost, {k: n[k] for k in ("k1", "k2")}, {k: n[k] for k in "xt"}, lines), faults


def softmax_under_a_cotangent():
    def cost(params, x, dout):
        return (dout * softmax(x @ params["W"].T)).sum()

    n = normal(9, W=(3, 4), x=(3, 4), dout=(3, 3))
    lines = {
        "P": lambda v: softmax(v.x @ v.W.T),
        "dz": lambda v: softmax_vjp(v.P, v.dout),
        "dW": lambda v: v.dz.T @ v.x,
    }
    faults = {
        "cotangent forgotten": {"dz": lambda v: v.P * (1 - v.P)},
        "cotangent used twice": {"dz": lambda v: softmax_vjp(v.P, v.dout) * v.dout},
        "Jacobian diagonal only": {"dz": lambda v: v.P * (1 - v.P) * v.dout},
        "sum over the examples": {"dz": lambda v: v.P * (v.dout - (v.P * v.dout).sum(0)[None])},
        "sum of the cotangent alone": {"dz": lambda v: v.P * (v.dout - v.dout.sum(1, keepdims=True))},
    }
    return by_lines(cost, {"W": n["W"]}, {k: n[k] for k in ("x", "dout")}, lines), faults


def embedding():
    def cost(params, ids, t):
        return ((jnp.tanh(params["E"][ids]) - t) ** 2).sum() / 2

    n = normal(10, E=(5, 3), t=(4, 3))
    lines = {
        "a": lambda v: jnp.tanh(v.E[v.ids]),
        "dz": lambda v: (v.a - v.t) * (1 - v.a**2),
        "dE": lambda v: jnp.zeros_like(v.E).at[v.ids].add(v.dz),
    }
    faults = {
        "a repeated row overwritten": {"dE": lambda v: jnp.zeros_like(v.E).at[v.ids].set(v.dz)},
        "a repeated row averaged": {"dE": lambda v: jnp.zeros_like(v.E).at[v.ids].add(v.dz).at[2].multiply(0.5)},
        "shifted by one": {"dE": lambda v: jnp.zeros_like(v.E).at[(v.ids + 1) % 5].add(v.dz)},
        "padding row left out": {"dE": lambda v: jnp.zeros_like(v.E).at[v.ids].add(v.dz).at[0].set(0)},
    }
    return by_lines(cost, {"E": n["E"]}, {"ids": ints(0, 2, 2, 4), "t": n["t"]}, lines), faults


def architectures():
    """name -> (the right case, the wrong ones by name)."""
    made = {
        "an L2 term": ridge(),
        "a residual connection": residual_connection(),
        "a weight shared by two layers": shared_weight(),
        "a tied autoencoder": tied_autoencoder(),
        "a masked loss": masked_loss(),
        "a scan over time": recurrent(),
        "attention": attention(),
        "layer norm": norm(1),
        "batch norm": norm(0),
        "a convolution": convolution(),
        "softmax under a cotangent": softmax_under_a_cotangent(),
        "an embedding": embedding(),
    }
    return {name: (family(), cases(family, faults)) for name, (family, faults) in made.items()}


# --- Faults that live on one side of a branch -------------------------------------------------------------------------


def one_sided():
    """Wrong derivatives that are right at the given parameters, and wrong on a side that these do not reach."""

    def case(f, df, *w, c=(1.5, -0.75, 0.625, 2.0)):
        """Entry by entry: the cost is Σ c f(w)."""
        return Case(lambda w, c: (c * f(w)).sum(), lambda w, c: c * df(w), *float32(w), float32(c))

    def nested(w):
        return jnp.where(w > 0, jnp.where(w > 1, w**2, 2 * w - 1), w**3 - 1)

    def cond(w, c):
        return lax.cond(w.sum() > 0, lambda: (c * w**2).sum(), lambda: (c * jnp.sin(w)).sum())

    inside, positive = (0.3, -0.4, 0.6, -0.2), (0.5, 1.25, 0.75, 2.0)
    c = float32([1.5, -0.75, 0.625, 2.0])
    u, v = normal(11, u=4, v=4).values()
    return {
        "relu: a leak": case(jax.nn.relu, lambda w: jnp.where(w > 0, 1, 0.01 * jnp.ones_like(w)), *positive),
        "leaky relu: the slope": case(
            lambda w: jnp.where(w > 0, w, 0.1 * w), lambda w: jnp.where(w > 0, 1, 0.2 * jnp.ones_like(w)), *positive
        ),
        "elu: 1 missing": case(jax.nn.elu, lambda w: jnp.where(w > 0, 1, jnp.expm1(w)), *positive),
        "abs: the negative side": case(jnp.abs, jnp.ones_like, *positive),
        "clip: outside of the range": case(lambda w: jnp.clip(w, -1, 1) ** 2, lambda w: 2 * w, *inside),
        "hard tanh: below −1": case(
            lambda w: jnp.clip(w, -1, 1), lambda w: jnp.where(w > 1, 0, jnp.ones_like(w)), *inside
        ),
        "relu6: above 6": case(jax.nn.relu6, lambda w: (w > 0).astype(w.dtype), *positive),
        "softplus: above its threshold of 20": case(
            lambda w: jnp.where(w > 20, w, jnp.log1p(jnp.exp(w))),
            lambda w: jnp.where(w > 20, jnp.zeros_like(w), jax.nn.sigmoid(w)),
            *positive,
        ),
        "Huber: the far side": case(
            lambda w: jnp.where(jnp.abs(w) <= 1, w**2 / 2, jnp.abs(w) - 0.5), lambda w: w, *inside
        ),
        "smooth L1: the sign of the far side": case(
            lambda w: jnp.where(jnp.abs(w) < 0.75, w**2 / 1.5, jnp.abs(w) - 0.375),
            lambda w: jnp.where(jnp.abs(w) < 0.75, w / 0.75, jnp.ones_like(w)),
            *inside,
        ),
        "quantile: 1 − τ": case(
            lambda w: jnp.where(w > 0, 0.9 * w, -0.1 * w),
            lambda w: jnp.where(w > 0, 0.9, 0.1 * jnp.ones_like(w)),
            *positive,
        ),
        "hinge: beyond the margin": case(lambda w: jax.nn.relu(1 - w), lambda w: -jnp.ones_like(w), *inside),
        "nested where: the innermost side": case(
            nested, lambda w: jnp.where(w > 0, 2 * jnp.ones_like(w), 3 * w**2), 0.5, -0.25, 0.75, -1.5
        ),
        "nested where: the outer side": case(
            nested, lambda w: jnp.where(w > 1, 2 * w, 2 * jnp.ones_like(w)), 0.5, 1.25, 0.75, 2.0
        ),
        "maximum of two: the second": Case(
            lambda p, c: (c * jnp.maximum(p["u"], p["v"])).sum(),
            lambda p, c: {"u": c * (p["u"] > p["v"]).astype(c.dtype), "v": jnp.zeros_like(c)},
            {"u": u, "v": u - jnp.abs(v)},
            c,
        ),
        "max: always the first": Case(
            lambda w: w.max() ** 2, lambda w: jnp.zeros_like(w).at[0].set(2 * w[0]), *float32([2.0, -0.5, 0.75, 1.5])
        ),
        "sort: the order taken for granted": Case(
            lambda w, c: (c * jnp.sort(w)).sum(), lambda w, c: c, *float32([-1.0, -0.25, 0.5, 2.0]), c
        ),
        "cond: the other branch": Case(cond, lambda w, c: 2 * c * w, *float32(positive), c),
    }
