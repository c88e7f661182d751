"""out = P x: the entries of an image, patch by patch; P a permutation."""

import numpy as np


def names(layer):
    return ()


def columns(layer, params):
    return ()


def places(layer):
    """The place in x of each entry of out   (T, size² C)."""
    s, C = layer.size, layer.channels
    return np.array(
        [
            [((i + a) * layer.width + j + b) * C + c for a, b, c in np.ndindex(s, s, C)]
            for i in range(0, layer.height, s)
            for j in range(0, layer.width, s)
        ]
    )


def forward(layer, params, X):
    """(H W C, m) -> (T, size² C, m)."""
    return X[places(layer)]


def jacobians(layer, params, X):
    """∂out_tki/∂x_lj = [l = place of tk] δ_ij   (T, size² C, m, H W C, m)."""
    return (), np.einsum("tkl,ij->tkilj", np.eye(len(X))[places(layer)], np.eye(X.shape[1]))
