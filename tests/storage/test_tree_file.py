"""Whatever bytes a file has, it gives what was written, or one sentence that names it."""

import json
import os
import struct
import time
from contextlib import suppress

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import numpy as jnp

from jaxnn.storage import tree_file

TREES = {"state": (jnp.arange(6.0).reshape(2, 3), {"n": jnp.int32(7)}), "key": jax.random.key(3)}
TEXTS = {"format": "a test", "σ": "Wörter\n"}


def raw(header, content=b""):
    """The bytes of a safetensors file with this header, bytes or to be made JSON."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + content


def one(dtype, shape, size, end=None):
    """A file of one array."""
    return raw({"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, size if end is None else end]}}, bytes(size))


BYTES = {
    "nothing": b"",
    "no safetensors": b"hello",
    "seven bytes": bytes(7),
    "no header": bytes(8),
    "a header longer than the file": b"\x10" + bytes(30),
    "a header of 2**63 bytes": struct.pack("<Q", 2**63) + b"{}",
    "deep": raw(b'{"a":' * 100_000 + b"}" * 100_000),
    "a list": raw(b"[" * 100_000),
    "no UTF-8": raw(b'{"\xff": 1}'),
    "half a pair": raw(b'{"__metadata__": {"x": "\\ud800"}}'),
    "a text that is a number": raw({"__metadata__": {"x": 3}}),
    "texts twice": raw(b'{"__metadata__": {"x": "1"}, "__metadata__": {"y": "1"}}'),
    "float8": one("F8_E4M3", [8], 8),
    "float6": one("F6_E2M3", [4], 3),
    "float4": one("F4", [8], 4),
    "a dtype with a control character": one("\x1b[31m\n" + "8" * 1000, [2], 2),
    "a negative shape": one("U8", [-1], 1),
    "another shape": one("U8", [3], 2),
    "70 axes": one("F32", [1] * 70, 4),
    "2**62 × 2**62 × 0": one("F32", [0, 2**62, 2**62], 0),
    "2**63 × 0": one("F32", [0, 2**63], 0),
    "an end beyond the file": one("U8", [9], 2, end=9),
    "bytes of no array": raw({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}, bytes(3)),
    "arrays that overlap": raw(
        {name: {"dtype": "U8", "shape": [2], "data_offsets": [i, i + 2]} for i, name in enumerate("ab")}, bytes(3)
    ),
    "another checksum": raw({"__metadata__": {"sha256": "0"}}),
}


def refused(path):
    """The one sentence, which names the file, in less than a second."""
    start = time.process_time()
    with pytest.raises(ValueError, match="file") as error:
        tree_file.read(path)
    assert time.process_time() - start < 1
    assert str(path) in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500
    return str(error.value)


@pytest.mark.parametrize("content", BYTES.values(), ids=BYTES)
def test_odd_bytes_are_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    refused(tmp_path / "file")


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "link", tmp_path / "loop", tmp_path / "none"):
        assert "There is no file" in refused(path)


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "file").write_bytes(raw({}))
    monkeypatch.setattr("builtins.open", denied)  # root may read all
    assert "Permission denied" in refused(tmp_path / "file")


def test_a_long_header_is_refused_before_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(struct.pack("<Q", tree_file.LONGEST_HEADER + 1))
    os.truncate(tmp_path / "file", tree_file.LONGEST_HEADER + 100)  # takes no room on the disk
    monkeypatch.delattr(tree_file, "safe_open")
    refused(tmp_path / "file")


def test_a_header_that_could_not_be_read_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="is not written: its names and texts"):
        tree_file.write(tmp_path / "file", {}, {"x": "1" * tree_file.LONGEST_HEADER})
    assert not [*tmp_path.iterdir()]


def same(content):
    """Whether this is what TREES and TEXTS made."""
    trees = {name: content.tree(name, like) for name, like in TREES.items()}
    return content.is_checked and content.texts == TEXTS and jax.tree.all(jax.tree.map(equal, trees, TREES))


def equal(v, w):
    return bool((v == w).all()) and v.dtype == w.dtype and v.shape == w.shape


def whole(tmp_path):
    tree_file.write(tmp_path / "file", TREES, TEXTS)
    return (tmp_path / "file").read_bytes()


def test_what_was_written_is_read(tmp_path):
    whole(tmp_path)
    assert same(tree_file.read(tmp_path / "file"))


def test_every_flipped_bit_of_a_number_is_noticed(tmp_path):
    content = whole(tmp_path)
    numbers = range(8 + int.from_bytes(content[:8], "little"), len(content))
    assert len(numbers) == 6 * 4 + 4 + 8
    for byte in numbers:
        for bit in range(8):
            changed = bytearray(content)
            changed[byte] ^= 1 << bit
            (tmp_path / "file").write_bytes(changed)
            assert "by its checksum" in refused(tmp_path / "file")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_changed_bytes_are_noticed_or_change_nothing(tmp_path, data):
    content = whole(tmp_path)
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    other = data.draw(st.sampled_from([b"", b'"', b"}", b"9", b"\0", content[start : end + 8], content[:start]]))
    (tmp_path / "file").write_bytes(content[:start] + other + content[end:])
    with suppress(ValueError):
        found = tree_file.read(tmp_path / "file")
        assert same(found) or not found.is_checked


@pytest.mark.parametrize(
    ("name", "like", "words"),
    [
        ("key", (), "key is one array too many"),
        ("state", (jnp.zeros((2, 3)),), "state/1/n is one array too many"),
        ("other", jnp.zeros(3), "other is missing"),
        ("key", jnp.zeros(3), r"key is uint32 \(2,\), not float32 \(3,\)"),
    ],
)
def test_a_tree_of_another_form_is_refused(tmp_path, name, like, words):
    whole(tmp_path)
    with pytest.raises(ValueError, match=words):
        tree_file.read(tmp_path / "file").tree(name, like)


def test_many_small_arrays_take_bounded_time(tmp_path):
    many = {str(i): np.zeros(0, np.uint8) for i in range(20_000)}
    tree_file.write(tmp_path / "file", {"t": many}, {})
    start = time.process_time()
    assert len(tree_file.read(tmp_path / "file").arrays) == 20_000
    assert time.process_time() - start < 2


def test_two_arrays_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two arrays of a tree have one name"):
        tree_file.write(tmp_path / "f", {"s": {"a/b": np.ones(2), "a": {"b": np.zeros(2)}}}, {})
