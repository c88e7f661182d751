"""A text as whole numbers, its tokens: its vocabulary, and contexts side by side. NumPy only."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnn import memory
from jaxnn.data.files import check_file
from jaxnn.data.labels import shown

DOCUMENTS = "documents"  # of this project, what is read where no file is given
BYTES = 32  # of memory for a byte of a text: itself, its code points, tokens, contexts
UNICODE = 0x110000


class Vocabulary(NamedTuple):
    """What tokens stand for: token i for character i of these, in the order of Unicode; for byte i if None."""

    characters: str | None

    @property
    def size(self) -> int:
        return 256 if self.characters is None else len(self.characters)

    @property
    def unit(self) -> str:
        """What a token is."""
        return "byte" if self.characters is None else "character"

    def tokens(self, text: str) -> np.ndarray:
        """Those of a text (n,). ValueError: a character that is not in the vocabulary."""
        if self.characters is None:
            return np.frombuffer(text.encode(errors="replace"), np.uint8).astype(np.int32)
        codes, known = code_points(text), code_points(self.characters)
        tokens = np.minimum(np.searchsorted(known, codes), len(known) - 1).astype(np.int32)
        unknown = known[tokens] != codes
        if unknown.any():
            raise ValueError(
                f"The text has {shown(chr(codes[unknown][0]))!r}, which is none of the {self.size} characters that the "
                f"model knows: {shown(self.characters)}"
            )
        return tokens

    def text(self, tokens: np.ndarray) -> str:
        """What they stand for; � for bytes that are no UTF-8."""
        if self.characters is None:
            return tokens.astype(np.uint8).tobytes().decode(errors="replace")
        return "".join(self.characters[i] for i in tokens)


class Text(NamedTuple):
    """A text as tokens (n,)."""

    name: str
    tokens: np.ndarray
    vocabulary: Vocabulary

    def parts(self, context: int) -> tuple[np.ndarray, np.ndarray]:
        """The tokens to train on, and the last tenth. ValueError: in one of these there is no context of this length
        with the token after it."""
        n = len(self.tokens) * 9 // 10
        train, last = self.tokens[:n], self.tokens[n:]
        if min(len(train), len(last)) <= context:
            raise ValueError(
                f"A context of {context} needs {context + 1} {self.vocabulary.unit}s in the last tenth of "
                f"{shown(self.name)}, which has {len(last)}: give a shorter --context, or a longer text."
            )
        return train, last


def read_text(source: str, *, as_bytes: bool) -> Text:
    """A text file, or the documents of this project, as tokens: characters, or bytes.

    ValueError: no such file; one that is empty, has one character alone, is too large for the memory, or is to be read
    as characters and is no UTF-8.
    """
    paths = documents() if source == DOCUMENTS else [Path(source)]
    for path in paths:
        memory.check_fits(BYTES * check_file(path), f"{path}", "give a shorter text.")
    try:
        content = b"\n".join(path.read_bytes() for path in paths)
    except OSError as error:
        raise ValueError(f"Cannot read {source}: {error.strerror}.") from None
    if as_bytes:
        tokens, vocabulary = np.frombuffer(content, np.uint8).astype(np.int32), Vocabulary(None)
    else:
        tokens, vocabulary = by_characters(decoded(content, source))
    if not len(tokens) or (tokens == tokens[0]).all():
        which = f"has one {vocabulary.unit} alone" if len(tokens) else "is empty"
        raise ValueError(f"{source} {which}: there is nothing to learn. Give a text.")
    return Text(Path(source).stem, tokens, vocabulary)


def documents() -> list[Path]:
    """Those of this project: in the package where it is installed, beside it in a clone. ValueError: they are gone."""
    package = Path(__file__).parents[1]
    paths = sorted((package / "docs").glob("*.md")) or sorted((package.parent / "docs").glob("*.md"))
    if not paths:
        raise ValueError("The documents of this project are not beside it: give a text file.")
    return paths


def decoded(content: bytes, source: str) -> str:
    """ValueError: it is no UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{source} is no UTF-8, see its line {line}: give --tokens bytes, or another file.") from None


def by_characters(text: str) -> tuple[np.ndarray, Vocabulary]:
    """The tokens of a text (n,), and its characters as the vocabulary."""
    codes = code_points(text)
    is_there = np.zeros(UNICODE, bool)
    is_there[codes] = True
    token_of = np.cumsum(is_there, dtype=np.int32) - 1
    return token_of[codes], Vocabulary("".join(map(chr, np.flatnonzero(is_there))))


def code_points(text: str) -> np.ndarray:
    """Those of its characters (n,), lone surrogates included."""
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)


def contexts(tokens: np.ndarray, T: int) -> tuple[np.ndarray, np.ndarray]:
    """(x, y), each (m, T): contexts side by side, and after each of their tokens the next one. What is left at the end
    is too short."""
    m = (len(tokens) - 1) // T
    return tokens[: m * T].reshape(m, T), tokens[1 : m * T + 1].reshape(m, T)
