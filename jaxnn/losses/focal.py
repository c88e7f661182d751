"""L = −Σ_k (α y_k (1 − p_k)^γ log p_k + (1 − α) (1 − y_k) p_k^γ log(1 − p_k)), p = σ(z), on logits"""

from dataclasses import dataclass
from typing import ClassVar

from jax import Array
from jax.nn import sigmoid

from jaxnn.mean import mean, target
from jaxnn.ops.focal import bwd, fwd
from jaxnn.protocols import LossExample, LossFormulas, Output, Residuals, Target


@dataclass(frozen=True)
class Focal:
    """L = −Σ_k (α y_k (1 − p_k)^γ log p_k + (1 − α) (1 − y_k) p_k^γ log(1 − p_k)) of one example, p = σ(z).

    J = Σ wᵢLᵢ / Σ wᵢ; z and y (…, K), w (…) or None. (1 − p)^γ makes little of examples that are right already.
    ∂J/∂z = (α y (1 − p)^γ (γ p log p + p − 1) − (1 − α) (1 − y) p^γ (γ (1 − p) log(1 − p) − p)) · ∂J/∂L

    The rule is that of `jaxnn.ops.focal`, finite for finite z. y_hat = p. ValueError: an α outside of 0 … 1, a negative
    γ, y of another shape than z. Source: Lin et al. (2017), eq. 5.
    """

    alpha: float = 0.25
    gamma: float = 2.0
    metric: ClassVar[str] = "binary_accuracy"
    output: ClassVar[Output] = "values"
    takes: ClassVar[Target] = "probabilities"
    formulas: ClassVar[LossFormulas] = LossFormulas(
        "σ({z})",
        "−α y (1 − ŷ)^γ log ŷ − (1 − α) (1 − y) ŷ^γ log(1 − ŷ)",
        "(α y (1 − ŷ)^γ (γ ŷ log ŷ + ŷ − 1) − (1 − α) (1 − y) ŷ^γ (γ (1 − ŷ) log(1 − ŷ) − ŷ)) / m",
    )

    def __post_init__(self) -> None:
        if not (0 <= self.alpha <= 1 and self.gamma >= 0):
            raise ValueError(f"{self}: alpha is from 0 to 1, and gamma 0 or more.")

    def forward(self, z: Array, y: Array, w: Array | None = None) -> tuple[Array, Residuals]:
        L, of_L = fwd(z, target(y, z), self.alpha, self.gamma)
        J, dL = mean(L.sum(-1), w)
        return J, (of_L, dL)

    def backward(self, residuals: Residuals) -> Array:
        of_L, dL = residuals
        return bwd(self.alpha, self.gamma, of_L, dL[..., None])[0]

    def predict(self, z: Array) -> Array:
        return sigmoid(z)


EXAMPLES = {"focal": LossExample(Focal(), (4, 3), "probabilities")}
