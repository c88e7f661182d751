"""Matrix products and convolutions of balls, by flint's matrices where they are large enough to pay."""

import math

import numpy as np
from flint import arb_mat

from jaxnn.verify.arithmetic.balls import ZERO
from jaxnn.verify.arithmetic.windows import windows


def dot(ev, params, place, a, b):
    """dot_general: batch axes, then the free axes of a, then those of b."""
    (ca, cb), (ba, bb) = params["dimension_numbers"]
    free_a = [i for i in range(a.ndim) if i not in (*ca, *ba)]
    free_b = [i for i in range(b.ndim) if i not in (*cb, *bb)]
    batch, M, N = ([v.shape[i] for i in axes] for v, axes in ((a, ba), (a, free_a), (b, free_b)))
    K = math.prod(a.shape[i] for i in ca)
    rows, columns = (*ba, *free_a, *ca), (*bb, *cb, *free_b)
    A = a.transpose(rows).reshape(math.prod(batch), math.prod(M), K)
    B = b.transpose(columns).reshape(math.prod(batch), K, math.prod(N))
    out = np.empty((len(A), A.shape[1], B.shape[2]), object)
    for i in range(len(A)):
        out[i] = product(ev, A[i], B[i], ((id(a), i, rows), (id(b), i, columns)))
    return out.reshape((*batch, *M, *N))


def product(ev, A, B, names=(None, None)):
    (M, K), N = A.shape, B.shape[1]
    if not M * K * N:
        return np.full((M, N), ZERO)
    if M * K * N < 4 * (M * K + K * N + M * N):
        return A @ B
    A, B = matrix(ev, A, names[0]), matrix(ev, B, names[1])
    out = np.empty((M, N), object)
    for i, row in enumerate((A * B).tolist()):
        out[i] = row
    return out


def matrix(ev, A, name):
    """flint's matrix of A; a large one is kept, for it is mostly an input, which forward and backward multiply."""
    if name is None or A.size < 10_000:
        return arb_mat(A.tolist())
    if (name, A.shape) not in ev.matrices:
        ev.matrices[name, A.shape] = arb_mat(A.tolist())
    return ev.matrices[name, A.shape]


def conv(ev, params, place, x, kernel):
    """conv_general_dilated: out[n, o, …] = Σ_{i, …} x[n, i, … + …] kernel[o, i, …], in groups."""
    lhs, rhs, to = params["dimension_numbers"]
    x, kernel = x.transpose(lhs), kernel.transpose(rhs)
    groups, batches = params["feature_group_count"], params["batch_group_count"]
    spatial = kernel.ndim - 2
    view = windows(
        x,
        {
            "window_dimensions": (1, 1, *kernel.shape[2:]),
            "window_strides": (1, 1, *params["window_strides"]),
            "padding": ((0, 0), (0, 0), *params["padding"]),
            "base_dilation": (1, 1, *params["lhs_dilation"]),
            "window_dilation": (1, 1, *params["rhs_dilation"]),
        },
        ZERO,
    )
    view = view.reshape(*view.shape[: 2 + spatial], math.prod(kernel.shape[2:]))  # (n, i, out…, window)
    parts = np.split(view, groups, 1) if groups > 1 else np.split(view, batches, 0)
    kernels = np.split(kernel.reshape(*kernel.shape[:2], math.prod(kernel.shape[2:])), max(groups, batches), 0)
    outputs = []
    for part, k in zip(parts, kernels, strict=True):
        part = np.moveaxis(part, 1, -2)  # (n, out…, i, window)
        flat = part.reshape(math.prod(part.shape[:-2]), math.prod(part.shape[-2:]))
        out = product(ev, flat, k.reshape(len(k), math.prod(k.shape[1:])).T)
        outputs.append(np.moveaxis(out.reshape(*part.shape[:-2], len(k)), -1, 1))
    out = np.concatenate(outputs, 1)
    return out.transpose(np.argsort(to))
