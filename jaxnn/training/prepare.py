"""What a run is given, checked once: settings, arrays, dtype, order, length of a chunk."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from jaxnn.data.checks import check_data, check_labels
from jaxnn.mean import at_least_float32
from jaxnn.protocols import Layer, Params, PyTree, learned, without_statistics

Order = Callable[[int], ArrayLike]  # of an epoch: its row numbers


class Batch(NamedTuple):
    """Examples: inputs, targets, and the weights if there are any."""

    x: Array  # (m, …)
    y: Array  # (m, …)
    w: Array | None  # (m, …)


CHUNK_ITERATIONS, CHUNK_WORK = 10_000, 1e10  # a chunk of several epochs has at most so many iterations, so many flop


def cast(tree: PyTree, dtype: DTypeLike | Callable[[np.dtype], DTypeLike]) -> PyTree:
    """The tree with its floating leaves in `dtype`, or in dtype(that of the leaf); statistics in float32 at least."""

    def in_dtype(v: Array, is_learned: bool) -> Array:
        if not jnp.issubdtype(v.dtype, jnp.floating):
            return v
        if not is_learned:
            return v.astype(at_least_float32(v.dtype))
        return v.astype(dtype(v.dtype) if callable(dtype) else dtype)

    return jax.tree.map(in_dtype, tree, learned(tree))


def shuffled(key: Array, m: int) -> Order:
    """order(epoch): all rows in a new order. Drawn on the host: XLA on a CPU takes 50 times as long to sort them."""
    seed = jax.random.key_data(key).ravel().tolist()
    return lambda epoch: np.random.default_rng([*seed, epoch]).permutation(m)


@partial(jax.jit, static_argnums=(0, 2))
def initial_params(model: Layer, key: Array, dtype: DTypeLike) -> Params:
    """Where training starts."""
    return model.init(key, dtype)


def check_at_least(least: int, **settings: float | None) -> None:
    """ValueError for the first setting that is below `least`, or 2³¹ and more: it would not fit into an int32."""
    for name, value in settings.items():
        if value is not None and not least <= value < 2**31:
            raise ValueError(f"{name} is {value}: it must be {least} or more, and below 2³¹.")


def rows_a_batch(batch_size: int | None, m: int) -> int:
    """All m for None; warns where more are asked for than there are."""
    if batch_size is not None and batch_size > m:
        warnings.warn(f"batch_size {batch_size} is more than the {m} rows: each batch is all of them.", stacklevel=3)
    return min(batch_size or m, m)


def chunk_length(*, epochs: int, looks: int, m: int, batch_size: int, n_params: int) -> int:
    """The epochs of one compiled call: at most epochs / looks, so that the host can look that often; at most
    CHUNK_ITERATIONS and CHUNK_WORK; one at least; all calls about equally long."""
    work = 6 * batch_size * n_params  # flop of an iteration, near enough
    iterations = np.clip(CHUNK_WORK // (work + 1), 1, CHUNK_ITERATIONS)
    most = int(np.clip(iterations * batch_size // m, 1, max(1, epochs // looks)))
    return math.ceil(epochs / math.ceil(epochs / most))


def compute_dtype(dtype: DTypeLike | None, params: Params | None, x: ArrayLike) -> np.dtype:
    """The dtype a run computes in: what was asked for, or that of the params, of a floating x, or float32.

    ValueError: float64 where JAX has none.
    """
    if dtype is None:
        given, *_ = *jax.tree.leaves(without_statistics(params)), np.asarray(x)
        dtype = jnp.result_type(given) if jnp.issubdtype(given.dtype, jnp.floating) else jnp.float32
    if jnp.dtype(dtype) == jnp.float64 and not jax.config.read("jax_enable_x64"):
        raise ValueError("dtype is float64, which JAX has only inside `with jax.enable_x64(True):`; call fit there.")
    return jnp.dtype(dtype)


def checked(
    model: Layer,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    weights: ArrayLike | None,
    validation: tuple[ArrayLike, ArrayLike] | None,
    dtype: np.dtype,
) -> tuple[Batch, Batch | None]:
    """(data, validation), None without any. ValueError: nothing to learn, or data that are not what they must be."""
    if not jax.tree.leaves(without_statistics(params)):
        raise ValueError(f"{model} has no parameters: there is nothing to learn.")

    def part(x: ArrayLike, y: ArrayLike, w: ArrayLike | None, name: str) -> Batch:
        batch = to_batch(x, y, w, dtype, name)
        check_labels(y, jax.eval_shape(model.apply, cast(params, dtype), batch.x).shape, name)
        return batch

    data = part(x, y, weights, "")
    return data, None if validation is None else part(*validation, None, "validation ")


def to_batch(x: ArrayLike, y: ArrayLike, w: ArrayLike | None, dtype: np.dtype, part: str = "") -> Batch:
    """Checked arrays on the device: a floating x in the compute dtype, integers and labels as they are."""
    check_data(x, y, w, part=part)
    return Batch(cast(jnp.asarray(x), dtype), jnp.asarray(y), None if w is None else jnp.asarray(w))


def orders_of(order: Order, *, start: int, epochs: int, chunk: int, m: int) -> np.ndarray:
    """(chunk, m): the row numbers of the next epochs; a row of zeros for those beyond the last, which are skipped.

    ValueError: an order that does not give m row numbers.
    """
    rows = np.zeros((chunk, m), np.int32)
    for n in range(min(chunk, epochs - start)):
        index = np.asarray(order(start + n))
        if index.shape != (m,) or index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= m:
            raise ValueError(f"order({start + n}) must give {m} row numbers from 0 to {m - 1}; it gave {index!r}.")
        rows[n] = index
    return rows
