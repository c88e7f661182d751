"""L = −Σ_k y_k log softmax(z)_k, on logits"""

from dataclasses import dataclass
from typing import ClassVar

import jax
from jax import Array
from jax import numpy as jnp
from jax.nn import log_softmax, softmax

from jaxnn.mean import mean, target
from jaxnn.protocols import LossExample, LossFormulas, Output, Residuals, Target


@dataclass(frozen=True)
class SoftmaxCrossEntropy:
    """L = −Σ_k y_k log P_k of one example, P = softmax(z), J = Σ wᵢLᵢ / Σ wᵢ; z (…, K), w (…) or None.

    y: integer labels 0 … K−1 of shape (…), which stand for one-hot rows, or a distribution over the classes (…, K).
    ∂J/∂z = (P Σ_k y_k − y) · ∂J/∂L    ∂ log P_k/∂z_j = [j = k] − P_j; Σ_k y_k = 1 leaves P − y; ∂J/∂L = w / Σw

    y_hat = P. ValueError: y neither of z's shape nor integer labels of z's shape without the last axis.
    Source: Bishop (2006), eq. 4.108 and 4.109.
    """

    metric: ClassVar[str] = "accuracy"
    output: ClassVar[Output] = "values"
    takes: ClassVar[Target] = "labels"
    formulas: ClassVar[LossFormulas] = LossFormulas("softmax({z})", "−y log ŷ", "(ŷ − y) / m")

    def forward(self, z: Array, y: Array, w: Array | None = None) -> tuple[Array, Residuals]:
        if jnp.issubdtype(jnp.result_type(y), jnp.integer) and jnp.shape(y) == jnp.shape(z)[:-1]:
            y = jax.nn.one_hot(y, z.shape[-1])
        if jnp.shape(y) != jnp.shape(z):
            raise ValueError(
                f"The target y has shape {jnp.shape(y)} and dtype {jnp.result_type(y)}: for logits z of shape "
                f"{jnp.shape(z)} give integer labels of shape {jnp.shape(z)[:-1]}, or a distribution of z's shape."
            )
        y = target(y, z)
        J, dL = mean(-(y * log_softmax(z)).sum(-1), w)
        return J, (softmax(z), y, dL)

    def backward(self, residuals: Residuals) -> Array:
        P, y, dL = residuals
        return (P * y.sum(-1, keepdims=True) - y) * dL[..., None]

    def predict(self, z: Array) -> Array:
        return softmax(z)


EXAMPLES = {
    "softmax cross-entropy, labels": LossExample(SoftmaxCrossEntropy(), (4, 3), "labels"),
    "softmax cross-entropy, distributions": LossExample(SoftmaxCrossEntropy(), (4, 3), "distributions"),
    "softmax cross-entropy, rows that do not sum to 1": LossExample(SoftmaxCrossEntropy(), (4, 3), "probabilities"),
}
