"""Texts as tokens: back to the same text, and contexts side by side."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnn import memory
from jaxnn.data import tokens
from jaxnn.data.labels import printable
from jaxnn.data.tokens import DOCUMENTS, Vocabulary, by_characters, contexts, read_text

CHARACTERS = "ab\n\x1b\x7fé\u202e\ud7ff\ue000\uffff𝄞\U0010ffff"
texts = st.text(CHARACTERS, min_size=1)


@given(texts)
def test_a_text_comes_back(text):
    numbers, vocabulary = by_characters(text)
    assert numbers.dtype == np.int32
    assert vocabulary.characters == "".join(sorted({*text}))
    assert numbers.tolist() == [sorted({*text}).index(c) for c in text]
    assert numbers.tolist() == vocabulary.tokens(text).tolist()
    assert vocabulary.text(numbers) == text
    of_bytes = Vocabulary(None)
    assert of_bytes.tokens(text).tolist() == [*text.encode()]
    assert of_bytes.text(of_bytes.tokens(text)) == text


@given(st.sets(st.sampled_from(CHARACTERS)), texts)
def test_the_first_unknown_character_is_named(known, text):
    vocabulary = Vocabulary("".join(sorted(known | {"a"})))
    unknown = [c for c in text if c not in vocabulary.characters]
    if not unknown:
        assert vocabulary.text(vocabulary.tokens(text)) == text
        return
    with pytest.raises(ValueError, match="none of the") as raised:
        vocabulary.tokens(text)
    shown = unknown[0] if unknown[0].isprintable() else unknown[0].encode("unicode_escape").decode()
    assert repr(shown) in str(raised.value)


def test_each_context_is_followed_by_its_next_tokens():
    x, y = contexts(np.arange(12), 4)
    assert x.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]  # after 8 … 11 nothing comes
    assert (y == x + 1).all()
    x, y = contexts(np.arange(13), 4)
    assert (x[-1].tolist(), y[-1].tolist()) == ([8, 9, 10, 11], [9, 10, 11, 12])


def test_the_last_tenth_is_held_out(tmp_path):
    (tmp_path / "t.txt").write_text("ab" * 50 + "c")
    text = read_text(f"{tmp_path}/t.txt", as_bytes=False)
    train, last = text.parts(10)
    assert (len(train), text.vocabulary.text(last)) == (90, "ab" * 5 + "c")
    with pytest.raises(ValueError, match="A context of 11 needs 12 characters in the last tenth of t, which has 11"):
        text.parts(11)


@pytest.mark.parametrize("as_bytes", [False, True])
def test_the_documents_of_this_project_are_a_text(as_bytes):
    text = read_text(DOCUMENTS, as_bytes=as_bytes)
    assert len(text.tokens) > 100_000
    assert "jaxnn" in text.vocabulary.text(text.tokens)


def test_a_text_that_memory_has_no_room_for_is_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "t.txt"
    path.write_text("ab" * 50)
    monkeypatch.setattr(memory, "available", lambda: 100 * tokens.BYTES - 1)
    monkeypatch.setattr(type(path), "read_bytes", lambda _: pytest.fail("it was read"))
    with pytest.raises(ValueError, match=r"of memory at least, and there is .*: give a shorter text."):
        read_text(f"{path}", as_bytes=True)


def test_what_moves_a_cursor_is_shown_escaped():
    assert printable("a\tb\n\x1b[2J\r\u202e\u3000é") == "a\tb\n\\x1b[2J\\r\\u202e\u3000é"
