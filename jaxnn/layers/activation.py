"""a = g(z), entry by entry; one g a file in jaxnn/activations."""

from dataclasses import dataclass
from functools import cache, partial

from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn import catalogue
from jaxnn.protocols import Elementwise, LayerExample

NAMES = catalogue.names("activations")


@cache
def rule_of(name: str, slope: float | None) -> Elementwise:
    """The rule in the file of this name, with this slope."""
    rule: Elementwise = catalogue.module("activations", name).RULE
    if slope is None:
        return rule
    return rule._replace(g=partial(rule.g, slope=slope), dg=partial(rule.dg, slope=slope))


SLOPES = {name: slope for name in NAMES if (slope := rule_of(name, None).slope) is not None}


@dataclass(frozen=True)
class Activation:
    """a = g(z), entry by entry; z and a of any shape.

    ∂J/∂z = ∂J/∂a ⊙ g′(z)    a_ij depends on z_ij alone

    name: that of a file in jaxnn/activations, which has g, g′ and their source. `slope` belongs to those that have one
    (leaky_relu), and is that of the file when not given.
    ValueError: an unknown name, or a slope for an activation without one.
    """

    name: str
    slope: float | None = None

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"Unknown activation {self.name!r}; use one of {', '.join(NAMES)}.")
        if self.slope is not None and self.name not in SLOPES:
            raise ValueError(f"Activation {self.name!r} has no slope; only {', '.join(SLOPES)} has one.")
        if self.slope is None:
            object.__setattr__(self, "slope", SLOPES.get(self.name))

    @property
    def rule(self) -> Elementwise:
        """g and g′, with the slope."""
        return rule_of(self.name, self.slope)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], z: Array, key: Array | None = None) -> tuple[Array, Array]:
        a = self.rule.g(z)
        return a, a if self.rule.of == "a" else z

    def backward(self, residuals: Array, da: Array) -> tuple[tuple[()], Array]:
        return (), da * self.rule.dg(residuals)

    def again(self, residuals: Array) -> Array:
        return residuals if self.rule.of == "a" else self.rule.g(residuals)

    def apply(self, params: tuple[()], z: Array) -> Array:
        return self.rule.g(z)


EXAMPLES = {
    **{name: LayerExample(Activation(name), (4, 3)) for name in NAMES},
    **{f"{name}, slope 0.2": LayerExample(Activation(name, slope=0.2), (4, 3)) for name in SLOPES},
    "tanh, no batch axis": LayerExample(Activation("tanh"), (3,)),
    "tanh, two leading axes": LayerExample(Activation("tanh"), (2, 4, 3)),
}
