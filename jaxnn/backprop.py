"""The gradient of the cost of a model, by hand: forward, ∂J/∂z, backward."""

from collections.abc import Callable

import jax
from jax import Array
from jax import numpy as jnp

from jaxnn.protocols import Layer, LossPair, Params, Penalty, PyTree


def cost(model: Layer, loss: LossPair, penalty: Penalty | None = None) -> Callable[..., Array]:
    """J(params, x, y, w=None, key=None): the loss of the model's output, plus the penalty. The function that
    `value_and_grad` differentiates by hand, so `jax.value_and_grad(cost(…))` is its peer."""

    def J(params: Params, x: Array, y: Array, w: Array | None = None, key: Array | None = None) -> Array:
        z, _ = model.forward(params, x, key)
        J, _ = loss.forward(z, y, w)
        return J if penalty is None else J + penalty.forward(params)[0].astype(J.dtype)

    return J


def value_and_grad(
    model: Layer, loss: LossPair, penalty: Penalty | None = None, has_aux: bool = False
) -> Callable[..., tuple[PyTree, Params]]:
    """(params, x, y, w=None, key=None) -> (J, grads): signature, tree and dtypes of `jax.value_and_grad` of `cost`.

    params: the tree of `model.init`; x (m, …); y as the loss wants it; w (m,) example weights; key: for layers that
    draw. grads: ∂J/∂params, the same tree. With `has_aux` the value is (J, residuals of the model's forward pass).
    """

    def J_and_grads(
        params: Params, x: Array, y: Array, w: Array | None = None, key: Array | None = None
    ) -> tuple[PyTree, Params]:
        params, x = jax.tree.map(jnp.asarray, (params, x))
        z, residuals = model.forward(params, x, key)
        J, loss_residuals = loss.forward(z, y, w)
        dz = loss.backward(loss_residuals)
        grads, _ = model.backward(residuals, dz)
        if penalty is not None:
            R, penalty_residuals = penalty.forward(params)
            J = J + R.astype(J.dtype)
            grads = jax.tree.map(jnp.add, grads, penalty.backward(penalty_residuals))
        return ((J, residuals), grads) if has_aux else (J, grads)

    return J_and_grads
