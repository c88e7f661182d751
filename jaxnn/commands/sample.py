"""What `jaxnn sample` does."""

import sys

import jax

from jaxnn.commands.config import Sample
from jaxnn.data.labels import printable
from jaxnn.models.sampling import Drawing, continued
from jaxnn.storage import compilations, language_file
from jaxnn.storage.language_file import LanguageModel
from jaxnn.storage.run_record import MODEL


def sample(config: Sample) -> int:
    """Prints the prompt and what the model makes of it.

    ValueError: no language model, or a prompt with a character that the model does not know.
    """
    compilations.keep()
    with jax.enable_x64(True):  # for a model in float64; others keep their dtype
        model = language_file.load(config.run / MODEL)
        drawing = Drawing(config.temperature, config.top_k)
        text = text_after(model, config.prompt, config.tokens, drawing, config.seed)
    sys.stdout.write(f"{printable(text)}\n")
    return 0


def text_after(model: LanguageModel, prompt: str | None, n: int, drawing: Drawing, seed: int) -> str:
    """The prompt and so many tokens after it. ValueError as of `sample`."""
    vocabulary = model.vocabulary
    if prompt is None:
        known = vocabulary.characters or "\n"
        prompt = "\n" if "\n" in known else known[0]
    tokens, key = vocabulary.tokens(prompt), jax.random.key(seed)
    new = continued(model.network, model.params, tokens, n, model.context, drawing, key)
    return prompt + vocabulary.text(new)
