"""J and ∂J/∂v for every parameter v: forward, the loss's dJ/dZ, its product with the model's Jacobians."""

from reference import layers, losses
from reference import penalty as l2
from reference.vjp import vjp


def plus(params, step, grads):
    """v + step · dv, over nested tuples."""
    if isinstance(params, tuple):
        return tuple(plus(v, step, dv) for v, dv in zip(params, grads, strict=True))
    return params + step * grads


def cost(model, loss, params, X, Y, w=None, penalty=None):
    """J, with the penalty where there is one."""
    Z = layers.twin(model).forward(model, params, X)
    J = losses.twin(loss).forward(loss, Z, Y, w)
    return J if penalty is None else J + l2.forward(penalty, model, params)


def value_and_grad(model, loss, params, X, Y, w=None, penalty=None):
    """J and its gradient, a tree like params."""
    Z = layers.twin(model).forward(model, params, X)
    grads, _ = vjp(model, params, X, losses.twin(loss).gradient(loss, Z, Y, w))
    if penalty is not None:
        grads = plus(grads, 1, l2.gradient(penalty, model, params))
    return cost(model, loss, params, X, Y, w, penalty), grads
