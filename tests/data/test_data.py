"""Sources of data: what is read is what was written, every row is split once, and what cannot be used is said."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxnn import data

floats = st.floats(-1e6, 1e6, width=32)


def table(y, classes=()):
    y = np.asarray(y)
    return data.Table("t", np.zeros((len(y), 1)), y, ("a",), tuple(classes), ())


@given(counts=st.lists(st.integers(2, 30), min_size=2, max_size=5), seed=st.integers(0, 2**31 - 1))
def test_split_has_every_row_once_and_a_fifth_of_every_class(counts, seed):
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    train, test = data.split(table(y, map(str, range(len(counts)))), seed)
    assert sorted([*train, *test]) == list(range(len(y)))
    assert np.bincount(y[test]).tolist() == [max(1, round(n / 5)) for n in counts]
    again = data.split(table(y, map(str, range(len(counts)))), seed)
    assert all(np.array_equal(a, b) for a, b in zip((train, test), again, strict=True))


@given(m=st.integers(2, 200), seed=st.integers(0, 100))
def test_split_of_values_is_a_fifth(m, seed):
    train, test = data.split(table(np.zeros((m, 1))), seed)
    assert sorted([*train, *test]) == list(range(m))
    assert len(test) == max(1, round(m / 5))


def test_split_differs_by_seed_and_is_not_sorted():
    (a, _), (b, _) = (data.split(table(np.zeros((50, 1))), seed) for seed in (0, 1))
    assert not np.array_equal(a, b)
    assert not np.array_equal(a, np.sort(a))


@given(arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=floats))
def test_scales_go_there_and_back(v):
    for scale in (data.standardise(v), data.brighten(v)):
        np.testing.assert_allclose(scale.back(scale(v)), v, rtol=1e-9, atol=1e-9 * (1 + np.abs(v).max()))
    assert np.abs(data.brighten(v)(v)).max() <= 1


@given(arrays(np.float64, (7, 3), elements=st.integers(-1000, 1000)))
def test_standardised_columns_have_mean_0_and_deviation_1_or_are_0(v):
    z = data.standardise(v)(v)
    assert np.allclose(z.mean(0), 0)
    assert np.allclose(z.std(0), v.std(0) > 0)


@given(c=st.floats(-1e300, 1e300), m=st.integers(1, 60), turns=st.integers(0, 2))
def test_a_constant_column_is_constant_however_it_is_rounded(c, m, turns):
    """48 times 0.1 has a standard deviation of 1.4e-17."""
    v = np.full((m, 1), c)
    v[::2] = np.nextafter(v[::2], np.inf if turns == 2 else v[::2]) if turns else c
    scale = data.standardise(v)
    assert data.constant(v).all()
    assert scale.unit == 1
    assert abs(scale(v)).max() <= np.spacing(abs(c))


def test_a_column_that_differs_in_one_entry_is_not_constant():
    v = np.full((48, 2), 0.1)
    v[7] = 0.1 + 1e-12, 0
    assert not data.constant(v).any()
    np.testing.assert_allclose(data.standardise(v)(v).std(0), 1, rtol=1e-3)


@pytest.mark.parametrize("unit", [1e-300, 1e150, 1e307])
def test_huge_and_tiny_columns_are_standardised_without_overflow(unit):
    v = np.random.default_rng(0).uniform(-1, 1, (30, 3))
    np.testing.assert_allclose(data.standardise(unit * v)(unit * v), data.standardise(v)(v), rtol=1e-9)


def test_bytes_are_scaled_by_255():
    v = np.array([[0, 51], [102, 204]], np.uint8)
    assert data.brighten(v)(v).tolist() == [[0, 0.2], [0.4, 0.8]]


@given(x=arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=floats), header=st.booleans())
def test_a_csv_is_read_as_it_was_written(tmp_path_factory, x, header):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    y = np.arange(len(x)) + 0.5
    names = [f"f {j}" for j in range(x.shape[1])]
    lines = [",".join(map(str, [*row, v])) for row, v in zip(x, y, strict=True)]
    if header:
        lines.insert(0, ",".join([*names, "price"]))
    path.write_text("\n\n".join(lines), "utf-8-sig")
    t = data.load(str(path))
    assert np.array_equal(t.x, x)
    assert np.array_equal(t.y, y[:, None])
    assert (t.features, t.targets) == ((tuple(names), ("price",)) if header else (t.features, ("y0",)))


def write(folder, name, content):
    path = folder / name
    if isinstance(content, dict):
        np.savez(path, **content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text("\n".join(content))
    return path


def test_a_quoted_cell_may_hold_a_comma(tmp_path):
    t = data.load(str(write(tmp_path, "t.csv", ['1,2,"a, b"', "3,4,c"])))
    assert t.classes == ("a, b", "c")


@pytest.mark.parametrize(
    ("y", "classes", "values"),
    [
        (["no", "yes", "no"], ("no", "yes"), [0, 1, 0]),
        ([b"no", b"yes", b"no"], ("no", "yes"), [0, 1, 0]),
        ([3, 5, 3], ("3", "5"), [0, 1, 0]),
        ([3.0, 5.0, 3.0], ("3", "5"), [0, 1, 0]),
        (["3", "5.0", "3"], ("3", "5"), [0, 1, 0]),
        ([[3], [5], [3]], ("3", "5"), [0, 1, 0]),
        ([False, True, False], ("0", "1"), [0, 1, 0]),
        ([0.5, 1, 1], (), [[0.5], [1], [1]]),
        ([[1, 2], [3, 4], [5, 6]], (), [[1, 2], [3, 4], [5, 6]]),
    ],
)
def test_text_and_few_whole_numbers_are_classes(tmp_path, y, classes, values):
    t = data.load(str(write(tmp_path, "t.npz", {"x": np.eye(3), "y": np.array(y)})))
    assert t.classes == classes
    assert t.y.tolist() == values


@pytest.mark.parametrize("K", [20, 21])
def test_more_than_20_whole_numbers_are_values(K):
    t = data.from_arrays("t", np.zeros((K, 1)), np.arange(K))
    assert len(t.classes) == (K if K == 20 else 0)


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine"])
def test_embedded_sets_are_those_of_scikit_learn(name):
    theirs = getattr(pytest.importorskip("sklearn.datasets"), f"load_{name}")()
    t = data.load(name)
    np.testing.assert_array_equal(t.x, theirs.get("images", theirs.data))
    classes = "target_names" in theirs and name != "linnerud"
    np.testing.assert_array_equal(t.y, theirs.target if t.y.shape == theirs.target.shape else theirs.target[:, None])
    assert t.features == (() if name == "digits" else tuple(theirs.feature_names))
    assert t.classes == (tuple(map(str, theirs.target_names)) if classes else ())
    assert t.targets == (() if classes else tuple(theirs.get("target_names", ["y"])))


X = np.arange(12.0).reshape(6, 2)
Y = X[:, 0] + 0.5
BAD = {
    "iriss": (None, "did you mean iris?"),
    "nothing": (None, "use one of breast_cancer, diabetes, digits, iris, linnerud, wine"),
    "missing.csv": (None, "No such file"),
    "missing.npz": (None, "No such file"),
    "words.csv": (["1,red,2", "1,2,3"], "column 1 has text, such as 'red', in 1 of 2 rows"),
    "words, named.csv": (["a,b,y", "1,red,2", "1,2,3"], "b has text, such as 'red', in 1 of 2 rows"),
    "empty.csv": ([], "no rows"),
    "header.csv": (["a,b,c"], "no rows"),
    "ragged.csv": (["1,2,3", "1,2,3", "1,2"], "Line 3 .* has 2 cells, but the first line has 3"),
    "semicolons.csv": (["1;2;a", "2;3;b"], "one column"),
    "bytes.csv": (bytes(range(256)), "not text with commas"),
    "nan.csv": (["a,b,y", "1,nan,2.5", "1,,3.5", "1,2,3"], "b is missing, NaN or infinite in 2 of 3 rows.$"),
    "inf.csv": (["1,inf,2.5", "nan,2,3.5"], "x0 is missing, NaN or infinite in 1 of 2 rows; columns like it: 1 more"),
    "no target.csv": (["a,b,y", "1,2,2.5", "1,2,"], "y is missing, NaN or infinite in 1 of 2 rows"),
    "no class.csv": (["1,2,a", "1,2,"], "class is missing in 1 of 2 rows"),
    "one class.csv": (["1,2,a", "1,3,a"], "All 2 rows are of the class a"),
    "no rows.npz": ({"x": X[:0], "y": Y[:0]}, "no rows"),
    "nan.npz": ({"x": X, "y": np.where(Y > 3, np.nan, Y)}, "column 0 of y is missing, NaN or infinite in 4 of 6"),
    "infinite class.npz": ({"x": X, "y": np.array([0, 1, 0, 1, 0, np.inf])}, "column 0 of y is .* 1 of 6"),
    "image.npz": ({"x": np.full((6, 2, 2), np.nan), "y": Y}, "column 0 of x is .* 6 of 6 rows; columns like it: 3"),
    "lengths.npz": ({"x": X, "y": Y[:4]}, r"x has shape \(6, 2\) and y \(4,\)"),
    "no columns.npz": ({"x": Y, "y": Y}, r"x has shape \(6,\)"),
    "numbers.npz": ({"x": 1.0, "y": 2.0}, "both need one row an example"),
    "only x.npz": ({"x": X}, "needs arrays named x and y"),
    "text.npz": ({"x": X.astype(str), "y": Y}, "x is of dtype <U32: it must be real numbers"),
    "complex.npz": ({"x": X + 1j, "y": Y}, "x is of dtype complex128"),
    "empty.npz": (b"", "no .npz file"),
    "words.npz": (b"hello", "no .npz file"),
    "cut.npz": (b"PK\x03\x04" + bytes(40), "no .npz file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_are_named(tmp_path, name):
    content, message = BAD[name]
    source = str(write(tmp_path, name, content) if content is not None else tmp_path / name if "." in name else name)
    with pytest.raises(ValueError, match=message):
        data.load(source)


@pytest.mark.parametrize("name", ["folder.csv", "folder.npz"])
def test_a_folder_is_no_data(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match="Is a directory"):
        data.load(str(tmp_path / name))


def test_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "t.npz", x=np.array([{}, {}]), y=np.arange(2))
    with pytest.raises(ValueError, match=r"no \.npz file of plain arrays"):
        data.load(str(tmp_path / "t.npz"))


@pytest.mark.parametrize(
    ("y", "classes", "message"),
    [([0, 0, 1], ("a", "rare"), "class rare has only 1 row"), ([[1.5]], (), "data set has only 1 row")],
)
def test_a_part_is_never_empty(y, classes, message):
    with pytest.raises(ValueError, match=message):
        data.split(table(y, classes), 0)


@pytest.mark.parametrize(
    "lines",
    [
        ["1,2", "3,4"],
        ["a,b", "1,2", "3,4"],
        ["p,q", "1,2", "3,4"],
        ["1,2,yes", "3,4,no"],
        ["b,id,y,a", "2,7,yes,1", "4,8,no,3"],
    ],
    ids=["no names", "names", "other names", "with its target", "in another order"],
)
def test_rows_to_predict(tmp_path, lines):
    assert data.load_rows(write(tmp_path, "t.csv", lines), ("a", "b"), 2).tolist() == [[1, 2], [3, 4]]


def test_images_to_predict(tmp_path):
    x = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert np.array_equal(data.load_rows(write(tmp_path, "t.npz", {"x": x}), (), 4), x.reshape(3, 4))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", ["1,2,3,4"], "has 4 numbers a row, but the model was trained on 2"),
        ("t.csv", ["1"], "has 1 numbers a row, but the model was trained on 2"),
        ("t.csv", ["1,a"], "column 1 has text"),
        ("t.csv", ["1,nan"], "b is missing, NaN or infinite in 1 of 1 rows"),
        ("t.npz", {"x": np.ones((2, 3))}, "has 3 numbers a row"),
        ("t.npz", {"y": np.ones((2, 3))}, "needs arrays named x"),
        ("t.npz", {"x": 1.0}, "has 1 numbers a row"),
        ("t.txt", ["1,2"], "neither a .csv nor a .npz"),
    ],
)
def test_bad_rows_to_predict_are_named(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        data.load_rows(write(tmp_path, name, content), ("a", "b"), 2)
