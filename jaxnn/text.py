"""A layer or a loss as text: its repr, and the text of model files."""

from dataclasses import fields
from typing import Any


def text(rule: Any, *later: str) -> str:
    """The repr of a dataclass, without those settings of `later` that are what they are when not given: model files
    that were written before these settings were there have none."""
    given = [(field.name, getattr(rule, field.name), field.default) for field in fields(rule)]
    words = [f"{name}={v!r}" for name, v, default in given if name not in later or v != default]
    return f"{type(rule).__qualname__}({', '.join(words)})"
