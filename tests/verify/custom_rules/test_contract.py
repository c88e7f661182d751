"""What is asked of a right custom rule: where examples are split over devices, too. As seen there on four of them."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxnn import verify
from jaxnn.verify.custom_rules.contract import faults

draw = np.random.default_rng(0).normal
X, W, B = (np.float32(draw(size=shape)) for shape in ((8, 3), (3, 2), (2,)))
PARAMS = {"W1": np.float32(draw(size=(5, 3))), "W2": np.float32(draw(size=(2, 5)))}


def custom(f, backward):
    rule = jax.custom_vjp(f)
    rule.defvjp(lambda *args: (f(*args), args), backward)
    return rule


def varying(v):
    return jax.typeof(v).manual_axis_type.varying


def match(dv, v):
    """The cotangent dv of v, summed over the mesh axes along which v is the same."""
    return lax.psum(dv, tuple(sorted(varying(dv) - varying(v))))


def matmul_like(a, b, v):
    return jnp.matmul(a, b, out_sharding=jax.typeof(v).sharding)


def affine(x, w, b):
    return x @ w + b[None]


def dense(dw=lambda x, d, w: x.T @ d, db=lambda d, b: d.sum(0)):
    def backward(residuals, d):
        x, w, b = residuals
        return d @ w.T, dw(x, d, w), db(d, b)

    return custom(affine, backward)


def averaged(dv, v):
    return lax.pmean(dv, tuple(varying(dv) - varying(v))) if varying(dv) - varying(v) else dv


def twice(dv, v):
    """Once more, over axes along which the sum is the same by then."""
    axes = tuple(varying(dv) - varying(v))
    return lax.psum(match(dv, v), axes) if axes else dv


def always(dv):
    axes = tuple(jax.sharding.get_abstract_mesh().manual_axes)
    return lax.psum(dv, axes) if axes else dv


def net(params, x):
    return x @ params["W1"].T @ params["W2"].T


def half_aware(residuals, d):
    params, x = residuals
    dz = d @ params["W2"]
    dW1 = match(matmul_like(dz.T, x, params["W1"]), params["W1"])
    return {"W1": dW1, "W2": d.T @ (x @ params["W1"].T)}, dz @ params["W1"]


def masked(x, mask):
    return jnp.sin(x) * lax.stop_gradient(mask)


def scaled(x, a):
    return x * a


def moments(x, w):
    """It contracts the examples, so that on an explicit mesh it needs an out_sharding itself."""
    return x @ (x.T @ x) @ w, (w**2).sum()


def moments_backward(residuals, d):
    x, w = residuals
    d, dsquare = d
    ds = x.T @ d @ w.T
    return d @ w.T @ (x.T @ x) + x @ (ds + ds.T), match(x.T @ x @ (x.T @ d), w) + 2 * dsquare * w


SUMMED_W, SUMMED_B = lambda x, d, w: match(matmul_like(x.T, d, w), w), lambda d, b: match(d.sum(0), b)
DENSE, MASK, A = (X, W, B), np.float32(X > 0), np.float32(2)
CHECKED, UNCHECKED, EXPLICIT = MODES = "check_vma=True", "check_vma=False", "explicit mesh"
CASES = {  # rule, arguments, what is noted and what is wrong
    "with the helpers": (dense(SUMMED_W, SUMMED_B), DENSE, {}, {}),
    "elementwise": (custom(jnp.sin, lambda r, d: (d * jnp.cos(r[0]),)), (X,), {}, {}),
    "sum for a number": (custom(scaled, lambda r, d: (d * r[1], match((d * r[0]).sum(), r[1]))), (X, A), {}, {}),
    "no example": (custom(lambda w: (w**2).sum(), lambda r, d: (2 * d * r[0],)), (W,), {}, {}),
    "f fails as well": (custom(moments, moments_backward), (X, W), {}, {}),
    "bare": (dense(), DENSE, {CHECKED: "of w and of b lacks its psum", EXPLICIT: "of w lacks its out_sharding"}, {}),
    "no sum for a number": (
        custom(scaled, lambda r, d: (d * r[1], (d * r[0]).sum())), (X, A), {CHECKED: "of a lacks its psum"}, {},
    ),
    "no sharding": (
        dense(lambda x, d, w: match(jax.jit(jnp.matmul)(x.T, d), w), SUMMED_B), DENSE,
        {EXPLICIT: "of w lacks its out_sharding"}, {},
    ),
    "half aware": (
        custom(net, half_aware), (PARAMS, X),
        {CHECKED: "of params['W2'] lacks its psum", EXPLICIT: "of params['W2'] lacks its out_sharding"}, {},
    ),
    "zeros": (
        custom(masked, lambda r, d: (d * jnp.cos(r[0]) * r[1], jnp.zeros(r[1].shape))), (X, MASK),
        {CHECKED: "of mask lacks its pcast"}, {},
    ),
    "averaged": (dense(SUMMED_W, lambda d, b: averaged(d.sum(0), b)), DENSE, {}, {CHECKED: "of b: there the rule"}),
    "summed twice": (dense(SUMMED_W, lambda d, b: twice(d.sum(0), b)), DENSE, {}, {CHECKED: "of b: there the rule"}),
    "always summed": (dense(SUMMED_W, lambda d, b: always(d.sum(0))), DENSE, {}, {UNCHECKED: "of b: there the caller"}),
}  # fmt: skip


def asked(rule, args):
    return verify.custom_vjp(rule, *args, points="given")


@pytest.mark.sample(lambda case: [*CASES].index(case) // 2)
@pytest.mark.parametrize("case", CASES)
def test_rule_where_examples_are_split(case):
    rule, args, noted, wrong = CASES[case]
    report = asked(rule, args)
    assert report.ok == (not wrong)
    for mode in MODES:
        notes = [note for note in report.notes if mode in note]
        assert len(notes) == (mode in noted)
        assert all(f"the cotangent {noted[mode]}" in note for note in notes)
        assert (mode in report.reason) == (mode in wrong)
        assert mode not in wrong or f"another cotangent {wrong[mode]}" in report.reason


def test_hints_say_what_to_write():
    """Each is pasted into the rule that lacks it, which then lacks nothing."""

    def written(case, mode):
        rule, args, _, _ = CASES[case]
        (note,) = (note for note in asked(rule, args).notes if mode in note)
        return re.search(r"(jax\.lax\.|jnp\.).*", note)[0]

    psum = eval(f"lambda dw, w: {written('bare', CHECKED)}")
    product = eval(f"lambda x, d, w: {written('bare', EXPLICIT).replace('…', 'x.T, d')}")
    pcast = eval(f"lambda dmask, mask: {written('zeros', CHECKED)}")
    whole = dense(lambda x, d, w: psum(product(x, d, w), w), lambda d, b: psum(d.sum(0), b))
    assert not asked(whole, DENSE).notes
    zeros = custom(masked, lambda r, d: (d * jnp.cos(r[0]) * r[1], pcast(jnp.zeros(r[1].shape), r[1])))
    assert not [note for note in asked(zeros, (X, MASK)).notes if "mesh" in note or "shard_map" in note]


def test_four_devices_do_as_the_verifier_says():
    run = subprocess.run(
        [sys.executable, "-c", "import test_contract as tests; tests.on_four_devices()"],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parent)},
        cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr


def on_four_devices():
    """What a rule computes has autodiff beside it in each mode: where that runs, the rule fails if that was noted, and
    gives something else if that is wrong."""
    assert len(jax.devices()) == 4
    for case, (rule, args, noted, wrong) in CASES.items():
        for mode in MODES:
            true, ours = derivative(rule.__wrapped__, args, mode), derivative(rule, args, mode)
            seen = true and ("fails" if not ours else "same" if close(ours, true) else "differs")
            told = "fails" if mode in noted else "differs" if mode in wrong else "same"
            assert seen in (None, told), (case, mode, seen, told)


def close(ours, true):
    return all(np.allclose(a, t, rtol=1e-4, atol=1e-4) for a, t in zip(ours, true, strict=True))


def derivative(f, args, mode):
    """The cotangents of the args, which four devices compute together; None where f fails there."""
    args, tree = jax.tree.flatten(args)
    dout = [
        np.cos(np.arange(v.size, dtype=v.dtype)).reshape(v.shape) for v in jax.tree.leaves(f(*tree.unflatten(args)))
    ]
    mesh = Mesh(jax.devices(), ("batch",), axis_types=(AxisType.Explicit if mode == EXPLICIT else AxisType.Auto,))
    specs = [
        [PartitionSpec("batch") if v.shape[:1] == (len(X),) else PartitionSpec() for v in vs] for vs in (args, dout)
    ]

    def pull(args, dout):
        def inner(args):
            return sum((v * d).sum() for v, d in zip(jax.tree.leaves(f(*tree.unflatten(args))), dout, strict=True))

        dargs = jax.grad(inner)(args)
        if mode == UNCHECKED:
            return [v if s else lax.psum(v, "batch") for v, s in zip(dargs, specs[0], strict=True)]
        return dargs

    try:
        if mode == EXPLICIT:
            at = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
            return jax.jit(pull)(*jax.device_put([args, dout], at))
        return jax.jit(
            jax.shard_map(pull, mesh=mesh, in_specs=tuple(specs), out_specs=specs[0], check_vma=mode == CHECKED)
        )(args, dout)
    except Exception:
        return None


def test_undefined_on_both_sides_is_alike():
    """The same again is asked at -x too, where a square root has no value."""
    root = custom(jnp.sqrt, lambda r, d: (d / (2 * jnp.sqrt(r[0])),))
    assert asked(root, (np.abs(X) + 1,)).ok


def test_zero_by_cancellation_is_alike():
    """The bias before a normalisation has a derivative of roundings, whose size is that of what cancels."""

    def normed(x, b):
        z = x + b[None]
        return z - z.mean(0, keepdims=True)

    def backward(residuals, d):
        dz = d - d.mean(0, keepdims=True)
        return dz, match(dz.sum(0), residuals[1])

    def f(x, b):
        return custom(normed, backward)(x, b) * 1000

    assert asked(f, (X, np.ones(3, np.float32))).ok


def test_a_rule_that_is_another_one_when_it_is_traced_again():
    calls = itertools.count()
    steady, changing = (
        custom(jnp.sin, lambda residuals, d, f=f: (d * jnp.cos(residuals[0]) * f(next(calls)),))
        for f in (lambda n: 1, lambda n: 1 + n % 2)
    )
    for f, says in ((steady, False), (changing, True)):
        g = lambda args, f=f: [f(*args)]  # noqa: E731
        wrong = faults(g, [jnp.asarray(X[0])], [jnp.ones(3)], g).wrong
        assert any("called again" in fault for fault in wrong) is says
