"""n equal layers, one after the other, as one loop: compiled once whatever n is, and no array kept twice."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
from jax import Array, lax
from jax import numpy as jnp

from jaxnn.layers.activation import Activation
from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.protocols import Layer, LayerExample, Params


class Residuals(NamedTuple):
    params: Params  # stacked, as they were given
    keys: Array | None  # (n,)
    x: Array  # (n, …), of each layer
    out: Array | tuple[()]  # of the last
    others: tuple[Array, ...]  # stacked: what else the layers save; () for both where it is recomputed


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

    def __post_init__(self):
        if self.n < 1:
            raise ValueError(f"Repeat(…, {self.n}): a layer is repeated once at least.")

    def init(self, key, dtype=jnp.float32):
        return jax.vmap(lambda key: self.layer.init(key, dtype))(self.keys(key))

    def keys(self, key):
        return None if key is None else jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(self.n))

    def forward(self, params, x, key=None):
        def one(x, given):
            out, residuals = self.layer.forward(given[0], x, given[1])
            self.check(x, out)
            return out, (x, () if self.recompute else without(residuals, (given[0], x, out))[0])

        keys = self.keys(key)
        out, (xs, others) = lax.scan(one, x, (params, keys), self.n)
        return out, Residuals(params, keys, xs, () if self.recompute else out, others)

    def backward(self, residuals, dout):
        def one(carry, saved):
            dout, out = carry
            params, key, x, others = saved
            if self.recompute:
                _, residuals = self.layer.forward(params, x, key)
            else:
                residuals = self.restored((params, x, out), key, others)
            dparams, dx = self.layer.backward(residuals, dout)
            return (dx, () if self.recompute else x), dparams

        params, keys, xs, out, others = residuals
        (dx, _), dparams = lax.scan(one, (dout, out), (params, keys, xs, others), reverse=True)
        return dparams, dx

    def restored(self, known, key, others):
        """The layer's residuals: what `forward` met under the same names, traced once more without computing it."""
        met = {}

        def trace(params, x):
            out, residuals = self.layer.forward(params, x, key)
            _, met["places"], met["tree"] = without(residuals, (params, x, out))

        jax.eval_shape(trace, *known[:2])
        pool = [*jax.tree.leaves(known), *others]
        return met["tree"].unflatten([pool[i] for i in met["places"]])

    def apply(self, params, x):
        def one(x, params):
            out = self.layer.apply(params, x)
            self.check(x, out)
            return out, None

        return lax.scan(one, x, params, self.n)[0]

    def check(self, x, out):
        if out.shape != x.shape:
            raise ValueError(
                f"{self}: its layer makes {out.shape} of an input of {x.shape}; give one that keeps the shape, such as "
                "Chain((Dense(3, 4), Dense(4, 3)))."
            )


def without(residuals, known):
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
