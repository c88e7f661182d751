"""Lines without quotes, parsed by Apache Arrow if it is there (the extra `tables`): five times as fast as by `csv`."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Parsed(NamedTuple):
    """x (m, n); y (m,): numbers, or places in `words`; empty if there is no target."""

    x: np.ndarray
    y: np.ndarray
    words: list[str]


def read_plain(text: str, width: int, columns: Sequence[int], target: int | None, is_text: bool) -> Parsed | None:
    """These columns of lines of `width` cells, and the one that is the target, numbers or text.

    None if Arrow is missing, or if one of the numbers is not finite or none for Arrow: then `csv` and `float`, which
    take more for a number, decide what it is. A number that both know has the same bits by both.
    """
    text = text.replace("\r\n", "\n")
    try:
        import pyarrow
        from pyarrow import csv
    except ImportError:
        return None
    if "\r" in text:  # a line end too, and Arrow would agree, but lines are counted
        return None
    names = [str(column) for column in range(width)]
    kinds = {names[column]: pyarrow.float64() for column in columns}
    if target is not None:
        kinds[names[target]] = pyarrow.string() if is_text else pyarrow.float64()
    data = pyarrow.py_buffer(f"\n{text}".encode())  # an empty line first: Arrow drops a byte-order mark at the start
    try:
        table = csv.read_csv(
            data,
            csv.ReadOptions(use_threads=False, block_size=data.size + 1, column_names=names),
            csv.ParseOptions(quote_char=False),
            csv.ConvertOptions(column_types=kinds, include_columns=[*kinds], null_values=[]),
        )
    except pyarrow.ArrowInvalid:
        return None
    x = np.empty((len(table), len(columns)))
    for place, column in enumerate(columns):
        x[:, place] = table.column(names[column]).to_numpy()
    y, words = np.empty(0), []
    if target is not None:
        last = table.column(names[target]).combine_chunks()
        if is_text:
            encoded = last.dictionary_encode()
            y, words = encoded.indices.to_numpy(), [word.strip() for word in encoded.dictionary.to_pylist()]
        else:
            y = last.to_numpy()
    return Parsed(x, y, words) if np.isfinite(x).all() and np.isfinite(y).all() else None
