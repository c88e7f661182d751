"""Peak temporary memory of a step's value and gradient, as the compiler plans it: nothing is run.

By hand, as a `Repeat` and as a `Chain`, against `jax.grad` of the cost of the same layers, as the same scan and layer
by layer; the goals are a share of the last, which is what a user has. Recomputed: of n layers the inputs of √n blocks
of √n are saved.

And the peak of a process that trains on many rows, less that of one with ten, over what its caller holds.
"""

import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from math import isqrt
from typing import Any

import jax
from jax import numpy as jnp

from benchmarks.measuring import Contender, Row, told
from jaxnn import Activation, Chain, Dense, HalfSquaredError, Repeat, backprop

SCANNED, UNROLLED, CHECKPOINTED = "jax.grad, same scan", "jax.grad, layer by layer", "jax.grad, jax.checkpoint"
CHAIN = "ours, as a Chain"
CALLERS = "the caller's arrays"
TRAINING = """
import sys
import jax, numpy as np
from jaxnn import Dense, SigmoidCrossEntropy, fit
m, batch_size, dtype = int(sys.argv[1]), int(sys.argv[2]) or None, sys.argv[3]
x, y = np.zeros((m, 30), dtype), np.zeros((m, 1), np.float32)
x[:], y[::2] = np.arange(30) / 30, 1
arguments = {"key": jax.random.key(0), "epochs": 2, "batch_size": batch_size, "dtype": "float32"}
fit(Dense(30, 1), SigmoidCrossEntropy(), x, y, **arguments)
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak) / 1024)
"""


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


@cache
def peak(m, batch_size, dtype):
    """MiB of a process that trains on so many rows. Linux alone says so."""
    arguments = [sys.executable, "-c", TRAINING, str(m), str(batch_size), dtype]
    return float(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)


def data_row(m, batch_size, dtype, share):
    def contenders():
        held = m * (30 * (8 if dtype == "float64" else 4) + 4) / 2**20
        return {
            "ours": Contender(lambda: peak(m, batch_size, dtype) - peak(10, min(batch_size, 5), dtype)),
            CALLERS: Contender(lambda: held),
        }

    name = f"memory of fit, {m:,} × 30 in {dtype}, {f'batch {batch_size}' if batch_size else 'whole'}"
    return Row(name, contenders, ratios={CALLERS: 1 / share}, figure=told, unit="MiB")


def rows():
    for width, n, m in ((1024, 16, 4096), (256, 64, 512)):
        yield row(width, n, m, "relu", 0.65)
        yield row(width, n, m, "tanh", 1.0)
        yield row(width, n, m, "tanh", 0.6, recompute=True)
    for dtype, share in (("float32", 1.2), ("float64", 1.6)):
        yield data_row(2_000_000, 256, dtype, share)
        yield data_row(2_000_000, 0, dtype, share)
    yield data_row(12_500_000, 1024, "float32", 1.2)
