"""Explanations as one self-contained page: the network drawn, and a step forward and back through its links.

Of a user's functions no network is known: their page has the links alone.

Arrow keys or buttons: left and right for the links, up and down for the iterations. A click on a link shows it, a click
on a weight lights the paths through it. Works offline: nothing is loaded.
"""

import html
import json
import re
from pathlib import Path

import numpy as np

ENTRIES = 4096  # of an array that is drawn entry by entry
UNITS = 10  # of a layer that are drawn
PAGE = Path(__file__).with_suffix(".html")


def page(explanations, title="jaxnn explain"):
    """HTML of a list of `Explanation`s, one an iteration."""
    phases = ("forward", "backward", "update")
    data = [
        [linked(phase, link) for phase in phases for link in getattr(explanation, phase)]
        for explanation in explanations
    ]
    layout = explanations[0].notation
    drawn = {"units": UNITS, "columns": layout.columns, "transposed": layout.transposed} if layout else {"units": 0}
    given = {**drawn, "iterations": data}
    text = json.dumps(given, ensure_ascii=False, allow_nan=False)
    text = text.replace("</", "<\\/")  # a script ends where its text says so
    marks = {"TITLE": html.escape(title), "DATA": text}
    return re.sub("TITLE|DATA", lambda mark: marks[mark[0]], PAGE.read_text(encoding="utf-8"))


def linked(phase, link):
    """A link as JSON has it; of a large array its statistics."""
    out = {name: getattr(link, name) for name in ("symbol", "formula", "local", "verdict")}
    return {"phase": phase, **out, "value": array(link.value), "slope": array(link.slope)}


def array(v):
    """Of an array that is too large to be shown, the corner that is drawn."""
    if v is None:
        return None
    v = np.asarray(v, float)
    table = v.reshape(-1, v.shape[-1] if v.ndim else 1)
    whole = v.size <= ENTRIES
    rows = [[number(x) for x in row] for row in (table if whole else table[:UNITS, :UNITS])]
    return {
        "shape": v.shape,
        "whole": whole,
        "rows": rows,
        **{f: number(getattr(v, f)()) for f in ("mean", "min", "max")},
    }


def number(x):
    """To four digits; JSON has no infinity and no NaN."""
    return float(f"{x:.4g}") if np.isfinite(x) else None
