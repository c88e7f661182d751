"""The multilayer perceptron: Dense, Activation, Dense, …, Dense."""

from collections.abc import Sequence
from itertools import pairwise

from jaxnn.layers.activation import Activation
from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.protocols import Layer, Loss


def perceptron(
    widths: Sequence[int],
    activation: str,
    loss: Loss | None = None,
    *,
    slope: float | None = None,
    initializer: str = "xavier",
) -> Chain:
    """A `Dense` layer between every two of the widths (n_in, …, n_out), with an `Activation` between the layers.

    It ends in a sigmoid if the loss takes probabilities. ValueError: what `Dense` and `Activation` refuse.
    """
    layers: list[Layer] = []
    for n_in, n_out in pairwise(widths):
        layers += [Dense(n_in, n_out, initializer), Activation(activation, slope)]
    ending = [Activation("sigmoid")] if getattr(loss, "output", "values") == "probabilities" else []
    return Chain((*layers[:-1], *ending))
