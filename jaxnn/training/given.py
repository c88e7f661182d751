"""What a run is given, checked once: settings, arrays, dtype."""

import warnings
from collections.abc import Callable
from typing import cast as cast_type

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from jax.tree_util import keystr, tree_leaves_with_path
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from jaxnn.backprop import value_and_grad
from jaxnn.data.checks import check_data, check_labels
from jaxnn.dtypes import at_least_float32
from jaxnn.layers.embedding import Embedding
from jaxnn.protocols import Layer, Loss, Params, PyTree, leaf_layers, learned, without_statistics
from jaxnn.training.feed import Batch

Inputs = ArrayLike | tuple[Array | np.ndarray, ...]  # one array, or several, each with a row an example
ALIGNED = 64  # bytes: memory that begins at a multiple of this, a CPU device shares with the host


def cast(tree: PyTree, dtype: DTypeLike | Callable[[np.dtype], DTypeLike]) -> PyTree:
    """The tree with its floating leaves in `dtype`, or in dtype(that of the leaf); statistics in float32 at least."""

    def in_dtype(v: Array, is_learned: bool) -> Array:
        if not jnp.issubdtype(v.dtype, jnp.floating):
            return v
        if not is_learned:
            return v.astype(at_least_float32(v.dtype))
        return v.astype(dtype(v.dtype) if callable(dtype) else dtype)

    return jax.tree.map(in_dtype, tree, learned(tree))


def once(f: Callable, **options: PyTree) -> Callable:
    """jax.jit(f, **options) for a program that runs once: on a CPU XLA compiles it in half the time."""
    quick = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    return jax.jit(f, compiler_options=quick, **options)


def initial_params(model: Layer, key: Array, dtype: DTypeLike) -> Params:
    """Where training starts."""
    return once(drawn, static_argnums=(0, 2))(model, key, dtype)


def drawn(model: Layer, key: Array, dtype: DTypeLike) -> Params:
    return model.init(key, dtype)


def check_at_least(least: int, **settings: float | None) -> None:
    """ValueError for the first setting that is below `least`, or 2³¹ and more: it would not fit into an int32."""
    for name, value in settings.items():
        if value is not None and not least <= value < 2**31:
            raise ValueError(f"{name} is {value}: it must be {least} or more, and below 2³¹.")


def rows_a_batch(batch_size: int | None, m: int, stacklevel: int) -> int:
    """All m for None; warns where more are asked for than there are, in the name of a caller of the caller."""
    if batch_size is not None and batch_size > m:
        words = f"batch_size {batch_size} is more than the {m} rows: each batch is all of them."
        warnings.warn(words, stacklevel=stacklevel)
    return min(batch_size or m, m)


def compute_dtype(dtype: DTypeLike | None, params: Params | None, x: Inputs) -> np.dtype:
    """The dtype a run computes in: what was asked for, or that of the params, of a floating x, or float32.

    ValueError: float64 where JAX has none.
    """
    if dtype is None:
        given, *_ = *jax.tree.leaves(without_statistics(params)), *jax.tree.leaves(inputs(x))
        dtype = jnp.result_type(given) if jnp.issubdtype(given.dtype, jnp.floating) else jnp.float32
    if jnp.dtype(dtype) == jnp.float64 and not jax.config.read("jax_enable_x64"):
        raise ValueError("dtype is float64, which JAX has only inside `with jax.enable_x64(True):`; call fit there.")
    return jnp.dtype(dtype)


def checked(
    model: Layer,
    loss: Loss,
    params: Params,
    x: Inputs,
    y: ArrayLike,
    weights: ArrayLike | None,
    validation: tuple[Inputs, ArrayLike] | None,
    dtype: np.dtype,
) -> tuple[Batch, Batch | None]:
    """(data, validation) where they are, on the host or a device; None without validation. ValueError: nothing to
    learn, or data that are not what they must be."""
    if not jax.tree.leaves(without_statistics(params)):
        raise ValueError(f"{model} has no parameters: there is nothing to learn.")

    def part(x: Inputs, y: ArrayLike, w: ArrayLike | None, name: str) -> Batch:
        arrays = inputs(x)
        for i, v in enumerate(jax.tree.leaves(arrays)):
            check_data(v, y, w, part=f"array {i} of {name}" if isinstance(arrays, tuple) else name)
        check_words(model, params, arrays, name)
        z = jax.eval_shape(model.apply, cast(params, dtype), shape_in(arrays, dtype))
        check_labels(y, shape_of_prediction(model, loss, z), name)
        return Batch(arrays, as_array(y), None if w is None else as_array(w))

    data = part(x, y, weights, "")
    if validation is None:
        return data, None
    held_out = part(*validation, None, "validation ")
    if len({jax.tree.structure(batch.x) for batch in (data, held_out)}) > 1:
        raise ValueError("x and validation x must be alike: one array each, or tuples of as many.")
    return data, held_out


def inputs(x: Inputs) -> PyTree:
    """x as an array, or as several where it is a tuple with an array in it. ValueError: with something else too."""
    if not isinstance(x, tuple) or not any(isinstance(v, np.ndarray | Array) for v in x):
        return as_array(cast_type(ArrayLike, x))
    for v in x:
        if not isinstance(v, np.ndarray | Array):
            raise ValueError(f"x is a tuple of arrays with a {type(v).__name__} among them: make it an array.")
    return jax.tree.map(as_array, x)


def check_words(model: Layer, params: Params, x: PyTree, part: str) -> None:
    """ValueError: whole numbers x name rows that a first `Embedding` does not have."""
    first = next(leaf_layers(model, params)).layer
    if isinstance(first, Embedding) and not isinstance(x, tuple) and np.asarray(x).dtype.kind in "iu":
        least, most = np.asarray(x).min(), np.asarray(x).max()
        if least < 0 or most >= first.n:
            raise ValueError(f"{part}x goes from {least} to {most}, and {first} takes 0 to {first.n - 1}.")


def shape_of_prediction(model: Layer, loss: Loss, z: PyTree) -> tuple[int, ...]:
    """That of y_hat. ValueError: z is several arrays, and the loss takes one."""
    try:
        return jax.eval_shape(loss.predict, z).shape
    except (AttributeError, TypeError, ValueError):
        if not isinstance(z, tuple):
            raise
        raise ValueError(f"{loss} does not take the {type(z).__name__} that {model} gives out.") from None


def as_array(v: ArrayLike) -> Array:
    """Of JAX as it is, others of NumPy: they have all that is asked of an array on the host."""
    return v if isinstance(v, Array) else cast_type(Array, np.asarray(v))


def check_gradients(model: Layer, loss: Loss, params: Params, data: Batch, dtype: np.dtype, key: Array) -> None:
    """ValueError: a backward pass gives a gradient that is not of its parameter's shape."""

    def check(params: Params, x: PyTree, y: Array, w: Array | None, key: Array) -> None:
        _, grads = value_and_grad(model, loss)(cast(params, dtype), x, y, w, key)
        trees = {jax.tree.structure(grads), jax.tree.structure(params)}
        if len(trees) > 1:
            raise ValueError(f"The backward pass of {model} gives gradients in another tree than that of its params.")
        for layer, of_layer in zip(leaf_layers(model, params), leaf_layers(model, grads), strict=True):
            pairs = zip(tree_leaves_with_path(layer.params), jax.tree.leaves(of_layer.params), strict=True)
            for (path, v), dv in pairs:
                if dv.shape != v.shape:
                    name = keystr(path, simple=True)
                    raise ValueError(
                        f"The backward pass of layer {layer.name}, {layer.layer}, gives ∂J/∂{name} of shape "
                        f"{dv.shape}: it must have that of {name}, {v.shape}."
                    )

    jax.eval_shape(check, params, shape_in(data.x, dtype), data.y, data.w, key)


def shape_in(x: PyTree, dtype: np.dtype) -> PyTree:
    """The shape of x, and its dtype on the device."""
    return jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, dtype_in(v, dtype)), x)


def dtype_in(x: Array, dtype: np.dtype) -> np.dtype:
    """The dtype in which x is on the device: that of the computation if it is floating, else its own, as JAX has it."""
    return dtype if jnp.issubdtype(x.dtype, jnp.floating) else jax.dtypes.canonicalize_dtype(x.dtype)


def on_device(batch: Batch, dtype: np.dtype) -> Batch:
    """The batch on the device: a floating x in this dtype, integers and labels as they are."""
    x, y, w = batch
    x = jax.tree.map(lambda v: put(v, dtype_in(v, dtype)), x)
    return Batch(x, jnp.asarray(y), None if w is None else jnp.asarray(w))


def put(v: Array, dtype: np.dtype) -> Array:
    """v on the device in this dtype, with no second copy on the way: JAX takes aligned memory as it is."""
    if isinstance(v, Array):
        return v.astype(dtype)
    if v.dtype == dtype:
        return jax.device_put(v)
    memory = np.empty(v.size * dtype.itemsize + ALIGNED, np.uint8)
    start = -memory.ctypes.data % ALIGNED
    converted = memory[start : start + v.size * dtype.itemsize].view(dtype).reshape(v.shape)
    converted[...] = v
    return jax.device_put(converted)
