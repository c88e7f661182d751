"""Neural networks as pure JAX functions whose backward passes are derived by hand.

Notation, used everywhere:

| symbol           | meaning                                                        | shape                  |
|------------------|----------------------------------------------------------------|------------------------|
| `x`              | input, one example a row, any leading axes                     | (m, n_in)              |
| `W`, `b`         | weights, bias; row j of `W` is neuron j                        | (n_out, n_in), (n_out,)|
| `z = x Wᵀ + b`   | pre-activation; for one example z = W x + b                    | (m, n_out)             |
| `a = g(z)`       | activation                                                     | (m, n_out)             |
| `y`, `y_hat`     | target (this only), prediction                                 | (m, n_out)             |
| `L`, `J`         | loss of one example, cost = mean of the losses over the batch  | (m,), scalar           |
| `dv`             | exactly ∂J/∂v, for every v, with v's shape and dtype           | as v                   |
| `residuals`      | what forward saves for backward                                | arrays                 |
| `params`, `grads`| pytrees of the same type                                       |                        |
| `key`, `m`       | a typed PRNG key; the batch size                               |                        |

The 1/m of the mean lives in `jaxnn/mean.py` and nowhere else, so every `dv` is a true derivative of J and can be
checked by itself.
"""

import importlib

from jaxnn import catalogue

_HOME = {
    **{catalogue.class_name(name): f"layers.{name}" for name in catalogue.names("layers")},
    **{catalogue.class_name(name): f"losses.{name}" for name in catalogue.names("losses")},
    "Checkpoint": "training.checkpoint",
    "L2": "penalty",
    "cost": "backprop",
    "value_and_grad": "backprop",
    "fit": "training.fit",
    "prepare": "training.prepare",
    "sweep": "training.sweep",
    "explain": "explanation.network",
    "explain_gradient": "explanation.function",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used, so that `jaxnn --help` never waits for JAX."""
    if name not in _HOME:
        raise AttributeError(f"module 'jaxnn' has no attribute {name!r}")
    return getattr(importlib.import_module(f"jaxnn.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
