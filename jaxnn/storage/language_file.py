"""A language model as one safetensors file: params, and in its header network, vocabulary, context. No pickle."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
from jax import numpy as jnp

from jaxnn.data.labels import readable
from jaxnn.data.tokens import Vocabulary
from jaxnn.factored import whole
from jaxnn.protocols import Layer, Params, PyTree
from jaxnn.storage import tree_file
from jaxnn.storage.model_file import ALWAYS, OF_LANGUAGE, check_arrays, params_of, settings_of
from jaxnn.storage.rule_text import parse
from jaxnn.storage.tree_file import Content

LONGEST_CONTEXT = 2**20


class LanguageModel(NamedTuple):
    """A network from tokens (…, T), T at most `context`, to a z (…, T, V), with its params and vocabulary."""

    network: Layer
    params: Params
    vocabulary: Vocabulary
    context: int


def save(path: Path, model: LanguageModel, settings: Mapping[str, PyTree]) -> None:
    """Writes a language model, and the settings of the run that made it, whole or not at all. ValueError: `load` would
    refuse it."""
    texts = {"format": OF_LANGUAGE, "model": repr(model.network), "context": str(model.context)}
    texts |= {"characters": json.dumps(model.vocabulary.characters, ensure_ascii=False)}
    texts |= {"settings": json.dumps(dict(settings), default=str)}
    trees = {"params": model.params}
    of_content(tree_file.content_of(trees, texts))
    tree_file.write(path, trees, texts)


def load(path: Path) -> LanguageModel:
    """The language model in `path`. ValueError when there is none, it is damaged, or its parts do not fit."""
    if not os.path.exists(path):
        raise ValueError(f"There is no {path}: give a folder that `jaxnn train --model gpt` wrote.")
    content = tree_file.read(path)
    if content.texts.get("format") != OF_LANGUAGE:
        raise ValueError(f"{path} is no language model: give a folder that `jaxnn train --model gpt` wrote.")
    if not content.is_checked:
        raise ValueError(f"{path} is damaged: it has no checksum.")
    try:
        return of_content(content)
    except ValueError as error:
        raise ValueError(f"{path} is damaged, or of another version of jaxnn: {readable(str(error))}.") from None


def of_content(content: Content) -> LanguageModel:
    """The language model of this content. ValueError: it is none, or its parts do not fit each other."""
    missing = [name for name in ("model", "context", "characters", "settings") if name not in content.texts]
    if missing:
        raise ValueError(f"its header does not say its {missing[0]}")
    settings_of(content.texts["settings"])
    check_arrays(content, {"params"})
    vocabulary, context = vocabulary_of(content.texts["characters"]), context_of(content.texts["context"])
    largest = max(ALWAYS, *(v.size for v in content.arrays.values()))
    network = parse(content.texts["model"], Layer, largest)
    model = LanguageModel(network, params_of(content, network), vocabulary, context)
    tokens = jax.ShapeDtypeStruct((context,), jnp.int32)
    try:
        z = jax.eval_shape(lambda params, tokens: whole(network.apply(params, tokens)), model.params, tokens)
    except (TypeError, ValueError) as error:
        raise ValueError(f"its network does not take {context} tokens: {error}") from None
    if z.shape != (context, vocabulary.size):
        raise ValueError(f"{context} tokens of {vocabulary.size} kinds give {z.shape}")
    return model


def vocabulary_of(text: str) -> Vocabulary:
    """Of a JSON text or null. ValueError: another one, or its characters are not in order, each once."""
    try:
        characters = json.loads(text)
    except (ValueError, RecursionError):
        characters = ""
    if characters is None:
        return Vocabulary(None)
    if not isinstance(characters, str) or not characters or sorted({*characters}) != [*characters]:
        raise ValueError(f"its characters are no text of different ones, in order: {readable(text)}")
    return Vocabulary(characters)


def context_of(text: str) -> int:
    """ValueError: no number of tokens."""
    context = int(text) if text.isdecimal() and len(text) < 10 else 0
    if not 1 <= context <= LONGEST_CONTEXT:
        raise ValueError(f"its context is {readable(text)}, and no number of tokens up to {LONGEST_CONTEXT}")
    return context
