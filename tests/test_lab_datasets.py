"""Reading tables: what they are taken for, how they are split, and one clear line for each that is refused."""

import re

import numpy as np
import pytest

from downslope.lab.datasets import DatasetError, load

ROWS = [f"{i},{i * i % 7},{'ab'[i % 2]}" for i in range(12)]


@pytest.fixture
def csv(tmp_path):
    """A function that writes lines to a CSV file and returns its path."""

    def write(*lines, encoding="utf-8"):
        path = tmp_path / "table.csv"
        path.write_text("\n".join(lines) + "\n", encoding=encoding)
        return str(path)

    return write


@pytest.fixture
def npz(tmp_path):
    """A function that writes arrays to an NPZ file and returns its path."""

    def write(**arrays):
        np.savez(tmp_path / "table.npz", **arrays)
        return str(tmp_path / "table.npz")

    return write


def column(values):
    """The lines of a table that predicts y from x."""
    return ["x,y", *(f"{i},{value}" for i, value in enumerate(values))]


def test_digits():
    digits = load("digits")
    assert digits.features.shape == (1797, 64)
    assert (digits.features.min(), digits.features.max()) == (0, 16)
    assert digits.classes == 10 and np.bincount(digits.targets).min() > 170


def test_csv_columns_go_where_they_belong(csv):
    rows = (f"{'ab'[i % 2]}, {i},{i * i % 7}" for i in range(12))
    table = load(csv("kind, u ,v", *rows, "", encoding="utf-8-sig"), "kind")
    np.testing.assert_array_equal(table.features, [[i, i * i % 7] for i in range(12)])
    np.testing.assert_array_equal(table.targets, [i % 2 for i in range(12)])
    assert (table.name, table.classes) == ("table", 2)
    assert "'kind'" in table.verdict and "text" in table.verdict


@pytest.mark.parametrize(
    "values, classes",
    [
        (["no", "yes"] * 6, 2),
        (["True", "False"] * 6, 2),
        ([3, 1, 2] * 4, 3),
        (["1.0", "0.0"] * 6, 2),
        (["1", "2", "3a"] * 4, 3),
        (range(20), 20),
        (range(21), None),
        ([0.5, 1, 2] * 4, None),
    ],
)
def test_classes_or_numbers(csv, values, classes):
    table = load(csv(*column(values)), "y")
    assert table.classes == classes
    assert ("classes" if classes else "numbers to regress on") in table.verdict


@pytest.mark.parametrize("y", [[False, True], [0, 1], [1.0, 2.0], ["a", "b"]])
def test_npz(npz, y):
    X = np.arange(24, dtype=np.float16).reshape(12, 2)
    table = load(npz(X=X, y=np.array(y * 6)))
    assert table.classes == 2
    np.testing.assert_array_equal(table.targets, [0, 1] * 6)
    np.testing.assert_array_equal(table.features, X)


def test_split_is_standardized_by_the_training_rows_alone(csv):
    table = load(csv("x,c,y", *(f"{i**2},7,{i / 3}" for i in range(50))), "y")
    (X, y), (X_test, y_test) = table.split(seed=0)
    assert (X.shape, X_test.shape) == ((40, 2), (10, 2))
    assert X.dtype == y.dtype == X_test.dtype == np.float32
    np.testing.assert_allclose([X[:, 0].mean(), X[:, 0].std(), y.mean(), y.std()], [0, 1, 0, 1], atol=1e-6)
    assert not np.concatenate([X[:, 1], X_test[:, 1]]).any()  # a constant column has nothing to say
    assert abs(X_test[:, 0].mean()) > 1e-3
    (again, _), _ = table.split(seed=0)
    (other, _), _ = table.split(seed=1)
    np.testing.assert_array_equal(X, again)
    assert not np.array_equal(X, other)


def test_columns_that_are_constant_in_training_stay_silent(npz):
    (X, _), (X_test, _) = load(npz(X=np.eye(12), y=np.arange(12) % 2)).split(seed=0)
    constant = (X == X[0]).all(axis=0)
    assert constant.sum() == 2
    assert not X[:, constant].any() and not X_test[:, constant].any()


def test_split_of_extreme_values_is_finite(npz):
    X = np.array([[1e308, 1e-320, 0.1], [-1e308, -1e-320, 0.1]] * 6)
    (X, _), (X_test, _) = load(npz(X=X, y=np.arange(12) % 2)).split(seed=0)
    np.testing.assert_allclose(np.abs(X[:, :2]), 1, rtol=0.5)
    assert np.isfinite(X_test).all() and not X[:, 2].any()


def test_one_scale_serves_columns_of_one_unit():
    table = load("digits")
    (X, _), _ = table.split(seed=0)
    np.testing.assert_allclose([X.mean(), X.var(axis=0).mean()], [0, 1], atol=1e-5)
    assert X[:, 1].std() < 0.5 * X[:, 28].std()  # a pixel at the rim stays quieter than one in the middle


BAD_CSV = {
    "missing value": (["u,v,kind", *ROWS, "1,,a"], "kind", "line 14: column 'v' has a missing value: fill"),
    "missing target": (["u,v,kind", *ROWS, "1,2,NA"], "kind", "line 14: column 'kind' has a missing value"),
    "missing number": (column([*range(30), ""]), "y", "line 32: column 'y' has a missing value"),
    "nan": (["u,v,kind", "1,-nan,a", *ROWS], "kind", "line 2: column 'v' has a missing value"),
    "infinite": (["u,v,kind", *ROWS, "1,-inf,a"], "kind", "line 14: column 'v' has an infinite value"),
    "overflowing": (column([*range(30), "1e999"]), "y", "line 32: column 'y' has an infinite value"),
    "text feature": (["u,v,kind", *ROWS, "1,red,a"], "kind", "line 14: column 'v' has 'red', which is not a number"),
    "one class": (column(["a"] * 12), "y", "column 'y' is 'a' in every row, so there is nothing to learn: choose"),
    "constant": (column([2.5] * 12), "y", "column 'y' is 2.5 in every row"),
    "names": (column([f"name{i}" for i in range(12)]), "y", "column 'y' is text (such as 'name0'), 12 distinct"),
    "one bad cell": (column([*np.arange(30) / 4, "1;5"]), "y", "is text (such as '1;5'), 31"),
    "unknown column": (["u,v,kind", *ROWS], "Kind", "no column 'Kind': --target must be one of 'u', 'v', 'kind'"),
    "no target": (["u,v,kind", *ROWS], None, "say which column to predict: --target COLUMN"),
    "only the target": (["y", *map(str, range(12))], "y", "has only the column 'y': add columns"),
    "header only": (["u,v,kind"], "kind", "has a header but no rows: add at least 10"),
    "blank": (["", ""], "kind", "is empty: it needs a header line"),
    "too few rows": (["u,v,kind", *ROWS[:9]], "kind", "has 9 rows: it needs at least 10"),
    "ragged": (["u,v,kind", *ROWS[:3], "1,2", *ROWS], "kind", "line 5: 2 values under a header of 3: mend the row"),
    "blank line before": (["u,v,kind", "", "1,2", *ROWS], "kind", "line 3: 2 values"),
    "duplicate column": (["u,u,kind", *ROWS], "kind", "two columns are named 'u': rename or drop one"),
    "row index": ([",v,kind", *ROWS], "kind", "column 1 has no name: name it, or drop it"),
    "open quote": (["u,v,kind", *ROWS, '1,"2,a'], "kind", "line 14 is not comma-separated"),
    "long cell": (["u,v,kind", *ROWS, f"1,{'z' * 999},a"], "kind", f"has '{'z' * 37}...', which"),
}


@pytest.mark.parametrize("lines, target, message", BAD_CSV.values(), ids=BAD_CSV)
def test_bad_csv(csv, lines, target, message):
    refused(csv(*lines), target, message)


RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((12, 2)), RNG.standard_normal(12)
BAD_NPZ = {
    "no X": ({"x": X, "y": Y}, "no array 'X' (it has 'x', 'y')"),
    "no y": ({"X": X}, "no array 'y' (it has 'X'): write X and y"),
    "lengths": ({"X": X, "y": Y[:-1]}, "X has 12 rows and y has 11"),
    "pickled": ({"X": X, "y": np.array([1, "a"] * 6, dtype=object)}, "pickled objects"),
    "vector X": ({"X": Y, "y": Y}, "X has shape (12,), dtype float64: it must be (rows, features)"),
    "complex X": ({"X": X + 1j, "y": Y}, "dtype complex128"),
    "no columns": ({"X": X[:, :0], "y": Y}, "X has no columns"),
    "matrix y": ({"X": X, "y": X}, "y has shape (12, 2)"),
    "dates": ({"X": X, "y": Y.astype("datetime64[s]")}, "y has shape (12,), dtype datetime64[s]"),
    "missing value": ({"X": np.where(X == X[3, 1], np.nan, X), "y": Y}, "X[3, 1] has a missing value"),
    "infinite": ({"X": X, "y": np.where(Y == Y[5], np.inf, Y)}, "y[5] has an infinite value"),
    "missing text": ({"X": X, "y": np.array(["a", "b", " ", "b"] * 3)}, "y[2] has a missing value"),
    "one class": ({"X": X, "y": np.ones(12, bool)}, "y is 1 in every row"),
    "empty": ({"X": X[:0], "y": Y[:0]}, "has 0 rows"),
}


@pytest.mark.parametrize("arrays, message", BAD_NPZ.values(), ids=BAD_NPZ)
def test_bad_npz(npz, arrays, message):
    refused(npz(**arrays), None, message)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"text", "truncated", "array"])
def test_damaged_npz(npz, tmp_path, content):
    path = npz(X=X, y=Y)
    if content == "truncated":
        data = bytearray((tmp_path / "table.npz").read_bytes())
        data[200:300] = bytes(100)
        (tmp_path / "table.npz").write_bytes(data)
    elif content == "array":
        with open(path, "wb") as file:
            np.save(file, X)
    else:
        (tmp_path / "table.npz").write_bytes(content)
    refused(path, None, "does not hold plain arrays")


def test_other_files(csv, npz, tmp_path):
    refused(str(tmp_path / "none.csv"), "y", "none.csv': No such file")
    refused(str(tmp_path / "none.npz"), None, "none.npz': No such file")
    refused(str(tmp_path / "table.txt"), "y", "table.txt': give digits, a .csv file or an .npz file")
    refused("digits", "y", "digits has a target of its own: leave out --target")
    refused(npz(X=X, y=Y), "y", "has a target of its own: leave out --target")
    refused(csv("größe,y", *ROWS, encoding="latin-1"), "y", "is not UTF-8 text")
    (tmp_path / "folder.csv").mkdir()
    refused(str(tmp_path / "folder.csv"), "y", "Is a directory")


def refused(path, target, message):
    with pytest.raises(DatasetError, match=re.escape(message)) as error:
        load(path, target)
    assert "\n" not in str(error.value)
