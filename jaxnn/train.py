"""Gradient descent: whole runs as compiled chunks of epochs, reported and stopped between them."""

import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import Array, lax
from jax import numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxnn import backprop, health
from jaxnn.data import check_data, check_labels
from jaxnn.layer import Layer, Loss, Penalty
from jaxnn.metrics import METRICS


class History(NamedTuple):
    """What happened, one row an epoch; column i of the last three is layer i of a Chain, NaN where it says nothing."""

    iteration_cost: np.ndarray  # (iterations,)    J of the iteration's batch before its update, penalty included
    cost: np.ndarray  # (epochs,)                  mean of these over the epoch's examples
    validation_cost: np.ndarray  # (epochs,)       J of the validation examples without the penalty, NaN without any
    validation_metric: np.ndarray  # (epochs,)     the loss's metric of them: accuracy or R²
    gradient_norm: np.ndarray  # (epochs, layers)  ‖∂J/∂params‖₂ in the epoch's last iteration
    dead: np.ndarray  # (epochs, layers)           share of ReLU units that were 0 for every example of the epoch
    saturated: np.ndarray  # (epochs, layers)      share of sigmoid and tanh units that were flat for every example


class Stopped(NamedTuple):
    """Why a run ended, after how many whole epochs, and the same in a sentence."""

    reason: str  # epochs, target_cost, tolerance, patience, not_finite or interrupted
    epoch: int
    message: str


class Fit(NamedTuple):
    params: Any
    history: History
    stopped: Stopped


class Batch(NamedTuple):
    x: Array  # (m, …)
    y: Array  # (m, …)
    w: Array | None  # (m, …)


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


REASONS = ("epochs", "not_finite", "target_cost", "tolerance", "patience")
CHUNK_ITERATIONS, CHUNK_WORK = 1000, 1e10  # at most so many, and so many flop, between two looks from the host
GRADIENT_DESCENT = optax.sgd(0.1)  # w ← w − 0.1 ∂J/∂w


def cast(tree, dtype):
    return jax.tree.map(lambda v: v.astype(dtype), tree)


def step(run, params, opt_state, batch, key):
    """One iteration: w ← w − α ∂J/∂w, or what the optimiser makes of ∂J/∂w."""
    value_and_grad = backprop.value_and_grad(run.model, run.loss, run.penalty, has_aux=True)
    (J, residuals), grads = value_and_grad(cast(params, run.dtype), *batch, key)
    grads = jax.tree.map(lambda dv, v: dv.astype(v.dtype), grads, params)

    def J_of(params):  # for optimisers that search along a line
        return backprop.cost(run.model, run.loss, run.penalty)(cast(params, run.dtype), *batch, key)

    optimizer = optax.with_extra_args_support(run.optimizer)
    updates, opt_state = optimizer.update(grads, opt_state, params, value=J, grad=grads, value_fn=J_of)
    params = optax.apply_updates(params, updates)
    return params, opt_state, J, grads, health.slopes(run.model, residuals)


def epoch_keys(key, epoch):
    """What orders the examples of an epoch, and what its layers draw from."""
    return jax.random.split(jax.random.fold_in(key, epoch))


def one_epoch(run, data, validation, stops, key, state, order):
    """(state, order) -> (state, the epoch's row of the history). Every example once, a last short batch included."""
    m = len(data.x)
    order_key, draw_key = epoch_keys(key, state.epoch)
    if order is None and run.batch_size < m:
        order = jax.random.permutation(order_key, m)

    def iteration(carry, index):
        i, params, opt_state, _, slopes = carry
        batch = data if index is None else jax.tree.map(lambda v: v[index], data)
        params, opt_state, J, grads, new = step(run, params, opt_state, batch, jax.random.fold_in(draw_key, i))
        weight = J.dtype.type(len(batch.x)) if batch.w is None else batch.w.sum().astype(J.dtype)
        return (i + 1, params, opt_state, grads, jax.tree.map(jnp.maximum, slopes, new)), (J, weight)

    *_, slopes = jax.eval_shape(partial(step, run), state.params, state.opt_state, data, draw_key)
    carry = (0, state.params, state.opt_state, state.params, jax.tree.map(jnp.zeros_like, slopes))
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

    cost = (J * weight).sum() / weight.sum()
    validation_cost, metric = evaluate(run, params, validation)
    best = state.best
    if stops.patience is not None:
        lowest, since, kept = best
        better = validation_cost < lowest
        best = (
            jnp.minimum(lowest, validation_cost),
            jnp.where(better, 0, since + 1),
            jax.tree.map(lambda new, old: jnp.where(better, new, old), params, kept),
        )
    never = jnp.array(False)
    conditions = {
        "epochs": never,
        "not_finite": ~(health.is_finite(params) & jnp.isfinite(J).all()),
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
        health.gradient_norms(run.model, grads),
        health.dead(run.model, slopes),
        health.saturated(run.model, slopes),
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
    return jnp.stack([jnp.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (after, before)), strict=True)]).max()


@partial(jax.jit, static_argnames="run", donate_argnames="state")
def epochs_of(run, data, validation, stops, key, state, epochs, orders):
    """A chunk of epochs in one compiled call; those after a stop, or beyond `epochs`, are skipped."""
    one = partial(one_epoch, run, data, validation, stops, key)

    def skip(state, order):
        _, row = jax.eval_shape(one, state, order)
        return state, jax.tree.map(lambda v: jnp.full(v.shape, jnp.nan, v.dtype), row)

    def next_epoch(state, order):
        return lax.cond((state.reason == 0) & (state.epoch < epochs), one, skip, state, order)

    return lax.scan(next_epoch, state, orders, length=run.chunk)


def fit(
    model,
    loss,
    x,
    y,
    *,
    key,
    epochs,
    optimizer=GRADIENT_DESCENT,
    batch_size=None,
    params=None,
    order=None,
    weights=None,
    validation=None,
    penalty=None,
    tolerance=None,
    patience=None,
    target_cost=None,
    dtype=None,
    on_epoch=None,
    progress=None,
    mesh=None,
):
    """Trains `model` on x (m, …) and y (m, …) by gradient descent: Fit(params, history, stopped).

    An epoch is one pass over the data, an iteration one update, a batch the examples of one update: batch_size None
    is all of them (batch gradient descent), 1 is stochastic, anything between is mini-batch. Each epoch uses each
    example exactly once, in a new order drawn from `key`, a last short batch included; a batch of all needs no order.
    The same key gives the same run, bit for bit, on one machine.

    optimizer    any of optax; w ← w − 0.1 ∂J/∂w when none is given
    params       where to start; `model.init` when not given
    order        order(epoch) -> the m row numbers of that epoch, counted from 0, in place of the drawn order
    weights      one number an example, J = Σ wL / Σ w
    validation   (x, y), evaluated after every epoch
    penalty      a term added to J, such as L2
    dtype        to compute in. Parameters stay in float32 at least: bfloat16 is mixed precision. float64 needs
                 `with jax.enable_x64(True):`. Without one: the dtype of `params`, or of a floating x, or float32
    on_epoch     on_epoch(epoch, params) after every epoch, counted from 0
    progress     progress(epochs done, cost) between compiled chunks
    mesh         a jax Mesh with Auto axes: rows of x, y, weights are split over its first axis, params replicated

    Stops after `epochs`, or earlier:
    target_cost  when the epoch's cost is at most this
    tolerance    τ: when no parameter changed by more than τ in an epoch
    patience     when the validation cost has not gone below its lowest for this many epochs; the parameters returned
                 are then those of its lowest
    always       when a cost or a parameter is not finite (the parameters returned are the last finite ones, and
                 `stopped.message` says which iteration and which layer), and on Ctrl-C, with what was learned so far

    ValueError for data that do not fit together or are not finite, or settings out of range.
    """
    x, y = np.asarray(x), np.asarray(y)
    check_data(x, y, weights)
    m = len(x)
    if epochs < 1 or (batch_size is not None and batch_size < 1):
        raise ValueError(f"epochs is {epochs} and batch_size is {batch_size}: both must be 1 or more.")
    if patience is not None and validation is None:
        raise ValueError("patience watches the validation cost: give validation=(x, y).")
    if batch_size is not None and batch_size > m:
        warnings.warn(f"batch_size {batch_size} is more than the {m} rows: each batch is all of them.", stacklevel=2)
    batch_size = min(batch_size or m, m)

    dtype = compute_dtype(dtype, params, x)
    J_dtype = jnp.float64 if dtype == jnp.float64 else jnp.float32
    init_key, run_key = jax.random.split(key)
    params = model.init(init_key, J_dtype) if params is None else jax.tree.map(jnp.asarray, params)
    data = to_batch(x, y, weights, dtype)
    check_labels(y, jax.eval_shape(model.apply, cast(params, dtype), data.x).shape)
    if validation is not None:
        x_held, y_held = validation
        check_data(x_held, y_held)
        validation = to_batch(x_held, y_held, None, dtype)
    if mesh is not None:
        params, data = place(params, data, mesh)

    work = 6 * batch_size * sum(v.size for v in jax.tree.leaves(params))  # flop of an iteration, near enough
    iterations = np.clip(CHUNK_WORK // (work + 1), 1, CHUNK_ITERATIONS)
    chunk = 1 if on_epoch else int(np.clip(iterations * batch_size // m, 1, epochs))
    run = Run(model, loss, penalty, optimizer, batch_size, dtype, chunk)
    stops = Stops(tolerance, patience, target_cost)
    best = None if patience is None else (jnp.array(jnp.inf, J_dtype), jnp.array(0), params)
    state = State(params, optimizer.init(params), jnp.array(0), jnp.array(0), best)
    state = jax.tree.map(jnp.copy, state)  # nothing shared, with the caller or within: chunks donate it

    reason, where, chunks, kept = "epochs", "", [], state
    try:
        while reason == "epochs" and (done := int(state.epoch)) < epochs:
            kept = jax.tree.map(jnp.copy, state)  # the chunk is given the buffers of `state`
            orders = None if order is None else orders_of(order, done, epochs, chunk, m)
            state, rows = epochs_of(run, data, validation, stops, run_key, state, epochs, orders)
            reason, finite = REASONS[int(state.reason)], int(state.epoch)
            if reason == "not_finite":
                finite -= 1
                params, where = last_finite(run, data, run_key, kept, orders)
                state = state._replace(params=params, epoch=finite)
            chunks.append(jax.tree.map(lambda v: np.asarray(v)[: finite - done], rows))  # noqa: B023
            kept = state
            if on_epoch and finite > done:
                on_epoch(done, jax.tree.map(jnp.copy, state.params))  # theirs to keep
            if progress:
                progress(finite, float(np.append(np.nan, chunks[-1].cost)[-1]))
    except KeyboardInterrupt:
        state, reason = kept, "interrupted"

    no_rows = History(*[np.zeros((0, *[len(health.layers(model))] * (i > 3))) for i in range(len(History._fields))])
    history = jax.tree.map(lambda *v: np.concatenate(v), *chunks) if chunks else no_rows
    history = history._replace(iteration_cost=history.iteration_cost.ravel())
    n = int(state.epoch)
    returned = "the last finite ones" if state.best is None else "those of the lowest validation cost"
    message = {
        "epochs": f"Done: {epochs} epoch{'s' * (epochs > 1)}.",
        "target_cost": f"The cost of epoch {n} is at most the target {target_cost}.",
        "tolerance": f"No parameter changed by more than the tolerance {tolerance} in epoch {n}.",
        "patience": f"No validation cost of the last {patience} epochs was below that of epoch {n - (patience or 0)}.",
        "not_finite": f"In epoch {n + 1}, {where}. The parameters kept are {returned}. "
        "Try a smaller learning rate, or inputs brought to about −1 to 1.",
        "interrupted": f"Interrupted after epoch {n}; kept what was learned until then.",
    }[reason]
    return Fit(state.params if state.best is None else state.best[2], history, Stopped(reason, n, message))


def compute_dtype(dtype, params, x):
    """The dtype a run computes in: what was asked for, or that of the params, of a floating x, or float32."""
    if dtype is None:
        leaves = [*jax.tree.leaves(params), x]
        dtype = jnp.result_type(leaves[0]) if jnp.issubdtype(leaves[0].dtype, jnp.floating) else jnp.float32
    if jnp.dtype(dtype) == jnp.float64 and not jax.config.read("jax_enable_x64"):
        raise ValueError("dtype is float64, which JAX has only inside `with jax.enable_x64(True):`; call fit there.")
    return jnp.dtype(dtype)


def to_batch(x, y, w, dtype):
    """Arrays on the device: a floating x in the compute dtype, integers and labels as they are."""
    x = jnp.asarray(x)
    return Batch(
        x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x,
        jnp.asarray(y),
        None if w is None else jnp.asarray(w),
    )


def orders_of(order, start, epochs, chunk, m):
    """(chunk, m): the row numbers of the next epochs; a row of zeros for those beyond the last, which are skipped."""
    rows = np.zeros((chunk, m), int)
    for n in range(min(chunk, epochs - start)):
        index = np.asarray(order(start + n))
        if index.shape != (m,) or index.min() < 0 or index.max() >= m:
            raise ValueError(f"order({start + n}) must give {m} row numbers from 0 to {m - 1}; it gave {index!r}.")
        rows[n] = index
    return rows


def last_finite(run, data, key, state, orders):
    """Replays a chunk one iteration at a time: the params before the first number that is not finite, and its place."""
    one_step = jax.jit(step, static_argnums=0)
    m, params, opt_state = len(data.x), state.params, state.opt_state
    for n in range(run.chunk):
        order_key, draw_key = epoch_keys(key, state.epoch + n)
        order = jax.random.permutation(order_key, m) if orders is None else orders[n]
        for i, start in enumerate(range(0, m, run.batch_size)):
            batch = jax.tree.map(lambda v: v[order[start : start + run.batch_size]], data)  # noqa: B023
            after, opt_state, J, *_ = one_step(run, params, opt_state, batch, jax.random.fold_in(draw_key, i))
            if not health.is_finite((J, after)):
                culprit = params if not jnp.isfinite(J) else after
                layer = health.first_not_finite(run.model, cast(culprit, run.dtype), batch.x)
                return params, f"iteration {i + 1}, {layer} was not finite"
            params = after
    return state.params, "the cost was not finite"


def place(params, data, mesh):
    """Params on every device, rows split over the mesh's first axis."""
    axis, devices = mesh.axis_names[0], mesh.devices.shape[0]
    if any(kind != AxisType.Auto for kind in mesh.axis_types):
        raise ValueError(
            f"fit needs a mesh with Auto axes; this one has {mesh.axis_types}: give jax.make_mesh axis_types=."
        )
    if len(data.x) % devices:
        raise ValueError(
            f"{len(data.x)} rows do not divide over {devices} devices: leave some out or weight added ones 0."
        )
    rows, everywhere = NamedSharding(mesh, PartitionSpec(axis)), NamedSharding(mesh, PartitionSpec())
    return jax.device_put(params, everywhere), jax.device_put(data, rows)
