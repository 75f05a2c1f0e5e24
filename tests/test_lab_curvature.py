"""The command `curvature`: it measures what it says, its structures are those of its problem, its page's code runs."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import downslope as ds
from downslope.lab import cli, plot_curvature, surface
from downslope.lab.surface import RIDGE, STRUCTURES, Surface

PAGE = Path(__file__).parent.parent / "docs" / "curvature.md"


@pytest.fixture
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture
def small(monkeypatch):
    """The problem with fewer coefficients."""
    monkeypatch.setattr(surface, "BUMPS", (9, 7))
    monkeypatch.setattr(surface, "RANK", 5)
    return Surface()


def test_the_gradient_is_that_of_the_value(small, rng):
    w = rng.standard_normal(small.size)
    numbers = ds.check_grad(lambda w: small.loss_and_grad(w)[0], lambda w: small.loss_and_grad(w)[1], w)
    assert numbers < 1e-6


def test_the_full_curvature_is_that_of_gauss_and_newton(small, rng):
    weights = small.weights(rng.standard_normal(small.size))
    J = np.kron(small.X, small.Y)
    expected = J.T @ (weights.reshape(-1, 1) * J)
    (H,) = small.full(weights)
    np.testing.assert_allclose(H, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(*small.diagonal(weights), np.diag(H))
    (blocks,) = small.blocks(weights)
    for i, block in enumerate(blocks):
        rows = slice(7 * i, 7 * i + 7)
        np.testing.assert_allclose(block, H[rows, rows], atol=1e-15)
    assert (weights[small.seen == 0] == 0).all() and 0 < (small.seen == 0).mean() < 0.5


def test_factors_are_the_curvature_where_weights_are_a_product(small, rng):
    weights = np.outer(rng.random(len(small.X)), rng.random(len(small.Y)))
    A, B = small.factors(weights)
    np.testing.assert_allclose(np.kron(A, B), *small.full(weights), atol=1e-12)


def test_low_rank_is_the_curvature_where_its_rank_is_full(small, monkeypatch):
    weights = small.weights(np.zeros(small.size))
    (H,) = small.full(weights)
    U, rest = small.low_rank(weights)
    assert U.shape == (small.size, 5)
    np.testing.assert_allclose(np.diag(U @ U.T) + rest, np.diag(H))
    monkeypatch.setattr(surface, "RANK", small.size)
    U, _ = small.low_rank(weights)
    np.testing.assert_allclose(U @ U.T, H, atol=1e-6 * np.abs(H).max())


@pytest.mark.parametrize("momentum", [False, True])
def test_a_descent_is_what_it_says(small, momentum):
    structure = STRUCTURES["full"]
    descent = surface.descend(small, structure, momentum=momentum, iterations=3)
    w, velocity, losses = np.zeros(small.size), 0, []
    for _ in range(4):
        loss, grad = small.loss_and_grad(w)
        losses.append(loss)
        (H,) = small.full(small.weights(w))
        velocity = momentum * structure.momentum * velocity + np.linalg.solve(H + RIDGE * np.eye(len(H)), grad)
        w = w - velocity
    np.testing.assert_allclose(descent.losses, losses, rtol=1e-9)
    assert descent.nbytes == 8 * small.size**2
    assert len(descent.seconds) == 4 and (np.diff(descent.seconds) > 0).all()
    until = surface.descend(small, structure, momentum=momentum, iterations=99, until=losses[2])
    assert len(until.losses) == 3


def test_where_a_descent_arrives():
    descent = surface.Descent(np.array([3.0, 1.0, 2.0, 0.5]), np.array([0.0, 0.5, 0.6, 0.8]), 8)
    assert [descent.iterations_to(loss) for loss in (3, 2, 0.7, 0.1)] == [0, 1, 3, None]
    assert descent.ms == pytest.approx(200)


def test_the_more_of_the_curvature_the_fewer_iterations():
    problem = Surface()
    least = surface.least_loss(problem)
    result = ds.minimize(problem.loss_and_grad, np.zeros(problem.size), jac=True, options={"gtol": 1e-8})
    assert least <= result.fun <= least + 1e-9
    first = problem.loss_and_grad(np.zeros(problem.size))[0]
    reached = least + 1e-6 * (first - least)
    iterations = {
        (name, momentum): surface.descend(
            problem, STRUCTURES[name], momentum=momentum, iterations=200, until=reached
        ).iterations_to(reached)
        for name in ("Kronecker", "block-diagonal", "diagonal")
        for momentum in (False, True)
    }
    assert iterations["Kronecker", False] < 25 < 4 * 25 < iterations["block-diagonal", False]
    assert iterations["block-diagonal", True] < 0.6 * iterations["block-diagonal", False]
    assert iterations["diagonal", False] is None


def test_the_command(capsys, in_tmp_path, small):
    assert cli.main("curvature --iterations 3".split()) == 0
    out, err = capsys.readouterr()
    rows = [line.split() for line in out.splitlines() if line.split()[:1] and line.split()[0] in STRUCTURES]
    assert [row[0] for row in rows] == list(STRUCTURES)
    for name, kept, ms, *_ in rows:
        parts = STRUCTURES[name].parts(small, small.weights(np.zeros(small.size)))
        assert int(kept) == round(sum(part.nbytes for part in parts) / 1e3)
        assert float(ms) >= 0
    assert max(map(len, out.splitlines())) <= 80
    assert err == ""
    assert (in_tmp_path / "curvature.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "command, message",
    {
        "curvature --iterations 0": "--iterations: must be a whole number >= 1, got '0'",
        "curvature --out none/p.png": "cannot write 'none/p.png'",
        "curvature --out p.pdf": "--out must end in .png, got 'p.pdf'",
    }.items(),
)
def test_errors_are_one_line_before_any_work(capsys, monkeypatch, in_tmp_path, command, message):
    monkeypatch.setattr(surface, "descend", None)
    assert cli.main(command.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("downslope: error: ") and message in err
    assert not list(in_tmp_path.iterdir())


def test_what_diverges_does_not_set_the_scale(monkeypatch, in_tmp_path):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: figures.append(figure))
    seconds = np.arange(1.0, 4.0)
    pair = [surface.Descent(np.array(losses), seconds, 8) for losses in ([3.0, 2.0, 1.5], [3.0, 1e9, np.inf])]
    plot_curvature.draw(dict.fromkeys(STRUCTURES, pair), 1.0, "p.png", "title")
    (figure,) = figures
    by_iterations, by_time = figure.axes
    assert by_iterations.get_ylim()[1] < 10
    np.testing.assert_array_equal(by_iterations.lines[0].get_xydata(), [[1, 1], [2, 0.5]])
    np.testing.assert_array_equal(by_time.lines[0].get_xydata(), [[2, 1], [3, 0.5]])


def test_the_code_on_the_page_runs():
    names = {}
    problem = Surface()
    least = surface.least_loss(problem)
    codes = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(codes) == 2
    for code in codes:
        exec(code, names)
        assert names["loss"] - least < 1e-7 * (problem.loss_and_grad(np.zeros(problem.size))[0] - least)


def test_the_page_says_what_the_problem_is():
    text = PAGE.read_text()
    problem = Surface()
    for fact in ("{} x {} overlapping".format(*surface.BUMPS), f"{np.count_nonzero(problem.seen):,} noisy points"):
        assert fact in text
    assert f"{problem.size:,} coefficients" in text and f"{surface.RANK} directions" in text
    H = np.linalg.eigvalsh(problem.full(problem.weights(np.zeros(problem.size)))[0] + RIDGE * np.eye(problem.size))
    assert 1e3 < H[-1] / H[0] < 1e4
