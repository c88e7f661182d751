"""L = ‖z − y‖² / K"""

from dataclasses import dataclass
from typing import ClassVar

from jax import Array

from jaxnn.mean import mean, target
from jaxnn.protocols import LossExample, LossFormulas, Output, Residuals, Target


@dataclass(frozen=True)
class MeanSquaredError:
    """L = 1/K Σ_k (z_k − y_k)² of one example with K outputs, J = Σ wᵢLᵢ / Σ wᵢ; z and y (…, K), w (…) or None.

    ∂J/∂z = 2/K (z − y) · ∂J/∂L    each of the K squares is one term of the mean; ∂J/∂L = w / Σw, that is 1/m

    y_hat = z. ValueError: y of another shape than z. Source: Legendre (1805), the method of least squares.
    """

    metric: ClassVar[str] = "r2"
    output: ClassVar[Output] = "values"
    takes: ClassVar[Target] = "values"
    formulas: ClassVar[LossFormulas] = LossFormulas("{z}", "(ŷ − y)² / K", "2 (ŷ − y) / (K m)")

    def forward(self, z: Array, y: Array, w: Array | None = None) -> tuple[Array, Residuals]:
        error = z - target(y, z)
        J, dL = mean((error**2).mean(-1), w)
        return J, (error, dL)

    def backward(self, residuals: Residuals) -> Array:
        error, dL = residuals
        K = error.shape[-1]
        return 2 / K * error * dL[..., None]

    def predict(self, z: Array) -> Array:
        return z


EXAMPLES = {"mean squared error": LossExample(MeanSquaredError(), (4, 3), "values")}
