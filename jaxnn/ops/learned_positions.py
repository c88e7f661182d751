"""out_t = x_t + P_t"""

import jax
from jax import Array
from jax import numpy as jnp

from jaxnn.cotangent import like, over_devices, summed, unless_of_type
from jaxnn.dtypes import check_one_dtype
from jaxnn.protocols import Residuals, real


@jax.custom_vjp
def learned_positions(x: Array, P: Array) -> Array:
    """out_t = x_t + P_t, a vector for each of the first T positions; x and out (…, T, n), P (L, n) of L positions,
    T at most.

    ∂J/∂x = dout
    ∂J/∂P_t = Σᵢ dout_it, 0 from t = T on        every example uses the first T rows of P

    Positions of another kind are `embedding(P, positions)`, added. The sums are in float32 at least.
    Source: Gehring, Auli, Grangier, Yarats & Dauphin (2017), section 3.1.
    ValueError: shapes that do not fit, or more positions than P has. TypeError: dtypes that differ.
    """
    return fwd(x, P)[0]


def fwd(x: Array, P: Array) -> tuple[Array, Residuals]:
    check(x, P)
    out = x + P[(None,) * (x.ndim - 2)][..., : x.shape[-2], :]
    return out, (unless_of_type(out, x), P)


def bwd(residuals: Residuals, dout: Array) -> tuple[Array, Array]:
    x, P = residuals
    T = dout.shape[-2]
    dP = jnp.pad(summed(P[:T], dout), ((0, len(P) - T), (0, 0)))
    return like(dout if x is None else x, dout), over_devices(P, dP.astype(P.dtype))


def check(x: Array, P: Array) -> None:
    """ValueError and TypeError of `learned_positions`."""
    check_one_dtype("learned_positions", x=x, P=P)
    if x.ndim < 2 or P.ndim != 2 or x.shape[-1] != P.shape[-1] or x.shape[-2] > len(P):
        given = f"learned_positions was given x of shape {x.shape} and P of {P.shape}"
        raise ValueError(f"{given}: give (…, T, n) and (L, n), with T at most L.")


learned_positions.defvjp(fwd, bwd)

EXAMPLES = {
    "sequences": {"x": real(2, 3, 4), "P": real(5, 4)},
    "all positions": {"x": real(2, 3, 2), "P": real(3, 2)},
    "one sequence": {"x": real(3, 2), "P": real(4, 2)},
    "two leading axes": {"x": real(2, 1, 2, 3), "P": real(3, 3)},
    "one position": {"x": real(3, 1, 2), "P": real(2, 2)},
}
TRAPS = {
    "a mean over the examples": (
        "summed(P[:T], dout)",
        "summed(P[:T], dout) / (dout.size // (T * dout.shape[-1]))",
    ),
    "the last rows of P learn": ("((0, len(P) - T), (0, 0))", "((len(P) - T, 0), (0, 0))"),
    "positions counted from the end": ("summed(P[:T], dout)", "summed(P[:T], dout)[::-1]"),
    "one position's share for all": ("summed(P[:T], dout)", "jnp.broadcast_to(summed(P[:1], dout), P[:T].shape)"),
    "the first example alone": ("summed(P[:T], dout)", "dout.reshape(-1, *P[:T].shape)[0]"),
    "x's part forgotten": ("else x, dout), over", "else x, 0 * dout), over"),
}
