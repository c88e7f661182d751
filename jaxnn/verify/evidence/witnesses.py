"""Other ways to the derivative, and what follows from who agrees with whom.

differences    of the forward pass alone, at high precision, along random directions: no derivative rule takes part
reference      a NumPy gradient that the user gave
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import flint
import numpy as np
from jax.extend.core import Jaxpr, jaxprs_in_params

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import Problem
from jaxnn.verify.arithmetic.balls import Balls, enter, finite, wrap
from jaxnn.verify.arithmetic.decisions import Undecided, Unsupported
from jaxnn.verify.arithmetic.evaluation import Evaluation
from jaxnn.verify.arithmetic.real_numbers import to_balls
from jaxnn.verify.evidence.comparison import Comparison, of_jaxpr, of_numpy
from jaxnn.verify.evidence.convergence import iterates
from jaxnn.verify.evidence.differences import BallFunction, difference, random_direction
from jaxnn.verify.evidence.judge import DIGITS, Allowed, agree, judgements
from jaxnn.verify.evidence.outcome import Outcome
from jaxnn.verify.options import Options
from jaxnn.verify.reports.findings import INCONCLUSIVE, PASS, Witness
from jaxnn.verify.tracing.jaxprs import trace, without_rules

PRECISIONS = (400, 1600, 6400)  # bits: the first that tells differences from the slopes, if they are not equal
FEWER = 6  # digits


class Testimony(NamedTuple):
    """The witnesses, and in sentences what follows. autodiff_is_wrong: autodiff is not the derivative of what is
    computed, though no stop_gradient says that it should not be."""

    witnesses: tuple[Witness, ...] = ()
    sentences: tuple[str, ...] = ()
    autodiff_is_wrong: bool = False


class Scene(NamedTuple):
    """Both sides at one point."""

    problem: Problem
    comparison: Comparison
    ev: Evaluation
    balls: list[Balls]
    hand: list[Balls]
    true: list[Balls]


def testimony(
    problem: Problem, comparison: Comparison, outcome: Outcome, options: Options, directions: int, deadline: float
) -> Testimony:
    """The `Testimony` at one point, by differences along so many directions; none at a tie. deadline: in seconds of
    `time.process_time`."""
    scenes = (scene_of(problem, comparison, outcome, precision, deadline) for precision in PRECISIONS)
    scene = next(scenes)
    if scene.ev.ties.pairs or not all(map(finite, [*scene.hand, *scene.true])):
        return Testimony()
    parts = [testimony_of_differences(chain([scene], scenes), directions)]
    with flint.ctx.workprec(scene.ev.precision):
        parts += [Testimony(sentences=tuple(custom_rules(scene)))]
        parts += [testimony_of_reference(scene, options.reference)] if options.reference else []
    return Testimony(
        tuple(chain.from_iterable(part.witnesses for part in parts)),
        tuple(chain.from_iterable(part.sentences for part in parts)),
        any(part.autodiff_is_wrong for part in parts),
    )


def scene_of(problem: Problem, comparison: Comparison, outcome: Outcome, precision: int, deadline: float) -> Scene:
    """Both sides at the point of an outcome, with so many bits."""
    assert comparison.claim is not None, "a black box has no witnesses"
    ev = Evaluation(precision, outcome.rounded[:1], deadline=deadline)
    balls = [enter(v) for v in outcome.floats]
    with flint.ctx.workprec(precision):
        hand, true = comparison.claim(ev, balls), comparison.truth(ev, balls)
    return Scene(problem=problem, comparison=comparison, ev=ev, balls=balls, hand=hand, true=true)


def testimony_of_differences(scenes: Iterable[Scene], directions: int) -> Testimony:
    """What differences of the forward pass say in the first scene that is precise enough; nothing if none is, if the
    forward pass is not known, or if it is not finite here."""
    for scene in scenes:
        comparison = scene.comparison
        if comparison.scalar_jaxpr is None or comparison.mode is None:
            return Testimony()
        with flint.ctx.workprec(scene.ev.precision):
            scalar = of_jaxpr(comparison.scalar_jaxpr, scene.problem.arguments, comparison.mode)
            if not all(map(finite, scalar(scene.ev, scene.balls))):
                return Testimony()
            witness = witness_of_differences(scene, scalar, directions)
            if witness is not None:
                return what_follows(witness, scene, has_stop(comparison.scalar_jaxpr.jaxpr))
    return Testimony()


def what_follows(witness: Witness, scene: Scene, stopped: bool) -> Testimony:
    """The testimony of differences. stopped: the forward pass has a stop_gradient."""
    if witness.agrees_with_truth:
        return Testimony((witness,))
    why = "the forward pass has a stop_gradient" if stopped else "autodiff is not the derivative of what is computed"
    sentences: tuple[str, ...] = ()
    if agree(scene.hand, scene.true):
        who = "Differences of the forward pass disagree with autodiff and the hand rule"
        sentences = (f"{who}: {why}, a surrogate gradient.",)
    elif witness.agrees_with_hand:
        sentences = (f"The hand rule is the derivative of what is computed, autodiff is not: {why}.",)
    return Testimony((witness,), sentences, autodiff_is_wrong=bool(sentences) and not stopped)


def witness_of_differences(scene: Scene, scalar: BallFunction, count: int) -> Witness | None:
    """The witness of differences along so many directions; None if they are too wide to tell."""
    slopes: list[PyTree] = []
    along_hand: list[PyTree] = []
    along_true: list[PyTree] = []
    wanted = scene.problem.arguments.differentiated
    for k in range(count):
        ways = {i: random_direction((k, i), scene.balls[i].shape) for i in wanted}
        slopes.append(difference(scalar, scene.ev, scene.balls, ways))
        for products, leaves in ((along_hand, scene.hand), (along_true, scene.true)):
            products.append(sum(np.sum(v * ways[i]) for i, v in zip(wanted, leaves, strict=False)))
    ours, hand, true = ([np.array(v, object)] for v in (slopes, along_hand, along_true))
    digits = digits_of(scene.comparison)
    if any(j.verdict == INCONCLUSIVE for j in judgements(ours, true, Allowed.of(digits))):
        return None
    return Witness("differences at high precision", *agreement(ours, hand, true, digits))


def digits_of(comparison: Comparison) -> float:
    """To how many digits autodiff is the derivative of the forward pass: fewer where the constants of derivative rules
    are those of float32, and where a rule of JAX's own is for what an iteration converges to."""
    assert comparison.mode is not None, "NumPy code has no autodiff"
    return DIGITS if comparison.mode.x64 and not iterates(comparison) else FEWER


def testimony_of_reference(scene: Scene, reference: Callable[..., PyTree]) -> Testimony:
    """What the user's gradient in NumPy says."""
    problem = scene.problem

    def answer(floats: list) -> list[PyTree]:
        return problem.listed(reference(*problem.arguments.build(floats)))

    try:
        leaves = of_numpy(answer)(scene.ev, scene.balls)
    except (Unsupported, Undecided):
        floats = [np.array([float(b.mid()) for b in v.flat]).reshape(v.shape) for v in scene.balls]
        leaves = [to_balls(v) for v in answer(floats)]
    n = len(leaves)
    witness = Witness("reference", *agreement([wrap(v) for v in leaves], scene.hand[:n], scene.true[:n], 9))
    if witness.agrees_with_truth:
        return Testimony((witness,))
    if witness.agrees_with_hand:
        return Testimony(
            (witness,), ("The reference agrees with the hand rule: the formula was derived wrongly in both.",)
        )
    return Testimony((witness,), ("The reference is wrong, and differently.",))


def custom_rules(scene: Scene) -> Iterator[str]:
    """What is to be said of custom derivative rules in the forward pass."""
    problem, comparison = scene.problem, scene.comparison
    if comparison.scalar_jaxpr is None or comparison.mode is None or problem.by_autodiff is None:
        return
    if iterates(comparison):  # an implicit rule is not the derivative of the iterates, and need not be
        return
    by_autodiff, names = problem.by_autodiff, list[str]()
    without_rules(comparison.scalar_jaxpr.jaxpr, names)
    if not names:
        return
    ruled = trace(lambda floats: by_autodiff(floats, own=lambda J: J), problem.arguments, comparison.mode)
    leaves = of_jaxpr(ruled, problem.arguments, comparison.mode)(scene.ev, scene.balls)
    if not agree(leaves, scene.true):
        whose = f"The custom rule of {', '.join(dict.fromkeys(names))} in the forward pass"
        also = ", and the hand rule agrees with it" if agree(scene.hand, leaves) else ""
        yield f"{whose} is not the derivative of what it computes (a surrogate gradient, or wrong){also}."


def agreement(
    leaves: list[Balls], hand: list[Balls], true: list[Balls], digits: float = 12
) -> tuple[bool, bool, float]:
    """(agrees with hand, agrees with truth, digits of the latter)."""
    to_truth = judgements(leaves, true, Allowed.of(digits))
    return agree(leaves, hand, digits), all(j.verdict == PASS for j in to_truth), min(j.digits for j in to_truth)


def has_stop(jaxpr: Jaxpr) -> bool:
    """Whether there is a stop_gradient in it."""
    here = any(eqn.primitive.name == "stop_gradient" for eqn in jaxpr.eqns)
    return here or any(map(has_stop, chain.from_iterable(jaxprs_in_params(eqn.params) for eqn in jaxpr.eqns)))
