"""What is trained: from settings and their data to the parts, the scales, the network, the loss and the optimiser."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, Protocol

import jax
import numpy as np
import optax
from jax import Array
from jax import numpy as jnp

from jaxnn import catalogue, memory
from jaxnn.data import Scale, Table, brighten, constant, load, split, standardise
from jaxnn.data.labels import listed, shown
from jaxnn.layers.chain import Chain
from jaxnn.models.perceptron import perceptron
from jaxnn.models.vit import vit
from jaxnn.penalty import L2
from jaxnn.protocols import Loss, Params, Penalty
from jaxnn.training.given import initial_params
from jaxnn.training.optimizer import SGD_RATE


class NetworkSettings(Protocol):
    """What `loss_of` and `network` read of the settings of a command."""

    @property
    def hidden(self) -> tuple[int, ...]: ...
    @property
    def activation(self) -> str: ...
    @property
    def slope(self) -> float | None: ...
    @property
    def initializer(self) -> str: ...
    @property
    def loss(self) -> str: ...


class Settings(NetworkSettings, Protocol):
    """What `experiment_of` reads of them."""

    @property
    def data(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def l2(self) -> float: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def learning_rate(self) -> float | None: ...
    @property
    def batch_size(self) -> int | None: ...
    @property
    def patience(self) -> int | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def dtype(self) -> str: ...


class Experiment(NamedTuple):
    """All that is trained, and on what. x, y: all rows, scaled. parts: {part: its row numbers}. held_out: the part that
    is watched while training. key: of the order of the rows. remarks: on settings and data, to be printed."""

    table: Table
    model: Chain
    loss: Loss
    penalty: Penalty | None
    optimizer: Callable[..., optax.GradientTransformation]  # of a learning rate
    learning_rate: float
    params: Params
    x: np.ndarray
    y: np.ndarray
    x_scale: Scale
    y_scale: Scale | None
    parts: dict[str, np.ndarray]
    held_out: str
    batch_size: int | None
    key: Array
    remarks: tuple[str, ...]

    @property
    def rows(self) -> np.ndarray:
        """The numbers of the rows that it learns from."""
        return self.parts["train"]


def experiment_of(settings: Settings) -> Experiment:
    """What these settings train. ValueError: settings that do not fit the data; data that cannot be read."""
    table = load(settings.data)
    loss = loss_of(settings, table)
    model = image_classifier(settings, loss, table) if settings.model == "vit" else network(settings, loss, table)
    optimizer = optimizer_of(settings.optimizer)
    parts, held_out = split_parts(table, settings.seed, hold_out=settings.patience is not None)
    x, y, x_scale, y_scale = scaled(table, target_for(loss, table), parts["train"])
    check_ranges(x, y, table, settings.dtype)
    init_key, key = jax.random.split(jax.random.key(settings.seed))
    batch_size, remarks = batch_size_of(settings.batch_size, len(parts["train"]))
    check_memory(model, optimizer, x, batch_size or len(parts["train"]), settings.dtype)
    return Experiment(
        table=table,
        model=model,
        loss=loss,
        penalty=L2(settings.l2) if settings.l2 else None,
        optimizer=optimizer,
        learning_rate=settings.learning_rate or (SGD_RATE if optimizer is optax.sgd else 0.001),
        params=initial_params(model, init_key, params_dtype(settings.dtype)),
        x=x,
        y=y,
        x_scale=x_scale,
        y_scale=y_scale,
        parts=parts,
        held_out=held_out,
        batch_size=batch_size,
        key=key,
        remarks=(*constants(table, parts["train"]), *remarks),
    )


def batch_size_of(batch_size: int | None, m: int) -> tuple[int | None, tuple[str, ...]]:
    """(batch size, None for all m rows; a remark if more are asked for than there are)."""
    if not batch_size or batch_size <= m:
        return batch_size, ()
    return None, (f"--batch-size {batch_size} is more than the rows to train on: each batch is all {m} of them.",)


def constants(table: Table, rows: np.ndarray) -> Iterator[str]:
    """A sentence for the features, and one for the targets, that are the same in all of these rows."""
    named = [("features, from which nothing is learned", table.features, table.x)] if table.features else []
    named += [] if table.classes else [("targets, and so are their predictions", table.targets, table.y)]
    for what, names, v in named:
        same = constant(v[rows])
        if same.any():
            which = listed([shown(name) for name, is_same in zip(names, same, strict=True) if is_same])
            yield f"The same in all rows to train on are these {what}: {which}."


def check_ranges(x: np.ndarray, y: np.ndarray, table: Table, dtype: str) -> None:
    """ValueError: a scaled number of x, or of a target that is no class, is beyond what this dtype holds."""
    check_range(x, table.features, dtype)
    if not table.classes:
        check_range(y, table.targets, dtype)


def check_range(x: np.ndarray, names: tuple[str, ...], dtype: str) -> None:
    """ValueError: a scaled number of x (m, n) is beyond what this dtype holds."""
    beyond = abs(x) > float(jnp.finfo(dtype).max)
    if beyond.any():
        i, j = np.argwhere(beyond)[0]
        name = shown(names[j]) if names else f"number {j}"
        raise ValueError(
            f"{name} in row {i}, scaled as the training rows are, is {x[i, j]:.3g}: beyond what {dtype} holds. "
            "Mend that cell, or leave the row out."
        )


def check_memory(
    model: Chain,
    optimizer: Callable[..., optax.GradientTransformation],
    x: np.ndarray,
    batch_size: int,
    dtype: str,
    *,
    what: str = "To train a network",
    times: int = 1,
) -> None:
    """ValueError: to train the network and predict all of x, so many times at once, takes more memory than there is.

    Nothing is allocated to find out: it is the least that the parameters, their gradient, the state of the optimiser
    and the outputs of the layers can take.
    """
    params = jax.eval_shape(partial(model.init, dtype=params_dtype(dtype)), jax.random.key(0))
    state = jax.eval_shape(optimizer(0.1).init, params)
    out, width, widest = jax.ShapeDtypeStruct((1, *x.shape[1:]), params_dtype(dtype)), 0, 0
    for layer, p in zip(model.layers, params, strict=True):
        out = jax.eval_shape(layer.apply, p, out)
        width, widest = width + out.size, max(widest, out.size)
    outputs = max(batch_size * width, len(x) * widest) * jnp.dtype(dtype).itemsize
    needed = sum(v.size * v.dtype.itemsize for v in jax.tree.leaves((params, params, state))) + outputs
    count = sum(v.size for v in jax.tree.leaves(params))
    what = f"{what} of {count:,} parameters on {batch_size} examples at a time"
    memory.check_fits(times * needed, what, "give fewer units or examples.", device_memory())


def device_memory() -> float:
    """Bytes that the device has."""
    stats = jax.devices()[0].memory_stats()  # None of a CPU
    return stats["bytes_limit"] if stats else memory.available()


def params_dtype(dtype: str) -> str:
    """Of a network that computes in this dtype."""
    return "float64" if dtype == "float64" else "float32"


def scaled(table: Table, y: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, Scale, Scale | None]:
    """(x, y, x_scale, y_scale): all data flattened, and scaled so that these rows are as a network wants them."""
    flat = table.x.reshape(len(table.x), -1)
    x_scale = (standardise if table.features else brighten)(flat[rows])
    y_scale = None if table.classes else standardise(y[rows])
    return x_scale(flat), y_scale(y) if y_scale else y, x_scale, y_scale


def split_parts(table: Table, seed: int, hold_out: bool) -> tuple[dict[str, np.ndarray], str]:
    """({part: its row numbers}, the part that is watched while training).

    hold_out: a fifth of the training rows is watched, since the test rows never decide when to stop.
    ValueError: one training row, of which a fifth is to be held out.
    """
    train_rows, test_rows = split(table, seed)
    if not hold_out:
        return {"train": train_rows, "test": test_rows}, "test"
    if len(train_rows) < 2:
        raise ValueError("A fifth of the training rows is to be held out, and there is only 1: give more rows.")
    fifth = max(1, len(train_rows) // 5)
    return {"train": train_rows[fifth:], "validation": train_rows[:fifth], "test": test_rows}, "validation"


def loss_of(settings: NetworkSettings, table: Table) -> Loss:
    """The loss that was asked for, or the one for such a target.

    ValueError: a loss of classes for a target that is a quantity.
    """
    K, name = len(table.classes), settings.loss
    if name == "auto":
        name = "half_squared_error" if not K else "sigmoid_cross_entropy" if K == 2 else "softmax_cross_entropy"
    loss = catalogue.member("losses", name)()
    if not K and loss.takes != "values":
        raise ValueError(
            f"--loss {name} needs classes, and the target of {shown(table.name)} is a quantity: use half_squared_error."
        )
    return loss


def target_for(loss: Loss, table: Table) -> np.ndarray:
    """y as the loss wants it: labels (m,), or a column for each output (m, K)."""
    K, y = len(table.classes), table.y
    if not K or loss.takes == "labels":
        return y
    return y[:, None].astype(float) if K == 2 else np.eye(K)[y]


def outputs_of(loss: Loss, table: Table) -> int:
    """How many the loss wants for this target."""
    y = target_for(loss, table)
    return len(table.classes) if y.ndim == 1 else y.shape[1]


def network(settings: NetworkSettings, loss: Loss, table: Table) -> Chain:
    """Hidden layers, and an output that fits the data and the loss."""
    widths = (table.x[0].size, *settings.hidden, outputs_of(loss, table))
    return perceptron(widths, settings.activation, loss, slope=settings.slope, initializer=settings.initializer)


HEADS = 4  # of a vision transformer


def image_classifier(settings: NetworkSettings, loss: Loss, table: Table) -> Chain:
    """A vision transformer with a block of each hidden width, all equal, and patches of 4 × 4 or 2 × 2 entries where
    these divide an image into 4 × 4 or more. ValueError: rows that are no images, an odd choice of widths, flags of a
    perceptron."""
    others = {"activation": "relu", "slope": None, "initializer": "xavier"}
    for name, usual in others.items():
        if getattr(settings, name) != usual:
            raise ValueError(f"--{name} {getattr(settings, name)} is of a perceptron: leave it out with --model vit.")
    width, *more = settings.hidden or (0,)
    if {*more} - {width} or width % HEADS or not width:
        given = " ".join(map(str, settings.hidden))
        raise ValueError(f"--hidden is {given}: a vit has blocks of one width, a multiple of {HEADS}: try 32 32.")
    height, across, channels = image_shape(table)
    divides = (size for size in (4, 2) if height % size == across % size == 0 and min(height, across) >= 4 * size)
    return vit(
        height,
        across,
        outputs_of(loss, table),
        patch=next(divides, 1),
        channels=channels,
        layers=len(settings.hidden),
        heads=HEADS,
        width=width,
    )


def image_shape(table: Table) -> tuple[int, int, int]:
    """(height, width, channels) of a row. ValueError: it is no image."""
    shape = table.x.shape[1:]
    if len(shape) not in (2, 3):
        raise ValueError(f"A row of {shown(table.name)} has the shape {shape}, no image: use --model perceptron.")
    return (*shape, 1) if len(shape) == 2 else shape


def optimizer_of(name: str) -> Callable[..., optax.GradientTransformation]:
    """The optax optimiser of this name, as a function of its learning rate.

    ValueError: optax has none of this name that takes a learning rate.
    """
    try:
        optimizer: Callable[..., optax.GradientTransformation] = getattr(optax, name)
        finished = optimizer(learning_rate=0.1)
    except (AttributeError, TypeError):
        finished = None
    if not isinstance(finished, optax.GradientTransformation):
        raise ValueError(f"optax has no optimiser {name!r} that takes a learning rate: try sgd, adam, adamw.")
    return optimizer
