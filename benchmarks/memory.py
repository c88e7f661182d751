"""Peak temporary memory of a step's value and gradient, as the compiler plans it: nothing is run.

By hand, as a `Repeat` and as a `Chain`, against `jax.grad` of the cost of the same layers, as the same scan and layer
by layer; the goals are a share of the last, which is what a user has. Recomputed: of n layers the inputs of √n blocks
of √n are saved.
"""

from dataclasses import dataclass
from math import isqrt
from typing import Any

import jax
from jax import numpy as jnp

from benchmarks.measuring import Contender, Row, told
from jaxnn import Activation, Chain, Dense, HalfSquaredError, Repeat, backprop

SCANNED, UNROLLED, CHECKPOINTED = "jax.grad, same scan", "jax.grad, layer by layer", "jax.grad, jax.checkpoint"
CHAIN = "ours, as a Chain"


def block(width, activation):
    return Chain((Dense(width, width), Activation(activation)))


def by_hand(model):
    return backprop.value_and_grad(model, HalfSquaredError())


def by_grad(model):
    return jax.value_and_grad(backprop.cost(model, HalfSquaredError()))


@dataclass(frozen=True)
class Checkpointed:
    """A layer of which autodiff saves its input alone."""

    layer: Any

    def init(self, key, dtype=jnp.float32):
        return self.layer.init(key, dtype)

    def forward(self, params, x, key=None):
        return jax.checkpoint(self.layer.apply)(params, x), ()


def compiled(gradient, model, width, m):
    params = jax.eval_shape(model.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((m, width), jnp.float32)
    return jax.jit(lambda *args: gradient(model)(*args)).lower(params, x, x).compile()


def mebibytes(gradient, model, width, m):
    return Contender(lambda: compiled(gradient, model, width, m).memory_analysis().temp_size_in_bytes / 2**20)


def row(width, n, m, activation, share, recompute=False):
    def contenders():
        layer, k = block(width, activation), isqrt(n)
        model = Repeat(Chain((layer,) * k), n // k, recompute=True) if recompute else Repeat(layer, n)
        found = {
            "ours": mebibytes(by_hand, model, width, m),
            SCANNED: mebibytes(by_grad, Repeat(layer, n), width, m),
            UNROLLED: mebibytes(by_grad, Chain((layer,) * n), width, m),
        }
        if recompute:
            found[CHECKPOINTED] = mebibytes(by_grad, Repeat(Checkpointed(Chain((layer,) * k)), n // k), width, m)
        else:
            found[CHAIN] = mebibytes(by_hand, Chain((layer,) * n), width, m)
        return found

    name = f"memory, {width} × {n}, batch {m}, {activation}{', recomputed' if recompute else ''}"
    return Row(name, contenders, ratios={UNROLLED: 1 / share}, figure=told, unit="MiB")


def rows():
    for width, n, m in ((1024, 16, 4096), (256, 64, 512)):
        yield row(width, n, m, "relu", 0.65)
        yield row(width, n, m, "tanh", 1.0)
        yield row(width, n, m, "tanh", 0.6, recompute=True)
