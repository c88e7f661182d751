"""L = Σ_k ½ e_k² where |e_k| ≤ δ, else δ (|e_k| − ½ δ), with e = z − y"""

from dataclasses import dataclass
from typing import ClassVar

from jax import Array

from jaxnn.mean import mean, target
from jaxnn.ops.huber import bwd, fwd
from jaxnn.protocols import LossExample, LossFormulas, Output, Residuals, Target


@dataclass(frozen=True)
class Huber:
    """L = Σ_k h(z_k − y_k) of one example, h(e) = ½ e² if |e| ≤ δ, else δ (|e| − ½ δ); J = Σ wᵢLᵢ / Σ wᵢ.

    z and y (…, K), w (…) or None. An error beyond δ costs as its size, not as its square: outliers pull less.
    ∂J/∂z = clip(z − y, −δ, δ) · ∂J/∂L    h′(e) = e within δ, and δ sign e beyond; ∂J/∂L = w / Σw, that is 1/m

    The rule is that of `jaxnn.ops.huber`. y_hat = z. ValueError: a δ that is not positive, y of another shape than z.
    Source: Huber (1964).
    """

    delta: float = 1.0
    metric: ClassVar[str] = "r2"
    output: ClassVar[Output] = "values"
    takes: ClassVar[Target] = "values"
    formulas: ClassVar[LossFormulas] = LossFormulas(
        "{z}", "½ (ŷ − y)² if |ŷ − y| ≤ δ else δ (|ŷ − y| − ½ δ)", "clip(ŷ − y, −δ, δ) / m"
    )

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise ValueError(f"{self}: delta must be a positive number.")

    def forward(self, z: Array, y: Array, w: Array | None = None) -> tuple[Array, Residuals]:
        L, of_L = fwd(z, target(y, z), self.delta)
        J, dL = mean(L.sum(-1), w)
        return J, (of_L, dL)

    def backward(self, residuals: Residuals) -> Array:
        of_L, dL = residuals
        return bwd(self.delta, of_L, dL[..., None])[0]

    def predict(self, z: Array) -> Array:
        return z


EXAMPLES = {
    "Huber": LossExample(Huber(), (4, 3), "values"),
    "Huber, a small delta": LossExample(Huber(0.25), (4, 3), "values"),
}
