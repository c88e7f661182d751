"""What is compiled: one iteration, the end of an epoch, a chunk of iterations."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import optax
from jax import Array, lax
from jax import numpy as jnp
from jax.typing import ArrayLike

from jaxnn import backprop
from jaxnn.factored import Factored
from jaxnn.metrics import METRICS
from jaxnn.protocols import Layer, Loss, Params, Penalty, PyTree, moved, without_statistics
from jaxnn.training import health
from jaxnn.training.feed import Batch, Feed, Position
from jaxnn.training.given import cast
from jaxnn.training.optimizer import Optimizer
from jaxnn.training.stops import Reason, Stops


class Best(NamedTuple):
    """The lowest validation cost so far, the epochs since then, and the params that had it."""

    cost: Array
    since: Array
    params: Params


class SoFar(NamedTuple):
    """What is known of the epoch that goes on."""

    cost: Array  # mean J of its batches
    weight: Array  # of these
    slopes: PyTree  # the largest, see `health`
    start: Params | None  # params before it, with a tolerance


class State(NamedTuple):
    """All that changes while a run goes on; arrays alone."""

    params: Params
    opt_state: PyTree
    epoch: Array  # whole epochs so far
    iteration: Array  # iterations of the epoch that goes on
    reason: Array  # a `Reason`
    so_far: SoFar
    best: Best | None  # with patience

    @property
    def position(self) -> Position:
        return Position(int(self.epoch), int(self.iteration))


@dataclass(frozen=True)
class Run:
    """All that is static in a run: one compilation for each value."""

    model: Layer
    loss: Loss
    penalty: Penalty | None
    optimizer: Optimizer
    m: int  # rows
    batch_size: int
    dtype: np.dtype
    chunk: int  # iterations of a compiled call, at most
    feed: Feed
    is_one_of_many: bool = False  # of a sweep: it waits where it has stopped, for the others go on

    @property
    def iterations(self) -> int:
        """Iterations of an epoch, a last short batch included."""
        return -(-self.m // self.batch_size)

    @property
    def epochs(self) -> int:
        """Epochs that may end in a chunk."""
        return -(-self.chunk // self.iterations)

    def last_of(self, position: Position) -> Position:
        """The end of the epoch before, for a position that begins an epoch."""
        epoch, iteration = position
        return position if iteration else Position(epoch - 1, self.iterations)

    def optimizer_at(self, rate: ArrayLike | None) -> optax.GradientTransformation:
        """The optimiser with this learning rate; None: it has its own."""
        return self.optimizer if rate is None else self.optimizer(rate)


def step(
    run: Run, params: Params, opt_state: PyTree, batch: Batch, key: Array, rate: ArrayLike | None
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

    optimizer = optax.with_extra_args_support(run.optimizer_at(rate))
    updates, opt_state = optimizer.update(grads, opt_state, params, value=J, grad=grads, value_fn=J_of)
    after = with_statistics(optax.apply_updates(params, updates), whole)
    after = jax.tree.map(lambda new, v: new.astype(v.dtype), moved(run.model, after, residuals), whole)
    return after, opt_state, J, grads, health.slopes(run.model, whole, residuals)


def with_statistics(learned: Params, params: Params) -> Params:
    """The learned leaves with the statistics of `params` in the place of None."""
    return jax.tree.map(lambda v, old: old if v is None else v, learned, params, is_leaf=lambda v: v is None)


class Rows(NamedTuple):
    """What is written down of epochs, a row each: the fields of `History` after the first."""

    cost: Array
    validation_cost: Array
    validation_metric: Array
    layers: Array  # (3, leaf layers): gradient_norm, dead, saturated


class Done(NamedTuple):
    """What a chunk has done."""

    iterations: Array  # how many
    epochs: Array  # how many ended
    costs: Array  # (chunk,) J of each iteration
    rows: Rows  # of each epoch that ended


class Carry(NamedTuple):
    """What an iteration hands to the next one."""

    state: State
    epoch: Array  # of a run that is one of many, the others may be further than its state
    iteration: Array
    grads: Params  # of the last iteration
    done: Done


def iteration(
    run: Run, rate: ArrayLike | None, batch: Batch, draw_key: Array, i: Array, t: Array, carry: Carry
) -> Carry:
    """Iteration i of an epoch, the t-th of a chunk."""
    state, done = carry.state, carry.done
    key = jax.random.fold_in(draw_key, i)
    params, opt_state, J, grads, slopes = step(run, state.params, state.opt_state, batch, key, rate)
    so_far = state.so_far
    w = jnp.asarray(len(batch.y) if batch.w is None else batch.w.sum(), J.dtype)
    weight = so_far.weight + w
    share = w / jnp.where(weight > 0, weight, 1)
    so_far = so_far._replace(
        cost=so_far.cost + (J - so_far.cost) * share,
        weight=weight,
        slopes=jax.tree.map(jnp.maximum, so_far.slopes, slopes),
    )
    after = state._replace(params=params, opt_state=opt_state, so_far=so_far)
    done = done._replace(costs=lax.dynamic_update_index_in_dim(done.costs, J, t, 0))
    return carry._replace(state=unless_stopped(run, state, after), grads=grads, done=done)


def unless_stopped(run: Run, before: State, after: State) -> State:
    """The state after; for one of many that has stopped, the state before."""
    if not run.is_one_of_many:
        return after
    return jax.tree.map(partial(jnp.where, before.reason == Reason.EPOCHS), after, before)


def end_of_epoch(run: Run, validation: Batch | None, stops: Stops, carry: Carry) -> Carry:
    """The epoch is looked at, and the next one begins."""
    state, done = carry.state, carry.done
    params, so_far = state.params, state.so_far
    validation_cost, metric = evaluate(run, params, validation)
    finite = health.is_finite((params, so_far.cost, so_far.cost if validation is None else validation_cost))
    best = None if state.best is None else best_of(state.best, params, validation_cost, finite)
    change = None if so_far.start is None else largest_change(so_far.start, params)
    reason = stops.reason(finite, so_far.cost, change, None if best is None else best.since)
    row = Rows(so_far.cost, validation_cost, metric, health.of_layers(run.model, carry.grads, so_far.slopes))
    if run.is_one_of_many:
        row = jax.tree.map(lambda v: jnp.where(state.reason == Reason.EPOCHS, v, jnp.nan), row)
    rows = jax.tree.map(lambda v, new: lax.dynamic_update_index_in_dim(v, new, done.epochs, 0), done.rows, row)
    zero = jnp.zeros_like(state.iteration)
    so_far = afresh(so_far, params)
    after = state._replace(epoch=state.epoch + 1, iteration=zero, reason=reason, so_far=so_far, best=best)
    return carry._replace(
        state=unless_stopped(run, state, after),
        epoch=carry.epoch + 1,
        iteration=jnp.zeros_like(carry.iteration),
        done=done._replace(epochs=done.epochs + 1, rows=rows),
    )


def afresh(so_far: SoFar, params: Params) -> SoFar:
    """Nothing is known yet of the epoch that begins with these params."""
    cost, weight, slopes = jax.tree.map(jnp.zeros_like, so_far[:3])
    return SoFar(cost, weight, slopes, None if so_far.start is None else params)


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
    return J, metric_of(run.loss, z, batch.y).astype(J.dtype)


def metric_of(loss: Loss, z: PyTree, y: Array) -> Array:
    """The loss's metric; of a z that is not multiplied out the mean over its rows, of which one after the other is."""
    metric = METRICS[loss.metric]
    if not isinstance(z, Factored):
        return metric(loss.predict(z), y)
    return lax.map(lambda row: metric(loss.predict(z._replace(h=row[0])), row[1]), (z.h, y)).mean()


def largest_change(before: Params, after: Params) -> Array:
    """The largest |change| of any learned number."""
    changes = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), *map(without_statistics, (after, before)))
    return jnp.stack(jax.tree.leaves(changes)).max()


def iterations_of(
    run: Run,
    data: Batch | None,
    validation: Batch | None,
    stops: Stops,
    key: Array,
    rate: ArrayLike | None,
    state: State,
    position: Position,
    n: ArrayLike,
    given: PyTree,
) -> tuple[State, Done]:
    """n iterations from a position on, or fewer if a reason to stop is met. given: what each is given, see `Feed`."""
    full, short = divmod(run.m, run.batch_size)

    def goes_on(carry: Carry) -> Array:
        more = carry.done.iterations < n
        return more if run.is_one_of_many else more & (carry.state.reason == Reason.EPOCHS)

    def stretch(carry: Carry) -> Carry:
        """Iterations up to the end of the epoch, or of the chunk."""
        draw_key, first = jax.random.fold_in(key, carry.epoch), carry.iteration
        before = carry.done.iterations - first  # iterations of the chunk before this epoch's

        def one(size: int, i: Array, carry: Carry) -> Carry:
            t = i + before
            rows = jax.tree.map(lambda v: lax.dynamic_index_in_dim(v, t, keepdims=False)[:size], given)
            return iteration(run, rate, run.feed.batch(data, rows), draw_key, i, t, carry)

        if run.iterations == 1:
            return at_end(moved_to(first + 1, before, one(run.batch_size, first, carry)))
        i = jnp.minimum(full, n - before)
        carry = lax.fori_loop(first, i, partial(one, run.batch_size), carry)
        if short:
            is_due = (i == full) & (i + before < n)
            carry = once(is_due, partial(one, short, i), carry)
            i += is_due.astype(i.dtype)
        return once(i == run.iterations, at_end, moved_to(i, before, carry))

    at_end = partial(end_of_epoch, run, validation, stops)
    carry = lax.while_loop(goes_on, stretch, at_start(run, validation, state, position))
    state = unless_stopped(run, carry.state, carry.state._replace(iteration=carry.iteration))
    return looked_at(run, state), carry.done


def once(is_due: Array, f: Callable[[Carry], Carry], carry: Carry) -> Carry:
    """f(carry) if it is due. A loop, for `lax.cond` copies what it is given; with a barrier, for XLA would compute what
    depends on the params alone, such as the validation cost, before the loop, due or not."""
    return lax.fori_loop(0, is_due.astype(int), lambda _, carry: f(lax.optimization_barrier(carry)), carry)


def moved_to(i: Array, before: Array, carry: Carry) -> Carry:
    """After i iterations of the epoch, and so many before it."""
    return carry._replace(iteration=i, done=carry.done._replace(iterations=i + before))


def looked_at(run: Run, state: State) -> State:
    """The state with the reason to stop where a number of the epoch that goes on is not finite. One of many goes on to
    the end of its epoch."""
    if run.is_one_of_many:
        return state
    finite = health.is_finite((state.params, state.so_far.cost)) | (state.reason != Reason.EPOCHS)
    return state._replace(reason=jnp.where(finite, state.reason, int(Reason.NOT_FINITE)))


def at_start(run: Run, validation: Batch | None, state: State, position: Position) -> Carry:
    """Before the first iteration of a chunk: with no gradients, nothing done."""
    zero, cost = jnp.array(0), state.so_far.cost
    grads = without_statistics(state.params)  # of the same shapes
    layers = jax.eval_shape(partial(health.of_layers, run.model), grads, state.so_far.slopes)
    _, metric = jax.eval_shape(partial(evaluate, run), state.params, validation)
    row = Rows(cost, metric, metric, layers)
    rows = jax.tree.map(lambda v: jnp.full((run.epochs, *v.shape), jnp.nan, v.dtype), row)
    done = Done(zero, zero, jnp.zeros(run.chunk, cost.dtype), rows)
    epoch, iteration = (jnp.asarray(v, zero.dtype) for v in position)
    return Carry(state, epoch, iteration, grads, done)


chunk_of = jax.jit(iterations_of, static_argnames="run")


def initial(run: Run, params: Params, rate: ArrayLike | None, stops: Stops, example: Batch) -> State:
    """The `State` before the first iteration. example: a batch, of any number of rows."""
    opt_state = run.optimizer_at(rate).init(without_statistics(params))
    key = jax.random.key(0)
    _, _, J, _, slopes = jax.eval_shape(partial(step, run), params, opt_state, example, key, rate)
    cost, weight, slopes = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), (J, J, slopes))
    so_far = SoFar(cost, weight, slopes, None if stops.tolerance is None else params)
    zero, reason = jnp.array(0, int), jnp.array(Reason.EPOCHS, int)  # of no weak type: a chunk gives none back
    best = None if stops.patience is None else Best(jnp.full_like(cost, jnp.inf), zero, params)
    return State(params, opt_state, zero, zero, reason, so_far, best)


initial_state = jax.jit(initial, static_argnames="run")
