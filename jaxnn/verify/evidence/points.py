"""Where a formula is evaluated: as given, and redrawn so that signs, saturation, smallness and ties are all met."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from numbers import Integral
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from jaxnn.verify.domains import Domain


class Draw(StrEnum):
    """How the float leaves of a point are drawn, see `redraw`."""

    GIVEN = "given"
    GENERIC = "generic"
    TINY = "tiny"
    SATURATED = "saturated"
    ZEROS = "zeros"
    MIXED = "mixed"
    NEAR = "near"
    WIDE = "wide"


class Kind(NamedTuple):
    """Which point it is. scale: of a wide one. elsewhere: what the arguments are, if not those that were given, such as
    "one example" or "drawn 2"."""

    draw: Draw
    scale: float = 1.0
    elsewhere: str | None = None

    def __str__(self) -> str:
        if self.elsewhere is not None:
            return self.elsewhere
        return f"wide ×{self.scale:g}" if self.draw == Draw.WIDE else str(self.draw)


GIVEN, GENERIC = Kind(Draw.GIVEN), Kind(Draw.GENERIC)
REDRAWN = (GENERIC, *map(Kind, (Draw.TINY, Draw.SATURATED, Draw.ZEROS, Draw.MIXED)))
WIDE = tuple(Kind(Draw.WIDE, scale) for scale in (4.0, 64.0, 1e-3, 1e3, 1e-6, 1e6))
SIZES = {Draw.TINY: 1 / 128, Draw.SATURATED: 16.0}  # times a normal number


def seed_of(key: int | Array) -> int | list[int]:
    """A seed for NumPy from an int or a typed PRNG key."""
    return int(key) if isinstance(key, Integral) else [int(v) for v in np.asarray(jax.random.key_data(key)).ravel()]


def redraw(
    kind: Kind,
    floats: Sequence[np.ndarray],
    dtypes: Sequence[DTypeLike],
    redrawable: Iterable[int],
    cotangents: Iterable[int],
    rng: np.random.Generator,
    domains: Mapping[int, Domain],
) -> list[np.ndarray]:
    """The floats with the `redrawable` ones drawn anew, each a number of its dtype; `cotangents` are normal at any
    point, small or large where the kind says so.

    generic: normal, of variance 1 / the longest axis. tiny: that × 2⁻⁷. saturated: × 16. mixed: ± 1 plus a little,
    so that no two entries are equal. zeros: generic with half of the rows 0, the same rows in all leaves of as many
    rows, so that a unit's weights and bias vanish together. wide: generic × the scale. near: what was given, each entry
    × e^(scale × normal/4), or a little more than 0, for formulas that are not defined everywhere. What is drawn of a
    leaf that has a domain is brought there.
    """
    redrawable, cotangents = {*redrawable}, {*cotangents}
    zero_rows: dict[int, np.ndarray] = {}  # of leaves with so many rows
    out = list(floats)
    size = SIZES.get(kind.draw, kind.scale)
    for i in sorted(redrawable | cotangents):
        v = floats[i]
        draw = rng.normal(size=v.shape)
        normal = draw / np.sqrt(max(v.shape)) if v.ndim > 1 and v.size else draw
        fixed = kind.draw in (Draw.GIVEN, Draw.ZEROS, Draw.MIXED, Draw.NEAR)
        if i in cotangents and (fixed or i not in redrawable):
            new = draw * size
        elif kind.draw == Draw.GIVEN:
            continue
        elif kind.draw == Draw.MIXED:
            new = np.sign(draw) * (1 + rng.uniform(size=v.shape) / 4) / 4
        elif kind.draw == Draw.ZEROS:
            n = v.shape[0] if v.ndim else 1
            rows = zero_rows.setdefault(n, rng.permutation(n) < (n + 1) // 2)
            new = normal * np.reshape(rows, (n,) + (1,) * (v.ndim - 1)) if v.ndim else normal * 0
        elif kind.draw == Draw.NEAR:
            new = np.where(v == 0, abs(draw) / 4, v.astype(np.float64) * np.exp(draw / 4 * size))
        else:
            new = normal * size
        new = domains[i].brought(new) if i in domains else new
        out[i] = np.asarray(new, dtypes[i]).astype(v.dtype)
    return out
