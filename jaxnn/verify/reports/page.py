"""Reports as one HTML page that needs nothing else: no network, no script; for a screen of any width or for paper."""

from collections.abc import Sequence
from html import escape

import numpy as np

from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS, Leaf, Verdict
from jaxnn.verify.reports.result import Result
from jaxnn.verify.reports.words import shown, witness_words

CELLS = 64  # a heat map has at most so many rows and columns

# viridis, which is ordered in lightness, for the colour-blind too: from no digit that agrees to 16 and more
VIRIDIS = (
    "fde725 d8e219 addc30 84d44b 5ec962 3fbc73 28ae80 1fa088 21918c 26828e 2c728e 33638d 3b528b 424086 472d7b 48186a "
    "440154"
)
MOST = 16

STYLE = """
:root { color-scheme: light dark; --text: #1b1b1f; --page: #fff; --soft: #f1f1f5; --line: #c9c9d2; --link: #0b57a4 }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6ea; --page: #16161a; --soft: #25252c; --line: #4a4a55; --link: #8ab8f0 } }
@media print { .scroll { overflow: visible } table { font-size: .7rem } td { white-space: normal !important }
  :root { --text: #000; --page: #fff; --soft: #fff; --line: #999; --link: #000 } }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; color: var(--text); background: var(--page);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1, h2, h3 { line-height: 1.25; break-after: avoid }
h2 { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line) }
a { color: var(--link) }
b { padding: .1em .5em; border-radius: .3em; color: #fff; white-space: nowrap; print-color-adjust: exact }
.PASS { background: #00695c } .FAIL { background: #b3261e } .INCONCLUSIVE { background: #5f5f6b }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  overflow-wrap: normal }
td:not(:first-child, :last-child) { white-space: nowrap }
th { background: var(--soft) }
pre { padding: .7rem; background: var(--soft); border: 1px solid var(--line); white-space: pre-wrap; user-select: all }
.legend, .legend span { display: flex; flex-wrap: wrap; align-items: center; gap: .3rem 1.5rem }
.legend span { gap: .5rem }
@media (max-width: 40rem) { th, td { padding: .2rem .4rem } }
figcaption { margin-bottom: .3rem }
figure { margin: 1.2rem 0; break-inside: avoid }
svg { display: block; max-width: 100%; height: auto; overflow: visible; print-color-adjust: exact }
rect { width: 1px; height: 1px; shape-rendering: crispEdges }
text { fill: var(--text); font-size: .6px; text-anchor: middle }
.halo, .worst { fill: none; vector-effect: non-scaling-stroke; pointer-events: none }
.halo { stroke: #fff; stroke-width: 4px } .worst { stroke: #d0006f; stroke-width: 2px }
.odd { fill: url(#odd) }
"""

# What is not a finite number has no place on the scale: hatched, so that no eye takes it for a colour.
HATCH = """<svg width="0" height="0" aria-hidden="true"><pattern id="odd" width=".5" height=".5"
patternUnits="userSpaceOnUse"><path fill="#fff" d="M0 0h.5v.5h-.5z"/><path stroke="#000" stroke-width=".14"
d="M-.1 .1l.2-.2M0 .5l.5-.5M.4 .6l.2-.2"/></pattern></svg>"""


class Html(str):
    """Markup made here. Every other string may come from a user's code: `tag` escapes it."""


def tag(name: str, *children: object, **attributes: object) -> Html:
    start = "".join(f' {k.rstrip("_").replace("_", "-")}="{escape(str(v))}"' for k, v in attributes.items())
    inner = "".join(c if isinstance(c, Html) else escape(str(c)) for c in children)
    return Html(f"<{name}{start}>{inner}</{name}>")


def page(reports: Sequence[Result]) -> str:
    """The page, as a string: the verdict over all reports, a table of them, then each with its heat maps."""
    counts = {v: sum(r.verdict == v for r in reports) for v in (FAIL, INCONCLUSIVE, PASS)}
    overall = next((v for v, n in counts.items() if n), INCONCLUSIVE)
    named = f"{len(reports)} rules" if len(reports) != 1 else reports[0].title
    body = tag(
        "body",
        Html(HATCH),
        tag("header", tag("h1", "Verification: ", badge(overall)), tag("p", counted(counts))),
        tag("main", summary(reports), *[section(i, r) for i, r in enumerate(reports)]),
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"{tag('title', f'{overall}: {named} – jaxnn verify')}<style>{STYLE}"
        f"{''.join(f'.d{i} {{ fill: #{c} }} ' for i, c in enumerate(VIRIDIS.split()))}</style></head>\n{body}</html>\n"
    )


def badge(verdict: Verdict) -> Html:
    return tag("b", f"{ {PASS: '✓', FAIL: '✗', INCONCLUSIVE: '?'}[verdict] } {verdict}", class_=verdict)


def counted(counts: dict[Verdict, int]) -> str:
    return ", ".join(f"{n} {v}" for v, n in counts.items() if n) or "Nothing was verified."


def summary(reports: Sequence[Result]) -> str:
    rows = [
        (
            tag("a", r.title, href=f"#r{i}"),
            badge(r.verdict),
            "–" if r.verdict == INCONCLUSIVE else shown(r.digits),
            r.evidence,
            f"{sum(p.verdict != INCONCLUSIVE for p in r.points)} of {len(r.points)}",
            f"{r.seconds:.2f}\N{NO-BREAK SPACE}s",
        )
        for i, r in enumerate(reports)
    ]
    return table("rule, verdict, digits, evidence, points decided, time", rows)


def section(number: int, r: Result) -> Html:
    """All that one report says."""
    leaves = [
        (x.path, badge(x.verdict), shown(x.digits), entry(x.index), number_of(x, x.hand), number_of(x, x.true), x.point)
        for x in r.leaves
    ]
    points = [(p.kind, badge(p.verdict), shown(p.digits), p.reason) for p in r.points]
    rows = [(b.special, (b.place, b.kind, listed(b.seen), listed(b.unseen))) for b in r.branches]
    branches, special = ([row for is_special, row in rows if is_special == wanted] for wanted in (False, True))
    precision = [
        (g.path, g.dtype, accuracy(g.hand_digits, g.hand_ulps), accuracy(g.autodiff_digits, g.autodiff_ulps))
        for g in r.precision
    ]
    trail = [(x.name, badge(x.verdict), shown(x.digits) + (" (inherited)" if x.inherited else "")) for x in r.links]
    causes = [(c.sentence, c.leaf, shown(c.digits), c.fix) for c in r.causes]
    sides = "place, decision, sides seen, sides not seen"
    parts: dict[str, str] = {
        "Leaves": table("leaf, verdict, digits, worst entry, by hand, true, point", leaves),
        "Error of each entry": tag("div", legend(), *map(heat_map, r.leaves)) if r.leaves else "",
        "Where it begins": table("value, verdict, digits", trail),
        "What is wrong": table("cause, explains, digits, what mends it", causes),
        "Points": table("point, verdict, digits, reason", points),
        "Branches": table(sides, branches),
        "Special values": table(sides, special),
        "Witnesses": table("witness, finding", [(w.name, witness_words(w)) for w in r.witnesses]),
        "Notes": tag("ul", *[tag("li", note) for note in r.notes]) if r.notes else "",
        "Power": tag("pre", str(r.power())) if r.has_power else "",
        "Precision": table("leaf, dtype, digits by hand, digits of jax.grad", precision),
        "Again": tag("pre", r.replay) if r.replay else "",
    }
    pieces = [Html(tag("h3", heading) + part) for heading, part in parts.items() if part]
    return tag("section", tag("h2", r.title), tag("p", badge(r.verdict), " ", r.reason), *pieces, id=f"r{number}")


def table(columns: str, rows: Sequence[tuple[object, ...]]) -> str:
    """A table with these columns, separated by commas; nothing if it has no rows."""
    if not rows:
        return ""
    head = tag("thead", tag("tr", *[tag("th", column, scope="col") for column in columns.split(", ")]))
    body = tag("tbody", *[tag("tr", *[tag("td", v) for v in row]) for row in rows])
    return tag("div", tag("table", head, body), class_="scroll")


def listed(sides: Sequence[str]) -> str:
    return ", ".join(sides) or "none"


def entry(index: Sequence[int]) -> str:
    return f"[{', '.join(map(str, index))}]"


def number_of(leaf: Leaf, v: float) -> str:
    """Where the two differ, with all digits."""
    return f"{v:.9g}" if leaf.verdict == PASS else repr(float(v))


def accuracy(digits: float, ulps: float) -> str:
    return f"{shown(digits)} ({ulps:.3g} ulps)"


def heat_map(leaf: Leaf) -> Html:
    """A figure: a square for each entry or, in a large leaf, for the worst of a block of entries."""
    errors = np.asarray(leaf.errors, float)
    shape = errors.shape
    size = " × ".join(map(str, shape)) or "a scalar"
    if not errors.size:
        return tag("figure", tag("figcaption", tag("code", leaf.path), f": {size}, no entries"))
    grid = errors.reshape(-1, shape[-1] if shape else 1)
    down, across = (-(-n // CELLS) for n in grid.shape)
    squares = []
    for i in range(0, grid.shape[0], down):
        for j in range(0, grid.shape[1], across):
            block = grid[i : i + down, j : j + across]
            k, m = divmod(int(np.argmax(block)), block.shape[1])  # argmax takes nan for the largest
            index = np.unravel_index((i + k) * grid.shape[1] + j + m, shape)
            squares.append(square(j // across, i // down, block[k, m], index))
    row, column = divmod(int(np.ravel_multi_index(leaf.index, shape)) if shape else 0, grid.shape[1])
    rows, columns = (-(-n // step) for n, step in zip(grid.shape, (down, across), strict=True))
    caption = f": {size}"
    if len(shape) > 2:
        caption += f", as {grid.shape[0]} rows of {grid.shape[1]}"
    if down * across > 1:
        caption += f"; each square is the worst of {down} × {across} entries"
    drawing = svg(columns, rows, f"error of {leaf.path}", *squares, *outline(column // across, row // down))
    return tag("figure", tag("figcaption", tag("code", leaf.path), caption), drawing)


def square(x: int, y: int, error: float, index: Sequence[int]) -> Html:
    with np.errstate(divide="ignore"):
        digits = 0 - np.log10(error)  # never −0
    colour = f"d{int(np.clip(digits, 0, MOST))}" if np.isfinite(error) else "odd"
    words = f"{shown(digits)} digits" if np.isfinite(error) else f"error {error}"
    return tag("rect", tag("title", f"{entry(index)}: {words}"), class_=colour, x=x, y=y)


def outline(x: int, y: int) -> tuple[Html, Html]:
    return tag("rect", class_="halo", x=x, y=y), tag("rect", class_="worst", x=x, y=y)


def svg(columns: int, rows: int, label: str, *shapes: Html) -> Html:
    """Squares as large as 64 of them leave room for, and none larger than a finger."""
    side = min(20, 640 / max(columns, rows))
    return tag(
        "svg",
        *shapes,
        role="img",
        aria_label=label,
        width=f"{columns * side:.0f}",
        height=f"{rows * side:.0f}",
        viewBox=f"0 0 {columns} {rows}",
    )


def legend() -> Html:
    """The colours, the same in every page: how many digits of an entry agree."""
    scale = [tag("rect", class_=f"d{i}", x=i, y=0) for i in range(MOST + 1)]
    ticks = [tag("text", f"{i}+" if i == MOST else f"{i}", x=i + 0.5, y=1.7) for i in range(0, MOST + 1, 4)]
    return tag(
        "p",
        tag("span", svg(MOST + 1, 2, "scale of colours", *scale, *ticks), " digits that agree"),
        tag("span", svg(1, 1, "hatched", tag("rect", class_="odd", x=0, y=0)), " not a finite number"),
        tag("span", svg(1, 1, "outlined", *outline(0, 0)), " worst entry"),
        class_="legend",
    )
