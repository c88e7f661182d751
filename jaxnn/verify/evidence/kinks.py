"""Right derivatives at a kink: where exactly equal numbers were compared, any convex choice of the two sides is one.

Bolte and Pauwels (2020): for each tied unit one s in [0, 1], the same in every entry, between the derivatives that hold
if it fell to the one or the other side. max(z, 0) at z = 0 may have 0, ½ or 1.
"""

import itertools
from collections import defaultdict

import numpy as np
from flint import arb

from jaxnn.verify.arithmetic.balls import wrap
from jaxnn.verify.arithmetic.decisions import Ties, Undecided, step_of
from jaxnn.verify.evidence.judge import judge, scales
from jaxnn.verify.reports.findings import PASS

UNITS = 32


def kinks(met, steps, dependent):
    """The ties at which a derivative can jump: of values that depend on the arguments, and not asked for equality."""
    numbers = {name: step_of(name) for name, _, _ in met.values()}
    return [name for name, n in numbers.items() if n in dependent and steps[n].name not in ("eq", "ne")]


def explained(hand, truth, evaluate, names, digits):
    """A sentence saying which choice at the ties `names` makes `hand` right; None of no choice; "" of too many to try.

    evaluate(ties): the truth with the ties chosen so."""
    steps = sorted({step_of(name) for name in names})
    if agree(hand, truth, digits):
        return said(names, "does as JAX does")
    try:
        for shares in (
            itertools.product((0.0, 0.5, 1.0), repeat=len(steps)) if len(steps) <= 3 else ((0.0,), (0.5,), (1.0,))
        ):
            its = dict(zip(steps, itertools.cycle(shares), strict=False))
            if agree(hand, evaluate(Ties({name: its[step_of(name)] for name in names}, shares[0], steps)), digits):
                share = ", ".join(f"{v:g}" for v in dict.fromkeys(shares))
                return said(names, f"takes {share} of the derivative of the larger side")
        if len(names) > UNITS or len(steps) > 3:
            return ""
        base = evaluate(Ties(default=1.0, steps=steps))
        moved = [evaluate(Ties({name: 0.0}, default=1.0, steps=steps)) for name in names]
    except Undecided:
        return ""
    moves = [[wrap(b - a) for a, b in zip(base, one, strict=True)] for one in moved]
    gap = [wrap(h - a) for h, a in zip(hand, base, strict=True)]
    s, *_ = np.linalg.lstsq(np.array([flat(move) for move in moves]).T, flat(gap), rcond=None)
    groups: dict = defaultdict(float)  # of those that tie for one maximum, one alone can be it
    for name, share in zip(names, s, strict=True):
        groups[name[0] if isinstance(name[0], tuple) else name] += share
    if min(s) < -1e-9 or max(groups.values()) > 1 + 1e-9:
        return None
    chosen = [wrap(a + sum(m[k] * arb(v) for v, m in zip(s, moves, strict=True))) for k, a in enumerate(base)]
    if agree(hand, chosen, min(digits, 9)):
        return said(names, f"takes {', '.join(f'{1 - v:.3g}' for v in s)} of it")
    return None


def agree(hand, true, digits):
    """Whether all leaves agree, a least-squares share's own rounding allowed for."""
    return all(
        judge(wrap(h + arb(0, 1) * s * 10.0 ** -(digits + 1)), t, s, digits).verdict == PASS
        for h, t, s in zip(hand, true, scales(true), strict=True)
    )


def said(names, choice):
    n = len(names)
    return (
        f"at a kink ({n} exact {'tie' if n == 1 else 'ties'}), where any choice between the two sides is right, "
        f"the rule {choice}"
    )


def flat(leaves):
    return np.array([float(v.mid()) for leaf in leaves for v in leaf.flat])
