"""When a run ends, and why, in words."""

from enum import IntEnum
from math import inf
from typing import NamedTuple

from jax import Array
from jax import numpy as jnp

from jaxnn.training.feed import Position
from jaxnn.training.given import check_at_least


class Reason(IntEnum):
    """Why a run ended: a number in what is compiled, its name in `Stopped.reason`. Of several the first counts.

    EPOCHS: nothing stops it, so it goes on, or is done if this was its last epoch.
    """

    EPOCHS = 0
    NOT_FINITE = 1
    TARGET_COST = 2
    TOLERANCE = 3
    PATIENCE = 4
    INTERRUPTED = 5


class Stops(NamedTuple):
    """What ends a run before its last epoch, as `fit` says; None for what does not."""

    tolerance: float | None
    patience: int | None
    target_cost: float | None

    def checked(self, validated: bool) -> "Stops":
        """These stops. ValueError: one out of its range, or patience although no validation cost is watched."""
        check_at_least(1, patience=self.patience)
        if self.tolerance is not None and not 0 <= self.tolerance < inf:
            raise ValueError(f"tolerance is {self.tolerance}: it must be a finite number, 0 or more.")
        if self.patience is not None and not validated:
            raise ValueError("patience watches the validation cost: give validation=(x, y).")
        return self

    def reason(self, finite: Array, cost: Array, change: Array | None, since: Array | None) -> Array:
        """The `Reason` to stop after this epoch; EPOCHS, which is 0, to go on: the argmax where nothing is true.

        change: the largest of a parameter, needed for the tolerance. since: epochs since the lowest validation cost,
        needed for patience.
        """
        never = jnp.array(False)
        conditions = {
            Reason.EPOCHS: never,
            Reason.NOT_FINITE: ~finite,
            Reason.TARGET_COST: never if self.target_cost is None else cost <= self.target_cost,
            Reason.TOLERANCE: never if self.tolerance is None or change is None else change <= self.tolerance,
            Reason.PATIENCE: never if self.patience is None or since is None else since >= self.patience,
        }
        return jnp.argmax(jnp.stack([conditions[reason] for reason in sorted(conditions)]))


class Stopped(NamedTuple):
    """Why a run ended, after how many whole epochs, and the same in a sentence."""

    reason: str  # epochs, target_cost, tolerance, patience, not_finite or interrupted
    epoch: int
    message: str


def stopped(reason: Reason, position: Position, stops: Stops, where: str) -> Stopped:
    """What is said of a run that ended there; where: something that was not finite."""
    n, i = position
    mid = f"in epoch {n + 1}, after {i} of its iterations" if i else f"after epoch {n}"
    returned = "the last finite ones" if stops.patience is None else "those of the lowest validation cost"
    message = {
        Reason.EPOCHS: f"Done: {n} epoch{'' if n == 1 else 's'}{f' and {i} iterations' if i else ''}.",
        Reason.NOT_FINITE: f"In epoch {n + 1}, {where}. The parameters kept are {returned}. "
        "Try a smaller learning rate, or inputs brought to about −1 to 1.",
        Reason.TARGET_COST: f"The cost of epoch {n} is at most the target {stops.target_cost}.",
        Reason.TOLERANCE: f"No parameter changed by more than the tolerance {stops.tolerance} in epoch {n}.",
        Reason.PATIENCE: f"No validation cost of the last {stops.patience} epochs was below that of epoch "
        f"{n - (stops.patience or 0)}.",
        Reason.INTERRUPTED: f"Interrupted {mid}; kept what was learned until then.",
    }[reason]
    return Stopped(reason.name.lower(), n, message)
