"""a = g(z), entry by entry: the table of activations and their derivatives."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
from jax import Array
from jax import numpy as jnp
from jax.lax import erfc
from jax.nn import sigmoid


class Rule(NamedTuple):
    g: Callable[[Array], Array]  # a = g(z)
    dg: Callable[[Array], Array]  # g′, written in what `of` names: that alone is saved
    of: str  # "z" or "a"


def Phi(z):
    """Φ(z), the standard normal distribution function."""
    return erfc(-z / math.sqrt(2)) / 2


def phi(z):
    """φ(z) = Φ′(z), its density."""
    return jnp.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


SLOPE = 0.01  # of leaky_relu where none is given: Maas et al. (2013)


def leaky_relu(slope):
    return Rule(lambda z: jnp.where(z > 0, z, slope * z), lambda z: jnp.where(z > 0, 1.0, slope).astype(z.dtype), "z")


RULES = {
    "identity": Rule(lambda z: z, lambda a: jnp.ones_like(a), "a"),
    "sigmoid": Rule(sigmoid, lambda a: a * (1 - a), "a"),
    "tanh": Rule(jnp.tanh, lambda a: 1 - a**2, "a"),
    "relu": Rule(jax.nn.relu, lambda a: (a > 0).astype(a.dtype), "a"),
    "leaky_relu": leaky_relu(SLOPE),
    "softplus": Rule(jax.nn.softplus, sigmoid, "z"),
    "elu": Rule(jax.nn.elu, lambda z: jnp.exp(jnp.minimum(z, 0)), "z"),
    "silu": Rule(jax.nn.silu, lambda z: sigmoid(z) * (1 + z * sigmoid(-z)), "z"),
    "gelu": Rule(lambda z: z * Phi(z), lambda z: Phi(z) + z * phi(z), "z"),
}


@dataclass(frozen=True)
class Activation:
    """a = g(z), entry by entry; z and a of any shape.

    ∂J/∂z = ∂J/∂a ⊙ g′(z)    a_ij depends on z_ij alone

    | name       | g(z)                    | g′                     | source                      |
    |------------|-------------------------|------------------------|-----------------------------|
    | identity   | z                       | 1                      |                             |
    | sigmoid    | σ(z) = 1 / (1 + e⁻ᶻ)    | a (1 − a)              |                             |
    | tanh       | tanh z                  | 1 − a²                 |                             |
    | relu       | max(z, 0)               | [a > 0], so g′(0) = 0  | Nair & Hinton (2010)        |
    | leaky_relu | z if z > 0 else slope·z | 1 if z > 0 else slope  | Maas et al. (2013)          |
    | softplus   | log(1 + eᶻ)             | σ(z)                   | Dugas et al. (2001)         |
    | elu        | z if z > 0 else eᶻ − 1  | e^min(z, 0)            | Clevert et al. (2016), α = 1|
    | silu       | z σ(z)                  | σ(z) (1 + z σ(−z))     | Elfwing et al. (2018)       |
    | gelu       | z Φ(z)                  | Φ(z) + z φ(z)          | Hendrycks & Gimpel (2016)   |

    σ(−z) = 1 − σ(z); Φ and φ are the standard normal distribution and density. `slope` belongs to leaky_relu alone,
    0.01 when not given. ValueError: an unknown name, or a slope for another activation.
    """

    name: str
    slope: float | None = None

    def __post_init__(self):
        if self.name not in RULES:
            raise ValueError(f"Unknown activation {self.name!r}; use one of {', '.join(RULES)}.")
        if self.slope is not None and self.name != "leaky_relu":
            raise ValueError(f"Activation {self.name!r} has no slope; only leaky_relu has one.")
        if self.slope is None and self.name == "leaky_relu":
            object.__setattr__(self, "slope", SLOPE)

    @property
    def rule(self):
        return RULES[self.name] if self.slope is None else leaky_relu(self.slope)

    def init(self, key, dtype=jnp.float32):
        return ()

    def forward(self, params, z, key=None):
        a = self.rule.g(z)
        return a, a if self.rule.of == "a" else z

    def backward(self, residuals, da):
        return (), da * self.rule.dg(residuals)

    def apply(self, params, z):
        return self.rule.g(z)


EXAMPLES = {name: (Activation(name), (4, 3)) for name in RULES} | {
    "leaky_relu, slope 0.2": (Activation("leaky_relu", slope=0.2), (4, 3)),
    "tanh, no batch axis": (Activation("tanh"), (3,)),
    "tanh, two leading axes": (Activation("tanh"), (2, 4, 3)),
}
