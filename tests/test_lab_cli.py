"""The command line: what it prints and draws, and the line and status with which it fails."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

import downslope as ds
from downslope.lab import cli, plot_race, race
from downslope.lab.datasets import load
from downslope.lab.models import autoencoder, cross_entropy, models_for
from downslope.lab.preconditioned import METHODS
from downslope.lab.table import format_table

METHOD_LABELS = {method.label for method in METHODS.values()}
TABLE = ["a,b,kind,size", *(f"{i % 5},{i * i % 7},{i % 3},{i / 3}" for i in range(60))]


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    (tmp_path / "table.csv").write_text("\n".join(TABLE))


def cells(out):
    """The printed tables' rows, split at white space, by rule."""
    rows = {}
    for line in out.splitlines():
        words = line.split()
        if len(words) == 8 and words[5] in ("yes", "no", "-"):
            rows.setdefault(words[0], []).append(words)
    return rows


def test_race_on_the_digits(capsys, tmp_path):
    assert cli.main("race digits --epochs 1".split()) == 0
    out, err = capsys.readouterr()
    rows = cells(out)
    assert list(rows) == list(race.ENTRANTS.values())
    for name, (*classifiers, last) in rows.items():
        assert len(classifiers) == 2
        for row in (*classifiers, last):
            assert row[5] == ("-" if name in METHOD_LABELS else "yes"), row
            assert float(row[1]) > 0
        assert all(0 < float(row[2].rstrip("%")) <= 100 for row in classifiers)
        assert float(last[2]) < 1
    assert [row[6] for row in rows["Adam"]] == ["1"] * 3  # its own best loss
    assert max(map(len, out.splitlines())) <= 60
    assert err == ""  # the progress bar is for terminals alone
    assert (tmp_path / "race-digits.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "target, verdict, score",
    [
        ("kind", "'kind' holds whole numbers, 3 distinct: taken for classes", "acc"),
        ("size", "'size' holds numbers, 60 distinct: taken for numbers to regress on", "R^2"),
    ],
)
def test_race_on_a_table(capsys, tmp_path, target, verdict, score):
    options = "--rules Adam,nag,adam --epochs 2 --batch-size 100 --seed 3 --out p.png"
    assert cli.main(f"race table.csv --target {target} {options}".split()) == 0
    out, _ = capsys.readouterr()
    assert {rule: len(rows) for rule, rows in cells(out).items()} == {"Adam": 2, "NAG": 2}
    assert verdict in " ".join(out.split()) and score in out
    assert (tmp_path / "p.png").exists() and not (tmp_path / "race-table.png").exists()


def test_race_on_arrays(capsys, tmp_path):
    np.savez("my.$_$.npz", X=np.arange(40.0).reshape(20, 2), y=np.arange(20) / 2)
    assert cli.main("race my.$_$.npz --rules sgd --epochs 1".split()) == 0
    assert (tmp_path / "race-my.$_$.png").exists()


@pytest.mark.parametrize("seed", [0, 1])
def test_adam_reads_digits(seed):
    train, test = load("digits").split(seed)
    lap = race.run("adam", models_for(64, 10)[1], train, test, epochs=12, batch_size=32, seed=seed)
    assert lap.score >= 0.95 and lap.identical
    assert lap.losses[-1] < 0.1 * lap.losses[0]
    assert 0 < lap.fused_us and 0 < lap.numpy_us


def test_nag_looks_ahead():
    train, test = load("digits").split(0)
    model = models_for(64, 10)[0]
    lap = race.run("nag", model, train, test, epochs=2, batch_size=32, seed=0)
    params, lr = model.init(0), race.HYPER["nag"]["lr"]
    velocity = {name: np.zeros_like(array) for name, array in params.items()}
    batches = ds.minibatches(*train, batch_size=32, seed=0)
    for inputs, targets in (*batches, *batches):
        ahead = {name: array + 0.9 * velocity[name] for name, array in params.items()}
        _, grads = model.loss_and_grads(ahead, inputs, targets)
        velocity = {name: 0.9 * velocity[name] - lr * grads[name] for name in params}
        params = {name: array + velocity[name] for name, array in params.items()}
    assert model.loss_and_grads(params, *train)[0] == pytest.approx(lap.losses[-1], rel=1e-4)


def test_a_different_bit_is_seen(monkeypatch):
    class Off(ds.Adam):
        def step(self, grads):
            super().step(grads)
            self.params["b1"][0] = np.nextafter(self.params["b1"][0], np.float32(1))

    train, test = load("digits").split(0)
    arguments = "adam", models_for(64, 10)[0], train, test
    assert race.run(*arguments, epochs=1, batch_size=500, seed=0).identical
    monkeypatch.setattr(ds, "OPTIMIZERS", {"adam": Off})
    assert not race.run(*arguments, epochs=1, batch_size=500, seed=0).identical


def test_any_nan_is_as_good_as_any_other():
    nan = np.array([0x7FC00000, 0xFFC00001], np.uint32).view(np.float32)
    assert race.same_bits(nan, nan[::-1])
    assert not race.same_bits(nan, np.array([0, np.nan], np.float32))
    assert not race.same_bits(np.array([0.0]), np.array([-0.0]))


def test_a_rule_that_diverges_is_shown_and_drawn(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(race.SQUARED_ERROR_HYPER, "sgd", {"lr": 1e9})
    assert cli.main("race table.csv --target size --rules sgd,adam --epochs 20".split()) == 0
    out, _ = capsys.readouterr()
    assert {tuple(row[1:3]) for row in cells(out)["SGD"]} == {("nan", "nan")}
    assert {row[5] for row in cells(out)["SGD"]} == {"yes"}
    assert (tmp_path / "race-table.png").exists()


def test_labels_keep_apart_in_the_order_of_the_losses():
    model = models_for(3, None)[0]
    rng = np.random.default_rng(0)
    ends = np.array([*rng.random(8), 1e6, np.nan, np.inf, 1e-9])
    laps = [
        race.Lap(rule, np.array([1, 1, end]), np.arange(3), 0, 1, 1, True)
        for rule, end in zip(ds.OPTIMIZERS, ends, strict=True)
    ]
    axes = Figure().subplots()
    plot_race._draw_panel(axes, model, laps)
    heights = np.array([text.get_position()[1] for text in axes.texts])
    assert heights.shape == ends.shape and heights.min() >= 0 and heights.max() <= 1
    assert np.diff(np.sort(heights)).min() > 0.99 * plot_race.LABEL_GAP
    np.testing.assert_array_equal(np.argsort(heights[:8]), np.argsort(ends[:8]))
    assert axes.get_ylim()[1] < 10  # the curve that went off to a million did not set the scale


def test_scores():
    logits = np.array([[2, 1], [1, 2], [np.nan, 0], [0, 1]])
    assert race.accuracy(logits, np.array([0, 0, 0, 1])) == 0.5
    assert race.r_squared(np.array([[1.0, 0.0], [2.0, 2.0]]), np.array([[1.0, 0.0], [2.0, 4.0]])) == pytest.approx(
        1 - 4 / 8.5
    )
    targets = np.array([1.0, 2.0, 3.0])
    assert race.r_squared(targets[:, None], targets) == 1
    assert race.r_squared(np.full((3, 1), 2.0), targets) == 0
    assert np.isnan(race.r_squared(targets[:, None], np.ones(3)))


def test_default_epochs_make_about_as_many_steps_of_any_table():
    assert race.default_epochs(1438, 32) == 20
    assert race.default_epochs(10, 32) == race.STEPS
    assert race.default_epochs(10**6, 32) == 2


def test_reaching_a_loss():
    lap = race.Lap("adam", np.array([4.0, 2.0, np.nan, 1.0]), np.array([0.0, 0.5, 1.0, 1.5]), 0, 1, 1, True)
    assert lap.reaches(2.0) == (1, 0.5) and lap.reaches(1.5) == (3, 1.5)
    assert np.isnan(lap.reaches(0.5)).all()


@pytest.mark.parametrize("method", METHODS)
def test_preconditioners_train_every_model(method):
    train, test = load("digits").split(0)
    for model in (*models_for(64, 10), autoencoder(64)):
        lap = race.run(method, model, train, test, epochs=2, batch_size=128, seed=0)
        assert lap.losses[2] < lap.losses[1] < lap.losses[0] and lap.identical is None
        assert lap.losses.shape == lap.seconds.shape == (3,) and (np.diff(lap.seconds) > 0).all()


def test_second_order_needs_half_of_adams_epochs():
    """On the autoencoder, by training loss; Adam has the rate that is best for it."""
    train, test = load("digits").split(0)
    settings = {"batch_size": 128, "seed": 0}
    with ds.num_threads(1):
        adam = race.run("adam", autoencoder(64), train, test, epochs=24, **settings)
        for method in ("kfac", "kfac-quadratic", "ekfac"):
            lap = race.run(method, autoencoder(64), train, test, epochs=12, **settings)
            assert lap.losses.min() <= adam.losses.min(), method


def test_a_method_that_diverges_is_shown(monkeypatch):
    train, test = load("digits").split(0)
    for method in METHODS:
        monkeypatch.setitem(METHODS, method, replace(METHODS[method], lr=1e30))
        lap = race.run(method, models_for(64, 10)[1], train, test, epochs=2, batch_size=500, seed=0)
        assert not lap.losses[-1] < 1e20


def test_tuned_rules_exist():
    assert race.HYPER.keys() <= ds.OPTIMIZERS.keys()
    assert race.SQUARED_ERROR_HYPER.keys() | race.RECONSTRUCTION_HYPER.keys() <= race.HYPER.keys()
    assert models_for(3, 2)[0].loss is cross_entropy


def test_table_is_aligned():
    assert format_table(["\nname", "long\nhead"], [["a", "1.5"], ["bcdef", "10"]]).splitlines() == [
        "       long",
        "name   head",
        "-----  ----",
        "a       1.5",
        "bcdef    10",
    ]


def test_info(capsys):
    assert cli.main(["info"]) == 0
    out, _ = capsys.readouterr()
    assert max(map(len, out.splitlines())) <= 60
    said = " ".join(out.split())
    for fact in (ds.__version__, ds.isa(), str(ds.get_num_threads())):
        assert fact in said
    for cls in ds.OPTIMIZERS.values():
        assert f"{cls.__name__} {' '.join(cls.source.split())}" in said


def test_a_terminal_of_one_column(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1")
    assert cli.main(["info"]) == 0
    assert "".join(ds.Lion.source.split()) in "".join(capsys.readouterr().out.split())


def test_version_and_help(capsys):
    for option, said in (["--version"], ds.__version__), (["race", "--help"], "--batch-size"):
        with pytest.raises(SystemExit) as leaving:
            cli.main(option)
        assert leaving.value.code == 0
        assert said in capsys.readouterr().out


ERRORS = {
    "": "arguments are required: COMMAND (see downslope --help)",
    "fly": "invalid choice: 'fly'",
    "race": "arguments are required",
    "race none.csv --target y": "cannot read 'none.csv': No such file or directory",
    "race table.csv --target weight": "no column 'weight': --target must be one of 'a', 'b', 'kind', 'size'",
    "race digits --rules adam,adamm": "unknown rule 'adamm': choose from sgd,nag,",
    "race digits --rules=": "unknown rule ''",
    "race digits --epochs 0": "--epochs: must be a whole number >= 1, got '0'",
    "race digits --epochs 1.5": "--epochs: must be a whole number >= 1, got '1.5'",
    "race digits --batch-size -3": "--batch-size: must be a whole number >= 1, got '-3'",
    "race digits --seed -1": "--seed: must be a whole number >= 0, got '-1'",
    "race digits --out none/p.png": "cannot write 'none/p.png': No such file or directory: choose another --out",
    "race digits --out folder.png": "cannot write 'folder.png': Is a directory",
    "race digits --out p.pdf": "--out must end in .png, got 'p.pdf'",
}


@pytest.mark.parametrize("command, message", ERRORS.items(), ids=ERRORS)
def test_errors_are_one_line_before_any_training(capsys, monkeypatch, tmp_path, command, message):
    monkeypatch.setattr(race, "run", None)
    (tmp_path / "folder.png").mkdir()
    assert cli.main(command.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("downslope: error: ")
    assert message in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.png", "table.csv"]


def test_interrupted_race_leaves_no_picture_or_the_old_one(capsys, monkeypatch, tmp_path):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(race, "run", interrupt)
    (tmp_path / "old.png").write_text("old")
    assert cli.main(["race", "digits"]) == 130
    assert cli.main("race digits --out old.png".split()) == 130
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "race-digits.png").exists() and (tmp_path / "old.png").read_text() == "old"


@pytest.mark.parametrize("command", ["race", "states"])
@pytest.mark.parametrize("absent", [["tqdm"], ["matplotlib", "matplotlib.figure"]], ids=lambda names: names[0])
def test_what_the_demo_needs(capsys, monkeypatch, absent, command):
    for plot in ("plot_race", "plot_states"):
        monkeypatch.delitem(sys.modules, f"downslope.lab.{plot}", raising=False)
    for name in absent:
        monkeypatch.setitem(sys.modules, name, None)
    assert cli.main([command, "digits"]) == 2
    message = f"downslope: error: {command} needs matplotlib and tqdm: pip install 'downslope[demo]'\n"
    assert capsys.readouterr().err == message


def test_without_the_demo_extra_the_rest_works():
    code = (
        "import sys; from downslope.lab import cli; assert cli.main(['info']) == 0;"
        "assert not {'matplotlib', 'tqdm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
