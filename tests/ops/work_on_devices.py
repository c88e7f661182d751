"""Run by test_on_devices.py in a process of its own, with 8 devices: what a device computes for the gradients
of every op with its examples split over them. Prints for each a line of JSON: op, mode, 8 × its flops, and 8 × those of
its largest product (0 if it has none), over those of one device for the same examples.
"""

import json
import sys

import jax
from compiled import largest_product
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from on_devices import N, cases, of_op

EACH = 128  # examples of a device: what is computed once, such as a table of positions, is then little beside them


def shares(op, kind):
    gradients, split, shared = of_op(op, EACH * N)
    alone = jax.jit(gradients).lower(split, shared).compile()
    mesh = jax.make_mesh((N,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        placed = (jax.device_put(v, NamedSharding(mesh, spec)) for v, spec in ((split, P("data")), (shared, P())))
        of_device = jax.jit(gradients).lower(*placed).compile()
    flops = N * of_device.cost_analysis()["flops"] / alone.cost_analysis()["flops"]
    return flops, N * largest_product(of_device) / (largest_product(alone) or 1)


def main():
    part, parts = map(int, sys.argv[1:])
    jax.config.update("jax_enable_x64", True)
    ops = [name for room, name, *_ in cases() if room == "ops"]
    for op in ops[part::parts]:
        for kind in (AxisType.Auto, AxisType.Explicit):
            print(json.dumps([op, kind.name, *shares(op, kind)]), flush=True)


if __name__ == "__main__":
    main()
