"""out = f_n(… f_2(f_1(X))): the chain rule in forward order, Jacobian times Jacobian."""

import numpy as np

from reference.layers import twin
from reference.vjp import product


def names(chain):
    return tuple(twin(layer).names(layer) for layer in chain.layers)


def columns(chain, params):
    return tuple(twin(layer).columns(layer, v) for layer, v in zip(chain.layers, params, strict=True))


def forward(chain, params, X):
    """(n_in, m) -> (n_out, m)."""
    for layer, v in zip(chain.layers, params, strict=True):
        X = twin(layer).forward(layer, v, X)
    return X


def jacobians(chain, params, X):
    """∂out/∂v = ∂f/∂X · ∂X/∂v for everything v before the layer f, then f's own ∂f/∂v."""
    by_params, by_X = (), None if X.dtype.kind in "iu" else np.eye(X.size).reshape(X.shape + X.shape)
    for layer, v in zip(chain.layers, params, strict=True):
        f_by_v, f_by_X = twin(layer).jacobians(layer, v, X)
        by_params, by_X = product(f_by_X, (by_params, by_X), X.ndim)
        by_params += (f_by_v,)
        X = twin(layer).forward(layer, v, X)
    return by_params, by_X
