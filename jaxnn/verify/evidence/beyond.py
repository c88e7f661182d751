"""Drawn points for which a rule was not written: it is not finite there, as x₁x₂x₃ / x₂ where x₂ = 0, or a pole of what
is computed lies between them and the given arguments, as √(k/m) of two that are negative. Where a branch of the forward
pass takes care of such a point, the rule must too."""

import math
from collections.abc import Iterator, Sequence

import flint
import numpy as np
from jax.extend.core import JaxprEqn

from jaxnn.verify.arithmetic.balls import finite, is_float
from jaxnn.verify.arithmetic.decisions import Undecided, Unsupported
from jaxnn.verify.arithmetic.evaluation import PRECISIONS, Evaluation, TooLarge
from jaxnn.verify.evidence.branches import POSSIBLE, Sides
from jaxnn.verify.evidence.comparison import Comparison
from jaxnn.verify.evidence.judge import Why
from jaxnn.verify.evidence.outcome import Check, Outcome, entered
from jaxnn.verify.reports.findings import FAIL, Evidence
from jaxnn.verify.tracing.jaxprs import equations

ENTRIES = 16  # of a leaf, at most, that are looked at for poles


def is_without_value(wrong: Outcome) -> bool:
    """Whether the rule is not finite in every leaf that is wrong."""
    leaves = [j for j in wrong.judged if j.verdict == FAIL]
    if wrong.evidence == Evidence.EXACT:  # what is finite in balls may be infinite as a float
        return bool(leaves) and all(j.why == Why.NOT_FINITE for j in leaves)
    return bool(leaves) and not any(math.isfinite(j.hand) for j in leaves)


def before_poles(check: Check, floats: Sequence[np.ndarray]) -> list[np.ndarray] | None:
    """The point with the signs that were given, in entries that have a pole at 0; None if it has them already."""
    problem, out = check.problem, list(floats)
    for i in problem.redrawable:
        for index in changed_signs(problem.arguments.floats[i], floats[i]) if i not in problem.domains else ():
            at_zero = list(floats)
            at_zero[i] = replaced(floats[i], index, 0 * floats[i][index])
            if has_pole(check, at_zero):
                out[i] = replaced(out[i], index, -floats[i][index])
    return None if all(a is b for a, b in zip(out, floats, strict=True)) else out


def changed_signs(given: np.ndarray, drawn: np.ndarray) -> Iterator[tuple[int, ...]]:
    """The entries whose sign is another, the first of them."""
    signs = np.sign(given.astype(np.float64)) * np.sign(drawn.astype(np.float64))
    yield from map(tuple, np.argwhere(signs < 0)[:ENTRIES])


def replaced(v: np.ndarray, index: tuple[int, ...], entry: np.ndarray) -> np.ndarray:
    """A copy of v with another entry."""
    out = v.copy()
    out[index] = entry
    return out


def has_pole(check: Check, floats: Sequence[np.ndarray]) -> bool:
    """Whether the cost or its derivative is not finite here, as far as can be seen. NumPy code that takes an absolute
    value goes on beyond a pole of its own accord."""
    problem, comparison, _, deadline = check
    ev = Evaluation(PRECISIONS[0], deadline=deadline)
    try:
        with flint.ctx.workprec(ev.precision):
            balls = entered(ev, floats, problem)
            cost = comparison.cost(problem)(ev, balls) if problem.scalar else []
            return not ev.has_abs and not all(map(finite, [*cost, *comparison.truth(ev, balls)]))
    except (Unsupported, TooLarge, Undecided):
        return False


def is_taken_care_of(wrong: Outcome, seen: Sides, comparison: Comparison) -> bool:
    """Whether a branch took a side there that is not among those that were seen; in floats, whether there is one."""
    if wrong.evidence == Evidence.EXACT:
        return any(sides - seen.get(site, set()) for site, sides in wrong.sides.items())
    if comparison.scalar_jaxpr is None:
        return True
    return any(is_branch(eqn) for eqn in equations(comparison.scalar_jaxpr.jaxpr))


def is_branch(eqn: JaxprEqn) -> bool:
    """Whether an equation decides between real numbers."""
    return eqn.primitive.name in POSSIBLE and is_float(eqn.invars[0].aval)
