"""The vector-Jacobian product of any layer: dv = Σ_ki dout_ki ∂out_ki/∂v."""

import numpy as np

from reference.layers import twin


def product(A, jacobians, axes=2):
    """Σ_ki A_…ki ∂out_ki/∂v: the last axes of A, two of a matrix, are out's; over nested tuples of Jacobians.

    None, the Jacobian of whole numbers, stays None.
    """
    if isinstance(jacobians, tuple):
        return tuple(product(A, jacobian, axes) for jacobian in jacobians)
    return None if jacobians is None else np.tensordot(A, jacobians, axes)


def vjp(layer, params, X, dout):
    """dout like out -> dparams like params, dX like X. Of several outputs, a tuple, the sum over them."""
    jacobians = twin(layer).jacobians(layer, params, X)
    if not isinstance(dout, tuple):
        return product(dout, jacobians, np.ndim(dout))
    shares = [product(of, by, np.ndim(of)) for of, by in zip(dout, jacobians, strict=True)]
    return total(shares)


def total(trees):
    """Σ of nested tuples of arrays of one form."""
    return tuple(map(total, zip(*trees, strict=True))) if isinstance(trees[0], tuple) else sum(trees)
