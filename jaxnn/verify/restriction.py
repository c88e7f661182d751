"""A problem within the domains of its arguments: they are drawn there and, if the user says so, move there alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jax import numpy as jnp
from jax.extend.core import Jaxpr, Var, jaxprs_in_params
from jax.tree_util import tree_flatten_with_path

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import Arguments, Problem
from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.domains import (
    CURVED,
    DEFINITE,
    NAMED,
    SORTED,
    SYMMETRIC,
    Domain,
    Interval,
    plain,
    values_of,
    within_interval,
)
from jaxnn.verify.evidence.comparison import run
from jaxnn.verify.options import Options
from jaxnn.verify.tracing.jaxprs import IN_FLOAT64, trace

Domains = Mapping[int, Domain]  # of float leaves, by their numbers
ORDERING = {
    *("sort", "top_k", "approx_top_k", "argmax", "argmin", "reduce_max", "reduce_min", "cummax", "cummin"),
    *("reduce_window_max", "reduce_window_min"),
}


def within(problem: Problem, options: Options) -> Problem:
    """The problem whose arguments are drawn in the domains that the user names, and compared along the changes that
    stay there. What other arguments plainly are is kept where they are drawn, and does not change what is compared,
    except for a symmetric matrix of which the forward pass reads one triangle alone.

    ValueError: `domain` names no argument that is differentiated, or no domain, or an argument is not in its own.
    """
    arguments = problem.arguments
    said = named_domains(problem, options.domain)
    named = {i: d for i, d in said.items() if d}
    kept: dict[int, Domain] = {}
    for i in problem.redrawable:
        d = None if i in said else plain(as_float64(arguments, i), eps(arguments, i))
        if d and not (d is SORTED and orders(problem, i)):
            kept[i] = d
    triangles = {i: SYMMETRIC for i, d in kept.items() if d in (SYMMETRIC, DEFINITE) and reads_a_triangle(problem, i)}
    notes = [f"{arguments.name(i)} moves within the domain {d.name!r} alone" for i, d in named.items() if not d.is_open]
    notes += [words_of_triangle(problem, i) for i in triangles]
    for i, d in kept.items() if options.points == "auto" else ():
        notes.append(f"{arguments.name(i)} is drawn in the domain {d.name!r}, as it is given: domain= says otherwise")
    drawn = tuple(sorted({*problem.redrawable, *named}))
    problem = replace(problem, domains=kept | named, redrawable=drawn, notes=(*problem.notes, *notes))
    return restricted(problem, triangles | named)


def restricted(problem: Problem, domains: Domains) -> Problem:
    """The problem in the variables u, where a = onto(u) for each of these leaves, if its domain is not open: by the
    chain rule, both sides lose what leads out of it. Where tangents are inputs, they are pushed along."""
    curved = {i: d for i, d in domains.items() if not d.is_open}
    if not curved:
        return problem
    scalar, differentiated = problem.scalar, problem.arguments.differentiated
    tangents = {} if scalar else dict(zip(differentiated, problem.cotangents, strict=False))

    def onto(floats: list) -> list:
        new = list(floats)
        for i, d in curved.items():
            new[i] = d.onto(floats[i])
            if i in tangents:
                new[tangents[i]] = d.tangent(floats[i], floats[tangents[i]])
        return new

    def along(f: Callable[..., list]) -> Callable[..., list]:
        def of(floats: list, **own: Callable) -> list:
            out = list(f(onto(floats), **own))
            for k, i in enumerate(differentiated):
                if scalar and i in curved:
                    out[k] = curved[i].tangent(floats[i], out[k])
            return out

        return of

    return replace(
        problem,
        claim=along(problem.claim),
        truth=along(problem.truth),
        scalar=None if scalar is None else lambda floats: scalar(onto(floats)),
        by_autodiff=None if problem.by_autodiff is None else along(problem.by_autodiff),
        along=along,
    )


# What the user says


class Entry(NamedTuple):
    """What `domain` says of one argument, or of a part of it: the keys that lead there."""

    keys: tuple[str | int, ...]
    domain: PyTree
    leaves: list[int]  # that are found there


def named_domains(problem: Problem, domain: PyTree) -> dict[int, Domain | None]:
    """The domain of each float leaf that `domain` names, or None for a leaf that it leaves free."""
    arguments = problem.arguments
    entries = list(entries_of(domain)) if domain is not None else []
    domains: dict[int, Domain | None] = {}
    for i in arguments.differentiated:
        names = names_of(arguments, i)
        for entry in entries:
            if any(name[: len(entry.keys)] == entry.keys for name in names):
                domains[i] = domain_of(entry.domain, arguments, i)
                entry.leaves.append(i)
    for entry in entries:
        if not entry.leaves:
            leaves = ", ".join(arguments.name(i) for i in arguments.differentiated)
            keys = ", ".join(map(str, entry.keys))
            raise ValueError(
                f"domain= names {keys}, and there is no such array among those to differentiate: {leaves}."
            )
    return domains


def names_of(arguments: Arguments, i: int) -> list[tuple[PyTree, ...]]:
    """The keys by which a float leaf can be named: those of its tree, alone or after the number or the name of its
    argument; or as reports print it."""
    path = tree_flatten_with_path(arguments.build(arguments.floats))[0][arguments.float_leaves[i]][0]
    _, *keys = (getattr(key, "key", getattr(key, "idx", getattr(key, "name", None))) for key in path)
    number = arguments.argument_of[i]
    names: list[tuple[PyTree, ...]] = [(number, *keys), (arguments.names[number], *keys)]
    names += [tuple(keys)] if keys and isinstance(keys[0], str) else []
    return [*names, (arguments.name(i),), (arguments.paths[i],)]


def entries_of(domain: PyTree, keys: tuple[str | int, ...] = ()) -> Iterator[Entry]:
    """The entries of a domain for all arguments, of a tuple of domains by argument, or of a dict of domains by name;
    for an argument that is a tree, again a tuple or a dict."""
    if isinstance(domain, Mapping):
        for key, part in domain.items():
            yield from entries_of(part, (*keys, key))
    elif isinstance(domain, (tuple, list)):
        for n, part in enumerate(domain):
            yield from entries_of(part, (*keys, n))
    else:
        yield Entry(keys, domain, [])


def domain_of(domain: PyTree, arguments: Arguments, i: int) -> Domain | None:
    """The domain of a float leaf, which the user gave by name, as an interval or as a function; None if it is free."""
    name, v = arguments.name(i), as_float64(arguments, i)
    if domain is None:
        return None
    if isinstance(domain, str) and domain in NAMED:
        named = NAMED[domain]
    elif isinstance(domain, Interval):
        named = within_interval(domain)
    elif callable(domain):
        named = values_of(domain, v, eps(arguments, i))
    else:
        known = ", ".join(map(repr, NAMED))
        raise ValueError(
            f"domain= gives {domain!r} for {name}: use {known}, a verify.Interval, or a function that brings drawn "
            "numbers there."
        )
    if not named.has(v, eps(arguments, i) ** 0.5):
        raise ValueError(f"{name} does not lie in the domain {named.name!r} as it is given: give arguments that do.")
    return named


def as_float64(arguments: Arguments, i: int) -> np.ndarray:
    return np.asarray(arguments.floats[i], np.float64)


def eps(arguments: Arguments, i: int) -> float:
    """The rounding of a float leaf, in the dtype that JAX gives it."""
    return float(jnp.finfo(arguments.dtypes[i]).eps)


# What the user might say


def restrictions(problem: Problem, floats: Sequence[np.ndarray]) -> Iterator[tuple[str, Problem]]:
    """(in words, the problem within it) of each domain of fewer dimensions that an argument lies in at these floats."""
    arguments = problem.arguments
    for i in arguments.differentiated:
        for d in CURVED:
            if d.has(np.asarray(floats[i], np.float64), eps(arguments, i)):
                yield written(arguments, i, d), restricted(problem, {i: d})


def lost_domains(problem: Problem, floats: Sequence[np.ndarray]) -> Iterator[str]:
    """In words, the domains in which the arguments lie as they are given, and not at these floats."""
    arguments = problem.arguments
    for i in arguments.differentiated:
        for d in NAMED.values():
            given, drawn = (d.has(np.asarray(v[i], np.float64), eps(arguments, i)) for v in (arguments.floats, floats))
            if given and not drawn:
                yield written(arguments, i, d)


def written(arguments: Arguments, i: int, domain: Domain) -> str:
    """The keyword that says it."""
    return f"domain={{{arguments.name(i)!r}: {domain.name!r}}}"


# What the forward pass reads


def orders(problem: Problem, i: int) -> bool:
    """Whether the forward pass orders the entries of a leaf itself, and so does not take their order for granted."""
    forward = problem.truth if problem.scalar is None else problem.cost
    try:
        jaxpr = trace(forward, problem.arguments, IN_FLOAT64).jaxpr
    except Exception:  # NumPy code, or code that insists on its own dtype
        return is_unchanged(problem, i, lambda v: v[..., ::-1])
    return has_order(jaxpr, {jaxpr.invars[i]})


def has_order(jaxpr: Jaxpr, touched: set[Var]) -> bool:
    """Whether an equation orders floats that depend on the variables `touched`."""
    for eqn in jaxpr.eqns:
        if touched.isdisjoint(v for v in eqn.invars if isinstance(v, Var)):
            continue
        if eqn.primitive.name in ORDERING and is_float(eqn.invars[0].aval):
            return True
        if any(has_order(inner, set(inner.invars)) for inner in jaxprs_in_params(eqn.params)):
            return True
        touched.update(eqn.outvars)
    return False


def reads_a_triangle(problem: Problem, i: int) -> bool:
    """Whether the cost does not change with one of the triangles of a leaf, and does with the other."""
    lower = is_unchanged(problem, i, lambda v: (7 * v + np.triu(v)) / 8)
    return lower != is_unchanged(problem, i, lambda v: (7 * v + np.tril(v)) / 8)


def is_unchanged(problem: Problem, i: int, change: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Whether the cost, in float64, is the same where a leaf is changed; False if there is none."""
    if problem.scalar is None:
        return False
    floats = generic_floats(problem)
    others = [change(v) if k == i else v for k, v in enumerate(floats)]
    try:
        (before,), (after,) = (run(problem.cost, values, np.float64) for values in (floats, others))
    except Exception:  # whatever a user's function raises at numbers that it was not written for
        return False
    return bool(before == after)


def generic_floats(problem: Problem) -> list[np.ndarray]:
    """The float leaves as they are given, and random cotangents."""
    rng = np.random.default_rng(0)
    floats = [as_float64(problem.arguments, i) for i in range(len(problem.arguments.floats))]
    for i in problem.cotangents:
        floats[i] = rng.normal(size=floats[i].shape)
    return floats


def words_of_triangle(problem: Problem, i: int) -> str:
    """That a leaf is compared along symmetric changes alone, and what this leaves out."""
    words = f"the forward pass reads one triangle of {problem.arguments.name(i)} alone: symmetric changes are compared"
    k, floats = problem.arguments.differentiated.index(i), generic_floats(problem)
    try:
        hand, true = (run(f, floats, np.float64)[k] for f in (problem.claim, problem.truth))
    except Exception:  # a rule that does not run in float64, or a cost in NumPy, which has no autodiff
        return words
    gap = np.abs(hand - true).max() / np.abs(true).max(initial=1e-300)
    return (
        f"{words}; beside them, it differs from autodiff by up to {gap:.2g} of its largest entry"
        if gap > 1e-6
        else words
    )
