"""Refs, the memory of kernels: rules (evaluation, params, inputs) -> outputs, which read and write them.

A ref is an array of positions in a flat list of entries that all its parts share. Blocks, slices, reshapes and
transposes are then moves of positions alone, and nothing has to be written back. Positions out of bounds are negative:
what is written there is dropped, and what is read there, or where nothing was written, is `Undefined`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import NamedTuple

import jax
import numpy as np
from flint import arb

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic.balls import is_balls, is_float, wrap
from jaxnn.verify.arithmetic.decisions import Logic, Undecided, Unsupported
from jaxnn.verify.arithmetic.rules import EqnParams, Evaluator, Value

OUTSIDE, MASKED, ASTRAY = -1, -2, -3  # positions of nothing: in a block beyond the array, by a mask, by an index
is_none = np.frompyfunc(lambda v: v is None, 1, 1)


class Why(Enum):
    """Why an entry is undefined, in words."""

    BEYOND = "beyond its end"
    MASKED = "where its mask is false"
    UNWRITTEN = "where nothing was written"
    ASTRAY = "beyond its end, where it is written"


class Origin(NamedTuple):
    """Where an undefined entry was read. kernel, ref: their names; block: where it begins; step: of the grid, None if
    the entry is one of the kernel's result; entry: of the block, or of the result."""

    kernel: str
    ref: str
    why: Why
    block: tuple[int, ...] = ()
    step: tuple[int, ...] | None = None
    entry: tuple[int, ...] = ()


class Undefined(arb):
    """An entry that nobody wrote: not a number, whatever a device may have there."""

    origin: Origin


def undefined(origin: Origin) -> Undefined:
    """A new entry that was not written."""
    entry = Undefined("nan")
    entry.origin = origin
    return entry


class Memory:
    """A ref. origin: what is said of entries of it that are undefined."""

    def __init__(self, entries: PyTree, at: np.ndarray, origin: Origin, written: list[Value]):
        self.entries = entries  # flat; the last one is what is read out of bounds
        self.at = at
        self.origin = origin
        self.written = written  # the arrays that were written into the entries, in that order

    @classmethod
    def of(cls, value: Value, kernel: str, name: str) -> "Memory":
        """A ref whose entries are those of an array."""
        if isinstance(value, Logic):
            raise Undecided
        value = np.asarray(value)
        end = np.full(1, nothing(value.dtype), value.dtype)
        entries, origin = np.concatenate([value.ravel(), end]), Origin(kernel, name, Why.BEYOND)
        return cls(entries, positions(value.shape), origin, [value])

    @classmethod
    def new(cls, aval: PyTree, kernel: str, name: str) -> "Memory":
        """A ref in which nothing is written."""
        check_entries(aval)
        dtype = np.dtype(object) if is_float(aval) else aval.dtype
        entries = np.full(math.prod(aval.shape) + 1, nothing(dtype), dtype)
        return cls(entries, positions(aval.shape), Origin(kernel, name, Why.UNWRITTEN), [])

    def part(self, at: np.ndarray, **facts: PyTree) -> "Memory":
        """The ref of these positions alone."""
        return type(self)(self.entries, at, self.origin._replace(**facts), self.written)

    def where(self, mask: Value | None) -> "Memory":
        """The ref without the positions at which a mask is known to be false."""
        return self.part(np.where(mask, self.at, MASKED)) if isinstance(mask, np.ndarray) else self

    def seen_through(self, transforms: Iterable[PyTree]) -> "Memory":
        """The ref behind JAX's indexers, reshapes and transposes."""
        at = self.at
        for transform in transforms or ():
            kind = type(transform).__name__
            if kind == "NDIndexer":
                at = indexed(at, transform.indices, ASTRAY)
            elif kind == "ReshapeTransform":
                at = at.reshape(transform.shape)
            elif kind == "TransposeTransform":
                at = at.transpose(transform.permutation)
            else:
                raise Unsupported(f"a ref through {kind}")
        return self.part(at)

    def read(self) -> Value:
        """A copy of the entries."""
        values = wrap(self.entries[np.maximum(self.at, OUTSIDE)])
        if is_balls(values):
            for i in map(tuple, np.argwhere(is_none(values))):
                why = Why.UNWRITTEN if self.at[i] >= 0 else Why.MASKED if self.at[i] == MASKED else Why.BEYOND
                values[i] = undefined(self.origin._replace(why=why, entry=i))
        return values

    def write(self, value: Value) -> None:
        """Puts these values in the places of the entries."""
        if isinstance(value, Logic):
            raise Undecided
        inside = self.at >= 0
        self.entries[self.at[inside]] = np.broadcast_to(value, self.at.shape)[inside]
        self.written.append(value)

    def add(self, value: Value) -> None:
        """Adds these values to the entries, each as often as its position is there."""
        inside = self.at >= 0
        np.add.at(self.entries, self.at[inside], np.broadcast_to(value, self.at.shape)[inside])
        self.written.append(value)


def positions(shape: Sequence[int]) -> np.ndarray:
    """The positions of the entries of an array of this shape."""
    return np.arange(math.prod(shape)).reshape(shape)


def nothing(dtype: np.dtype) -> PyTree:
    """What stands for an entry that nobody wrote: no ball; a whole number that is out of bounds as an index."""
    return {"O": None, "b": False}.get(dtype.kind, np.iinfo(dtype).min if dtype.kind in "iu" else None)


def check_entries(aval: PyTree) -> None:
    """Unsupported for a ref that has no entries, such as a semaphore."""
    if not isinstance(aval.dtype, np.dtype):
        raise Unsupported(f"a ref of {aval.dtype}")


def is_ref(v: PyTree) -> bool:
    """Whether a variable of a jaxpr is a ref."""
    return hasattr(v.aval, "inner_aval")


class Run(NamedTuple):
    """`size` indices from `start` on."""

    start: int
    size: int
    stride: int = 1


def indexed(at: np.ndarray, indices: Sequence[PyTree], beyond: int = OUTSIDE) -> np.ndarray:
    """at[indices], `beyond` where that is out of bounds, with NumPy's order of axes. Indices are runs, JAX's or ours,
    and integers or arrays of them."""
    padded = np.pad(at, [(0, 1)] * at.ndim, constant_values=beyond)
    key: list[PyTree] = []
    for axis, (index, n) in enumerate(zip(indices, at.shape, strict=True)):
        is_run = all(hasattr(index, name) for name in ("start", "size", "stride"))
        places = int(index.start) + index.stride * np.arange(index.size) if is_run else np.asarray(index)
        places = np.where((places >= 0) & (places < n), places, n)
        padded = padded.take(places, axis) if is_run else padded
        key.append(slice(None) if is_run else places)
    return padded[tuple(key)]


def read(ev: Evaluator, part: Memory) -> Value:
    """The entries of a part. What was ever written into the ref is noted as that which they depend on."""
    values = part.read()
    ev.note("get", list(part.written), [values])
    return values


def write(ev: Evaluator, part: Memory, value: Value, mask: Value | None = None) -> list[Value]:
    """Puts a value into a part, where the mask is true: [what was there before]."""
    before, part = read(ev, part), part.where(mask)
    check_written(ev, part)
    is_open = mask is not None and not isinstance(mask, np.ndarray)
    part.write(ev.choose(mask, before, value) if is_open else value)
    return [before]


def add(ev: Evaluator, part: Memory, value: Value) -> list[Value]:
    """Adds a value to a part: [what was there before]."""
    before = read(ev, part)
    check_written(ev, part)
    part.add(value)
    ev.note("add", [before, value], [part.read()])
    return [before]


def check_written(ev: Evaluator, part: Memory) -> None:
    """Notes an index beyond the end of the ref that is written. A block may be there: what it writes is dropped."""
    for i in np.argwhere(part.at == ASTRAY)[:1]:
        ev.note("stray write", [], [], origin=part.origin._replace(why=Why.ASTRAY, entry=tuple(i)))


def get(ev: Evaluator, params: EqnParams, inputs: list[Value]) -> list[Value]:
    """ref[…]"""
    ref, *indices = inputs
    return [read(ev, ref.seen_through(jax.tree.unflatten(params["tree"], indices)))]


def swap(ev: Evaluator, params: EqnParams, inputs: list[Value]) -> list[Value]:
    """ref[…] = value"""
    ref, value, *indices = inputs
    return write(ev, ref.seen_through(jax.tree.unflatten(params["tree"], indices)), value)


def addupdate(ev: Evaluator, params: EqnParams, inputs: list[Value]) -> list[Value]:
    """ref[…] += value"""
    ref, value, *indices = inputs
    add(ev, ref.seen_through(jax.tree.unflatten(params["tree"], indices)), value)
    return []


def masked_load(ev: Evaluator, params: EqnParams, inputs: list[Value]) -> list[Value]:
    """ref[…] where the mask is true; elsewhere `other` or, if there is none, nothing that is defined."""
    ref, transforms, mask, other = params["args_tree"].unflatten(inputs)
    values = read(ev, ref.seen_through(transforms).where(mask))
    return [values if other is None or mask is None else ev.choose(mask, other, values)]


def masked_swap(ev: Evaluator, params: EqnParams, inputs: list[Value]) -> list[Value]:
    """ref[…] = value where the mask is true"""
    ref, transforms, value, mask = params["args_tree"].unflatten(inputs)
    return write(ev, ref.seen_through(transforms), value, mask)


def atomic_rmw(ev: Evaluator, params: EqnParams, inputs: list[Value]) -> list[Value]:
    """ref[…] += value where the mask is true; Unsupported for what is no sum."""
    ref, transforms, value, mask = params["args_tree"].unflatten(inputs)
    if params["atomic_type"].name != "ADD":
        raise Unsupported(f"atomic {params['atomic_type'].name}")
    if mask is not None and not isinstance(mask, np.ndarray):
        raise Unsupported("an atomic sum under a mask of floats")
    return add(ev, ref.seen_through(transforms).where(mask), value)


def run_scoped(ev: Evaluator, params: EqnParams, inputs: list[Value]) -> list[Value]:
    """The outputs of a jaxpr that is given new memory. Its constants are the inputs."""
    jaxpr = params["jaxpr"]
    return ev.run(jaxpr, inputs, [ev.memory.new(v.aval, "run_scoped", "its memory") for v in jaxpr.invars])


REFS: dict[str, Callable[[Evaluator, EqnParams, list[Value]], list[Value]]] = {
    "get": get,
    "swap": swap,
    "addupdate": addupdate,
    "masked_load": masked_load,
    "masked_swap": masked_swap,
    "atomic_rmw": atomic_rmw,
    "run_scoped": run_scoped,
}
