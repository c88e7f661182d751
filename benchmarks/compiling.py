"""Compile time, tracing included, of the value and gradient of n equal layers: by hand against `jax.grad` of them."""

from benchmarks.measuring import Contender, Row
from benchmarks.memory import SCANNED, block, by_grad, by_hand, compiled
from jaxnn import Repeat

FEWER = "ours, 64 layers"


def compilation(gradient, n, width=64, m=32):
    model = Repeat(block(width, "relu"), n)
    return Contender(lambda: compiled(gradient, model, width, m) and None)


def contenders(n):
    return {"ours": compilation(by_hand, n), SCANNED: compilation(by_grad, n)}


def rows():
    goals = {SCANNED: 1 / 0.8}
    yield Row("compile time, 64 equal layers", lambda: contenders(64), ratios=goals)
    goals = goals | {FEWER: 0.9}  # as long as more of them: flat in depth
    yield Row(
        "compile time, 256 equal layers", lambda: contenders(256) | {FEWER: compilation(by_hand, 64)}, ratios=goals
    )
