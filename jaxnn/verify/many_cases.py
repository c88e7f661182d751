"""Breadth where `verify.gradient` is depth: thousands of random cases in one compiled program, in float64.

A case is decided by the hand rule against autodiff, to a tolerance that is measured: what autodiff itself loses in
float32, scaled down to float64. Central differences of the cost are the second witness. They cannot see as far, but
they see kinks, where autodiff's answer is one of several.
"""

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import BadAnswer, Problem, called, is_float_leaf
from jaxnn.verify.decide import Decision, why_wrong
from jaxnn.verify.evidence.comparison import ENTRIES
from jaxnn.verify.evidence.float_differences import UNIT
from jaxnn.verify.evidence.float_truth import DOWN, ROOM
from jaxnn.verify.evidence.floating import CLEAR, verdict_of
from jaxnn.verify.evidence.judge import UNDEFINED
from jaxnn.verify.notes import equal_sizes
from jaxnn.verify.problems import gradient_problem
from jaxnn.verify.questions import asserted
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS, Evidence, Leaf, Point
from jaxnn.verify.reports.report import Report
from jaxnn.verify.reports.words import shown

CASES = 128  # at a time, so that what one of them needs stays in the cache
STEP = 2.0**-10  # of a difference, relative to its leaf: truncation (4th order) and rounding are then both near 1e-12
KINK = 2.0**-20  # of a leaf: a smaller step in a slope is not taken for a kink
SEEN = 2.0**20  # times the tolerance: a gradient that is smaller than that is hardly tested
CONFIRMS = 2.0**-26  # of the gradient: differences that agree so far confirm it

ArgumentsOfKey = Callable[[Array], tuple[PyTree, ...]]  # (params, *data)


def sweep(
    cost: Callable,
    grad: Callable,
    draw: ArgumentsOfKey,
    n: int = 10_000,
    key: int | Array = 0,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
) -> Report:
    """Whether grad is the gradient of cost in n random cases (params, *data) = draw(key): a `Report`.

    All three are JAX functions; each is compiled once. A FAIL says in how many cases the rule is wrong, and its replay
    line is the question about the worst of them. It holds for what `draw` draws: a side of a branch that it never
    reaches stays unseen, and so does what is smaller than the rounding of larger cases, such as a saturated unit.

    ValueError: n below 1. TypeError: one of the three is no JAX function; otherwise what `verify.gradient` raises.
    BadAnswer: draw returns no tuple; otherwise as `verify.gradient`.
    """
    if n < 1:
        raise ValueError(f"n is {n}: a sweep needs at least one case.")
    argnums = argnums if isinstance(argnums, int) else tuple(argnums)
    root = jax.random.key(key) if isinstance(key, int) else key
    size = at_once(draw, root, n)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(root, np.arange(-n // size * -size, dtype=np.uint32))
    x64 = jax.config.read("jax_enable_x64")
    try:
        drawn, compared = programs(cost, grad, draw, argnums, has_aux, size, keys.dtype, x64)
    except jax.errors.JAXTypeError as error:
        who = f"{called(cost)}, {called(grad)} and {called(draw)}"
        raise TypeError(f"a sweep compiles {who}: they must be JAX functions.") from error
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # one such program keeps one core busy
        batches = list(pool.map(lambda some: jax.device_get(compared(drawn(some))), keys.reshape(-1, size)))
    cases = jax.tree.map(lambda *v: np.concatenate(v)[:n], *batches)

    def problem_at(i: int) -> Problem:
        """The problem at case i."""
        return gradient_problem(cost, grad, *draw(keys[i]), argnums=argnums, has_aux=has_aux)

    seed = key if isinstance(key, int) else "key"
    name = f"jax.random.key({key})" if isinstance(key, int) else "key"
    options = "" if argnums == 0 else f", argnums={argnums}"
    options += ", has_aux=True" if has_aux else ""
    functions = f"{called(cost)}, {called(grad)}"
    again = f"verify.sweep({functions}, {called(draw)}, n={n}, key={seed}{options})"
    one = f"verify.gradient({functions}, *{called(draw)}(jax.random.fold_in({name}, {{}})){options})"
    return report(cases, problem_at, again, one)


assert_sweep = asserted(sweep)


def at_once(draw: ArgumentsOfKey, root: Array, n: int) -> int:
    """How many cases are in memory together."""
    args = jax.eval_shape(draw, root)
    if not isinstance(args, tuple):
        raise BadAnswer(f"{called(draw)} returned {type(args).__name__}: it returns the arguments, (params, *data).")
    return max(1, min(n, CASES, 2**20 // sum(math.prod(v.shape) for v in jax.tree.leaves(args))))


@functools.lru_cache(maxsize=16)
def programs(
    cost: Callable,
    grad: Callable,
    draw: ArgumentsOfKey,
    argnums: int | tuple[int, ...],
    has_aux: bool,
    size: int,
    key_dtype: DTypeLike,
    x64: bool,
) -> tuple[Callable[[Array], PyTree], Callable[[PyTree], "Case"]]:
    """Compiled: `size` cases drawn, as the caller, who may have x64 on, would draw them; and each of them compared."""

    def problem_of(args: tuple[PyTree, ...]) -> Problem:
        """The problem with the case's own integers and keys; its floats follow."""
        blank = jax.tree.map(lambda v: np.zeros(v.shape) if is_float_leaf(v) else v, args)
        return gradient_problem(cost, grad, *blank, argnums=argnums, has_aux=has_aux)

    def compared(args: tuple[PyTree, ...]) -> Case:
        floats = [v for v in jax.tree.leaves(args) if is_float_leaf(v)]
        args = jax.tree.map(lambda v: v.astype(jnp.int32) if v.dtype == jnp.int64 else v, args)
        with jax.enable_x64(False):
            single = [v.astype(jnp.float32) for v in floats]
            rough, (rough_J,) = problem_of(args).truth(single), problem_of(args).cost(single)
        with in_float64():
            return compare(problem_of(args), [v.astype(jnp.float64) for v in floats], rough, rough_J)

    drawn = jax.jit(jax.vmap(draw)).lower(jax.ShapeDtypeStruct((size,), key_dtype)).compile()
    with in_float64():  # what is lowered must find the mode that it was traced in
        return drawn, jax.jit(jax.vmap(compared)).lower(drawn.out_info).compile()


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """Labels stay int32, and may meet an arange that is int64 now."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        yield


class Case(NamedTuple):
    """What is kept of a case; the first four for each leaf. Of all cases together, these are NumPy arrays."""

    error: Array  # the largest |hand − true|
    beyond: Array  # the same without the entries at a kink, where both may be right
    largest: Array  # |true|
    noise: Array  # the largest |true − the same in float32|
    finite: Array
    contradicted: Array  # differences agree with themselves, but not with autodiff
    gap: Array  # the largest |difference − true|, relative to the largest entry of the gradient


def compare(problem: Problem, floats: list[Array], rough: list[Array], rough_J: Array) -> Case:
    """One case. floats: in float64. rough, rough_J: the gradient and the cost in float32."""
    hand, true, (J,) = problem.claim(floats), problem.truth(floats), problem.cost(floats)
    asked = problem.arguments.differentiated
    every = sum(floats[i].size for i in asked) <= ENTRIES
    whole, steepest = largest([floats[i] for i in asked]), largest(true[: len(asked)])
    noise = 64 * jnp.fmax(UNIT * jnp.abs(J), DOWN * jnp.abs(J - rough_J))
    errors = [jnp.abs(h - t) for h, t in zip(hand, true, strict=True)]
    beyond, contradicted, gaps = list(errors), [], []
    for k, i in enumerate(asked):
        scale, size = largest([true[k]]), largest([floats[i]])
        h = STEP * jnp.where(size > 0, size, jnp.where(whole > 0, whole, 1.0))
        ways = jnp.eye(floats[i].size) if every else directions(k, floats[i].size)
        slopes, bend, kink = differences(problem, floats, i, ways, h, J)
        gap = jnp.abs(slopes - ways @ true[k].ravel())
        gaps.append(gap)
        contradicted.append((gap > 4 * (bend + kink) + CONFIRMS * scale + noise / h).any())
        tied = (jnp.abs(ways @ (hand[k] - true[k]).ravel()) <= 4 * kink) & (kink > KINK * scale + noise / h)
        beyond[k] = jnp.where(tied.reshape(errors[k].shape) if every else tied.all(), 0.0, errors[k])
    return Case(
        error=jnp.stack([largest([v]) for v in errors]),
        beyond=jnp.stack([largest([v]) for v in beyond]),
        largest=jnp.stack([largest([t]) for t in true]),
        noise=jnp.stack([largest([t - r]) for t, r in zip(true, rough, strict=True)]),
        finite=jnp.isfinite(largest([J, *true])),
        contradicted=jnp.stack(contradicted).any(),
        gap=largest(gaps) / jnp.where(steepest > 0, steepest, 1.0),
    )


def largest(arrays: Sequence[Array]) -> Array:
    return functools.reduce(jnp.maximum, [jnp.max(jnp.abs(v), initial=0.0) for v in arrays])


def directions(k: int, size: int) -> Array:
    return jax.random.rademacher(jax.random.key(k), (3, size), jnp.float64) / math.sqrt(size)


class Differences(NamedTuple):
    """slopes: of the cost, to 4th order. bend: how much they change from h to h/2. kink: the step of the slope at this
    very point. The latter two vanish where the cost is smooth: as h² and as h³."""

    slopes: Array
    bend: Array
    kink: Array


def differences(problem: Problem, floats: list[Array], i: int, ways: Array, h: Array, J: Array) -> Differences:
    """The `Differences` of the cost, which is J at these floats, along `ways` of float leaf i."""

    def moved(way: Array, t: Array) -> Array:
        (J,) = problem.cost([*floats[:i], floats[i] + t * way.reshape(floats[i].shape), *floats[i + 1 :]])
        return J

    steps = h * jnp.array([1.0, -1.0, 0.5, -0.5])
    up, down, half_up, half_down = jax.vmap(lambda t: jax.vmap(lambda way: moved(way, t))(ways))(steps)
    wide, narrow = (up - down) / (2 * h), (half_up - half_down) / h
    kink = jnp.abs((up + down - 2 * J) - 4 * (half_up + half_down - 2 * J)) / (2 * h)
    return Differences((4 * narrow - wide) / 3, jnp.abs(narrow - wide), kink)


class Standing(NamedTuple):
    """How all cases stand. surplus: the largest error of a case, in tolerances, entries at a kink left out. at_kink:
    cases whose error may be a choice at a kink. lost: those whose gradient is near rounding. allowed, scale: see
    `tolerances`. beyond: the errors, by leaf."""

    surplus: np.ndarray
    at_kink: np.ndarray
    lost: np.ndarray
    allowed: np.ndarray
    scale: np.ndarray
    beyond: np.ndarray

    @property
    def worst(self) -> int:
        """The number of the worst case that is at no kink."""
        return int(np.argmax(np.where(self.at_kink, -1, self.surplus)))

    @property
    def blind(self) -> np.ndarray:
        """Which cases say nothing."""
        return self.at_kink | self.lost


def standing_of(cases: Case, gradient: int) -> Standing:
    """The `Standing` of cases whose first leaves, so many, are the gradient."""
    allowed, scale = tolerances(cases, gradient)
    beyond = np.where(np.isfinite(cases.beyond), cases.beyond, np.inf)
    surplus = np.where(cases.finite, (beyond / allowed).max(1), 0)
    small = np.max(cases.largest[:, :gradient], 1) < SEEN * np.max(allowed[:, :gradient], 1)
    return Standing(
        surplus=surplus,
        at_kink=np.asarray(cases.finite & (surplus <= 1) & (cases.error > allowed).any(1)),
        lost=np.asarray(cases.finite & small),
        allowed=allowed,
        scale=scale,
        beyond=beyond,
    )


def report(cases: Case, problem_at: Callable[[int], Problem], again: str, one: str) -> Report:
    """What the cases say. again: the line that asks the same; one: the line that asks about the case {}."""
    n, problem = len(cases.finite), problem_at(0)
    if not cases.finite.any():
        return Report(
            title=problem.title,
            verdict=INCONCLUSIVE,
            reason=f"{UNDEFINED} in any case.",
            evidence=Evidence.FLOAT64,
            digits=math.nan,
            leaves=(),
            replay=again,
        )
    standing = standing_of(cases, len(problem.arguments.differentiated))
    worst = standing.worst
    errors = (standing.beyond / standing.scale)[cases.finite]
    digits = -math.log10(max(errors.max(), 2.0**-60))
    surplus = standing.beyond[worst] / standing.allowed[worst]
    leaves = leaves_of(problem_at(worst), surplus, standing.scale[worst], f"case {worst}")
    verdict, reason = decision(cases, standing, leaves, digits)
    return Report(
        title=problem.title,
        verdict=verdict,
        reason=reason,
        evidence=Evidence.FLOAT64,
        digits=digits,
        leaves=leaves,
        points=(Point(f"{n:,} random cases", verdict, "", digits),),
        notes=(*remarks(cases, standing, problem), *equal_sizes(problem)),
        replay=again if verdict == PASS else one.format(worst),
    )


def decision(cases: Case, standing: Standing, leaves: Sequence[Leaf], digits: float) -> Decision:
    """The verdict over all cases: FAIL for one that is wrong; INCONCLUSIVE for one that is too close, or if most say
    nothing; else PASS."""
    n = len(cases.finite)
    wrong = standing.surplus > CLEAR
    close = (standing.surplus > 1) & ~wrong
    if wrong.any():
        why = why_wrong(leaves, f"case {standing.worst}")
        return Decision(FAIL, f"wrong in {wrong.sum():,} of {n:,} random cases: {why}")
    if close.any():
        what = "the two sides are too close for float64 to say whether they differ"
        return Decision(INCONCLUSIVE, f"{what}, in {close.sum():,} of {n:,} random cases.")
    blind = standing.blind.sum()
    if 2 * blind > cases.finite.sum():
        return Decision(INCONCLUSIVE, f"{blind:,} of {n:,} cases say nothing: they are at a kink or lost in rounding.")
    return Decision(PASS, f"right, {shown(digits)} digits agree in {n:,} random cases")


def tolerances(cases: Case, gradient: int) -> tuple[np.ndarray, np.ndarray]:
    """(how far hand and true may be apart, what digits are measured against), for each leaf of each case.

    Rounding is relative to what a leaf has where it is large: 1 − a² of a saturated unit is but the rounding of 1. A
    leaf that is 0 but for rounding is measured against the whole gradient.
    """
    finite = cases.finite
    noise = DOWN * np.where(np.isfinite(cases.noise), cases.noise, 0)
    noise = np.maximum(noise, np.median(noise[finite], axis=0))  # one number can be right by luck
    scale = np.maximum(cases.largest, np.quantile(cases.largest[finite], 0.99, axis=0))
    whole = scale[:, :gradient].max(1, keepdims=True)
    zero = scale <= ROOM * np.maximum(noise, UNIT * whole)
    scale = np.where(zero, np.where(whole > 0, whole, 1), scale)
    return ROOM * (noise + UNIT * scale), scale


def leaves_of(problem: Problem, surplus: np.ndarray, scale: np.ndarray, name: str) -> tuple[Leaf, ...]:
    """One case again, entry by entry. surplus: the error of each leaf, in tolerances; scale: what it is relative to."""
    with in_float64():
        floats = [jnp.asarray(v, jnp.float64) for v in problem.arguments.floats]
        hand, true = ([np.asarray(v) for v in f(floats)] for f in (problem.claim, problem.truth))
    leaves = []
    for path, h, t, over, s in zip(problem.paths, hand, true, surplus, scale, strict=True):
        errors = np.abs(h - t) / s
        worst = np.argmax(np.where(np.isnan(errors), np.inf, errors)) if errors.size else 0
        error, by_hand, is_true = (float(v.flat[worst]) if v.size else 0.0 for v in (errors, h, t))
        index = tuple(int(j) for j in np.unravel_index(worst, errors.shape)) if errors.size else ()
        digits = math.inf if error == 0 else -math.log10(error) if math.isfinite(error) else 0.0
        leaves.append(
            Leaf(
                path=path,
                verdict=verdict_of(over, 1),
                digits=digits,
                index=index,
                hand=by_hand,
                true=is_true,
                point=name,
                errors=errors,
            )
        )
    return tuple(leaves)


def remarks(cases: Case, standing: Standing, problem: Problem) -> Iterator[str]:
    """What the counts mean, in words."""
    sure = cases.finite & (cases.gap <= CONFIRMS)
    every = sum(problem.arguments.floats[i].size for i in problem.arguments.differentiated) <= ENTRIES
    how = "of every coordinate" if every else "along 3 random directions of each leaf"
    if sure.any():
        digits = -math.log10(max(float(np.median(cases.gap[sure])), 2.0**-60))
        yield f"differences {how} agree with autodiff in {sure.sum():,} cases, half of them to {shown(digits)} digits"
    blurred = cases.finite & ~sure & ~cases.contradicted
    if blurred.any():
        yield f"near a kink, or too rough for differences, in {blurred.sum():,} cases"
    at_kink, lost = standing.at_kink.sum(), standing.lost.sum()
    if at_kink:
        yield f"rule and jax.grad differ in {at_kink:,} cases where differences see a kink: both may be right"
    if lost:
        yield f"the gradient is small in {lost:,} cases, and fewer than 6 digits of it are above rounding"
    against = cases.finite & ~sure & cases.contradicted
    if against.any():
        yield f"differences contradict autodiff in {against.sum():,} cases, away from kinks: is there a stop_gradient?"
    if not cases.finite.all():
        yield f"{UNDEFINED} in {(~cases.finite).sum():,} cases: they are left out"
    tolerance = (standing.allowed / standing.scale)[cases.finite].max()
    yield f"decided in float64, to a measured tolerance of at most {tolerance:.1g} of a leaf"
