"""The chain of an article, dJ/dW1 = dJ/dŷ · dŷ/dz2 · dz2/da1 · da1/dz1 · dz1/dW1, as calculus has it: for one example
each factor is a whole Jacobian, and each dot a matrix product.

A factor has a row for each entry of what is above, a column for each entry of what is below. The entries of W stand one
row after the other, so that ∂z1/∂W1 is (n_out, n_out · n_in).
"""

from functools import reduce

import numpy as np

from reference import losses
from reference.layers import twin


def factors(model, loss, params, x, y, of="W1"):
    """{"∂J/∂ŷ": …, "∂ŷ/∂z2": …, …, "∂z1/∂W1": …}, in this order, of a chain of Dense and Activation layers.

    x (n_in, 1), y as the loss wants it. of: what to derive by, the W or b of any dense layer, counted from 1.
    """
    found: dict[str, np.ndarray] = {}
    name, k = "x", 0
    for n, (layer, v) in enumerate(zip(model.layers, params, strict=True), 1):
        below, k = name, k + bool(v)
        name = "ŷ" if n == len(model.layers) else f"z{k}" if v else f"a{k}"
        by_params, by_x = twin(layer).jacobians(layer, v, x)
        by_name = {f"{leaf}{k}": by for leaf, by in zip(twin(layer).names(layer), by_params, strict=True)}
        x = twin(layer).forward(layer, v, x)
        if of in by_name:  # the chain ends here: what is before this layer does not depend on it
            found[f"∂{name}/∂{of}"] = by_name[of].reshape(x.size, -1)
        elif found:
            found[f"∂{name}/∂{below}"] = by_x.reshape(x.size, -1)
    found[f"∂J/∂{name}"] = losses.twin(loss).gradient(loss, x, y).reshape(1, -1)
    return dict(reversed(found.items()))


def product(factors):
    """∂J/∂W, (1, entries of W)."""
    return reduce(np.matmul, factors.values())
