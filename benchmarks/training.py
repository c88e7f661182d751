"""One training run for all: the same data, first weights, order of examples and learning rate, in float32.

Ours is `jaxnn.fit` as anybody calls it: placing the data, drawing each epoch's order, and the history are in its
time. Its first peer is `jax.grad` of the same cost in the very same scan. The other peers have their data placed
beforehand and are told the order, but gather the rows themselves. All give the cost of each step before its update, or
the mean over each epoch where that is all they tell: a contender whose costs are not ours is an error.

A figure is of one step. A peer runs the first epochs only.
"""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any
from unittest import mock

import jax
import numpy as np
import optax
from jax import lax
from jax import numpy as jnp

from benchmarks import peers
from benchmarks.measuring import Contender, Row, Wrong
from jaxnn import (
    Activation,
    Chain,
    Dense,
    HalfSquaredError,
    Repeat,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
    backprop,
    fit,
    sweep,
)
from jaxnn.layers.dense import Params
from jaxnn.models.perceptron import perceptron
from jaxnn.training.feed import shuffled

BY_GRAD, PRODUCTS, REPEATED = "jax.grad, same scan", "the matrix products alone", "ours, with Repeat"
PEERS = {
    "NumPy": peers.numpy,
    "scikit-learn": peers.scikit_learn,
    "PyTorch": peers.pytorch,
    "PyTorch, compiled": partial(peers.pytorch, compiled=True),
    "Flax NNX + optax, jitted step": peers.flax_nnx,
    "Keras on JAX": peers.keras_on_jax,
    "Equinox + optax, jitted step": peers.equinox,
}


@dataclass(frozen=True)
class Training:
    """A network of dense layers with one activation between them, and how it is trained on m examples."""

    sizes: tuple[int, ...]
    activation: str
    loss: Any
    m: int
    batch_size: int
    epochs: int  # of ours
    peer_epochs: int = 1
    learning_rate: float = 0.1
    output: str = "identity"  # the activation of the last layer
    dtype: str = "float32"  # to compute in
    seed: int = 0

    @property
    def key(self):
        return jax.random.key(self.seed)

    @cached_property
    def model(self):
        network = perceptron(self.sizes, self.activation)
        return network if self.output == "identity" else Chain((*network.layers, Activation(self.output)))

    @cached_property
    def data(self):
        """x from 0 to 1, mostly 0 like an image's; y as a fixed linear rule says, with an error in one of ten."""
        draw = np.random.default_rng(self.seed)
        n_in, n_out = self.sizes[0], self.sizes[-1]
        x = draw.random((self.m, n_in), np.float32) * (draw.random((self.m, n_in), np.float32) < 0.25)
        z = (x - x.mean(0)) @ draw.standard_normal((n_in, max(2, n_out)), np.float32)
        labels = np.where(draw.random(self.m) < 0.1, draw.integers(0, z.shape[1], self.m), z.argmax(1))
        if isinstance(self.loss, HalfSquaredError):
            return x, np.eye(n_out, dtype=np.float32)[labels]
        return x, labels[:, None].astype(np.float32) if n_out == 1 else labels.astype(np.int32)

    @cached_property
    def params(self):
        """Where `fit` starts."""
        return jax.device_get(self.model.init(jax.random.split(self.key)[0]))

    def weights(self):
        """[(W, b), …] of the dense layers: copies, to change in place."""
        return [(p.W.copy(), p.b.copy()) for p in self.params if p]

    @cached_property
    def batches(self):
        """(steps, batch_size): the row numbers of a peer's epochs, in the order that `fit` draws; None for all rows."""
        if self.batch_size == self.m:
            return None
        order = shuffled(jax.random.split(self.key)[1], self.m)
        return np.concatenate([order(epoch) for epoch in range(self.peer_epochs)]).reshape(-1, self.batch_size)

    @property
    def peer_steps(self):
        return self.peer_epochs * self.m // self.batch_size

    def agree(self, ours, theirs):
        ours, theirs = ours[: self.peer_steps], theirs[: self.peer_steps]
        if len(theirs) == self.peer_epochs:
            ours = ours.reshape(self.peer_epochs, -1).mean(1)
        apart = np.abs(theirs - ours).max() / ours.max() if theirs.shape == ours.shape else np.inf
        exact = self.dtype == "float32" and jax.default_backend() == "cpu"  # a GPU multiplies in TF32
        if not apart < (1e-4 if exact else 5e-2):
            raise Wrong(f"its costs are not ours: {theirs[:3]} … {theirs[-1]}, ours {ours[:3]} … {ours[-1]}")

    def contenders(self, others=PEERS):
        steps = self.epochs * self.m // self.batch_size
        found: dict[str, Contender | str] = {
            "ours": Contender(ours(self), steps),
            BY_GRAD: Contender(by_grad(self), steps),
        }
        for name, peer in others.items():
            try:
                found[name] = Contender(peer(self), self.peer_steps)
            except ModuleNotFoundError as error:
                found[name] = f"{error.name} is not installed"
        scan, x = products(self)
        return found | {PRODUCTS: Contender(lambda: jax.block_until_ready(scan(x)) and None, len(x))}


def ours(training, model=None, params=None):
    x, y = training.data
    optimizer = optax.sgd(training.learning_rate)  # one of its own, so `fit` compiles anew for each contender

    def job():
        run = fit(
            model or training.model, training.loss, x, y, key=training.key, params=params or training.params,
            optimizer=optimizer, epochs=training.epochs, batch_size=training.batch_size, dtype=training.dtype,
        )  # fmt: skip
        return run.history.iteration_cost

    return job


def repeated(training):
    """Ours with the equal layers in one `Repeat`."""
    *equal, last = [Params(*p) for p in training.weights()]
    width, n_out = training.sizes[-2:]
    block = Chain((Dense(width, width), Activation(training.activation)))
    model = Chain((Repeat(block, len(equal)), Dense(width, n_out)))
    return ours(training, model, ((jax.tree.map(lambda *v: np.stack(v), *equal), ()), last))


def autodiff(model, loss, penalty=None, has_aux=False):
    """In place of `backprop.value_and_grad`: autodiff of the same cost, and the same residuals beside it."""

    def J(params, x, y, w=None, key=None):
        z, residuals = model.forward(params, x, key)
        J, _ = loss.forward(z, y, w)
        return (J, residuals) if has_aux else J

    return jax.value_and_grad(J, has_aux=has_aux)


def by_grad(training, ours=ours):
    job = ours(training)

    def replaced():
        with mock.patch.object(backprop, "value_and_grad", autodiff):
            return job()

    return replaced


def products(training, steps=500):
    """(scan, x). The matrix rate: the products of a step, x Wᵀ, dzᵀ x and dz W of each layer, and nothing else."""
    Ws = [jnp.asarray(W, training.dtype) for W, _ in training.weights()]
    steps = min(steps, training.m // training.batch_size)
    x = jnp.asarray(training.data[0][: steps * training.batch_size], training.dtype)

    def step(_, x):
        inputs = [x]
        for W in Ws:
            inputs.append(inputs[-1] @ W.T)
        dz, dWs = inputs.pop(), []
        for W, x in zip(reversed(Ws), reversed(inputs), strict=True):
            dWs.append(dz.T @ x)
            dz = dz @ W  # but of the first layer, where nobody asks for it
        return dWs[::-1], None

    return jax.jit(lambda x: lax.scan(step, Ws, x)[0]), x.reshape(steps, training.batch_size, -1)


NIELSEN = Training((784, 30, 10), "sigmoid", HalfSquaredError(), 50_000, 10, 30, output="sigmoid", learning_rate=3.0)
SMALL = Training((30, 8, 1), "relu", SigmoidCrossEntropy(), 4096, 32, 100, 4)
CATS = Training((12_288, 7, 1), "relu", SigmoidCrossEntropy(), 209, 209, 200, 100, learning_rate=0.0075)
# tanh: with ReLU a rounding that carries one z over 0 can grow, in 80 steps, to 1 % of a cost
MIDDLE = Training((784, 512, 512, 10), "tanh", SoftmaxCrossEntropy(), 10_240, 128, 2)
WIDE = Training((1024,) * 9, "relu", HalfSquaredError(), 4096, 1024, 3, 3, learning_rate=0.01)


def both(least):
    """A goal against PyTorch holds for the better of its two forms."""
    return {"PyTorch": least, "PyTorch, compiled": least}


def row(name, training, others=PEERS, **goals):
    return Row(f"{name}, a step", partial(training.contenders, others), agree=training.agree, ratios=goals)


def rows():
    flax = "Flax NNX + optax, jitted step"
    goals = {**both(13), "scikit-learn": 10, "NumPy": 3.2, flax: 4}
    yield row("784–30–10, batch 10, epochs of 50,000", NIELSEN, **goals)
    yield row("30–8–1, batch 32", SMALL, **{"scikit-learn": 50}, **both(40))
    yield row("12288–7–1, all 209 examples", CATS, **both(2), NumPy=1.5)
    yield row("784–512–512–10, tanh, batch 128", MIDDLE, **both(2), **{"scikit-learn": 2, PRODUCTS: 0.8})
    yield row("1024 wide × 8, batch 1024", WIDE, {REPEATED: repeated} | PEERS, **{BY_GRAD: 1, PRODUCTS: 0.9})
    yield from many()


# Many networks at once


def swept(training, n, epochs):
    """`sweep` of n networks with seeds 0 to n − 1: the costs of the one with seed 0."""
    x, y = training.data
    keys = jax.vmap(jax.random.key)(jnp.arange(n))

    def optimizer(rate):  # one of its own, as in `ours`
        return optax.sgd(rate)

    def job():
        found = sweep(
            training.model, training.loss, x, y, keys=keys, learning_rates=training.learning_rate, epochs=epochs,
            batch_size=training.batch_size, optimizer=optimizer,
        )  # fmt: skip
        return found[0].history.iteration_cost

    return job


def many(training=SMALL, n=256, epochs=8):
    """n networks at once, against one at a time."""
    cases = n * epochs * training.m // training.batch_size

    def contenders():
        one = training.contenders({"scikit-learn": peers.scikit_learn})
        at_once = partial(swept, n=n, epochs=epochs)
        return {
            "ours": Contender(at_once(training), cases),
            BY_GRAD: Contender(by_grad(training, at_once), cases),
            "ours, one by one": one["ours"],
            "scikit-learn": one["scikit-learn"],
        }

    goals = {"scikit-learn": 60, "ours, one by one": 1}
    yield Row(f"{n} networks 30–8–1 at once, batch 32, a step of one", contenders, ratios=goals, agree=training.agree)
