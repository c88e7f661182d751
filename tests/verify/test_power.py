"""The changes by which the power of a check is measured: of which equations, and which."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxnn.verify.power import equations, mutations

X = np.ones((3, 2), np.float32)


def equations_of(f):
    """{the name of a primitive: (the words of its changes)} of each equation that can be changed."""
    found = equations(jax.make_jaxpr(f)(X).jaxpr, {})
    return {eqn.primitive.name: [mutation.what for mutation in mutations(eqn, before)] for eqn, before in found}


def test_each_equation_of_one_float_is_changed():
    """A scatter is one, though it has a jaxpr for its sums; of a call what is called; whole numbers are none."""

    def f(x):
        at = jnp.argmax(x) // 4
        return jnp.zeros_like(x).at[at].add(jax.jit(jnp.sin)(x)[0]), jnp.exp(x)

    names = equations_of(f).keys()
    assert {"scatter-add", "sin", "exp"} <= names
    assert not {"jit", "pjit", "argmax", "div", "sign", "add"} & names


@pytest.mark.parametrize(("f", "name"), [(jnp.sin, "sin"), (jnp.transpose, "transpose")])
def test_what_only_moves_numbers_keeps_its_sign(f, name):
    changes = equations_of(f)[name]
    assert (f"the sign of {name} flipped" in changes) == (name == "sin")
    assert (f"{name} times 3" in changes) == (name == "sin")
