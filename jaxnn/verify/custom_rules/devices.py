"""A custom rule where examples are split over devices: inside `shard_map`, and on a mesh with explicit axes.

No device is needed. What JAX asks of types it asks while it traces; and what devices compute together inside
`shard_map`, `vmap` computes with a named axis in the place of theirs.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax import Array, lax
from jax import numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn, jaxpr_as_fun
from jax.extend.core.primitives import copy_p, psum_p
from jax.interpreters.partial_eval import dce_jaxpr
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from jaxnn.protocols import PyTree
from jaxnn.verify.custom_rules.contract import Arrays, ArraysFunction, Faults, Rule, unlike
from jaxnn.verify.tracing.jaxprs import own_derivative, rewritten

AXIS, DEVICES = "batch", 3
OVER = "tuple(sorted(jax.typeof({}).manual_axis_type.varying - jax.typeof({}).manual_axis_type.varying))"
PSUM = f"psum: return jax.lax.psum(d{{0}}, {OVER.format('d{0}', '{0}')})"
PCAST = f"pcast: return jax.lax.pcast(d{{0}}, {OVER.format('{0}', 'd{0}')}, to='varying')"
OUT_SHARDING = "out_sharding: write its product as jnp.matmul(…, out_sharding=jax.typeof({0}).sharding)"

Trace = Callable[[Collection[int], Rule], ClosedJaxpr]  # (the split args, f) -> the jaxpr of f at given args and dout


class SummedBy(StrEnum):
    """Who adds up, over devices, the cotangents of an arg that is the same on all of them."""

    RULE = "rule"
    CALLER = "caller"
    COMPILER = "compiler"


class Splitting(NamedTuple):
    """A way in which examples are split over devices.

    name: in words. traced: (args, dout, split, f) -> the jaxpr of f there. lack: (trace, split, rule, names) -> what a
    rule that fails there may lack, in words, "" if that is not known.
    """

    name: str
    traced: Callable[[Arrays, Arrays, Collection[int], Rule], ClosedJaxpr]
    lack: Callable[[Trace, Collection[int], Rule, Sequence[str]], str]
    summed_by: SummedBy


def split_faults(g: ArraysFunction, args: Arrays, dout: Arrays, names: Sequence[str]) -> Faults:
    """The `Faults` of the rule of g where examples are split. The rule is taken at `args`, which have these names, for
    the cotangents `dout`.

    Nothing is said if no examples are made out, nor where g fails without its rule as well. A rule that fails may not
    be meant for devices, which is noted; one that runs and gives something else is wrong.
    """
    wrong: list[str] = []
    notes: list[str] = []
    split = args_with_examples(args, dout)
    rule, plain = rule_of(g), rule_of(own_derivative(g)[0])
    for splitting in SPLITTINGS if split else ():
        where = f"{splitting.name}, {', '.join(names[i] for i in split)} split over devices,"
        trace = partial(splitting.traced, args, dout)
        if failure(trace, split, plain):
            continue
        error = failure(trace, split, rule)
        if error:
            first_line, *_ = str(error).strip().split("\n")
            notes.append(f"{where} {splitting.lack(trace, split, rule, names) or f'the rule fails: {first_line}'}")
            continue
        others = different(trace(split, rule), args, dout, split, rule, splitting.summed_by)
        if others:
            which = " and of ".join(names[i] for i in others)
            wrong.append(
                f"{where} it gives another cotangent of {which}: there the {splitting.summed_by} sums over devices"
            )
    return Faults(tuple(wrong), tuple(notes))


def args_with_examples(args: Arrays, dout: Arrays) -> list[int]:
    """Which args carry examples: their first axis is as long as that of the first output or, if outputs are single
    numbers, as that of more args than any other length."""
    lengths = [len(v) for v in dout if v.ndim][:1]
    if not lengths:
        counts = Counter(len(v) for v in args if v.ndim).most_common(2)
        n, next_n = [*(n for _, n in counts), 1, 1][:2]
        lengths = [counts[0][0]] if n > next_n else []
    return [i for i, v in enumerate(args) if v.ndim and len(v) in lengths]


def rule_of(g: ArraysFunction) -> Rule:
    """The vector-Jacobian product of g. As a gradient: g may have outputs that are the same on every device."""

    def J(args: Arrays, dout: Arrays) -> Array | int:
        return sum((v * d).sum().astype(float) for v, d in zip(g(args), dout, strict=True))

    return jax.grad(J)


def in_shard_map(args: Arrays, dout: Arrays, split: Collection[int], f: Rule, check: bool) -> ClosedJaxpr:
    """The jaxpr of f(args, dout) on a device, which has its own dout and its own `split` args."""
    jaxprs = []

    def of_device(v: Array) -> Array:
        return lax.pcast(v, AXIS, to="varying")

    def on_device(args: Arrays, dout: Arrays) -> None:
        args = [of_device(v) if i in split else v for i, v in enumerate(args)]
        jaxprs.append(jax.make_jaxpr(f)(args, [of_device(v) for v in dout]))

    mesh, every = AbstractMesh((DEVICES,), (AXIS,), axis_types=(AxisType.Auto,)), PartitionSpec()
    jax.eval_shape(jax.shard_map(on_device, mesh=mesh, in_specs=every, out_specs=every, check_vma=check), args, dout)
    return jaxprs[0]


def on_explicit_mesh(args: Arrays, dout: Arrays, split: Collection[int], f: Rule) -> ClosedJaxpr:
    """The jaxpr of f(args, dout) where the `split` args and dout are split. A mesh of 1 divides every length, and has
    the types that any has."""
    mesh = AbstractMesh((1,), (AXIS,), axis_types=(AxisType.Explicit,))
    lengths = {len(args[i]) for i in split}

    def placed(v: Array, is_split: bool) -> jax.ShapeDtypeStruct:
        spec = PartitionSpec(AXIS) if is_split else PartitionSpec()
        return jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=NamedSharding(mesh, spec))

    placed_args = [placed(v, i in split) for i, v in enumerate(args)]
    return jax.make_jaxpr(f)(placed_args, [placed(v, v.ndim > 0 and len(v) in lengths) for v in dout])


def different(
    traced: ClosedJaxpr, args: Arrays, dout: Arrays, split: Collection[int], rule: Rule, summed_by: SummedBy
) -> list[int]:
    """For which args devices that run `traced` together give something else than the rule with each one's share."""
    if not traced.effects:  # no collective: each computes as if alone
        return []
    on_device = jaxpr_as_fun(ClosedJaxpr(rewritten(traced.jaxpr, without_types), traced.consts))

    def share(k: int) -> Arrays:
        return [jnp.asarray(np.roll(v, k, 0)) if i in split else v for i, v in enumerate(args)]

    shares = [share(k) for k in range(DEVICES)]
    douts = [dout, [v / 2 for v in dout], [-v for v in dout]]
    try:
        stacked = map(np.stack, [*zip(*shares, strict=True), *zip(*douts, strict=True)])
        ours = jax.jit(jax.vmap(on_device, axis_name=AXIS))(*stacked)
    except Exception:  # that a rule has no vmap is noted elsewhere
        return []
    true = [np.stack(v) for v in zip(*map(jax.jit(rule), shares, douts), strict=True)]
    for i in {*range(len(args))} - {*split}:
        ours[i] = ours[i][0] if summed_by == SummedBy.RULE else ours[i].sum(0)
        true[i] = true[i].sum(0)
    return unlike(ours, true)


def without_types(eqn: JaxprEqn) -> JaxprEqn:
    """The equation under vmap, where no type says what varies."""
    if eqn.primitive.name == "pvary":
        return eqn.replace(primitive=copy_p, params={})
    if eqn.primitive.name == "psum_invariant":
        return eqn.replace(primitive=psum_p, params={"axis_index_groups": None, **eqn.params})
    return eqn


def lack_of_types(trace: Trace, split: Collection[int], rule: Rule, names: Sequence[str]) -> str:
    """Which cotangents vary with the device though their args do not, or the other way round."""
    every = range(len(names))
    failures = [failure(trace, [j for j in every if j != i], rule) for i in every]
    if failure(trace, every, rule):
        return lack([names[i] for i in every if not failures[i]], PCAST)
    return lack([names[i] for i in every if i not in split and failures[i]], PSUM)


def lack_of_sharding(trace: Trace, split: Collection[int], rule: Rule, names: Sequence[str]) -> str:
    """Which cotangents fail alone too."""
    with jax.disable_jit():  # what is jitted would keep the types that it is traced with
        if failure(trace, (), rule):
            return ""
        together = trace((), rule)  # nothing is split, and the rule gives every out_sharding that it has

    def alone(i: int) -> Rule:
        jaxpr, _ = dce_jaxpr(together.jaxpr, [j == i for j in range(len(names))], instantiate=True)
        return lambda args, dout: jaxpr_as_fun(ClosedJaxpr(jaxpr, together.consts))(*args, *dout)

    return lack([name for i, name in enumerate(names) if failure(trace, split, alone(i))], OUT_SHARDING)


def lack(names: Sequence[str], what: str) -> str:
    """That the cotangents of these args lack something, and how to write it; "" if there are none."""
    if not names:
        return ""
    w = names[0] if names[0].isidentifier() else "w"
    return f"the cotangent of {' and of '.join(names)} lacks its {what.format(w)}"


def failure(f: Callable[..., PyTree], *args: PyTree) -> Exception | None:
    """The error that f(*args) raises, None if it raises none."""
    try:
        f(*args)
    except Exception as error:  # whatever a user's rule says
        return error
    return None


SPLITTINGS = (
    Splitting("inside shard_map with check_vma=True", partial(in_shard_map, check=True), lack_of_types, SummedBy.RULE),
    Splitting(
        "inside shard_map with check_vma=False", partial(in_shard_map, check=False), lack_of_types, SummedBy.CALLER
    ),
    Splitting("on an explicit mesh", on_explicit_mesh, lack_of_sharding, SummedBy.COMPILER),
)
