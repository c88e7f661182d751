"""What every check takes beside its functions and their arguments."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jax import Array

from jaxnn.protocols import PyTree


@dataclass(frozen=True)
class Options:
    """key: an int or a typed PRNG key, of everything random. points: "auto" redraws the parameters, "given" does not.
    draw: a function of a key that returns other arguments, to be checked too. digits: decimal digits that must agree.
    require: "exact" if floating point may not decide. strict: every side of a branch must be met. reference: a gradient
    in NumPy, as one more witness. ValueError for another value.
    """

    key: int | Array = 0
    points: Literal["auto", "given"] = "auto"
    draw: Callable[[Array], tuple[PyTree, ...]] | None = None
    digits: float | None = None
    require: Literal["exact"] | None = None
    strict: bool = False
    reference: Callable[..., PyTree] | None = None

    def __post_init__(self) -> None:
        if self.points not in ("auto", "given"):
            raise ValueError(f"points is {self.points!r}: use 'auto' (redraw the parameters) or 'given'.")
        if self.require not in (None, "exact"):
            raise ValueError(f"require is {self.require!r}: use 'exact', or leave it out.")
        if self.digits is not None and not 0 < self.digits <= 1000:
            raise ValueError(f"digits is {self.digits}: it must be a positive number, 12 when left out.")
