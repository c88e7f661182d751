"""L = −Σ_k y_k log softmax(z)_k, on logits"""

from dataclasses import dataclass, fields
from typing import ClassVar

import jax
from jax import Array
from jax import numpy as jnp
from jax.typing import ArrayLike

from jaxnn.factored import Factored, whole
from jaxnn.mean import mean
from jaxnn.ops.linear_cross_entropy import Settings
from jaxnn.ops.linear_cross_entropy import bwd as fused_bwd
from jaxnn.ops.linear_cross_entropy import fwd as fused_fwd
from jaxnn.ops.softmax_cross_entropy import bwd, capped, fwd, share
from jaxnn.protocols import LossExample, LossFormulas, Output, Residuals, Target
from jaxnn.text import text


@dataclass(frozen=True, repr=False)
class SoftmaxCrossEntropy:
    """L = −Σ_k y_k log P_k of one example, P = softmax(z), J = Σ wᵢLᵢ / Σ wᵢ; z (…, K), w (…) or None.

    y: integer labels 0 … K−1 of shape (…), which stand for one-hot rows, or a distribution over the classes (…, K).
    ∂J/∂z = (P Σ_k y_k − y) · ∂J/∂L    ∂ log P_k/∂z_j = [j = k] − P_j; Σ_k y_k = 1 leaves P − y; ∂J/∂L = w / Σw

    z may be a `Factored` h Wᵀ, with labels and without class_weights: it is multiplied out for `chunk` examples at a
    time, by the rule of `jaxnn.ops.linear_cross_entropy`, and the gradient is that of h and of W.

    The rule is that of `jaxnn.ops.softmax_cross_entropy`, which says what L is with smoothing, z_loss, soft_cap and
    class_weights, one a class. J = Σ wᵢLᵢ / Σ wᵢcᵢ, with c_i the weight of the label's class, Σ_k y_k times that of
    class k for a distribution; an example whose label is `ignore` counts in neither sum, and J is 0 if none counts.
    y_hat = P, of the capped z. ValueError: y neither of z's shape nor integer labels of z's shape without the last
    axis; class_weights that are negative or not one a class, a smoothing outside of 0 … 1, a negative z_loss, or a
    soft_cap that is not positive. Source: Bishop (2006), eq. 4.108 and 4.109.
    """

    ignore: int | None = None
    smoothing: float = 0.0
    z_loss: float = 0.0
    soft_cap: float | None = None
    class_weights: tuple[float, ...] | None = None
    chunk: int = 256
    metric: ClassVar[str] = "accuracy"
    output: ClassVar[Output] = "values"
    takes: ClassVar[Target] = "labels"

    def __post_init__(self) -> None:
        if self.class_weights is not None:
            object.__setattr__(self, "class_weights", tuple(map(float, self.class_weights)))  # a list would not hash
        if self.chunk < 1:
            raise ValueError(f"{self}: chunk is 1 example or more.")
        if not (0 <= self.smoothing <= 1 and self.z_loss >= 0 and (self.soft_cap is None or self.soft_cap > 0)):
            raise ValueError(f"{self}: smoothing is from 0 to 1, z_loss 0 or more, and soft_cap None or positive.")
        if self.class_weights is not None and not all(weight >= 0 for weight in self.class_weights):
            raise ValueError(f"{self}: class_weights are 0 or more.")

    def __repr__(self) -> str:
        return text(self, *(field.name for field in fields(self)))

    @property
    def formulas(self) -> LossFormulas | None:
        """None with settings: J is then no mean of a sum over outputs, and is written as its code has it."""
        plain = self == SoftmaxCrossEntropy(chunk=self.chunk)
        return LossFormulas("softmax({z})", "−y log ŷ", "(ŷ − y) / m") if plain else None

    def forward(self, z: Array | Factored, y: ArrayLike, w: Array | None = None) -> tuple[Array, Residuals]:
        y = jnp.asarray(y)
        if isinstance(z, Factored):
            return self.of_factored(z, y, w)
        if y.shape == z.shape or not jnp.issubdtype(y.dtype, jnp.integer):
            y = y.astype(z.dtype)
        weights = None if self.class_weights is None else jnp.asarray(self.class_weights, z.dtype)
        L, of_L = fwd(z, y, weights, *self.settings)
        J, dL = mean(L, w, share(z, y, weights, self.ignore))
        return J, (of_L, dL)

    @property
    def settings(self) -> Settings:
        """Of both ops."""
        return Settings(self.ignore, self.smoothing, self.z_loss, self.soft_cap)

    def of_factored(self, z: Factored, y: Array, w: Array | None) -> tuple[Array, Residuals]:
        if self.class_weights is not None:
            raise ValueError(f"{self} was given z as h and W: with class_weights give it whole, z.product().")
        if not jnp.issubdtype(y.dtype, jnp.integer):
            raise ValueError(f"{self} was given z as h and W: with y of {y.dtype} give it whole, z.product().")
        if w is not None and jnp.shape(w) != y.shape:
            raise ValueError(f"The weights w have shape {jnp.shape(w)}: they must be {y.shape}, one number an example.")
        J, saved = fused_fwd(z.h, z.W, y, None, w, *self.settings, "mean", self.chunk)
        return J, (saved, None)

    def backward(self, residuals: Residuals) -> Array | Factored:
        of_L, dL = residuals
        if dL is None:
            *_, J = of_L
            dh, dW, *_ = fused_bwd(*self.settings, "mean", self.chunk, of_L, jnp.ones_like(J))
            return Factored(dh, dW)
        return bwd(*self.settings, of_L, dL)[0]

    def predict(self, z: Array | Factored) -> Array:
        return jax.nn.softmax(capped(whole(z), self.soft_cap))


EXAMPLES = {
    "softmax cross-entropy, labels": LossExample(SoftmaxCrossEntropy(), (4, 3), "labels"),
    "softmax cross-entropy, distributions": LossExample(SoftmaxCrossEntropy(), (4, 3), "distributions"),
    "softmax cross-entropy, rows that do not sum to 1": LossExample(SoftmaxCrossEntropy(), (4, 3), "probabilities"),
    "softmax cross-entropy, with settings": LossExample(
        SoftmaxCrossEntropy(ignore=1, smoothing=0.1, z_loss=0.2, soft_cap=2.0, class_weights=(0.5, 2.0, 1.5)),
        (4, 3),
        "labels",
    ),
}
