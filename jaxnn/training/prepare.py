"""A run, prepared: all that it is given, checked once; its states, one after the other; and what is said of its end."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import numpy as np
import optax
from jax import Array
from jax import numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from jaxnn.dtypes import at_least_float32
from jaxnn.protocols import Layer, Loss, Params, Penalty, PyTree, leaf_layers
from jaxnn.training.checkpoint import facts_of
from jaxnn.training.epoch import Run, State, chunk_of, initial_state
from jaxnn.training.feed import Batch, Feed, Order, Position, rows_from, shuffled
from jaxnn.training.given import (
    Inputs,
    cast,
    check_at_least,
    check_gradients,
    checked,
    compute_dtype,
    dtype_in,
    initial_params,
    on_device,
    rows_a_batch,
)
from jaxnn.training.history import Fit, History, first, history_of, joined
from jaxnn.training.loop import chunks
from jaxnn.training.optimizer import Optimizer, optimizer_and_rate
from jaxnn.training.placement import place
from jaxnn.training.replay import Iteration, iterations_from, last_finite, what_was_not_finite
from jaxnn.training.stops import Reason, Stops, stopped

LARGE = 2**27  # bytes of x from which on a device that shares the host's memory gets its rows chunk by chunk
MOST, MOST_ROWS = 10_000, 2**21  # iterations of a chunk, and row numbers that they are given
SHARE = 1 / 128  # of the data, at most, in a chunk whose rows are streamed


@dataclass(frozen=True)
class Training:
    """A run that `prepare` made: it holds what stays the same, a `State` what changes."""

    run: Run
    stops: Stops
    epochs: int
    key: Array  # of order and draws
    rate: float | None
    params: Params  # to start from
    data: Batch | None  # on the device; None if the rows are streamed
    validation: Batch | None
    given: Callable[[Position, int], PyTree]  # of n iterations from a position on, see `Feed`
    example: Batch  # one row
    streamed: Batch | None  # the rows that are, on the host
    steps: int | None = None  # iterations after which the run ends, in the middle of an epoch too

    def start(self) -> State:
        """The state before the first iteration."""
        return initial_state(self.run, self.params, self.rate, self.stops, self.example)

    def facts(self) -> dict[str, str]:
        """What makes this run the one that it is, see `facts_of`."""
        data = self.data
        if self.streamed is not None:
            data = jax.tree.map(lambda v: np.asarray(v, dtype_in(v, self.run.dtype)), self.streamed)
        assert data is not None, "they are on the device, or else streamed"
        return facts_of(
            self.run,
            self.stops,
            self.epochs if self.steps is None else f"{self.epochs}, {self.steps} iterations at most",
            key=self.key,
            rate=self.rate,
            params=self.params,
            data=data,
            validation=self.validation,
            first=self.batch_at(Position(0, 0)),
            state=self.start(),
        )

    def iterations(self, state: State) -> Iterator[Iteration]:
        """The iterations from a state on, one by one."""
        return iterations_from(self.run, self.batch_at, self.key, self.rate, state)

    def batch_at(self, position: Position) -> Batch:
        """The batch of the iteration that begins here."""
        size = min(self.run.batch_size, self.run.m - position.iteration * self.run.batch_size)
        return self.run.feed.batch(self.data, jax.tree.map(lambda v: v[0, :size], self.given(position, 1)))

    def states(self, state: State, every: int | None = None) -> Iterator[tuple[State, History]]:
        """(state, history) after each stretch of iterations: of about half a second, and ending whenever `every` more
        epochs are over; until all epochs or `steps` are, or a reason to stop is met. The history is of the stretch.

        From each of these states a run goes on to the bits of one that was never stopped. If something was not finite,
        the last state is that before the iteration in which it was not.
        """
        call = partial(chunk_of, self.run, self.data, self.validation, self.stops, self.key, self.rate)
        before, position, end = state, state.position, self.epochs * self.run.iterations
        end = end if self.steps is None else min(end, self.steps)
        every = None if every is None else every * self.run.iterations
        for after, done in chunks(call, self.given, self.run, state, position=position, end=end, every=every):
            history = history_of(done)
            if after.reason == Reason.NOT_FINITE:
                finite = last_finite(self.iterations(before), self.run.last_of(after.position))
                n = finite.position.since(before.position, self.run.iterations)
                history = first(history, int(finite.epoch - before.epoch), n)
                after = finite._replace(reason=after.reason, best=after.best)
            yield after, history
            before = after

    def fit(self, state: State, parts: list[History], interrupted: bool = False) -> Fit:
        """What `jaxnn.fit` returns of a run that ended in this state, with the histories of its stretches."""
        reason = Reason.INTERRUPTED if interrupted else Reason(int(state.reason))
        where = self.where_not_finite(state) if reason == Reason.NOT_FINITE else ""
        layers = len(list(leaf_layers(self.run.model, self.params)))
        params = state.params if state.best is None else state.best.params
        return Fit(params, joined(parts, layers), stopped(reason, state.position, self.stops, where))

    def where_not_finite(self, state: State) -> str:
        """A phrase that says what was not finite after this state."""
        if int(state.iteration) == self.run.iterations:
            return "the validation cost was not finite"
        return what_was_not_finite(self.run, next(self.iterations(state)))


def prepare(
    model: Layer,
    loss: Loss,
    x: Inputs,
    y: ArrayLike,
    *,
    key: Array,
    epochs: int,
    optimizer: Optimizer = optax.sgd,
    batch_size: int | None = None,
    params: Params | None = None,
    order: Order | None = None,
    weights: ArrayLike | None = None,
    validation: tuple[Inputs, ArrayLike] | None = None,
    penalty: Penalty | None = None,
    tolerance: float | None = None,
    patience: int | None = None,
    target_cost: float | None = None,
    dtype: DTypeLike | None = None,
    mesh: Mesh | None = None,
    learning_rate: float | optax.Schedule | None = None,
) -> Training:
    """The run that `fit` makes with the same arguments, to be looped over by the caller: a `Training`.

        training = prepare(model, loss, x, y, key=key, epochs=10)
        for state, history in training.states(training.start()):
            ...  # state: a tree of arrays, to be looked at, saved, or continued from by training.states(state)

    ValueError: as `fit`.
    """
    check_at_least(1, epochs=epochs, batch_size=batch_size)
    stops = Stops(tolerance, patience, target_cost).checked(validated=validation is not None)
    optimizer, rate = optimizer_and_rate(optimizer, learning_rate)
    init_key, run_key = jax.random.split(key)
    dtype = compute_dtype(dtype, params, x)
    if params is None:
        params = initial_params(model, init_key, at_least_float32(dtype))
    else:
        params = cast(jax.tree.map(jnp.asarray, params), at_least_float32)
    data, held_out = checked(model, loss, params, x, y, weights, validation, dtype)
    m = len(data.y)
    batch_size = rows_a_batch(batch_size, m, stacklevel=4)
    if order is None and batch_size < m:
        order = shuffled(run_key, m)
    example = on_device(jax.tree.map(lambda v: v[:1], data), dtype)
    check_gradients(model, loss, params, data, dtype, run_key)
    feed = feed_of(data, order, example, mesh)
    streams = feed == Feed.STREAMED
    chunk = chunk_of_rows(batch_size, SHARE * m if streams else MOST_ROWS)
    run = Run(model, loss, penalty, optimizer, m, batch_size, dtype, chunk, feed)
    rows = None if order is None else partial(rows_of, run, lru_cache(1)(order), data if streams else None)
    on_one = None if streams else on_device(data, dtype)
    if mesh is not None and on_one is not None:
        params, on_one = place(params, on_one, mesh)
    return Training(
        run=run,
        stops=stops,
        epochs=epochs,
        key=run_key,
        rate=rate,
        params=params,
        data=on_one,
        validation=None if held_out is None else on_device(held_out, dtype),
        given=nothing if rows is None else rows,
        example=example,
        streamed=data if streams else None,
    )


def chunk_of_rows(batch_size: int, rows: float) -> int:
    """The iterations, at most, of a chunk that is given so many rows."""
    return int(np.clip(rows / batch_size, 1, MOST))


def feed_of(data: Batch, order: Order | None, example: Batch, mesh: Mesh | None) -> Feed:
    """How the rows of these data come to the device on which the example is."""
    if order is None:
        return Feed.WHOLE
    arrays = jax.tree.leaves(example.x)
    if mesh is not None or {device.platform for device in arrays[0].devices()} != {"cpu"}:
        return Feed.GATHERED
    is_on_host = all(isinstance(v, np.ndarray) for v in jax.tree.leaves(data.x))
    is_large = is_on_host and sum(v.nbytes for v in arrays) * len(data.y) > LARGE
    return Feed.STREAMED if is_large else Feed.ROW_BY_ROW


def nothing(position: Position, n: int) -> None:
    """What an iteration on all of the data is given."""


def rows_of(run: Run, order: Order, on_host: Batch | None, position: Position, n: int) -> PyTree:
    """(run.chunk, batch size, …): the row numbers of n iterations, or these rows of what is on the host; then zeros."""
    rows = rows_from(order, position, n, m=run.m, batch_size=run.batch_size)

    def padded(v: np.ndarray, dtype: np.dtype) -> np.ndarray:
        out = np.zeros((run.chunk, *v.shape[1:]), dtype)
        out[:n] = v
        return out

    if on_host is None:
        return padded(rows, rows.dtype)
    return jax.tree.map(lambda v: padded(v[rows], dtype_in(v, run.dtype)), on_host)
