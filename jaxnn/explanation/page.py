"""Explanations as one self-contained page: the network drawn, and a step forward and back through its links.

Of code, a user's functions or other layers than Dense and Activation, the page has the links alone.

Arrow keys or buttons: left and right for the links, up and down for the iterations. A click on a link shows it, a click
on a weight lights the paths through it. Works offline: nothing is loaded.
"""

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from jaxnn.explanation.lines import Line, Notation

ENTRIES = 4096  # of an array that is drawn entry by entry
UNITS = 10  # of a layer that are drawn
PAGE = Path(__file__).with_suffix(".html")


class Explained(Protocol):
    """What the page needs of an `Explanation`."""

    @property
    def forward(self) -> Sequence[Line]: ...

    @property
    def backward(self) -> Sequence[Line]: ...

    @property
    def update(self) -> Sequence[Line]: ...

    @property
    def notation(self) -> Notation | None: ...


def page(explanations: Sequence[Explained], title: str = "jaxnn explain") -> str:
    """HTML of `Explanation`s, one an iteration."""
    data = [
        [
            *(as_json("forward", line) for line in explanation.forward),
            *(as_json("backward", line) for line in explanation.backward),
            *(as_json("update", line) for line in explanation.update),
        ]
        for explanation in explanations
    ]
    layout = explanations[0].notation
    drawn = {"units": UNITS, "columns": layout.columns, "transposed": layout.transposed} if layout else {"units": 0}
    given = {**drawn, "iterations": data}
    text = json.dumps(given, ensure_ascii=False, allow_nan=False)
    text = text.replace("</", "<\\/")  # a script ends where its text says so
    marks = {"TITLE": html.escape(title), "DATA": text}
    return re.sub("TITLE|DATA", lambda mark: marks[mark[0]], PAGE.read_text(encoding="utf-8"))


def as_json(phase: str, line: Line) -> dict:
    """A line as JSON has it; of a large array its statistics."""
    texts = {"symbol": line.symbol, "formula": line.formula, "local": line.local, "verdict": line.verdict}
    return {"phase": phase, **texts, "value": array(line.value), "local_value": array(line.local_value)}


def array(v: np.ndarray | None) -> dict | None:
    """Shape, entries and statistics; of an array that is too large to be shown, the corner that is drawn."""
    if v is None:
        return None
    v = np.asarray(v, float)
    table = v.reshape(-1, v.shape[-1] if v.ndim else 1)
    whole = v.size <= ENTRIES
    drawn = table if whole else table[:UNITS, :UNITS]
    rows = [[number(x) for x in row] for row in drawn]
    return {
        "shape": v.shape,
        "whole": whole,
        "rows": rows,
        **{f: number(getattr(v, f)()) for f in ("mean", "min", "max")},
    }


def number(x: float) -> float | None:
    """To four digits; JSON has no infinity and no NaN."""
    return float(f"{x:.4g}") if np.isfinite(x) else None
