"""Rules of linear algebra, batched over leading axes."""

from collections.abc import Callable

import numpy as np

from jaxnn.verify.arithmetic.balls import ZERO, Balls, object_array
from jaxnn.verify.arithmetic.decisions import Place
from jaxnn.verify.arithmetic.reductions import place_of_extreme
from jaxnn.verify.arithmetic.rules import EqnParams, Evaluator, Rule


def on_matrices(f: Callable[..., Balls], *arrays: Balls) -> Balls:
    """f of the matrices in the last two axes of each array; the result has the shape of the last array."""
    out = np.empty(arrays[-1].shape, object)
    for i in np.ndindex(arrays[0].shape[:-2]):
        out[i] = f(*(a[i] for a in arrays))
    return out


def cholesky(ev: Evaluator, params: EqnParams, place: Place, a: Balls) -> Balls:
    """L, lower triangular, with L Lᵀ = a: column by column, from the lower half of a."""

    def factor(a: Balls) -> Balls:
        L = object_array([ZERO] * a.size, a.shape)
        for j in range(len(a)):
            L[j, j] = (a[j, j] - sum(L[j, :j] ** 2, ZERO)).sqrt()
            for i in range(j + 1, len(a)):
                L[i, j] = (a[i, j] - sum(L[i, :j] * L[j, :j], ZERO)) / L[j, j]
        return L

    return on_matrices(factor, a)


def triangular_solve(ev: Evaluator, params: EqnParams, place: Place, a: Balls, b: Balls) -> Balls:
    """x with a x = b if `left_side`, else with x a = b, for a triangular matrix a or its transpose."""

    def solve(a: Balls, b: Balls) -> Balls:
        if params["transpose_a"]:
            a = a.T
        if not params["left_side"]:
            a, b = a.T, b.T
        lower = params["lower"] ^ params["transpose_a"] ^ (not params["left_side"])
        x = b.copy()
        order = range(len(a)) if lower else range(len(a) - 1, -1, -1)
        for i in order:
            for j in range(i) if lower else range(i + 1, len(a)):
                x[i] = x[i] - a[i, j] * x[j]
            x[i] = x[i] if params["unit_diagonal"] else x[i] / a[i, i]
        return x if params["left_side"] else x.T

    return on_matrices(solve, a, b)


def lu(ev: Evaluator, params: EqnParams, place: Place, a: Balls) -> list[np.ndarray]:
    """[L − 1 + U in one matrix, pivots, order]: the rows of a in this order are L U.

    Undecided if it is not decided which entry of a column is the largest."""
    factors, lead = a.copy(), a.shape[:-2]
    pivots = np.empty((*lead, min(a.shape[-2:])), np.int32)
    order = np.array(np.broadcast_to(np.arange(a.shape[-2], dtype=np.int32), (*lead, a.shape[-2])))
    for b in np.ndindex(lead):
        f = factors[b]
        for k in range(pivots.shape[-1]):
            p = k + place_of_extreme(ev, (place, b, k), "larger", [abs(v) for v in f[k:, k]])
            pivots[(*b, k)] = p
            f[[k, p]] = f[[p, k]]
            order[b][[k, p]] = order[b][[p, k]]
            f[k + 1 :, k] = f[k + 1 :, k] / f[k, k]
            f[k + 1 :, k + 1 :] -= np.multiply.outer(f[k + 1 :, k], f[k, k + 1 :])
    return [factors, pivots, order]


LINEAR_ALGEBRA: dict[str, Rule] = {"cholesky": cholesky, "triangular_solve": triangular_solve, "lu": lu}
