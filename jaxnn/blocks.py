"""A long axis, block by block, in place: any length, no padding."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from jax import Array, lax
from jax import numpy as jnp

from jaxnn.cotangent import summed

T = TypeVar("T")
Range = tuple[Array | int, Array | int]  # from the first to before the second


class Block(NamedTuple):
    """`size` positions from `start` on, of which those before `first` belong to the block before."""

    start: Array | int
    size: int
    first: Array | int

    @property
    def positions(self) -> Array:
        return self.start + jnp.arange(self.size)

    @property
    def is_new(self) -> Array:
        """Which of them no block before has."""
        return self.positions >= self.first


@dataclass(frozen=True)
class Blocks:
    """An axis of this length in blocks of a size; the last one starts earlier where less than a block is left."""

    length: int
    size: int

    @property
    def n(self) -> int:
        return -(-self.length // self.size)

    def at(self, i: Array | int) -> Block:
        size = min(self.size, self.length)
        return Block(jnp.minimum(i * size, self.length - size), size, i * size)

    def holding(self, first: Array | int, last: Array | int) -> Range:
        """The range of the blocks that hold positions from first to last, of those that there are."""
        if self.n == 1:
            return 0, 1
        size = min(self.size, self.length)
        return jnp.maximum(first // size, 0), jnp.minimum(last // size + 1, self.n)


def in_turn(blocks: Range, step: Callable[[Array | int, T], T], state: T) -> T:
    """step(i, state) for each block i of a range; for a single one without a loop."""
    first, end = blocks
    return step(0, state) if isinstance(end, int) and end == 1 else lax.fori_loop(first, end, step, state)


def rows(v: Array, block: Block, axis: int) -> Array:
    """The entries of a block along an axis, counted from the end; all of them along one of length 1."""
    if v.shape[axis] in (1, block.size):
        return v
    return lax.dynamic_slice_in_dim(v, block.start, block.size, v.ndim + axis)


def with_rows(v: Array, block: Block, axis: int, new: Array) -> Array:
    """v with other entries in a block."""
    if v.shape[axis] == block.size:
        return new.astype(v.dtype)
    return lax.dynamic_update_slice_in_dim(v, new.astype(v.dtype), block.start, v.ndim + axis)


def tile(v: Array, t: Block, s: Block) -> Array:
    """A block of the last two axes, of which either may have length 1."""
    return rows(rows(v, t, -2), s, -1)


def with_tile(v: Array, t: Block, s: Block, share: Array) -> Array:
    """v with a share added to a block of its last two axes, summed over what v is broadcast along."""
    own = tile(v, t, s)
    start = [0 if n == 1 else block.start for n, block in zip(v.shape[-2:], (t, s), strict=True)]
    return lax.dynamic_update_slice(v, own + summed(own, share), (*[0] * (v.ndim - 2), *start))
