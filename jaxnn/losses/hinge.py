"""L = Σ_k max(0, 1 − s_k z_k), s = 2 y − 1, on scores"""

from dataclasses import dataclass
from typing import ClassVar

from jax import Array
from jax import numpy as jnp

from jaxnn.mean import mean, target
from jaxnn.ops.hinge import bwd, fwd
from jaxnn.protocols import LossExample, Output, Residuals, Target


@dataclass(frozen=True)
class Hinge:
    """L = Σ_k h_k of one example, or Σ_k h_k² if squared, h = max(0, 1 − s z), s = 2 y − 1; J = Σ wᵢLᵢ / Σ wᵢ.

    z and y (…, K), y 0 or 1, so that s is −1 or 1; w (…) or None. An example beyond the margin, s z ≥ 1, costs nothing.
    ∂J/∂z = (−s if s z < 1 else 0) · ∂J/∂L, times 2 h if squared    ∂J/∂L = w / Σw, that is 1/m

    The rule is that of `jaxnn.ops.hinge`. y_hat = (1 + z) / 2 within 0 … 1, a score and no probability.
    ValueError: y of another shape than z. Source: Cortes & Vapnik (1995).
    """

    squared: bool = False
    metric: ClassVar[str] = "binary_accuracy"
    output: ClassVar[Output] = "values"
    takes: ClassVar[Target] = "probabilities"
    formulas: ClassVar[None] = None  # L is of z, and no function of y_hat

    def forward(self, z: Array, y: Array, w: Array | None = None) -> tuple[Array, Residuals]:
        L, of_L = fwd(z, 2 * target(y, z) - 1, self.squared)
        J, dL = mean(L.sum(-1), w)
        return J, (of_L, dL)

    def backward(self, residuals: Residuals) -> Array:
        of_L, dL = residuals
        return bwd(self.squared, of_L, dL[..., None])[0]

    def predict(self, z: Array) -> Array:
        return jnp.clip((1 + z) / 2, 0, 1)


EXAMPLES = {
    "hinge": LossExample(Hinge(), (4, 1), "probabilities"),
    "hinge, squared": LossExample(Hinge(squared=True), (4, 3), "probabilities"),
}
