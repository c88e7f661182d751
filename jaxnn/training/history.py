"""What happened in a run."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.protocols import Params
from jaxnn.training.epoch import Done
from jaxnn.training.stops import Stopped


class History(NamedTuple):
    """What happened, a row an epoch. The last three have a column a layer, NaN where a layer has no such number.

    The layers are the leaves of the tree of layers, in order: of a Chain its layers, of a Repeat the n layers that it
    stands for, of another composite its `parts`; any other model is one layer. `protocols.leaf_layers(model, params)`
    has their names, which are paths: "3" for layer 3 of a Chain, "2/0/1" for layer 1 of the Chain that is repeated as
    layer 2, the first time. Where a Repeat recomputes, dead and saturated are NaN.
    """

    iteration_cost: np.ndarray  # (iterations,)    J of the iteration's batch before its update, penalty included
    cost: np.ndarray  # (epochs,)                  mean of these over the epoch's examples
    validation_cost: np.ndarray  # (epochs,)       J of the validation examples without the penalty, NaN without any
    validation_metric: np.ndarray  # (epochs,)     the loss's metric of them: accuracy or R²
    gradient_norm: np.ndarray  # (epochs, layers)  ‖∂J/∂params‖₂ in the epoch's last iteration
    dead: np.ndarray  # (epochs, layers)           share of units that can die and had slope 0 for every example
    saturated: np.ndarray  # (epochs, layers)      share of units that can saturate and were flat for every example


class Fit(NamedTuple):
    """What `fit` returns: the parameters learned, what happened, and why it ended."""

    params: Params
    history: History
    stopped: Stopped


def history_of(done: Done) -> History:
    """What a chunk has done, on the host; of networks side by side, along leading axes."""
    n = np.max(done.epochs)
    cost, validation_cost, metric, layers = map(np.asarray, done.rows)
    gradient_norm, dead, saturated = np.moveaxis(layers, -2, 0)[..., :n, :]
    return History(
        iteration_cost=np.asarray(done.costs)[..., : np.max(done.iterations)],
        cost=cost[..., :n],
        validation_cost=validation_cost[..., :n],
        validation_metric=metric[..., :n],
        gradient_norm=gradient_norm,
        dead=dead,
        saturated=saturated,
    )


def first(history: History, epochs: int, iterations: int) -> History:
    """The first so many epochs and iterations of a history."""
    costs, *rows = history
    return History(costs[:iterations], *(v[:epochs] for v in rows))


def joined(parts: Sequence[History], layers: int, axis: int = 0) -> History:
    """The histories of the stretches of a run of a model with so many leaf layers, one after the other along the axis;
    1 for networks side by side."""
    nothing = History(*[np.zeros(0)] * 4, *[np.zeros((0, layers))] * 3)
    return jax.tree.map(lambda *v: np.concatenate(v, axis), *parts) if parts else nothing
