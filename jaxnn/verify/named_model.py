"""A model whose values between layers, and their cotangents, have names."""

import dataclasses
from typing import Any

from jax.ad_checkpoint import checkpoint_name

from jaxnn.layers.chain import Chain


def named(model):
    """The model with names for what goes from layer to layer, so that a wrong one is found."""
    if not isinstance(model, Chain):
        return model
    layers: list[Any] = [
        NamedLayer(layer, f"x of layer {i} ({type(layer).__name__})") if i else layer
        for i, layer in enumerate(model.layers)
    ]
    return Chain(tuple(layers))


@dataclasses.dataclass(frozen=True)
class NamedLayer:
    """A layer whose x and dx have names."""

    layer: Any
    name: str

    def forward(self, params, x, key=None):
        return self.layer.forward(params, checkpoint_name(x, self.name), key)

    def backward(self, residuals, dout):
        dparams, dx = self.layer.backward(residuals, dout)
        return dparams, checkpoint_name(dx, f"d{self.name}")


@dataclasses.dataclass(frozen=True)
class NamedLoss:
    """A loss whose z and dz have names."""

    loss: Any

    def forward(self, z, y, w=None):
        return self.loss.forward(checkpoint_name(z, "z"), y, w)

    def backward(self, residuals):
        return checkpoint_name(self.loss.backward(residuals), "dz")
