"""Run by test_on_devices.py in a process of its own, with 8 devices: every op, layer and loss with its examples split
over them, in all modes of JAX, beside the same rule on one device. Prints for each a line of JSON: room, name, mode,
and what went wrong, "" if nothing did.
"""

import inspect
import json
import re
import sys
from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
import witnesses
from jax import lax
from jax import numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxnn.ops
from jaxnn.examples import LAYERS, LOSSES, OPS, draw_arguments, draw_params, draw_y, draw_z
from jaxnn.factored import whole as whole_z
from jaxnn.protocols import Drawn, real, whole
from reference.ops import axes

N = 8
MODES = AUTO, EXPLICIT, CHECKED, UNCHECKED = "Auto", "Explicit", "shard_map", "shard_map, check_vma=False"
OF_A_BATCH = "dropout", "batch norm", "batch_norm"
TOGETHER = {"batch_norm": ("x",), "linear_cross_entropy": ("h", "y")}  # to whose twins all examples are one: the arrays


def example_of(op, m):
    """An example of an op with m examples; of the fused loss with two chunks of m."""
    if op == "batch_norm":
        return {"x": real(m, 3), "gamma": real(3), "beta": real(3)}
    if op == "linear_cross_entropy":
        h, W, y = real(2 * m, 3), real(4, 3), whole(2 * m, below=4)
        return {"h": h, "W": W, "y": y, "reduction": "none", "chunk": m}
    example = next(e for e in OPS[op].values() if any(has_examples(op, *item) for item in e.items()))
    return {
        name: v._replace(shape=(m, *v.shape[len(v.shape) - core(op, name, v) :])) if has_examples(op, name, v) else v
        for name, v in example.items()
    }


def of_op(op, m=N):
    """(gradients of S, split, shared): S = Σ sin out of an op, whose cotangents differ from example to example."""
    drawn = example_of(op, m)
    arguments = (
        inspect.signature(getattr(jaxnn.ops, op)).bind(**draw_arguments(drawn, np.random.default_rng(1))).arguments
    )
    arrays = {name: v for name, v in arguments.items() if isinstance(v, jax.Array)}
    split = {name: v for name, v in arrays.items() if has_examples(op, name, drawn[name])}
    shared = {name: v for name, v in arrays.items() if name not in split}

    def S(reals, rest):
        outs = jax.tree.leaves(getattr(jaxnn.ops, op)(**arguments | reals | rest))
        return sum(jnp.sin(out).sum() for out in outs)

    def gradients(split, shared):
        """By its rule, of the real arrays."""
        arrays = split | shared
        reals = {name: v for name, v in arrays.items() if jnp.issubdtype(v.dtype, jnp.floating)}
        d = jax.grad(S)(reals, {name: v for name, v in arrays.items() if name not in reals})
        return tuple({name: dv for name, dv in d.items() if name in part} for part in (split, shared))

    return gradients, split, shared


def core(op, name, drawn):
    return axes(op, name, np.zeros(drawn.shape, int if drawn.entries == "whole" else float))


def has_examples(op, name, drawn):
    if op in TOGETHER:
        return name in TOGETHER[op]
    return isinstance(drawn, Drawn) and len(drawn.shape) > core(op, name, drawn)


def of_layer(name):
    layer, shape, inner, below = LAYERS[name]
    rng = np.random.default_rng(1)
    shape = (N, *shape[len(shape) - inner :])
    x = jnp.asarray(rng.integers(0, below, shape) if below else rng.normal(size=shape))

    def gradients(x, params):
        out, residuals = layer.forward(params, x, jax.random.key(0))
        z, back = jax.vjp(whole_z, out)
        dparams, dx = layer.backward(residuals, *back(jnp.sin(2 * z)))
        return dx, dparams

    return gradients, x, draw_params(layer, rng)


def of_loss(name):
    loss, shape, kind = LOSSES[name]
    rng, shape = np.random.default_rng(1), (N, *shape[1:])
    z = draw_z(LOSSES[name]._replace(shape=shape), rng)
    arrays = z, jnp.asarray(draw_y(kind, rng, shape)), jnp.asarray(rng.uniform(size=shape[:-1]))

    def gradients(arrays, shared):
        J, residuals = loss.forward(*arrays)
        return loss.backward(residuals), J

    return gradients, arrays, ()


def problem(gradients, split, shared, mode):
    """What is wrong where the first axis of what is split lies over N devices; "" if nothing is."""
    mesh = jax.make_mesh((N,), ("data",), axis_types=(AxisType.Explicit if mode == EXPLICIT else AxisType.Auto,))
    rows, everywhere = P("data"), P()
    run = gradients
    if mode in (CHECKED, UNCHECKED):

        def of_device(split, shared):
            of_split, of_shared = gradients(split, shared)
            return of_split, of_shared if mode == CHECKED else lax.psum(of_shared, "data")

        specs = (rows, everywhere)
        run = jax.shard_map(of_device, mesh=mesh, in_specs=specs, out_specs=specs, check_vma=mode == CHECKED)
    alone = jax.jit(gradients)(split, shared)
    with jax.set_mesh(mesh):
        place = lambda tree, spec: jax.device_put(tree, NamedSharding(mesh, spec))  # noqa: E731
        program = jax.jit(run).lower(place(split, rows), place(shared, everywhere)).compile()
        found = program(place(split, rows), place(shared, everywhere))
    moved = re.findall(r" (all-gather|all-to-all|collective-permute|reduce-scatter)\(", program.as_text())
    if moved:
        return f"moves rows: {', '.join(sorted(set(moved)))}"
    if not all(v.sharding.is_equivalent_to(NamedSharding(mesh, rows), v.ndim) for v in jax.tree.leaves(found[0])):
        return "the cotangents of what is split are not split"
    apart = witnesses.difference(jax.tree.map(np.asarray, found), jax.tree.map(np.asarray, alone))
    return "" if apart < 1e-12 else f"{apart:.1e} apart"


def cases() -> Iterator:
    """(room, name, what makes the problem, modes). In shard_map each device draws its own mask, and has its own mean
    and variance of a batch: there these are other functions."""
    for op in OPS:
        if any(has_examples(op, *item) for example in OPS[op].values() for item in example.items()):
            yield "ops", op, partial(of_op, op), (AUTO, EXPLICIT) if op in OF_A_BATCH else MODES
    for name, example in LAYERS.items():
        if len(example.shape) > example.inner:
            of_a_batch = any(words in name for words in OF_A_BATCH)
            yield "layers", name, partial(of_layer, name), (AUTO, EXPLICIT) if of_a_batch else MODES
    for name in LOSSES:
        yield "losses", name, partial(of_loss, name), (AUTO, EXPLICIT)


def main():
    part, parts = map(int, sys.argv[1:])
    jax.config.update("jax_enable_x64", True)
    for i, (room, name, make, modes) in enumerate(cases()):
        if i % parts == part:
            for mode in modes:
                try:
                    what = problem(*make(), mode)
                except Exception as error:
                    what = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                print(json.dumps([room, name, mode, what]), flush=True)


if __name__ == "__main__":
    main()
