"""How the rows of a batch come to where they are needed: chosen once for a run."""

from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import NamedTuple

import jax
import numpy as np
from jax import Array, lax
from numpy.typing import ArrayLike

from jaxnn.protocols import PyTree

Order = Callable[[int], ArrayLike]  # of an epoch: its row numbers


class Batch(NamedTuple):
    """Examples: inputs, targets, and the weights if there are any. On the host they are arrays of NumPy."""

    x: PyTree  # (m, …), or a tuple of such
    y: Array  # (m, …)
    w: Array | None  # (m, …)


class Feed(Enum):
    """What an iteration is given, and how its batch is made of that."""

    WHOLE = auto()  # nothing: each batch is all of the data
    GATHERED = auto()  # row numbers, whose rows are taken at once
    ROW_BY_ROW = auto()  # row numbers. On a CPU XLA starts threads for a gather from large data, which takes longer
    STREAMED = auto()  # the rows themselves, from the caller's arrays

    def batch(self, data: Batch | None, given: PyTree) -> Batch:
        """The batch of an iteration that is given this."""

        def row(i: Array) -> Batch:
            return jax.tree.map(lambda v: lax.dynamic_index_in_dim(v, i, keepdims=False), data)

        if self == Feed.STREAMED:
            return given
        assert data is not None, "only what is streamed is not on the device"
        if self == Feed.WHOLE:
            return data
        return lax.map(row, given) if self == Feed.ROW_BY_ROW else jax.tree.map(lambda v: v[given], data)


class Position(NamedTuple):
    """Where a run is: whole epochs so far, and iterations of the epoch that goes on."""

    epoch: int
    iteration: int

    def after(self, n: int, iterations: int) -> "Position":
        """The position n iterations later, with so many an epoch."""
        epochs, iteration = divmod(self.iteration + n, iterations)
        return Position(self.epoch + epochs, iteration)

    def since(self, other: "Position", iterations: int) -> int:
        """The iterations between an earlier position and this one."""
        return (self.epoch - other.epoch) * iterations + self.iteration - other.iteration


def shuffled(key: Array, m: int) -> Order:
    """order(epoch): all rows in a new order. Drawn on the host: XLA on a CPU takes 50 times as long to sort them."""
    seed = jax.random.key_data(key).ravel().tolist()

    def order(epoch: int) -> np.ndarray:
        rows = np.arange(m, dtype=np.int32)
        np.random.default_rng([*seed, epoch]).shuffle(rows)
        return rows

    return order


def rows_from(order: Order, at: Position, n: int, *, m: int, batch_size: int) -> np.ndarray:
    """(n, batch_size): the row numbers of n iterations from `at` on; 0 behind those of a last short batch.

    ValueError: an order that does not give m row numbers.
    """
    rows = np.zeros((n, batch_size), np.int32)
    done = 0
    for epoch, first, count in stretches(at, n, -(-m // batch_size)):
        index = checked(order(epoch), epoch, m)[first * batch_size : (first + count) * batch_size]
        rows[done : done + count].reshape(-1)[: len(index)] = index
        done += count
    return rows


def stretches(at: Position, n: int, iterations: int) -> Iterator[tuple[int, int, int]]:
    """(epoch, its first iteration, how many) for n iterations from `at` on, with so many an epoch."""
    epoch, first = at
    while n:
        count = min(n, iterations - first)
        yield epoch, first, count
        n, epoch, first = n - count, epoch + 1, 0


def checked(index: ArrayLike, epoch: int, m: int) -> np.ndarray:
    """The row numbers of an epoch. ValueError: they are not m numbers from 0 to m − 1."""
    index = np.asarray(index)
    if index.shape != (m,) or index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= m:
        raise ValueError(f"order({epoch}) must give {m} row numbers from 0 to {m - 1}; it gave {index!r}.")
    return index
