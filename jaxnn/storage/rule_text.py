"""A layer or a loss as text, its repr, and back: by a grammar with limits, so that a text can neither run nor flood.

value = NAME "(" [field "=" value {"," field "=" value}] ")" | "(" [value {"," value} [","]] ")" | text | number | word

NAME is a class of jaxnn's layers and losses, word True, False or None. Every field is held against the type that its
dataclass declares before the class is called.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from functools import cache
from math import inf
from sys import float_info
from types import NoneType, UnionType
from typing import Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from jaxnn import catalogue
from jaxnn.data.labels import readable
from jaxnn.layers.repeat import Repeat
from jaxnn.protocols import Layer, Loss, PyTree

LONGEST = 200_000  # characters
DEEPEST = 20  # values in values
MOST_VALUES = 5000
MOST_KINDS = 100  # different layers, and every Repeat: JAX takes up to 30 ms and 3 MB for the shapes of each
MOST_PASSES = 10**6  # layers that run, one after another
TOKEN = re.compile(
    r"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<number>-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)|'(?P<text>[\w/]*)'|(?P<sign>[(),=])|$)",
    re.ASCII,
)
SIZE_NOTHING = {"window", "block", "chunk"}  # settings of which no array gets larger
WORDS = {"True": True, "False": False, "None": None}
ROOMS: dict[PyTree, str] = {Layer: "layers", Loss: "losses"}
T = TypeVar("T")


class Token(NamedTuple):
    kind: str  # name, number, text, sign; end
    text: str


OPEN, CLOSE = Token("sign", "("), Token("sign", ")")


def parse(text: str, kind: PyTree, largest: float = inf) -> PyTree:
    """The layer or loss whose repr is `text`. kind: `Layer` or `Loss`, the one that is expected. largest: of the whole
    numbers in the text. ValueError: a text that is none."""
    try:
        if len(text) > LONGEST:
            raise ValueError(f"it has {len(text)} characters, and at most {LONGEST} are read")
        reader = Reader(text, largest)
        rule = reader.value(depth=1)
        reader.take("end")
        if not fits(rule, kind):
            raise ValueError(f"that is no {kind.__name__.lower()} of jaxnn")
        if passes(rule) > MOST_PASSES:
            raise ValueError(f"more than {MOST_PASSES} layers would run, one after another")
        return rule
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot build {readable(text)}: {readable(str(error))}") from None


class Reader:
    """Reads values off a text, from left to right."""

    def __init__(self, text: str, largest: float) -> None:
        self.tokens, self.largest = tokens(text), largest
        self.next = next(self.tokens)
        self.values, self.repeats, self.layers = 0, 0, set[PyTree]()

    def take(self, kind: str, text: str = "") -> str:
        """The next token, which must be of this kind, and this text if one is given; and goes on."""
        token = self.next
        if token.kind != kind or (text and token.text != text):
            raise ValueError(f"{readable(token.text) or token.kind!r} stands where {text or kind} was expected")
        self.next = next(self.tokens, token)
        return token.text

    def value(self, depth: int) -> PyTree:
        """The next value, and goes on."""
        self.values += 1
        if depth > DEEPEST or self.values > MOST_VALUES:
            raise ValueError(f"it has more than {MOST_VALUES} values, or more than {DEEPEST} in one another")
        if self.next == OPEN:
            return tuple(self.items(lambda: self.value(depth + 1)))
        if self.next.kind == "text":
            return self.take("text")
        if self.next.kind == "number":
            return self.number(self.take("number"))
        name = self.take("name")
        return WORDS[name] if name in WORDS else self.rule(name, depth)

    def items(self, item: Callable[[], T]) -> Iterator[T]:
        """What stands in parentheses, between commas; item() reads one."""
        self.take("sign", "(")
        while self.next != CLOSE:
            yield item()
            if self.next != CLOSE:
                self.take("sign", ",")
        self.take("sign", ")")

    def field(self, depth: int) -> tuple[str, PyTree]:
        """The next name and its value."""
        name = self.take("name")
        self.take("sign", "=")
        limit, self.largest = self.largest, 2**31 if name in SIZE_NOTHING else self.largest
        v = self.value(depth)
        self.largest = limit
        return name, v

    def number(self, text: str) -> int | float:
        """ValueError: a whole one that is beyond `largest`."""
        v = int(text) if text.lstrip("-").isdigit() else float(text)
        if isinstance(v, int) and abs(v) > self.largest:
            raise ValueError(f"{text} is too large for the arrays")
        return v

    def rule(self, name: str, depth: int) -> PyTree:
        """The layer or loss of this class whose fields come next."""
        cls = {**classes("layers"), **classes("losses")}.get(name)
        if cls is None:
            raise ValueError(f"{name} is no layer or loss of jaxnn")
        rule = built(cls, list(self.items(lambda: self.field(depth + 1))))
        self.layers.add(rule)
        self.repeats += cls is Repeat
        if len(self.layers) + self.repeats > MOST_KINDS:
            raise ValueError(f"it has more than {MOST_KINDS} different layers")
        return rule


def tokens(text: str) -> Iterator[Token]:
    """Those of a text, and one of its end. ValueError: something else stands in it."""
    at = 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"{readable(text[at : at + 20])} is neither a name, a number, a text nor a sign")
        if match.lastgroup:
            yield Token(match.lastgroup, match[match.lastgroup])
        at = match.end()
    yield Token("end", "")


@cache
def classes(room: str) -> dict[str, type]:
    """Those that ship in this room, by name."""
    return {catalogue.class_name(name): catalogue.member(room, name) for name in catalogue.names(room)}


def built(cls: type, given: list[tuple[str, PyTree]]) -> PyTree:
    """cls(**given). ValueError or TypeError: these are not its fields, or not of the types that it declares."""
    hints, names = get_type_hints(cls), [field.name for field in dataclasses.fields(cls)]
    fields = dict(given)
    if len(fields) < len(given) or not fields.keys() <= set(names):
        raise ValueError(f"the fields of {cls.__name__} are {', '.join(names)}, each once")
    for name, v in fields.items():
        if not fits(v, hints[name]):
            raise ValueError(f"{name} of {cls.__name__} is {readable(repr(v))}, and not {said(hints[name])}")
    return cls(**fields)


def fits(v: PyTree, declared: PyTree) -> bool:
    """Whether a value is of a type that a dataclass declares. A float is finite, and may be a whole number."""
    origin, arguments = get_origin(declared), get_args(declared)
    if declared in ROOMS:
        return type(v) in classes(ROOMS[declared]).values()
    if origin is Literal:
        return any(v == choice and type(v) is type(choice) for choice in arguments)
    if origin in (Union, UnionType):
        return any(fits(v, choice) for choice in arguments)
    if origin is tuple:
        if arguments[1:] == (...,):
            return isinstance(v, tuple) and all(fits(item, arguments[0]) for item in v)
        return isinstance(v, tuple) and len(v) == len(arguments) and all(map(fits, v, arguments))
    if declared is float:
        return type(v) in (int, float) and abs(v) <= float_info.max
    return v is None if declared in (None, NoneType) else type(v) is declared


def passes(v: PyTree) -> int:
    """How many layers run, one after another, in a layer or a tuple of layers."""
    if isinstance(v, tuple):
        return sum(map(passes, v))
    if not fits(v, Layer):
        return 0
    inside = sum(map(passes, vars(v).values()))
    return max(1, inside) * (v.n if isinstance(v, Repeat) else 1)


def said(declared: PyTree) -> str:
    """A type in one word or a few."""
    return declared.__name__ if isinstance(declared, type) else str(declared).replace("typing.", "")
