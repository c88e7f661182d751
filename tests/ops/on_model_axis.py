"""Run by test_on_devices.py in a process of its own, with 4 devices: arrays split along units, heads, width or classes,
in Auto and Explicit, beside the same on one device: equal, and of the largest product each device has its share. Prints
for each a line of JSON: name, mode, and what went wrong.
"""

import json
import re

import jax
import numpy as np
import witnesses
from compiled import largest_product
from jax import numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnn import Dense, ops
from jaxnn.layers.dense import Params

N = 4
draw = np.random.default_rng(0).normal
LABELS = jnp.array([1, 5, 5, 7])
COLUMNS, HEADS = P(None, "model"), P(None, None, "model")


def of_dense(x, W, b):
    z, residuals = Dense(8, 12).forward(Params(W, b), x)
    return Dense(8, 12).backward(residuals, jnp.sin(z))


def of_attention(q, k, v):
    return jnp.sin(ops.attention(q, k, v, causal=True, block=2)[0]).sum()


CASES = {  # name: (gradients, their arrays, how these are split)
    "dense, by units": (
        of_dense,
        (draw(size=(3, 8)), draw(size=(12, 8)), draw(size=12)),
        (P(), P("model"), P("model")),
    ),
    "dense, by inputs": (of_dense, (draw(size=(3, 8)), draw(size=(12, 8)), draw(size=12)), (COLUMNS, COLUMNS, P())),
    "attention, by heads": (
        jax.grad(of_attention, (0, 1, 2)),
        (draw(size=(2, 5, 8, 3)), draw(size=(2, 5, 4, 3)), draw(size=(2, 5, 4, 3))),
        (HEADS, HEADS, HEADS),
    ),
    "embedding, by vocabulary": (
        jax.grad(lambda W: jnp.sin(ops.embedding(W, LABELS)).sum()),
        (draw(size=(8, 3)),),
        (P("model"),),
    ),
    "embedding, by width": (
        jax.grad(lambda W: jnp.sin(ops.embedding(W, LABELS)).sum()),
        (draw(size=(8, 4)),),
        (COLUMNS,),
    ),
    "the fused loss, by vocabulary": (
        jax.grad(lambda h, W: ops.linear_cross_entropy(h, W, LABELS, chunk=2), (0, 1)),
        (draw(size=(4, 3)), draw(size=(8, 3))),
        (P(), P("model")),
    ),
}


def problem(gradients, arrays, specs, kind):
    """What is wrong; "" if nothing is."""
    alone = jax.jit(gradients)(*arrays)
    mesh = jax.make_mesh((N,), ("model",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        placed = [jax.device_put(v, NamedSharding(mesh, spec)) for v, spec in zip(arrays, specs, strict=True)]
        program = jax.jit(gradients).lower(*placed).compile()
        found = program(*placed)
    moved = re.findall(r" (all-gather|all-to-all|collective-permute)\(", program.as_text())
    if moved:
        return f"moves entries: {', '.join(sorted(set(moved)))}"
    products = [largest_product(of) for of in (program, jax.jit(gradients).lower(*arrays).compile())]
    if N * products[0] != products[1]:
        return f"a device's largest product has {products[0]} multiplications, of {products[1]}"
    apart = witnesses.difference(*(jax.tree.map(np.asarray, tree) for tree in (found, alone)))
    return "" if apart < 1e-12 else f"{apart:.1e} apart"


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    for name, case in CASES.items():
        for kind in (AxisType.Auto, AxisType.Explicit):
            print(json.dumps([name, kind.name, problem(*case, kind)]), flush=True)
