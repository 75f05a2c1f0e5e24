"""`downslope minimize`: what it prints, what it draws, and its exit status."""

import sys

import numpy as np
import pytest

from downslope.lab import cli, minimize_problem, plot_path
from downslope.lab.problems import PROBLEMS


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")


def rows(out):
    """The printed tables' rows: what follows the first column, by its text."""
    cells = (line.rsplit(maxsplit=2) for line in out.splitlines())
    return {first[0].strip(): first[1:] for first in cells if len(first) == 3}


def test_adam_on_rosenbrock(capsys, tmp_path):
    command = "minimize rosenbrock --method adam --lr 0.01 --maxiter 20000 --plot path.png"
    assert cli.main(command.split()) == 0
    out, err = capsys.readouterr()
    assert " ".join(out.split()).startswith(
        "rosenbrock (Rosenbrock 1960): 2 variables, by adam, lr 0.01, maxiter 20,000"
    )
    assert max(map(len, out.splitlines())) <= 60 and err == ""
    table = rows(out)
    start, end = zip(*((float(a), float(b)) for a, b in (table[key] for key in ("f", "f - minimum", "x1", "x2"))))
    assert start == (24.2, 24.2, -1.2, 1.0)
    assert end == pytest.approx((0, 0, 1, 1), abs=1e-5)
    assert [float(cell) for cell in table["max |gradient|"]] == pytest.approx([215.6, 0], abs=1e-6)
    assert [float(cell) for cell in table["to minimizer"]] == pytest.approx([2.2, 0], abs=1e-5)
    assert "\nConverged: " in out and " iterations; " in out
    assert (tmp_path / "path.png").read_bytes().startswith(b"\x89PNG")


def test_without_convergence_the_status_is_1(capsys):
    assert cli.main("minimize Watson --maxiter 2".split()) == 1
    out, _ = capsys.readouterr()
    assert "9 variables, by l-bfgs, maxiter 2" in " ".join(out.split())
    assert "\nStopped: maxiter " in out and "\n2 iterations; " in out


def test_a_start_of_ones_own(capsys):
    assert cli.main("minimize himmelblau --start -3 -2.5".split()) == 0
    table = rows(capsys.readouterr().out)
    assert table["x1"] == ["-3", "-3.77931"] and table["x2"] == ["-2.5", "-3.28319"]


@pytest.mark.parametrize("start", ["1 -1e-3", "1 -1E-03", "+1. -.1e-2"])
def test_a_start_with_exponents(capsys, start):
    assert cli.main(f"minimize rosenbrock --start {start}".split()) == 0
    table = rows(capsys.readouterr().out)
    assert (table["x1"][0], table["x2"][0]) == ("1", "-0.001")


def test_divergence_is_shown_and_drawn(capsys, tmp_path):
    assert cli.main("minimize rosenbrock --method sgd --lr 1 --maxiter 20 --plot path.png".split()) == 1
    assert (tmp_path / "path.png").exists()


@pytest.mark.parametrize("method", minimize_problem.USE_HESSIANS)
def test_second_order_methods_get_the_hessian(monkeypatch, method):
    given = {}
    monkeypatch.setattr(
        minimize_problem.ds, "minimize", lambda fun, x0, **keywords: given.update(keywords), raising=False
    )
    problem = PROBLEMS["beale"]
    for name, hess in ((method.upper(), problem.hess), ("adam", None)):
        minimize_problem.run(problem, name, problem.x0, {})
        assert given["method"] == name and given["hess"] is hess and given["jac"] is problem.grad


def test_list(capsys):
    assert cli.main(["minimize", "--list"]) == 0
    out, _ = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()[3:]]
    assert [line[0] for line in lines] == list(PROBLEMS)
    assert ["penalty-1", "10", "1.4803e+05", "7.0877e-05"] in lines
    assert max(map(len, out.splitlines())) <= 60


ERRORS = {
    "": "name a problem (see downslope minimize --list)",
    "rosenbruck": "unknown problem 'rosenbruck' (see downslope minimize --list)",
    "wood --start 1 2": "--start must have 4 numbers for wood, got 2",
    "wood --start a": "argument --start: must be a finite number, got 'a'",
    "beale --start nan 1": "argument --start: must be a finite number, got 'nan'",
    "wood --method adam --lr inf": "argument --lr: must be a finite number, got 'inf'",
    "wood --maxiter 0": "--maxiter: must be a whole number >= 1, got '0'",
    "wood --method adan": "'adan'",
    "wood --method adam --lr -1e-3": "lr must be >= 0 and finite, got -0.001",
    "wood --method adam --lr -1": "lr must be >= 0 and finite, got -1",
    "wood --method l-bfgs --lr 1": "lr",
    "wood --plot p.png": "--plot must go with a problem in 2 variables, got wood in 4",
    "beale --plot p.pdf": "--plot must end in .png, got 'p.pdf'",
    "beale --plot none/p.png": "cannot write 'none/p.png': No such file or directory: choose another --plot",
}


@pytest.mark.parametrize("command, message", ERRORS.items(), ids=ERRORS)
def test_errors_are_one_line(capsys, tmp_path, command, message):
    assert cli.main(["minimize", *command.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("downslope: error: ") and message in err
    assert list(tmp_path.iterdir()) == []


def test_only_drawing_needs_the_demo(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "downslope.lab.plot_path", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert cli.main("minimize beale".split()) == 0
    capsys.readouterr()
    assert cli.main("minimize beale --plot p.png".split()) == 2
    message = "downslope: error: minimize --plot needs matplotlib and tqdm: pip install 'downslope[demo]'\n"
    assert capsys.readouterr().err == message


def test_the_view_follows_a_path_but_not_to_infinity():
    minimizers = np.array([[1.0, 2.0]])
    near = plot_path.view(np.array([[0.0, 0.0], [0.5, -1.0]]), minimizers)
    np.testing.assert_allclose(near, [[-0.15, -1.3], [1.15, 2.3]])
    far = plot_path.view(np.array([[0.0, 0.0], [1e9, -1e9], [np.nan, np.inf]]), minimizers)
    np.testing.assert_allclose(far, [[-0.15, -2.3], [2.15, 2.3]])
    level = plot_path.view(np.array([[0.0, 2.0]]), minimizers)
    np.testing.assert_allclose(level, [[-0.15, 1.85], [1.15, 2.15]])


@pytest.mark.parametrize("problem", [p for p in PROBLEMS.values() if len(p.x0) == 2], ids=lambda p: p.name)
def test_every_landscape_is_drawn(monkeypatch, tmp_path, problem):
    monkeypatch.setattr(plot_path, "GRID", 12)
    path = np.linspace(problem.x0, problem.minimizers[0], 5)
    plot_path.draw(problem, path, tmp_path / "p.png", title="$_$")
    assert (tmp_path / "p.png").stat().st_size > 10_000
