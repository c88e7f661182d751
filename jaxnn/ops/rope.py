"""out_t = R_t x_t: each pair of entries turned by the angle t θ_i, θ_i = base^(−2i/r)"""

from functools import partial
from typing import Literal, get_args

import jax
from jax import Array
from jax import numpy as jnp

from jaxnn.cotangent import over_devices
from jaxnn.dtypes import at_least_float32, check_one_dtype, wide
from jaxnn.protocols import OpExample, real, whole
from jaxnn.shapes import check_entries, fits

Layout = Literal["halves", "interleaved"]


@partial(jax.custom_vjp, nondiff_argnames=("base", "layout", "turned"))
def rope(
    x: Array,
    positions: Array | None = None,
    base: float = 10000.0,
    layout: Layout = "halves",
    turned: int | None = None,
) -> Array:
    """Rotary positions: the pair (a, b) at i of each head becomes (a cos φ − b sin φ, a sin φ + b cos φ), with
    φ = t base^(−2i/r), i = 0 … r/2 − 1.

    x and out (…, T, H, d). positions: t, whole numbers (…, T), 0 … T − 1 if None. turned: r, how many entries
    from the first are turned, all d if None; the others stay. layout: pair i is the entries i and i + r/2 ("halves",
    Llama's weights), or 2i and 2i + 1 ("interleaved", as in the paper).

    out_t = R_t x_t, R_t orthogonal, therefore ∂J/∂x_t = R_tᵀ dout_t, the rotation by −φ

    The angles are float32 at least. Source: Su et al. (2021), eq. 15 and 34.
    ValueError: r odd or above d, a base that is not positive, positions that do not fit, an unknown layout.
    TypeError: positions that are no whole numbers.
    """
    return fwd(x, positions, base, layout, turned)[0]


def fwd(
    x: Array, positions: Array | None, base: float, layout: Layout, turned: int | None
) -> tuple[Array, tuple[Array, Array | None]]:
    check(x, positions, base, layout, turned)
    return rotated(x, positions, base, layout, turned, 1), (x[..., :0], positions)


def bwd(
    base: float, layout: Layout, turned: int | None, residuals: tuple[Array, Array | None], dout: Array
) -> tuple[Array, None]:
    of_x, positions = residuals
    return over_devices(of_x, rotated(dout, positions, base, layout, turned, -1)), None


def rotated(x: Array, positions: Array | None, base: float, layout: Layout, turned: int | None, sign: int) -> Array:
    """The entries turned by sign · φ."""
    r = x.shape[-1] if turned is None else turned
    t = jnp.arange(x.shape[-3]) if positions is None else positions
    theta = base ** (-jnp.arange(0, r, 2, at_least_float32(x.dtype)) / r)
    angle = t[..., None, None].astype(theta.dtype) * theta[(None,) * (t.ndim + 1)]
    angle = angle.reshape((1,) * (x.ndim - angle.ndim) + angle.shape)
    cos, sin = jnp.cos(angle), sign * jnp.sin(angle)
    pairs, rest = wide(x[..., :r]), x[..., r:]
    axis = -2 if layout == "halves" else -1
    pairs = pairs.reshape(*x.shape[:-1], *((2, r // 2) if layout == "halves" else (r // 2, 2)))
    a, b = (jnp.take(pairs, k, axis) for k in (0, 1))
    new = jnp.stack([a * cos - b * sin, a * sin + b * cos], axis).reshape(*x.shape[:-1], r)
    return jnp.concatenate([new.astype(x.dtype), rest], -1)


def check(x: Array, positions: Array | None, base: float, layout: Layout, turned: int | None) -> None:
    """ValueError and TypeError of `rope`."""
    check_one_dtype("rope", x=x)
    check_entries("rope", x=x)
    r = x.shape[-1] if turned is None else turned
    if not base > 0:
        raise ValueError(f"rope(…, base={base}): give a positive number.")
    if x.ndim < 3 or r % 2 or not 0 < r <= x.shape[-1] or layout not in get_args(Layout):
        raise ValueError(
            f"rope was given x of shape {x.shape}, layout={layout!r} and turned={turned}: give (…, T, H, d), 'halves' "
            "or 'interleaved', and an even number of entries to turn, d at most."
        )
    if positions is None:
        return
    if not jnp.issubdtype(positions.dtype, jnp.integer):
        raise TypeError(f"rope was given positions of {positions.dtype}: give whole numbers.")
    if positions.shape[-1:] != x.shape[-3:-2] or not fits(positions.shape, x.shape[:-2]):
        raise ValueError(
            f"rope was given positions of shape {positions.shape} for x of {x.shape}: give {x.shape[:-2]}, with 1 for "
            "or without some of its leading axes."
        )


rope.defvjp(fwd, bwd)

HALVES: dict[str, OpExample] = {
    "one sequence": {"x": real(3, 2, 4)},
    "two entries": {"x": real(4, 1, 2)},
    "one position": {"x": real(1, 2, 4)},
    "partial": {"x": real(3, 1, 6), "turned": 4},
    "positions of each example": {"x": real(2, 3, 1, 4), "positions": whole(2, 3, below=9)},
    "the same positions": {"x": real(2, 3, 1, 4), "positions": whole(3, below=9), "base": 100.0},
}
EXAMPLES = HALVES | {f"interleaved, {words}": example | {"layout": "interleaved"} for words, example in HALVES.items()}
TRAPS = {
    "turned forward again on the way back": ("layout, turned, -1)", "layout, turned, 1)"),
    "the positions of the first example for all": (
        "rotated(dout, positions, base",
        "rotated(dout, None if positions is None else positions.reshape(-1, positions.shape[-1])[0], base",
    ),
    "the other layout on the way back": (
        "dout, positions, base, layout,",
        'dout, positions, base, "halves" if layout == "interleaved" else "interleaved",',
    ),
    "all entries turned on the way back": ("base, layout, turned, -1)", "base, layout, None, -1)"),
}
