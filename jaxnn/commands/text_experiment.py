"""What `jaxnn train` trains on a text: from settings to the contexts, the network and the optimiser."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp
from jax.tree_util import tree_map_with_path

from jaxnn import memory
from jaxnn.commands.config import TrainText
from jaxnn.data.tokens import Text, contexts, read_text
from jaxnn.experiment import device_memory, params_dtype
from jaxnn.models.gpt import gpt
from jaxnn.models.llama import llama
from jaxnn.penalty import is_weight
from jaxnn.protocols import Layer, Params, PyTree

EPOCHS = 4  # if nothing is said
MOST_VALIDATED = 2**18  # tokens of the last tenth whose cost is watched


class Experiment(NamedTuple):
    """All that is trained, and on what. x, y and those of validation: (m, T) contexts and the tokens after theirs."""

    text: Text
    model: Layer
    x: np.ndarray
    y: np.ndarray
    validation: tuple[np.ndarray, np.ndarray]
    batch_size: int
    steps: int
    epochs: int  # the steps are in so many
    optimizer: optax.GradientTransformation
    remarks: tuple[str, ...]

    @property
    def context(self) -> int:
        return self.x.shape[1]


def experiment_of(config: TrainText) -> Experiment:
    """What these settings train. ValueError: settings that do not fit the text, or a text that cannot be read."""
    text = read_text(config.data, as_bytes=config.tokens == "bytes")
    train, last = text.parts(config.context)
    x, y = contexts(train, config.context)
    validation = contexts(last[: max(MOST_VALIDATED, config.context) + 1], config.context)
    batch_size = min(config.batch_size, len(x))
    m = len(x) // batch_size * batch_size
    steps = config.steps or (config.epochs or EPOCHS) * (m // batch_size)
    model = model_of(config, text.vocabulary.size)
    check_memory(config, model, text.vocabulary.size, validation[0].size, batch_size)
    return Experiment(
        text=text,
        model=model,
        x=x[:m],
        y=y[:m],
        validation=validation,
        batch_size=batch_size,
        steps=steps,
        epochs=-(-steps * batch_size // m),
        optimizer=optimizer_of(config, steps // config.accumulate),
        remarks=tuple(remarks(config, m=len(x), batch_size=batch_size, validated=len(last))),
    )


def remarks(config: TrainText, *, m: int, batch_size: int, validated: int) -> Iterator[str]:
    """A sentence for what is otherwise than one would think. m: contexts to train on. validated: tokens of the last
    tenth."""
    if batch_size < config.batch_size:
        yield f"--batch-size {config.batch_size} is more than the contexts to train on: each batch is all {m}."
    if m % batch_size:
        yield f"{m % batch_size} of {m} contexts are left out: each batch has {batch_size}."
    if validated > MOST_VALIDATED:
        yield f"The validation cost is that of the first {MOST_VALIDATED:,} {config.tokens} of the last tenth."


def model_of(config: TrainText, vocabulary: int) -> Layer:
    """ValueError: what the models refuse, such as heads that do not divide the width."""
    layers, heads, width, keep = config.layers, config.heads, config.width, config.keep
    if config.model == "gpt":
        return gpt(vocabulary, config.context, layers=layers, heads=heads, width=width, keep=keep)
    return llama(vocabulary, layers=layers, heads=heads, kv_heads=config.kv_heads, width=width, keep=keep)


def optimizer_of(config: TrainText, updates: int) -> optax.GradientTransformation:
    """AdamW, clipping, warm-up and cosine. ValueError: a warm-up that is not over before the updates are."""
    warm_up = min(100, updates // 10) if config.warm_up is None else config.warm_up
    if warm_up >= updates:
        raise ValueError(
            f"The learning rate warms up over {warm_up} updates, and there are {updates} in all: give a smaller "
            "--warm-up or --accumulate, or train longer."
        )
    rate = config.learning_rate
    schedule = optax.warmup_cosine_decay_schedule(rate / (warm_up + 1), rate, warm_up, updates, rate / 10)
    adamw = optax.adamw(schedule, 0.9, 0.99, weight_decay=config.weight_decay, mask=weights)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), adamw)
    if config.accumulate == 1:
        return optimizer
    return optax.MultiSteps(optimizer, config.accumulate).gradient_transformation()


def weights(params: Params) -> PyTree:
    """Which leaves decay: by their names, for a γ of layers side by side is a matrix too."""
    return tree_map_with_path(lambda path, _: is_weight(path), params)


def check_memory(config: TrainText, model: Layer, vocabulary: int, validated: int, batch_size: int) -> None:
    """ValueError: it takes more memory than there is; by the least that it can take, and nothing is allocated."""
    dtype = params_dtype(config.dtype)
    params = jax.eval_shape(partial(model.init, dtype=dtype), jax.random.key(0))
    count = sum(v.size for v in jax.tree.leaves(params))
    saved = config.layers * config.width * batch_size * config.context  # of each block one input at least
    outputs = max(saved, validated * max(3 * config.width, vocabulary))
    what = f"To train a {config.model} of {count:,} parameters on {batch_size} contexts of {config.context} at a time"
    needed = (4 * count + outputs) * jnp.dtype(dtype).itemsize
    memory.check_fits(needed, what, "give a smaller width, context or batch.", device_memory())
