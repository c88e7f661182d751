"""What is compiled: one iteration, one epoch, a chunk of epochs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import optax
from jax import Array, lax
from jax import numpy as jnp

from jaxnn import backprop
from jaxnn.metrics import METRICS
from jaxnn.protocols import Layer, Loss, Params, Penalty, PyTree, moved, without_statistics
from jaxnn.training import health
from jaxnn.training.history import History
from jaxnn.training.prepare import Batch, cast
from jaxnn.training.stops import Reason, Stops


class Best(NamedTuple):
    """The lowest validation cost so far, the epochs since then, and the params that had it."""

    cost: Array
    since: Array
    params: Params


class State(NamedTuple):
    """All that changes from epoch to epoch."""

    params: Params
    opt_state: PyTree
    epoch: Array  # whole epochs so far
    reason: Array  # a `Reason`
    best: Best | None  # with patience


@dataclass(frozen=True)
class Run:
    """All that is static in a run: one compilation for each value."""

    model: Layer
    loss: Loss
    penalty: Penalty | None
    optimizer: optax.GradientTransformation | None  # None where each network of a sweep has its own
    batch_size: int
    dtype: np.dtype
    chunk: int  # epochs in one compiled call
    one_by_one: bool  # rows are copied one by one, see `rows_of`


def step(
    run: Run, params: Params, opt_state: PyTree, batch: Batch, key: Array
) -> tuple[Params, PyTree, Array, Params, PyTree]:
    """One iteration: w ← w − α ∂J/∂w, or what the optimiser makes of ∂J/∂w; then the statistics are moved.

    (params, opt_state, J, ∂J/∂params, slopes). The optimiser is shown the learned leaves alone: it would decay
    statistics, or move them along a line.
    """
    value_and_grad = backprop.value_and_grad(run.model, run.loss, run.penalty, has_aux=True)
    (J, residuals), grads = value_and_grad(cast(params, run.dtype), *batch, key)
    grads = jax.tree.map(lambda dv, v: dv.astype(v.dtype), grads, params)
    whole, params, grads = params, without_statistics(params), without_statistics(grads)

    def J_of(params: Params) -> Array:  # for optimisers that search along a line, such as lbfgs: by autodiff
        J = backprop.cost(run.model, run.loss, run.penalty)
        return J(cast(with_statistics(params, whole), run.dtype), *batch, key)

    optimizer = optax.with_extra_args_support(run.optimizer)
    updates, opt_state = optimizer.update(grads, opt_state, params, value=J, grad=grads, value_fn=J_of)
    after = with_statistics(optax.apply_updates(params, updates), whole)
    after = jax.tree.map(lambda new, v: new.astype(v.dtype), moved(run.model, after, residuals), whole)
    return after, opt_state, J, grads, health.slopes(run.model, whole, residuals)


def with_statistics(learned: Params, params: Params) -> Params:
    """The learned leaves with the statistics of `params` in the place of None."""
    return jax.tree.map(lambda v, old: old if v is None else v, learned, params, is_leaf=lambda v: v is None)


def rows_of(run: Run, data: Batch, index: Array | np.ndarray | None) -> Batch:
    """The batch of these rows, all where index is None. One by one: on a CPU XLA starts threads for a gather from large
    data, which takes longer than to copy the rows of a small batch."""

    def row(i: Array) -> Batch:
        return jax.tree.map(lambda v: lax.dynamic_index_in_dim(v, i, keepdims=False), data)

    if index is None:
        return data
    return lax.map(row, index) if run.one_by_one else jax.tree.map(lambda v: v[index], data)


class Carry(NamedTuple):
    """What an iteration hands to the next one."""

    i: Array | int  # iterations of this epoch so far
    params: Params
    opt_state: PyTree
    grads: Params  # of the last iteration
    slopes: PyTree  # the largest of the epoch so far


def iterations(
    run: Run, data: Batch, key: Array, state: State, order: Array | None
) -> tuple[Carry, tuple[Array, Array]]:
    """The iterations of an epoch: every example once, a last short batch included.

    (the last carry, (J, weight of the batch) of each iteration)
    """

    def iteration(carry: Carry, index: Array | None) -> tuple[Carry, tuple[Array, PyTree]]:
        i, params, opt_state, _, slopes = carry
        batch = rows_of(run, data, index)
        params, opt_state, J, grads, new = step(run, params, opt_state, batch, jax.random.fold_in(key, i))
        weight = () if batch.w is None else batch.w.sum().astype(J.dtype)
        return Carry(i + 1, params, opt_state, grads, jax.tree.map(jnp.maximum, slopes, new)), (J, weight)

    m = len(data.x)
    *_, slopes = jax.eval_shape(partial(step, run), state.params, state.opt_state, data, key)
    grads = without_statistics(state.params)  # of the same shapes
    carry = Carry(0, state.params, state.opt_state, grads, jax.tree.map(jnp.zeros_like, slopes))
    if order is None:
        carry, last = iteration(carry, None)
        J, weight = jax.tree.map(jnp.atleast_1d, last)
    else:
        full = m - m % run.batch_size
        carry, (J, weight) = lax.scan(iteration, carry, order[:full].reshape(-1, run.batch_size))
        if full < m:
            carry, last = iteration(carry, order[full:])
            J, weight = jax.tree.map(jnp.append, (J, weight), last)
    if data.w is None:
        weight = jnp.asarray(np.diff([*range(0, m, run.batch_size), m]), J.dtype)
    return carry, (J, weight)


def one_epoch(
    run: Run, data: Batch, validation: Batch | None, stops: Stops, key: Array, state: State, order: Array | None
) -> tuple[State, History]:
    """(the state after one more epoch, the epoch's row of the history)."""
    draw_key = jax.random.fold_in(key, state.epoch)
    (_, params, opt_state, grads, slopes), (J, weight) = iterations(run, data, draw_key, state, order)
    cost = (J * (weight / weight.sum())).sum()
    validation_cost, metric = evaluate(run, params, validation)
    finite = health.is_finite((params, J, cost if validation is None else validation_cost))
    best = None if state.best is None else best_of(state.best, params, validation_cost, finite)
    change = None if stops.tolerance is None else largest_change(state.params, params)
    reason = stops.reason(finite, cost, change, None if best is None else best.since)
    row = History._make((J, cost, validation_cost, metric, *health.of_layers(run.model, grads, slopes)))
    return State(params, opt_state, state.epoch + 1, reason, best), row


def best_of(best: Best, params: Params, cost: Array, finite: Array) -> Best:
    """The best so far, after an epoch with these params and this validation cost, if all of it is finite."""
    better = finite & (cost < best.cost)
    return Best(
        jnp.minimum(best.cost, cost),
        jnp.where(better, 0, best.since + 1),
        jax.tree.map(lambda new, old: jnp.where(better, new, old), params, best.params),
    )


def evaluate(run: Run, params: Params, batch: Batch | None) -> tuple[Array, Array]:
    """(J without the penalty, the loss's metric) of a batch; NaN without one."""
    if batch is None:
        return jnp.float32(jnp.nan), jnp.float32(jnp.nan)
    z = run.model.apply(cast(params, run.dtype), batch.x)
    J, _ = run.loss.forward(z, batch.y)
    y_hat = run.loss.predict(z)
    return J, METRICS[run.loss.metric](y_hat, batch.y).astype(J.dtype)


def largest_change(before: Params, after: Params) -> Array:
    """The largest |change| of any learned number."""
    changes = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), *map(without_statistics, (after, before)))
    return jnp.stack(jax.tree.leaves(changes)).max()


def epochs_of(
    run: Run,
    data: Batch,
    validation: Batch | None,
    stops: Stops,
    key: Array,
    state: State,
    epochs: Array | int,
    orders: Array | None,
    cond: Callable[..., PyTree] = lax.cond,
) -> tuple[State, History]:
    """A chunk of epochs; those after a stop, or beyond `epochs`, are skipped."""
    one = jax.jit(partial(one_epoch, run, data, validation, stops, key))  # traced once for both of its uses

    def skip(state: State, order: Array | None) -> tuple[State, History]:
        _, row = jax.eval_shape(one, state, order)
        return state, jax.tree.map(lambda v: jnp.full(v.shape, jnp.nan, v.dtype), row)

    def next_epoch(state: State, order: Array | None) -> tuple[State, History]:
        return cond((state.reason == Reason.EPOCHS) & (state.epoch < epochs), one, skip, state, order)

    return lax.scan(next_epoch, state, orders, length=run.chunk)


chunk_of = jax.jit(epochs_of, static_argnames="run", donate_argnames="state")


@jax.jit
def copy(tree: PyTree) -> PyTree:
    """The tree in buffers of its own."""
    return jax.tree.map(jnp.copy, tree)


def initial(params: Params, optimizer: optax.GradientTransformation, lowest_dtype: np.dtype | None) -> State:
    """The `State` before the first epoch; lowest_dtype: of the lowest validation cost, None where none is watched."""
    best = None if lowest_dtype is None else Best(jnp.array(jnp.inf, lowest_dtype), jnp.array(0), params)
    opt_state = optimizer.init(without_statistics(params))
    return State(params, opt_state, jnp.array(0), jnp.array(int(Reason.EPOCHS)), best)
