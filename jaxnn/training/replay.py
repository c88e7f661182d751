"""Where a number stopped being finite: the iterations of a chunk again, one at a time."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
from jax import Array
from jax import numpy as jnp

from jaxnn.training import health
from jaxnn.training.epoch import Run, State, step
from jaxnn.training.feed import Batch, Position
from jaxnn.training.given import cast

one_step = jax.jit(step, static_argnums=0)


class Iteration(NamedTuple):
    """One iteration: the state before, what it was given, and what came of it."""

    before: State
    batch: Batch
    key: Array
    J: Array
    after: State

    @property
    def is_finite(self) -> bool:
        return bool(health.is_finite((self.J, self.after.params)))


def iterations_from(
    run: Run, batch_at: Callable[[Position], Batch], key: Array, rate: float | None, state: State
) -> Iterator[Iteration]:
    """The iterations from a state on, one after the other, for ever; an epoch is over when the next one begins."""
    while True:
        position = state.position.after(0, run.iterations)
        batch = batch_at(position)
        step_key = jax.random.fold_in(jax.random.fold_in(key, position.epoch), position.iteration)
        params, opt_state, J, *_ = one_step(run, state.params, state.opt_state, batch, step_key, rate)
        before = state._replace(epoch=jnp.array(position.epoch), iteration=jnp.array(position.iteration))
        state = before._replace(params=params, opt_state=opt_state, iteration=before.iteration + 1)
        yield Iteration(before, batch, step_key, J, state)


def last_finite(iterations: Iterator[Iteration], end: Position) -> State:
    """The state before the first iteration that was not finite; if all are finite up to the end, the state there."""
    for iteration in iterations:
        if not iteration.is_finite:
            break
        if iteration.after.position == end:
            return iteration.after
    return iteration.before


def what_was_not_finite(run: Run, iteration: Iteration) -> str:
    """A phrase that says so of an iteration."""
    before, after = iteration.before, iteration.after
    culprit = after if bool(health.is_finite(iteration.J)) else before
    params = cast(culprit.params, run.dtype)
    layer = health.first_not_finite(run.model, params, iteration.batch.x, iteration.key)
    return f"iteration {before.position.iteration + 1}, {layer} was not finite"
