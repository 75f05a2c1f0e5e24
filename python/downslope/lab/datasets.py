"""The digits and the user's own tables, checked before anything is trained on them."""

import csv
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DIGITS = Path(__file__).parent / "data" / "digits.csv.gz"
MAX_CLASSES = 20  # whole numbers with more distinct values than this are numbers, not classes
MIN_ROWS = 10
MISSING = {"", "na", "n/a", "nan", "null"}


class DatasetError(ValueError):
    """A table that cannot be raced on; the message is one line that says what is wrong and what to do."""


@dataclass(frozen=True)
class Dataset:
    """A table of examples.

    Attributes
    ----------
    name : str
    features : ndarray of float64, (rows, columns)
    targets : ndarray, (rows,)
        Labels 0, 1, ... where there are classes, and numbers otherwise.
    classes : int or None
        The number of classes; None for a regression.
    verdict : str
        What the target was taken for, and why.
    one_unit : bool
        Whether all columns are measured in one unit, so that one scale serves them all.
    """

    name: str
    features: np.ndarray
    targets: np.ndarray
    classes: int | None
    verdict: str
    one_unit: bool = False

    def split(self, seed):
        """``(X_train, y_train), (X_test, y_test)``, standardized, in float32; the seed holds out a fifth of the rows.

        Centres and scales are the training rows'. A target of numbers is standardized too, so that one learning rate
        suits targets of any size.
        """
        order = np.random.default_rng(seed).permutation(len(self.targets))
        held_out = len(order) // 5
        test, train = order[:held_out], order[held_out:]
        X = _standardize(self.features, train, self.one_unit)
        y = self.targets if self.classes else _standardize(self.targets[:, None], train)[:, 0]
        return (X[train], y[train]), (X[test], y[test])


def _standardize(columns, train, one_unit=False):
    """Columns less their training means, over their training standard deviations (in one unit: over that of all)."""
    largest = np.abs(columns[train]).max(axis=None if one_unit else 0)
    columns = columns / np.where(largest > 0, largest, 1)  # so that no square overflows or vanishes
    known = columns[train]
    variance = known.var(axis=0)
    if one_unit:
        variance = variance.mean()
    # A column that is constant in training teaches nothing: an infinite scale makes it zero, held-out rows included.
    scale = np.where(variance > 0, np.sqrt(variance), np.inf)
    with np.errstate(over="ignore"):  # held-out values may lie farther off than float32 reaches
        return ((columns - known.mean(axis=0)) / scale).astype(np.float32)


def load(source, target=None):
    """The `Dataset` in a CSV file with a header, in an NPZ file with arrays X and y, or the built-in ``"digits"``.

    Parameters
    ----------
    source : str
        ``"digits"``, or the path of a ``.csv`` or ``.npz`` file.
    target : str, optional
        The column to predict, for a CSV file and only there.

    Raises
    ------
    DatasetError
        If the table cannot be raced on.
    """
    suffix = Path(source).suffix.lower()
    if suffix == ".csv":
        if target is None:
            raise DatasetError(f"{source}: say which column to predict: --target COLUMN")
        return _load_csv(source, target)
    if source != "digits" and suffix != ".npz":
        raise DatasetError(f"cannot train on {source!r}: give digits, a .csv file or an .npz file")
    if target is not None:
        raise DatasetError(f"{source} has a target of its own: leave out --target, which is for .csv files")
    return _load_digits() if source == "digits" else _load_npz(source)


def _load_digits():
    table = np.loadtxt(DIGITS, delimiter=",")
    return Dataset("digits", table[:, :-1], table[:, -1].astype(np.int64), 10, "the target is the digit", one_unit=True)


def _load_csv(path, target):
    header, rows, lines = _read_csv(path)
    if target not in header:
        raise DatasetError(f"{path} has no column {_quote(target)}: --target must be one of {_listing(header)}")
    if len(header) == 1:
        raise DatasetError(f"{path} has only the column {_quote(target)}: add columns to predict it from")
    columns = dict(zip(header, zip(*rows)))
    targets = columns.pop(target)
    features = np.empty((len(rows), len(columns)))
    for j, (name, cells) in enumerate(columns.items()):
        numbers = [_number(cell) for cell in cells]
        if None in numbers:
            i = numbers.index(None)
            raise DatasetError(
                f"{path}, line {lines[i]}: column {_quote(name)} has {_quote(cells[i])}, which is not a number: "
                "encode the column as numbers or drop it"
            )
        features[:, j] = numbers
    names = list(columns)
    _refuse_unusable(features, lambda i, j: f"{path}, line {lines[i]}: column {_quote(names[j])}")
    where = f"column {_quote(target)}"
    targets = _numbers_or_text(targets, lambda i: f"{path}, line {lines[i]}: {where}")
    return _dataset(path, features, targets, where)


def _read_csv(path):
    """The header, the rows of stripped cells, and the line of the file that each row ends on."""
    rows, lines = [], []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                if row:
                    rows.append([cell.strip() for cell in row])
                    lines.append(reader.line_num)
    except OSError as error:
        raise DatasetError(f"cannot read {path!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DatasetError(f"{path} is not UTF-8 text: save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise DatasetError(f"{path}, line {reader.line_num} is not comma-separated: {error}: mend the line") from None
    if not rows:
        raise DatasetError(f"{path} is empty: it needs a header line and rows under it")

    header, rows, lines = rows[0], rows[1:], lines[1:]
    for j, name in enumerate(header):
        if not name:
            raise DatasetError(f"{path}: column {j + 1} has no name: name it, or drop it if it only counts the rows")
        if name in header[:j]:
            raise DatasetError(f"{path}: two columns are named {_quote(name)}: rename or drop one")
    for line, row in zip(lines, rows):
        if len(row) != len(header):
            raise DatasetError(
                f"{path}, line {line}: {len(row)} values under a header of {len(header)}: mend the row "
                "(a comma inside a value needs quotes)"
            )
    if not rows:
        raise DatasetError(f"{path} has a header but no rows: add at least {MIN_ROWS}")
    return header, rows, lines


def _load_npz(path):
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            names = archive.files
            X, y = (archive[name] if name in names else None for name in ("X", "y"))
    except OSError as error:
        raise DatasetError(f"cannot read {path!r}: {error.strerror or error}") from None
    except (ValueError, TypeError, AttributeError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error):
        # What else np.load raises for damaged archives, for other files of that name and for pickled objects.
        raise DatasetError(
            f"{path} does not hold plain arrays (damaged, or pickled objects): write it by np.savez(path, X=X, y=y)"
        ) from None
    if X is None or y is None:
        missing = "X" if X is None else "y"
        raise DatasetError(f"{path} has no array {missing!r} (it has {_listing(names)}): write X and y")
    if X.ndim != 2 or X.dtype.kind not in "biuf":
        raise DatasetError(f"{path}: X has shape {X.shape}, dtype {X.dtype}: it must be (rows, features) of numbers")
    if y.ndim != 1 or y.dtype.kind not in "biufU":
        raise DatasetError(f"{path}: y has shape {y.shape}, dtype {y.dtype}: it must be (rows,) of numbers or text")
    if len(X) != len(y):
        raise DatasetError(f"{path}: X has {len(X)} rows and y has {len(y)}: give them one row for each example")
    if X.shape[1] == 0:
        raise DatasetError(f"{path}: X has no columns: add features to predict y from")
    with np.errstate(over="ignore"):  # a long double may turn infinite here, and is refused for it
        features = X.astype(np.float64)
        targets = y if y.dtype.kind == "U" else y.astype(np.float64)
    _refuse_unusable(features, lambda i, j: f"{path}: X[{i}, {j}]")
    if y.dtype.kind == "U":
        targets = _numbers_or_text([cell.strip() for cell in y.tolist()], lambda i: f"{path}: y[{i}]")
    else:
        _refuse_unusable(targets, lambda i: f"{path}: y[{i}]")
    return _dataset(path, features, targets, "y")


def _number(cell):
    """The number in a cell, NaN for a missing one, None for other text."""
    if cell.lower() in MISSING:
        return math.nan
    try:
        return float(cell)
    except ValueError:
        return None


def _numbers_or_text(cells, where):
    """The target as an array of float64, or of text if any cell is no number; missing cells are refused in both."""
    numbers = [_number(cell) for cell in cells]
    _refuse_unusable(np.array([0.0 if number is None else number for number in numbers]), where)
    return np.array(cells if None in numbers else numbers)


def _refuse_unusable(values, where):
    """Raise for the first value that is NaN or infinite; ``where(*index)`` says where it stands."""
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        index = tuple(bad[0])
        what = "a missing value" if np.isnan(values[index]) else "an infinite value"
        raise DatasetError(f"{where(*index)} has {what}: fill it in or drop the row")


def _dataset(path, features, targets, where):
    """Decide between classes and numbers, and refuse what nothing can be learnt from."""
    rows = len(targets)
    if rows < MIN_ROWS:
        raise DatasetError(f"{path} has {rows} rows: it needs at least {MIN_ROWS}")
    distinct, labels = np.unique(targets, return_inverse=True)
    text = targets.dtype.kind == "U"
    if len(distinct) == 1:
        value = _quote(str(distinct[0])) if text else f"{distinct[0]:.15g}"
        raise DatasetError(
            f"{path}: {where} is {value} in every row, so there is nothing to learn: choose another target"
        )
    if text and len(distinct) > rows // 2:
        first = next(value for value in targets.tolist() if _number(value) is None)
        raise DatasetError(
            f"{path}: {where} is text (such as {_quote(first)}), {len(distinct)} distinct values in {rows} rows: "
            "choose another target, or mend the cells if it should be numbers"
        )
    whole = not text and bool((targets == np.floor(targets)).all())
    kind = "text" if text else "whole numbers" if whole else "numbers"
    fact = f"{where} holds {kind}, {len(distinct):,} distinct"
    name = Path(path).stem
    if text or (whole and len(distinct) <= MAX_CLASSES):
        return Dataset(name, features, labels, len(distinct), f"{fact}: taken for classes")
    return Dataset(name, features, targets, None, f"{fact}: taken for numbers to regress on")


def _quote(text):
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _listing(names, most=8):
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(_quote, names[:most])) + rest
