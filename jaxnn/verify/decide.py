"""From two functions and some points to a verdict."""

import functools
import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxnn.verify.arguments import Problem
from jaxnn.verify.arithmetic.decisions import Undecided, Unsupported
from jaxnn.verify.arithmetic.evaluation import TooLarge
from jaxnn.verify.diagnosis.causes import causes
from jaxnn.verify.evidence import branches
from jaxnn.verify.evidence.comparison import check_steady, comparison_of
from jaxnn.verify.evidence.floating import black_box, in_floats
from jaxnn.verify.evidence.judge import UNDEFINED
from jaxnn.verify.evidence.outcome import ROUNDINGS, Check, Outcome, exactly
from jaxnn.verify.evidence.points import KINDS, WIDE, redraw, seed_of
from jaxnn.verify.evidence.witnesses import testimony
from jaxnn.verify.links import links, unlinked
from jaxnn.verify.power import power
from jaxnn.verify.precision import grades
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS, Leaf, Point, differs, shown
from jaxnn.verify.reports.report import Report

SECONDS = 30.0  # of exact arithmetic; what is left then is decided in floating point


@dataclass(frozen=True)
class Options:
    """What all checks take."""

    key: Any = 0
    points: str = "auto"
    draw: Any = None  # a function of a key
    digits: float | None = None
    require: str | None = None
    strict: bool = False
    reference: Callable | None = None

    def __post_init__(self):
        if self.points not in ("auto", "given"):
            raise ValueError(f"points is {self.points!r}: use 'auto' (redraw the parameters) or 'given'.")
        if self.require not in (None, "exact"):
            raise ValueError(f"require is {self.require!r}: use 'exact', or leave it out.")
        if self.digits is not None and not 0 < self.digits <= 1000:
            raise ValueError(f"digits is {self.digits}: it must be a positive number, 12 when left out.")


def decide(problem: Problem, options: Options, replay: str, again: Callable, args, others: list[Problem]):
    """The `Report` on a problem, which is again(args); on the same at other arguments, `others`; and at drawn args."""
    start = time.monotonic()
    deadline = start + SECONDS
    rng = np.random.default_rng(seed_of(options.key))
    outcomes: list[Outcome] = []
    roundings = ROUNDINGS

    def visit(kind, problem, comparison, name=None):
        nonlocal roundings
        its = problem.arguments
        dtypes = [v.dtype for v in its.floats] if comparison.numpy else its.dtypes
        for trial in (kind, "near"):  # a formula need not be defined everywhere: then closer to what was given
            floats = redraw(trial, its.floats, dtypes, problem.redrawn, problem.always, rng)
            outcome = at_point(name or trial, Check(problem, comparison, options, deadline), floats, roundings)
            if not outcome.reason.startswith(UNDEFINED) or kind == "given":
                break
        outcomes.append(outcome)
        if outcome.verdict == PASS and outcome.rounded:  # where constants are rounded, they are at every point
            roundings = ROUNDINGS[1:]

    comparison = comparison_of(problem)
    visit("given", problem, comparison)
    if options.points == "auto":
        for kind in KINDS if problem.redrawn else KINDS[:1] if problem.always else ():
            if not failed(outcomes):
                visit(kind, problem, comparison)
        for other in others:
            if not failed(outcomes):
                visit("generic", other, comparison_of(other), "one example")
        for i in range(3 if options.draw else 0):
            drawn = again(options.draw(jax.random.key(int(rng.integers(2**31)))))
            for kind in ("given", "generic"):
                if not failed(outcomes):
                    visit(kind, drawn, comparison_of(drawn), f"drawn {i + 1}" + " (redrawn)" * (kind != "given"))
        for scale in WIDE if problem.redrawn else ():
            if not failed(outcomes) and unseen(outcomes) and time.monotonic() < start + SECONDS / 2:
                visit(f"wide ×{scale:g}", problem, comparison)
    return report(problem, comparison, outcomes, options, replay, start, again, args)


def failed(outcomes):
    return any(o.verdict == FAIL for o in outcomes)


def counted(outcomes):
    sides: dict[tuple[str, str], set[str]] = defaultdict(set)
    for o in outcomes:
        for site, seen in o.sides.items() if o.kind != "zeros" else ():  # 0 is on a side, but not a generic point of it
            sides[site] |= seen
    return sides


def unseen(outcomes):
    return any(b.unseen for b in branches.table(counted(outcomes)) if not b.special)


def at_point(kind, check, floats, roundings):
    """The `Outcome` at these values of the float leaves: by balls if that can be, else in floating point."""
    if check.comparison.claim is None:
        return black_box(kind, check, floats)
    try:
        return exactly(kind, check, floats, roundings)
    except Unsupported as error:
        return in_floats(kind, check, floats, f"not to be evaluated exactly ({error})")
    except TooLarge as error:
        return in_floats(kind, check, floats, f"too large to be evaluated exactly ({error})")


def report(problem, comparison, outcomes, options, replay, start, again, args):
    settled = counted([o for o in outcomes if o.verdict == PASS])
    table = branches.table(counted(outcomes))
    blind = [o for o in outcomes if o.verdict == INCONCLUSIVE]
    uncovered = [o for o in blind if any(seen - settled[site] for site, seen in o.sides.items())]
    notes = tuple(dict.fromkeys(note for o in outcomes for note in o.notes)) + tuple(rounding_notes(outcomes))
    wrong = next((o for o in outcomes if o.verdict == FAIL), None)
    leaves = leaves_of(problem, outcomes)
    left = [b for b in table if b.unseen and not b.special]
    if wrong:
        check_steady(problem, comparison, wrong.floats)
        verdict, reason = FAIL, why_wrong(leaves, wrong)
    elif not any(o.verdict == PASS for o in outcomes):
        verdict, reason = INCONCLUSIVE, blind[0].reason
    elif uncovered:
        verdict, reason = INCONCLUSIVE, f"at {uncovered[0].kind}: {uncovered[0].reason}"
    elif options.strict and left:
        verdict, reason = (
            INCONCLUSIVE,
            f"strict: no point reached {left[0].unseen[0]} of {left[0].kind} at {left[0].place}",
        )
    else:
        verdict, reason = PASS, ""
    evidence = next((e for e in ("dtype", "float64") if any(o.evidence == e for o in outcomes)), "exact")
    digits = min((o.digits for o in outcomes if o.verdict == verdict), default=math.nan)
    if verdict == PASS:
        n = sum(o.verdict == PASS for o in outcomes)
        reason = f"right, {'all' if digits == math.inf else shown(digits)} digits agree at {n} point{'s' * (n > 1)}"
    witnesses, said = heard(problem, comparison, wrong, outcomes, options, start)
    if verdict == PASS and any("autodiff is not the derivative" in sentence for sentence in said):
        verdict, reason = INCONCLUSIVE, "the witnesses disagree"
    return Report(
        problem.title,
        verdict,
        reason if verdict == PASS else " ".join([reason, *said]),
        evidence,
        digits,
        leaves,
        tuple(Point(o.kind, o.verdict, o.reason, o.digits) for o in outcomes),
        table,
        witnesses,
        (
            *notes,
            *(said if verdict == PASS else ()),
            *hints(problem, outcomes, wrong),
            *equal_sizes(problem),
            *(unlinked(comparison) if wrong else ()),
        ),
        replay,
        time.monotonic() - start,
        functools.partial(grades, problem, comparison, outcomes),
        functools.partial(links, problem, comparison, wrong) if wrong else tuple,
        functools.partial(causes, problem, comparison, wrong, again, args, seed_of(options.key)) if wrong else tuple,
        functools.partial(power, problem, comparison, outcomes, seed_of(options.key))
        if verdict == PASS
        else lambda: None,
    )


def rounding_notes(outcomes):
    for rounded in ROUNDINGS[1:]:
        at = [o for o in outcomes if o.verdict == PASS and o.rounded == rounded]
        if at:
            what = "of the inputs" if "inputs" in rounded else "of written constants such as 0.1 or 1/3"
            digits = shown(min(o.digits for o in at))
            yield f"equal up to the rounding {what}, {digits} digits, at {', '.join(o.kind for o in at)}"


def hints(problem, outcomes, wrong):
    """What may explain the verdict, or limit it."""
    if wrong and outcomes[0].verdict == PASS and wrong.kind.startswith((*KINDS, "near", "wide")):
        yield (
            "right at the given point, wrong where the arguments were drawn anew: if the formula holds for some alone "
            "(a constraint, a guard that is not reached), points='given', or draw=, say so"
        )
    for k, path in enumerate(problem.paths):
        judged = [o.judged[k] for o in outcomes if o.judged]
        if not wrong and judged and all(j.zero for j in judged):
            yield f"{path} is 0 at every point: a formula that gives 0 is all that is shown: were the data all 0?"
    its = problem.arguments
    held = [its.name(i) for i in its.differentiated if i not in problem.redrawn]
    if held:
        what = "data that mean something (one-hot, a mask, distributions)"
        yield f"{', '.join(held)} kept as given, as {what}: argnums= says otherwise"


def heard(problem, comparison, wrong, outcomes, options, start):
    """The other witnesses where the rule is wrong, else at a generic point; by then most of the time may be spent."""
    outcome = wrong or next((o for o in outcomes if o.kind == "generic" and o.judged), outcomes[0])
    if outcome.evidence != "exact" or not outcome.judged:
        return (), []
    now = time.monotonic()
    try:
        return testimony(problem, comparison, outcome, options, 3 if now - start < 3 else 1, now + SECONDS)
    except (TooLarge, Undecided):
        return (), []


def why_wrong(leaves, outcome):
    wrong = sorted((leaf for leaf in leaves if leaf.verdict == FAIL), key=lambda leaf: leaf.digits)
    worst = wrong[0]
    more = f" ({', '.join(leaf.path for leaf in wrong[1:])} too)" if wrong[1:] else ""
    how = "is not finite" if not math.isfinite(worst.hand) else f"differs {differs(worst.digits)}"
    return f"{worst.path} {how}{more}, at the {outcome.kind} point."


def leaves_of(problem, outcomes):
    """Each leaf where it agrees least: at the first point that is wrong, else at the least accurate one."""
    out = []
    judged = [o for o in outcomes if o.judged]
    for k, path in enumerate(problem.paths):
        order = {FAIL: 0, INCONCLUSIVE: 1, PASS: 2}
        decided = any(o.judged[k].verdict == PASS for o in judged)
        at = [o for o in judged if not (decided and o.judged[k].verdict == INCONCLUSIVE)]
        if at:
            o = min(at, key=lambda o: (order[o.judged[k].verdict], o.judged[k].digits))
            j = o.judged[k]
            out.append(Leaf(path, j.verdict, j.digits, j.at, j.hand, j.true, o.kind, j.errors))
    return tuple(out)


def equal_sizes(problem):
    """Which sizes are equal, so that a formula that confuses them cannot be told from a right one."""
    square = sorted({n for v in problem.arguments.floats for a, n in enumerate(v.shape) if n > 1 and n in v.shape[:a]})
    if square:
        which = ", ".join(map(str, square))
        yield f"two sizes are equal ({which}): 1/n for the one and for the other are the same here"
    data = [v for i, v in enumerate(problem.arguments.floats) if v.ndim > 1 and i not in problem.redrawn]
    if data and all(len(v) == 1 for v in data):
        yield "there is one example alone: a sum and a mean over examples are the same here"
