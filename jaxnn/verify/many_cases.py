"""Breadth where `verify.gradient` is depth: thousands of random cases in one compiled program, in float64.

A case is decided by the hand rule against autodiff, to a tolerance that is measured: what autodiff itself loses in
float32, scaled down to float64. Central differences of the cost are the second witness. They cannot see as far, but
they see kinks, where autodiff's answer is one of several.
"""

import contextlib
import functools
import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from jaxnn.verify.arguments import BadAnswer, called, is_float_leaf
from jaxnn.verify.decide import equal_sizes, why_wrong
from jaxnn.verify.evidence.comparison import ENTRIES
from jaxnn.verify.evidence.judge import UNDEFINED
from jaxnn.verify.problems import gradient_problem
from jaxnn.verify.questions import asserted
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS, Evidence, Leaf, Point
from jaxnn.verify.reports.report import Report
from jaxnn.verify.reports.words import shown

CASES = 128  # at a time, so that what one of them needs stays in the cache
STEP = 2.0**-10  # of a difference, relative to its leaf: truncation (4th order) and rounding are then both near 1e-12
KINK = 2.0**-20  # of a leaf: a smaller step in a slope is not taken for a kink
SEEN = 2.0**20  # times the tolerance: a gradient that is smaller than that is hardly tested
CLEAR = 2.0**-26  # of the gradient: differences that agree so far confirm it


def sweep(cost, grad, draw, n=10_000, key=0, argnums=0, has_aux=False):
    """Whether grad is the gradient of cost in n random cases (params, *data) = draw(key): a `Report`.

    All three are JAX functions; each is compiled once. A FAIL says in how many cases the rule is wrong, and its replay
    line is the question about the worst of them. It holds for what `draw` draws: a side of a branch that it never
    reaches stays unseen, and so does what is smaller than the rounding of larger cases, such as a saturated unit.
    """
    if n < 1:
        raise ValueError(f"n is {n}: a sweep needs at least one case.")
    argnums = argnums if isinstance(argnums, int) else tuple(argnums)
    root = jax.random.key(key) if isinstance(key, int) else key
    size = at_once(draw, root, n)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(root, np.arange(-n // size * -size, dtype=np.uint32))
    try:
        drawn, compared = programs(
            cost, grad, draw, argnums, has_aux, size, keys.dtype, jax.config.read("jax_enable_x64")
        )
    except jax.errors.JAXTypeError as error:
        who = f"{called(cost)}, {called(grad)} and {called(draw)}"
        raise TypeError(f"a sweep compiles {who}: they must be JAX functions.") from error
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # one such program keeps one core busy
        found = list(pool.map(lambda some: jax.device_get(compared(drawn(some))), keys.reshape(-1, size)))
    cases = jax.tree.map(lambda *v: np.concatenate(v)[:n], *found)

    def at(i):
        """The problem at case i."""
        return gradient_problem(cost, grad, *draw(keys[i]), argnums=argnums, has_aux=has_aux)

    seed = key if isinstance(key, int) else "key"
    name = f"jax.random.key({key})" if isinstance(key, int) else "key"
    options = f", argnums={argnums}" * (argnums != 0) + ", has_aux=True" * has_aux
    functions = f"{called(cost)}, {called(grad)}"
    again = f"verify.sweep({functions}, {called(draw)}, n={n}, key={seed}{options})"
    one = f"verify.gradient({functions}, *{called(draw)}(jax.random.fold_in({name}, {{}})){options})"
    return report(cases, at, again, one)


assert_sweep = asserted(sweep)


def at_once(draw, root, n):
    """How many cases are in memory together."""
    args = jax.eval_shape(draw, root)
    if not isinstance(args, tuple):
        raise BadAnswer(f"{called(draw)} returned {type(args).__name__}: it returns the arguments, (params, *data).")
    return max(1, min(n, CASES, 2**20 // sum(math.prod(v.shape) for v in jax.tree.leaves(args))))


@functools.lru_cache(maxsize=16)
def programs(cost, grad, draw, argnums, has_aux, size, keys, x64):
    """Compiled: `size` cases drawn, as the caller would draw them; and each of them compared."""

    def problem(args):
        """Of the case's own integers and keys; its floats follow."""
        blank = jax.tree.map(lambda v: np.zeros(v.shape) if is_float_leaf(v) else v, args)
        return gradient_problem(cost, grad, *blank, argnums=argnums, has_aux=has_aux)

    def compared(args):
        floats = [v for v in jax.tree.leaves(args) if is_float_leaf(v)]
        args = jax.tree.map(lambda v: v.astype(jnp.int32) if v.dtype == jnp.int64 else v, args)
        with jax.enable_x64(False):
            single = [v.astype(jnp.float32) for v in floats]
            rough = problem(args).truth(single), problem(args).scalar(single)
        with in_float64():
            return compare(problem(args), [v.astype(jnp.float64) for v in floats], *rough)

    drawn = jax.jit(jax.vmap(draw)).lower(jax.ShapeDtypeStruct((size,), keys)).compile()
    with in_float64():  # what is lowered must find the mode that it was traced in
        return drawn, jax.jit(jax.vmap(compared)).lower(drawn.out_info).compile()


@contextlib.contextmanager
def in_float64():
    """Labels stay int32, and may meet an arange that is int64 now."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        yield


class Case(NamedTuple):
    """What is kept of a case; the first four for each leaf."""

    error: Any  # the largest |hand − true|
    beyond: Any  # the same without the entries at a kink, where both may be right
    largest: Any  # |true|
    noise: Any  # the largest |true − the same in float32|
    finite: Any
    contradicted: Any  # differences agree with themselves, but not with autodiff
    gap: Any  # the largest |difference − true|, relative to the largest entry of the gradient


def compare(problem, floats, rough, rough_J):
    hand, true, J = problem.claim(floats), problem.truth(floats), problem.scalar(floats)
    asked = problem.arguments.differentiated
    every = sum(floats[i].size for i in asked) <= ENTRIES
    whole, steepest = largest([floats[i] for i in asked]), largest(true[: len(asked)])
    noise = 64 * jnp.fmax(2.0**-52 * jnp.abs(J), 2.0**-29 * jnp.abs(J - rough_J))
    off = [jnp.abs(h - t) for h, t in zip(hand, true, strict=True)]
    beyond, contradicted, gaps = list(off), [], []
    for k, i in enumerate(asked):
        scale, own = largest([true[k]]), largest([floats[i]])
        h = STEP * jnp.where(own > 0, own, jnp.where(whole > 0, whole, 1.0))
        ways = jnp.eye(floats[i].size) if every else directions(k, floats[i].size)
        slope, bend, kink = differences(problem.scalar, floats, i, ways, h, J)
        gap = jnp.abs(slope - ways @ true[k].ravel())
        gaps.append(gap)
        contradicted.append((gap > 4 * (bend + kink) + CLEAR * scale + noise / h).any())
        tied = (jnp.abs(ways @ (hand[k] - true[k]).ravel()) <= 4 * kink) & (kink > KINK * scale + noise / h)
        beyond[k] = jnp.where(tied.reshape(off[k].shape) if every else tied.all(), 0.0, off[k])
    return Case(
        jnp.stack([largest([v]) for v in off]),
        jnp.stack([largest([v]) for v in beyond]),
        jnp.stack([largest([t]) for t in true]),
        jnp.stack([largest([t - r]) for t, r in zip(true, rough, strict=True)]),
        jnp.isfinite(largest([J, *true])),
        jnp.stack(contradicted).any(),
        largest(gaps) / jnp.where(steepest > 0, steepest, 1.0),
    )


def largest(arrays):
    return functools.reduce(jnp.maximum, [jnp.max(jnp.abs(v), initial=0.0) for v in arrays])


def directions(k, size):
    return jax.random.rademacher(jax.random.key(k), (3, size), jnp.float64) / math.sqrt(size)


def differences(scalar, floats, i, ways, h, J):
    """(slopes of the cost along `ways` of float leaf i, to 4th order; how much they change from h to h/2; the step of
    the slope at this very point). Both of the latter vanish where the cost is smooth: as h² and as h³."""

    def at(way, t):
        return scalar([*floats[:i], floats[i] + t * way.reshape(floats[i].shape), *floats[i + 1 :]])

    steps = h * jnp.array([1.0, -1.0, 0.5, -0.5])
    up, down, half_up, half_down = jax.vmap(lambda t: jax.vmap(lambda way: at(way, t))(ways))(steps)
    wide, narrow = (up - down) / (2 * h), (half_up - half_down) / h
    kink = jnp.abs((up + down - 2 * J) - 4 * (half_up + half_down - 2 * J)) / (2 * h)
    return (4 * narrow - wide) / 3, jnp.abs(narrow - wide), kink


def report(cases, at, again, one):
    n, problem = len(cases.finite), at(0)
    if not cases.finite.any():
        return Report(
            problem.title, INCONCLUSIVE, f"{UNDEFINED} in any case.", Evidence.FLOAT64, math.nan, (), replay=again
        )
    allowed, scale = tolerances(cases, gradient := len(problem.arguments.differentiated))
    beyond = np.where(np.isfinite(cases.beyond), cases.beyond, np.inf)
    surplus = np.where(cases.finite, (beyond / allowed).max(1), 0)
    wrong, close = int((surplus > 16).sum()), int(((surplus > 1) & (surplus <= 16)).sum())
    at_kink = cases.finite & (surplus <= 1) & (cases.error > allowed).any(1)
    lost = cases.finite & (cases.largest[:, :gradient].max(1) < SEEN * allowed[:, :gradient].max(1))
    worst = int(np.argmax(np.where(at_kink, -1, surplus)))
    digits = -math.log10(max((beyond / scale)[cases.finite].max(), 2.0**-60))
    leaves = leaves_of(at(worst), beyond[worst] / allowed[worst], scale[worst], f"case {worst}")
    if wrong:
        why = why_wrong(leaves, f"case {worst}")
        verdict, reason = FAIL, f"wrong in {wrong:,} of {n:,} random cases: {why}"
    elif close:
        verdict, reason = INCONCLUSIVE, f"too close to what float64 allows to say, in {close:,} of {n:,} random cases."
    elif 2 * (at_kink | lost).sum() > cases.finite.sum():
        blind = (at_kink | lost).sum()
        verdict, reason = INCONCLUSIVE, f"{blind:,} of {n:,} cases say nothing: they are at a kink or lost in rounding."
    else:
        verdict, reason = PASS, f"right, {shown(digits)} digits agree in {n:,} random cases"
    point = Point(f"{n:,} random cases", verdict, "", digits)
    notes = (*remarks(cases, at_kink, lost, (allowed / scale)[cases.finite].max(), problem), *equal_sizes(problem))
    return Report(
        problem.title,
        verdict,
        reason,
        Evidence.FLOAT64,
        digits,
        leaves,
        (point,),
        notes=notes,
        replay=again if verdict == PASS else one.format(worst),
    )


def tolerances(cases, gradient):
    """(how far hand and true may be apart, what digits are measured against), for each leaf of each case.

    Rounding is relative to what a leaf has where it is large: 1 − a² of a saturated unit is but the rounding of 1. A
    leaf that is 0 but for rounding is measured against the whole gradient.
    """
    finite = cases.finite
    noise = 2.0**-29 * np.where(np.isfinite(cases.noise), cases.noise, 0)
    noise = np.maximum(noise, np.median(noise[finite], axis=0))  # one number can be right by luck
    scale = np.maximum(cases.largest, np.quantile(cases.largest[finite], 0.99, axis=0))
    whole = scale[:, :gradient].max(1, keepdims=True)
    zero = scale <= 256 * np.maximum(noise, 2.0**-52 * whole)
    scale = np.where(zero, np.where(whole > 0, whole, 1), scale)
    return 256 * (noise + 2.0**-52 * scale), scale


def leaves_of(problem, surplus, scale, name):
    """One case again, entry by entry."""
    with in_float64():
        floats = [jnp.asarray(v, jnp.float64) for v in problem.arguments.floats]
        hand, true = ([np.asarray(v) for v in f(floats)] for f in (problem.claim, problem.truth))
    out = []
    for path, h, t, over, s in zip(problem.paths, hand, true, surplus, scale, strict=True):
        errors = np.abs(h - t) / s
        worst = np.argmax(np.where(np.isnan(errors), np.inf, errors)) if errors.size else 0
        error, by_hand, is_true = (float(v.flat[worst]) if v.size else 0.0 for v in (errors, h, t))
        index = tuple(int(j) for j in np.unravel_index(worst, errors.shape)) if errors.size else ()
        digits = math.inf if error == 0 else -math.log10(error) if math.isfinite(error) else 0.0
        verdict = PASS if over <= 1 else FAIL if over > 16 else INCONCLUSIVE
        out.append(Leaf(path, verdict, digits, index, by_hand, is_true, name, errors))
    return tuple(out)


def remarks(cases, at_kink, lost, tolerance, problem):
    """What the counts mean, in words."""
    sure = cases.finite & (cases.gap <= CLEAR)
    every = sum(problem.arguments.floats[i].size for i in problem.arguments.differentiated) <= ENTRIES
    how = "of every coordinate" if every else "along 3 random directions of each leaf"
    if sure.any():
        digits = -math.log10(max(float(np.median(cases.gap[sure])), 2.0**-60))
        yield f"differences {how} agree with autodiff in {sure.sum():,} cases, half of them to {shown(digits)} digits"
    blurred = cases.finite & ~sure & ~cases.contradicted
    if blurred.any():
        yield f"near a kink, or too rough for differences, in {blurred.sum():,} cases"
    if at_kink.any():
        yield f"rule and jax.grad differ in {at_kink.sum():,} cases where differences see a kink: both may be right"
    if lost.any():
        yield f"the gradient is small in {lost.sum():,} cases, and fewer than 6 digits of it are above rounding"
    against = cases.finite & ~sure & cases.contradicted
    if against.any():
        yield f"differences contradict autodiff in {against.sum():,} cases, away from kinks: is there a stop_gradient?"
    if not cases.finite.all():
        yield f"{UNDEFINED} in {(~cases.finite).sum():,} cases: they are left out"
    yield f"decided in float64, to a measured tolerance of at most {tolerance:.1g} of a leaf"
