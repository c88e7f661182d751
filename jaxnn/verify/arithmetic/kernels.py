"""Pallas kernels: a call is its grid, step by step, and a step is the kernel's own jaxpr on blocks of the arrays.

It needs no device and no interpreter: masks, paddings, scratch and index maps are evaluated as they are written.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto

import numpy as np
from jax.extend.core import Jaxpr

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic.decisions import Unsupported
from jaxnn.verify.arithmetic.refs import Memory, Run, indexed, read
from jaxnn.verify.arithmetic.rules import EqnParams, Evaluator, Value, open_jaxpr

ON_GPU = {"triton", "mosaic_gpu"}


class Order(Enum):
    """In which order the steps of a grid are run."""

    FORWARDS = auto()  # the last axis fastest, as a TPU does
    FREE_BACKWARDS = auto()  # those axes from their end whose steps a device may run in any order
    BACKWARDS = auto()  # all axes from their end


def pallas_call(ev: Evaluator, params: EqnParams, inputs: list[Value]) -> list[Value]:
    """The outputs of a kernel. Outputs and scratch live on from step to step; an aliased output is its input."""
    mapping, (body, consts) = params["grid_mapping"], open_jaxpr(ev, params["jaxpr"])
    bounds = iter(inputs[: mapping.num_dynamic_grid_bounds])
    grid = [n if isinstance(n, int) else int(next(bounds)) for n in mapping.grid]
    operands = inputs[mapping.num_dynamic_grid_bounds :]
    kernel, names, blocks = body.debug_info.func_name, names_of(body), mapping.block_mappings
    refs = [ev.memory.of(v, kernel, name) for v, name in zip(operands, names, strict=False)]
    scalars = refs[: mapping.num_index_operands]
    same = {output: refs[i] for i, output in params["input_output_aliases"]}
    outputs = [
        same.get(k) or ev.memory.new(block.array_aval, kernel, names[len(refs) + k])
        for k, block in enumerate(blocks[mapping.num_inputs :])
    ]
    n = len(refs) + len(outputs)
    scratch = [ev.memory.new(v.aval, kernel, name) for v, name in zip(body.invars[n:], names[n:], strict=True)]
    arrays = [*refs[len(scalars) :], *outputs]
    outer, counted = ev.program, [k for k in range(len(grid)) if k not in mapping.vmapped_dims]
    for step in steps_of(grid, backwards(ev.order, params)):
        ev.check_time(0, f"a kernel of {math.prod(grid):,} steps")
        ev.program = [(step[k], grid[k]) for k in counted]
        parts = [part_of(ev, *pair, step, scalars) for pair in zip(arrays, blocks, strict=True)]
        ev.run(body, consts, [*scalars, *parts, *(ref.part(ref.at, step=step) for ref in scratch)])
    ev.program = outer
    return [read(ev, ref) for ref in outputs]


def names_of(body: Jaxpr) -> list[str]:
    """What the kernel calls its refs."""
    names = list(body.debug_info.arg_names or ())
    known = len(names) == len(body.invars) and all(names)
    return names if known else [f"its ref {i}" for i in range(len(body.invars))]


def steps_of(grid: Sequence[int], reverse: set[int]) -> Iterator[tuple[int, ...]]:
    """The steps of a grid, the last axis fastest; the axes in `reverse` from their end."""
    return itertools.product(*(range(n)[::-1] if k in reverse else range(n) for k, n in enumerate(grid)))


def backwards(order: Order, params: EqnParams) -> set[int]:
    """Which axes of the grid are run from their end."""
    axes = set(range(len(params["grid_mapping"].grid)))
    return {Order.FORWARDS: set(), Order.FREE_BACKWARDS: free_axes(params), Order.BACKWARDS: axes}[order]


def free_axes(params: EqnParams) -> set[int]:
    """The axes of the grid whose steps a device may run in any order: all of a GPU, those called parallel of a TPU."""
    settings = params["compiler_params"]
    if ON_GPU & set(type(settings).__module__.split(".")):
        return set(range(len(params["grid_mapping"].grid)))
    semantics = getattr(settings, "dimension_semantics", None) or ()
    return {k for k, name in enumerate(semantics) if "parallel" in str(name).lower()}


def part_of(ev: Evaluator, ref: Memory, block: PyTree, step: tuple[int, ...], scalars: Sequence[Memory]) -> Memory:
    """The block of an array that its index map has for this step, beyond the array's end too."""
    index_map, consts = open_jaxpr(ev, block.index_map_jaxpr)
    starts = ev.run(index_map, consts, [*(np.asarray(np.int32(i)) for i in step), *scalars])
    runs = [run_of(size, int(start), block) for size, start in zip(block.block_shape, starts, strict=False)]
    begins = tuple(run.start if isinstance(run, Run) else run for run in runs)
    return ref.part(indexed(ref.at, runs), block=begins, step=step)


def run_of(size: PyTree, start: int, block: PyTree) -> Run | int:
    """The indices of a block along one axis, as its BlockSpec has them. start: what the index map gives."""
    kind = type(size).__name__
    if block.transforms or kind not in ("Blocked", "Squeezed", "Element"):
        raise Unsupported(f"blocks of the kind {kind}")
    if kind == "Squeezed":
        return start
    return Run(start * size.block_size if kind == "Blocked" else start - size.padding[0], size.block_size)


def program(which: int) -> Callable[[Evaluator, EqnParams, list[Value]], list[Value]]:
    """The rule of program_id (0) or num_programs (1)."""
    return lambda ev, params, inputs: [np.asarray(np.int32(ev.program[params["axis"]][which]))]


KERNELS: dict[str, Callable[[Evaluator, EqnParams, list[Value]], list[Value]]] = {
    "pallas_call": pallas_call,
    "program_id": program(0),
    "num_programs": program(1),
    **dict.fromkeys(("debug_print", "debug_barrier_p", "delay"), lambda ev, params, inputs: []),
}
