"""What is trained: from settings and a table to the parts, the scales, the network, the loss and the optimiser."""

from itertools import pairwise

import numpy as np
import optax

import jaxnn
from jaxnn.data.scale import brighten, standardise
from jaxnn.data.table import split
from jaxnn.layers.activations import Activation
from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.protocols import Layer


def batch_size_of(config, m, say):
    """None for all rows, which is said where more are asked for."""
    if not config.batch_size or config.batch_size <= m:
        return config.batch_size
    say(f"--batch-size {config.batch_size} is more than the rows to train on: each batch is all {m} of them.")
    return None


def scaled(table, y, rows):
    """(x, y, x_scale, y_scale): all data flattened and scaled, as these rows are to be."""
    flat = table.x.reshape(len(table.x), -1)
    x_scale = (standardise if table.features else brighten)(flat[rows])
    y_scale = None if table.classes else standardise(y[rows])
    return x_scale(flat), y_scale(y) if y_scale else y, x_scale, y_scale


def parts_of(table, config):
    """({part: its row numbers}, the part that is watched while training): the test rows never decide when to stop."""
    train_rows, test_rows = split(table, config.seed)
    if config.patience is None:
        return {"train": train_rows, "test": test_rows}, "test"
    if len(train_rows) < 2:
        raise ValueError("A fifth of the training rows is to be held out, and there is only 1: give more rows.")
    fifth = max(1, len(train_rows) // 5)
    return {"train": train_rows[fifth:], "validation": train_rows[:fifth], "test": test_rows}, "validation"


def network(config, table):
    """(model, loss, y): hidden layers and an output that fit the data, and y as the loss wants it."""
    K = len(table.classes)
    name = config.loss
    if name == "auto":
        name = "half_squared_error" if not K else "sigmoid_cross_entropy" if K == 2 else "softmax_cross_entropy"
    if not K and name.endswith("cross_entropy"):
        raise ValueError(
            f"--loss {name} needs classes, and the target of {table.name} is a quantity: use half_squared_error."
        )
    y = table.y
    if K and name != "softmax_cross_entropy":
        y = y[:, None].astype(float) if K == 2 else np.eye(K)[y]
    outputs = K if y.ndim == 1 else y.shape[1]

    sizes = (table.x[0].size, *config.hidden)
    layers: list[Layer] = []
    for n_in, n_out in pairwise(sizes):
        layers += [Dense(n_in, n_out, config.initializer), Activation(config.activation, config.slope)]
    layers += [Dense(sizes[-1], outputs, config.initializer)]
    if name == "binary_cross_entropy":
        layers += [Activation("sigmoid")]
    return Chain(tuple(layers)), getattr(jaxnn, name.title().replace("_", ""))(), y


def optimizer_of(config):
    """The optax optimiser of this name with this learning rate."""
    rate = config.learning_rate or (0.1 if config.optimizer == "sgd" else 0.001)
    try:
        optimizer = getattr(optax, config.optimizer)(learning_rate=rate)
    except (AttributeError, TypeError):
        optimizer = None
    if not isinstance(optimizer, optax.GradientTransformation):
        raise ValueError(
            f"optax has no optimiser {config.optimizer!r} that takes a learning rate: try sgd, adam, adamw."
        )
    return optimizer
