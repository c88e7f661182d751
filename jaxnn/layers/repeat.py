"""n equal layers, one after the other, as one loop: compiled once whatever n is, and no array kept twice."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
from jax import Array, lax
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.layers.activation import Activation
from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.protocols import Layer, LayerExample, Params, Part, PyTree, moved


class Residuals(NamedTuple):
    params: Params  # stacked, as they were given
    keys: Array | None  # (n,)
    x: Array  # (n, …), of each layer
    out: PyTree  # (…) of the last layer; () where it is recomputed
    others: tuple[Array, ...]  # stacked: what else the layers save; () where it is recomputed


@dataclass(frozen=True)
class Repeat:
    """x_i = f(params_i, x_{i−1}), i = 1 … n, with f one layer whose output has the shape of its input.

    ∂J/∂x_{i−1} = (∂x_i/∂x_{i−1})ᵀ ∂J/∂x_i    the chain rule of `Chain`, in a loop

    params: those of f, each leaf with a leading axis n; layer i draws from `fold_in(key, i)`.
    Of what f saves for its backward pass, its params, its x and its output are not saved again: its output is the next
    layer's x. recompute: x_i alone is saved, and f.forward done again on the way back, for less memory and more time.
    Source for recompute: Chen, Xu, Zhang & Guestrin (2016), section 4. ValueError: n below 1, a layer that changes
    the shape.
    """

    layer: Layer
    n: int
    recompute: bool = False

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"Repeat(…, {self.n}): a layer is repeated once at least.")

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Params:
        return jax.vmap(lambda key: self.layer.init(key, dtype))(self.keys(key))

    def keys(self, key: Array | None) -> Array | None:
        return None if key is None else jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(self.n))

    def forward(self, params: Params, x: Array, key: Array | None = None) -> tuple[Array, Residuals]:
        def one(x: Array, given: PyTree) -> tuple[Array, PyTree]:
            p, key = given
            out, residuals = self.layer.forward(p, x, key)
            self.check(x, out)
            return out, (x, () if self.recompute else without(residuals, (p, x, out))[0])

        keys = self.keys(key)
        out, (xs, others) = lax.scan(one, x, (params, keys), self.n)
        return out, Residuals(params, keys, xs, () if self.recompute else out, others)

    def backward(self, residuals: Residuals, dout: Array) -> tuple[Params, Array | None]:
        def one(carry: PyTree, saved: Residuals) -> PyTree:
            dout, out = carry
            dparams, dx = self.layer.backward(self.residuals_of_one(saved._replace(out=out)), dout)
            return (dx, self.out_before(saved)), dparams

        (dx, _), dparams = lax.scan(one, (dout, residuals.out), residuals._replace(out=()), reverse=True)
        return dparams, dx

    def moved(self, params: Params, residuals: Residuals) -> Params:
        def one(out: PyTree, given: PyTree) -> PyTree:
            p, saved = given
            return self.out_before(saved), moved(self.layer, p, self.residuals_of_one(saved._replace(out=out)))

        _, params = lax.scan(one, residuals.out, (params, residuals._replace(out=())), reverse=True)
        return params

    def parts(self, params: Params, residuals: Residuals | None) -> tuple[Part, ...]:
        if residuals is None or self.recompute:
            return (Part("", self.layer, params, None, self.n),)
        outs = jnp.concatenate([residuals.x[1:], residuals.out[None]])
        of_layers = jax.vmap(self.residuals_of_one, axis_size=self.n)(residuals._replace(out=outs))
        return (Part("", self.layer, params, of_layers, self.n),)

    def out_before(self, saved: Residuals) -> Array | tuple[()]:
        """The output of the layer before this one."""
        return () if self.recompute else saved.x

    def residuals_of_one(self, saved: Residuals) -> PyTree:
        """What the layer's `forward` saved, of one layer."""
        params, key, x, out, others = saved
        if self.recompute:
            return self.layer.forward(params, x, key)[1]
        return self.restored((params, x, out), key, others)

    def restored(self, known: PyTree, key: Array | None, others: tuple[Array, ...]) -> PyTree:
        """The same without computing it: `forward` is traced once more, to see which residual is which array.

        known: (params, x, out) of the layer."""
        places: list[int] = []
        tree: PyTree = None

        def trace(params: Params, x: Array) -> None:
            nonlocal places, tree
            out, residuals = self.layer.forward(params, x, key)
            _, places, tree = without(residuals, (params, x, out))

        jax.eval_shape(trace, *known[:2])
        arrays = [*jax.tree.leaves(known), *others]
        return jax.tree.unflatten(tree, [arrays[i] for i in places])

    def apply(self, params: Params, x: Array) -> Array:
        def one(x: Array, p: Params) -> tuple[Array, None]:
            out = self.layer.apply(p, x)
            self.check(x, out)
            return out, None

        return lax.scan(one, x, params, self.n)[0]

    def check(self, x: Array, out: Array) -> None:
        if out.shape != x.shape:
            raise ValueError(
                f"{self}: its layer makes {out.shape} of an input of {x.shape}; give one that keeps the shape, such as "
                "Chain((Dense(3, 4), Dense(4, 3)))."
            )


def without(residuals: PyTree, known: PyTree) -> tuple[tuple[Array, ...], list[int], PyTree]:
    """(the leaves of residuals that are none of known's, each once; the place of every leaf in both; their tree)."""
    leaves, tree = jax.tree.flatten(residuals)
    pool = jax.tree.leaves(known)
    n, places = len(pool), []
    for leaf in leaves:
        if not any(leaf is v for v in pool):
            pool.append(leaf)
        places.append(next(i for i, v in enumerate(pool) if v is leaf))
    return tuple(pool[n:]), places, tree


BLOCK = Chain((Dense(4, 4), Activation("tanh")))
EXAMPLES = {
    "three blocks": LayerExample(Repeat(BLOCK, 3), (5, 4)),
    "three blocks, recomputed": LayerExample(Repeat(BLOCK, 3, recompute=True), (5, 4)),
    "blocks of what saves z": LayerExample(
        Repeat(Chain((Dense(3, 4), Activation("gelu"), Dense(4, 3), Activation("relu"))), 2),
        (5, 3),
    ),
    "repeated twice over": LayerExample(Repeat(Repeat(BLOCK, 2), 2, recompute=True), (3, 4)),
    "one layer without parameters": LayerExample(Repeat(Activation("sigmoid"), 2), (2, 3, 4)),
}
