"""out = f(θ, x) where two arrays of θ are one"""

from dataclasses import dataclass

import jax
from jax import Array
from jax import numpy as jnp
from jax.tree_util import keystr, tree_map_with_path
from jax.typing import DTypeLike

from jaxnn.layers.activation import Activation
from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.protocols import Layer, LayerExample, Params, Part, PyTree, Residuals, moved, parts_of, without_statistics


@dataclass(frozen=True)
class Tied:
    """out = f(θ, x), f a layer and θ its params, of which one array stands in two places: θ_first = θ_second = v.

    ∂J/∂v = ∂J/∂θ_first + ∂J/∂θ_second    v reaches J from both places

    first, second: the places, such as "0/W" and "3/W". params: those of f, with None in the second place.
    Source: Press & Wolf (2017). ValueError: a place where f has no array, or arrays of two shapes.
    """

    layer: Layer
    first: str
    second: str

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Params:
        params = self.layer.init(key, dtype)
        shapes = {place: jnp.shape(v) for place, v in leaves(without_statistics(params)).items()}
        if not {self.first, self.second} <= set(shapes) or self.first == self.second:
            raise ValueError(f"{self}: its layer learns {', '.join(shapes) or 'nothing'}; name two of these arrays.")
        if shapes[self.first] != shapes[self.second]:
            raise ValueError(f"{self}: one array has the shape {shapes[self.first]}, the other {shapes[self.second]}.")
        return put(params, self.second, None)

    def forward(self, params: Params, x: Array, key: Array | None = None) -> tuple[Array, Residuals]:
        return self.layer.forward(self.whole(params), x, key)

    def backward(self, residuals: Residuals, dout: Array) -> tuple[Params, Array | None]:
        grads, dx = self.layer.backward(residuals, dout)
        of = leaves(grads)
        return put(put(grads, self.first, of[self.first] + of[self.second]), self.second, None), dx

    def apply(self, params: Params, x: Array) -> Array:
        return self.layer.apply(self.whole(params), x)

    def moved(self, params: Params, residuals: Residuals) -> Params:
        return put(moved(self.layer, self.whole(params), residuals), self.second, None)

    def parts(self, params: Params, residuals: Residuals | None) -> tuple[Part, ...]:
        whole = self.whole(params)
        return parts_of(self.layer, whole, residuals) or (Part("0", self.layer, whole, residuals),)

    def whole(self, params: Params) -> Params:
        """The params of f, with v in both places. ValueError: these are not the params of this layer."""
        arrays = leaves(params)
        if self.first not in arrays or self.second in arrays:
            given = ", ".join(arrays)
            raise ValueError(f"{self} has one array, at {self.first}, and None at {self.second}; given are {given}.")
        return put(params, self.second, arrays[self.first])


def leaves(params: Params) -> dict[str, Array]:
    """{place: array}"""
    paths, _ = jax.tree_util.tree_flatten_with_path(params)
    return {name(path): v for path, v in paths}


def put(params: Params, place: str, v: PyTree) -> Params:
    """The params with v in this place."""
    return tree_map_with_path(lambda path, old: v if name(path) == place else old, params, is_leaf=lambda v: v is None)


def name(path: PyTree) -> str:
    return keystr(path, simple=True, separator="/")


EXAMPLES = {
    "two layers with one W": LayerExample(
        Tied(Chain((Dense(2, 4), Activation("tanh"), Dense(4, 2), Dense(2, 4, bias=False))), "0/W", "3/W"), (5, 2)
    ),
}
