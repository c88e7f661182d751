"""Many networks of one form, each with its own start, order and learning rate, trained in one compiled program."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import numpy as np
import optax
from jax import Array, lax
from jax import numpy as jnp
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from jaxnn.mean import at_least_float32
from jaxnn.protocols import Layer, Loss, Penalty, PyTree
from jaxnn.training.epoch import Run, State, copy, epochs_of, initial
from jaxnn.training.history import Fit, History, first
from jaxnn.training.prepare import (
    Batch,
    check_at_least,
    checked,
    chunk_length,
    compute_dtype,
    initial_params,
    orders_of,
    rows_a_batch,
    shuffled,
)
from jaxnn.training.stops import Reason, Stops, stopped

TOGETHER = 8  # networks whose arrays are one on a CPU: few enough for its cache. An accelerator has all in one


@dataclass(frozen=True)
class Group:
    """What is static: one compilation for each value."""

    run: Run
    optimizer: Callable[[Array], optax.GradientTransformation]  # of a learning rate
    together: int


@partial(jax.jit, static_argnames="group", donate_argnames="states")
def all_epochs_of(
    group: Group,
    data: Batch,
    validation: Batch | None,
    stops: Stops,
    rates: Array,
    keys: Array,
    states: State,
    epochs: int,
    orders: Array | None,
    whose: Array,
) -> tuple[State, History]:
    """A chunk of epochs of every network: (states, histories), both with a leading axis."""

    def one(given: tuple[Array, Array, State, Array]) -> tuple[State, History]:
        rate, key, state, n = given
        run = replace(group.run, optimizer=group.optimizer(rate))
        order = None if orders is None else orders[n]
        return epochs_of(run, data, validation, stops, key, state, epochs, order, cond=either)

    return lax.map(one, (rates, keys, states, whose), batch_size=group.together)


def either(chosen: Array, yes: Callable[..., PyTree], no: Callable[..., PyTree], *args: PyTree) -> PyTree:
    """`lax.cond` for networks side by side: there it would copy the data for each of them."""
    return jax.tree.map(partial(jnp.where, chosen), yes(*args), no(*args))


def sweep(
    model: Layer,
    loss: Loss,
    x: ArrayLike,
    y: ArrayLike,
    *,
    keys: Array,
    learning_rates: ArrayLike,
    epochs: int,
    optimizer: Callable[[Array], optax.GradientTransformation] = optax.sgd,
    batch_size: int | None = None,
    weights: ArrayLike | None = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    penalty: Penalty | None = None,
    tolerance: float | None = None,
    patience: int | None = None,
    target_cost: float | None = None,
    dtype: DTypeLike | None = None,
    progress: Callable[[int, float], object] | None = None,
) -> list[Fit]:
    """Trains N networks at once: a list of N `Fit`s.

    Network i is the one that `fit(model, loss, x, y, key=keys[i], optimizer=optimizer(learning_rates[i]), …)` trains,
    up to rounding: the same start, the same order of the examples, the same stops. (With JAX's default keys; "rbg" ones
    draw otherwise where there are several.) Everything is compiled once for all learning rates, where `fit` compiles
    for each optimiser. On Ctrl-C nothing is returned.

    keys            (N,) typed keys, or one for all
    learning_rates  (N,) numbers, or one for all
    optimizer       optimizer(learning_rate) -> an optimiser of optax, such as optax.sgd or optax.adam. The rate is
                    traced: no Python `if` on it
    progress        progress(epochs done, lowest cost of those that still learn), some twenty times or more
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
    data, held_out = checked(model, jax.tree.map(lambda v: v[0], params), x, y, weights, validation, dtype)
    m = len(data.x)
    batch_size = rows_a_batch(batch_size, m)
    params, rates = jax.tree.map(lambda v: v[whose], params), jnp.broadcast_to(rates.astype(J_dtype), N)

    n_params = sum(v.size for v in jax.tree.leaves(params))
    looks = 20 if progress else 1
    chunk = chunk_length(epochs=epochs, looks=looks, m=m, batch_size=batch_size, n_params=n_params)
    run = Run(model, loss, penalty, None, batch_size, dtype, chunk, one_by_one=False)
    on_cpu = {device.platform for device in data.x.devices()} == {"cpu"}
    group = Group(run, optimizer, TOGETHER if on_cpu else N)
    lowest_dtype = None if patience is None else J_dtype
    states = jax.vmap(lambda params, rate: initial(params, optimizer(rate), lowest_dtype))(params, rates)
    states = copy(states)  # nothing shared within: chunks donate it
    orders = [shuffled(key, m) for key in run_keys] if batch_size < m else None

    def orders_from(begin: int) -> np.ndarray | None:
        if orders is None or begin >= epochs:
            return None
        return np.stack([orders_of(order, start=begin, epochs=epochs, chunk=chunk, m=m) for order in orders])

    histories: list[History] = []
    rows = orders_from(0)
    for begin in range(0, epochs, chunk):
        given = group, data, held_out, stops, rates, run_keys[whose], states, epochs, rows, whose
        states, history = all_epochs_of(*given)
        rows = orders_from(begin + chunk)  # drawn while the device computes
        histories.append(jax.device_get(history))
        if progress:
            progress(min(begin + chunk, epochs), float(np.nanmin(np.append(histories[-1].cost, np.inf))))
        if (states.reason != Reason.EPOCHS).all():
            break
    states, history = jax.device_get(states), jax.tree.map(lambda *v: np.concatenate(v, 1), *histories)
    return [fit_of(part(states, n), part(history, n), stops) for n in range(N)]


def part(tree: PyTree, n: int) -> PyTree:
    """What is network n's."""
    return jax.tree.map(lambda v: v[n], tree)


def fit_of(state: State, history: History, stops: Stops) -> Fit:
    """What `fit` returns, of one network."""
    reason = Reason(int(state.reason))
    n = int(state.epoch) - (1 if reason == Reason.NOT_FINITE else 0)
    history = first(n, history)
    history = history._replace(iteration_cost=history.iteration_cost.ravel())
    end = stopped(reason, n, stops, "")
    if reason == Reason.NOT_FINITE:
        message = f"In epoch {n + 1}, a cost or a parameter was not finite. Try a smaller learning rate."
        end = end._replace(message=message)
    return Fit(state.params if state.best is None else state.best.params, history, end)
