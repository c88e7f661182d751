"""Many networks of one form, each with its own start, order and learning rate, trained in one compiled program."""

import os
from collections.abc import Callable
from functools import lru_cache, partial

import jax
import numpy as np
import optax
from jax import Array, lax
from jax import numpy as jnp
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from jaxnn.dtypes import at_least_float32
from jaxnn.protocols import Layer, Loss, Penalty, PyTree
from jaxnn.signals import heard
from jaxnn.training.checkpoint import Checkpoint, facts_of, kept
from jaxnn.training.epoch import Done, Run, State, initial, iterations_of
from jaxnn.training.feed import Batch, Feed, Position, shuffled
from jaxnn.training.fit import LOOKS
from jaxnn.training.given import Inputs, check_at_least, checked, compute_dtype, initial_params, on_device, rows_a_batch
from jaxnn.training.history import Fit, History, first, history_of, joined
from jaxnn.training.loop import chunks
from jaxnn.training.prepare import MOST, MOST_ROWS, chunk_of_rows, rows_of
from jaxnn.training.stops import Reason, Stops, stopped

TOGETHER = 8  # networks whose arrays are one on a CPU: few enough for its cache. An accelerator has all in one


@partial(jax.jit, static_argnames=("run", "together"))
def chunk_of_all(
    run: Run,
    together: int,
    data: Batch,
    validation: Batch | None,
    stops: Stops,
    keys: Array,
    rates: Array,
    whose: Array,
    states: State,
    position: Position,
    n: int,
    given: PyTree,
) -> tuple[State, Done]:
    """A chunk of iterations of every network: (states, what was done), both with a leading axis."""

    def one(network: tuple[Array, Array, Array, State]) -> tuple[State, Done]:
        key, rate, k, state = network
        mine = jax.tree.map(lambda v: v[k], given)
        return iterations_of(run, data, validation, stops, key, rate, state, position, n, mine)

    return lax.map(one, (keys, rates, whose, states), batch_size=together)


def sweep(
    model: Layer,
    loss: Loss,
    x: Inputs,
    y: ArrayLike,
    *,
    keys: Array,
    learning_rates: ArrayLike,
    epochs: int,
    optimizer: Callable[[Array], optax.GradientTransformation] = optax.sgd,
    batch_size: int | None = None,
    weights: ArrayLike | None = None,
    validation: tuple[Inputs, ArrayLike] | None = None,
    penalty: Penalty | None = None,
    tolerance: float | None = None,
    patience: int | None = None,
    target_cost: float | None = None,
    dtype: DTypeLike | None = None,
    progress: Callable[[int, float], object] | None = None,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
) -> list[Fit]:
    """Trains N networks at once: a list of N `Fit`s.

    Network i is the one that `fit(model, loss, x, y, key=keys[i], learning_rate=learning_rates[i], …)` trains, up to
    rounding: the same start, the same order of the examples, the same stops. (With JAX's default keys; "rbg" ones draw
    otherwise where there are several.) On Ctrl-C nothing is returned; a checkpoint has what was done.

    keys            (N,) typed keys, or one for all
    learning_rates  (N,) numbers, or one for all
    optimizer       optimizer(learning_rate) -> an optimiser of optax, such as optax.sgd or optax.adam. The rate is
                    traced: no Python `if` on it
    progress        progress(epochs done, lowest cost of those that still learn), some twenty times or more
    checkpoint      as in `fit`, for all of the networks
    others          as in `fit`. A network that stopped as not finite has the parameters of the end of that epoch; with
                    `patience` those of the lowest validation cost

    TypeError: keys that are not typed. ValueError: keys and learning rates of different lengths, and whatever `fit`
    raises.
    """
    check_at_least(1, epochs=epochs, batch_size=batch_size)
    stops = Stops(tolerance, patience, target_cost).checked(validated=validation is not None)
    if not (isinstance(keys, Array) and jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)):
        raise TypeError(
            f"keys are {keys!r:.60}: give an array of typed keys, such as jax.random.split(jax.random.key(0), 8)."
        )
    keys, rates = jnp.atleast_1d(keys), jnp.atleast_1d(jnp.asarray(learning_rates, float))
    N = max(len(keys), len(rates))
    if {len(keys), len(rates)} - {1, N}:
        raise ValueError(f"{len(keys)} keys and {len(rates)} learning rates: give as many of both, or one for all.")
    dtype = compute_dtype(dtype, None, x)
    J_dtype = at_least_float32(dtype)
    _, at, whose = np.unique(jax.random.key_data(keys), axis=0, return_index=True, return_inverse=True)
    keys, whose = keys[at], np.broadcast_to(whose.ravel(), N)  # each key once; network i has keys[whose[i]]
    init_keys, run_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    params = jax.vmap(lambda key: initial_params(model, key, J_dtype))(init_keys)
    data, held_out = checked(model, loss, jax.tree.map(lambda v: v[0], params), x, y, weights, validation, dtype)
    m = len(data.y)
    batch_size = rows_a_batch(batch_size, m, stacklevel=3)
    params, rates = jax.tree.map(lambda v: v[whose], params), jnp.broadcast_to(rates.astype(J_dtype), N)
    orders = [lru_cache(1)(shuffled(key, m)) for key in run_keys] if batch_size < m else []
    chunk = max(1, min(MOST // N, chunk_of_rows(len(keys) * batch_size, MOST_ROWS)))
    feed = Feed.GATHERED if orders else Feed.WHOLE
    run = Run(model, loss, penalty, optimizer, m, batch_size, dtype, chunk, feed, is_one_of_many=True)
    data, held_out = on_device(data, dtype), None if held_out is None else on_device(held_out, dtype)
    example = jax.tree.map(lambda v: v[:1], data)
    start = jax.vmap(lambda params, rate: initial(run, params, rate, stops, example))(params, rates)
    together = TOGETHER if {device.platform for device in data.y.devices()} == {"cpu"} else N
    call = partial(chunk_of_all, run, together, data, held_out, stops, run_keys[whose], rates, whose)

    def given(position: Position, n: int) -> np.ndarray | None:
        return np.stack([rows_of(run, order, None, position, n) for order in orders]) if orders else None

    end = epochs * run.iterations
    every = max(1, epochs // LOOKS) * run.iterations if progress else None
    facts = partial(facts_of, run, stops, epochs, key=run_keys[whose], rate=rates, params=params, data=data)
    facts = partial(facts, validation=held_out, first=example, state=part(start, 0))
    with heard() as ends, kept(checkpoint, facts, axis=1) as keeper:
        start, parts = keeper.start(start)
        reached = start, len(parts)
        position = Position(0, 0).after(sum(part.iteration_cost.shape[1] for part in parts), run.iterations)
        try:
            for states, done in chunks(call, given, run, start, position=position, end=end, every=every):
                parts.append(history_of(done))
                reached = states, len(parts)
                ends.raise_again()
                keeper.look(states, parts)
                if progress and parts[-1].cost.size:
                    progress(int(states.epoch.max()), float(np.nanmin(np.append(parts[-1].cost, np.inf))))
        finally:
            ends.deaf = True
            states, n = reached
            keeper.save(states, parts[:n])
    states, history = jax.device_get(states), joined(parts, 0, axis=1)
    return [fit_of(run, part(states, n), part(history, n), stops) for n in range(N)]


def part(tree: PyTree, n: int) -> PyTree:
    """What is network n's."""
    return jax.tree.map(lambda v: v[n], tree)


def fit_of(run: Run, state: State, history: History, stops: Stops) -> Fit:
    """What `fit` returns, of one network."""
    reason = Reason(int(state.reason))
    n = int(state.epoch) - (1 if reason == Reason.NOT_FINITE else 0)
    end = stopped(reason, Position(n, 0), stops, "")
    if reason == Reason.NOT_FINITE:
        message = f"In epoch {n + 1}, a cost or a parameter was not finite. Try a smaller learning rate."
        end = end._replace(message=message)
    params = state.params if state.best is None else state.best.params
    return Fit(params, first(history, n, n * run.iterations), end)
