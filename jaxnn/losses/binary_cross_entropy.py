"""L = −(y log p + (1 − y) log(1 − p)), on probabilities"""

from dataclasses import dataclass
from typing import ClassVar

from jax import Array
from jax import numpy as jnp

from jaxnn.mean import mean, target
from jaxnn.protocols import LossExample, LossFormulas, Output, Residuals, Target


def log(p: Array) -> Array:
    """log p down to ε, the dtype's machine epsilon, and below it the tangent at ε: log ε + (p − ε)/ε.

    Finite at 0, and smooth: its derivative is 1 / max(p, ε).
    """
    epsilon = jnp.finfo(p.dtype).eps
    return jnp.log(jnp.maximum(p, epsilon)) + jnp.minimum(p - epsilon, 0) / epsilon


def dlog(p: Array) -> Array:
    return 1 / jnp.maximum(p, jnp.finfo(p.dtype).eps)


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """L = −Σ_k (y_k log p_k + (1 − y_k) log(1 − p_k)) of one example, J = Σ wᵢLᵢ / Σ wᵢ; p and y (…, K), w (…) or None.

    ∂J/∂p = (−y/p + (1 − y)/(1 − p)) · ∂J/∂L    the derivative of log; ∂J/∂L = w / Σw, that is 1/m

    For a last layer that ends in a sigmoid; SigmoidCrossEntropy on logits is better where p comes near 0 or 1.
    A p of exactly 0 or 1 is finite: below ε (1.2e-7 in float32, 2.2e-16 in float64, 7.8e-3 in bfloat16) log is
    continued by its tangent, so a certain and wrong answer costs 1 − log ε (16.9 in float32) and has the slope ∓1/ε.
    y_hat = p. ValueError: y of another shape than p. Source: Bishop (2006), eq. 4.90.
    """

    metric: ClassVar[str] = "binary_accuracy"
    output: ClassVar[Output] = "probabilities"
    takes: ClassVar[Target] = "probabilities"
    formulas: ClassVar[LossFormulas] = LossFormulas(
        "{z}", "−(y log ŷ + (1 − y) log(1 − ŷ))", "((1 − y) / (1 − ŷ) − y / ŷ) / m"
    )

    def forward(self, p: Array, y: Array, w: Array | None = None) -> tuple[Array, Residuals]:
        y = target(y, p)
        J, dL = mean(-(y * log(p) + (1 - y) * log(1 - p)).sum(-1), w)
        return J, (p, y, dL)

    def backward(self, residuals: Residuals) -> Array:
        p, y, dL = residuals
        return (-y * dlog(p) + (1 - y) * dlog(1 - p)) * dL[..., None]

    def predict(self, p: Array) -> Array:
        return p


EXAMPLES = {
    "binary cross-entropy": LossExample(BinaryCrossEntropy(), (4, 1), "probabilities"),
    "binary cross-entropy, three outputs": LossExample(BinaryCrossEntropy(), (4, 3), "probabilities"),
}
