"""A .npz file of arrays: what its headers say is checked before anything is read."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib import format as npy

from jaxnn.data.files import check_file, check_room

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}  # 3.0 is for named fields
SMALL = 2**27  # bytes that any member may unpack to
RATIO = 200  # of the bytes of a larger one to those in the file; that of zeros is 1000


class Member(NamedTuple):
    """What the file says of one of its arrays."""

    name: str
    packed: int  # bytes in the file
    unpacked: int
    header: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npz(path: str | Path, *names: str) -> list[np.ndarray]:
    """The arrays of these names in a .npz file, one row an example: numbers, or text for classes.

    ValueError: no such file, not all of them, damaged or of another form, or too large for this machine.
    """
    path = Path(path)
    check_file(path)
    with opened(path) as archive:
        files = {name.removesuffix(".npy"): name for name in archive.namelist()}
        members = [member_of(archive, files[name]) for name in names if name in files]
    if len(members) < len(names):
        raise ValueError(f"{path} needs arrays named {' and '.join(names)}.")
    for member in members:
        check_member(path, member)
    with opened(path) as archive:
        return [array_of(archive, member.name) for member in members]


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The file as an archive. ValueError for whatever is raised: there are a dozen for bytes that nobody expects."""
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            yield archive
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise ValueError(f"Cannot read {path}: {error.strerror}.") from None
        raise ValueError(f"{path} is damaged, or no .npz file of plain arrays, as numpy.savez makes it.") from None


def member_of(archive: zipfile.ZipFile, name: str) -> Member:
    """What is said of the array of this name. ValueError: objects, no shape, or another size than that of the file."""
    info = archive.getinfo(name)
    with archive.open(info) as file:
        shape, _, dtype = HEADERS[npy.read_magic(file)](file)
        member = Member(name, info.compress_size, info.file_size, file.tell(), shape, dtype)
    is_shape = all(type(n) is int and n >= 0 for n in shape)
    if dtype.hasobject or not is_shape or member.header + member.size != member.unpacked:
        raise ValueError
    return member


def check_member(path: Path, member: Member) -> None:
    """ValueError: what is said is not numbers or text, or will take more memory than there is."""
    name, dtype = member.name.removesuffix(".npy"), member.dtype
    if dtype.kind not in "biufSU" or not dtype.itemsize:
        raise ValueError(f"{path}: {name} is of dtype {dtype!s:.60}: it must be real numbers.")
    check_room(path, math.prod(member.shape) * max(dtype.itemsize, 8))
    if member.size > max(SMALL, RATIO * member.packed):
        raise ValueError(
            f"{path}: {name} unpacks to {member.size // max(member.packed, 1)} times its size, as data hardly do. "
            "If they are yours, save them with numpy.savez, which does not pack them."
        )


def array_of(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """The array of this name; text as str. ValueError: not what its header says."""
    with archive.open(name) as file:
        array = np.atleast_1d(npy.read_array(file, allow_pickle=False))
    if array.dtype.kind == "S":
        array = array.astype(str)  # UnicodeDecodeError: not ASCII
    if array.dtype.kind == "U":
        "".join(array.flat).encode()  # ValueError: no characters
    return array
