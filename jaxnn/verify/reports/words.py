"""Findings in words, as people say them."""

import math
from collections.abc import Sequence

from jaxnn.verify.reports.findings import FAIL, PASS, Cause, Link, Point, Witness


def shown(digits: float) -> str:
    """A number of digits."""
    if not math.isfinite(digits):
        return "all" if digits > 0 else "–"
    return f"{digits:.0f}" if digits >= 10 else f"{max(digits, 0):.1f}"


def differs(digits: float) -> str:
    """'from the 5th digit on': how far two numbers agree."""
    n = math.floor(min(max(digits, 0), 400)) + 1
    ending = "th" if 10 < n % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"from the {n}{ending} digit on"


def point_words(point: Point) -> str:
    """The kind of a point, with its verdict and the reason where it is not PASS."""
    if point.verdict == PASS:
        return point.kind
    return f"{point.kind} ({': '.join(filter(None, [point.verdict, point.reason]))})"


def cause_words(cause: Cause) -> str:
    """What is wrong, in which leaf, and what to do."""
    if not cause.is_known:
        return f"{cause.sentence} Next: {cause.fix}."
    digits = "" if math.isnan(cause.digits) else f": to {shown(cause.digits)} digits"
    return f"{cause.sentence} ({cause.leaf}{digits}) To mend it: {cause.fix}."


def witness_words(witness: Witness) -> str:
    """With whom a witness agrees."""
    if witness.agrees_with_truth:
        return f"agrees with autodiff to {shown(witness.digits)} digits"
    return f"agrees with {'the hand rule, not with autodiff' if witness.agrees_with_hand else 'neither'}"


def trail_words(links: Sequence[Link], first: str) -> str:
    """'first wrong at dz1; W1, b1 inherit it; W2, b2 are right'."""
    others = [link for link in links if link.name != first]
    wrong = [link.name for link in others if link.verdict == FAIL and not link.inherited]
    inherited = [link.name for link in others if link.verdict == FAIL and link.inherited]
    right = [link.name for link in others if link.verdict == PASS]
    parts = [f"first wrong at {first}"]
    for names, one, many in (
        (wrong, "is wrong too", "are wrong too"),
        (inherited, "inherits it", "inherit it"),
        (right, "is right", "are right"),
    ):
        parts += [f"{', '.join(names)} {one if len(names) == 1 else many}"] if names else []
    return "; ".join(parts)
