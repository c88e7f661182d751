"""Trees of arrays, and texts, by name in one safetensors file with a checksum. No pickle, nothing executed."""

import hashlib
import json
import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from jax.tree_util import keystr, tree_leaves_with_path, tree_map_with_path
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from jaxnn.data.labels import readable
from jaxnn.protocols import PyTree
from jaxnn.storage import whole_file

CHECKSUM = "sha256"
LONGEST_HEADER = 2**23  # bytes: of some 50,000 arrays


class Content(NamedTuple):
    """What a file holds. is_checked: it has a checksum, and the checksum is right."""

    arrays: dict[str, np.ndarray]
    texts: dict[str, str]
    is_checked: bool

    def tree(self, name: str, like: PyTree) -> PyTree:
        """The tree of this name, for one of its form: arrays or shapes. ValueError: it is not of this form."""
        expected = dict(named(name, like))
        there = {leaf for leaf in self.arrays if leaf == name or leaf.startswith(f"{name}/")}
        if there != set(expected):
            which = sorted(there ^ set(expected))[0]
            raise ValueError(f"{readable(which)} is {'one array too many' if which in there else 'missing'}")

        def value(path: PyTree, leaf: PyTree) -> PyTree:
            v, (shape, dtype) = self.arrays[leaf_name(name, path)], shape_and_dtype(leaf)
            if (v.shape, v.dtype) != (shape, dtype):
                raise ValueError(f"{leaf_name(name, path)} is {v.dtype} {v.shape}, not {dtype} {shape}")
            on_device = jnp.asarray(v)
            return jax.random.wrap_key_data(on_device, impl=jax.random.key_impl(leaf)) if is_key(leaf) else on_device

        return tree_map_with_path(value, like)


def write(path: Path, trees: Mapping[str, PyTree], texts: Mapping[str, str]) -> None:
    """Writes trees and texts to `path`, whole or not at all, with a checksum of all of them. OSError as of any file.
    ValueError: more names and texts than `read` would take."""
    content = content_of(trees, texts)
    written = in_order(to_bytes(content.arrays, {**texts, CHECKSUM: checksum(content.arrays, texts)}))
    if int.from_bytes(written[:8], "little") > LONGEST_HEADER:
        raise ValueError(f"{path} is not written: its names and texts take more than {LONGEST_HEADER:,} bytes.")
    whole_file.write(path, written)


def content_of(trees: Mapping[str, PyTree], texts: Mapping[str, str]) -> Content:
    """What a file of these trees and texts holds."""
    leaves = [*chain.from_iterable(named(name, tree) for name, tree in trees.items())]
    arrays = {name: on_host(v) for name, v in leaves}
    if len(arrays) < len(leaves):
        raise ValueError("two arrays of a tree have one name: no key may have a / in it")
    return Content(arrays, dict(texts), is_checked=True)


def in_order(content: bytes) -> bytes:
    """The same file with its texts by name: safetensors has them in a random order, and equal runs have equal files."""
    n = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + n])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return len(text).to_bytes(8, "little") + text + content[8 + n :]


def read(path: Path) -> Content:
    """The content of `path`. ValueError: no file, no safetensors, or its checksum is not that of what it holds."""
    if not os.path.isfile(path):  # Path.is_file raises where the folder may not be read
        raise ValueError(f"There is no file {path}.")
    try:
        check_header_length(path)
        with safe_open(path, "numpy") as file:
            texts = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise ValueError(f"Cannot read {path}: {error.strerror or error}.") from None
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError, MemoryError) as error:
        # SafetensorError is of the library; those after it of NumPy, for dtypes and shapes that it lacks
        what = "damaged or no safetensors file of ours"
        raise ValueError(f"Cannot read {path}, it is {what}: {readable(str(error))}.") from None
    given = texts.pop(CHECKSUM, None)
    if given is not None and given != checksum(arrays, texts):
        raise ValueError(f"{path} is damaged: what it holds is not what was written, by its checksum.")
    return Content(arrays, texts, given is not None)


def check_header_length(path: Path) -> None:
    """ValueError: the first eight bytes of the file are the length of a header that `write` would not make."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > LONGEST_HEADER:
        raise ValueError("it does not begin with the length of a header")


def checksum(arrays: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> str:
    """SHA-256 of texts, names, dtypes, shapes and values."""
    forms = [(name, str(v.dtype), v.shape) for name, v in sorted(arrays.items())]
    total = hashlib.sha256(json.dumps([sorted(texts.items()), forms]).encode())
    for _, v in sorted(arrays.items()):
        total.update(v.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def named(name: str, tree: PyTree) -> list[tuple[str, PyTree]]:
    """(what the file calls it, leaf) for the leaves of a tree of this name."""
    return [(leaf_name(name, path), leaf) for path, leaf in tree_leaves_with_path(tree)]


def leaf_name(name: str, path: tuple[PyTree, ...]) -> str:
    """What the file calls the leaf at this path of the tree of this name."""
    return f"{name}/{keystr(path, simple=True, separator='/')}" if path else name


def is_key(leaf: PyTree) -> bool:
    """Whether a leaf is of typed PRNG keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def on_host(leaf: PyTree) -> np.ndarray:
    """The numbers of a leaf."""
    return np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf, order="C")


def shape_and_dtype(leaf: PyTree) -> tuple[tuple[int, ...], np.dtype]:
    """Those of its numbers."""
    if is_key(leaf):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return leaf.shape, np.dtype(leaf.dtype)
