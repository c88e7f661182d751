"""Damaged, odd and hostile tables: one sentence, in bounded memory; and both parsers of CSV agree to the last bit."""

import io
import os
import resource
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnn import data, memory
from jaxnn.data import csv_file, npz_file
from jaxnn.data.labels import shown

X, Y = np.arange(60.0).reshape(20, 3), np.arange(20) % 2


def npz(folder, **arrays):
    np.savez(folder / "t.npz", **{"x": X, "y": Y, **arrays})
    return folder / "t.npz"


def csv(folder, text):
    (folder / "t.csv").write_bytes(text.encode())
    return folder / "t.csv"


def refusal(path):
    """The sentence that says what is wrong with a file."""
    with pytest.raises(ValueError, match=r".") as refused:
        data.load(str(path))
    text = str(refused.value)
    assert text.isprintable()
    assert path.name in text
    return text


@pytest.mark.parametrize(
    ("signature", "offset", "value"),
    [
        (b"PK\x01\x02", 8, 0x01),  # encrypted
        (b"PK\x01\x02", 8, 0x20),  # patched
        (b"PK\x01\x02", 8, 0x40),  # strongly encrypted
        (b"PK\x01\x02", 10, 12),  # BZ2, which it is not
        (b"PK\x01\x02", 10, 14),  # LZMA
        (b"PK\x01\x02", 10, 8),  # deflate
        (b"PK\x01\x02", 10, 99),  # no compression that there is
        (b"PK\x01\x02", 6, 0xFFFF),  # a version to come
        (b"PK\x01\x02", 16, 0x1234),  # another checksum
        (b"PK\x01\x02", 24, 60),  # another size
        (b"PK\x01\x02", 42, 0x7777),  # elsewhere
    ],
)
def test_odd_fields_of_a_zip_file_are_refused(tmp_path, signature, offset, value):
    path = npz(tmp_path)
    content = bytearray(path.read_bytes())
    at = content.find(signature) + offset
    content[at : at + 2] = value.to_bytes(2, "little")
    path.write_bytes(content)
    assert "is damaged, or no .npz file of plain arrays" in refusal(path)


@pytest.mark.parametrize("length", [0, 30, 100, 300, 700])
def test_a_file_that_is_cut_short_is_refused(tmp_path, length):
    path = npz(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    assert "is damaged" in refusal(path)


def with_header(folder, header, version=b"\x01\x00", content=bytes(480)):
    """A file whose x has this header."""
    y = io.BytesIO()
    np.save(y, Y)
    with zipfile.ZipFile(folder / "t.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header + content)
        archive.writestr("y.npy", y.getvalue())
    return folder / "t.npz"


def header(dtype="'<f8'", shape="(20, 3)"):
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()


def test_the_header_of_these_tests_is_one(tmp_path):
    data.load(str(with_header(tmp_path, header(), content=X.tobytes())))


@pytest.mark.parametrize(
    "bad",
    [
        header(shape="(-1, 3)"),
        header(shape="(20.0, 3)"),
        header(shape="(True, 60)"),
        header(shape="(20, 4)"),
        header(shape="(10**9, 10**9)"),
        header(dtype="'bogus'"),
        header(dtype="None"),
        header(dtype="'|O'"),
        header(dtype="('<f8', (2,))"),
        b"[" * 9000,
        b"9" * 9000,
        b"\xff" * 40,
        b"",
    ],
)
def test_odd_headers_are_refused(tmp_path, bad):
    assert "is damaged" in refusal(with_header(tmp_path, bad))


@pytest.mark.parametrize("version", [b"\x03\x00", b"\x09\x09"])
def test_other_versions_are_refused(tmp_path, version):
    assert "is damaged" in refusal(with_header(tmp_path, header(), version))


@pytest.mark.parametrize("dtype", ["M8[s]", "m8[D]", "f8,i4", "V5", "c16"])
def test_what_is_no_number_is_named(tmp_path, dtype):
    assert "x is of dtype" in refusal(npz(tmp_path, x=np.zeros((20, 3), dtype)))


@pytest.mark.parametrize("y", [np.array([b"\xff", b"a"] * 10), np.frombuffer(b"\xff\xff\xff\x7f" * 20, "<U1")])
def test_bytes_that_are_no_text_are_refused(tmp_path, y):
    assert "is damaged" in refusal(npz(tmp_path, y=y))


def test_an_array_that_will_not_fit_is_refused_by_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 3 * X.nbytes - 1)
    monkeypatch.setattr(npz_file, "array_of", lambda *_: pytest.fail("it was read"))
    assert "of memory at least, and there is" in refusal(npz(tmp_path))


def test_a_bomb_is_refused_by_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr(npz_file, "SMALL", 2**16)
    monkeypatch.setattr(npz_file, "array_of", lambda *_: pytest.fail("it was read"))
    np.savez_compressed(tmp_path / "t.npz", x=np.zeros((10_000, 10)), y=np.arange(10_000) % 2)
    assert "x unpacks to" in refusal(tmp_path / "t.npz")


@pytest.mark.parametrize("suffix", ["csv", "npz"])
@pytest.mark.parametrize("target", ["/dev/zero", "/dev/null", None], ids=str)
def test_what_need_not_end_is_not_read(tmp_path, suffix, target):
    path = tmp_path / f"t.{suffix}"
    if target:
        path.symlink_to(target)
    else:
        os.mkfifo(path)
    assert "it is a pipe or a device" in refusal(path)


def test_a_link_to_a_table_is_one(tmp_path):
    path = csv(tmp_path, "1,2,a\n3,4,b\n")
    (tmp_path / "link.csv").symlink_to(path)
    assert data.load(str(tmp_path / "link.csv")).classes == ("a", "b")


def test_a_file_of_holes_is_refused_by_its_size(tmp_path):
    path = csv(tmp_path, "1,2\n")
    os.truncate(path, 10**13)
    assert "of memory at least" in refusal(path)


LINE = "1.5,2.5,yes\n2.5,1.5,no\n"


@pytest.mark.parametrize("rest", [3, 100, 30_000], ids=["to the end", "a long class", "beyond what csv takes"])
@pytest.mark.parametrize("opening", ['1,2,"yes\n', '"1,2,yes\n'], ids=["last", "first"])
def test_a_quote_left_open_is_named_with_its_line(tmp_path, rest, opening):
    path = csv(tmp_path, 2 * LINE + opening + rest * LINE)
    told = refusal(path)
    assert told.startswith("Line 5 of ")
    assert "quote" in told.replace(str(path), "")


def test_a_class_has_a_readable_length(tmp_path):
    assert "has a cell of 201 characters" in refusal(csv(tmp_path, "1,a\n2," + "x" * 201 + "\n"))
    assert data.load(str(csv(tmp_path, "1,a\n2," + "x" * 200 + "\n"))).classes[1] == "x" * 200
    with pytest.raises(ValueError, match="a name of 201 characters"):
        data.load(str(npz(tmp_path, y=np.array(["a", "x" * 201] * 10))))


def test_a_number_may_be_as_long_as_it_is(tmp_path):
    assert data.load(str(csv(tmp_path, "0." + "0" * 300 + "5e301,a\n2,b\n"))).x[0] == 5


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_file, "LONGEST_LINE", 100)
    monkeypatch.setattr(csv_file, "PIECE", 10)
    assert "Line 3 of" in refusal(csv(tmp_path, LINE + "1," * 200))


def test_classes_without_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_file, "MOST_LABELS", 5)
    assert "over 5 different words" in refusal(csv(tmp_path, "".join(f"1,c{k}\n" for k in range(9))))


@pytest.mark.parametrize("word", ["a\x1b[2Jb", "a\nb", "a\rb", "a\u202eb", "a\x9bb", "a\u2028b", "x" * 100])
def test_a_label_is_shown_on_one_line(tmp_path, word):
    for text in (f'1,"{word}"\n2,"{word}"\n', f'1,a\n"{word}",b\n', f'"{word}",kind\n,a\n2,b\n'):
        with pytest.raises(ValueError, match=r".") as refused:
            data.load(str(csv(tmp_path, text)))
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 250
    assert shown(word).isprintable()
    assert len(shown(word)) <= 60


def test_a_long_table_takes_little_more_than_its_numbers(tmp_path):
    """40 MB of text in a process of its own, which has 2 × that beside Python and NumPy."""
    lines = "".join(",".join(map(str, row)) + ",yes\n" for row in np.random.default_rng(0).normal(size=(2000, 100)))
    path = csv(tmp_path, "1," * 100 + "no\n" + 10 * lines)
    code = (
        "import sys; from resource import RUSAGE_SELF, getrusage; from jaxnn import data\n"
        "before = getrusage(RUSAGE_SELF).ru_maxrss; data.load(sys.argv[1])\n"
        "print(getrusage(RUSAGE_SELF).ru_maxrss - before)"
    )
    told = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(told.stdout) * (1024 if sys.platform != "darwin" else 1) < 2 * path.stat().st_size


def both(path, monkeypatch, piece=40):
    """What is read of a file with Apache Arrow, and without: arrays and classes, or the sentence."""
    found = []
    monkeypatch.setattr(csv_file, "PIECE", piece)
    for parser in (csv_file.read_plain, lambda *_: None):
        monkeypatch.setattr(csv_file, "read_plain", parser)
        for read in (lambda: data.load(str(path)), lambda: data.load_rows(path, ("a", "b"), 2)):
            try:
                found.append(read())
            except ValueError as error:
                found.append(str(error))
    monkeypatch.undo()
    return found[:2], found[2:]


ODD = [
    "",
    " ",
    "nan",
    "nan(1)",
    "inf",
    "1e400",
    "1_0",
    "+4",
    "٣",
    "0x1",
    " 7 ",
    "\ufeff1",
    "word",
    '"1.5"',
    '"q,r"',
    '"x\ny"',
]
ODD += [
    "-0",
    "4.9e-324",
    "1e-400",
    "123456789012345678901234567890",
    "1e",
    "1.",
    ".5",
    '""',
    'a"b',
    "9\xa0",
    "\x00",
    '"un',
]
CELL = st.floats(allow_nan=False, allow_infinity=False).map(repr) | st.integers(-9, 9).map(str)


@given(
    rows=st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=30),
    odd=st.lists(st.tuples(st.integers(0, 29), st.integers(0, 2), st.sampled_from(ODD)), max_size=2),
    words=st.booleans(),
    end=st.sampled_from(["\n", "\r\n", "\n\n", "\r"]),
    quoted=st.booleans(),
)
def test_both_parsers_read_the_same(tmp_path_factory, rows, odd, words, end, quoted):
    pytest.importorskip("pyarrow")
    for n, row in enumerate(rows):
        row[2] = ("yes", "no", '"no"')[n % 3] if words else row[2]
        row[0] = f'"{row[0]}"' if quoted else row[0]
    for n, column, cell in odd:
        if n < len(rows):
            rows[n][column] = cell
    path = csv(tmp_path_factory.mktemp("csv"), end.join(["a,b,c", *map(",".join, rows)]))
    with pytest.MonkeyPatch.context() as monkeypatch:
        fast, slow = both(path, monkeypatch)
    for one, other in zip(fast, slow, strict=True):
        assert type(one) is type(other)
        assert repr(one) == repr(other)
        if isinstance(one, data.Table):
            assert (one.x.tobytes(), one.y.tobytes(), one.y.dtype) == (
                other.x.tobytes(),
                other.y.tobytes(),
                other.y.dtype,
            )
        elif isinstance(one, np.ndarray):
            assert one.tobytes() == other.tobytes()


def test_arrow_reads_plain_numbers_and_classes(tmp_path):
    pytest.importorskip("pyarrow")
    parsed = csv_file.read_plain("1,2.5,no\r\n\r\n3,4,yes\r\n5,6, no\n", 3, [1], 2, True)
    assert parsed.x.tolist() == [[2.5], [4], [6]]
    assert [parsed.words[code] for code in parsed.y] == ["no", "yes", "no"]
    assert csv_file.read_plain("1,nan\n", 2, [0, 1], None, False) is None
    assert csv_file.read_plain("\ufeff1,2\n", 2, [0, 1], None, False) is None


def test_lines_that_arrow_read_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_file, "PIECE", 40)
    assert refusal(csv(tmp_path, 20 * LINE + "\r\n" + 20 * LINE + "1,2\n")).startswith("Line 82 of ")


def test_classes_are_sorted_wherever_they_stand(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_file, "PIECE", 10)
    table = data.load(str(csv(tmp_path, "1,c\n1,b\n1,c\n1,a\n" * 9)))
    assert (table.classes, table.y[:4].tolist()) == (("a", "b", "c"), [2, 1, 2, 0])


def test_a_target_whose_first_word_comes_late_is_of_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_file, "PIECE", 10)
    table = data.load(str(csv(tmp_path, "1,2\n" * 9 + "1,2.0\n" + "1,b\n")))
    assert table.classes == ("2", "2.0", "b")
    assert table.y.tolist() == [0] * 9 + [1, 2]


def test_the_least_limit_is_the_memory(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("123456\n")
    monkeypatch.setattr(memory, "GROUPS", (str(tmp_path / "memory.max"), str(tmp_path / "none")))
    assert memory.available() == 123456
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available() > 10**8
    monkeypatch.setattr(resource, "getrlimit", lambda _: (99_999, resource.RLIM_INFINITY))
    assert memory.available() == 99_999
    with pytest.raises(ValueError, match=r"^This takes 0\.1 MB of memory at least, and there is 0\.1 MB: give less\.$"):
        memory.check_fits(100_000, "This", "give less.")
