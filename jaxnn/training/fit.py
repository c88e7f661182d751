"""Gradient descent: the loop over compiled chunks of epochs, reported and stopped between them."""

from collections.abc import Callable

import jax
import numpy as np
import optax
from jax import Array
from jax import numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from jaxnn.mean import at_least_float32
from jaxnn.protocols import Layer, Loss, Params, Penalty, leaf_layers
from jaxnn.training.epoch import Run, chunk_of, copy, initial
from jaxnn.training.history import Fit, History, first
from jaxnn.training.placement import place
from jaxnn.training.prepare import (
    Order,
    cast,
    check_at_least,
    checked,
    chunk_length,
    compute_dtype,
    initial_params,
    orders_of,
    rows_a_batch,
    shuffled,
)
from jaxnn.training.replay import last_finite
from jaxnn.training.stops import Reason, Stops, stopped

GRADIENT_DESCENT = optax.sgd(0.1)  # w ← w − 0.1 ∂J/∂w


def fit(
    model: Layer,
    loss: Loss,
    x: ArrayLike,
    y: ArrayLike,
    *,
    key: Array,
    epochs: int,
    optimizer: optax.GradientTransformation = GRADIENT_DESCENT,
    batch_size: int | None = None,
    params: Params | None = None,
    order: Order | None = None,
    weights: ArrayLike | None = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    penalty: Penalty | None = None,
    tolerance: float | None = None,
    patience: int | None = None,
    target_cost: float | None = None,
    dtype: DTypeLike | None = None,
    on_epoch: Callable[[int, Params], object] | None = None,
    progress: Callable[[int, float], object] | None = None,
    mesh: Mesh | None = None,
) -> Fit:
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
    check_at_least(1, epochs=epochs, batch_size=batch_size)
    stops = Stops(tolerance, patience, target_cost).checked(validated=validation is not None)
    init_key, run_key = jax.random.split(key)
    dtype = compute_dtype(dtype, params, x)
    J_dtype = at_least_float32(dtype)  # for the parameters too
    if params is None:
        params = initial_params(model, init_key, J_dtype)
    else:
        params = cast(jax.tree.map(jnp.asarray, params), at_least_float32)
    data, held_out = checked(model, params, x, y, weights, validation, dtype)
    m = len(data.x)
    batch_size = rows_a_batch(batch_size, m)
    if mesh is not None:
        params, data = place(params, data, mesh)

    n_params = sum(v.size for v in jax.tree.leaves(params))
    looks = epochs if on_epoch else 20 if progress else 1
    chunk = chunk_length(epochs=epochs, looks=looks, m=m, batch_size=batch_size, n_params=n_params)
    if order is None and batch_size < m:
        order = shuffled(run_key, m)
    one_by_one = mesh is None and {device.platform for device in data.x.devices()} == {"cpu"}
    run = Run(model, loss, penalty, optimizer, batch_size, dtype, chunk, one_by_one)
    lowest_dtype = None if patience is None else J_dtype
    state = jax.jit(initial, static_argnums=(1, 2))(params, optimizer, lowest_dtype)
    state = copy(state)  # nothing shared with the caller: chunks donate it

    reason, where = Reason.EPOCHS, ""
    histories: list[History] = []
    kept = state, 0  # what a Ctrl-C returns, with as many of the histories
    try:
        while reason == Reason.EPOCHS and (start := int(state.epoch)) < epochs:
            saved = copy(state)  # the chunk is given the buffers of `state`
            kept = saved, len(histories)
            orders = None if order is None else orders_of(order, start=start, epochs=epochs, chunk=chunk, m=m)
            state, rows = chunk_of(run, data, held_out, stops, run_key, state, epochs, orders)
            reason, end = Reason(int(state.reason)), int(state.epoch)
            if reason == Reason.NOT_FINITE:
                end -= 1
                params, where = last_finite(run, data, run_key, saved, last=end, orders=orders)
                state = state._replace(params=params, epoch=end)
            histories.append(first(end - start, rows))
            kept = state, len(histories)
            if on_epoch and end > start:
                on_epoch(start, copy(state.params))  # theirs to keep. A chunk is one epoch then: looks = epochs
            if progress and end > start:
                progress(end, float(histories[-1].cost[-1]))
    except KeyboardInterrupt:
        reason, (state, n) = Reason.INTERRUPTED, kept
        histories = histories[:n]

    if not histories:
        layers = len(list(leaf_layers(model, params)))
        histories = [History(*[np.zeros(0)] * 4, *[np.zeros((0, layers))] * 3)]
    history = jax.tree.map(lambda *v: np.concatenate(v), *histories)
    history = history._replace(iteration_cost=history.iteration_cost.ravel())
    params = state.params if state.best is None else state.best.params
    return Fit(params, history, stopped(reason, int(state.epoch), stops, where))
