"""L = ½ ‖z − y‖²"""

from dataclasses import dataclass
from typing import ClassVar

from jax import Array

from jaxnn.mean import mean, target
from jaxnn.protocols import LossExample, LossFormulas, Output, Residuals, Target


@dataclass(frozen=True)
class HalfSquaredError:
    """L = ½ Σ_k (z_k − y_k)² of one example, J = Σ wᵢLᵢ / Σ wᵢ; z and y (…, K), w (…) or None.

    ∂J/∂z = (z − y) · ∂J/∂L    the ½ takes the 2 away; ∂J/∂L = w / Σw, that is 1/m

    y_hat = z. ValueError: y of another shape than z. Source: Rumelhart, Hinton & Williams (1986), eq. 3.
    """

    metric: ClassVar[str] = "r2"
    output: ClassVar[Output] = "values"
    takes: ClassVar[Target] = "values"
    formulas: ClassVar[LossFormulas] = LossFormulas("{z}", "½ (ŷ − y)²", "(ŷ − y) / m")

    def forward(self, z: Array, y: Array, w: Array | None = None) -> tuple[Array, Residuals]:
        error = z - target(y, z)
        J, dL = mean((error**2).sum(-1) / 2, w)
        return J, (error, dL)

    def backward(self, residuals: Residuals) -> Array:
        error, dL = residuals
        return error * dL[..., None]

    def predict(self, z: Array) -> Array:
        return z


EXAMPLES = {"half squared error": LossExample(HalfSquaredError(), (4, 3), "values")}
