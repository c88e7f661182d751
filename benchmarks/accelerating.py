"""One GPU or TPU: every rule checked there, the training rows, a wide one in bfloat16, and the memory rows."""

import functools
import runpy
import time
from functools import partial
from pathlib import Path

import jax

from benchmarks import memory, peers, training
from benchmarks.measuring import Contender, Row, Wrong, told
from benchmarks.training import BY_GRAD, PRODUCTS, REPEATED, Training, repeated, row
from jaxnn import HalfSquaredError

GRAPH = "PyTorch, CUDA graph"
PEERS = {GRAPH: partial(peers.pytorch, device="cuda", graph=True)}
WIDEST = Training((8192,) * 9, "relu", HalfSquaredError(), 32_768, 8192, 1, learning_rate=0.01, dtype="bfloat16")


def at_hand():
    """The GPU or TPU that JAX finds here, else None."""
    device = jax.devices()[0]
    return None if device.platform == "cpu" else device


@functools.cache
def rules():
    """scripts/accelerator, once: its seconds."""
    start = time.perf_counter()
    if runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "accelerator"))["main"]():
        raise Wrong("a rule, or the training, is wrong on this device: see above")
    return time.perf_counter() - start


def rows():
    yield Row("every rule, float32 and bfloat16, and a training", lambda: {"ours": Contender(rules)}, figure=told)
    yield row("784–30–10, batch 10, epochs of 50,000", training.NIELSEN, PEERS, **{GRAPH: 1})
    yield row("30–8–1, batch 32", training.SMALL, {})
    yield row("12288–7–1, all 209 examples", training.CATS, {})
    yield row("784–512–512–10, tanh, batch 128", training.MIDDLE, {})
    yield row("1024 wide × 8, batch 1024", training.WIDE, {REPEATED: repeated})
    yield row("8192 wide × 8, batch 8192, bfloat16", WIDEST, {REPEATED: repeated}, **{BY_GRAD: 1, PRODUCTS: 0.85})
    yield from training.many()
    yield from memory.rows()
