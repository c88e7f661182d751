"""L = Σ_k (q − 1) e_k where e_k < 0, else q e_k, with e = y − z"""

from dataclasses import dataclass
from typing import ClassVar

from jax import Array

from jaxnn.mean import mean, target
from jaxnn.ops.pinball import bwd, fwd
from jaxnn.protocols import LossExample, LossFormulas, Output, Residuals, Target


@dataclass(frozen=True)
class Pinball:
    """L = Σ_k ((q − 1) e_k if e_k < 0 else q e_k) of one example, e = y − z; J = Σ wᵢLᵢ / Σ wᵢ.

    z and y (…, K), w (…) or None. z learns the quantile q of y given x: a share q of the y lies below it.
    ∂J/∂z = (1 − q if y < z else −q) · ∂J/∂L    ∂J/∂L = w / Σw, that is 1/m

    The rule is that of `jaxnn.ops.pinball`. y_hat = z. ValueError: a quantile that is not between 0 and 1, y of another
    shape than z. Source: Koenker & Bassett (1978).
    """

    quantile: float = 0.5
    metric: ClassVar[str] = "r2"
    output: ClassVar[Output] = "values"
    takes: ClassVar[Target] = "values"
    formulas: ClassVar[LossFormulas] = LossFormulas(
        "{z}", "(q − 1) (y − ŷ) if y < ŷ else q (y − ŷ)", "(1 − q if y < ŷ else −q) / m"
    )

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise ValueError(f"{self}: quantile must be between 0 and 1.")

    def forward(self, z: Array, y: Array, w: Array | None = None) -> tuple[Array, Residuals]:
        L, of_L = fwd(z, target(y, z), self.quantile)
        J, dL = mean(L.sum(-1), w)
        return J, (of_L, dL)

    def backward(self, residuals: Residuals) -> Array:
        of_L, dL = residuals
        return bwd(self.quantile, of_L, dL[..., None])[0]

    def predict(self, z: Array) -> Array:
        return z


EXAMPLES = {"pinball": LossExample(Pinball(0.9), (4, 3), "values")}
