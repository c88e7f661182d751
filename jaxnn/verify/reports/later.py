"""What a report is asked later, since each answer takes time: precision, links, causes, power."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from jaxnn.verify.reports.findings import Cause, Grade, Link, Power

DTYPES = ("float32", "bfloat16", "float64")


@dataclass(frozen=True)
class Answers:
    """The answers as plain data."""

    precision: tuple[Grade, ...] = ()
    links: tuple[Link, ...] = ()
    causes: tuple[Cause, ...] = ()
    power: Power | None = None

    @property
    def has_power(self) -> bool:
        """Whether the power was asked for, and could be measured."""
        return self.power is not None


@dataclass(frozen=True)
class Questions:
    """Each is answered when it is first asked, and its answer is kept. Pickled, they become their `Answers`: all but
    the power are asked then."""

    grade: Callable[[tuple[str, ...]], tuple[Grade, ...]] = lambda dtypes: ()
    trail: Callable[[], tuple[Link, ...]] = tuple
    diagnose: Callable[[], tuple[Cause, ...]] = tuple
    measure: Callable[[], Power | None] = lambda: None
    dtypes: tuple[str, ...] = DTYPES  # of the precision

    @cached_property
    def precision(self) -> tuple[Grade, ...]:
        return self.grade(self.dtypes)

    @cached_property
    def links(self) -> tuple[Link, ...]:
        return self.trail()

    @cached_property
    def causes(self) -> tuple[Cause, ...]:
        return self.diagnose()

    @cached_property
    def power(self) -> Power | None:
        return self.measure()

    @property
    def has_power(self) -> bool:
        """Whether the power was asked for, and could be measured."""
        return vars(self).get("power") is not None

    def __reduce__(self) -> tuple[type[Answers], tuple[object, ...]]:
        return Answers, (self.precision, self.links, self.causes, self.power if self.has_power else None)
