"""One iteration of a network: what goes through each of its layers, forward and back."""

from typing import NamedTuple

from jax import Array

from jaxnn.layers.chain import Chain
from jaxnn.protocols import LossPair, Params, PyTree, Residuals


class Values(NamedTuple):
    """What goes through a layer forward and back in one iteration."""

    params: Params
    x: Array
    out: Array
    residuals: Residuals
    dout: Array
    dparams: Params
    dx: Array | None


class Iteration(NamedTuple):
    """What goes through a network forward and back."""

    x: Array
    y: PyTree
    layers: list[Values]
    out: Array


def iteration_of(chain: Chain, loss: LossPair, params: Params, x: Array, y: PyTree) -> Iteration:
    inputs, outs, residuals = [x], [], []
    for layer, p in zip(chain.layers, params, strict=True):
        out, saved = layer.forward(p, inputs[-1])
        inputs.append(out)
        outs.append(out)
        residuals.append(saved)
    dout: PyTree = loss.backward(loss.forward(outs[-1], y)[1])
    values: list[Values] = []
    for n in reversed(range(len(chain.layers))):
        dparams, dx = chain.layers[n].backward(residuals[n], dout)
        values.insert(0, Values(params[n], inputs[n], outs[n], residuals[n], dout, dparams, dx))
        dout = dx
    return Iteration(x, y, values, outs[-1])
