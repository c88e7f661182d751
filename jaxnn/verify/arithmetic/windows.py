"""Sliding windows over any axes, as pooling and convolutions move them."""

import operator
from collections.abc import Iterable, Sequence

import numpy as np

from jaxnn.verify.arithmetic.rules import EqnParams


def padded(x: np.ndarray, padding: Iterable[tuple[int, int]], dilation: Sequence[int], fill: object) -> np.ndarray:
    """x with its entries `dilation` apart, and (before, after) entries more on every axis, or fewer if negative.

    All new entries are `fill`."""
    padding = tuple(padding)
    spread = [max((n - 1) * d + 1, 0) for n, d in zip(x.shape, dilation, strict=True)]
    before, after = [max(b, 0) for b, _ in padding], [max(a, 0) for _, a in padding]
    out = np.full([b + n + a for b, n, a in zip(before, spread, after, strict=True)], fill, x.dtype)
    out[tuple(slice(b, b + n, d) for b, n, d in zip(before, spread, dilation, strict=True))] = x
    return out[tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(out.shape, padding, strict=True))]


def windows(x: np.ndarray, params: EqnParams, fill: object) -> np.ndarray:
    """(out_1, …, out_n, window_1, …, window_n) of x of rank n, filled outside and, dilated, between its entries.

    params: `window_dimensions`, `window_strides`, `padding`, `base_dilation`, `window_dilation` as in
    `jax.lax.reduce_window`.
    """
    ones = (1,) * x.ndim
    sizes, strides = params["window_dimensions"], params["window_strides"]
    x = padded(x, params["padding"], params.get("base_dilation") or ones, fill)
    dilation = params.get("window_dilation") or ones
    reach = [(w - 1) * d + 1 for w, d in zip(sizes, dilation, strict=True)]
    if any(map(operator.gt, reach, x.shape)):  # not one window fits
        counts = [max((n - r) // s + 1, 0) for n, r, s in zip(x.shape, reach, strides, strict=True)]
        return np.empty((*counts, *sizes), x.dtype)
    view = np.lib.stride_tricks.sliding_window_view(x, reach)
    return view[tuple(slice(None, None, step) for step in (*strides, *dilation))]
