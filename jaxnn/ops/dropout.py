"""out = x ⊙ b / p, b_i = 1 with probability p, else 0, drawn from a key"""

from functools import partial

import jax
from jax import Array
from jax import numpy as jnp

from jaxnn.cotangent import like, unless_of_type
from jaxnn.dtypes import check_one_dtype
from jaxnn.protocols import key as a_key
from jaxnn.protocols import real


@partial(jax.custom_vjp, nondiff_argnames=("keep",))
def dropout(x: Array, key: Array, keep: float) -> Array:
    """out = x ⊙ b / p, b one number an entry: 1 with probability p, else 0, as `jax.random.bernoulli` draws it from
    the key, in float32 whatever x is; x and out of any one shape.

    ∂J/∂x = dout ⊙ b / p       the same b, drawn again from the key, which is all that is kept

    keep: p; with 1 out is x. A key has no cotangent. Source: Srivastava et al. (2014), section 4 and 10.
    ValueError: keep not above 0 and at most 1. TypeError: an x that is not of a float dtype.
    """
    return fwd(x, key, keep)[0]


def fwd(x: Array, key: Array, keep: float) -> tuple[Array, tuple[Array, Array | None]]:
    check_one_dtype("dropout", x=x)
    if not 0 < keep <= 1:
        raise ValueError(f"dropout was given keep={keep}: give the probability to stay, above 0 and at most 1.")
    out = thinned(x, key, keep)
    return out, (key, unless_of_type(out, x))


def bwd(keep: float, residuals: tuple[Array, Array | None], dout: Array) -> tuple[Array, None]:
    key, x = residuals
    return like(dout if x is None else x, thinned(dout, key, keep)), None


def thinned(v: Array, key: Array, keep: float) -> Array:
    """v ⊙ b / p"""
    b = jax.random.bernoulli(key, jnp.float32(keep), v.shape, out_sharding=jax.typeof(v).sharding)
    return jnp.where(b, v / keep, 0)


dropout.defvjp(fwd, bwd)

EXAMPLES = {
    "rows": {"x": real(4, 5), "key": a_key(), "keep": 0.7},
    "three axes": {"x": real(2, 3, 2), "key": a_key(), "keep": 0.5},
    "all stay": {"x": real(2, 3), "key": a_key(), "keep": 1.0},
}
TRAPS = {
    "1 / p forgotten on the way back": ("thinned(dout, key, keep)), None", "keep * thinned(dout, key, keep)), None"),
    "1 / p twice": ("thinned(dout, key, keep)), None", "thinned(dout, key, keep) / keep), None"),
    "another mask on the way back": (
        "key, x = residuals",
        "key, x = jax.random.fold_in(residuals[0], 1), residuals[1]",
    ),
    "no mask on the way back": ("thinned(dout, key, keep)), None", "dout / keep), None"),
}
