"""Which word of a command line is mistyped, and what was meant, in a sentence. No JAX here, as in config.py."""

from collections.abc import Sequence
from itertools import pairwise
from types import NoneType, UnionType
from typing import Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from tyro.conf import Positional

from jaxnn.commands.config import COMMANDS, Train, TrainText, class_of

OF_ALL = ("--help", "--version")
POSITIONAL = get_args(Positional[str])[1]  # tyro's mark of a field that is no flag


class Flag(NamedTuple):
    """A flag of a command. choices: the words that it takes; () if it takes others too."""

    name: str
    choices: tuple[str, ...]


def mistake(args: Sequence[str]) -> str | None:
    """The sentence about the first word that is no command, flag or choice; None if there is none, or if help is asked
    for. What else can be wrong, a number or a missing word, is for tyro to say."""
    if not args or any(arg in ("-h", "--help") or arg.startswith("--tyro-") for arg in args):
        return None
    name, *others = args
    if is_flag(name) and name not in OF_ALL:
        return f"there is no flag {name}: {nearest(name, OF_ALL) or 'jaxnn --help lists what there is.'}"
    if name.startswith("-"):
        return None
    if name not in COMMANDS:
        return f"there is no command {name}: {nearest(name, list(COMMANDS)) or f'use {listed(list(COMMANDS))}.'}"
    kind = class_of(args)
    flags = {flag.name: flag for flag in flags_of(kind)}
    for arg, following in pairwise([*others, ""]):
        if is_flag(arg):
            sentence = misplaced(kind, arg) or mistake_in_flag(name, flags, arg, following)
            if sentence is not None:
                return sentence
    return None


def mistake_in_flag(command: str, flags: dict[str, Flag], arg: str, following: str) -> str | None:
    """The sentence about --flag VALUE or --flag=VALUE, None if nothing is mistyped."""
    written, equals, value = arg.partition("=")
    name = written.replace("_", "-")  # tyro takes either
    if name not in flags:
        known = f"jaxnn {command} --help lists those that it has."
        return f"{command} has no flag {written}: {nearest(name, [*flags, '--help']) or known}"
    value, choices = value if equals else following, flags[name].choices
    if choices and value and not value.startswith("-") and value not in choices:
        return f"{name} is {value}: {nearest(value, choices) or f'use {listed(choices)}.'}"
    return None


def misplaced(kind: type, arg: str) -> str | None:
    """The sentence about a flag that only the other kind of `train` has, for tables or for texts; else None."""
    name = arg.partition("=")[0].replace("_", "-")
    tables, texts = ({flag.name for flag in flags_of(of_train)} for of_train in (Train, TrainText))
    if kind is Train and name in texts - tables:
        return f"{name} is of language models: give --model gpt or llama, or leave it out."
    if kind is TrainText and name in tables - texts:
        return f"{name} is of tables: leave it out, for the model is gpt or llama."
    return None


def is_flag(arg: str) -> bool:
    return arg.startswith("--") and len(arg) > 2


def flags_of(command: type) -> list[Flag]:
    """The flags of a command, as tyro makes them of its fields."""
    flags = []
    types = get_type_hints(command)
    for field, annotation in get_type_hints(command, include_extras=True).items():
        if POSITIONAL in getattr(annotation, "__metadata__", ()):
            continue
        name = field.replace("_", "-")
        flags.append(Flag(f"--{name}", choices_of(types[field])))
        if types[field] is bool:
            flags.append(Flag(f"--no-{name}", ()))
    return flags


def choices_of(annotation: object) -> tuple[str, ...]:
    """The words of a Literal, and None if it may be that; () for any other type."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    literals = [member for member in members if get_origin(member) is Literal]
    if not literals or {*members} - {*literals, NoneType}:
        return ()
    words: list[str] = []
    for literal in literals:
        words += get_args(literal)
    return (*words, "None")


def nearest(word: str, words: Sequence[str]) -> str | None:
    """The question whether the word that is most like this one was meant; None if none is like it."""
    import difflib  # for a mistake alone: --help does not wait for it

    plain = {known.lstrip("-"): known for known in words}
    near = difflib.get_close_matches(word.lstrip("-"), plain, 1)
    return f"did you mean {plain[near[0]]}?" if near else None


def listed(words: Sequence[str]) -> str:
    """'a, b or c'."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
