"""A trained network with the scales and names of its data: what `predict` needs."""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from numpy.typing import ArrayLike

from jaxnn.data.scale import Scale
from jaxnn.protocols import Layer, Loss, Params


class Trained(NamedTuple):
    """A trained network with what its data need: how inputs and values are scaled, and what things are called."""

    network: Layer
    loss: Loss
    params: Params
    x_scale: Scale  # of the flattened inputs
    y_scale: Scale | None  # of the values; None for classes
    features: tuple[str, ...]
    classes: tuple[str, ...]
    targets: tuple[str, ...]

    def predict(self, x: ArrayLike) -> np.ndarray:
        """y_hat (m, K) for raw rows x (m, …): probabilities of classes, or values in their own units."""
        dtype = jax.tree.leaves(self.params)[0].dtype
        x = np.asarray(x)
        scaled = self.x_scale(x.reshape(len(x), -1)).astype(dtype)
        y_hat = np.asarray(predicted(self.network, self.loss, self.params, jnp.asarray(scaled)))
        return y_hat if self.y_scale is None else self.y_scale.back(y_hat)


@partial(jax.jit, static_argnums=(0, 1))
def predicted(network: Layer, loss: Loss, params: Params, x: Array) -> Array:
    """y_hat of x as the network wants it."""
    return loss.predict(network.apply(params, x))
