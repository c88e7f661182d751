"""What is wrong with a wrong gradient: each known mistake makes a gradient of its own, and one of these is the user's.

The mistakes are made on the way back through the user's cost (predictions.py), in the leaves of the true gradient, and
in the data. A cause is listed if its gradient is the wrong one at several points, in float64, and the right leaves stay
right.
"""

import itertools
import math
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.verify.arguments import Problem
from jaxnn.verify.diagnosis.guesses import Guess, guesses, of_factor
from jaxnn.verify.diagnosis.mistakes import RANK, TEXTS
from jaxnn.verify.diagnosis.predictions import facts_of, flat, hand_of
from jaxnn.verify.diagnosis.repair import repairs
from jaxnn.verify.evidence.comparison import comparison_of
from jaxnn.verify.evidence.comparison import run as run_in_floats
from jaxnn.verify.evidence.points import Draw, Kind, redraw
from jaxnn.verify.reports.findings import Cause
from jaxnn.verify.tracing.floats import Approximation
from jaxnn.verify.tracing.numpy_code import in_jax

FEW = 20  # entries, of which so few points cannot tell mistakes apart
ALIKE = 3  # causes that say the same of the same leaves


def causes(problem: Problem, comparison, outcome, again, args, seed):
    """`Cause`s of a wrong gradient, likeliest first; () of a rule, or of a cost, that is not traced."""
    if problem.scalar is None or comparison.claim is None:
        return ()
    promotion = jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard")
    x64 = jax.config.read("jax_enable_x64")
    plain = problem
    try:
        if not (comparison.hand and comparison.scalar):
            with promotion[0], promotion[1]:
                problem, comparison = in_jax(problem, comparison), comparison_of(in_jax(problem, comparison))
        if not (comparison.hand and comparison.scalar and comparison.mode.x64):
            return ()

        def others(args):
            with jax.enable_x64(x64):  # as the user has it
                return in_jax(again(args), comparison)

        points = drawn(problem, outcome, seed)
        with jax.enable_x64(True), promotion[0], promotion[1], np.errstate(all="ignore"):
            if problem is not plain and not is_what_it_was(comparison, plain, points):
                return ()
            facts = facts_of(problem, comparison, points, others, args)
            if not facts:
                return ()
            hand = hand_of(problem, comparison, points)
            scaled = [[7 * v if i in problem.always else v for i, v in enumerate(floats)] for floats in points]
            sevenfold = hand_of(problem, comparison, scaled) / 7 if problem.always else hand
            inputs = [[np.asarray(floats[i], np.float64) for i in comparison.free(problem)] for floats in points]
            return explained(facts, hand, sevenfold, comparison.hand, inputs)
    except Exception:  # a cost has many ways not to bear edits; the verdict stands without an explanation
        return ()


def drawn(problem, outcome, seed):
    """The floats at which gradients are compared: those of the outcome, and new ones."""
    its, rng = problem.arguments, np.random.default_rng(seed)
    few = sum(its.floats[i].size for i in its.differentiated) < FEW
    new = [
        redraw(Kind(Draw.GENERIC), its.floats, its.dtypes, problem.redrawn, problem.always, rng)
        for _ in range(5 if few else 2)
    ]
    start = outcome.floats if [v.shape for v in outcome.floats] == [v.shape for v in its.floats] else its.floats
    return [list(start), *new]


def is_what_it_was(comparison, problem, points):
    """Whether the traced rule and the traced cost give what the user's own code gives."""
    n = len(problem.arguments.differentiated)
    for floats in points:
        inputs = [np.asarray(floats[i], np.float64) for i in comparison.free(problem)]
        for traced, own in (
            (comparison.hand, problem.claim),
            (comparison.scalar, lambda floats: [problem.scalar(floats)]),
        ):
            ours, theirs = flat(Approximation()(traced, inputs)[:n]), flat(run_in_floats(own, floats, np.float64)[:n])
            if not np.allclose(ours, theirs, 1e-7, 1e-9 * np.abs(theirs).max(initial=0)):
                return False
    return True


class Fit(NamedTuple):
    """A guess that gives the wrong leaves, up to a factor for each; fewer factors, then more leaves, are better."""

    factors: dict  # {leaf: c ≠ 1}
    leaves: frozenset
    order: tuple
    guess: Guess
    digits: float

    @property
    def key(self):
        return len(set(self.factors.values())), -len(self.leaves), *self.order


def explained(facts, hand, sevenfold, rule, points):
    """The `Cause`s, so that each wrong leaf has its own. sevenfold: what the rule makes of 7 cotangents, over 7; rule:
    its jaxpr; points: the inputs of that."""
    error = np.abs(hand - facts.true) / facts.scale
    fault = [error[facts.leaf == k].max(initial=0) for k in range(len(facts.paths))]
    wrong = [k for k, error in enumerate(fault) if error > 1e-9]
    fits, whole = [], set()  # edits that fit all leaves that they change are not asked for one alone
    for order, guess in enumerate(guesses(facts, hand, wrong)):
        fit = None if guess.edit in whole else fitting(facts, hand, guess, fault, wrong)
        if fit:
            whole |= {guess.edit} if guess.edit else set()
            factors, leaves, digits = fit
            fits.append(Fit(factors, leaves, (RANK[guess.kind], order), guess, digits))
    out: list[Cause] = []
    chosen: list[Fit] = []

    def choose(fits):
        for fit in sorted(fits, key=lambda fit: fit.key):
            alike = {its.guess.kind for its in chosen if its.leaves == fit.leaves}
            taken = any(fit.leaves < its.leaves or (fit.factors and fit.leaves & its.leaves) for its in chosen)
            said = fit.guess.kind in alike or (fit.guess.kind == "extra_mean" and "bias_averaged" in alike)
            if taken or said or len(alike) == ALIKE:
                continue
            chosen.append(fit)
            out.append(cause(facts, fit.guess, fit.leaves, fit.digits))
            for c in dict.fromkeys(fit.factors.values()):
                kind, words = of_factor(facts, c, {})
                leaves = [k for k, its in fit.factors.items() if its == c]
                out.append(cause(facts, Guess(kind, words, hand), leaves, fit.digits, "besides, "))
        return [k for k in wrong if not any(k in fit.leaves for fit in chosen)]

    left = choose([fit for fit in fits if len(fit.factors) < len(fit.leaves)])
    bent = [k for k in left if (np.abs(sevenfold - hand) > 1e-7 * facts.scale)[facts.leaf == k].any()]
    if bent:
        out.append(cause(facts, Guess("nonlinear_in_cotangent", {}, hand), bent, math.nan))
    mended = repaired(facts, [k for k in left if k not in bent], rule, points)
    if not mended:
        left = choose([fit for fit in fits if len(fit.factors) == len(fit.leaves)])
    left = [k for k in left if k not in bent]
    if left:
        out += mended or [unknown(facts, hand, left)]
    return tuple(out)


def repaired(facts, leaves, rule, points):
    """The `Cause`s of these leaves that a change of the rule itself shows."""
    if not leaves:
        return []

    def right(results, point):
        its = [np.abs(results[k] - facts.part(facts.true, k)[point]) for k in leaves]
        scales = [facts.part(facts.scale, k)[point] for k in leaves]
        return all((off <= 1e-9 * scale).all() for off, scale in zip(its, scales, strict=True))

    found = itertools.islice(repairs(rule, points, right, facts.names), ALIKE)
    return [cause(facts, Guess(kind, words, facts.true), leaves, 9.0) for kind, words in found]


def fitting(facts, hand, guess, fault, wrong):
    """(factors, leaves, digits) with which a guess is right, None if it is not."""
    factors, leaves, digits = {}, set(), 16.0
    for k in range(len(facts.paths)):
        its = facts.leaf == k
        G, H, T = (v[its] / facts.scale[its] for v in (hand, guess.predicted, facts.true))
        if np.abs(H - T).max(initial=0) < 1e-9:
            continue  # not touched
        c, enough = 1.0, max(1e-6 * fault[k], 1e-11)
        if np.abs(G - H).max() > enough and G.size > facts.points:
            c = float(G @ H / max(H @ H, 1e-300))
        if k not in wrong or not np.abs(G - c * H).max() <= enough:
            return None
        if abs(c - 1) > 1e-6:
            factors[k] = float(f"{c:.9g}")
        leaves.add(k)
        digits = min(digits, -math.log10(max(np.abs(G - c * H).max(), 1e-16)))
    return (factors, frozenset(leaves), digits) if leaves else None


def cause(facts, guess, leaves, digits, also=""):
    names = [facts.paths[k] for k in sorted(leaves)]
    who = "the gradient" if len(names) == len(facts.paths) > 1 else f"the gradient of {', '.join(names)}"
    sentence, fix = (text.format(**{"who": who, **guess.words}) for text in TEXTS[guess.kind])
    sentence = also + sentence
    if also or not TEXTS[guess.kind][0].startswith(("{what}", "{other}")):  # these may be somebody's names
        sentence = sentence[0].upper() + sentence[1:]
    return Cause(guess.kind, f"{sentence}.", ", ".join(names), digits, fix)


def unknown(facts, hand, leaves):
    """What can be seen of a mistake that is none of the known ones."""
    parts = []
    for k in leaves:
        ours, true = (facts.part(v, k)[0] for v in (hand, facts.true))
        wrong = np.abs(ours - true) > 1e-9 * np.abs(true).max(initial=1e-300)
        pattern = f"{wrong.sum()} of {wrong.size} entries are wrong"
        rows = np.flatnonzero(wrong.reshape(len(wrong), -1).any(1)) if wrong.ndim else np.array([])
        if 0 < len(rows) <= len(wrong) / 2:
            pattern += f", in row{'s' * (len(rows) > 1)} {', '.join(map(str, rows))} alone"
        if (known := wrong & (true != 0)).any():
            ratio = ours[known] / true[known]
            pattern += f", by hand / true from {ratio.min():.3g} to {ratio.max():.3g}"
        parts.append(f"{facts.paths[k]}: {pattern}")
    sentence, fix = TEXTS["unknown"]
    names = ", ".join(facts.paths[k] for k in leaves)
    return Cause("unknown", sentence.format(what="; ".join(parts)) + ".", names, math.nan, fix)
