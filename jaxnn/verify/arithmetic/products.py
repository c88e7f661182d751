"""Matrix products and convolutions of balls, by flint's matrices where they are large enough to pay."""

import math

import numpy as np
from flint import arb_mat

from jaxnn.verify.arithmetic.balls import ZERO, Balls
from jaxnn.verify.arithmetic.decisions import Place
from jaxnn.verify.arithmetic.rules import EqnParams, Evaluator, Rule
from jaxnn.verify.arithmetic.windows import windows


def dot_general(ev: Evaluator, params: EqnParams, place: Place, a: Balls, b: Balls) -> Balls:
    """Σ a b over the contracted axes: batch axes first, then the free axes of a, then those of b."""
    (ca, cb), (ba, bb) = params["dimension_numbers"]
    free_a = [i for i in range(a.ndim) if i not in (*ca, *ba)]
    free_b = [i for i in range(b.ndim) if i not in (*cb, *bb)]
    batch, M, N = [a.shape[i] for i in ba], [a.shape[i] for i in free_a], [b.shape[i] for i in free_b]
    K = math.prod(a.shape[i] for i in ca)
    rows, columns = (*ba, *free_a, *ca), (*bb, *cb, *free_b)
    A = a.transpose(rows).reshape(math.prod(batch), math.prod(M), K)
    B = b.transpose(columns).reshape(math.prod(batch), K, math.prod(N))
    out = np.empty((len(A), A.shape[1], B.shape[2]), object)
    for i in range(len(A)):
        out[i] = product(ev, A[i], B[i], ((id(a), i, rows), (id(b), i, columns)))
    return out.reshape((*batch, *M, *N))


def product(ev: Evaluator, A: Balls, B: Balls, names: tuple[tuple | None, tuple | None] = (None, None)) -> Balls:
    """A B of two matrices, (M, K) and (K, N). A matrix that has a name is kept under it."""
    (M, K), N = A.shape, B.shape[1]
    if not M * K * N:
        return np.full((M, N), ZERO)
    if M * K * N < 4 * (M * K + K * N + M * N):
        return A @ B
    left, right = flint_matrix(ev, A, names[0]), flint_matrix(ev, B, names[1])
    out = np.empty((M, N), object)
    for i, row in enumerate((left * right).tolist()):
        out[i] = row
    return out


def flint_matrix(ev: Evaluator, A: Balls, name: tuple | None) -> arb_mat:
    """flint's matrix of A; a large one is kept, for it is mostly an input, which forward and backward multiply."""
    if name is None or A.size < 10_000:
        return arb_mat(A.tolist())
    if (name, A.shape) not in ev.matrices:
        ev.matrices[name, A.shape] = arb_mat(A.tolist())
    return ev.matrices[name, A.shape]


def convolution(ev: Evaluator, params: EqnParams, place: Place, x: Balls, kernel: Balls) -> Balls:
    """conv_general_dilated: out[n, o, …] = Σ_{i, …} x[n, i, … + …] kernel[o, i, …], in groups."""
    lhs, rhs, to = params["dimension_numbers"]
    x, kernel = x.transpose(lhs), kernel.transpose(rhs)
    groups, batches = params["feature_group_count"], params["batch_group_count"]
    moves = {  # of the windows, which leave the axes n and i alone
        "window_dimensions": (1, 1, *kernel.shape[2:]),
        "window_strides": (1, 1, *params["window_strides"]),
        "padding": ((0, 0), (0, 0), *params["padding"]),
        "base_dilation": (1, 1, *params["lhs_dilation"]),
        "window_dilation": (1, 1, *params["rhs_dilation"]),
    }
    size = math.prod(kernel.shape[2:])
    view = windows(x, moves, ZERO)
    view = view.reshape(*view.shape[: kernel.ndim], size)  # (n, i, out…, window)
    parts = np.split(view, groups, 1) if groups > 1 else np.split(view, batches, 0)
    kernels = np.split(kernel.reshape(*kernel.shape[:2], size), max(groups, batches), 0)
    outputs = []
    for part, k in zip(parts, kernels, strict=True):
        part = np.moveaxis(part, 1, -2)  # (n, out…, i, window)
        flat = part.reshape(math.prod(part.shape[:-2]), math.prod(part.shape[-2:]))
        out = product(ev, flat, k.reshape(len(k), math.prod(k.shape[1:])).T)
        outputs.append(np.moveaxis(out.reshape(*part.shape[:-2], len(k)), -1, 1))
    return np.concatenate(outputs, 1).transpose(np.argsort(to))


PRODUCTS: dict[str, Rule] = {"dot_general": dot_general, "conv_general_dilated": convolution}
