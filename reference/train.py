"""Gradient descent: v ← v − α ∂J/∂v, batch after batch."""

import numpy as np

from reference.backprop import plus, value_and_grad


def gradient_descent(
    model, loss, params, X, Y, *, learning_rate, epochs, batch_size=None, order=None, w=None, penalty=None
):
    """The parameters after the last step, and the J of every batch before its step.

    Epoch e takes the examples as order(e) lists them (file order where order is None), batch_size at a time (all
    at once where it is None); the last batch may be short.
    """
    m = X.shape[1]
    costs = []
    for e in range(epochs):
        examples = np.arange(m) if order is None else np.asarray(order(e))
        for start in range(0, len(examples), batch_size or m):
            i = examples[start : start + (batch_size or m)]
            w_i = None if w is None else w[i]
            J, grads = value_and_grad(model, loss, params, X[:, i], Y[..., i], w_i, penalty)
            params = plus(params, -learning_rate, grads)
            costs.append(J)
    return params, np.array(costs)
