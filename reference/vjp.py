"""The vector-Jacobian product of any layer: dv = Σ_ki dout_ki ∂out_ki/∂v."""

import numpy as np

from reference.layers import twin


def product(A, jacobians):
    """Σ_ki A_…ki ∂out_ki/∂v: A's last two axes are out's; over nested tuples of Jacobians."""
    if isinstance(jacobians, tuple):
        return tuple(product(A, jacobian) for jacobian in jacobians)
    return np.tensordot(A, jacobians, axes=2)


def vjp(layer, params, X, dout):
    """dout like out -> dparams like params, dX like X."""
    return product(dout, twin(layer).jacobians(layer, params, X))
