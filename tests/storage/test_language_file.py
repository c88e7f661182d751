"""Files of language models: loaded as they were written, or refused in a sentence."""

import json

import jax
import numpy as np
import pytest

from jaxnn.data.tokens import Vocabulary
from jaxnn.models.gpt import gpt
from jaxnn.models.llama import llama
from jaxnn.storage import language_file, model_file, tree_file
from jaxnn.storage.language_file import LanguageModel

SIZES = {"layers": 2, "heads": 2, "width": 4}
VOCABULARY = Vocabulary("\n abé")


@pytest.fixture
def path(tmp_path):
    model = gpt(5, 6, **SIZES)
    language_file.save(tmp_path / "m", LanguageModel(model, model.init(jax.random.key(0)), VOCABULARY, 6), {"seed": 3})
    return tmp_path / "m"


@pytest.mark.parametrize(
    ("network", "vocabulary"),
    [
        (gpt(5, 6, **SIZES, keep=0.5), VOCABULARY),
        (llama(256, **SIZES, kv_heads=1), Vocabulary(None)),
        (llama(2, **SIZES), Vocabulary('"\\')),
    ],
)
def test_it_comes_back(tmp_path, network, vocabulary):
    model = LanguageModel(network, network.init(jax.random.key(0)), vocabulary, 6)
    language_file.save(tmp_path / "m", model, {})
    again = language_file.load(tmp_path / "m")
    assert (again.network, again.vocabulary, again.context) == (network, vocabulary, 6)
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)


def test_a_flipped_bit_is_noticed(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        language_file.load(path)


def test_the_other_kind_of_model_is_named(path):
    with pytest.raises(ValueError, match=r"is a language model, .*: use jaxnn sample"):
        model_file.load(path)
    tree_file.write(path, {"params": {}}, {"format": model_file.FORMAT})
    with pytest.raises(ValueError, match="is no language model"):
        language_file.load(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("context", "7", "does not take 7 tokens"),
        ("context", "0", "its context is 0"),
        ("context", "-6", "its context is -6"),
        ("context", "9999999", "its context is 9999999"),
        ("context", "9" * 5000, "its context is 99"),
        ("characters", "null", "of 256 kinds give"),
        ("characters", json.dumps("abcdef"), "6 tokens of 6 kinds give"),
        ("characters", json.dumps("edcba"), "no text of different ones, in order"),
        ("characters", json.dumps("aabcd"), "no text of different ones, in order"),
        ("characters", "[" * 100_000, "no text of different ones, in order"),
        ("characters", "3", "no text of different ones, in order"),
        ("model", repr(gpt(6, 6, **SIZES)), "params/0/W is"),
        ("model", "gpt(5, 6)", "cannot build"),
        ("settings", "[]", "its settings"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(path, name, text, message):
    """With a right checksum: one who edits can compute it."""
    content = tree_file.read(path)
    tree_file.write(path, content.arrays, {**content.texts, name: text})
    with pytest.raises(ValueError, match="is damaged, or of another version of jaxnn") as raised:
        language_file.load(path)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_header_that_lacks_something_is_refused(path):
    content = tree_file.read(path)
    for name in ("model", "context", "characters", "settings"):
        texts = {k: v for k, v in content.texts.items() if k != name}
        tree_file.write(path, content.arrays, texts)
        with pytest.raises(ValueError, match=f"does not say its {name}"):
            language_file.load(path)
