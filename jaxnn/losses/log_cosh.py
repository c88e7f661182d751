"""L = Σ_k log cosh(z_k − y_k)"""

from dataclasses import dataclass
from typing import ClassVar

from jax import Array

from jaxnn.mean import mean, target
from jaxnn.ops.log_cosh import bwd, fwd
from jaxnn.protocols import LossExample, LossFormulas, Output, Residuals, Target


@dataclass(frozen=True)
class LogCosh:
    """L = Σ_k log cosh(z_k − y_k) of one example, J = Σ wᵢLᵢ / Σ wᵢ; z and y (…, K), w (…) or None.

    Near 0 it is half the square of an error, far out its size: a Huber loss without a kink in its slope.
    ∂J/∂z = tanh(z − y) · ∂J/∂L    ∂J/∂L = w / Σw, that is 1/m

    The rule is that of `jaxnn.ops.log_cosh`. y_hat = z. ValueError: y of another shape than z.
    """

    metric: ClassVar[str] = "r2"
    output: ClassVar[Output] = "values"
    takes: ClassVar[Target] = "values"
    formulas: ClassVar[LossFormulas] = LossFormulas("{z}", "log cosh(ŷ − y)", "tanh(ŷ − y) / m")

    def forward(self, z: Array, y: Array, w: Array | None = None) -> tuple[Array, Residuals]:
        L, of_L = fwd(z, target(y, z))
        J, dL = mean(L.sum(-1), w)
        return J, (of_L, dL)

    def backward(self, residuals: Residuals) -> Array:
        of_L, dL = residuals
        return bwd(of_L, dL[..., None])[0]

    def predict(self, z: Array) -> Array:
        return z


EXAMPLES = {"log cosh": LossExample(LogCosh(), (4, 3), "values")}
