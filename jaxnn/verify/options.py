"""What every check takes beside its functions and their arguments."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jax import Array

from jaxnn.protocols import PyTree


@dataclass(frozen=True)
class Options:
    """The settings of a check. ValueError for a value that is none of them."""

    key: int | Array = 0  # of everything random; an Array is a typed PRNG key
    points: Literal["auto", "given"] = "auto"  # whether the parameters are drawn anew too
    draw: Callable[[Array], tuple[PyTree, ...]] | None = None  # of a key: other arguments, to be checked too
    digits: float | None = None  # decimal digits that must agree
    require: Literal["exact"] | None = None  # "exact": floating point may not decide
    strict: bool = False  # whether every side of a branch must be met
    reference: Callable[..., PyTree] | None = None  # a gradient in NumPy, as one more witness
    domain: PyTree = None  # where the arguments lie, see `restriction.within`

    def __post_init__(self) -> None:
        if self.points not in ("auto", "given"):
            raise ValueError(f"points is {self.points!r}: use 'auto' (redraw the parameters) or 'given'.")
        if self.require not in (None, "exact"):
            raise ValueError(f"require is {self.require!r}: use 'exact', or leave it out.")
        if self.digits is not None and not 0 < self.digits <= 1000:
            raise ValueError(f"digits is {self.digits}: it must be a positive number, 12 when left out.")
