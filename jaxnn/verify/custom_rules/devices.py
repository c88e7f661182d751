"""A custom rule where examples are split over devices: inside `shard_map`, and on a mesh with explicit axes.

No device is needed. What JAX asks of types it asks while it traces; and what devices compute together inside
`shard_map`, `vmap` computes with a named axis in the place of theirs.
"""

from collections import Counter
from functools import partial

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.extend.core.primitives import copy_p, psum_p
from jax.interpreters.partial_eval import dce_jaxpr
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from jaxnn.verify.custom_rules.contract import unlike
from jaxnn.verify.tracing.jaxprs import own_derivative, rewritten

AXIS, DEVICES = "batch", 3
OVER = "tuple(sorted(jax.typeof({}).manual_axis_type.varying - jax.typeof({}).manual_axis_type.varying))"
PSUM = f"psum: return jax.lax.psum(d{{0}}, {OVER.format('d{0}', '{0}')})"
PCAST = f"pcast: return jax.lax.pcast(d{{0}}, {OVER.format('{0}', 'd{0}')}, to='varying')"
OUT_SHARDING = "out_sharding: write its product as jnp.matmul(…, out_sharding=jax.typeof({0}).sharding)"


def split_faults(g, args, dout, names):
    """(what is wrong with the rule of g where examples are split, what is to be known of it): sentences.

    g: a function of a list of arrays, of these names, to a list of arrays; its rule is taken at `args`, for the
    cotangents `dout`. Nothing is said where no examples are made out, nor where g fails without its rule as well.
    A rule that fails may not be meant for devices, which is noted; one that runs and gives something else is wrong."""
    wrong: list[str] = []
    notes: list[str] = []
    split = examples(args, dout)
    rule, plain = pull(g), pull(own_derivative(g)[0])
    for where, mode, hint, whose in MODES if split else ():
        where += f", {', '.join(names[i] for i in split)} split over devices,"
        trace = partial(mode, args, dout)
        if failure(trace, split, plain):
            continue
        if error := failure(trace, split, rule):
            lacks = hint(trace, split, rule, names) or f"the rule fails: {str(error).strip().partition(chr(10))[0]}"
            notes.append(f"{where} {lacks}")
        elif others := differs(trace(split, rule), args, dout, split, rule, whose):
            its = " and of ".join(names[i] for i in others)
            wrong.append(f"{where} it gives another cotangent of {its}: there the {whose} sums over devices")
    return wrong, notes


def examples(args, dout):
    """Which args carry examples: their first axis is as long as that of the first output or, where outputs are single
    numbers, as that of more args than any other length."""
    outputs = [len(v) for v in dout if v.ndim]
    (length, n), (_, next_n) = [*Counter(len(v) for v in args if v.ndim).most_common(2), (0, 1), (0, 1)][:2]
    length = outputs[0] if outputs else length if n > next_n else 0
    return [i for i, v in enumerate(args) if v.ndim and len(v) == length]


def pull(g):
    """(args, dout) -> the cotangents of args. As a gradient: g may have outputs that are the same on every device."""
    return jax.grad(lambda args, dout: sum((v * d).sum().astype(float) for v, d in zip(g(args), dout, strict=True)))


def in_shard_map(args, dout, split, f, check):
    """The jaxpr of f(args, dout) on a device, which has its own dout and its own `split` args."""
    traced = []

    def each(args, dout):
        own = lambda v: lax.pcast(v, AXIS, to="varying")  # noqa: E731
        args = [own(v) if i in split else v for i, v in enumerate(args)]
        traced.append(jax.make_jaxpr(f)(args, [own(v) for v in dout]))

    mesh, every = AbstractMesh((DEVICES,), (AXIS,), axis_types=(AxisType.Auto,)), PartitionSpec()
    jax.eval_shape(jax.shard_map(each, mesh=mesh, in_specs=every, out_specs=every, check_vma=check), args, dout)
    return traced[0]


def on_explicit_mesh(args, dout, split, f):
    """The jaxpr of f(args, dout) where the `split` args and dout are split. A mesh of 1 divides every length, and has
    the types that any has."""
    mesh = AbstractMesh((1,), (AXIS,), axis_types=(AxisType.Explicit,))
    lengths = {len(args[i]) for i in split}

    def placed(v, own):
        spec = PartitionSpec(AXIS) if own else PartitionSpec()
        return jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=NamedSharding(mesh, spec))

    return jax.make_jaxpr(f)(
        [placed(v, i in split) for i, v in enumerate(args)], [placed(v, v.ndim and len(v) in lengths) for v in dout]
    )


def differs(traced, args, dout, split, rule, whose):
    """For which args devices that run `traced` together give something else than the rule with each one's share."""
    if not traced.effects:  # no collective: each computes as if alone
        return []
    together = jax.vmap(jaxpr_as_fun(ClosedJaxpr(rewritten(traced.jaxpr, untyped), traced.consts)), axis_name=AXIS)
    shares = [[jnp.asarray(np.roll(v, k, 0)) if i in split else v for i, v in enumerate(args)] for k in range(DEVICES)]
    douts = [dout, [v / 2 for v in dout], [-v for v in dout]]
    try:
        ours = jax.jit(together)(*map(np.stack, [*zip(*shares, strict=True), *zip(*douts, strict=True)]))
    except Exception:  # that a rule has no vmap is noted elsewhere
        return []
    true = [np.stack(v) for v in zip(*map(rule, shares, douts), strict=True)]
    for i in {*range(len(args))} - {*split}:
        ours[i], true[i] = ours[i][0] if whose == "rule" else ours[i].sum(0), true[i].sum(0)
    return unlike(ours, true)


def untyped(eqn):
    """Under vmap no type says what varies."""
    if eqn.primitive.name == "pvary":
        return eqn.replace(primitive=copy_p, params={})
    if eqn.primitive.name == "psum_invariant":
        return eqn.replace(primitive=psum_p, params={"axis_index_groups": None, **eqn.params})
    return eqn


def lacks_types(trace, split, rule, names):
    """Which cotangents vary with the device though their args do not, or the other way round."""
    every = range(len(names))
    same = [failure(trace, [j for j in every if j != i], rule) for i in every]
    if failure(trace, every, rule):
        return lacking([names[i] for i in every if not same[i]], PCAST)
    return lacking([names[i] for i in every if i not in split and same[i]], PSUM)


def lacks_sharding(trace, split, rule, names):
    """Which cotangents fail alone too."""
    with jax.disable_jit():  # what is jitted would keep the types that it is traced with
        if failure(trace, (), rule):
            return ""
        together = trace((), rule)  # nothing is split, and the rule gives every out_sharding that it has

    def alone(i):
        jaxpr, _ = dce_jaxpr(together.jaxpr, [j == i for j in range(len(names))], instantiate=True)
        return lambda args, dout: jaxpr_as_fun(ClosedJaxpr(jaxpr, together.consts))(*args, *dout)

    return lacking([name for i, name in enumerate(names) if failure(trace, split, alone(i))], OUT_SHARDING)


def lacking(names, what):
    if not names:
        return ""
    w = names[0] if names[0].isidentifier() else "w"
    return f"the cotangent of {' and of '.join(names)} lacks its {what.format(w)}"


def failure(f, *args):
    """The error that f(*args) raises."""
    try:
        f(*args)
    except Exception as error:  # whatever a user's rule says
        return error


MODES = (
    ("inside shard_map with check_vma=True", partial(in_shard_map, check=True), lacks_types, "rule"),
    ("inside shard_map with check_vma=False", partial(in_shard_map, check=False), lacks_types, "caller"),
    ("on an explicit mesh", on_explicit_mesh, lacks_sharding, "compiler"),
)
