"""What happened in a run, and why it ended, in words."""

from typing import Any, NamedTuple

import jax
import numpy as np


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


REASONS = ("epochs", "not_finite", "target_cost", "tolerance", "patience")


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


def first(n, rows):
    """The first n epochs of a chunk's history, on the host."""
    return jax.tree.map(lambda v: np.asarray(v)[:n], rows)
