"""How accurate a rule is in the dtypes it may run in, beside autodiff."""

import math
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax import numpy as jnp

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import Problem
from jaxnn.verify.evidence.comparison import Comparison
from jaxnn.verify.evidence.float_truth import float_scales
from jaxnn.verify.evidence.outcome import Outcome, eps, true_floats
from jaxnn.verify.evidence.points import Draw
from jaxnn.verify.reports.findings import INCONCLUSIVE, Grade
from jaxnn.verify.tracing.bounded_loops import bounded
from jaxnn.verify.tracing.jaxprs import equations

LONG = 2000  # equations


def grades(
    problem: Problem, comparison: Comparison, outcomes: Sequence[Outcome], dtypes: Sequence[str]
) -> tuple[Grade, ...]:
    """A `Grade` for each leaf in each dtype: the hand rule and autodiff, on the default device, against the
    exact truth at a generic point. A dtype in which a function does not run has none."""
    plain = [o for o in outcomes if o.kind.draw in (Draw.GENERIC, Draw.NEAR, Draw.GIVEN) and not o.kind.elsewhere]
    outcome = next((o for o in plain if o.judged and not o.by_limit), None)
    if outcome is None or outcome.verdict == INCONCLUSIVE or comparison.numpy or comparison.mode is None:
        return ()
    out: list[Grade] = []
    for dtype in map(jnp.dtype, dtypes):
        floats = [np.asarray(np.asarray(v, dtype), np.float64) for v in outcome.floats]
        try:
            true = true_floats(comparison, floats)
            hand, auto = run(lambda v: (problem.claim(v), problem.truth(v)), floats, dtype)
        except Exception:  # whatever a function raises that was not written for this dtype
            continue
        if not all(np.isfinite(t).all() for t in true):
            continue
        for path, scale, t, h, a in zip(problem.paths, float_scales(true), true, hand, auto, strict=True):
            out.append(Grade(path, dtype.name, *accuracy(h, t, scale, dtype), *accuracy(a, t, scale, dtype)))
    return tuple(out)


def accuracy(v: PyTree, true: np.ndarray, scale: float, dtype: np.dtype) -> tuple[float, float]:
    """(correct digits, error in units in the last place) of an array, relative to the scale."""
    error = float(np.max(np.abs(np.asarray(v, np.float64) - true), initial=0)) / scale
    error = math.inf if math.isnan(error) else error  # not finite in this dtype
    return -math.log10(error) if error > 0 else math.inf, error / eps(dtype)


def run(f: Callable[[list], PyTree], floats: Sequence[np.ndarray], dtype: np.dtype) -> PyTree:
    """f in this dtype, jitted; equation by equation if it is so long that XLA would take longer to compile it."""
    with jax.enable_x64(dtype == np.float64), jax.default_matmul_precision("highest"):
        arrays = [jnp.asarray(v, dtype) for v in floats]
        closed, out = jax.make_jaxpr(f, return_shape=True)(arrays)
        is_long = sum(1 for _ in equations(closed.jaxpr)) > LONG
        g = bounded(closed) if is_long else jax.jit(bounded(closed))
        return jax.tree.unflatten(jax.tree.structure(out), g(*arrays))
