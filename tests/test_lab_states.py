"""The command `states`: it measures what it says, low-precision state trains as well, and the picture is drawn."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import downslope as ds
from downslope.lab import cli, plot_states, states
from downslope.lab.datasets import load
from downslope.lab.models import models_for

BYTES = {"float32": 8, "bfloat16": 4, "uint8": 2 + 2 * 4 / 256}


@pytest.fixture
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    return tmp_path


def test_states_of_the_digits(capsys, in_tmp_path):
    assert cli.main("states digits --epochs 2 --seeds 2 --long-steps 30".split()) == 0
    out, err = capsys.readouterr()
    rows = [line.split() for line in out.splitlines() if line.split()[:1] and line.split()[0] in states.STATES]
    assert [row[0] for row in rows] == [*states.STATES] * 3
    for row in rows:
        assert float(row[1]) == pytest.approx(BYTES[row[0]], abs=0.03)
        assert float(row[2]) > 0
    assert max(map(len, out.splitlines())) <= 60
    assert err == ""
    assert (in_tmp_path / "states-digits.png").read_bytes().startswith(b"\x89PNG")


def test_states_of_a_table_of_numbers(capsys, in_tmp_path):
    lines = ["a,b,size", *(f"{i % 5},{i * i % 7},{i / 3}" for i in range(60))]
    (in_tmp_path / "table.csv").write_text("\n".join(lines))
    assert cli.main("states table.csv --target size --epochs 2 --seeds 2 --long-steps 9 --out p.png".split()) == 0
    assert "R^2" in capsys.readouterr().out and (in_tmp_path / "p.png").exists()


@pytest.mark.parametrize("state", ["bfloat16", "uint8"])
def test_low_precision_reads_digits_as_well(state):
    train, test = load("digits").split(0)
    settings = {"epochs": 8, "batch_size": 32, "seed": 0}
    model = models_for(64, 10)[1]
    ours, base = (states.train(kind, model, train, test, **settings) for kind in (state, "float32"))
    assert ours.final == pytest.approx(base.final, rel=0.1) and ours.final < 0.05 * ours.losses[0]
    assert ours.score >= base.score - 0.015 and base.score > 0.95
    assert ours.losses[0] == base.losses[0] and ours.final != base.final


def test_the_long_test_shrinks_its_gradients():
    """The second moment has to follow them down: here by the 0.999 that it forgets in each of 2,000 steps."""
    taken = []
    curves = states.shrink(steps=2000, size=1024, on_steps=taken.append)
    assert list(curves) == [*states.STATES] and sum(taken) == 3 * 2000
    for state, curve in curves.items():
        assert len(curve.losses) == states.POINTS + 1
        assert curve.bytes_a_parameter == BYTES[state]
        assert curve.final < 0.05 * curve.losses[0]
    assert curves["bfloat16"].final == pytest.approx(curves["float32"].final, rel=0.03)
    assert curves["uint8"].final == pytest.approx(curves["float32"].final, rel=0.3)


def test_state_rounded_to_nearest_would_show(monkeypatch):
    """The long test can fail: with a second moment that never decays, as bfloat16's would not, the loss is far off."""

    class Stuck(ds.Adam):
        def step(self, grads):
            before = self.state["exp_avg_sq"].copy()
            super().step(grads)
            if self.state_dtype == "bfloat16":  # bits of non-negative numbers, which are in the numbers' order
                np.maximum(before, self.state["exp_avg_sq"], out=self.state["exp_avg_sq"])

    monkeypatch.setattr(ds, "Adam", Stuck)
    curves = states.shrink(steps=2000, size=1024)
    assert curves["bfloat16"].final > 1.1 * curves["float32"].final


def test_bytes_are_those_of_the_arrays():
    params = {"W": np.zeros((30, 10), np.float32), "b": np.zeros(10, np.float32)}
    assert states.bytes_a_parameter(ds.Adam(params)) == 8
    assert states.bytes_a_parameter(ds.Adam(params, state_dtype="uint8")) == 2 + 2 * 4 * 3 / 310
    assert states.bytes_a_parameter(ds.SGD(params, momentum=0.9, state_dtype="bfloat16")) == 2


def test_looks_are_at_both_ends():
    assert states.looks(1).tolist() == [0, 1]
    assert states.looks(10_000)[[0, 1, -1]].tolist() == [0, 100, 10_000]


def test_change_is_seed_by_seed():
    a, b = ([states.Curve(np.array([1.0, end]), 0, 8) for end in ends] for ends in ([2.0, 3.0], [1.0, 4.0]))
    assert states.relative(a, b) == (2 + 0.75) / 2


def test_the_noise_is_drawn_as_a_band():
    rng = np.random.default_rng(0)
    curves = {state: [states.Curve(rng.random(5) + 1, 0, 8) for _ in range(3)] for state in states.STATES}
    losses, ratios = Figure().subplots(2)
    panel = {"title": "t", "xlabel": "epoch", "x": np.arange(5), "curves": curves}
    plot_states._draw_panel(losses, ratios, panel)
    of_float32 = np.array([curve.losses for curve in curves["float32"]])
    (band,) = ratios.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.max() == pytest.approx((of_float32.max(axis=0) / of_float32.mean(axis=0)).max() - 1)
    mean = np.mean([curve.losses for curve in curves["uint8"]], axis=0)
    assert any(np.allclose(line.get_ydata(), mean / of_float32.mean(axis=0) - 1) for line in ratios.lines)


@pytest.mark.parametrize(
    "command, message",
    {
        "states": "arguments are required",
        "states digits --seeds 1": "--seeds: must be a whole number >= 2, got '1'",
        "states digits --long-steps 0": "--long-steps: must be a whole number >= 1, got '0'",
        "states none.csv --target y": "cannot read 'none.csv'",
        "states none": "cannot train on 'none': give digits, a .csv file or an .npz file",
        "states digits --out none/p.png": "cannot write 'none/p.png'",
    }.items(),
)
def test_errors_are_one_line_before_any_training(capsys, monkeypatch, in_tmp_path, command, message):
    monkeypatch.setattr(states, "train", None)
    assert cli.main(command.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("downslope: error: ") and message in err
    assert not list(in_tmp_path.iterdir())
