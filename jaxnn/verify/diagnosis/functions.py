"""The functions that people differentiate: the activations that ship, and exp; evaluated without compiling anything."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.extend.core
import numpy as np

from jaxnn import catalogue
from jaxnn.layers.activation import rule_of
from jaxnn.protocols import Elementwise
from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.tracing.floats import Approximation

Entrywise = Callable[[np.ndarray], np.ndarray]


class Known(NamedTuple):
    """f(z), f′(z), and f′ as people write it, of a = f(z) if that is simpler. kinked: f′ jumps; dies: it is 0 below."""

    f: Entrywise
    slope: Entrywise
    formula: Entrywise
    kinked: bool = False
    dies: bool = False


def unchanged(x: np.ndarray) -> np.ndarray:
    """The identity."""
    return x


def in_numpy(f: Callable[[jax.Array], jax.Array]) -> Entrywise:
    """A function of one number as a function of arrays, entry by entry: its jaxpr is that of a number."""

    @cache
    def closed() -> jax.extend.core.ClosedJaxpr:
        with jax.enable_x64(True):
            return jax.make_jaxpr(f)(np.float64(0))

    return lambda z: np.broadcast_to(Approximation()(closed(), [np.asarray(z, np.float64)])[0], np.shape(z))


def known(rule: Elementwise) -> Known:
    """An activation; g and g′ with its own slope."""
    f, derivative = in_numpy(rule.g), in_numpy(rule.dg)
    slope: Entrywise = (lambda z: derivative(f(z))) if rule.of == "a" else derivative
    return Known(f, slope, derivative, bool(rule.kinks), rule.dies)


RULES = {name: rule_of(name, rule_of(name, None).slope) for name in catalogue.names("activations")}
KNOWN = {name.replace("_", " "): known(rule) for name, rule in RULES.items() if name != "identity"}
KNOWN["exp"] = Known(np.exp, np.exp, unchanged)
USUAL = ("tanh", "sigmoid", "relu")  # what others are mistaken for


def values_at(z: np.ndarray) -> dict[str, np.ndarray]:
    """f(z) of every known function f. One that dies below 0 is not known by its values above."""
    if not is_float(z):
        return {}
    return {name: known.f(z) for name, known in KNOWN.items() if not known.dies or (z < 0).any()}


def which(z: np.ndarray, a: np.ndarray, values: dict[str, np.ndarray]) -> str:
    """The name of the known function f with a = f(z), or "". values: `values_at` z."""
    if not values or is_same(z, a):
        return ""
    return next((name for name, v in values.items() if is_same(v, a)), "")


def is_same(v: np.ndarray, a: np.ndarray) -> bool:
    """Whether two arrays of one shape are equal up to rounding."""
    return np.allclose(a.flat[:1], v.flat[:1], 1e-9, 1e-12) and np.allclose(a, v, 1e-9, 1e-12)


def softmax(z: np.ndarray, axis: int = -1) -> np.ndarray:
    """exp z / Σ exp z, the sum over an axis."""
    e = np.exp(z - z.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)
