"""Gradient descent: whole runs as compiled chunks of epochs, reported and stopped between them."""

import math
import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import Array, lax
from jax import numpy as jnp

from jaxnn import backprop, health
from jaxnn.checks import check_data, check_labels
from jaxnn.layer import Layer, Loss, Penalty
from jaxnn.mean import sum_dtype
from jaxnn.metrics import METRICS
from jaxnn.parallel import place


class History(NamedTuple):
    """What happened, a row an epoch; column i of the last three is layer i of the outermost Chain, or NaN."""

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
    one_by_one: bool  # how the rows of a batch are taken


REASONS = ("epochs", "not_finite", "target_cost", "tolerance", "patience")
CHUNK_ITERATIONS, CHUNK_WORK = 10_000, 1e10  # a chunk of several epochs has at most so many iterations, so many flop
GRADIENT_DESCENT = optax.sgd(0.1)  # w ← w − 0.1 ∂J/∂w


def cast(tree, dtype):
    """Its floating leaves in `dtype`, a dtype or a function of the leaf that gives one."""

    def in_dtype(v):
        return v.astype(dtype(v) if callable(dtype) else dtype) if jnp.issubdtype(v.dtype, jnp.floating) else v

    return jax.tree.map(in_dtype, tree)


def step(run, params, opt_state, batch, key):
    """One iteration: w ← w − α ∂J/∂w, or what the optimiser makes of ∂J/∂w."""
    value_and_grad = backprop.value_and_grad(run.model, run.loss, run.penalty, has_aux=True)
    (J, residuals), grads = value_and_grad(cast(params, run.dtype), *batch, key)
    grads = jax.tree.map(lambda dv, v: dv.astype(v.dtype), grads, params)

    def J_of(params):  # for optimisers that search along a line, such as lbfgs: they differentiate it by autodiff
        return backprop.cost(run.model, run.loss, run.penalty)(cast(params, run.dtype), *batch, key)

    optimizer = optax.with_extra_args_support(run.optimizer)
    updates, opt_state = optimizer.update(grads, opt_state, params, value=J, grad=grads, value_fn=J_of)
    params = optax.apply_updates(params, updates)
    return params, opt_state, J, grads, health.slopes(run.model, residuals)


def shuffled(key, m):
    """order(epoch): all rows in a new order. Drawn on the host: XLA on a CPU takes 50 times as long to sort them."""
    seed = jax.random.key_data(key).ravel().tolist()
    return lambda epoch: np.random.default_rng([*seed, epoch]).permutation(m)


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
    The same key gives the same run, bit for bit, on one machine. A run is compiled once for each model, loss, penalty,
    batch size, dtype, number of epochs and optimiser: use the same optimiser object again where you can.

    optimizer    any of optax; w ← w − 0.1 ∂J/∂w when none is given. (A line search, as in lbfgs, differentiates the
                 cost by autodiff.)
    params       where to start; `model.init` when not given
    order        order(epoch) -> the m row numbers of that epoch, counted from 0, in place of the drawn order; called
                 for some epochs ahead
    weights      one number an example, J = Σ wL / Σ w
    validation   (x, y), evaluated after every epoch
    penalty      a term added to J, such as L2
    dtype        to compute in. Parameters are kept in float32 at least: bfloat16 is mixed precision. float64 needs
                 `with jax.enable_x64(True):`. Without one: the dtype of `params`, or of a floating x, or float32
    on_epoch     on_epoch(epoch, params) after every epoch, counted from 0
    progress     progress(epochs done, cost), some twenty times or more
    mesh         a jax Mesh with Auto axes: rows of x, y, weights are split over its first axis, params replicated

    Stops after `epochs`, or earlier:
    target_cost  when the epoch's cost is at most this
    tolerance    τ: when no parameter changed by more than τ in an epoch
    patience     when the validation cost has not gone below its lowest for this many epochs; with it, the parameters
                 returned are always those of the lowest
    always       when a cost or a parameter is not finite (the parameters returned are the last finite ones, and
                 `stopped.message` says which iteration and which layer); and on Ctrl-C, with what was learned up to
                 the last look from the host, an epoch or more ago

    ValueError for data that do not fit together or are not finite, settings out of range, a model without parameters.
    """
    check_settings(epochs, batch_size, tolerance, patience, validation)
    init_key, run_key = jax.random.split(key)
    dtype = compute_dtype(dtype, params, x)
    J_dtype = sum_dtype(jnp.zeros((), dtype))  # float32 at least, for the parameters too
    params = drawn(model, init_key, J_dtype) if params is None else cast(jax.tree.map(jnp.asarray, params), sum_dtype)
    data, validation = checked(model, params, x, y, weights, validation, dtype)
    m = len(data.x)
    batch_size = rows_a_batch(batch_size, m)
    if mesh is not None:
        params, data = place(params, data, mesh)

    n_params = sum(v.size for v in jax.tree.leaves(params))
    chunk = 1 if on_epoch else chunk_length(epochs, 20 if progress else 1, m, batch_size, n_params)
    if order is None and batch_size < m:
        order = shuffled(run_key, m)
    one_by_one = mesh is None and {device.platform for device in data.x.devices()} == {"cpu"}
    run = Run(model, loss, penalty, optimizer, batch_size, dtype, chunk, one_by_one)
    stops = Stops(tolerance, patience, target_cost)
    lowest_dtype = None if patience is None else J_dtype
    state = jax.jit(initial, static_argnums=(1, 2))(params, optimizer, lowest_dtype)
    state = copy(state)  # nothing shared with the caller: chunks donate it

    reason, where = "epochs", ""
    chunks: list[History] = []
    kept = state, 0
    try:
        while reason == "epochs" and (start := int(state.epoch)) < epochs:
            saved = copy(state)  # the chunk is given the buffers of `state`
            kept = saved, len(chunks)
            orders = None if order is None else orders_of(order, start, epochs, chunk, m)
            state, rows = chunk_of(run, data, validation, stops, run_key, state, epochs, orders)
            reason, end = REASONS[int(state.reason)], int(state.epoch)
            if reason == "not_finite":
                end -= 1
                params, where = last_finite(run, data, run_key, saved, end, orders)
                state = state._replace(params=params, epoch=end)
            chunks.append(first(end - start, rows))
            kept = state, len(chunks)
            if on_epoch and end > start:
                on_epoch(start, copy(state.params))  # theirs to keep
            if progress and end > start:
                progress(end, float(chunks[-1].cost[-1]))
    except KeyboardInterrupt:
        reason, (state, n) = "interrupted", kept
        chunks = chunks[:n]

    nothing = History(*[np.zeros(0)] * 4, *[np.zeros((0, len(health.layers(model))))] * 3)
    history = jax.tree.map(lambda *v: np.concatenate(v), *chunks or [nothing])
    history = history._replace(iteration_cost=history.iteration_cost.ravel())
    stopped = why(reason, int(state.epoch), stops, where)
    return Fit(state.params if patience is None else state.best[2], history, stopped)


@partial(jax.jit, static_argnums=(0, 2))
def drawn(model, key, dtype):
    """Where training starts."""
    return model.init(key, dtype)


@jax.jit
def copy(tree):
    return jax.tree.map(jnp.copy, tree)


def initial(params, optimizer, lowest_dtype):
    """The `State` before the first epoch; lowest_dtype: of the lowest validation cost, None where none is watched."""
    best = None if lowest_dtype is None else (jnp.array(jnp.inf, lowest_dtype), jnp.array(0), params)
    return State(params, optimizer.init(params), jnp.array(0), jnp.array(0), best)


def why(reason, n, stops, where):
    """`Stopped` after n whole epochs; where: something that was not finite."""
    returned = "the last finite ones" if stops.patience is None else "those of the lowest validation cost"
    message = {
        "epochs": f"Done: {n} epoch{'s' * (n > 1)}.",
        "target_cost": f"The cost of epoch {n} is at most the target {stops.target_cost}.",
        "tolerance": f"No parameter changed by more than the tolerance {stops.tolerance} in epoch {n}.",
        "patience": f"No validation cost of the last {stops.patience} epochs was below that of epoch "
        f"{n - (stops.patience or 0)}.",
        "not_finite": f"In epoch {n + 1}, {where}. The parameters kept are {returned}. "
        "Try a smaller learning rate, or inputs brought to about −1 to 1.",
        "interrupted": f"Interrupted after epoch {n}; kept what was learned until then.",
    }[reason]
    return Stopped(reason, n, message)


def check_settings(epochs, batch_size, tolerance, patience, validation):
    settings = {
        "epochs": (epochs, 1),
        "batch_size": (batch_size, 1),
        "patience": (patience, 1),
        "tolerance": (tolerance, 0),
    }
    for name, (value, least) in settings.items():
        if value is not None and not least <= value < 2**31:
            raise ValueError(f"{name} is {value}: it must be {least} or more, and below 2³¹.")
    if patience is not None and validation is None:
        raise ValueError("patience watches the validation cost: give validation=(x, y).")


def rows_a_batch(batch_size, m):
    """All m for None; warns where more are asked for than there are."""
    if batch_size is not None and batch_size > m:
        warnings.warn(f"batch_size {batch_size} is more than the {m} rows: each batch is all of them.", stacklevel=3)
    return min(batch_size or m, m)


def chunk_length(epochs, least, m, batch_size, n_params):
    """How many epochs to compile into one call: enough to hide its start, few enough to look in, `least` times or more
    where there are as many epochs; and such that the last call has about as many to do as the others."""
    work = 6 * batch_size * n_params  # flop of an iteration, near enough
    iterations = np.clip(CHUNK_WORK // (work + 1), 1, CHUNK_ITERATIONS)
    most = int(np.clip(iterations * batch_size // m, 1, max(1, epochs // least)))
    return math.ceil(epochs / math.ceil(epochs / most))


def first(n, rows):
    """The first n epochs of a chunk's history, on the host."""
    return jax.tree.map(lambda v: np.asarray(v)[:n], rows)


def compute_dtype(dtype, params, x):
    """The dtype a run computes in: what was asked for, or that of the params, of a floating x, or float32."""
    if dtype is None:
        leaves = [*jax.tree.leaves(params), np.asarray(x)]
        dtype = jnp.result_type(leaves[0]) if jnp.issubdtype(leaves[0].dtype, jnp.floating) else jnp.float32
    if jnp.dtype(dtype) == jnp.float64 and not jax.config.read("jax_enable_x64"):
        raise ValueError("dtype is float64, which JAX has only inside `with jax.enable_x64(True):`; call fit there.")
    return jnp.dtype(dtype)


def checked(model, params, x, y, weights, validation, dtype):
    """(data, validation) as `Batch`es, validation None without any."""
    if not jax.tree.leaves(params):
        raise ValueError(f"{model} has no parameters: there is nothing to learn.")

    def part(x, y, w, name):
        batch = to_batch(x, y, w, dtype, name)
        check_labels(y, jax.eval_shape(model.apply, cast(params, dtype), batch.x).shape, name)
        return batch

    if validation is None:
        return part(x, y, weights, ""), None
    x_held, y_held = validation
    return part(x, y, weights, ""), part(x_held, y_held, None, "validation ")


def to_batch(x, y, w, dtype, part=""):
    """Checked arrays on the device: a floating x in the compute dtype, integers and labels as they are."""
    check_data(x, y, w, part=part)
    return Batch(cast(jnp.asarray(x), dtype), jnp.asarray(y), None if w is None else jnp.asarray(w))


def orders_of(order, start, epochs, chunk, m):
    """(chunk, m): the row numbers of the next epochs; a row of zeros for those beyond the last, which are skipped."""
    rows = np.zeros((chunk, m), np.int32)
    for n in range(min(chunk, epochs - start)):
        index = np.asarray(order(start + n))
        if index.shape != (m,) or index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= m:
            raise ValueError(f"order({start + n}) must give {m} row numbers from 0 to {m - 1}; it gave {index!r}.")
        rows[n] = index
    return rows


def last_finite(run, data, key, state, last, orders):
    """Replays epochs, from `state` on through `last`, in which something was not finite, one iteration at a time.

    (the last params with which all was finite, where it was not)
    """
    one_step = jax.jit(step, static_argnums=0)
    m, start, params, opt_state = len(data.x), int(state.epoch), state.params, state.opt_state
    for epoch in range(start, last + 1):
        draw_key = jax.random.fold_in(key, epoch)
        cuts = range(run.batch_size, m, run.batch_size)
        batches = [None] if orders is None else np.split(orders[epoch - start], cuts)
        for i, index in enumerate(batches):
            batch = rows_of(run, data, index)
            after, opt_state, J, *_ = one_step(run, params, opt_state, batch, jax.random.fold_in(draw_key, i))
            if not health.is_finite((J, after)):
                culprit = params if not jnp.isfinite(J) else after
                layer = health.first_not_finite(run.model, cast(culprit, run.dtype), batch.x)
                return params, f"iteration {i + 1}, {layer} was not finite"
            params = after
    return params, "the validation cost was not finite"
