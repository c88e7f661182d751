"""Where a number stopped being finite: the epochs of a chunk again, one iteration at a time."""

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp

from jaxnn.protocols import Params
from jaxnn.training import health
from jaxnn.training.epoch import Run, State, rows_of, step
from jaxnn.training.prepare import Batch, cast


def last_finite(
    run: Run, data: Batch, key: Array, state: State, *, last: int, orders: np.ndarray | None
) -> tuple[Params, str]:
    """Replays epochs, from `state` on through `last`, in which something was not finite, one iteration at a time.

    (the last params with which all was finite, a phrase that says where something was not)
    """
    one_step = jax.jit(step, static_argnums=0)
    m, start, params, opt_state = len(data.x), int(state.epoch), state.params, state.opt_state
    for epoch in range(start, last + 1):
        draw_key = jax.random.fold_in(key, epoch)
        cuts = range(run.batch_size, m, run.batch_size)
        batches: list[np.ndarray | None] = [None] if orders is None else [*np.split(orders[epoch - start], cuts)]
        for i, index in enumerate(batches):
            batch = rows_of(run, data, index)
            step_key = jax.random.fold_in(draw_key, i)
            after, opt_state, J, *_ = one_step(run, params, opt_state, batch, step_key)
            if not health.is_finite((J, after)):
                culprit = params if not jnp.isfinite(J) else after
                layer = health.first_not_finite(run.model, cast(culprit, run.dtype), batch.x, step_key)
                return params, f"iteration {i + 1}, {layer} was not finite"
            params = after
    return params, "the validation cost was not finite"
