"""What a report says beside its verdict: what may explain it, what limits it, and what would change it."""

import time
from collections.abc import Iterator, Sequence

from jaxnn.verify.arguments import Problem
from jaxnn.verify.evidence.at_point import at_point
from jaxnn.verify.evidence.comparison import comparison_of, run
from jaxnn.verify.evidence.outcome import ROUNDINGS, Check, Outcome
from jaxnn.verify.evidence.points import Draw
from jaxnn.verify.options import Options
from jaxnn.verify.reports.findings import FAIL, PASS
from jaxnn.verify.reports.words import shown
from jaxnn.verify.restriction import lost_domains, restrictions

FLOAT64 = 18.0  # digits: more than a rounded number has
SECONDS = 5.0  # for each domain that may explain a wrong rule


def rounding_notes(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """At which points both sides are equal to so many digits and no further, or up to the rounding of constants."""
    apart = [o for o in outcomes if o.verdict == PASS and any(j.apart for j in o.judged)]
    if apart:
        least, where = min(o.digits for o in apart), ", ".join(str(o.kind) for o in apart)
        like = "of an iteration that has converged so far" if least > FLOAT64 else "of rounded constants or tables"
        yield f"equal to {shown(least)} digits and no further, as {like}, at {where}"
    for rounded in ROUNDINGS[1:]:
        equal = [o for o in outcomes if o.verdict == PASS and o.rounded == rounded]
        if equal:
            what = "of the inputs" if "inputs" in rounded else "of written constants such as 0.1 or 1/3"
            digits, where = shown(min(o.digits for o in equal)), ", ".join(str(o.kind) for o in equal)
            yield f"equal up to the rounding {what}, {digits} digits, at {where}"


def hints(problem: Problem, outcomes: Sequence[Outcome], wrong: Outcome | None) -> Iterator[str]:
    """What may explain the verdict, or limit it."""
    redrawn = wrong and wrong.kind.draw != Draw.GIVEN and wrong.kind.elsewhere is None
    if wrong and redrawn and outcomes[0].verdict == PASS:
        domain = next(lost_domains(problem, wrong.floats), "domain=")
        yield (
            "right at the given point, wrong where the arguments were drawn anew: if the formula holds for some alone "
            f"(a constraint, a guard that is not reached), {domain}, draw= or points='given' say so"
        )
    if wrong and problem.cotangents and any(j.verdict == FAIL and j.zero for j in wrong.judged):
        yield "what is computed has derivative 0: if the rule is meant to be another function's, surrogate= gives it"
    for k, path in enumerate(problem.paths):
        judged = [o.judged[k] for o in outcomes if o.judged]
        if not wrong and judged and all(j.zero for j in judged):
            yield f"{path} is 0 at every point: a formula that gives 0 is all that is shown: were the data all 0?"
    arguments = problem.arguments
    held = [arguments.name(i) for i in arguments.differentiated if i not in problem.redrawable]
    if held:
        what = "data that mean something (one-hot, a mask, distributions)"
        yield f"{', '.join(held)} kept as given, as {what}: argnums= says otherwise"


def beside_domain(problem: Problem, wrong: Outcome, options: Options) -> Iterator[str]:
    """The domains along which the rule is right: what is wrong leads out of them."""
    for words, inside in restrictions(problem, wrong.floats):
        check = Check(inside, comparison_of(inside), options, time.process_time() + SECONDS)
        outcome = at_point(wrong.kind, check, wrong.floats, ROUNDINGS)
        pairs = zip(wrong.judged, outcome.judged, strict=False)
        if any(before.verdict == FAIL and after.verdict == PASS for before, after in pairs):
            yield f"what is wrong leads out of a domain: if the argument always lies there, {words} says so"
            return


def constants(problem: Problem, wrong: Outcome) -> Iterator[str]:
    """The arguments for which the rule gives 0 alone, though the truth is not."""
    arguments = problem.arguments
    if problem.scalar is None or not any(j.verdict == FAIL and j.hand == 0 for j in wrong.judged):
        return
    try:
        hand = run(problem.claim, wrong.floats)
    except Exception:  # a rule that does not run by itself, in floats
        return
    for i, v, j in zip(arguments.differentiated, hand, wrong.judged, strict=False):
        if j.verdict == FAIL and not v.any():
            others = {arguments.argument_of[k] for k in arguments.differentiated} - {arguments.argument_of[i]}
            if others:
                kept = f"argnums={tuple(sorted(others))}"
                yield f"the rule gives 0 for {arguments.name(i)}: if it is meant to be constant, {kept} leaves it out"


def repeated(shape: Sequence[int]) -> set[int]:
    """The sizes of more than one axis."""
    return {n for n in shape if n > 1 and shape.count(n) > 1}


def equal_sizes(problem: Problem) -> Iterator[str]:
    """Which sizes are equal, so that a formula that confuses them cannot be told from a right one."""
    arrays = problem.arguments.floats
    square = sorted(set().union(*(repeated(v.shape) for v in arrays)))
    if square:
        which = ", ".join(map(str, square))
        yield f"two sizes are equal ({which}): 1/n for the one and for the other are the same here"
    data = [v for i, v in enumerate(arrays) if v.ndim > 1 and i not in problem.redrawable]
    if data and all(len(v) == 1 for v in data):
        yield "there is one example alone: a sum and a mean over examples are the same here"
