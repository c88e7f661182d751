"""Three independent ways to the derivative that a hand-written rule claims to be, and one way to compare.

autodiff       JAX's own, of our forward
twin           the entry-wise Jacobians of reference/
differences    (f(v + h) − f(v − h)) / 2h of the twin's forward in 200-bit ball arithmetic, h = 2⁻⁶⁰: 30 digits
"""

from functools import partial

import flint
import jax
import numpy as np
from columns import from_columns, params_from_columns, params_to_columns, to_columns

from reference import backprop as twin_backprop
from reference import losses as twin_losses
from reference.layers import twin
from reference.vjp import vjp


@partial(jax.jit, static_argnums=0)
def layer_by_hand(layer, params, x, dout):
    _, residuals = layer.forward(params, x)
    return layer.backward(residuals, dout)


@partial(jax.jit, static_argnums=0)
def layer_autodiff(layer, params, x, dout):
    return jax.vjp(lambda params, x: layer.forward(params, x)[0], params, x)[1](dout)


def layer_twin(layer, params, x, dout):
    dparams, dx = vjp(layer, params_to_columns(params), to_columns(x), to_columns(dout))
    return params_from_columns(dparams, params), from_columns(dx, np.shape(x))


def layer_differences(layer, params, x, dout):
    dout = to_columns(dout)

    def S(v):  # its gradient is the vector-Jacobian product with dout
        params, X = v
        return (dout * twin(layer).forward(layer, params, X)).sum()

    dparams, dx = gradient(S, (params_to_columns(params), to_columns(x)))
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


def loss_differences(loss, z, y, w=None):
    Y = target(z, y)
    dz = gradient(lambda Z: twin_losses.twin(loss).forward(loss, Z, Y, w), to_columns(z))
    return from_columns(dz, np.shape(z))


def target(z, y):
    """Labels stay (m,), all else becomes columns."""
    return to_columns(y) if np.ndim(y) == np.ndim(z) else np.ravel(y)


def net_twin(model, loss, params, x, y, w=None, penalty=None):
    z = np.empty(jax.eval_shape(model.apply, params, x).shape)
    arguments = (params_to_columns(params), to_columns(x), target(z, y), None if w is None else np.ravel(w), penalty)
    J, grads = twin_backprop.value_and_grad(model, loss, *arguments)
    return J, params_from_columns(grads, params)


def net_slope(model, loss, params, direction, x, y, w=None, penalty=None):
    """∂J/∂params · direction, by differences."""
    z = np.empty(jax.eval_shape(model.apply, params, x).shape)
    X, Y, w = balls(to_columns(x)), target(z, y), None if w is None else np.ravel(w)
    start, way = balls(params_to_columns(params)), balls(params_to_columns(direction))

    def J(h):
        moved = jax.tree.map(lambda v, u: v + h * u, start, way)
        return twin_backprop.cost(model, loss, moved, X, Y, w, penalty)

    return float((J(STEP) - J(-STEP)) / (2 * STEP))


flint.ctx.prec = 200
STEP = flint.arb(2) ** -60


def balls(tree):
    """Float arrays as object arrays of exact balls."""
    return jax.tree.map(lambda v: np.vectorize(flint.arb, otypes=[object])(v) if np.size(v) else np.asarray(v), tree)


def gradient(S, tree):
    """∂S/∂v for every entry of every array of the tree, by central differences."""
    leaves, treedef = jax.tree.flatten(balls(tree))
    slopes = []
    for leaf in leaves:
        slope = np.zeros(leaf.shape)
        for index in np.ndindex(leaf.shape):
            v, ends = leaf[index], []
            for h in (STEP, -STEP):
                leaf[index] = v + h
                ends.append(S(treedef.unflatten(leaves)))
            leaf[index] = v
            slope[index] = float((ends[0] - ends[1]) / (2 * STEP))
        slopes.append(slope)
    return treedef.unflatten(slopes)


def difference(hand, true):
    """The largest difference between two trees of equal shapes, relative to the largest entry of its leaf.

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
    return max(errors)
