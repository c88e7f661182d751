"""The HTML page of the verifier: well-formed, self-contained, escaped, with every error at its place in colour."""

import html.parser
import math

import numpy as np
import pytest

from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS, Branch, Grade, Leaf, Point, Witness
from jaxnn.verify.reports.later import Answers
from jaxnn.verify.reports.page import page
from jaxnn.verify.reports.report import Report
from jaxnn.verify.reports.words import witness_words

VOID = {"meta", "path"}


class Parsed(html.parser.HTMLParser):
    """The elements, in order: (tag, attributes, text, tags around it). Refuses a tag that is not closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), "", [self.elements[i][0] for i in self.open]])
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.elements[self.open.pop()][0] == tag

    def handle_data(self, data):
        for i in self.open:
            self.elements[i][2] += data

    def all(self, tag, **attributes):
        return [e for e in self.elements if e[0] == tag and all(e[1].get(k) == v for k, v in attributes.items())]


def leaf(errors, index=None, path="['W']", verdict=FAIL):
    errors = np.asarray(errors, float)
    if index is None:
        index = tuple(map(int, np.unravel_index(np.argmax(errors), errors.shape))) if errors.size else ()
    return Leaf(path, verdict, 1.5, index, 0.5, 0.25, "generic", errors)


def report(*leaves, title="a rule", verdict=FAIL, **others):
    return Report(title, verdict, f"why {title}", "exact", 1.5, leaves, **others)


def maps(*leaves):
    """Of each leaf: {(x, y): (colour, title)}, where the outline is, and the caption."""
    found = []
    for figure in page([report(*leaves)]).split("<figure>")[1:]:
        elements = Parsed(figure.split("</figure>")[0])
        rects = [(r, (int(r[1]["x"]), int(r[1]["y"]))) for r in elements.all("rect")]
        cells = {at: (r[1]["class"], r[2]) for r, at in rects if r[1]["class"] not in ("worst", "halo")}
        assert len(cells) == len(elements.all("rect")) - 2 * len(elements.all("svg"))
        found.append((cells, [at for r, at in rects if r[1]["class"] == "worst"], elements.all("figcaption")[0][2]))
    assert len(found) == len(leaves)
    return found


HOSTILE = "<script>alert('&')</script>\"><img src=http://x>"

FULL = report(
    leaf(np.full((2, 3), 0.03), path=HOSTILE),
    leaf([1e-20], verdict=PASS),
    title=HOSTILE,
    points=(Point(HOSTILE, FAIL, HOSTILE, 1.5), Point("tiny weights", INCONCLUSIVE, "too wide", math.nan)),
    branches=(
        Branch(HOSTILE, "compare", ("left",), ("right",)),
        Branch("line 7", "isnan", (), ("not a number",), True),
    ),
    witnesses=(Witness("twin " + HOSTILE, True, False, 0.0), Witness("differences", False, True, 34.2)),
    notes=(HOSTILE,),
    replay=HOSTILE,
    seconds=1.25,
    later=Answers((Grade(HOSTILE, "bfloat16", 1.25, 3e4, 2.5, 1.5),)),
)


def test_well_formed_self_contained_and_escaped():
    parsed = Parsed(page([FULL, report(title="fine", verdict=PASS)]))
    tags = {e[0] for e in parsed.elements}
    assert not tags & {"script", "img", "link", "iframe", "object"}
    assert {"header", "main", "section", "figure", "figcaption", "thead"} <= tags
    assert parsed.all("html")[0][1] == {"lang": "en"}
    assert parsed.all("title")[0][2] == "FAIL: 2 rules – jaxnn verify"
    for _, attributes, *_ in parsed.elements:
        assert not attributes.keys() & {"src", "srcset", "data", "onload"}
        assert attributes.get("href", "#").startswith("#")
    style = parsed.all("style")[0][2]
    assert "@import" not in style
    assert style.count("url(") == style.count("url(#") == 1
    assert parsed.all("h2")[0][2] == HOSTILE


def test_no_address_in_a_page_of_ours():
    text = page([report(leaf(np.ones((2, 3))))])
    assert not any(word in text for word in ("http://", "https://", "src=", "<script"))


def test_all_of_a_report_is_there():
    parsed = Parsed(page([FULL]))
    assert [e[2] for e in parsed.all("h3")] == [
        "Leaves", "Error of each entry", "Points", "Branches", "Special values", "Witnesses", "Notes", "Precision",
        "Again",
    ]  # fmt: skip
    cells = [e[2] for e in parsed.all("td")]
    rows = [
        (HOSTILE, "✗ FAIL", "1.5", "exact", "1 of 2", "1.25\N{NO-BREAK SPACE}s"),
        (HOSTILE, "✗ FAIL", "1.5", "[0, 0]", "0.5", "0.25", "generic"),
        ("tiny weights", "? INCONCLUSIVE", "–", "too wide"),
        (HOSTILE, "compare", "left", "right"),
        ("line 7", "isnan", "none", "not a number"),
        ("differences", witness_words(FULL.witnesses[1])),
        (HOSTILE, "bfloat16", "1.2 (3e+04 ulps)", "2.5 (1.5 ulps)"),
    ]
    at = [[i for i in range(len(cells)) if tuple(cells[i : i + len(row)]) == row] for row in rows]
    assert all(len(places) == 1 for places in at), at
    assert at == sorted(at)
    assert [e[2] for e in parsed.all("pre") + parsed.all("li")] == [HOSTILE, HOSTILE]
    assert any(e[2] == f"✗ FAIL why {HOSTILE}" for e in parsed.all("p"))


def test_numbers_that_differ_are_shown_in_full():
    def numbers(verdict):
        wrong = Leaf("W", verdict, 15.0, (0,), 0.1 + 0.2, 0.3, "generic", np.full(1, 1e-15))
        return [e[2] for e in Parsed(page([report(wrong)])).all("td")][10:12]

    assert numbers(FAIL) == ["0.30000000000000004", "0.3"]
    assert numbers(PASS) == ["0.3", "0.3"]


@pytest.mark.parametrize(
    ("verdicts", "overall", "counts"),
    [
        ([PASS, FAIL, INCONCLUSIVE, PASS], "✗ FAIL", "1 FAIL, 1 INCONCLUSIVE, 2 PASS"),
        ([PASS, INCONCLUSIVE], "? INCONCLUSIVE", "1 INCONCLUSIVE, 1 PASS"),
        ([PASS], "✓ PASS", "1 PASS"),
        ([], "? INCONCLUSIVE", "Nothing was verified."),
    ],
)
def test_the_overall_verdict(verdicts, overall, counts):
    parsed = Parsed(page([report(title=f"rule {i}", verdict=v) for i, v in enumerate(verdicts)]))
    assert parsed.all("h1")[0][2] == f"Verification: {overall}"
    assert parsed.all("p")[0][2] == counts
    links = {e[1]["href"][1:]: e[2] for e in parsed.all("a")}
    assert links == {e[1]["id"]: f"rule {i}" for i, e in enumerate(parsed.all("section"))}


def test_colours_and_titles_say_the_digits():
    errors = [[3.0, 1.0, 0.03], [3e-6, 1e-15, 1e-40], [0.0, math.nan, math.inf]]
    [(cells, worst, _)] = maps(leaf(errors, index=(2, 1)))
    assert cells == {
        (0, 0): ("d0", "[0, 0]: 0.0 digits"),
        (1, 0): ("d0", "[0, 1]: 0.0 digits"),
        (2, 0): ("d1", "[0, 2]: 1.5 digits"),
        (0, 1): ("d5", "[1, 0]: 5.5 digits"),
        (1, 1): ("d15", "[1, 1]: 15 digits"),
        (2, 1): ("d16", "[1, 2]: 40 digits"),
        (0, 2): ("d16", "[2, 0]: all digits"),
        (1, 2): ("odd", "[2, 1]: error nan"),
        (2, 2): ("odd", "[2, 2]: error inf"),
    }
    assert worst == [(1, 2)]


def test_every_colour_is_defined_and_different():
    style = Parsed(page([])).all("style")[0][2]
    fills = [style.split(f".{name} {{ fill: ")[1].split(" }")[0] for name in ["odd", *(f"d{i}" for i in range(17))]]
    assert len(set(fills)) == 18


def test_any_rank():
    leaves = [leaf(np.float64(0.1)), leaf(np.full(5, 0.1), (3,)), leaf(np.zeros((2, 3, 4)), (1, 0, 2))]
    scalar, row, cube = maps(*leaves, leaf(np.zeros((7, 2)), (6, 1)))[:3]
    assert scalar == ({(0, 0): ("d1", "[]: 1.0 digits")}, [(0, 0)], "['W']: a scalar")
    assert (set(row[0]), row[1]) == ({(i, 0) for i in range(5)}, [(3, 0)])
    assert (set(cube[0]), cube[1]) == ({(x, y) for x in range(4) for y in range(6)}, [(2, 3)])
    assert cube[2] == "['W']: 2 × 3 × 4, as 6 rows of 4"
    assert cube[0][2, 3] == ("d16", "[1, 0, 2]: all digits")


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3)])
def test_no_entries(shape):
    [(cells, worst, caption)] = maps(leaf(np.zeros(shape)))
    assert not cells
    assert not worst
    assert caption.endswith("no entries")


@pytest.mark.parametrize(
    ("shape", "index", "cells", "at", "block"),
    [
        ((64, 64), (63, 2), (64, 64), (2, 63), None),
        ((30, 784), (29, 783), (61, 30), (60, 29), "1 × 13"),
        ((130, 65), (100, 64), (33, 44), (32, 33), "3 × 2"),
        ((1000,), (999,), (63, 1), (62, 0), "1 × 16"),
        ((5, 30, 3), (4, 29, 1), (3, 50), (1, 49), "3 × 1"),
    ],
)
@pytest.mark.parametrize(("error", "colour"), [(0.02, "d1"), (math.nan, "odd")])
def test_pooling_keeps_the_worst(shape, index, cells, at, block, error, colour):
    errors = np.full(shape, 1e-9)
    errors[index] = error
    [(found, worst, caption)] = maps(leaf(errors))
    assert set(found) == {(x, y) for x in range(cells[0]) for y in range(cells[1])}
    assert worst == [at]
    assert {xy for xy, (c, _) in found.items() if c != "d9"} == {at}
    assert found[at] == (colour, f"{list(index)}: {'error nan' if error != error else '1.7 digits'}")
    size = f"['W']: {' × '.join(map(str, shape))}"
    assert caption.startswith(size)
    assert caption.endswith(f"; each square is the worst of {block} entries" if block else size)
