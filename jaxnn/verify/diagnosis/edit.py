"""One change on the way back through a cost."""

from typing import NamedTuple


class Edit(NamedTuple):
    """kind: of the mistake, or "path": what goes back there, times 1 + amount; or "term": one of a sum.

    values: the amounts that mean something; none: any does. linear: the gradient is, in the amount."""

    kind: str
    what: str
    place: str
    changes: dict  # {(step, input): what(tape, D, part) is added to the part}
    other: str = ""
    values: tuple[float, ...] = (1.0,)
    linear: bool = True
    penalty: bool = False  # on a path that no data are on
    group: tuple = ()  # the terms of one sum


def after(tape, n, active, D_of):
    """{(step, input): change}: D_of(tape, D) as the cotangent of what step n makes."""
    (out,) = tape.outs[n]

    def change(i):
        return lambda tape, D, part: tape.part(n, i, [D_of(tape, D(out))[None]])[0] - part

    return {(n, i): change(i) for i in active}
