"""out_i = W[x_i], 0 where x_i is the padding"""

from functools import partial

import jax
from jax import Array
from jax import numpy as jnp

from jaxnn import cotangent
from jaxnn.dtypes import at_least_float32, check_one_dtype
from jaxnn.protocols import real, whole
from jaxnn.shapes import check_names, laid_out


@partial(jax.custom_vjp, nondiff_argnames=("padding",))
def embedding(W: Array, x: Array, padding: int | None = None) -> Array:
    """out_i = W[x_i], the row of W that x_i names; 0 where x_i is `padding`. W (V, n), x (…) whole numbers, out (…, n).

    out_ik = Σ_v [x_i = v] W_vk, therefore
    ∂J/∂W[v] = Σ over the i with x_i = v of dout_i, and 0 for the row of the padding

    The sums are in float32 at least. A number that names no row is refused where it is known; inside jit it gives a row
    of NaN, and no row gets its gradient.
    Source: Bengio, Ducharme, Vincent & Jauvin (2003), section 2. ValueError: a W that is no matrix or empty, an x that
    is known and names no row. TypeError: an x that is not of whole numbers.
    """
    return fwd(W, x, padding)[0]


def fwd(W: Array, x: Array, padding: int | None) -> tuple[Array, tuple[Array, Array]]:
    check(W, x, padding)
    sharding = laid_out(x, x.ndim, W, -1)
    out = jnp.asarray(W).at[x].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False, out_sharding=sharding)
    return out if padding is None else jnp.where((x == padding)[..., None], 0, out), (W, x)


def bwd(padding: int | None, residuals: tuple[Array, Array], dout: Array) -> tuple[Array, None]:
    W, x = residuals
    dout = dout.astype(at_least_float32(W.dtype))
    dout = dout if padding is None else jnp.where((x == padding)[..., None], 0, dout)
    none, sharding = cotangent.zeros(W), cotangent.laid_out(W)
    dW = none.at[x].add(dout, mode="drop", wrap_negative_indices=False, out_sharding=sharding)
    return cotangent.over_devices(W, dW.astype(W.dtype)), None


def check(W: Array, x: Array, padding: int | None) -> None:
    """ValueError and TypeError of `embedding`."""
    check_one_dtype("embedding", W=W)
    if W.ndim != 2 or not W.size:
        raise ValueError(f"embedding was given W of shape {W.shape}: give (V, n), one row and one entry or more.")
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(f"embedding was given x of {x.dtype}: give whole numbers from 0 to {len(W) - 1}.")
    check_names("embedding", "x", x, len(W), padding)


embedding.defvjp(fwd, bwd)

EXAMPLES = {
    "sequences": {"W": real(4, 3), "x": whole(2, 5, below=4)},
    "one number": {"W": real(4, 3), "x": whole(below=4)},
    "all the same": {"W": real(3, 2), "x": whole(4, below=1)},
    "one row": {"W": real(1, 2), "x": whole(3, below=1)},
    "padding": {"W": real(4, 3), "x": whole(7, below=4), "padding": 1},
    "nothing but padding": {"W": real(4, 3), "x": whole(3, below=1), "padding": 0},
}
TRAPS = {
    "duplicates overwritten": (".add(dout,", ".set(dout,"),
    "the padding's row learns": (
        "dout = dout if padding is None else jnp.where((x == padding)[..., None], 0, dout)",
        "dout = dout",
    ),
    "a mean over the duplicates": (
        ".add(dout,",
        ".add(dout / (x[..., None] == x.ravel()[(None,) * x.ndim]).sum(-1, keepdims=True).astype(dout.dtype),",
    ),
    "rows counted from the end": ("none.at[x]", "none.at[len(W) - 1 - x]"),
}
