"""What is asked of a custom rule beside being right: the same again, under jit and vmap, and differentiable twice."""

import jax
import numpy as np
from jax import numpy as jnp

from jaxnn.verify.evidence.floating import first_line
from jaxnn.verify.evidence.outcome import eps
from jaxnn.verify.tracing.jaxprs import own_derivative

ROUNDINGS = 64


def faults(g, diff, dout):
    """(what is wrong with the rule of g, what is to be known of it): sentences.

    g: a function of a list of arrays to a list of arrays; its rule is taken at `diff`, for the cotangents `dout`."""
    wrong, notes = [], []

    def pull(diff, dout, g=g):
        return jax.vjp(g, diff)[1](dout)[0]

    def other(f, *args):
        """Whether f gives something else than `pull` does; or the error that it raises."""
        try:
            return None if alike(f(*args), pull(*args)) else ""
        except Exception as error:  # whatever a user's rule says
            return first_line(error)

    if other(pull, diff, dout) is not None:
        wrong.append("it gives something else when it is called again")
    if (why := other(jax.jit(pull), diff, dout)) is not None:
        wrong.append(f"under jit it {f'fails: {why}' if why else 'gives something else'}")
    zero = pull(diff, jax.tree.map(jnp.zeros_like, dout))
    if any(np.any(np.asarray(v, np.float64)) for v in zero):
        wrong.append("for a cotangent of zeros it is not 0")
    batch = jax.tree.map(lambda v: jnp.stack([v, v / 2, -v]), (diff, dout))
    one_by_one = lambda diff, dout: jax.tree.map(  # noqa: E731
        lambda *v: jnp.stack(v), *(pull(*jax.tree.map(lambda v, i=i: v[i], (diff, dout))) for i in range(3))
    )
    try:
        if not alike(jax.vmap(pull)(*batch), one_by_one(*batch)):
            wrong.append("under vmap it gives something else than in a loop")
    except Exception as error:
        notes.append(f"the rule cannot be vmapped: {first_line(error)}")
    try:
        again, plain = (
            jax.grad(lambda diff, f=f: sum((v * v).sum() for v in pull(diff, dout, f)))(diff)
            for f in (g, own_derivative(g)[0])
        )
        if not alike(again, plain):
            notes.append("second derivatives through the rule are not those of what it computes")
    except Exception as error:
        notes.append(f"the rule cannot be differentiated again: {first_line(error)}")
    return wrong, notes


def alike(ours, true):
    return not unlike(ours, true)


def unlike(ours, true):
    """Which of a list of arrays differ, by more than roundings of the largest or, where that is nothing, of the
    cotangents': a derivative may be 0 by cancellation. What is undefined on both sides is alike."""
    wide = [[np.asarray(v, np.float64) for v in leaves] for leaves in (ours, true)]
    size = max((np.abs(v[np.isfinite(v)]).max(initial=0.1) for v in wide[1]), default=0.1)
    tolerances = [ROUNDINGS * eps(v.dtype) * size for v in true]
    return [
        i
        for i, (a, t, tolerance) in enumerate(zip(*wide, tolerances, strict=True))
        if not np.allclose(a, t, rtol=0, atol=tolerance, equal_nan=True)
    ]
