"""Dense and Activation layers and our losses, by the formulas that textbooks have for them, in a notation."""

from dataclasses import dataclass
from typing import NamedTuple, TypeGuard

import numpy as np
from jax import Array

from jaxnn.explanation.iteration import Values
from jaxnn.explanation.lines import Line, Notation
from jaxnn.explanation.verdicts import Verdicts
from jaxnn.layers.activation import Activation
from jaxnn.layers.dense import Dense
from jaxnn.layers.dense import Params as WeightsAndBiases
from jaxnn.protocols import Loss, LossFormulas, PyTree

PASSES = ("forward", "backward")


class Parameter(NamedTuple):
    symbol: str
    value: np.ndarray


def in_textbooks(rule: PyTree) -> TypeGuard[Dense | Activation]:
    """Whether it is a Dense with a bias or an Activation, with its own passes: those of a subclass may be others."""
    kind = next((kind for kind in (Dense, Activation) if isinstance(rule, kind)), None)
    if kind is None or not getattr(rule, "bias", True):
        return False
    return all(getattr(type(rule), name) is getattr(kind, name) for name in PASSES)


def has_formulas(rule: PyTree) -> TypeGuard[Loss]:
    """Whether it is a loss that says its own formulas, as those that ship do without settings."""
    return getattr(rule, "formulas", None) is not None


@dataclass(frozen=True)
class WrittenDense:
    """A `Dense` layer, whose weights are W1 where k is 1, and whose input is called x."""

    layer: Dense
    x: str
    k: int
    notation: Notation

    @property
    def words(self) -> dict[str, str]:
        return {"x": self.x, "W": f"W{self.k}", "b": f"b{self.k}", "dz": f"∂J/∂z{self.k}"}

    @property
    def out(self) -> str:
        return f"z{self.k}"

    def parameters(self, params: WeightsAndBiases) -> list[Parameter]:
        W, b = params
        assert b is not None, "without a bias it is not in textbooks"
        words, notation = self.words, self.notation
        return [Parameter(words["W"], weights(W, notation)), Parameter(words["b"], biases(b, notation))]

    def forward(self, values: Values) -> list[Line]:
        W, b = self.parameters(values.params)
        z = in_layout(values.out, self.notation)
        return [
            Line(W.symbol, "the weights", W.value),
            Line(b.symbol, "the biases", b.value),
            Line(self.out, self.notation.z.format(**self.words), z),
        ]

    def backward(self, values: Values, verdicts: Verdicts) -> list[Line]:
        words, notation = self.words, self.notation
        W, b = self.parameters(values.params)
        dW, db = self.parameters(values.dparams)
        verdict_of_dW, verdict_of_db = verdicts.dparams
        lines = [
            Line(f"∂J/∂{W.symbol}", notation.dW.format(**words), dW.value, self.x, verdict=verdict_of_dW),
            Line(f"∂J/∂{b.symbol}", notation.db.format(**words), db.value, "1", verdict=verdict_of_db),
        ]
        if self.x != "x":
            dx = in_layout(values.dx, notation)
            lines.append(Line(f"∂J/∂{self.x}", notation.dx.format(**words), dx, W.symbol, W.value, verdicts.dx))
        return lines


@dataclass(frozen=True)
class WrittenActivation:
    """An `Activation` from z to out."""

    layer: Activation
    z: str
    out: str
    notation: Notation

    def parameters(self, params: tuple[()]) -> list[Parameter]:
        return []

    def forward(self, values: Values) -> list[Line]:
        formula = self.layer.rule.formula.format(z=self.z, slope=self.layer.slope)
        return [Line(self.out, formula, in_layout(values.out, self.notation))]

    def backward(self, values: Values, verdicts: Verdicts) -> list[Line]:
        rule = self.layer.rule
        local = rule.derivative.format(z=self.z, a=self.out, slope=self.layer.slope)
        dg, dz = (in_layout(v, self.notation) for v in (rule.dg(values.residuals), values.dx))
        return [Line(f"∂J/∂{self.z}", f"∂J/∂{self.out} ⊙ ({local})", dz, local, dg, verdicts.dx)]


@dataclass(frozen=True)
class WrittenLoss:
    """A loss with `formulas`, of an output that is called z."""

    loss: Loss
    z: str
    notation: Notation

    @property
    def formulas(self) -> LossFormulas:
        assert self.loss.formulas, "it is asked first whether it has some"
        return self.loss.formulas

    def forward(self, z: Array, y: PyTree) -> list[Line]:
        """ŷ; and J last."""
        y_hat, L, _ = self.formulas
        J, _ = self.loss.forward(z, y)
        return [
            Line("ŷ", y_hat.format(z=self.z), in_layout(self.loss.predict(z), self.notation)),
            Line("J", f"1/m Σᵢ Σₖ [{L}]", np.asarray(J)),
        ]

    def backward(self, z: Array, y: PyTree, verdicts: Verdicts) -> list[Line]:
        _, residuals = self.loss.forward(z, y)
        dz = in_layout(self.loss.backward(residuals), self.notation)
        return [Line(f"∂J/∂{self.z}", self.formulas.dz.format(z=self.z), dz, verdict=verdicts.dx)]


def in_layout(v: PyTree, notation: Notation) -> np.ndarray:
    """(m, n) as the notation has it."""
    return np.asarray(v).T if notation.columns else np.asarray(v)


def weights(W: Array, notation: Notation) -> np.ndarray:
    return np.asarray(W).T if notation.transposed else np.asarray(W)


def biases(b: Array, notation: Notation) -> np.ndarray:
    return np.asarray(b)[:, None] if notation.columns else np.asarray(b)
