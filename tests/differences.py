"""(f(v + h) − f(v − h)) / 2h of the twin's forward in 200-bit ball arithmetic, h = 2⁻⁶⁰: right to 30 digits."""

import flint
import jax
import numpy as np
from columns import from_columns, params_from_columns, params_to_columns, to_columns
from witnesses import in_columns, target

from reference import backprop as twin_backprop
from reference import losses as twin_losses
from reference.layers import twin

flint.ctx.prec = 200
STEP = flint.arb(2) ** -60


def layer_differences(layer, params, x, dout, inner=1):
    twin_params, X, dout = in_columns(layer, params, x, dout, inner)
    whole = X.dtype.kind in "iu"

    def S(v):  # its gradient is the vector-Jacobian product with dout
        out = twin(layer).forward(layer, v[0], X if whole else v[1])
        pairs = zip(dout, out, strict=True) if isinstance(dout, tuple) else [(dout, out)]
        return sum((of * part).sum() for of, part in pairs)

    dparams, *dx = gradient(S, (twin_params,) if whole else (twin_params, X))
    return params_from_columns(dparams, params), None if whole else from_columns(*dx, np.shape(x))


def loss_differences(loss, z, y, w=None):
    Y = target(z, y)
    dz = gradient(lambda Z: twin_losses.twin(loss).forward(loss, Z, Y, w), to_columns(z))
    return from_columns(dz, np.shape(z))


def net_slope(model, loss, params, direction, x, y, w=None, penalty=None):
    """∂J/∂params · direction, by differences."""
    z = np.empty(jax.eval_shape(model.apply, params, x).shape)
    X, Y, w = balls(to_columns(x)), target(z, y), None if w is None else np.ravel(w)
    start, way = balls(params_to_columns(model, params)), balls(params_to_columns(model, direction))

    def J(h):
        moved = jax.tree.map(lambda v, u: v + h * u, start, way)
        return twin_backprop.cost(model, loss, moved, X, Y, w, penalty)

    return float((J(STEP) - J(-STEP)) / (2 * STEP))


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
