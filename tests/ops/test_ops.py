"""Every op by itself, over the grid of its examples: by hand = jax.vjp = twin = differences; its traps are noticed."""

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
    """The same function for autodiff: its own plain form, or its forward pass without the rule."""
    of_fwd = lambda **arguments: module.fwd(*arguments.values())[0]  # noqa: E731
    return getattr(module, "plain", of_fwd)


def cotangents(outs):
    """Stacked: random ones of all outputs; of each output alone; and none."""
    rng = np.random.default_rng(1)
    douts = [rng.normal(size=out.shape).astype(out.dtype) for out in outs]
    alone = np.eye(len(douts)) if len(douts) > 1 else np.zeros((0, 1))
    chosen = np.concatenate([np.ones((1, len(douts))), alone, np.zeros((1, len(douts)))])
    return [np.stack([w.astype(dout.dtype) * dout for w in of]) for of, dout in zip(chosen.T, douts, strict=True)]


def of_rule_and_of_autodiff(op, name, dtype):
    """(outputs, cotangents, gradients by hand, by autodiff) of an example, in one program."""
    arguments = drawn(op, name, dtype)
    f, reals = of_reals(getattr(jaxnn.ops, op), arguments)
    g, _ = of_reals(plain(catalogue.module("ops", op)), arguments)
    douts = cotangents(jax.eval_shape(f, reals))

    @jax.jit
    def both(reals, douts):
        outs, by_hand = jax.vjp(f, reals)
        _, by_autodiff = jax.vjp(g, reals)
        return outs, *(jax.vmap(lambda dout, of=of: of(dout)[0])(douts) for of in (by_hand, by_autodiff))

    outs, hand, auto = both(reals, douts)
    return outs, douts, hand, auto


def is_key(v):
    return is_array(v) and jnp.issubdtype(v.dtype, jax.dtypes.prng_key)


def of_twin(op, name):
    """The arguments as the twin has them: arrays of NumPy, and for a key the numbers from 0 to 1 that it draws, one for
    each entry of the first array."""
    arguments = drawn(op, name)
    shape = next(iter(arguments.values())).shape
    arguments |= {name: jax.random.uniform(v, shape, jnp.float32) for name, v in arguments.items() if is_key(v)}
    return {name: np.asarray(v) if is_array(v) else v for name, v in arguments.items()}


@ops
def test_every_op_has_examples_traps_and_a_twin(op):
    module = catalogue.module("ops", op)
    assert len(module.EXAMPLES) > 1
    assert module.TRAPS
    assert getattr(jaxnn.ops, op).__wrapped__ is getattr(module, op)
    twin = importlib.import_module(f"reference.ops.{op}")
    assert callable(twin.forward)
    assert callable(twin.jacobians)


@pytest.mark.sample(lambda op, name: (op, [*OPS[op]].index(name) % 3))
@cases
def test_values_and_gradients_are_the_true_ones(x64, op, name):
    outs, douts, hand, auto = of_rule_and_of_autodiff(op, name, np.float64)
    arguments = of_twin(op, name)
    assert witnesses.difference(outs, [*twins.forward(op, arguments)]) < 1e-13
    assert witnesses.difference(hand, auto) < 1e-12
    for i in range(len(douts[0])):
        dout, by_hand = jax.tree.map(lambda v, i=i: np.asarray(v[i]), (douts, hand))
        by_twin = twins.vjp(op, arguments, dout)
        assert witnesses.difference(by_hand, {v: by_twin.get(v, 0 * by_hand[v]) for v in by_hand}) < 1e-12
        if i == 0:
            assert_slope(op, arguments, dout, by_hand)


def assert_slope(op, arguments, dout, by_hand):
    """In one random direction of all arrays at once, by differences of the twin's forward in balls."""
    rng = np.random.default_rng(2)
    ways = {v: rng.normal(size=by_hand[v].shape) for v in by_hand}
    start, direction = balls({v: arguments[v] for v in ways}), balls(ways)

    def S(h):
        outs = twins.forward(op, arguments | {v: start[v] + h * direction[v] for v in start})
        return sum(np.sum(d * out) for d, out in zip(dout, outs, strict=True))

    slope = float((S(STEP) - S(-STEP)) / (2 * STEP))
    terms = [(by_hand[v] * ways[v]).ravel() for v in by_hand]
    assert abs(slope - sum(map(np.sum, terms))) <= 1e-12 * sum(abs(term).sum() for term in terms)


@pytest.mark.sample(lambda op, name, dtype: (op, dtype))
@cases
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_gradients_have_the_types_of_what_they_belong_to(op, name, dtype):
    _, _, hand, auto = of_rule_and_of_autodiff(op, name, dtype)
    assert all(dv.dtype == dtype for dv in hand.values())
    eps = 8 * jnp.finfo(dtype).eps
    if max(np.abs(np.asarray(v, float)).max(initial=0) for v in jax.tree.leaves((hand, auto))) > eps:  # else: 0
        assert witnesses.difference(hand, auto) < eps


@ops
def test_jit_vmap_scan_and_remat_change_nothing(x64, op):
    f, arguments = getattr(jaxnn.ops, op), drawn(op, next(iter(OPS[op])))
    of, reals = of_reals(f, arguments)

    def pulled_back(reals):
        outs, pullback = jax.vjp(jax.checkpoint(of), reals)
        return pullback([jnp.cos(out) for out in outs])[0]

    three = jax.tree.map(lambda v: jnp.stack([v, 0.5 * v, 0.25 * v]), reals)
    one_by_one = [pulled_back(jax.tree.map(lambda v, i=i: v[i], three)) for i in range(3)]
    expected = jax.tree.map(lambda *v: jnp.stack(v), *one_by_one)
    vmapped, (_, scanned) = jax.jit(
        lambda three: (jax.vmap(pulled_back)(three), jax.lax.scan(lambda _, v: (None, pulled_back(v)), None, three))
    )(three)
    assert witnesses.difference(vmapped, expected) < 1e-13
    assert witnesses.difference(scanned, expected) < 1e-13


@pytest.mark.sample(lambda op, name: op)
@cases
def test_second_derivatives_are_those_of_autodiff(x64, op, name):
    arguments = drawn(op, name)

    def slope(f):
        """Of the gradient, in the direction of the arrays themselves."""
        of, reals = of_reals(f, arguments)
        gradient = jax.grad(lambda reals: sum(jnp.sin(jnp.where(jnp.isfinite(out), out, 0)).sum() for out in of(reals)))
        return jax.jit(lambda reals: jax.jvp(gradient, (reals,), (reals,))[1])(reals)

    of = getattr(jaxnn.ops, op), plain(catalogue.module("ops", op))
    assert witnesses.difference(*map(slope, of)) < 1e-10


@pytest.mark.sample(lambda op, name: op)
@cases
def test_every_op_is_proven(op, name):
    f, arguments = getattr(jaxnn.ops, op), drawn(op, name, np.float32)
    of, reals = of_reals(f, arguments)
    is_constant = not any(map(np.any, jax.tree.leaves(gradient(f, arguments))))  # of which a point alone shows nothing
    ask = verify.custom_vjp if is_constant else verify.assert_custom_vjp
    report = ask(of, reals, **({} if is_constant else {"require": "exact", "strict": True}))
    assert report.verdict != "FAIL"
    can_be_split = any(v.ndim > twins.axes(op, name, np.asarray(v)) for name, v in reals.items())
    if can_be_split:  # one example alone has no axis of examples: the verifier then splits an axis of its own
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


def example_that_notices(op, trap):
    """The first example whose gradient the trap changes, as the verifier wants it."""
    right, wrong = getattr(jaxnn.ops, op), with_trap(op, trap)
    for name in OPS[op]:
        arguments = drawn(op, name)
        if not witnesses.difference(*(gradient(f, arguments) for f in (wrong, right))) <= 1e-6:
            return of_reals(wrong, arguments)
    pytest.fail("right on every example")


@traps
def test_every_trap_is_wrong(x64, op, trap):
    assert example_that_notices(op, trap)


@pytest.mark.sample(lambda op, trap: op)
@traps
def test_every_trap_fails(x64, op, trap):
    of, reals = example_that_notices(op, trap)
    assert verify.custom_vjp(of, reals).verdict == "FAIL"


def gradient(f, arguments):
    """For a random cotangent of all outputs."""
    outs, pullback = jax.vjp(*of_reals(f, arguments))
    return pullback([jnp.asarray(dout[0]) for dout in cotangents(outs)])[0]
