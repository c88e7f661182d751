"""Numbers of Python and NumPy where an op takes arrays and settings, and axes without entries: what is right, or one
sentence."""

import inspect
from typing import NamedTuple

import jax
import numpy as np
import pytest
import witnesses
from jax import numpy as jnp

from jaxnn import ops
from jaxnn.examples import OPS, draw_arguments
from jaxnn.protocols import Drawn

every_op = pytest.mark.parametrize("op", OPS)
CASES = [(op, name) for op, examples in OPS.items() for name in examples]
PAIRS = np.ones((3, 2), np.float32)


def drawn(example):
    return draw_arguments(example, np.random.default_rng(0), np.float32)


def reals(arguments):
    return [name for name, v in arguments.items() if isinstance(v, jax.Array) and jnp.issubdtype(v.dtype, jnp.floating)]


class Answer(NamedTuple):
    refusal: str  # "" if there is none
    outs: list
    gradients: dict


def answer(op, arguments):
    """The outputs and all gradients, or what was said, which is one sentence."""

    def S(of_reals):
        outs = jax.tree.leaves(getattr(ops, op)(**arguments | of_reals))
        return sum(jnp.where(jnp.isfinite(out), jnp.sin(out), 0).sum() for out in outs), outs

    try:
        gradients, outs = jax.grad(S, has_aux=True)({name: arguments[name] for name in reals(arguments)})
        found = Answer("", outs, gradients)
    except (TypeError, ValueError) as error:
        found = Answer(str(error), [], {})
    assert not found.refusal or found.refusal.startswith(f"{op} was given ")
    assert "\n" not in found.refusal
    return found


@every_op
def test_a_python_float_is_an_array_of_the_others_dtype(x64, op):
    arguments = drawn(next(iter(OPS[op].values())))
    for name in reals(arguments):
        others = {v: arguments[v] for v in arguments if v != name}
        if reals(others):
            number, array = (answer(op, {**others, name: v}) for v in (0.5, jnp.float32(0.5)))
            array.gradients.pop(name, None)
            assert number.refusal == array.refusal
            assert witnesses.difference(number[1:], array[1:]) == 0
            assert all(v.dtype == jnp.float32 for v in jax.tree.leaves(number[1:]))


def test_the_gradient_of_a_python_float(x64):
    dtau = jax.jit(jax.grad(lambda tau: ops.info_nce(PAIRS, PAIRS, tau)))
    assert dtau(0.5) == dtau(np.float32(0.5))


@every_op
def test_a_number_of_numpy_or_jax_for_a_setting_is_the_same_program(x64, op):
    f = getattr(ops, op)
    example = next(iter(OPS[op].values()))
    arrays = {name: v for name, v in drawn(example).items() if isinstance(v, jax.Array)}
    settings = {name: p.default for name, p in inspect.signature(f).parameters.items()} | example
    for name, v in settings.items():
        if type(v) in (int, float):
            others = {name: v for name, v in example.items() if not isinstance(v, Drawn)}
            programs = [
                str(jax.make_jaxpr(lambda a, w=w: f(**a, **others | {name: w}))(arrays))  # noqa: B023
                for w in (v, np.array(v)[()], np.array(v), jnp.asarray(v))
            ]
            assert len({*programs}) == 1, name


def test_a_setting_that_is_traced_is_refused():
    with pytest.raises(TypeError, match=r"^rms_norm was given a traced epsilon: it is a setting; give a number"):
        jax.jit(lambda epsilon: ops.rms_norm(PAIRS, PAIRS[0], epsilon=epsilon))(1e-6)


@every_op
def test_a_list_is_no_array(op):
    arguments = drawn(next(iter(OPS[op].values())))
    for name in reals(arguments):
        assert f"{op} was given {name} of type list: give an array." == answer(op, arguments | {name: [0.5]}).refusal


@every_op
def test_no_axis_at_all(op):
    arguments = drawn(next(iter(OPS[op].values())))
    answer(op, arguments | dict.fromkeys(reals(arguments), jnp.float32(0.5)))


@pytest.mark.sample(lambda op, name: op[0])
@pytest.mark.parametrize(("op", "name"), CASES)
def test_axes_without_entries(op, name):
    example = OPS[op][name]
    arrays = {name: v for name, v in example.items() if isinstance(v, Drawn)}
    for size in {n for v in arrays.values() for n in v.shape}:
        empty = {name: v._replace(shape=tuple(0 if n == size else n for n in v.shape)) for name, v in arrays.items()}
        refusal, outs, gradients = answer(op, drawn(example | empty))
        assert refusal or not any(np.isnan(out).any() for out in outs)
        assert refusal or all(np.isfinite(dv).all() for dv in gradients.values())
