"""Which equations of a tape are one line of code that is met again and again, as in a loop."""

import collections
from typing import NamedTuple

from jaxnn.verify.tracing.tape import Tape

Site = tuple[str | int, int]  # a place in the code, or a step that has none; and which equation of that place


class Visit(NamedTuple):
    """A step is the visit of this number, from 0 on, to a site."""

    site: Site
    number: int


def visits_of(tape: Tape) -> dict[int, Visit]:
    """{step: its visit}: the equations of one place whose names repeat are visits of as many sites as a period has."""
    steps_at = collections.defaultdict(list)
    for n, step in enumerate(tape.steps):
        steps_at[step.place or n].append(n)
    visits: dict[int, Visit] = {}
    for place, steps in steps_at.items():
        period = period_of([tape.steps[n].name for n in steps])
        visits |= {n: Visit((place, k % period), k // period) for k, n in enumerate(steps)}
    return visits


def period_of(names: list[str]) -> int:
    """The shortest length of a list that gives these names if it is repeated."""
    lengths = (p for p in range(1, len(names) + 1) if len(names) % p == 0)
    return next(p for p in lengths if names == names[:p] * (len(names) // p))


def steps_of(visits: dict[int, Visit]) -> dict[Site, list[int]]:
    """{site: its steps, in the order of the visits}"""
    steps = collections.defaultdict(list)
    for n, visit in visits.items():
        steps[visit.site].append(n)
    return steps
