"""The same training run as each peer does it best: functions training -> job, and the job gives its costs.

Who is not installed raises `ModuleNotFoundError`.
"""

import os
import shutil
import time
import warnings
from functools import partial
from itertools import chain, pairwise

import jax
import numpy as np
import optax
from jax import numpy as jnp

from jaxnn import HalfSquaredError, SoftmaxCrossEntropy

# NumPy: vectorised by hand, every array made once and then written in place


def sigmoid(z, out):
    np.negative(z, out=out)
    np.exp(out, out=out)
    out += 1
    np.reciprocal(out, out=out)


ACTIVATE = {
    "identity": lambda z: None,
    "sigmoid": lambda z: sigmoid(z, z),
    "tanh": lambda z: np.tanh(z, out=z),
    "relu": lambda z: np.maximum(z, 0, out=z),
}


def times_slope(activation, a, da):
    """∂J/∂z in place of ∂J/∂a."""
    if activation == "sigmoid":
        da *= a
        da *= 1 - a
    elif activation == "tanh":
        da *= 1 - a * a
    elif activation == "relu":
        da *= a > 0


def cost_and_dz(loss, z, y, dz):
    """J; and ∂J/∂z, written into `dz`."""
    m = len(z)
    if isinstance(loss, HalfSquaredError):
        np.subtract(z, y, out=dz)
        J = np.vdot(dz, dz) / (2 * m)
    elif isinstance(loss, SoftmaxCrossEntropy):
        rows = np.arange(m)
        np.subtract(z, z.max(1, keepdims=True), out=dz)
        right = dz[rows, y]
        np.exp(dz, out=dz)
        total = dz.sum(1, keepdims=True)
        J = (np.log(total[:, 0]) - right).mean()
        dz /= total
        dz[rows, y] -= 1
    else:
        J = (np.logaddexp(0, z) - y * z).mean()
        sigmoid(z, dz)
        dz -= y
    dz /= m
    return J


def numpy(training):
    x, y = training.data
    m, n = training.batch_size, len(training.sizes) - 1
    activations = [training.activation] * (n - 1) + [training.output]
    a = [np.empty((m, size), np.float32) for size in training.sizes]
    da = [np.empty_like(v) for v in a]
    y_batch = np.empty((m, *y.shape[1:]), y.dtype)
    grads = [(np.empty_like(W), np.empty_like(b)) for W, b in training.weights()]

    def job():
        weights, costs = training.weights(), np.empty(training.peer_steps, np.float32)
        for step in range(len(costs)):
            if training.batches is None:
                a[0], batch = x, y
            else:
                np.take(x, training.batches[step], axis=0, out=a[0], mode="clip")
                batch = np.take(y, training.batches[step], axis=0, out=y_batch, mode="clip")
            for i, (W, b) in enumerate(weights):
                np.matmul(a[i], W.T, out=a[i + 1])
                a[i + 1] += b
                ACTIVATE[activations[i]](a[i + 1])
            costs[step] = cost_and_dz(training.loss, a[n], batch, da[n])
            times_slope(training.output, a[n], da[n])
            for i in reversed(range(n)):
                (W, b), (dW, db) = weights[i], grads[i]
                np.matmul(da[i + 1].T, a[i], out=dW)
                np.sum(da[i + 1], axis=0, out=db)
                if i:
                    np.matmul(da[i + 1], W, out=da[i])
                    times_slope(activations[i - 1], a[i], da[i])
                dW *= training.learning_rate
                db *= training.learning_rate
                W -= dW
                b -= db
        return costs

    return job


# scikit-learn


def scikit_learn(training):
    """Its own loop over batches; not its shuffle: each epoch is given the rows in order. It tells means of epochs."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.neural_network._base import DERIVATIVES

    class SigmoidAtTheEnd(MLPRegressor):
        """scikit-learn has none before its squared error: this is its g′."""

        def _initialize(self, *args):
            super()._initialize(*args)
            self.out_activation_ = "logistic"

        def _compute_loss_grad(self, layer, sw_sum, activations, deltas, *grads):
            if layer == self.n_layers_ - 2:
                DERIVATIVES["logistic"](activations[-1], deltas[layer])
            super()._compute_loss_grad(layer, sw_sum, activations, deltas, *grads)

    squared, (x, y) = isinstance(training.loss, HalfSquaredError), training.data
    y = y if squared else y.ravel().astype(int)
    MLP = (SigmoidAtTheEnd if training.output == "sigmoid" else MLPRegressor) if squared else MLPClassifier
    all_at_once = training.batches is None  # `fit` then looks at the data once for all epochs
    net = MLP(
        hidden_layer_sizes=training.sizes[1:-1],
        activation={"sigmoid": "logistic"}.get(training.activation, training.activation),
        solver="sgd", alpha=0, momentum=0, nesterovs_momentum=False, learning_rate_init=training.learning_rate,
        batch_size=training.batch_size, shuffle=False, tol=0, n_iter_no_change=10**9, warm_start=True,
        max_iter=training.peer_epochs if all_at_once else 1,
    )  # fmt: skip
    of_outputs = training.sizes[-1] if squared else 1  # its squared error is a mean over the outputs too

    def fit(x, y):
        with warnings.catch_warnings(action="ignore"):  # that it has not converged
            net.fit(x, y)

    fit(x, y)  # makes its attributes

    def job():
        net.coefs_, net.intercepts_ = ([v.T.copy() for v in vs] for vs in zip(*training.weights(), strict=True))
        net.loss_curve_ = []
        if all_at_once:
            fit(x, y)
        else:
            for order in training.batches.reshape(training.peer_epochs, -1):
                fit(x[order], y[order])
        return np.array(net.loss_curve_) * of_outputs

    return job


# PyTorch


def pytorch(training, compiled=False, device="cpu", graph=False):
    """A step on tensors that are changed in place, without a DataLoader's and an optimiser's own work.

    `compiled`: gather, forward, backward and update are one program of torch.compile. `graph`: it is one CUDA graph.
    On one thread or on all cores, whichever turns out faster: for small arrays that is one.
    """
    import torch
    from torch.nn import functional as F

    if compiled and not (shutil.which("g++") or shutil.which("clang++")):
        raise ModuleNotFoundError(name="a C++ compiler")
    if device == "cuda" and not torch.cuda.is_available():
        raise ModuleNotFoundError(name="PyTorch for CUDA")
    torch._dynamo.reset()  # it gives up after eight programs from the same lines
    torch.set_float32_matmul_precision("highest" if device == "cpu" else "high")  # as JAX does
    x, y = (torch.tensor(v, device=device) for v in training.data)
    y = y.long() if isinstance(training.loss, SoftmaxCrossEntropy) else y
    params = [
        torch.empty(v.shape, device=device, requires_grad=not compiled) for v in chain.from_iterable(training.weights())
    ]
    batches = None if training.batches is None else torch.tensor(training.batches, device=device)
    g = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu, "identity": lambda z: z}

    def cost(params, x, y):
        for i in range(0, len(params) - 2, 2):
            x = g[training.activation](F.linear(x, params[i], params[i + 1]))
        z = g[training.output](F.linear(x, params[-2], params[-1]))
        if isinstance(training.loss, HalfSquaredError):
            return ((z - y) ** 2).sum() / (2 * len(y))
        if isinstance(training.loss, SoftmaxCrossEntropy):
            return F.cross_entropy(z, y)
        return F.binary_cross_entropy_with_logits(z, y)

    def step(rows):
        batch = (x, y) if rows is None else (x.index_select(0, rows), y.index_select(0, rows))
        if compiled:
            grads, J = torch.func.grad_and_value(cost)(params, *batch)
        else:
            J = cost(params, *batch)
            grads = torch.autograd.grad(J, params)
        with torch.no_grad():
            torch._foreach_add_(params, grads, alpha=-training.learning_rate)
        return J.detach()

    if compiled:
        step = torch.compile(step, dynamic=False)
    if graph and batches is not None:
        step = captured(step, batches[0].clone())

    def job():
        with torch.no_grad():
            for v, start in zip(params, chain.from_iterable(training.weights()), strict=True):
                v.copy_(torch.from_numpy(start))
        rows = [None] * training.peer_steps if batches is None else batches.unbind()
        return torch.stack([step(i) for i in rows]).cpu().numpy()

    def seconds(threads):
        torch.set_num_threads(threads)
        job()  # which compiles, for so many
        start = time.perf_counter()
        job()
        return time.perf_counter() - start

    threads = min({1, os.cpu_count()}, key=seconds)

    def on_threads():
        torch.set_num_threads(threads)
        return job()

    return on_threads


def captured(step, rows):
    """`step` as one CUDA graph, which reads the row numbers where they were when it was captured."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(rows)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        J = step(rows)

    def replay(new):
        rows.copy_(new)
        graph.replay()
        return J.clone()

    return replay


# Flax and Equinox, with optax: a Python loop over a jitted step


def jitted_loop(training, state, update):
    """update(state, x, y) -> (state, J). The step gathers its rows; its number and the costs stay on the device."""
    x, y, batches = jax.tree.map(jnp.asarray, (*training.data, training.batches))

    @partial(jax.jit, donate_argnums=0)
    def step(carry, x, y, batches):
        i, state, costs = carry
        batch = (x, y) if batches is None else (x[batches[i]], y[batches[i]])
        state, J = update(state, *batch)
        return i + 1, state, costs.at[i].set(J)

    def job():
        carry = jax.tree.map(jnp.copy, (jnp.array(0), state, jnp.zeros(training.peer_steps)))
        for _ in range(training.peer_steps):
            carry = step(carry, x, y, batches)
        return np.asarray(carry[2])

    return job


def optax_cost(loss, z, y):
    if isinstance(loss, HalfSquaredError):
        return optax.l2_loss(z, y).sum(-1).mean()
    if isinstance(loss, SoftmaxCrossEntropy):
        return optax.softmax_cross_entropy_with_integer_labels(z, y).mean()
    return optax.sigmoid_binary_cross_entropy(z, y).mean()


def outputs(training, layers, x):
    g = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu, "identity": lambda z: z}
    for layer in layers[:-1]:
        x = g[training.activation](layer(x))
    return g[training.output](layers[-1](x))


def flax_nnx(training):
    """Split once and merged inside the step, as its guide to performance says, not `nnx.jit`."""
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self):
            sizes = pairwise(training.sizes)
            self.layers = nnx.List([nnx.Linear(n_in, n_out, rngs=nnx.Rngs(0)) for n_in, n_out in sizes])
            for layer, (W, b) in zip(self.layers, training.weights(), strict=True):
                layer.kernel, layer.bias = nnx.Param(jnp.asarray(W.T)), nnx.Param(jnp.asarray(b))

    def cost(net, x, y):
        return optax_cost(training.loss, outputs(training, net.layers, x), y)

    net = Net()
    graph, state = nnx.split((net, nnx.Optimizer(net, optax.sgd(training.learning_rate), wrt=nnx.Param)))

    def update(state, x, y):
        net, optimizer = nnx.merge(graph, state)
        J, grads = nnx.value_and_grad(cost)(net, x, y)
        optimizer.update(net, grads)
        return nnx.state((net, optimizer)), J

    return jitted_loop(training, state, update)


def equinox(training):
    import equinox as eqx

    layers = [eqx.nn.Linear(*sizes, key=jax.random.key(0)) for sizes in pairwise(training.sizes)]

    def leaves(layers):
        return [*chain.from_iterable((layer.weight, layer.bias) for layer in layers)]

    layers = eqx.tree_at(leaves, layers, [jnp.asarray(v) for v in chain.from_iterable(training.weights())])
    arrays, static = eqx.partition(layers, eqx.is_array)
    optimizer = optax.sgd(training.learning_rate)

    def cost(arrays, x, y):
        layers = eqx.combine(arrays, static)
        return optax_cost(training.loss, jax.vmap(lambda x: outputs(training, layers, x))(x), y)

    def update(state, x, y):
        arrays, opt_state = state
        J, grads = jax.value_and_grad(cost)(arrays, x, y)
        updates, opt_state = optimizer.update(grads, opt_state, arrays)
        return (eqx.apply_updates(arrays, updates), opt_state), J

    return jitted_loop(training, (arrays, optimizer.init(arrays)), update)


# Keras


def keras_on_jax(training):
    """`fit` as it is compiled by default, several steps to a call. It tells means of epochs."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    x, y = training.data
    net = keras.Sequential([keras.Input(training.sizes[:1])])
    for n in training.sizes[1:-1]:
        net.add(keras.layers.Dense(n, training.activation))
    net.add(keras.layers.Dense(training.sizes[-1], {"identity": None}.get(training.output, training.output)))
    if isinstance(training.loss, HalfSquaredError):

        def loss(y, z):
            return keras.ops.sum((z - y) ** 2, -1) / 2

    elif isinstance(training.loss, SoftmaxCrossEntropy):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    else:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
    steps = training.m // training.batch_size
    net.compile(keras.optimizers.SGD(training.learning_rate), loss, steps_per_execution=min(steps, 10))

    def fit(x, y, epochs=1):
        run = net.fit(x, y, epochs=epochs, batch_size=training.batch_size, shuffle=False, verbose=0)
        return run.history["loss"]

    def job():
        net.set_weights([*chain.from_iterable((W.T, b) for W, b in training.weights())])
        if training.batches is None:
            return np.array(fit(x, y, training.peer_epochs))
        orders = training.batches.reshape(training.peer_epochs, -1)
        return np.concatenate([fit(x[order], y[order]) for order in orders])

    return job
