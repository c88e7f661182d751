"""What is known of the values on a tape: their names, what they depend on, what depends on them, and for which others
somebody may take them.
"""

import collections
import functools
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from jaxnn.verify.arithmetic import primitives
from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.diagnosis.composites import BRANCHES, Composite, composites_of
from jaxnn.verify.diagnosis.functions import USUAL
from jaxnn.verify.diagnosis.sites import steps_of, visits_of
from jaxnn.verify.tracing.tape import Tape

ALTERNATIVES = 24  # values that may have been taken for the right one
RESHAPES = {"reshape", "squeeze", "transpose", "broadcast_in_dim"}
MOVES = {*RESHAPES, "convert_element_type", "copy", "copy_p"}
GUARD = 1e-2
TAGS = 4


def is_guard(x: np.ndarray) -> bool:
    """Whether x may be a small number that keeps a logarithm or a root from infinity."""
    return np.ndim(x) == 0 and is_float(x) and 0 < abs(float(x)) <= GUARD


def is_mask(x: np.ndarray) -> bool:
    """Whether x may be an array of zeros and of one other number, and not of classes."""
    if np.ndim(x) == 0:
        return False
    numbers = np.unique(x)
    if len(numbers) != 2 or numbers[0] != 0:
        return False
    return np.ndim(x) == 1 or not (np.sum(x, -1) == 1).all()


class Values:
    """What is known of the values of a tape; a value is a number, and so is a step.

    names: {value: its name in the user's code}
    maker: {value: the step that makes it}
    moves: {value: (leaf, the steps from it)}, if they do no more than reshape the leaf
    composites: {value: the function of one value that it is}
    inner: the steps inside known functions
    data: the values that depend on data
    cotangents: the values that are cotangents, given as arguments
    visit: {step: its visit to a site}; visits: {site: its steps}
    """

    def __init__(self, tape: Tape, inputs: Sequence[str], data: Iterable[int], cotangents: Iterable[int]) -> None:
        """inputs: the names of the tape's inputs; data, cotangents: the values that are data, that are cotangents."""
        self.tape = tape
        self.cotangents = {*cotangents}
        self.maker: dict[int, int] = {}
        for n, outs in enumerate(tape.outs):
            self.maker |= dict.fromkeys(outs, n)
        self.composites = composites_of(tape, self.maker)
        self.inner: set[int] = set()
        for composite in self.composites.values():
            if composite.name:
                self.inner.update(composite.steps[:-1])
        self.names = names_of(tape, inputs, self.composites)
        self.moves = moves_of(tape)
        self.data = depending_on(tape, data)
        self.visit = visits_of(tape)
        self.visits = steps_of(self.visit)

    def label(self, v: int) -> str:
        """What a value is called in a sentence: by its name, else by its function and place, "tanh at mine.py:7:20"."""
        if self.names.get(v):
            return self.names[v]
        function = self.composites[v].name if self.is_known(v) else "the value"
        return f"{function} at {self.place(self.maker[v])}" if v in self.maker else function

    def place(self, n: int) -> str:
        """Where in the user's code step n is."""
        return self.tape.steps[n].place

    # What depends on what

    @functools.cached_property
    def uses(self) -> dict[int, list[tuple[int, int]]]:
        """{value: each (step, input) where it is used}"""
        uses = collections.defaultdict(list)
        for n, ins in enumerate(self.tape.ins):
            for i, v in enumerate(ins):
                uses[v].append((n, i))
        return uses

    @functools.cached_property
    def ancestors(self) -> dict[int, int]:
        """{value: the values that it depends on, as bits}"""
        bits: dict[int, int] = collections.defaultdict(int)
        for ins, outs in zip(self.tape.ins, self.tape.outs, strict=True):
            for v in outs:
                for w in ins:
                    bits[v] |= bits[w] | 1 << w
        return bits

    def independent(self, slots: Iterable[tuple[int, int]]) -> bool:
        """Whether none of these (step, input) is on the way back from another."""
        results, inputs = 0, []
        for n, i in slots:
            results |= 1 << self.tape.outs[n][0]
            inputs.append(self.tape.ins[n][i])
        return not any((self.ancestors[v] | 1 << v) & results for v in inputs)

    @functools.cached_property
    def in_penalty(self) -> set[int]:
        """The values that come to the cost without having met data."""
        values: set[int] = set()
        for n in reversed(range(len(self.tape.steps))):
            values |= {v for v in self.tape.ins[n] if self.bypasses_data(n, v, values)}
        return values

    def is_penalty(self, n: int, v: int) -> bool:
        """Whether no data are on the way from v through step n to the cost, up to the sum in which they are."""
        return self.bypasses_data(n, v, self.in_penalty)

    def bypasses_data(self, n: int, v: int, later: set[int]) -> bool:
        """Whether v is of a penalty in step n, if `later` has the values after it that are."""
        joins = self.tape.steps[n].name in ("add", "sub") and not np.ndim(self.tape.values[v])
        return bool(self.data) and v not in self.data and (joins or not later.isdisjoint(self.tape.outs[n]))

    @functools.cached_property
    def in_loss(self) -> set[int]:
        """The values after which nothing enters that is differentiated."""
        values = {self.tape.J}
        for v in reversed(range(len(self.tape.values))):
            steps = [n for n, _ in self.uses[v] if not self.tape.true.keys().isdisjoint(self.tape.outs[n])]
            if steps and all(self.tape.outs[n][0] in values and self.takes_no_leaf(n) for n in steps):
                values.add(v)
        return values

    def takes_no_leaf(self, n: int) -> bool:
        """Whether no leaf, reshaped or not, is an input of step n."""
        return self.moves.keys().isdisjoint(self.tape.ins[n])

    def terms(self, v: int) -> list[int]:
        """The summands if v is a sum."""
        if v not in self.maker or self.tape.steps[self.maker[v]].name != "add":
            return []
        summands = []
        for w in self.tape.ins[self.maker[v]]:
            summands += self.terms(w) or [w]
        return summands

    # Functions of one value

    @functools.cached_property
    def functions(self) -> list[str]:
        """The names of known functions: the usual ones, for which others are mistaken, and those in this cost."""
        own = [composite.name for composite in self.composites.values() if composite.name]
        return list(dict.fromkeys([*USUAL, *own]))

    def is_known(self, v: int) -> bool:
        """Whether v is a known function of another value."""
        return v in self.composites and self.composites[v].name != ""

    def decides(self, composite: Composite) -> bool:
        """Whether f itself decides, and not a known function in it."""
        if any(self.is_known(self.tape.outs[n][0]) for n in composite.steps[:-1]):
            return False
        steps = [self.tape.steps[n] for n in composite.steps if n not in self.inner]
        return any(step.name in BRANCHES or not is_float(step.outputs[0]) for step in steps)

    # What may be taken for what

    def tags(self, v: int, n: int) -> list[Hashable]:
        """What v is called from step n, so that it is the same at every visit of a site: by the sites where v is made
        and used, and how many visits away they are."""
        own = self.visit[n]
        steps = [(self.maker[v], "made")] if v in self.maker else []
        tags: list[Hashable] = []
        for k, how in [*steps, *self.uses[v]]:
            other = self.visit[k]
            if len(self.visits[other.site]) == len(self.visits[own.site]) > 1:
                tags.append((other.site, how, other.number - own.number))
        return tags[:TAGS] or [v]

    @functools.cached_property
    def candidates(self) -> list[int]:
        """Values, each content once, that may be taken for others; those with names first."""
        contents, values = set(), []
        for v in sorted(range(len(self.tape.values)), key=lambda v: (v not in self.names, v)):
            x = self.tape.values[v]
            if not np.ndim(x) or not is_float(x) or not self.stands_out(v):
                continue
            content = np.shape(x), np.round(x, 12).tobytes()
            if content not in contents:
                contents.add(content)
                values.append(v)
        return values

    def stands_out(self, v: int) -> bool:
        """Whether v is more than a step on the way through a function."""
        users = {self.tape.steps[n].name for n, _ in self.uses[v]}
        many = len(self.uses[v]) > 1 or not users <= primitives.ELEMENTWISE.keys()
        return v in self.names or self.is_known(v) or v not in self.composites or many

    def alternatives(self, shape: tuple[int, ...], v: int, n: int) -> list[int]:
        """Other values of this shape that may be taken for v at step n; in a loop only those of neighbouring visits."""
        x = self.tape.values[v]
        values = [w for w in self.candidates if np.shape(self.tape.values[w]) == shape and self.is_near(w, n)]
        if np.shape(x) == shape:
            values = [w for w in values if not np.array_equal(self.tape.values[w], x)]
        return values[:ALTERNATIVES]

    def is_near(self, w: int, n: int) -> bool:
        """Whether w is made at the visit of step n or at the next one to it, if both are in one loop."""
        own = self.visit[n]
        length = len(self.visits[own.site])
        if length == 1 or w not in self.maker:
            return True
        other = self.visit[self.maker[w]]
        return len(self.visits[other.site]) != length or abs(other.number - own.number) <= 1

    def of_two_visits(self, v: int, w: int) -> bool:
        """Whether two values are made at one site, at two visits."""
        if v not in self.maker or w not in self.maker:
            return False
        a, b = (self.visit[self.maker[u]] for u in (v, w))
        return a.site == b.site and a.number != b.number


def names_of(tape: Tape, inputs: Sequence[str], composites: dict[int, Composite]) -> dict[int, str]:
    """{value: its name}: given by checkpoint_name, or taken from the value that it is a reshape or a function of."""
    names = dict(zip(tape.inputs, inputs, strict=True))
    for name, pairs in tape.named_values.items():
        for _, x in pairs:
            if id(x) in tape.number:
                names[tape.number[id(x)]] = name
    for step, ins, outs in zip(tape.steps, tape.ins, tape.outs, strict=True):
        if step.name in RESHAPES and ins[0] in names:
            names.setdefault(outs[0], names[ins[0]])
        composite = composites.get(outs[0]) if outs else None
        if composite and composite.name and composite.root in names:
            names.setdefault(composite.value, f"{composite.name}({names[composite.root]})")
    return names


def moves_of(tape: Tape) -> dict[int, tuple[int, tuple[int, ...]]]:
    """{value: (leaf, the steps from it)} of the leaves and of what is a leaf reshaped."""
    moves: dict[int, tuple[int, tuple[int, ...]]] = {v: (v, ()) for v in tape.asked}
    for n, (step, ins, outs) in enumerate(zip(tape.steps, tape.ins, tape.outs, strict=True)):
        if step.name in MOVES and ins[0] in moves:
            leaf, steps = moves[ins[0]]
            moves[outs[0]] = leaf, (*steps, n)
    return moves


def depending_on(tape: Tape, values: Iterable[int]) -> set[int]:
    """These values and all that depend on them."""
    depending = {*values}
    for ins, outs in zip(tape.ins, tape.outs, strict=True):
        if depending.intersection(ins):
            depending |= {*outs}
    return depending
