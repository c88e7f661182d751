"""What an optimiser is given as: finished, or as a function of its learning rate."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import optax

Optimizer: TypeAlias = optax.GradientTransformation | Callable[..., optax.GradientTransformation]
SGD_RATE = 0.1  # w ← w − 0.1 ∂J/∂w, if no other is given


def optimizer_and_rate(
    optimizer: Optimizer, learning_rate: float | optax.Schedule | None
) -> tuple[Optimizer, float | None]:
    """(optimiser, its learning rate, an argument of what is compiled); no rate for one that is finished.

    ValueError: a rate for one that is finished, none for another, or one that is no finite number. TypeError: no
    optimiser.
    """
    if isinstance(optimizer, optax.GradientTransformation):
        if learning_rate is not None:
            raise ValueError(
                f"learning_rate is {learning_rate}, and the optimizer has its own: give optax.adam, not optax.adam(…)."
            )
        return optimizer, None
    if not callable(optimizer):
        raise TypeError(f"optimizer is {optimizer!r:.60}: give one of optax, such as optax.adam or optax.adam(0.01).")
    if callable(learning_rate):
        return with_schedule(optimizer, learning_rate), None
    if learning_rate is None and optimizer is not optax.sgd:
        name = getattr(optimizer, "__name__", optimizer)
        raise ValueError(f"{name} needs a learning rate: give learning_rate=0.001, for example.")
    rate = SGD_RATE if learning_rate is None else float(learning_rate)
    if not math.isfinite(rate):
        raise ValueError(f"learning_rate is {rate}: it must be a finite number.")
    return optimizer, rate


@lru_cache(64)
def with_schedule(optimizer: Callable, schedule: optax.Schedule) -> optax.GradientTransformation:
    """One object, and so one compilation, for each schedule."""
    return optimizer(schedule)
