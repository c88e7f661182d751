"""Gradient descent: a whole run, watched and stopped between its stretches."""

import os
from collections.abc import Callable

import optax
from jax import Array
from jax.sharding import Mesh
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from jaxnn.protocols import Layer, Loss, Params, Penalty
from jaxnn.signals import heard
from jaxnn.training.checkpoint import Checkpoint, kept
from jaxnn.training.epoch import State
from jaxnn.training.feed import Order
from jaxnn.training.given import Inputs
from jaxnn.training.history import Fit, History
from jaxnn.training.optimizer import Optimizer
from jaxnn.training.prepare import Training, prepare

LOOKS = 20  # calls of `progress`, at least


def fit(
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
    on_epoch: Callable[[int, Params], object] | None = None,
    progress: Callable[[float, float], object] | None = None,
    mesh: Mesh | None = None,
    learning_rate: float | optax.Schedule | None = None,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
) -> Fit:
    """Trains `model` on x (m, …) and y (m, …) by gradient descent: Fit(params, history, stopped). x may be a tuple of
    arrays, each with m rows, for a model that takes several.

    A run that is to be watched, saved or continued by a loop of its caller's own is made by `prepare`.

    An epoch is one pass over the data, an iteration one update, a batch the examples of one update: batch_size None
    is all of them (batch gradient descent), 1 is stochastic, anything between is mini-batch. Each epoch uses each
    example exactly once, in a new order drawn from `key`, a last short batch included; a batch of all needs no order.
    The same key gives the same run, bit for bit, on one machine, however it is watched. A run is compiled once for each
    model, loss, penalty, number of rows, batch size, dtype and optimiser.

    optimizer    any of optax, as a function of its learning rate: optax.adam, or your own. All learning rates share one
                 compilation then. Or one that is finished, as optax.adam(0.01): each such object is compiled anew.
                 (A line search, as in lbfgs, differentiates the cost by autodiff.)
    params       where to start; `model.init` when not given
    order        order(epoch) -> the m row numbers of that epoch, counted from 0, in place of the drawn order; called
                 for some epochs ahead
    weights      one number an example, J = Σ wL / Σ w
    validation   (x, y), evaluated after every epoch
    penalty      a term added to J, such as L2
    dtype        to compute in. Parameters are kept in float32 at least: bfloat16 is mixed precision. float64 needs
                 `with jax.enable_x64(True):`. Without one: the dtype of `params`, or of a floating x, or float32
    on_epoch     on_epoch(epoch, params) after every epoch, counted from 0
    progress     progress(epochs done, cost), some twenty times or more, and at least about every half second; within an
                 epoch with a fraction, and the mean cost so far
    mesh         a jax Mesh: rows of x, y, weights are split over its first axis, params replicated
    learning_rate  of the optimizer: a number, 0.1 for optax.sgd if none is given; or a schedule, compiled for each
                 object. (An optimiser of your own may make a schedule of its rate: it is compiled once.)
    checkpoint   a folder, or a `Checkpoint`: the run is kept there while it goes on, its last two states. Begun again
                 with the same arguments after any end, it goes on from there, to the bits of a run that was never
                 stopped; a run that is done is returned. (On the same machine and JAX; else that is said)

    Stops after `epochs`, or earlier:
    target_cost  when the epoch's cost is at most this
    tolerance    τ: when no parameter changed by more than τ in an epoch
    patience     when the validation cost has not gone below its lowest for this many epochs; with it, the parameters
                 returned are always those of the lowest
    always       when a cost or a parameter is not finite (the parameters returned are the last finite ones, and
                 `stopped.message` says which iteration and which layer); and on Ctrl-C, SIGTERM or SIGHUP, with what
                 was learned up to the last look from the host, about half a second ago

    ValueError for data that do not fit together or are not finite, settings out of range, a model without parameters,
    a gradient that is not of its parameter's shape, a checkpoint of another run or in use by another process.
    TypeError for an optimiser that is none.
    """
    training = prepare(
        model,
        loss,
        x,
        y,
        key=key,
        epochs=epochs,
        optimizer=optimizer,
        batch_size=batch_size,
        params=params,
        order=order,
        weights=weights,
        validation=validation,
        penalty=penalty,
        tolerance=tolerance,
        patience=patience,
        target_cost=target_cost,
        dtype=dtype,
        mesh=mesh,
        learning_rate=learning_rate,
    )

    def look(state: State, part: History) -> None:
        if on_epoch and len(part.cost):
            on_epoch(int(state.epoch) - 1, state.params)
        if progress and (state.iteration or len(part.cost)):
            mean = state.so_far.cost if state.iteration else part.cost[-1]
            progress(int(state.epoch) + int(state.iteration) / training.run.iterations, float(mean))

    every = 1 if on_epoch else max(1, epochs // LOOKS) if progress else None
    return followed(training, look, every=every, checkpoint=checkpoint)


def followed(
    training: Training,
    look: Callable[[State, History], object],
    *,
    every: int | None,
    checkpoint: Checkpoint | str | os.PathLike[str] | None,
) -> Fit:
    """The end of a run that `prepare` made; what `fit` does with it. look(state, history) is called after each of
    `training.states`, with the history of the stretch. every, checkpoint: as of `Training.states` and `fit`."""
    interrupted = False
    with heard() as ends, kept(checkpoint, training.facts) as keeper:
        start, parts = keeper.start(training.start())
        reached = start, len(parts)  # one name, for an interrupt comes between any two lines
        try:
            try:
                for state, part in training.states(start, every):
                    parts.append(part)
                    reached = state, len(parts)
                    ends.raise_again()
                    keeper.look(state, parts)
                    look(state, part)
            finally:
                ends.deaf = True  # what was done is kept now, whatever comes
                keeper.save(reached[0], parts[: reached[1]])
        except KeyboardInterrupt:
            interrupted = True
        state, n = reached
        return training.fit(state, parts[:n], interrupted)
