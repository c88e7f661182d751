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
    """dout like out -> dparams like params, dX like X."""
    return product(dout, twin(layer).jacobians(layer, params, X), np.ndim(dout))
