"""From two functions and some points to a verdict."""

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import flint
import jax
import numpy as np
from jax import numpy as jnp

from jaxnn.verify import branches, kinks
from jaxnn.verify.balls import enter, midpoints
from jaxnn.verify.exact import PRECISIONS, Evaluation, TooLarge, Undecided, Unsupported
from jaxnn.verify.judge import DIGITS, Judgement, judge, scales
from jaxnn.verify.points import KINDS, WIDE, redraw, seed_of
from jaxnn.verify.report import FAIL, INCONCLUSIVE, PASS, Grade, Leaf, Point, Report, Witness, differs, shown
from jaxnn.verify.sides import Problem, Sides, difference, random_direction, run, sides

SECONDS = 30.0  # of exact arithmetic; what is left then is decided in floating point
ROUNDINGS = ((), ("literals",), ("literals", "inputs"))


@dataclass(frozen=True)
class Options:
    """What all checks take."""

    key: Any = 0
    points: str = "auto"
    draw: Callable | None = None
    digits: float | None = None
    require: str | None = None
    strict: bool = False
    reference: Callable | None = None

    def __post_init__(self):
        if self.points not in ("auto", "given"):
            raise ValueError(f"points is {self.points!r}: use 'auto' (redraw the parameters) or 'given'.")
        if self.require not in (None, "exact"):
            raise ValueError(f"require is {self.require!r}: use 'exact', or leave it out.")
        if self.digits is not None and not 0 < self.digits <= 1000:
            raise ValueError(f"digits is {self.digits}: it must be a positive number, 12 when left out.")


@dataclass(frozen=True)
class Outcome:
    """What was found at one point."""

    kind: str
    verdict: str
    reason: str
    judged: tuple[Judgement, ...] = ()
    sides: dict = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    evidence: str = "exact"
    floats: tuple = ()
    rounded: tuple = ()  # what stands for the reals within half an ulp

    @property
    def digits(self):
        return min((j.digits for j in self.judged), default=math.nan)


def decide(problem: Problem, options: Options, replay: str, again: Callable, others: list[Problem]):
    """The `Report` on a problem; on the same at other arguments, `others`; and at again(args) for drawn args."""
    start = time.monotonic()
    deadline = start + SECONDS
    rng = np.random.default_rng(seed_of(options.key))
    outcomes: list[Outcome] = []
    roundings = [ROUNDINGS]

    def visit(kind, problem, both, name=None):
        its = problem.arguments
        dtypes = [v.dtype for v in its.floats] if both.numpy else its.dtypes
        for trial in (kind, "near"):  # a formula need not be defined everywhere: then closer to what was given
            floats = redraw(trial, its.floats, dtypes, problem.redrawn, problem.always, rng)
            outcome = at_point(name or trial, problem, both, floats, options, deadline, roundings[0])
            if outcome.reason != UNDEFINED or kind == "given":
                break
        outcomes.append(outcome)
        if outcome.verdict == PASS and outcome.rounded:  # where constants are rounded, they are at every point
            roundings[0] = ROUNDINGS[1:]

    both = sides(problem)
    visit("given", problem, both)
    if options.points == "auto":
        for kind in KINDS if problem.redrawn else KINDS[:1] if problem.always else ():
            if not failed(outcomes):
                visit(kind, problem, both)
        for other in others:
            if not failed(outcomes):
                visit("generic", other, sides(other), "one example")
        for i in range(3 if options.draw else 0):
            drawn = again(options.draw(jax.random.key(int(rng.integers(2**31)))))
            for kind in ("given", "generic"):
                if not failed(outcomes):
                    visit(kind, drawn, sides(drawn), f"drawn {i + 1}" if kind == "given" else f"drawn {i + 1}, generic")
        for scale in WIDE if problem.redrawn else ():
            if not failed(outcomes) and unseen(outcomes) and time.monotonic() < start + SECONDS / 2:
                visit(f"wide ×{scale:g}", problem, both)
    return report(problem, both, outcomes, options, replay, start)


UNDEFINED = "the true value is not finite"


def failed(outcomes):
    return any(o.verdict == FAIL for o in outcomes)


def counted(outcomes):
    sides = defaultdict(set)
    for o in outcomes:
        for site, seen in o.sides.items():
            sides[site] |= seen
    return sides


def unseen(outcomes):
    return any(b.unseen for b in branches.table(counted(outcomes)) if not b.special)


def at_point(kind, problem, both, floats, options, deadline, roundings):
    """The `Outcome` at these values of the float leaves: by balls if that can be, else in floating point."""
    if both.claim is None:
        return black_box(kind, problem, both, floats, options, deadline)
    try:
        return exactly(kind, problem, both, floats, options, deadline, roundings)
    except Unsupported as error:
        return in_floats(kind, problem, floats, options, f"{error} has no rule in ball arithmetic")
    except TooLarge as error:
        return in_floats(kind, problem, floats, options, f"too large for ball arithmetic ({error})")


def exactly(kind, problem, both, floats, options, deadline, roundings):
    """Literals and inputs as the exact numbers that they are; where that proves a difference, as the reals that they
    were rounded from: 1/3 and 0.1 are no floats, and rows such as .1 .2 .7 sum to 1 up to rounding alone."""
    outcome = None
    for rounded in roundings:
        digits = options.digits or DIGITS
        if rounded:
            unit = max(map(eps, [v.dtype for v in floats])) if "inputs" in rounded else eps_of(both)
            digits = options.digits or min(digits, -math.log10(1024 * unit))
            if "inputs" in rounded and max(j.errors.max(initial=0) for j in outcome.judged) > 64 * unit:
                return outcome
        before, outcome = outcome, at_rounding(kind, problem, both, floats, digits, rounded, deadline)
        if outcome.verdict != FAIL:
            return outcome
    return before


def at_rounding(kind, problem, both, floats, digits, rounded, deadline):
    """Precision is doubled until every entry is decided, or it no longer helps."""
    judged, reason, widest = [], "precision: a decision between values that are too close", math.inf
    for precision in PRECISIONS:
        ev = Evaluation(precision, rounded, deadline=deadline)
        balls = entered(ev, floats, problem)
        with flint.ctx.workprec(precision):
            try:
                true = both.truth(ev, balls)
                met = dict(ev.ties.met)
                hand = both.claim(ev, balls)
            except Undecided:
                continue
            judged = [judge(h, t, s, digits) for h, t, s in zip(hand, true, scales(true), strict=True)]
        verdicts = {j.verdict for j in judged}
        if FAIL in verdicts:
            break
        if verdicts <= {PASS}:
            break
        reason = next(j.reason for j in judged if j.verdict == INCONCLUSIVE)
        width = max(j.errors.max(initial=0) for j in judged)
        if reason == UNDEFINED or (width < math.inf and not width < widest / 2):
            break
        widest = width
    if not judged:
        return Outcome(kind, INCONCLUSIVE, reason, floats=tuple(floats))
    seen = sides_of(ev, balls, [*true, *hand])
    found = Outcome(kind, PASS, "", tuple(judged), seen, floats=tuple(floats), rounded=rounded)
    asked = [balls[i] for i in problem.arguments.differentiated]
    ties = kinks.kinks(met, ev.steps, branches.dependent(ev.steps, asked)) if not both.numpy else met
    if ties and FAIL in verdicts and both.numpy:
        return replace(found, verdict=INCONCLUSIVE, reason="at a kink")
    if ties and not both.numpy and INCONCLUSIVE not in verdicts:

        def truth(choice):
            again = Evaluation(precision, rounded, choice, deadline)
            return both.truth(again, entered(again, floats, problem))

        sentence = kinks.explained(hand, true, truth, ties, digits)
        if sentence:
            agreed = tuple(j if j.verdict == PASS else j._replace(verdict=PASS, digits=math.inf, errors=0 * j.errors)
                           for j in judged)
            return replace(found, judged=agreed, notes=(f"{kind}: {sentence}",))
    if FAIL in verdicts:
        worst = min((j for j in judged if j.verdict == FAIL), key=lambda j: j.digits)
        return replace(found, verdict=FAIL, reason=worst.reason)
    if INCONCLUSIVE in verdicts:
        return replace(found, verdict=INCONCLUSIVE, reason=reason)
    return found


def entered(ev, floats, problem):
    """The inputs of an evaluation. What was drawn is exactly what it is; only what was given can have been rounded."""
    drawn = {*problem.redrawn, *problem.always}
    return [enter(v, "inputs" in ev.rounded and i not in drawn) for i, v in enumerate(floats)]


def sides_of(ev, inputs, outputs):
    seen = branches.seen(ev.steps, inputs, outputs)
    for place, name, truth in ev.sides:
        seen[place, name].add("true" if truth else "false")
    return seen


def eps(dtype):
    return float(jnp.finfo(dtype).eps)


def eps_of(both):
    return eps(np.float64 if both.mode is None or both.mode.x64 else np.float32)


# In floating point


def as_judged(hand, true, tolerances, scale):
    """Judgements of arrays of floats: equal within a tolerance of the scale."""
    out = []
    for h, t, tolerance, s in zip(hand, true, tolerances, scale, strict=True):
        errors = np.abs(np.asarray(h, np.float64) - t) / s
        worst = int(np.argmax(np.where(np.isnan(errors), np.inf, errors))) if errors.size else 0
        error = errors.ravel()[worst] if errors.size else 0.0
        verdict = PASS if error <= tolerance else FAIL if not error <= 16 * tolerance else INCONCLUSIVE
        values = [float(np.ravel(v)[worst]) if errors.size else 0.0 for v in (h, t)]
        index = tuple(int(i) for i in np.unravel_index(worst, errors.shape)) if errors.size else ()
        digits = -math.log10(error) if error > 0 else math.inf if error == 0 else 0.0
        out.append(Judgement(verdict, digits, "", index, *values, errors))
    return tuple(out)


def float_scales(true):
    own = [float(np.abs(v).max(initial=0)) for v in true]
    return [v or max(own) or 1.0 for v in own]


def summed_up(kind, judged, evidence, floats, note):
    verdicts = {j.verdict for j in judged}
    verdict = FAIL if FAIL in verdicts else INCONCLUSIVE if INCONCLUSIVE in verdicts else PASS
    reason = "within what the precision allows, or not: too close to say" if verdict == INCONCLUSIVE else ""
    return Outcome(kind, verdict, reason, judged, {}, (note,), evidence, tuple(floats))


def in_floats(kind, problem, floats, options, why):
    """Hand rule against autodiff in float64, within 256 times the error that float32 is seen to make, scaled down."""
    if options.require == "exact":
        return Outcome(kind, INCONCLUSIVE, f"{why}, and require='exact'", floats=tuple(floats))
    try:
        hand = run(problem.claim, floats, np.float64)
        true = run(problem.truth, floats, np.float64)
        coarse = run(problem.truth, floats, np.float32)
    except Exception as error:  # whatever a user's function raises in a dtype that it was not written for
        return Outcome(kind, INCONCLUSIVE, f"{why}, and it does not run in float64: {first_line(error)}", floats=tuple(floats))
    scale = float_scales(true)
    if not all(np.isfinite(t).all() for t in true):
        return Outcome(kind, INCONCLUSIVE, UNDEFINED, floats=tuple(floats))
    noise = [np.abs(c - t).max(initial=0) / s for c, t, s in zip(coarse, true, scale, strict=True)]
    tolerances = [256 * max(n * 2.0**-29 if np.isfinite(n) else 0.0, 2.0**-52) for n in noise]
    judged = as_judged(hand, true, tolerances, scale)
    note = f"{why}: decided in float64, to a measured tolerance of {max(tolerances):.1g}"
    return summed_up(kind, judged, "float64", floats, note)


def black_box(kind, problem, both, floats, options, deadline):
    """A rule that cannot be traced, in its own dtype, against the exact truth: it may err as autodiff does in that
    dtype, and as the dtype's resolution allows, 16 times over."""
    if options.require == "exact":
        return Outcome(kind, INCONCLUSIVE, "the rule cannot be traced, and require='exact'", floats=tuple(floats))
    hand = run(problem.claim, floats)
    ev = Evaluation(deadline=deadline)
    try:
        true = [midpoints(v) for v in both.truth(ev, [ev.enter(v) for v in floats])]
        note = "the rule cannot be traced: it ran as a black box, against the exact truth"
    except (Unsupported, TooLarge, Undecided) as error:
        true = run(problem.truth, floats, np.float64)
        note = f"the rule cannot be traced, the truth not be evaluated exactly ({error}): float64 is the truth"
    scale = float_scales(true)
    if not all(np.isfinite(t).all() for t in true):
        return Outcome(kind, INCONCLUSIVE, UNDEFINED, floats=tuple(floats))
    resolution = [eps(h.dtype) for h in hand]
    try:
        peer = run(problem.truth, floats)
        noise = [np.abs(p - t).max(initial=0) / s for p, t, s in zip(peer, true, scale, strict=True)]
    except Exception:  # a NumPy cost has no autodiff
        noise = [100 * r for r in resolution]
    judged = as_judged(hand, true, [16 * max(n, r) for n, r in zip(noise, resolution, strict=True)], scale)
    return summed_up(kind, judged, "dtype", floats, note)


def first_line(error):
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


# The verdict


def report(problem, both, outcomes, options, replay, start):
    settled = counted([o for o in outcomes if o.verdict == PASS])
    table = branches.table(counted(outcomes))
    blind = [o for o in outcomes if o.verdict == INCONCLUSIVE]
    uncovered = [o for o in blind if any(seen - settled[site] for site, seen in o.sides.items())]
    notes = tuple(dict.fromkeys(note for o in outcomes for note in o.notes)) + tuple(rounding_notes(outcomes))
    wrong = next((o for o in outcomes if o.verdict == FAIL), None)
    leaves = leaves_of(problem, outcomes)
    left = [b for b in table if b.unseen and not b.special]
    if wrong:
        verdict, reason = FAIL, why_wrong(leaves, wrong)
    elif not any(o.verdict == PASS for o in outcomes):
        verdict, reason = INCONCLUSIVE, blind[0].reason
    elif uncovered:
        verdict, reason = INCONCLUSIVE, f"at {uncovered[0].kind}: {uncovered[0].reason}"
    elif options.strict and left:
        verdict, reason = INCONCLUSIVE, f"strict: no point reached {left[0].unseen[0]} of {left[0].kind} at {left[0].place}"
    else:
        verdict, reason = PASS, ""
    evidence = next((e for e in ("dtype", "float64") if any(o.evidence == e for o in outcomes)), "exact")
    digits = min((o.digits for o in outcomes if o.verdict == verdict), default=math.nan)
    if verdict == PASS:
        n = sum(o.verdict == PASS for o in outcomes)
        reason = f"right, {'all' if digits == math.inf else shown(digits)} digits agree at {n} point{'s' * (n > 1)}"
    witnesses, said = testimony(problem, both, outcomes, wrong, options)
    return Report(
        problem.title,
        verdict,
        " ".join([reason, *said]),
        evidence,
        digits,
        leaves,
        tuple(Point(o.kind, o.verdict, o.reason, o.digits) for o in outcomes),
        table,
        witnesses,
        notes + tuple(equal_sizes(problem)),
        replay,
        time.monotonic() - start,
        lambda: grades(problem, both, outcomes),
    )


def rounding_notes(outcomes):
    for rounded in ROUNDINGS[1:]:
        at = [o for o in outcomes if o.verdict == PASS and o.rounded == rounded]
        if at:
            what = "of the inputs" if "inputs" in rounded else "of written constants such as 0.1 or 1/3"
            yield f"equal up to the rounding {what}, {shown(min(o.digits for o in at))} digits, at {', '.join(o.kind for o in at)}"


def why_wrong(leaves, outcome):
    wrong = sorted((leaf for leaf in leaves if leaf.verdict == FAIL), key=lambda leaf: leaf.digits)
    worst = wrong[0]
    more = f" ({', '.join(leaf.path for leaf in wrong[1:])} too)" if wrong[1:] else ""
    how = "is not finite" if not math.isfinite(worst.hand) else f"differs {differs(worst.digits)}"
    return f"{worst.path} {how}{more}; at {outcome.kind}."


def leaves_of(problem, outcomes):
    """Each leaf where it agrees least: at the first point that is wrong, else at the least accurate one."""
    out = []
    judged = [o for o in outcomes if o.judged]
    for k, path in enumerate(problem.paths):
        order = {FAIL: 0, INCONCLUSIVE: 1, PASS: 2}
        decided = any(o.judged[k].verdict == PASS for o in judged)
        at = [o for o in judged if not (decided and o.judged[k].verdict == INCONCLUSIVE)]
        if at:
            o = min(at, key=lambda o: (order[o.judged[k].verdict], o.judged[k].digits))
            j = o.judged[k]
            out.append(Leaf(path, j.verdict, j.digits, j.index, j.hand, j.true, o.kind, j.errors))
    return tuple(out)


def testimony(problem, both, outcomes, wrong, options):
    """The other witnesses at the point that matters, and what follows from who agrees with whom."""
    outcome = wrong or next((o for o in reversed(outcomes) if o.kind == "generic"), outcomes[0])
    if not outcome.judged or problem.scalar is None or both.numpy:
        return (), []
    return (), []


def equal_sizes(problem):
    """Which sizes are equal, so that a formula that confuses them cannot be told from a right one."""
    floats = [v for v in problem.arguments.floats if v.ndim]
    sizes = sorted({n for v in floats for n in v.shape if n > 1})
    if len(sizes) > 1 or not floats:
        square = sorted({n for v in floats for a, n in enumerate(v.shape) for b in range(a) if v.shape[b] == n and n > 1})
        if square:
            yield f"two sizes are equal ({', '.join(map(str, square))}): 1/n for the one and for the other are the same here"


# Precision


def grades(problem, both, outcomes):
    """Hand rule and autodiff, each jitted on the default device in each dtype, against the exact truth at a generic point."""
    outcome = next((o for o in outcomes if o.kind in ("generic", "given", "near") and o.verdict != INCONCLUSIVE), None)
    if outcome is None or both.numpy or both.mode is None:
        return ()
    out: list[Grade] = []
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float64):
        floats = [np.asarray(np.asarray(v, dtype), np.float64) for v in outcome.floats]
        ev = Evaluation()
        try:
            true = [midpoints(v) for v in both.truth(ev, [enter(v) for v in floats])]
            pair = [jitted(f, floats, dtype) for f in (problem.claim, problem.truth)]
        except Exception:  # a function need not run in every dtype; it is then not graded there
            continue
        for k, (path, s) in enumerate(zip(problem.paths, float_scales(true), strict=True)):
            errors = [float(np.max(np.abs(np.asarray(v[k], np.float64) - true[k]), initial=0)) / s for v in pair]
            numbers = itertools.chain(*((-math.log10(e) if e > 0 else math.inf, e / eps(dtype)) for e in errors))
            out.append(Grade(path, jnp.dtype(dtype).name, *numbers))
    return tuple(out)


def jitted(f, floats, dtype):
    with jax.enable_x64(dtype == jnp.float64), jax.default_matmul_precision("highest"):
        values = [jnp.asarray(v, dtype) for v in floats]
        return jax.jit(f)(values)


