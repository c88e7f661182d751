"""What is trained: from settings and a table to the parts, the scales, the network, the loss and the optimiser."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import optax

from jaxnn import catalogue
from jaxnn.data import Scale, Table, brighten, split, standardise
from jaxnn.layers.chain import Chain
from jaxnn.models.perceptron import perceptron
from jaxnn.protocols import Loss


class NetworkSettings(Protocol):
    """What `network` reads of the settings of a command."""

    @property
    def hidden(self) -> tuple[int, ...]: ...
    @property
    def activation(self) -> str: ...
    @property
    def slope(self) -> float | None: ...
    @property
    def initializer(self) -> str: ...
    @property
    def loss(self) -> str: ...


def batch_size_of(batch_size: int | None, m: int, say: Callable[[str], None]) -> int | None:
    """None for all m rows; it is said if more are asked for than there are."""
    if not batch_size or batch_size <= m:
        return batch_size
    say(f"--batch-size {batch_size} is more than the rows to train on: each batch is all {m} of them.")
    return None


def scaled(table: Table, y: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, Scale, Scale | None]:
    """(x, y, x_scale, y_scale): all data flattened, and scaled so that these rows are as a network wants them."""
    flat = table.x.reshape(len(table.x), -1)
    x_scale = (standardise if table.features else brighten)(flat[rows])
    y_scale = None if table.classes else standardise(y[rows])
    return x_scale(flat), y_scale(y) if y_scale else y, x_scale, y_scale


def parts_of(table: Table, seed: int, hold_out: bool) -> tuple[dict[str, np.ndarray], str]:
    """({part: its row numbers}, the part that is watched while training).

    hold_out: a fifth of the training rows is watched, since the test rows never decide when to stop.
    ValueError: one training row, of which a fifth is to be held out.
    """
    train_rows, test_rows = split(table, seed)
    if not hold_out:
        return {"train": train_rows, "test": test_rows}, "test"
    if len(train_rows) < 2:
        raise ValueError("A fifth of the training rows is to be held out, and there is only 1: give more rows.")
    fifth = max(1, len(train_rows) // 5)
    return {"train": train_rows[fifth:], "validation": train_rows[:fifth], "test": test_rows}, "validation"


def network(settings: NetworkSettings, table: Table) -> tuple[Chain, Loss, np.ndarray]:
    """(model, loss, y): hidden layers and an output that fit the data, and y as the loss wants it.

    ValueError: a loss of classes for a target that is a quantity.
    """
    K, name = len(table.classes), settings.loss
    if name == "auto":
        name = "half_squared_error" if not K else "sigmoid_cross_entropy" if K == 2 else "softmax_cross_entropy"
    loss = catalogue.member("losses", name)()
    if not K and loss.takes != "values":
        raise ValueError(
            f"--loss {name} needs classes, and the target of {table.name} is a quantity: use half_squared_error."
        )
    y = table.y
    if K and loss.takes != "labels":
        y = y[:, None].astype(float) if K == 2 else np.eye(K)[y]
    outputs = K if y.ndim == 1 else y.shape[1]
    widths = (table.x[0].size, *settings.hidden, outputs)
    model = perceptron(widths, settings.activation, loss, slope=settings.slope, initializer=settings.initializer)
    return model, loss, y


def optimizer_of(name: str, learning_rate: float | None) -> optax.GradientTransformation:
    """The optax optimiser of this name; learning rate 0.1 for sgd, 0.001 for the others when not given.

    ValueError: optax has none of this name that takes a learning rate.
    """
    rate = learning_rate or (0.1 if name == "sgd" else 0.001)
    try:
        optimizer = getattr(optax, name)(learning_rate=rate)
    except (AttributeError, TypeError):
        optimizer = None
    if not isinstance(optimizer, optax.GradientTransformation):
        raise ValueError(f"optax has no optimiser {name!r} that takes a learning rate: try sgd, adam, adamw.")
    return optimizer
