"""Three independent ways to the derivative that a hand-written rule claims to be, and one way to compare.

autodiff       JAX's own, of our forward
twin           the entry-wise Jacobians of reference/
differences    of the twin's forward at high precision: differences.py
"""

from functools import partial

import jax
import numpy as np
from columns import from_columns, out_to_columns, params_from_columns, params_to_columns, to_columns
from jax import numpy as jnp

from reference import backprop as twin_backprop
from reference import losses as twin_losses
from reference.vjp import vjp


@partial(jax.jit, static_argnums=0)
def layer_by_hand(layer, params, x, dout):
    _, residuals = layer.forward(params, x, jax.random.key(0))
    return layer.backward(residuals, dout)


@partial(jax.jit, static_argnums=0)
def layer_autodiff(layer, params, x, dout):
    key = jax.random.key(0)
    if jnp.issubdtype(x.dtype, jnp.integer):
        return *jax.vjp(lambda params: layer.forward(params, x, key)[0], params)[1](dout), None
    return jax.vjp(lambda params, x: layer.forward(params, x, key)[0], params, x)[1](dout)


def in_columns(layer, params, x, dout, inner):
    """(params, X, dout) as the twin has them; inner: how many of x's last axes are one example."""
    of_out = np.ndim(jax.tree.leaves(dout)[0]) - np.ndim(x) + inner
    return params_to_columns(layer, params), to_columns(x, inner), out_to_columns(dout, of_out)


def layer_twin(layer, params, x, dout, inner=1):
    dparams, dx = vjp(layer, *in_columns(layer, params, x, dout, inner))
    return params_from_columns(dparams, params), from_columns(dx, np.shape(x))


@partial(jax.jit, static_argnums=0)
def loss_by_hand(loss, z, y, w=None):
    _, residuals = loss.forward(z, y, w)
    return loss.backward(residuals)


@partial(jax.jit, static_argnums=0)
def loss_autodiff(loss, z, y, w=None):
    return jax.grad(lambda z: loss.forward(z, y, w)[0])(z)


def loss_twin(loss, z, y, w=None):
    return from_columns(twin_losses.twin(loss).gradient(loss, to_columns(z), target(z, y), w), np.shape(z))


def target(z, y):
    """Labels stay (m,), all else becomes columns."""
    return to_columns(y) if np.ndim(y) == np.ndim(z) else np.ravel(y)


def net_twin(model, loss, params, x, y, w=None, penalty=None):
    z = np.empty(jax.eval_shape(model.apply, params, x).shape)
    arguments = (
        params_to_columns(model, params),
        to_columns(x),
        target(z, y),
        None if w is None else np.ravel(w),
        penalty,
    )
    J, grads = twin_backprop.value_and_grad(model, loss, *arguments)
    return J, params_from_columns(grads, params)


def difference(hand, true):
    """The largest difference between two trees of equal shapes, relative to the largest entry of its leaf.

    NaN, which no bound admits, where an entry of either is no number.
    A leaf that is 0 but for rounding (all terms cancel) is measured against the largest entry of the whole tree.
    """
    assert jax.tree.structure(hand) == jax.tree.structure(true)
    leaves = [np.asarray(v, float) for v in jax.tree.leaves(true)]
    largest = [np.abs(v).max(initial=0) for v in leaves]
    errors = [0.0]
    for dv, truth, scale in zip(jax.tree.leaves(hand), leaves, largest, strict=True):
        assert np.shape(dv) == truth.shape
        scale = scale if scale > 1e-14 * max(largest) else max(largest)
        errors.append(np.abs(np.asarray(dv, float) - truth).max(initial=0) / (scale or 1))
    return np.max(errors)  # unlike max, it lets NaN through
