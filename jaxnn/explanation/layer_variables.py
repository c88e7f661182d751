"""The arrays that the code of a layer has in variables while it runs, and of the layers inside it: their names, with
the number of the layer whose code it is: x_hat2, W3."""

import dataclasses
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NamedTuple

import jax
import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path

from jaxnn.explanation.names import Named
from jaxnn.explanation.textbook import in_textbooks
from jaxnn.explanation.variables import Watch, code_of, home, is_array
from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.layers.repeat import Repeat
from jaxnn.protocols import Layer, LossPair, Params, PyTree

OUT = "h"  # an output that no variable holds


class Part(NamedTuple):
    """A layer, or a loss, and its number."""

    layer: Layer | LossPair
    k: int

    @property
    def has_words(self) -> bool:
        """Whether its variables are names: those of Chain and Repeat are of no layer, textbooks have better ones."""
        return not in_textbooks(self.layer) and not isinstance(self.layer, Chain | Repeat)

    @property
    def out(self) -> str:
        """What its output is called, unless a variable holds it."""
        if not in_textbooks(self.layer):
            return OUT
        return "z" if isinstance(self.layer, Dense) else "a"


def parts(layer: Layer, k: int) -> list[Part]:
    """The layers inside a layer, and itself last: k is the number of the layer before it.

    A layer that learns takes the next number, one that does not keeps that of the layer before. A layer made of layers
    has the number of the last of them.
    """
    numbered: list[Part] = []
    inside = list(layers_inside(layer))
    for inner in inside:
        numbered += parts(inner, k)
        k = numbered[-1].k
    takes_a_number = not inside and learns(layer)
    return [*numbered, Part(layer, k + 1 if takes_a_number else k)]


def layers_inside(layer: Layer) -> Iterator[Layer]:
    """The fields of a dataclass that are layers, or tuples of layers."""
    fields: tuple[dataclasses.Field, ...] = dataclasses.fields(layer) if dataclasses.is_dataclass(layer) else ()
    for field in fields:
        value = getattr(layer, field.name)
        for v in value if isinstance(value, tuple | list) else (value,):
            if hasattr(v, "forward") and hasattr(v, "backward"):
                yield v


def learns(layer: Layer) -> bool:
    return bool(jax.tree.leaves(jax.eval_shape(layer.init, jax.random.key(0))))


def indexed(name: str, k: int) -> str:
    """A name of layer k: W2, and W1_2 where the name has a number of its own."""
    if not k:
        return name
    return f"{name}_{k}" if name[-1].isdigit() else f"{name}{k}"


class LayerWatch(Watch):
    """A `Watch` of the code in the folder of a layer and of the layers inside it, whatever their folder.

    params: their own, by the names of their fields, of the innermost layer last; textbook_outs, other_outs: what
    their forward passes return.
    """

    def __init__(self, layer_parts: list[Part]) -> None:
        super().__init__(home(code_of(layer_parts[-1].layer.forward).co_filename))
        self.parts = {id(part.layer): part for part in layer_parts}
        self.params: list[Named] = []
        self.textbook_outs: list[Named] = []
        self.other_outs: list[Named] = []

    def words(self) -> list[Named]:
        """(name, value), the best first."""
        variables = [(v.name, v.value) for v in self.in_order()]
        return [*self.textbook_outs, *reversed(self.params), *variables, *self.other_outs]

    def part_of(self, frame: FrameType | None) -> Part | None:
        """The layer whose code this is: the receiver of the innermost call that has one."""
        while frame is not None:
            part = self.parts.get(id(receiver(frame)))
            if part:
                return part
            frame = frame.f_back
        return None

    def is_own(self, frame: FrameType) -> bool:
        if frame.f_code.co_name.startswith("<"):
            return False
        if home(frame.f_code.co_filename) != self.folder and id(receiver(frame)) not in self.parts:
            return False
        part = self.part_of(frame)
        return part is not None and part.has_words

    def names(self, frame: FrameType, name: str) -> str | None:
        part = self.part_of(frame)
        if part is None or not name.isidentifier() or name.startswith("_"):
            return None
        return indexed(name, part.k)

    def enter(self, frame: FrameType, event: str, arg: PyTree) -> Callable | None:
        look = super().enter(frame, event, arg)
        part = self.parts.get(id(receiver(frame)))
        if part is None or frame.f_code.co_name != "forward" or isinstance(part.layer, Chain | Repeat):
            return look
        if frame.f_code.co_argcount > 1:
            self.params += field_names(frame.f_locals[frame.f_code.co_varnames[1]], part.k)

        def look_at_the_output(frame: FrameType, event: str, arg: PyTree) -> Callable:
            if look:
                look(frame, event, arg)
            if event == "return" and isinstance(arg, tuple) and is_array(arg[0]):
                outs = self.other_outs if part.has_words else self.textbook_outs
                outs.append((indexed(part.out, part.k), np.array(arg[0])))
            return look_at_the_output

        return look_at_the_output


def receiver(frame: FrameType) -> PyTree:
    """The `self` of a method, whatever it is called; of a function its first argument."""
    names = frame.f_code.co_varnames
    return frame.f_locals.get(names[0]) if frame.f_code.co_argcount else None


def field_names(params: Params, k: int) -> list[Named]:
    """(gamma2, value) of the leaves with a name, for layer 2."""
    entries = [(keystr(path[-1:], simple=True), v) for path, v in tree_leaves_with_path(params)]
    return [(indexed(name, k), np.array(v)) for name, v in entries if name.isidentifier() and is_array(v)]
