"""The chain rule of a network, link by link: what is computed, of which shape, and what comes back through it."""

import dataclasses
from collections.abc import Iterator
from operator import itemgetter

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from jax.tree_util import tree_leaves_with_path

from jaxnn import verify
from jaxnn.backprop import value_and_grad
from jaxnn.explanation.explanation import Explanation
from jaxnn.explanation.iteration import Iteration, Values, iteration_of
from jaxnn.explanation.lines import Line, Notation, decimal, updated
from jaxnn.explanation.names import unused
from jaxnn.explanation.textbook import (
    WrittenActivation,
    WrittenDense,
    WrittenLoss,
    has_formulas,
    in_layout,
    in_textbooks,
)
from jaxnn.explanation.traced import OtherEquations, TracedLayer, TracedLoss
from jaxnn.explanation.verdicts import AllVerdicts, verdicts_of, with_dx
from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.layers.dense import Params as DenseParams
from jaxnn.layers.repeat import Repeat
from jaxnn.layers.tied import Tied
from jaxnn.layers.unembedding import Unembedding
from jaxnn.penalty import L2, is_weight
from jaxnn.protocols import Layer, LossPair, Params, PyTree

NOTATIONS = {
    "rows": Notation("{x} {W}ᵀ + {b}", "({dz})ᵀ {x}", "Σᵢ {dz}", "{dz} {W}", False, False),
    "columns": Notation("{W} {x} + {b}", "{dz} {x}ᵀ", "Σᵢ {dz}", "{W}ᵀ {dz}", True, False),
    "wtx": Notation("{W}ᵀ {x} + {b}", "{x} ({dz})ᵀ", "Σᵢ {dz}", "{W} {dz}", True, True),
}
RESERVED = ("x", "y", "ŷ", "J", "R")

WrittenLayer = WrittenDense | WrittenActivation | TracedLayer


def explain(
    model: Layer,
    loss: LossPair,
    params: Params,
    x: PyTree,
    y: PyTree,
    *,
    penalty: L2 | None = None,
    notation: str = "rows",
    learning_rate: float = 0.1,
) -> Explanation:
    """The `Explanation` of a network of any layers, and any loss: see protocols.py.

    The layers of a `Chain` or `Repeat`, nested or not, are explained one by one, an `Unembedding` as the `Dense` layer
    without a bias that it is where z is multiplied out. `Dense` and `Activation` layers and
    losses with `formulas` are written as textbooks do; every other layer and loss by the equations of its own code, in
    the names of its parameters and of its variables, with the number of the layer; layers inside it by theirs.
    x (m, …) and y as the network and the loss want them; penalty: an `L2`, or None. notation: rows (z = x Wᵀ + b),
    columns (W x + b) or wtx (Wᵀ x + b, with W (n_in, n_out)); values are given with the shapes that it has. Code has
    its own notation, which is that of rows. The update is that of gradient descent with this learning rate. Every
    ∂J/∂v has the verdict of `verify.model` on it, at these params and data; inside a layer it is that on what comes
    back to the layer, where the layer makes the right thing of it.
    ValueError: another notation, or one that does not fit the layers or x; J is not finite. TypeError: another penalty,
    a loss or layer without a backward pass or that JAX cannot trace, a `Tied` one, or no parameters.
    """
    iterations = descend(model, loss, params, x, y, penalty=penalty, notation=notation, learning_rate=learning_rate)
    return next(iterations)


def descend(
    model: Layer,
    loss: LossPair,
    params: Params,
    x: PyTree,
    y: PyTree,
    *,
    penalty: L2 | None = None,
    notation: str = "rows",
    learning_rate: float = 0.1,
) -> Iterator[Explanation]:
    """The `Explanation`s of one iteration of gradient descent after the other, while J is finite and computed by the
    same equations; see `explain`. The verdicts are of the first, and given there alone."""
    layers = list(flat(model, params))
    chain, params = Chain(tuple(layer for layer, _ in layers)), tuple(p for _, p in layers)  # one chain: one numbering
    check(model, chain, loss, params, penalty)
    x = as_input(x, chain, params)
    layout = notation_of(notation, chain, loss, x)
    report = verify.model(chain, loss, x, y, params, penalty, points="given")
    verdicts = verdicts_of(report, chain, params)
    if not in_textbooks(chain.layers[0]):
        verdicts.layers[0] = with_dx(verdicts.layers[0], chain.layers[0], params[0], x)
    iteration = iteration_of(chain, loss, params, x, y)
    J, _ = loss.forward(iteration.out, y)
    if not np.isfinite(J):
        raise ValueError(f"J is {float(J)} at these params and {len(x)} examples: it has no gradient to explain.")
    network = network_with_symbols(chain, loss, iteration, penalty, layout)
    while True:
        try:
            forward, backward = network.forward(iteration), network.backward(iteration, verdicts)
        except OtherEquations:
            return
        update = network.update(iteration, backward, learning_rate)
        yield Explanation(forward, backward, update, report, layout if network.is_of_textbooks else None)
        J, dparams = value_and_grad(chain, loss, penalty)(params, x, y)
        if not np.isfinite(J):
            return
        params = jax.tree.map(lambda v, dv: v - learning_rate * dv, params, dparams)
        iteration, verdicts = iteration_of(chain, loss, params, x, y), verdicts_of(None, chain, params)


def flat(model: Layer, params: Params) -> Iterator[tuple[Layer, Params]]:
    """The layers of a chain, and of chains and repeated layers in it, with their params. The z of an `Unembedding` is
    multiplied out, as by the `Dense` layer that it then is."""
    if isinstance(model, Chain):
        for layer, p in zip(model.layers, params, strict=True):
            yield from flat(layer, p)
    elif isinstance(model, Repeat):
        for i in range(model.n):
            yield from flat(model.layer, jax.tree.map(itemgetter(i), params))
    elif isinstance(model, Unembedding):
        yield Dense(model.width, model.n, model.initializer, bias=False), DenseParams(params.W, None)
    else:
        yield model, params


def has_textbook_formulas(rule: Layer | LossPair) -> bool:
    """Whether it is written by formulas of ours, and not by its code."""
    return has_formulas(rule) or in_textbooks(rule)


def check(model: Layer, chain: Chain, loss: LossPair, params: Params, penalty: L2 | None) -> None:
    """TypeError: what cannot be explained."""
    for rule in (*chain.layers, loss):
        if isinstance(rule, Tied):
            raise TypeError(
                f"A model with one array in two places is not explained: explain {rule.layer} without Tied."
            )
        if not (hasattr(rule, "forward") and hasattr(rule, "backward")):
            raise TypeError(
                f"{type(rule).__name__} cannot be explained: it has no forward and backward, see jaxnn/protocols.py."
            )
    if not jax.tree.leaves(params):
        raise TypeError(f"{model} cannot be explained: it has no parameters, so nothing to learn.")
    if not isinstance(penalty, L2 | None):
        raise TypeError(f"{type(penalty).__name__} cannot be explained: an L2 can, or None.")


def as_input(x: PyTree, chain: Chain, params: Params) -> Array:
    """x in the dtype of the params; whole numbers as they are if the first layer may want them."""
    array = jnp.asarray(x)
    if jnp.issubdtype(array.dtype, jnp.integer) and not has_textbook_formulas(chain.layers[0]):
        return array
    return jnp.asarray(x, jax.tree.leaves(params)[0].dtype)


def notation_of(name: str, chain: Chain, loss: LossPair, x: Array) -> Notation:
    """The `Notation` of this name. ValueError: there is none, or it does not fit the layers, the loss or x."""
    if name not in NOTATIONS:
        raise ValueError(f"There is no notation {name!r}: use one of {', '.join(NOTATIONS)}.")
    notation = NOTATIONS[name]
    rules: list[Layer | LossPair] = [*chain.layers, loss]
    code = [type(rule).__name__ for rule in rules if not has_textbook_formulas(rule)]
    if code and notation.columns:
        raise ValueError(f"{code[0]} is written as its own code has it, one example a row: use notation 'rows'.")
    if x.ndim < 2 and not code:
        raise ValueError(f"x has shape {x.shape}: give one example a row, (m, n_in).")
    if x.ndim > 2 and notation.columns:
        raise ValueError(f"x has shape {x.shape}: in the notation {name!r} give one example a row, (m, n_in).")
    return notation


@dataclasses.dataclass(frozen=True)
class WrittenNetwork:
    """A network and its loss, with symbols and formulas for all that they compute."""

    layers: list[WrittenLayer]
    loss: WrittenLoss | TracedLoss
    penalty: L2 | None
    notation: Notation

    @property
    def is_of_textbooks(self) -> bool:
        """Whether it is a network of Dense and Activation layers alone."""
        return not any(isinstance(layer, TracedLayer) for layer in self.layers)

    def forward(self, iteration: Iteration) -> tuple[Line, ...]:
        lines = [Line("x", "the examples", in_layout(iteration.x, self.notation))]
        for layer, values in zip(self.layers, iteration.layers, strict=True):
            lines += layer.forward(values)
        *on_the_way, J = self.loss.forward(iteration.out, iteration.y)
        if self.penalty is None:
            return (*lines, *on_the_way, J)
        R, _ = self.penalty.forward([values.params for values in iteration.layers])
        J = Line("J", f"{J.formula} + R", np.asarray(J.value + R))
        return (*lines, *on_the_way, Line("R", f"½ {decimal(self.penalty.lam)} Σ W²", np.asarray(R)), J)

    def backward(self, iteration: Iteration, verdicts: AllVerdicts) -> tuple[Line, ...]:
        lines = self.loss.backward(iteration.out, iteration.y, verdicts.loss)
        for layer, values, of_layer in reversed(list(zip(self.layers, iteration.layers, verdicts.layers, strict=True))):
            decay = self.decay(layer, values)
            lines += [with_decay(line, decay) for line in layer.backward(values, of_layer)]
        return tuple(lines)

    def decay(self, layer: WrittenLayer, values: Values) -> dict[str, tuple[str, np.ndarray]]:
        """{∂J/∂W: (the formula of ∂R/∂W, its value)} of the weights of a layer."""
        if self.penalty is None:
            return {}
        lam = self.penalty.lam
        paths = [path for path, _ in tree_leaves_with_path(values.params)]
        parameters = zip(paths, layer.parameters(values.params), strict=True)
        weights = [parameter for path, parameter in parameters if is_weight(path)]
        return {f"∂J/∂{W.symbol}": (f"{decimal(lam)} {W.symbol}", lam * W.value) for W in weights}

    def update(self, iteration: Iteration, backward: tuple[Line, ...], learning_rate: float) -> tuple[Line, ...]:
        derivatives = {line.symbol: line.value for line in backward}
        lines = []
        for layer, values in zip(self.layers, iteration.layers, strict=True):
            for symbol, value in layer.parameters(values.params):
                lines.append(updated(symbol, value, derivatives[f"∂J/∂{symbol}"], learning_rate))
        return tuple(lines)


def with_decay(line: Line, decay: dict[str, tuple[str, np.ndarray]]) -> Line:
    """The line of ∂J/∂W with ∂R/∂W added."""
    if line.symbol not in decay:
        return line
    formula, value = decay[line.symbol]
    return dataclasses.replace(line, formula=f"{line.formula} + {formula}", value=line.value + value)


def network_with_symbols(
    chain: Chain, loss: LossPair, iteration: Iteration, penalty: L2 | None, notation: Notation
) -> WrittenNetwork:
    """The network with its symbols: those of layer k end in k, which counts the layers that learn."""
    symbol, k, taken = "x", 0, {*RESERVED}
    layers: list[WrittenLayer] = []
    for layer, values in zip(chain.layers, iteration.layers, strict=True):
        written: WrittenLayer
        if not in_textbooks(layer):
            written = TracedLayer(layer, values.params, values.x, symbol=symbol, k=k, taken=taken)
            k = written.k
            taken |= written.symbols
        elif isinstance(layer, Dense):
            k += 1
            written = WrittenDense(layer, symbol, k, notation)
        else:
            out = f"a{k}" if k and f"a{k}" not in taken else unused(symbol, taken)
            written = WrittenActivation(layer, symbol, out, notation)
        layers.append(written)
        symbol = written.out
        taken |= {symbol}
    if has_formulas(loss):
        return WrittenNetwork(layers, WrittenLoss(loss, symbol, notation), penalty, notation)
    return WrittenNetwork(
        layers, TracedLoss(loss, iteration.out, iteration.y, symbol=symbol, taken=taken), penalty, notation
    )
