"""How accurate a rule is in the dtypes it may run in, beside autodiff."""

import math

import jax
import numpy as np
from jax import numpy as jnp

from jaxnn.verify.evidence.floating import float_scales
from jaxnn.verify.evidence.outcome import eps, true_floats
from jaxnn.verify.reports.findings import INCONCLUSIVE, Grade

DTYPES = ("float32", "bfloat16", "float64")


def grades(problem, comparison, outcomes, dtypes=DTYPES):
    """A `Grade` for each leaf in each dtype: the hand rule and autodiff, jitted on the default device, against the
    exact truth at a generic point. A dtype in which a function does not run has none."""
    outcome = next((o for o in outcomes if o.judged and o.kind in ("generic", "near", "given")), None)
    if outcome is None or outcome.verdict == INCONCLUSIVE or comparison.numpy or comparison.mode is None:
        return ()
    out = []
    for dtype in map(jnp.dtype, dtypes):
        floats = [np.asarray(np.asarray(v, dtype), np.float64) for v in outcome.floats]
        try:
            true = true_floats(comparison, floats)
            hand, auto = jitted(lambda v: (problem.claim(v), problem.truth(v)), floats, dtype)
        except Exception:  # whatever a function raises that was not written for this dtype
            continue
        for path, s, t, *pair in zip(problem.paths, float_scales(true), true, hand, auto, strict=True):
            errors = [float(np.max(np.abs(np.asarray(v, np.float64) - t), initial=0)) / s for v in pair]
            errors = [math.inf if math.isnan(e) else e for e in errors]  # not finite in this dtype
            numbers = [x for e in errors for x in (-math.log10(e) if e > 0 else math.inf, e / eps(dtype))]
            out.append(Grade(path, dtype.name, *numbers))
    return tuple(out)


def jitted(f, floats, dtype):
    with jax.enable_x64(dtype == np.float64), jax.default_matmul_precision("highest"):
        return jax.jit(f)([jnp.asarray(v, dtype) for v in floats])
