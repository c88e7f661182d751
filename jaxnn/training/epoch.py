"""What is compiled: one iteration, one epoch, a chunk of epochs."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import Array, lax
from jax import numpy as jnp

from jaxnn import backprop
from jaxnn.metrics import METRICS
from jaxnn.protocols import Layer, Loss, Penalty, moved, without_statistics
from jaxnn.training import health
from jaxnn.training.history import REASONS, History
from jaxnn.training.prepare import cast


class Stops(NamedTuple):
    tolerance: float | None
    patience: int | None
    target_cost: float | None


class State(NamedTuple):
    params: Any
    opt_state: Any
    epoch: Array  # whole epochs so far
    reason: Array  # index into REASONS
    best: Any  # with patience: (lowest validation cost, epochs since then, its params); else None


@dataclass(frozen=True)
class Run:
    """All that is static in a run: one compilation for each value."""

    model: Layer
    loss: Loss
    penalty: Penalty | None
    optimizer: optax.GradientTransformation
    batch_size: int
    dtype: Any
    chunk: int  # epochs in one compiled call
    one_by_one: bool  # how the rows of a batch are taken


def step(run, params, opt_state, batch, key):
    """One iteration: w ← w − α ∂J/∂w, or what the optimiser makes of ∂J/∂w; then the statistics are moved.

    The optimiser is shown the learned leaves alone: it would decay statistics, or move them along a line.
    """
    value_and_grad = backprop.value_and_grad(run.model, run.loss, run.penalty, has_aux=True)
    (J, residuals), grads = value_and_grad(cast(params, run.dtype), *batch, key)
    grads = jax.tree.map(lambda dv, v: dv.astype(v.dtype), grads, params)

    before, grads = without_statistics(params), without_statistics(grads)

    def J_of(after):  # for optimisers that search along a line, such as lbfgs: they differentiate it by autodiff
        whole = with_statistics(after, params)
        return backprop.cost(run.model, run.loss, run.penalty)(cast(whole, run.dtype), *batch, key)

    optimizer = optax.with_extra_args_support(run.optimizer)
    updates, opt_state = optimizer.update(grads, opt_state, before, value=J, grad=grads, value_fn=J_of)
    after = with_statistics(optax.apply_updates(before, updates), params)
    after = jax.tree.map(lambda new, v: new.astype(v.dtype), moved(run.model, after, residuals), params)
    return after, opt_state, J, grads, health.slopes(run.model, params, residuals)


def with_statistics(learned, params):
    """The learned leaves with the statistics of `params` in the place of None."""
    return jax.tree.map(lambda v, old: old if v is None else v, learned, params, is_leaf=lambda v: v is None)


def rows_of(run, data, index):
    """The batch of these rows, all where index is None. One by one: on a CPU XLA starts threads for a gather from large
    data, which takes longer than to copy the rows of a small batch."""

    def row(i):
        return jax.tree.map(lambda v: lax.dynamic_index_in_dim(v, i, keepdims=False), data)

    if index is None:
        return data
    return lax.map(row, index) if run.one_by_one else jax.tree.map(lambda v: v[index], data)


def one_epoch(run, data, validation, stops, key, state, order):
    """(state, order) -> (state, the epoch's row of the history). Every example once, a last short batch included."""
    m, draw_key = len(data.x), jax.random.fold_in(key, state.epoch)

    def iteration(carry, index):
        i, params, opt_state, _, slopes = carry
        batch = rows_of(run, data, index)
        params, opt_state, J, grads, new = step(run, params, opt_state, batch, jax.random.fold_in(draw_key, i))
        weight = () if batch.w is None else batch.w.sum().astype(J.dtype)
        return (i + 1, params, opt_state, grads, jax.tree.map(jnp.maximum, slopes, new)), (J, weight)

    *_, slopes = jax.eval_shape(partial(step, run), state.params, state.opt_state, data, draw_key)
    grads = without_statistics(state.params)  # of the same shapes
    carry = (0, state.params, state.opt_state, grads, jax.tree.map(jnp.zeros_like, slopes))
    if order is None:
        carry, last = iteration(carry, None)
        J, weight = jax.tree.map(jnp.atleast_1d, last)
    else:
        full = m - m % run.batch_size
        carry, (J, weight) = lax.scan(iteration, carry, order[:full].reshape(-1, run.batch_size))
        if full < m:
            carry, last = iteration(carry, order[full:])
            J, weight = jax.tree.map(jnp.append, (J, weight), last)
    _, params, opt_state, grads, slopes = carry

    if data.w is None:
        weight = jnp.asarray(np.diff([*range(0, m, run.batch_size), m]), J.dtype)
    cost = (J * (weight / weight.sum())).sum()
    validation_cost, metric = evaluate(run, params, validation)
    finite = health.is_finite((params, J, cost if validation is None else validation_cost))
    best = state.best
    if stops.patience is not None:
        lowest, since, kept = best
        better = finite & (validation_cost < lowest)
        best = (
            jnp.minimum(lowest, validation_cost),
            jnp.where(better, 0, since + 1),
            jax.tree.map(lambda new, old: jnp.where(better, new, old), params, kept),
        )
    never = jnp.array(False)
    conditions = {
        "epochs": never,
        "not_finite": ~finite,
        "target_cost": never if stops.target_cost is None else cost <= stops.target_cost,
        "tolerance": never if stops.tolerance is None else largest_change(state.params, params) <= stops.tolerance,
        "patience": never if stops.patience is None else best[1] >= stops.patience,
    }
    reason = jnp.argmax(jnp.stack([conditions[name] for name in REASONS]))  # the first that holds, else 0
    row = History(
        J,
        cost,
        validation_cost,
        metric,
        *health.of_layers(run.model, grads, slopes),
    )
    return State(params, opt_state, state.epoch + 1, reason, best), row


def evaluate(run, params, batch):
    """(J without the penalty, the loss's metric) of a batch; NaN without one."""
    if batch is None:
        return jnp.float32(jnp.nan), jnp.float32(jnp.nan)
    z = run.model.apply(cast(params, run.dtype), batch.x)
    J, _ = run.loss.forward(z, batch.y)
    y_hat = run.loss.predict(z)
    return J, METRICS[run.loss.metric](y_hat, batch.y).astype(J.dtype)


def largest_change(before, after):
    """The largest |change| of any learned number."""
    changes = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), *map(without_statistics, (after, before)))
    return jnp.stack(jax.tree.leaves(changes)).max()


def epochs_of(run, data, validation, stops, key, state, epochs, orders, cond=lax.cond):
    """A chunk of epochs; those after a stop, or beyond `epochs`, are skipped."""
    one = jax.jit(partial(one_epoch, run, data, validation, stops, key))  # traced once for both of its uses

    def skip(state, order):
        _, row = jax.eval_shape(one, state, order)
        return state, jax.tree.map(lambda v: jnp.full(v.shape, jnp.nan, v.dtype), row)

    def next_epoch(state, order):
        return cond((state.reason == 0) & (state.epoch < epochs), one, skip, state, order)

    return lax.scan(next_epoch, state, orders, length=run.chunk)


chunk_of = jax.jit(epochs_of, static_argnames="run", donate_argnames="state")


@jax.jit
def copy(tree):
    return jax.tree.map(jnp.copy, tree)


def initial(params, optimizer, lowest_dtype):
    """The `State` before the first epoch; lowest_dtype: of the lowest validation cost, None where none is watched."""
    best = None if lowest_dtype is None else (jnp.array(jnp.inf, lowest_dtype), jnp.array(0), params)
    return State(params, optimizer.init(without_statistics(params)), jnp.array(0), jnp.array(0), best)
