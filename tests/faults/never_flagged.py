"""Right gradients written in unusual ways, which a verifier must never flag; and lecture code in plain NumPy."""

import jax
import numpy as np
from faults.seeded import LAMBDA, RIGHT, RIGHT_OF, Case, attention, by_lines, float32, net, norm, normal, recurrent
from jax import numpy as jnp
from jax.nn import logsumexp, softmax


def entrywise(f, df, w, c=(1.5, -0.75, 0.625, 2.0)):
    """The cost is Σ c f(w)."""
    return Case(lambda w, c: (c * f(w)).sum(), lambda w, c: c * df(w), *float32(w), float32(c[: len(w)]))


def gelu_by_tanh(w):
    k, c = (2 / np.pi) ** 0.5, 0.044715
    t = jnp.tanh(k * (w + c * w**3))
    return 0.5 * (1 + t) + 0.5 * w * (1 - t**2) * k * (1 + 3 * c * w**2)


def gelu_by_erf(w):
    return 0.5 * (1 + jax.lax.erf(w / 2**0.5)) + w * jnp.exp(-(w**2) / 2) / (2 * np.pi) ** 0.5


def scaled_scores():
    n = normal(0, w=8, x=(3, 8))

    def grad(w, x):
        return (1 - jnp.tanh(x @ w * 8**-0.5) ** 2) @ x * 8**-0.5

    return Case(lambda w, x: jnp.tanh(x @ w / 8**0.5).sum(), grad, n["w"], (n["x"],))


def dropout():
    def drop(key, a):
        return jax.random.bernoulli(key, 0.9, a.shape)

    def cost(w, x, key):
        a = jnp.tanh(x * w[None])
        return (jnp.where(drop(key, a), a / 0.9, 0) ** 2).sum()

    def grad(w, x, key):
        a = jnp.tanh(x * w[None])
        kept = jnp.where(drop(key, a), 1 / 0.9, jnp.zeros_like(a))
        return (2 * a * kept * kept * (1 - a**2) * x).sum(0)

    n = normal(1, w=3, x=(4, 3))
    return Case(cost, grad, n["w"], (n["x"], jax.random.key(0)))


def soft_labels(dz):
    """Rows of y sum to 1 only up to rounding."""

    def cost(params, x, y):
        return -(y * jax.nn.log_softmax(x @ params["W"].T)).sum() / len(x)

    n = normal(2, W=(3, 4), x=(2, 4))
    (y,) = float32([[0.1, 0.2, 0.7], [0.7, 0.1, 0.2]])
    lines = {"P": lambda v: softmax(v.x @ v.W.T), "dz": dz, "dW": lambda v: v.dz.T @ v.x}
    return by_lines(cost, {"W": n["W"]}, {"x": n["x"], "y": y}, lines)()


def width_2048():
    """The first layer's gradient sums 2048 terms that nearly cancel: each row comes twice, with opposite signs."""

    def cost(params, x):
        a1 = jnp.tanh(x @ params["W1"].T)
        return ((jnp.tanh(a1 @ params["W2"].T) @ params["w"]) ** 2).mean() / 2

    n = normal(3, W1=(2, 3), W2=(1024, 2), w=1024, x=(2, 3), rounding=1024)
    params = {
        "W1": n["W1"],
        "W2": jnp.concatenate([n["W2"], n["W2"]]),
        "w": jnp.concatenate([n["w"], jnp.float32(1e-6) * n["rounding"] - n["w"]]),
    }
    lines = {
        "a1": lambda v: jnp.tanh(v.x @ v.W1.T),
        "a2": lambda v: jnp.tanh(v.a1 @ v.W2.T),
        "dout": lambda v: v.a2 @ v.w / len(v.x),
        "dw": lambda v: v.a2.T @ v.dout,
        "dz2": lambda v: jnp.outer(v.dout, v.w) * (1 - v.a2**2),
        "dW2": lambda v: v.dz2.T @ v.a1,
        "dW1": lambda v: (v.dz2 @ v.W2 * (1 - v.a1**2)).T @ v.x,
    }
    return by_lines(cost, params, {"x": n["x"]}, lines)()


def bf16(a, b):
    return jnp.matmul(a.astype(jnp.bfloat16), b.astype(jnp.bfloat16), preferred_element_type=jnp.float32).astype(
        a.dtype
    )


def tf32(a, b):
    return jnp.matmul(a, b, precision="tensorfloat32")


def reduced_products(product):
    return net()(
        dW3=lambda v: product(v.dz3.T, v.a2) + v.l2 * v.W3,
        da2=lambda v: product(v.dz3, v.W3),
        dW2=lambda v: product(v.dz2.T, v.a1) + v.l2 * v.W2,
        da1=lambda v: product(v.dz2, v.W2),
        dW1=lambda v: product(v.dz1.T, v.x) + v.l2 * v.W1,
    )


def saturated_logistic():
    """z from −40 to 40, each on the right and on the wrong side."""

    def cost(w, x, y):
        z = x * w
        return (jnp.logaddexp(z, 0) - y * z).mean()

    x, y = float32([-40, -40, -20, 0.5, 20, 40, 40], [0, 1, 1, 1, 0, 0, 1])
    return Case(cost, lambda w, x, y: (jax.nn.sigmoid(x * w) - y) @ x / len(x), *float32(1), (x, y))


def relu_at_zero(s):
    """The inputs are 0 in one example, and orthogonal to the weights in another."""

    def cost(params, x, t):
        return ((jax.nn.relu(x @ params["W"].T + params["b"][None]) - t) ** 2).sum() / 2

    lines = {
        "z": lambda v: v.x @ v.W.T + v.b[None],
        "dz": lambda v: (jax.nn.relu(v.z) - v.t) * jnp.where(v.z == 0, s, (v.z > 0).astype(v.z.dtype)),
        "dW": lambda v: v.dz.T @ v.x,
        "db": lambda v: v.dz.sum(0),
    }
    x, W, b = float32([[0, 0], [1, 1], [1, 2]], [[1, -1], [0.5, 2], [-2, 0.25]], [0, 0, 0])
    return by_lines(cost, {"W": W, "b": b}, {"x": x, "t": normal(4, t=(3, 3))["t"]}, lines)()


def dependent_units(shares):
    """The weights are 0: more units tie than there are weights, so that many choices give one derivative."""
    X = jnp.asarray([[1, 2, 3], [4, 5, 6], [-1, 2, 0.5], [3, -2, 1], [2, 2, -1]], jnp.float32)

    def grad(w, X):
        z = X @ w
        return X.T @ jnp.where(z == 0, jnp.asarray(shares, z.dtype), (z > 0).astype(z.dtype))

    return Case(lambda w, X: jax.nn.relu(X @ w).sum(), grad, jnp.zeros(3), (X,))


def max_tie(share):
    """share(ties) says which part of the gradient each of the tied entries gets; here the entries 0, 2 and 3."""

    def grad(w):
        return 2 * w.max() * share((w == w.max()).astype(w.dtype))

    return Case(lambda w: w.max() ** 2, grad, *float32([2, 0.5, 2, 2]))


def first(ties):
    return jax.nn.one_hot(ties.argmax(), len(ties), dtype=ties.dtype)


def maximum_tie(s):
    def cost(params, c):
        return (c * jnp.maximum(params["u"], params["v"])).sum()

    lines = {
        "du": lambda v: v.c * jnp.where(v.u == v.v, s, (v.u > v.v).astype(v.u.dtype)),
        "dv": lambda v: v.c - v.du,
    }
    u, v, c = float32([1, 2, -0.5], [1, 0.5, -0.5], [1.5, -0.75, 0.625])
    return by_lines(cost, {"u": u, "v": v}, {"c": c}, lines)()


def max_pooling_tie():
    """Pools of equal entries pass their gradient to the first."""

    def grad(w, c):
        pools = w.reshape(-1, 2)
        return (2 * c * pools.max(1))[:, None] * jax.nn.one_hot(pools.argmax(1), 2, dtype=w.dtype)

    return Case(
        lambda w, c: (c * w.reshape(-1, 2).max(1) ** 2).sum(),
        lambda w, c: grad(w, c).reshape(-1),
        *float32([1, 1, 0.5, -2, 3, 3]),
        float32([1.5, -0.75, 0.625]),
    )


def saturated_hidden():
    return entrywise(jax.nn.sigmoid, lambda w: (a := jax.nn.sigmoid(w)) * (1 - a), (-40, 40, 0.5, 38))


def deep_tanh(layers=64):
    def forward(params, x):
        a = [x]
        for W, b in params:
            a.append(jnp.tanh(a[-1] @ W.T + b[None]))
        return a

    def grad(params, x):
        a = forward(params, x)
        da, grads = a[-1], []
        for (W, _), a_in, a_out in reversed(list(zip(params, a[:-1], a[1:], strict=True))):
            dz = da * (1 - a_out**2)
            grads.append((dz.T @ a_in, dz.sum(0)))
            da = dz @ W
        return grads[::-1]

    n = normal(5, W=(layers, 2, 2), b=(layers, 2), x=(1, 2))
    return Case(
        lambda params, x: (forward(params, x)[-1] ** 2).sum() / 2,
        grad,
        list(zip(n["W"], n["b"], strict=True)),
        (n["x"],),
    )


def plus_1000():
    case = net()()
    return case._replace(cost=lambda *args: case.cost(*args) + 1000)


def dead_relu_layer():
    case = net("relu")()
    return case._replace(params=case.params | {"b1": case.params["b1"] - 100})


def checkpointed():
    case = net()()
    return case._replace(cost=jax.checkpoint(case.cost))


def checkpointed_layer():
    """The hand rule recomputes a layer by JAX's own remat."""

    def layer(v):
        return jax.checkpoint(lambda W, b, a: jnp.tanh(a @ W.T + b[None]))

    return net()(
        vjp2=lambda v: jax.vjp(layer(v), v.W2, v.b2, v.a1)[1](v.da2),
        _=lambda v: vars(v).update(dW2=v.vjp2[0] + v.l2 * v.W2, db2=v.vjp2[1], da1=v.vjp2[2]),
    )


def jitted():
    case = net()()
    return case._replace(cost=jax.jit(case.cost), grad=jax.jit(case.grad))


def one_example_at_a_time():
    """The mean of the gradients of single examples."""
    case = net()()

    def grad(params, x, y):
        one = jax.vmap(lambda x, y: case.grad(params, x[None], y[None]))(x, y)
        # each batch of one counts λW, where the whole batch counts λW/m
        extra = {name: LAMBDA * (1 - 1 / len(x)) * W for name, W in params.items() if name[0] == "W"}
        return {name: one[name].mean(0) - extra.get(name, 0) for name in params}

    return case._replace(grad=grad)


def l2_of_the_sum_of_squares():
    def cost(w, x):
        return jnp.tanh(x @ w).sum() / len(x) + 0.5 * LAMBDA * (w**2).sum() / len(x)

    n = normal(6, w=3, x=(5, 3))
    return Case(cost, lambda w, x: (1 - jnp.tanh(x @ w) ** 2) @ x / len(x) + LAMBDA / len(x) * w, n["w"], (n["x"],))


def transposed_weights():
    """The weights as (inputs × outputs) in the cost's own forward pass, as (outputs × inputs) in the rule."""

    def cost(params, x):
        return (jnp.tanh(x @ params["W"]) ** 2).sum() / 2

    lines = {
        "a": lambda v: jnp.tanh(v.W.T @ v.x.T),
        "dz": lambda v: v.a * (1 - v.a**2),
        "dW": lambda v: (v.dz @ v.x).T,
    }
    n = normal(7, W=(3, 3), x=(3, 3))
    return by_lines(cost, {"W": n["W"]}, {"x": n["x"]}, lines)()


def from_logits():
    """The loss from logits, the gradient from probabilities, and the other way round."""

    def cost(W, x, y):
        z = x @ W.T
        return (logsumexp(z, axis=1) - (y * z).sum(1)).mean()

    def cost_of_probabilities(W, x, y):
        return -(y * jnp.log(softmax(x @ W.T))).sum() / len(x)

    def grad(W, x, y):
        return (softmax(x @ W.T) - y).T @ x / len(x)

    def grad_of_probabilities(W, x, y):
        P = softmax(x @ W.T)
        dP = -y / P / len(x)
        return (P * (dP - (P * dP).sum(1, keepdims=True))).T @ x

    n = normal(8, W=(3, 4), x=(3, 4))
    data = n["x"], jnp.eye(3, dtype=jnp.float32)
    return (
        Case(cost, grad_of_probabilities, n["W"], data),
        Case(cost_of_probabilities, grad, n["W"], data),
        Case(cost_of_probabilities, grad_of_probabilities, n["W"], data),
    )


KINKS = {
    "relu at 0: derivative 0": relu_at_zero(0),
    "relu at 0: derivative 1/2": relu_at_zero(0.5),
    "relu at 0: derivative 1": relu_at_zero(1),
    "relu of five units of three weights at 0: a derivative for each": dependent_units((0, 1, 0, 1, 0.7)),
    "|x| + |x − 1| at 0: a derivative between": entrywise(
        lambda w: jnp.abs(w) + jnp.abs(w - 1),
        lambda w: jnp.where(w == 0, 0.5, jnp.sign(w)) + jnp.sign(w - 1),
        (0, 0.5, -1, 0),
    ),
    "abs at 0: derivative 0": entrywise(jnp.abs, jnp.sign, (0, 0.5, -1, 0)),
    "abs at 0: derivative 1": entrywise(jnp.abs, lambda w: jnp.where(w >= 0, 1, -jnp.ones_like(w)), (0, 0.5, -1, 0)),
    "max ties: the first": max_tie(first),
    "max ties: the last": max_tie(lambda ties: first(ties[::-1])[::-1]),
    "max ties: shared": max_tie(lambda ties: ties / ties.sum()),
    "max ties: shared unequally": max_tie(lambda ties: (w := ties * jnp.arange(1, 5, dtype=ties.dtype)) / w.sum()),
    "maximum of two equals: the first": maximum_tie(1),
    "maximum of two equals: shared": maximum_tie(0.5),
    "maximum of two equals: the second": maximum_tie(0),
    "max pooling of equals: the first": max_pooling_tie(),
}

CASES = {
    **{name: net()(**lines) for name, lines in (RIGHT | RIGHT_OF["tanh"]).items()},
    **dict(
        zip(
            ("gradient from probabilities", "loss from probabilities", "both from probabilities"),
            from_logits(),
            strict=True,
        )
    ),
    "gelu by hand, tanh": entrywise(jax.nn.gelu, gelu_by_tanh, (0.5, -1.25, 2, -0.1)),
    "gelu by hand, erf": entrywise(lambda w: jax.nn.gelu(w, False), gelu_by_erf, (0.5, -1.25, 2, -0.1)),
    "x*8**-0.5": scaled_scores(),
    "dropout with a shared key, x*(1/0.9)": dropout(),
    "0.5*lam*ΣW²/m against lam/m*W": l2_of_the_sum_of_squares(),
    "float32 at width 2048": width_2048(),
    "bf16 products": reduced_products(bf16),
    "TF32 products": reduced_products(tf32),
    "saturated σ, the loss": saturated_logistic(),
    "saturated σ, a layer": saturated_hidden(),
    "loss × 2^40": net(factor=2.0**40)(),
    "loss × 2^-40": net(factor=2.0**-40)(),
    "loss + 1000": plus_1000(),
    "W transposed with matching products": transposed_weights(),
    "activations recomputed by jax.checkpoint in the cost": checkpointed(),
    "activations recomputed by jax.checkpoint in the rule": checkpointed_layer(),
    "jitted": jitted(),
    "one example at a time, vmapped": one_example_at_a_time(),
    "a dead relu layer": dead_relu_layer(),
    "a bias before batch norm": norm(0)[0](),
    "a bias before batch norm, known to be 0": norm(0)[0](db=lambda v: jnp.zeros_like(v.b)),
    "attention's key bias": attention()[0](),
    "attention's key bias, known to be 0": attention()[0](dk=lambda v: jnp.zeros_like(v.k)),
    "soft labels .1/.2/.7, P − y": soft_labels(lambda v: (v.P - v.y) / len(v.x)),
    "soft labels .1/.2/.7, P Σy − y": soft_labels(lambda v: (v.P * v.y.sum(1, keepdims=True) - v.y) / len(v.x)),
    "m = 1": net(m=1)(),
    "a tanh net of 64 layers": deep_tanh(),
    "an RNN of 100 steps": recurrent(steps=100, width=2)[0](),
    **KINKS,
}


# --- Lecture code in plain NumPy --------------------------------------------------------------------------------------


def numpy_case(cost, grad, data, seed=0, **shapes):
    """Parameters of the given shapes, all float64."""
    rng = np.random.default_rng(seed)
    return Case(cost, grad, {name: rng.normal(size=shape) for name, shape in shapes.items()}, data)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def lecture_net(
    dweight=lambda dZ, A, m: 1 / m * np.dot(dZ, A.T), dbias=lambda dZ: np.sum(dZ, axis=1, keepdims=True), power=2
):
    """Two layers, one example a column."""

    def forward(params, X):
        A1 = np.tanh(np.dot(params["W1"], X) + params["b1"])
        return A1, sigmoid(np.dot(params["W2"], A1) + params["b2"])

    def cost(params, X, Y):
        _, A2 = forward(params, X)
        return -1 / X.shape[1] * np.sum(Y * np.log(A2) + (1 - Y) * np.log(1 - A2))

    def grad(params, X, Y):
        m = X.shape[1]
        A1, A2 = forward(params, X)
        dZ2 = A2 - Y
        dZ1 = np.dot(params["W2"].T, dZ2) * (1 - np.power(A1, power))
        return {
            "W1": 1 / m * np.dot(dZ1, X.T),
            "b1": 1 / m * dbias(dZ1),
            "W2": dweight(dZ2, A1, m),
            "b2": 1 / m * np.sum(dZ2, axis=1, keepdims=True),
        }

    rng = np.random.default_rng(1)
    data = rng.normal(size=(2, 3)), np.array([[0, 1, 1]])  # as many examples as hidden units: the wrong axis fits
    return numpy_case(cost, grad, data, W1=(3, 2), b1=(3, 1), W2=(1, 3), b2=(1, 1))


def logistic_regression(divide=True):
    def cost(params, X, y):
        return np.mean(np.log(1 + np.exp(-(2 * y - 1) * (X @ params["w"] + params["b"]))))

    def grad(params, X, y):
        e = (sigmoid(X @ params["w"] + params["b"]) - y) / (len(y) if divide else 1)
        return {"w": X.T @ e, "b": np.sum(e, keepdims=True)}

    rng = np.random.default_rng(2)
    return numpy_case(cost, grad, (rng.normal(size=(5, 3)), np.array([0, 1, 1, 0, 1])), w=3, b=1)


def relu_net(use=lambda Z: Z > 0):
    """np.maximum, a stable softmax, np.einsum."""

    def forward(params, X):
        Z1 = np.einsum("mj,ij->mi", X, params["W1"]) + params["b1"]
        Z2 = np.einsum("mj,ij->mi", np.maximum(0, Z1), params["W2"])
        e = np.exp(Z2 - np.max(Z2, axis=1, keepdims=True))
        return Z1, e / np.sum(e, axis=1, keepdims=True)

    def cost(params, X, y):
        return -np.mean(np.log(forward(params, X)[1][np.arange(len(y)), y]))

    def grad(params, X, y):
        Z1, P = forward(params, X)
        dZ2 = P.copy()
        dZ2[np.arange(len(y)), y] -= 1
        dZ2 /= len(y)
        dZ1 = np.einsum("mi,ij->mj", dZ2, params["W2"]) * use(Z1)
        return {
            "W1": np.einsum("mi,mj->ij", dZ1, X),
            "b1": dZ1.sum(axis=0),
            "W2": np.einsum("mi,mj->ij", dZ2, np.maximum(0, Z1)),
        }

    rng = np.random.default_rng(3)
    return numpy_case(cost, grad, (rng.normal(size=(4, 2)), np.array([0, 2, 1, 1])), W1=(3, 2), b1=3, W2=(3, 3))


def loop_over_examples(outer=np.outer):
    def cost(params, X, T):
        J = 0.0
        for x, t in zip(X, T, strict=True):
            J += np.sum((np.tanh(params["W"].dot(x) + params["b"]) - t) ** 2) / 2
        return J / len(X)

    def grad(params, X, T):
        dW, db = np.zeros(params["W"].shape), np.zeros_like(params["b"])
        for x, t in zip(X, T, strict=True):
            a = np.tanh(params["W"].dot(x) + params["b"])
            dz = (a - t) * (1 - a * a)
            dW += outer(dz, x)
            db += dz
        return {"W": dW / len(X), "b": db / len(X)}

    rng = np.random.default_rng(4)
    return numpy_case(cost, grad, (rng.normal(size=(4, 3)), rng.normal(size=(4, 3))), W=(3, 3), b=3)


PLAIN_NUMPY = {
    "two layers, one example a column": (lecture_net(), True),
    "two layers: 1/m missing in one leaf": (lecture_net(lambda dZ2, A1, m: np.dot(dZ2, A1.T)), False),
    "two layers: bias summed over the wrong axis": (
        lecture_net(dbias=lambda dZ: np.sum(dZ, axis=0, keepdims=True).T),
        False,
    ),
    "two layers: 1 − a for 1 − a²": (lecture_net(power=1), False),
    "logistic regression": (logistic_regression(), True),
    "logistic regression: 1/m missing": (logistic_regression(divide=False), False),
    "relu net by einsum": (relu_net(), True),
    "relu net: the function for its derivative": (relu_net(lambda Z: np.maximum(0, Z)), False),
    "a loop over the examples": (loop_over_examples(), True),
    "a loop over the examples: outer product transposed": (loop_over_examples(lambda a, b: np.outer(b, a)), False),
}
