"""L = ½ ‖z − y‖²"""

from dataclasses import dataclass
from typing import ClassVar

from jaxnn.mean import mean, target


@dataclass(frozen=True)
class HalfSquaredError:
    """L = ½ Σ_k (z_k − y_k)² of one example, J = Σ wᵢLᵢ / Σ wᵢ; z and y (…, K), w (…) or None.

    ∂J/∂z = (z − y) · ∂J/∂L    the ½ takes the 2 away; ∂J/∂L = w / Σw, that is 1/m

    y_hat = z. ValueError: y of another shape than z. Source: Rumelhart, Hinton & Williams (1986), eq. 3.
    """

    metric: ClassVar[str] = "r2"

    def forward(self, z, y, w=None):
        error = z - target(y, z)
        J, dL = mean((error**2).sum(-1) / 2, w)
        return J, (error, dL)

    def backward(self, residuals):
        error, dL = residuals
        return error * dL[..., None]

    def predict(self, z):
        return z


EXAMPLES = {"half squared error": (HalfSquaredError(), (4, 3), "values")}
