"""Every op by itself, over the grid of its examples: by hand = jax.vjp = twin = differences; its traps are noticed."""

import functools
import importlib
import inspect
from types import ModuleType

import jax
import numpy as np
import pytest
import witnesses
from differences import STEP, balls
from jax import numpy as jnp

import jaxnn.ops
from jaxnn import catalogue, verify
from jaxnn.examples import OPS, draw_arguments
from reference import ops as twins

ops = pytest.mark.parametrize("op", OPS)
cases = pytest.mark.parametrize(("op", "name"), [(op, name) for op, examples in OPS.items() for name in examples])
traps = pytest.mark.parametrize(
    ("op", "trap"), [(op, trap) for op in OPS for trap in catalogue.module("ops", op).TRAPS]
)


def drawn(op, name, dtype=np.float64):
    """All arguments of an example, by their names."""
    example = draw_arguments(OPS[op][name], np.random.default_rng(0), dtype)
    bound = inspect.signature(getattr(jaxnn.ops, op)).bind(**example)
    bound.apply_defaults()
    return bound.arguments


def is_array(v):
    return isinstance(v, jax.Array)


def is_real(v):
    return is_array(v) and jnp.issubdtype(v.dtype, jnp.floating)


def of_reals(f, arguments):
    """(f as a function of its real arrays by their names, to a tuple of outputs; those arrays)."""
    reals = {name: v for name, v in arguments.items() if is_real(v)}
    others = {name: v for name, v in arguments.items() if name not in reals}
    return lambda reals: jax.tree.leaves(f(**{name: (reals | others)[name] for name in arguments})), reals


def plain(module):
    """The same function for autodiff: its forward pass without the rule."""
    return lambda **arguments: module.fwd(*arguments.values())[0]


def cotangents(outs):
    """Random ones of all outputs; of each output alone; and none."""
    rng = np.random.default_rng(1)
    douts = [rng.normal(size=out.shape).astype(out.dtype) for out in outs]
    alone = [[dout if i == k else 0 * dout for i, dout in enumerate(douts)] for k in range(len(douts))]
    return [douts, *(alone if len(douts) > 1 else []), [0 * dout for dout in douts]]


@functools.cache
def computed(op, dtype):
    """{example: (outputs, cotangents, gradients by hand, by autodiff)} of an op, all in one program."""
    module, f = catalogue.module("ops", op), getattr(jaxnn.ops, op)
    given = {name: drawn(op, name, dtype) for name in OPS[op]}
    shapes = {name: jax.eval_shape(*of_reals(f, arguments)) for name, arguments in given.items()}
    douts = {name: cotangents(outs) for name, outs in shapes.items()}
    if dtype != np.float64:  # of which the first alone is looked at
        douts = {name: of_example[:1] for name, of_example in douts.items()}

    def gradients(of, arguments, douts):
        outs, pullback = jax.vjp(*of_reals(of, arguments))
        return outs, [pullback(dout)[0] for dout in douts]

    def of_all(arrays, douts):
        found = {}
        for name in given:
            arguments = given[name] | arrays[name]
            outs, hand = gradients(f, arguments, douts[name])
            found[name] = outs, hand, gradients(plain(module), arguments, douts[name])[1]
        return found

    arrays = {name: {k: v for k, v in arguments.items() if is_array(v)} for name, arguments in given.items()}
    found = jax.jit(of_all)(arrays, douts)
    return {name: (outs, douts[name], hand, auto) for name, (outs, hand, auto) in found.items()}


def is_key(v):
    return is_array(v) and jnp.issubdtype(v.dtype, jax.dtypes.prng_key)


def of_twin(op, name):
    """The arguments as the twin has them: arrays of NumPy, and for a key the numbers from 0 to 1 that it draws, one for
    each entry of the first array."""
    arguments = drawn(op, name)
    shape = next(iter(arguments.values())).shape
    arguments |= {name: jax.random.uniform(v, shape) for name, v in arguments.items() if is_key(v)}
    return {name: np.asarray(v) if is_array(v) else v for name, v in arguments.items()}


@ops
def test_every_op_has_examples_traps_and_a_twin(op):
    module = catalogue.module("ops", op)
    assert len(module.EXAMPLES) > 1
    assert module.TRAPS
    assert getattr(jaxnn.ops, op) is getattr(module, op)
    twin = importlib.import_module(f"reference.ops.{op}")
    assert callable(twin.forward)
    assert callable(twin.jacobians)


@cases
def test_output_is_the_twins(x64, op, name):
    outs, *_ = computed(op, np.float64)[name]
    expected = twins.forward(op, of_twin(op, name))
    assert witnesses.difference(outs, [*expected]) < 1e-13


@cases
def test_backward_is_the_vector_jacobian_product(x64, op, name):
    _, douts, hand, auto = computed(op, np.float64)[name]
    for dout, by_hand, by_autodiff in zip(douts, hand, auto, strict=True):
        by_twin = twins.vjp(op, of_twin(op, name), [np.asarray(v) for v in dout])
        by_twin = {v: by_twin.get(v, np.zeros(by_hand[v].shape)) for v in by_hand}
        assert witnesses.difference(by_hand, by_twin) < 1e-12
        assert witnesses.difference(by_hand, by_autodiff) < 1e-12


@cases
def test_slope_is_that_of_differences(x64, op, name):
    """In one random direction of all arrays at once, of the twin's forward in balls."""
    _, (dout, *_), (hand, *_), _ = computed(op, np.float64)[name]
    arguments, rng = of_twin(op, name), np.random.default_rng(2)
    reals = {v: arguments[v] for v in hand}
    ways = {v: rng.normal(size=reals[v].shape) for v in reals}
    start, direction = balls(reals), balls(ways)

    def S(h):
        outs = twins.forward(op, arguments | {v: start[v] + h * direction[v] for v in start})
        return sum(np.sum(d * out) for d, out in zip(dout, outs, strict=True))

    slope = float((S(STEP) - S(-STEP)) / (2 * STEP))
    by_hand = sum(float((hand[v] * ways[v]).sum()) for v in hand)
    largest = sum(float(abs(hand[v] * ways[v]).sum()) for v in hand)
    assert abs(slope - by_hand) <= 1e-12 * largest


@cases
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_gradients_have_the_types_of_what_they_belong_to(op, name, dtype):
    _, _, (hand, *_), (auto, *_) = computed(op, dtype)[name]
    assert all(dv.dtype == dtype for dv in hand.values())
    assert witnesses.difference(hand, auto) < 8 * jnp.finfo(dtype).eps


@ops
def test_jit_vmap_scan_and_remat_change_nothing(x64, op):
    f, arguments = getattr(jaxnn.ops, op), drawn(op, next(iter(OPS[op])))
    of, reals = of_reals(f, arguments)

    def pulled_back(reals):
        outs, pullback = jax.vjp(jax.checkpoint(of), reals)
        return pullback([jnp.cos(out) for out in outs])[0]

    three = jax.tree.map(lambda v: jnp.stack([v, 0.5 * v, -v]), reals)
    one_by_one = [pulled_back(jax.tree.map(lambda v, i=i: v[i], three)) for i in range(3)]
    expected = jax.tree.map(lambda *v: jnp.stack(v), *one_by_one)
    vmapped, (_, scanned) = jax.jit(
        lambda three: (jax.vmap(pulled_back)(three), jax.lax.scan(lambda _, v: (None, pulled_back(v)), None, three))
    )(three)
    assert witnesses.difference(vmapped, expected) < 1e-13
    assert witnesses.difference(scanned, expected) < 1e-13


@pytest.mark.sample(lambda op, name: op)
@cases
def test_every_op_is_proven(op, name):
    f, arguments = getattr(jaxnn.ops, op), drawn(op, name, np.float32)
    of, reals = of_reals(f, arguments)
    report = verify.assert_custom_vjp(of, reals, require="exact", strict=True)
    assert not [note for note in report.notes if "devices" in note], report.notes


def with_trap(op, trap):
    """The op with one line of its file written as in the trap."""
    module = catalogue.module("ops", op)
    right, wrong = module.TRAPS[trap]
    code, end, _ = inspect.getsource(module).partition(f"\n{op}.defvjp(fwd, bwd)\n")
    assert code.count(right) == 1, "the line is not in the file, or there are several"
    changed = ModuleType(op)
    exec(code.replace(right, wrong) + end, changed.__dict__)
    return getattr(changed, op)


@traps
def test_every_trap_fails(x64, op, trap):
    """By the verifier, on the first example whose gradient it changes."""
    right, wrong = getattr(jaxnn.ops, op), with_trap(op, trap)
    for name in OPS[op]:
        arguments = drawn(op, name)
        if not witnesses.difference(*(gradient(f, arguments) for f in (wrong, right))) <= 1e-6:
            of, reals = of_reals(wrong, arguments)
            assert verify.custom_vjp(of, reals).verdict == "FAIL"
            return
    pytest.fail("right on every example")


def gradient(f, arguments):
    """For a random cotangent of all outputs."""
    outs, pullback = jax.vjp(*of_reals(f, arguments))
    return pullback(cotangents(outs)[0])[0]
