"""Guards of a forward pass, such as the 1e-10 of sum + 1e-10, which a rule may leave out on purpose."""

import math
from collections.abc import Iterator

import numpy as np
from jax.extend import source_info_util
from jax.extend.core import Jaxpr, Literal

from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.arithmetic.evaluation import short
from jaxnn.verify.evidence.comparison import Comparison
from jaxnn.verify.evidence.outcome import Outcome
from jaxnn.verify.reports.findings import FAIL
from jaxnn.verify.tracing.jaxprs import equations

SMALL = 1e-3  # a constant that is added, or the least of a maximum
NEAR = 3  # digits that agree where a guard may be all that is left out


def guards(jaxpr: Jaxpr) -> Iterator[tuple[float, str]]:
    """(a small constant, its place) for each that is added to a value or is the least that it may be."""
    for eqn in equations(jaxpr):
        numbers = [v.val for v in eqn.invars if isinstance(v, Literal) and is_float(v.aval) and not np.shape(v.val)]
        if eqn.primitive.name in ("add", "max") and numbers and 0 < numbers[0] < SMALL:
            yield float(numbers[0]), short(source_info_util.summarize(eqn.source_info))


def left_out(comparison: Comparison, wrong: Outcome) -> Iterator[str]:
    """What to do where the rule is nearly right, and the forward pass has a guard."""
    digits = min((j.digits for j in wrong.judged if j.verdict == FAIL), default=0.0)
    found = dict(guards(comparison.scalar_jaxpr.jaxpr)) if comparison.scalar_jaxpr else {}
    if digits >= NEAR and found:
        guard, place = max(found.items())
        yield (
            f"the two sides agree to {digits:.2g} digits, and the forward pass has a guard, {guard:.3g} at {place}: if "
            f"the rule leaves it out on purpose, digits={math.floor(digits) - 1} says so"
        )
