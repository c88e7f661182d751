#!/usr/bin/env python3
"""Reads damaged, odd and hostile tables: each is read, or refused in one sentence, in little time and memory.

.venv/bin/python scripts/reliability/tables.py [--count 3000] [--seed 0]

Every table is made from the seed and its number, and read by `jaxnn.data.load` and `load_rows` in a child process,
whose CPU time and memory for each are measured: at most 5 seconds, and 500 MB more than Python has with NumPy. Exit
code 1 if one breaks a promise; its kind and number are printed then, and --only NUMBER makes it again.
"""

import argparse
import collections
import io
import multiprocessing
import os
import random
import resource
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from jaxnn import data

SECONDS, MEGABYTES = 5, 500
CELLS = ["1", "-2.5", "3e8", "", " ", "nan", "inf", "1e999", "1_0", "0x1", "yes", "no", '"', '""', "a\x1b[2Jb", "=1+1"]
CELLS += ["٣", "\ufeff", "\x00", "\u202eabc", "é" * 300, "9" * 5000, '"a\nb"', "'", ";", "\t", "1;2", "\r", "𝟙"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp037"]
DEVICES = ["/dev/zero", "/dev/urandom", "/dev/null", "/dev/full", "fifo", "folder", "loop"]
HEADERS = ["'<f8'", "'|O'", "'<c16'", "'<M8[s]'", "'|V8'", "[('a', '<f8')]", "('<f8', (2,))", "'<U0'", "'<U9'", "'|S3'"]
HEADERS += ["'<f16'", "'<f2'", "'bogus'", "None", "1", "'|b1'", "'<u8'", "'>f4'", "[]", "'<m8[D]'", "[('', '|O')]"]
SHAPES = ["(20, 3)", "(20,)", "()", "(0, 3)", "(-1, 3)", "(2.0, 3)", "(10**9, 10**9)", "(9999999999, 9999999)", "None"]
SHAPES += ["(True, 3)", "(" * 300, "(20, 3", "'x'", "(1,) * 40", "(20, 0)", "(1, 20, 3)"]


def csv_text(rng):
    width = rng.randint(1, 6)
    rows = [[f"{rng.gauss(0, 1):.{rng.randint(0, 17)}g}" for _ in range(width - 1)] for _ in range(rng.randint(0, 60))]
    kind = rng.choice([["yes", "no"], ["0", "1", "2"], ["1.5", "2.25", "-7"]])
    lines = [",".join([*row, rng.choice(kind)]) for row in rows]
    head = [",".join(f"f{j}" for j in range(width))]
    return rng.choice(["\n", "\r\n", "\r"]).join((head if rng.random() < 0.5 else []) + lines)


def odd_cells(rng, path):
    """Some cells are those of CELLS."""
    cells = [line.split(",") for line in csv_text(rng).splitlines()] or [[""]]
    for _ in range(rng.randint(1, 9)):
        row = rng.choice(cells)
        row[rng.randrange(len(row))] = rng.choice(CELLS)
    path.write_text("\n".join(map(",".join, cells)), newline="")


def damaged(rng, content):
    """Some bytes flipped, cut off, moved or repeated."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        if content:
            at = rng.randrange(len(content))
            match rng.choice(["flip", "flip", "flip", "cut", "insert", "drop"]):
                case "flip":
                    content[at] ^= 1 << rng.randrange(8)
                case "cut":
                    del content[at:]
                case "insert":
                    content[at:at] = rng.randbytes(rng.randint(1, 40))
                case "drop":
                    del content[at : at + rng.randint(1, 40)]
    return bytes(content)


def damaged_csv(rng, path):
    path.write_bytes(damaged(rng, csv_text(rng).encode()))


def encoded_csv(rng, path):
    path.write_bytes(csv_text(rng).encode(rng.choice(ENCODINGS)))


def open_quote(rng, path):
    """A quote somewhere, and a file that may be long."""
    lines = ["1.5,2.5,yes", "2.5,1.5,no"] * rng.choice([2, 50, 30_000])
    at = rng.randrange(len(lines))
    lines[at] = rng.choice(['1,2,"yes', '"1,2,yes', '1,"2,yes', '1,2,"a""', '1,2,"a"b"'])
    path.write_text("\n".join(lines))


def endless_line(rng, path):
    """One line of many cells, or one cell of many characters; and files that are holes."""
    n = rng.choice([10**5, 10**6, 3 * 10**6])
    match rng.choice(["cells", "characters", "quoted", "hole"]):
        case "cells":
            path.write_text(",".join(["1"] * n))
        case "characters":
            path.write_text("7" * n)
        case "quoted":
            path.write_text('1,"' + "x" * n)
        case "hole":
            with open(path, "wb") as file:
                file.truncate(rng.choice([10**6, 10**13]))


def npz_bytes(rng, compress=None):
    arrays = {"x": np.random.default_rng(rng.randrange(99)).normal(size=(20, 3)), "y": np.arange(20) % 2}
    file = io.BytesIO()
    (np.savez_compressed if compress or rng.random() < 0.5 else np.savez)(file, **arrays)
    return file.getvalue()


def damaged_npz(rng, path):
    path.write_bytes(damaged(rng, npz_bytes(rng)))


def odd_flags(rng, path):
    """Of the zip file: encrypted, patched, another compression or version, other sizes and sums."""
    content = bytearray(npz_bytes(rng))
    signature, fields = rng.choice(
        [(b"PK\x03\x04", (4, 6, 8, 14, 18, 22)), (b"PK\x01\x02", (6, 8, 10, 16, 20, 24, 42))]
    )
    at = content.find(signature) + rng.choice(fields)
    value = rng.choice([1, 0x20, 0x40, 9, 12, 14, 93, 99, 255, 0xFFFF])
    content[at : at + 2] = struct.pack("<H", value)
    path.write_bytes(content)


def odd_header(rng, path):
    """Of an array: its dtype, shape, order, version and length."""
    shape, dtype = rng.choice(SHAPES), rng.choice(HEADERS)
    header = (
        f"{{'descr': {dtype}, 'fortran_order': {rng.choice(['False', 'True', '3'])}, 'shape': {shape}, }}\n".encode()
    )
    header = rng.choice([header, header, header, b"[" * 9000, b"9" * 9000, header[:-4], b"\xff" * 20])
    version = rng.choice([b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x09"])
    length = struct.pack("<H" if version[:1] == b"\x01" else "<I", rng.choice([len(header)] * 5 + [0, 60000]))
    member = b"\x93NUMPY" + version + length + header + rng.randbytes(rng.choice([0, 480, 160, 20, 720]))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", member)
        archive.writestr("y.npy", npy(np.arange(20) % 2))


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=True)
    return file.getvalue()


def odd_array(rng, path):
    """Whole files of what is no table."""
    rows = 20
    x = rng.choice(
        [
            np.full((rows, 2), np.nan),
            np.full((rows, 2), 10**400, object),
            np.zeros((rows, 2), "M8[s]"),
            np.zeros((rows, 2), "f8,i4"),
            np.zeros((rows, 2), "V5"),
            np.zeros((rows, 2), complex),
            np.array([[b"\xff", b"1"]] * rows),
            np.frombuffer(b"\xff\xff\xff\x7f" * rows, "<U1").reshape(rows, 1),
            np.zeros((rows, 0)),
            np.zeros(rows),
            np.full((rows, 2), "x" * 10_000),
        ]
    )
    with open(path, "wb") as file:
        np.savez(
            file, x=rng.choice([x, np.ones((rows, 2))]), y=rng.choice([np.arange(rows) % 2, x, x.reshape(rows, -1)])
        )


def bomb(rng, path):
    """Zeros that unpack to gigabytes, with a header that says so or not."""
    size = rng.choice([10**7, 10**9, 3 * 10**9, 10**13])
    columns = rng.choice([1, 1000])
    header = io.BytesIO()
    says = {"descr": rng.choice(["<f8", "|u1"]), "fortran_order": False, "shape": (size // columns // 8, columns)}
    np.lib.format.write_array_header_1_0(header, says)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(header.getvalue() + bytes(10**6)) + deflate.flush()
    name, total = b"x.npy", rng.choice([len(header.getvalue()) + size, 2**32 - 2, 10**6]) & 0xFFFFFFFF
    fields = struct.pack("<5H3L2H", 20, 0, 8, 0, 0, 0, len(packed), total, len(name), 0)
    local = b"PK\x03\x04" + fields + name + packed
    central = b"PK\x01\x02" + struct.pack("<H", 20) + fields + struct.pack("<3H2L", 0, 0, 0, 0, 0) + name
    path.write_bytes(local + central + b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 1, 1, len(central), len(local), 0))


def true_bomb(rng, path):
    """The same, honest to the last byte."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as file:
        rows = rng.choice([10**6, 10**7])
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (rows, 8)})
        for _ in range(rows * 64 // 10**6):
            file.write(bytes(10**6))


def device(rng, path):
    """What is no regular file, but is called so."""
    target = rng.choice(DEVICES)
    if target == "fifo":
        os.mkfifo(path)
    elif target == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if target == "loop" else target)


CSV = [odd_cells, odd_cells, damaged_csv, damaged_csv, encoded_csv, open_quote, device]
NPZ = [damaged_npz, damaged_npz, odd_flags, odd_header, odd_header, odd_array, device]
RARE = [(endless_line, ".csv"), (bomb, ".npz")]  # these are large


def made(number, seed, folder):
    """(kind, path) of the table of this number."""
    rng = random.Random(f"{seed} {number}")
    if number % 500 == 499:
        kind, suffix = true_bomb, ".npz"
    elif number % 25 == 24:
        kind, suffix = rng.choice(RARE)
    else:
        kinds, suffix = rng.choice([(CSV, ".csv"), (NPZ, ".npz")])
        kind = rng.choice(kinds)
    path = Path(folder, f"{number}{suffix}")
    kind(rng, path)
    return kind.__name__, path


def outcome(read):
    """What became of a table: read, refused, or what is never to be."""
    try:
        read()
    except ValueError as error:
        text = str(error)
        return "refused" if text.isprintable() and len(text) < 500 else f"no sentence: {text!r:.200}"
    except BaseException as error:
        return f"{type(error).__name__}: {error!s:.200}"
    return "read"


def child(path, pipe):
    """Reads a table both ways, and tells the outcomes, the seconds and the megabytes."""
    before = usage()
    resource.setrlimit(resource.RLIMIT_CPU, (2 * SECONDS, 2 * SECONDS))
    readings = [lambda: data.load(str(path)), lambda: data.load_rows(path, ("f0", "f1", "f2"), 3)]
    for read in readings:
        what = outcome(read)
        now = usage()
        pipe.send((what, now[0] - before[0], now[1] - before[1]))
        before = now[0], before[1]


def usage():
    """(seconds of CPU, the most memory so far in MB) of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def verdicts(path):
    """What a child says of a table, one verdict a reading."""
    ours, theirs = multiprocessing.get_context("fork").Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(path, theirs))
    process.start()
    theirs.close()
    for _ in range(2):
        try:
            what, seconds, megabytes = ours.recv() if ours.poll(4 * SECONDS) else ("too slow: it hangs", 0, 0)
        except EOFError:
            what, seconds, megabytes = "too slow or killed", 0, 0
        if seconds > SECONDS:
            what = f"too slow: {seconds:.1f} s"
        if megabytes > MEGABYTES:
            what = f"too large: {megabytes:.0f} MB"
        yield what, seconds, megabytes
    process.kill()
    process.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one table")
    asked = parser.parse_args()
    numbers = range(asked.count) if asked.only is None else [asked.only]
    counts, broken, start = collections.Counter(), [], time.time()
    slowest = largest = 0.0
    for number in numbers:
        with tempfile.TemporaryDirectory() as folder:
            kind, path = made(number, asked.seed, folder)
            for what, seconds, megabytes in verdicts(path):
                slowest, largest = max(slowest, seconds), max(largest, megabytes)
                counts[what if what in ("read", "refused") else what.partition(":")[0]] += 1
                if what not in ("read", "refused"):
                    broken.append(f"{number} ({kind}): {what}")
    print(*broken, sep="\n")
    for what in ("read", "refused", *sorted({*counts} - {"read", "refused"})):
        print(f"{counts[what]:6} {what}")
    print(f"{len(numbers)} tables, each read two ways; of {len(broken)} readings a promise is broken.")
    print(f"The slowest took {slowest:.1f} s of CPU, the largest {largest:.0f} MB; all {time.time() - start:.0f} s.")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
