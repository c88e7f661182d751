"""One change on the way back through a cost, and the equation at which it is made."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np

from jaxnn.verify.diagnosis.functions import Entrywise, unchanged
from jaxnn.verify.diagnosis.mistakes import Mistake
from jaxnn.verify.diagnosis.values import Values
from jaxnn.verify.tracing.tape import Tape

Slot = tuple[int, int]  # (step, input)
Cotangents = Callable[[int], np.ndarray]  # D: of a value, by its number, ∂J/∂value
Change = Callable[[Tape, Cotangents, np.ndarray], np.ndarray]  # (tape, D, part): what is added to the part
Operand = Callable[[Tape, Cotangents], np.ndarray]  # (tape, D): an array that stands in the place of another


class Part(Enum):
    """A part of what goes back, whose weight is the mistake: the amount of its edit says which mistake that is."""

    PATH = "path"  # all that goes back to one input
    EXAMPLE = "example"
    POSITION = "position"


class Edit(NamedTuple):
    """What somebody who makes one mistake adds to what goes back to some inputs.

    what, place, other: words for the sentence (mistakes.TEXTS).
    amounts: by which the changes are multiplied; (): any amount means something.
    linear: whether the gradient is linear in the amount.
    penalty: whether no data are on the path.
    group: () or what the parts of one sum have in common.
    """

    kind: Mistake | Part
    what: str
    place: str
    changes: dict[Slot, Change]
    other: str = ""
    amounts: tuple[float, ...] = (1.0,)
    linear: bool = True
    penalty: bool = False
    group: tuple[Hashable, ...] = ()


class Tagged(NamedTuple):
    """An edit of one equation; a tag is the same for the same edit at all visits of a site."""

    tags: Sequence[Hashable]
    edit: Edit


@dataclass(frozen=True)
class Equation:
    """Step n of a tape, with what is known of its values."""

    tape: Tape
    values: Values
    n: int

    @property
    def name(self) -> str:
        """The name of its primitive."""
        return self.tape.steps[self.n].name

    @property
    def place(self) -> str:
        """Where in the user's code it is."""
        return self.tape.steps[self.n].place

    @property
    def inputs(self) -> list[int]:
        """The values that it takes."""
        return self.tape.ins[self.n]

    @property
    def active(self) -> list[int]:
        """Which of its inputs depend on what is differentiated."""
        return [i for i, v in enumerate(self.inputs) if v in self.tape.active]

    @property
    def out(self) -> int:
        """The value that it makes, the first one if there are several."""
        return self.tape.outs[self.n][0]

    @property
    def result(self) -> np.ndarray:
        """The array of that value."""
        return self.tape.values[self.out]

    def edit(
        self,
        kind: Mistake | Part,
        changes: dict[Slot, Change],
        what: str = "",
        other: str = "",
        amounts: tuple[float, ...] = (1.0,),
    ) -> Edit:
        """An `Edit` at the place of this equation."""
        return Edit(kind, what=what, place=self.place, other=other, changes=changes, amounts=amounts)

    def edit_with_cotangent(self, kind: Mistake, operand: Operand, what: str = "", other: str = "") -> Edit:
        """The edit that puts another cotangent in the place of that of the result."""
        changes = {(self.n, i): with_cotangent((self.n, i), operand) for i in self.active}
        return self.edit(kind, changes, what, other)

    def alternatives(self, v: int) -> list[int]:
        """Other values of the shape of v that may be taken for it here."""
        return self.values.alternatives(np.shape(self.tape.values[v]), v, self.n)


def reaches_cost(tape: Tape, n: int) -> bool:
    """Whether something comes back to what step n makes."""
    return not tape.true.keys().isdisjoint(tape.outs[n])


def back(tape: Tape, slot: Slot, D: np.ndarray, inputs: list[np.ndarray] | None = None) -> np.ndarray:
    """What goes back to the input of a step for the cotangent D of its result; with other inputs, if given."""
    return tape.part(*slot, [D[None]], inputs)[0]


def with_cotangent(slot: Slot, cotangent: Operand) -> Change:
    """The change that is made by another cotangent of the result."""
    return lambda tape, D, part: back(tape, slot, cotangent(tape, D)) - part


def with_input(slot: Slot, place: int, operand: Operand) -> Change:
    """The change that is made by another array in the place of an input of the step."""
    n, _ = slot

    def change(tape: Tape, D: Cotangents, part: np.ndarray) -> np.ndarray:
        inputs = list(tape.steps[n].inputs)
        inputs[place] = operand(tape, D)
        return back(tape, slot, D(tape.outs[n][0]), inputs) - part

    return change


def with_partner(slot: Slot, factor: Operand) -> Change:
    """The change that is made by another array in the place of the other factor of a product."""
    return with_input(slot, 1 - slot[1], factor)


def value(v: int, f: Entrywise = unchanged) -> Operand:
    """f of a value."""
    return lambda tape, D: f(tape.values[v])


def cotangent(v: int, f: Entrywise = unchanged) -> Operand:
    """f of the cotangent of a value."""
    return lambda tape, D: f(D(v))
