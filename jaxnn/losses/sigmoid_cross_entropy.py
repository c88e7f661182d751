"""L = −(y log σ(z) + (1 − y) log σ(−z)), on logits"""

from dataclasses import dataclass
from typing import ClassVar

from jax import Array
from jax.nn import log_sigmoid, sigmoid

from jaxnn.mean import mean, target
from jaxnn.protocols import LossExample, LossFormulas, Output, Residuals, Target


@dataclass(frozen=True)
class SigmoidCrossEntropy:
    """L = −Σ_k (y_k log σ(z_k) + (1 − y_k) log σ(−z_k)) of one example, J = Σ wᵢLᵢ / Σ wᵢ.

    z and y (…, K), w (…) or None. The binary cross-entropy of p = σ(z), since 1 − σ(z) = σ(−z); finite for finite z.
    ∂J/∂z = (σ(z) − y) · ∂J/∂L    d log σ(z)/dz = σ(−z) and σ(z) + σ(−z) = 1; ∂J/∂L = w / Σw, that is 1/m

    σ(z) − y is written (1 − y) σ(z) − y σ(−z): at z = 40, y = 1 that is −4e-18, where σ(z) − 1 would round to 0.
    y_hat = σ(z). ValueError: y of another shape than z. Source: Bishop (2006), eq. 4.90 and 4.91.
    """

    metric: ClassVar[str] = "binary_accuracy"
    output: ClassVar[Output] = "values"
    takes: ClassVar[Target] = "probabilities"
    formulas: ClassVar[LossFormulas] = LossFormulas("σ({z})", "−(y log ŷ + (1 − y) log(1 − ŷ))", "(ŷ − y) / m")

    def forward(self, z: Array, y: Array, w: Array | None = None) -> tuple[Array, Residuals]:
        y = target(y, z)
        J, dL = mean(-(y * log_sigmoid(z) + (1 - y) * log_sigmoid(-z)).sum(-1), w)
        return J, (z, y, dL)

    def backward(self, residuals: Residuals) -> Array:
        z, y, dL = residuals
        return ((1 - y) * sigmoid(z) - y * sigmoid(-z)) * dL[..., None]

    def predict(self, z: Array) -> Array:
        return sigmoid(z)


EXAMPLES = {
    "sigmoid cross-entropy": LossExample(SigmoidCrossEntropy(), (4, 1), "probabilities"),
    "sigmoid cross-entropy, three outputs": LossExample(SigmoidCrossEntropy(), (4, 3), "probabilities"),
}
