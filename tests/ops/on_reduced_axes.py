"""Run by test_on_devices.py in a process of its own, with 4 devices: matrices whose type is `reduced` along the data
axis, in Explicit. Their cotangents are `unreduced`, each device's own share, and the sum is one device's. Prints for
each a line of JSON: name, and what went wrong.
"""

import json

import jax
import numpy as np
import witnesses
from jax import numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnn import Dense, ops
from jaxnn.layers.dense import Params

N = 4
draw = np.random.default_rng(0).normal
LABELS = np.array([1, 4, 4, 0, 2, 3, 1, 1])


def of_dense(x, y, matrices):
    z, residuals = Dense(3, 5).forward(Params(*matrices, jnp.zeros(5)), x)
    dparams, _ = Dense(3, 5).backward(residuals, jnp.sin(z))
    return (dparams.W,)


def of_loss(**settings):
    return jax.grad(lambda x, y, of: ops.linear_cross_entropy(x, *of, y, chunk=4, **settings).sum(), 2)


CASES = {  # name: (the gradients of matrices by x (8, 3) and labels, the matrices)
    "dense": (of_dense, (draw(size=(5, 3)),)),
    "lora": (
        jax.grad(lambda x, y, of: jnp.sin(ops.lora(x, *of)).sum(), 2),
        (draw(size=(5, 3)), draw(size=(2, 3)), draw(size=(5, 2))),
    ),
    "embedding": (jax.grad(lambda x, y, of: jnp.sin(ops.embedding(*of, y)).sum(), 2), (draw(size=(5, 3)),)),
    "the fused loss": (of_loss(), (draw(size=(5, 3)),)),
    "the fused loss, each example": (of_loss(reduction="none"), (draw(size=(5, 3)),)),
}


def problem(gradients, matrices):
    """What is wrong; "" if nothing is."""
    x = draw(size=(8, 3))
    alone = jax.jit(gradients)(x, LABELS, matrices)
    mesh = jax.make_mesh((N,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        split = (jax.device_put(v, NamedSharding(mesh, P("data"))) for v in (x, LABELS))
        placed = *split, jax.tree.map(lambda v: jax.reshard(v, P(reduced={"data"})), matrices)
        types = jax.tree.leaves(jax.tree.map(jax.typeof, jax.jit(gradients)(*placed)))
        found = jax.jit(lambda *arrays: jax.reshard(gradients(*arrays), P()))(*placed)
    if not all("data" in v.sharding.spec.unreduced for v in types):
        return f"cotangents of type {types}"
    apart = witnesses.difference(*(jax.tree.map(np.asarray, tree) for tree in (found, alone)))
    return "" if apart < 1e-12 else f"{apart:.1e} apart"


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    for name, case in CASES.items():
        print(json.dumps([name, problem(*case)]), flush=True)
