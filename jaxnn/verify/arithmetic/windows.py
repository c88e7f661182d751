"""Sliding windows over any axes, as pooling and convolutions move them."""

import operator

import numpy as np


def padded(x, padding, dilation, fill):
    """x with its entries `dilation` apart, and (before, after) on every axis, cut off where negative; filled."""
    spread = [max((n - 1) * d + 1, 0) for n, d in zip(x.shape, dilation, strict=True)]
    padding = tuple(padding)
    out = np.full([n + max(lo, 0) + max(hi, 0) for n, (lo, hi) in zip(spread, padding, strict=True)], fill, x.dtype)
    inside = zip(spread, padding, dilation, strict=True)
    out[tuple(slice(max(lo, 0), max(lo, 0) + n, d) for n, (lo, _), d in inside)] = x
    return out[tuple(slice(max(-lo, 0), n - max(-hi, 0)) for n, (lo, hi) in zip(out.shape, padding, strict=True))]


def windows(x, params, fill):
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
        fits = [max((n - r) // s + 1, 0) for n, r, s in zip(x.shape, reach, strides, strict=True)]
        return np.empty((*fits, *sizes), x.dtype)
    view = np.lib.stride_tricks.sliding_window_view(x, reach)
    return view[tuple(slice(None, None, s) for s in strides) + tuple(slice(None, None, d) for d in dilation)]
