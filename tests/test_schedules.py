"""Learning-rate schedules: closed forms, PyTorch's rates as recorded, both ends, copies, and errors."""

import copy
import inspect
import json
import math
import pathlib
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import downslope as ds
from downslope.schedules import (
    Cosine,
    Exponential,
    Joined,
    Linear,
    OneCycle,
    PiecewiseConstant,
    ReduceOnPlateau,
    StepDecay,
)

with np.load(pathlib.Path(__file__).parent / "golden" / "torch_schedules.npz") as _file:
    TORCH = dict(_file)
TORCH_CASES, TORCH_PLATEAUS = json.loads(str(TORCH["cases"])), json.loads(str(TORCH["plateaus"]))
TORCH_LR = 0.3
HUGE = 10**400  # no float is as large

# One of each, but for the plateau; the rates do not repeat by accident.
EACH = [
    StepDecay(0.5, step_size=10, gamma=0.25),
    Exponential(0.5, gamma=0.75),
    Linear(0.5, steps=100, final=0.125),
    Cosine(0.5, steps=100, final=0.125),
    OneCycle(0.5, steps=100),
    PiecewiseConstant([0.5, 0.25, 0.125], [30, 80]),
    Joined([Linear(0.0, steps=10, final=0.5), Cosine(0.5, steps=50), Exponential(0.25, gamma=0.5)], [10, 60]),
]


def class_name(schedule):
    return type(schedule).__name__


def rates(schedule, steps):
    return [schedule(step) for step in range(1, steps + 1)]


def as_schedule(scheduler, options, lr=TORCH_LR):
    """The schedule for a scheduler of PyTorch, and its options, on an optimizer of rate `lr`."""
    o = dict(options)
    if scheduler == "StepLR":
        return StepDecay(lr, **o)
    if scheduler == "ExponentialLR":
        return Exponential(lr, **o)
    if scheduler == "MultiStepLR":
        gamma = o.get("gamma", 0.1)
        return PiecewiseConstant([lr * gamma**i for i in range(len(o["milestones"]) + 1)], o["milestones"])
    if scheduler == "LinearLR":
        return Linear(lr * o["start_factor"], steps=o["total_iters"], final=lr * o["end_factor"])
    if scheduler == "CosineAnnealingLR":
        return Cosine(lr, steps=o["T_max"], **({"final": o["eta_min"]} if "eta_min" in o else {}))
    if scheduler == "OneCycleLR":
        return OneCycle(steps=o.pop("total_steps"), **o)
    assert scheduler == "SequentialLR"
    return Joined([as_schedule(**part) for part in o["schedulers"]], o["milestones"])


@pytest.mark.parametrize("case", TORCH_CASES, ids=[case["id"] for case in TORCH_CASES])
def test_equals_torch(case):
    """Step 1 is PyTorch's epoch 0. The tolerance is for PyTorch, which forms most rates from the ones before."""
    expected = TORCH[case["id"]]
    actual = rates(as_schedule(case["scheduler"], case["options"]), len(expected))
    assert_allclose(actual, expected, rtol=1e-12, atol=1e-15)


def test_torch_knows_all_schedules():
    known = {class_name(as_schedule(case["scheduler"], case["options"])) for case in TORCH_CASES}
    assert known | {"ReduceOnPlateau"} == set(ds.schedules.__all__)
    assert {class_name(schedule) for schedule in EACH} == known


# ---- closed forms, and both ends ----


def test_step_decay():
    schedule = StepDecay(2.0, step_size=3)
    assert rates(schedule, 7) == [2.0] * 3 + [2.0 * 0.1] * 3 + [2.0 * 0.1**2]
    assert rates(StepDecay(2.0, step_size=2, gamma=0.0), 4) == [2.0, 2.0, 0.0, 0.0]
    assert StepDecay(2.0, step_size=HUGE)(HUGE) == 2.0
    assert StepDecay(2.0, step_size=HUGE, gamma=0.5)(HUGE + 1) == 1.0


def test_exponential():
    assert rates(Exponential(2.0, gamma=0.5), 4) == [2.0, 1.0, 0.5, 0.25]
    slowest = math.nextafter(1.0, 0.0)
    assert_allclose(Exponential(2.0, slowest)(2**53 + 1), 2 / math.e)
    assert [Exponential(2.0, gamma)(HUGE) for gamma in (0.0, slowest, 1.0)] == [0.0, 0.0, 2.0]


def test_linear():
    assert rates(Linear(1.0, steps=4), 6) == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert rates(Linear(0.0, steps=2, final=1.0), 4) == [0.0, 0.5, 1.0, 1.0]
    assert rates(Linear(3.0, steps=1, final=7.0), 3) == [3.0, 7.0, 7.0]
    assert Linear(1.0, steps=2 * HUGE)(HUGE + 1) == 0.5


def test_cosine():
    third = [1.0, 0.75, 0.25, 0.0, 0.0]  # (1 + cos(pi t / 3)) / 2
    assert_allclose(rates(Cosine(1.0, steps=3), 5), third, rtol=1e-15)
    assert_allclose(rates(Cosine(5.0, steps=3, final=1.0), 5), 1 + 4 * np.array(third), rtol=1e-15)
    assert_allclose(rates(Cosine(0.0, steps=3, final=1.0), 5), 1 - np.array(third), rtol=1e-15)
    assert_allclose(Cosine(1.0, steps=2 * HUGE)(HUGE + 1), 0.5)
    # Near the end the exact rate is (pi / (2 steps))^2 to first order: 1 + cos would have lost most digits.
    assert_allclose(Cosine(1.0, steps=10**6)(10**6), (math.pi / 2e6) ** 2, rtol=1e-11)


def test_one_cycle():
    schedule = OneCycle(1.0, steps=11, pct_start=5 / 11, div_factor=4.0, final_div_factor=2.0)  # the peak is at t = 4
    up, down = (1 - np.cos(np.pi * np.arange(4) / 4)) / 2, (1 + np.cos(np.pi * np.arange(7) / 6)) / 2
    assert_allclose(rates(schedule, 11), [*(0.25 + 0.75 * up), *(0.125 + 0.875 * down)], rtol=1e-15)
    assert schedule(1) == 0.25 and schedule(5) == 1.0 and schedule(11) == schedule(12) == schedule(HUGE) == 0.125
    assert rates(OneCycle(1.0, steps=1, div_factor=4.0, final_div_factor=2.0), 3) == [0.125] * 3
    assert rates(OneCycle(1.0, steps=5, pct_start=0.2, div_factor=4.0, final_div_factor=2.0), 1) == [1.0]
    huge = OneCycle(1.0, steps=HUGE, pct_start=0.5)
    assert_allclose([huge(HUGE // 4), huge(HUGE // 2)], [0.52, 1.0])


def test_piecewise_constant():
    schedule = PiecewiseConstant([0.1, 0.3, 0.2], [2, HUGE])
    assert [schedule(step) for step in (1, 2, 3, HUGE, HUGE + 1, HUGE**2)] == [0.1, 0.1, 0.3, 0.3, 0.2, 0.2]
    assert PiecewiseConstant([0.1], [])(HUGE) == 0.1


def test_joined_schedules_count_from_one():
    called = []

    def recorded(name):
        return lambda step: called.append((name, step)) or 0.5

    schedule = Joined([recorded("a"), Joined([recorded("b"), recorded("c")], [2]), recorded("d")], [3, 7])
    rates(schedule, 9)
    a, b, c, d = ([(name, step) for step in (1, 2, 3)] for name in "abcd")
    assert called == [*a, *b[:2], *c[:2], *d[:2]]
    schedule(HUGE)
    assert called[-1] == ("d", HUGE - 7)


def test_joined_pieces_meet():
    """A Linear and a Cosine reach their last rate one step after their steps, where the next one begins."""
    schedule = Joined([Linear(0.0, steps=4, final=1.0), Cosine(1.0, steps=3)], [4])
    assert_allclose(rates(schedule, 8), [0, 0.25, 0.5, 0.75, 1, 0.75, 0.25, 0], rtol=1e-15)


rate = st.floats(0.0, 1e300)
steps = st.integers(1, 2**70)


@given(
    schedule=st.one_of(
        st.builds(StepDecay, rate, steps, st.floats(0, 1)),
        st.builds(Exponential, rate, st.floats(0, 1)),
        st.builds(Linear, rate, steps, rate),
        st.builds(Cosine, rate, steps, rate),
        st.builds(
            OneCycle, rate, steps, st.floats(0, 1, exclude_max=True), st.floats(1.0, 1e300), st.floats(1.0, 1e300)
        ),
    ),
    step=steps,
)
def test_rates_are_finite_floats_between_their_ends(schedule, step):
    """And to the last bit those of a step given as a NumPy integer."""
    value = schedule(step)
    highest = max(getattr(schedule, name, 0.0) for name in ("lr", "max_lr", "final"))
    assert type(value) is float and 0.0 <= value <= highest * (1 + 1e-15)
    if step < 2**63:
        assert schedule(np.int64(step)) == schedule(np.uint64(step)) == value


@given(st.one_of(st.builds(Linear, rate, steps, rate), st.builds(Cosine, rate, steps, rate)), steps)
def test_both_ends_are_exact(schedule, after):
    assert schedule(1) == schedule.lr
    assert schedule(schedule.steps + after) == schedule.final


# ---- plateau ----


def fed(plateau, metrics):
    """The rate after each metric."""
    after = []
    for metric in metrics:
        plateau.update(metric)
        after.append(plateau(1))
    return after


@pytest.mark.parametrize("number", range(len(TORCH_PLATEAUS)))
def test_plateau_equals_torch(number):
    """To the last bit, on metrics that are not negative."""
    options = TORCH_PLATEAUS[number]["options"]
    assert fed(ReduceOnPlateau(TORCH_LR, **options), TORCH["metrics"][number]) == TORCH["rates"][number].tolist()


def test_torch_plateaus_leave_no_option_out():
    metrics, torch_rates = TORCH["metrics"], TORCH["rates"]
    assert np.isnan(metrics).any() and np.isinf(metrics).any() and not (metrics < 0).any()
    reduced = [
        case["options"] for case, row in zip(TORCH_PLATEAUS, torch_rates, strict=True) if (np.diff(row) < 0).any()
    ]
    for name, parameter in inspect.signature(ReduceOnPlateau).parameters.items():
        if name != "lr":
            assert len({options[name] for options in reduced} - {parameter.default}) >= 1, name
    assert {options["mode"] for options in reduced} == {"min", "max"}


def test_plateau_defaults_are_torchs():
    defaults = {name: p.default for name, p in inspect.signature(ReduceOnPlateau).parameters.items() if name != "lr"}
    torchs = {"mode": "min", "factor": 0.1, "patience": 10, "threshold": 1e-4, "cooldown": 0, "min_lr": 0.0}
    assert defaults == torchs


@given(
    metrics=st.lists(st.floats() | st.sampled_from([-2.0, -1.0, -0.96, 0.0, 1.0]), max_size=30),
    patience=st.integers(0, 3),
    threshold=st.sampled_from([0.0, 1e-4, 0.1]),
)
def test_plateau_treats_higher_as_it_treats_lower(metrics, patience, threshold):
    low, high = (
        ReduceOnPlateau(1.0, mode=mode, factor=0.5, patience=patience, threshold=threshold) for mode in ("min", "max")
    )
    assert fed(low, metrics) == fed(high, [-metric for metric in metrics])


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("metric", [5.0, 0.0, -5.0, math.nan, math.inf, -math.inf])
def test_plateau_of_a_metric_that_stays(metric, mode):
    plateau = ReduceOnPlateau(1.0, mode=mode, factor=0.5, patience=1, min_lr=0.3)
    improved = metric < math.inf if mode == "min" else metric > -math.inf
    assert fed(plateau, [metric] * 6) == (
        [1.0, 1.0, 0.5, 0.5, 0.3, 0.3] if improved else [1.0, 0.5, 0.5, 0.3, 0.3, 0.3]
    )
    assert plateau.best == (metric if improved else {"min": math.inf, "max": -math.inf}[mode])


@pytest.mark.parametrize("best, barely, clearly", [(100.0, 91.0, 89.0), (-100.0, -109.0, -111.0), (0.0, 0.0, -1e-300)])
def test_plateau_threshold_is_relative_to_the_size_of_the_best(best, barely, clearly):
    plateau = ReduceOnPlateau(1.0, threshold=0.1)
    plateau.update(best)
    plateau.update(barely)
    assert plateau.best == best and plateau.num_bad_epochs == 1
    plateau.update(clearly)
    assert plateau.best == clearly and plateau.num_bad_epochs == 0


def test_plateau_cools_down():
    plateau = ReduceOnPlateau(1.0, factor=0.5, patience=1, cooldown=2)
    assert fed(plateau, [3.0] * 8) == [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert plateau.cooldown_counter == 1 and plateau.num_bad_epochs == 0


def test_plateau_of_very_small_rates():
    """No reduction is too small to be made."""
    assert fed(ReduceOnPlateau(1e-9, factor=0.5, patience=0), [1.0] * 3) == [1e-9, 5e-10, 2.5e-10]


def test_plateau_takes_the_numbers_of_numpy_and_python():
    plateau = ReduceOnPlateau(1.0)
    plateau.update(HUGE)
    assert plateau.num_bad_epochs == 1
    for metric, best in ((np.float32(3.0), 3.0), (2, 2.0), (np.float64(1.0), 1.0), (-HUGE, -math.inf)):
        plateau.update(metric)
        assert plateau.best == best and type(plateau.best) is float and plateau.num_bad_epochs == 0
    for metric in (None, "1", True, np.ones(1), 1j):
        before = repr(plateau)
        with pytest.raises(TypeError, match="metric must be a number, got"):
            plateau.update(metric)
        assert repr(plateau) == before


# ---- values ----


@pytest.mark.parametrize("schedule", EACH, ids=class_name)
def test_schedules_are_values(schedule):
    for twin in (pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule), copy.copy(schedule)):
        assert twin == schedule and hash(twin) == hash(schedule) and rates(twin, 120) == rates(schedule, 120)
    assert schedule != 0.5 and all(schedule != other for other in EACH if other is not schedule)
    assert eval(repr(schedule), vars(ds.schedules)) == schedule
    with pytest.raises(AttributeError):
        schedule.lr = 1.0


def test_settings_have_a_normal_form():
    schedule = PiecewiseConstant(np.array([1, 2], np.float32), [np.uint8(3)])
    assert repr(schedule) == "PiecewiseConstant(values=(1.0, 2.0), milestones=(3,))"
    assert repr(Cosine(np.float64(1), np.int8(3))) == "Cosine(lr=1.0, steps=3, final=0.0)"
    assert Cosine(1, 3) == Cosine(1.0, np.int64(3), final=0)


def test_a_plateau_is_itself_alone():
    """Equal ones would make `opt.lr` of groups with one each the one, which is all that would be told."""
    plateau = ReduceOnPlateau(0.5, patience=2)
    fed(plateau, [3.0, math.nan, 4.0])
    text = "ReduceOnPlateau(lr=0.5, mode='min', factor=0.1, patience=2, threshold=0.0001, cooldown=0, min_lr=0.0, "
    assert repr(plateau) == text + "best=3.0, num_bad_epochs=2, cooldown_counter=0)"
    for twin in (pickle.loads(pickle.dumps(plateau)), copy.deepcopy(plateau), copy.copy(plateau)):
        assert twin != plateau and repr(twin) == repr(plateau)
        assert fed(twin, [5.0]) == [0.05] and plateau.lr == 0.5
    opt = ds.SGD([{"params": np.ones(1), "lr": ReduceOnPlateau(0.5)} for _ in range(2)])
    with pytest.raises(ValueError, match="lr differs between the groups"):
        opt.lr


# ---- in an optimizer ----


def test_each_group_follows_its_own():
    opt = ds.SGD(
        [{"params": np.zeros(1), "lr": Linear(0.0, 2, final=1.0)}, {"params": np.zeros(1)}, {"params": np.zeros(1)}],
        lr=StepDecay(1.0, step_size=1, gamma=0.5),
    )
    opt.param_groups[2]["lr"] = 0.25
    for _ in range(3):
        opt.step([np.array([-1.0])] * 3)
    assert [p.item() for p in opt.params] == [0.0 + 0.5 + 1.0, 1.0 + 0.5 + 0.25, 0.75]


@pytest.mark.parametrize("schedule", EACH, ids=class_name)
def test_a_resumed_run_goes_on_at_the_same_rates(schedule):
    """As a pickle, as a deep copy, and from a state_dict, which leaves the schedule to the new optimizer."""
    opt = ds.Adam([np.ones(3), np.ones(2)], lr=schedule)
    grads = [np.array([1.0, -2.0, 3.0]), np.array([0.5, 0.1])]
    for _ in range(35):
        opt.step(grads)
    loaded = ds.Adam(copy.deepcopy(opt.params), lr=schedule)
    loaded.load_state_dict(opt.state_dict())
    twins = [pickle.loads(pickle.dumps(opt)), copy.deepcopy(opt), loaded]
    for _ in range(70):
        opt.step(grads)
        for twin in twins:
            twin.step(grads)
    for twin in twins:
        assert twin.lr == schedule and twin.step_count == 105
        np.testing.assert_equal(twin.params, opt.params)


def test_a_resumed_plateau_goes_on():
    opt = ds.SGD([{"params": np.ones(1)}, {"params": np.ones(1)}], lr=ReduceOnPlateau(0.5, factor=0.5, patience=1))
    fed(opt.lr, [1.0, 2.0])
    for twin in (pickle.loads(pickle.dumps(opt)), copy.deepcopy(opt)):
        assert fed(twin.lr, [2.0]) == [0.25]  # one for both groups still
        twin.step([np.ones(1)] * 2)
        assert [p.item() for p in twin.params] == [0.75, 0.75]
    assert opt.lr(1) == 0.5


def test_a_plateau_may_follow_a_warm_up():
    plateau = ReduceOnPlateau(1.0, factor=0.5, patience=0)
    schedule = Joined([Linear(0.0, steps=2, final=1.0), plateau], [2])
    fed(plateau, [1.0, 1.0])
    assert rates(schedule, 4) == [0.0, 0.5, 0.5, 0.5]


# ---- errors, and documentation ----


@pytest.mark.parametrize("schedule", [*EACH, ReduceOnPlateau(0.5)], ids=class_name)
@pytest.mark.parametrize(
    "step, error, message",
    [
        (0, ValueError, "step must be >= 1, got 0"),
        (np.int64(-3), ValueError, "step must be >= 1, got -3"),
        (1.0, TypeError, "step must be an integer, got 1.0"),
        (True, TypeError, "step must be an integer, got True"),
        (None, TypeError, "step must be an integer, got None"),
        ("1", TypeError, "step must be an integer, got '1'"),
    ],
)
def test_bad_steps(schedule, step, error, message):
    with pytest.raises(error, match=message):
        schedule(step)


GOOD = {
    "StepDecay": {"lr": 0.1, "step_size": 3, "gamma": 0.5},
    "Exponential": {"lr": 0.1, "gamma": 0.5},
    "Linear": {"lr": 0.1, "steps": 3, "final": 0.0},
    "Cosine": {"lr": 0.1, "steps": 3, "final": 0.0},
    "OneCycle": {"max_lr": 0.1, "steps": 3, "pct_start": 0.5, "div_factor": 2.0, "final_div_factor": 2.0},
    "PiecewiseConstant": {"values": [0.1, 0.2], "milestones": [3]},
    "Joined": {"schedules": [abs, abs], "milestones": [3]},
    "ReduceOnPlateau": {
        "lr": 0.1,
        "mode": "max",
        "factor": 0.5,
        "patience": 3,
        "threshold": 0.1,
        "cooldown": 2,
        "min_lr": 0.01,
    },
}
RATES = {name: ((-0.1, np.inf, np.nan, HUGE), ">= 0 and finite") for name in ("lr", "max_lr", "final")}
BOUNDS = {
    **RATES,
    "step_size": ((0, -3), ">= 1"),
    "steps": ((0, -3), ">= 1"),
    "patience": ((-1,), ">= 0"),
    "cooldown": ((-1,), ">= 0"),
    "gamma": ((-0.1, 1.1, np.nan), ">= 0 and <= 1"),
    "pct_start": ((-0.1, 1.0, np.nan), ">= 0 and < 1"),
    "factor": ((-0.1, 1.0, np.nan), ">= 0 and < 1"),
    "threshold": ((-0.1, 1.0, np.nan), ">= 0 and < 1"),
    "div_factor": ((0.5, np.inf), ">= 1 and finite"),
    "final_div_factor": ((0.5, np.inf), ">= 1 and finite"),
    "min_lr": ((-0.1, 0.2, np.nan), ">= 0 and <= 0.1"),
}
NUMBERS = [(cls, name) for cls, good in GOOD.items() for name in good if name in BOUNDS]


@pytest.mark.parametrize("cls, name", NUMBERS)
def test_settings_out_of_range(cls, name):
    values, bound = BOUNDS[name]
    for value in values:
        shown = "inf" if value == HUGE else repr(value)
        with pytest.raises(ValueError) as caught:
            getattr(ds.schedules, cls)(**{**GOOD[cls], name: value})
        assert str(caught.value) == f"{name} must be {bound}, got {shown}"


@pytest.mark.parametrize("cls, name", NUMBERS)
def test_settings_of_other_types(cls, name):
    count = name in ("step_size", "steps", "patience", "cooldown")
    for value in ("1", True, None, np.ones(2), 2.0 if count else 1j):
        with pytest.raises(TypeError, match=f"^{name} must be {'an integer' if count else 'a number'}, got "):
            getattr(ds.schedules, cls)(**{**GOOD[cls], name: value})


@pytest.mark.parametrize("cls, pieces", [("PiecewiseConstant", "values"), ("Joined", "schedules")])
@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"milestones": [3, 4]}, ValueError, "milestones must be one fewer than {0}, 1, got 2"),
        ({"milestones": []}, ValueError, "milestones must be one fewer than {0}, 1, got 0"),
        ({"milestones": [0]}, ValueError, r"milestones\[0\] must be >= 1, got 0"),
        ({"milestones": [3.0]}, TypeError, r"milestones\[0\] must be an integer, got 3.0"),
        ({"milestones": 3}, TypeError, "milestones must be a sequence, got 3"),
        ({"milestones": np.array(3)}, TypeError, r"milestones must be a sequence, got array\(3\)"),
        ({"{0}": None}, TypeError, "{0} must be a sequence, got None"),
        ({"{0}": np.array(0.1)}, TypeError, r"{0} must be a sequence, got array\(0.1\)"),
        ({"{0}": []}, ValueError, "{0} must have at least one element, got none"),
    ],
)
def test_bad_milestones_and_pieces(cls, pieces, changes, error, message):
    changes = {name.format(pieces): value for name, value in changes.items()}
    with pytest.raises(error, match=message.format(pieces)):
        getattr(ds.schedules, cls)(**{**GOOD[cls], **changes})


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: PiecewiseConstant([1, 2, 3], [5, 5]), ValueError, r"milestones\[1\] must be >= 6, got 5"),
        (lambda: PiecewiseConstant([0.1, -0.2], [3]), ValueError, r"values\[1\] must be >= 0 and finite, got -0.2"),
        (lambda: PiecewiseConstant(["1"], []), TypeError, r"values\[0\] must be a number, got '1'"),
        (lambda: Joined([abs, 0.1], [3]), TypeError, r"schedules\[1\] must be callable, got 0.1"),
        (lambda: ReduceOnPlateau(0.1, mode="mean"), ValueError, "mode must be 'min' or 'max', got 'mean'"),
        (lambda: ReduceOnPlateau(0.1, "min"), TypeError, "positional"),
        (lambda: ReduceOnPlateau(0.1, best=3.0), TypeError, "best"),
    ],
)
def test_other_bad_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("cls", GOOD)
def test_the_good_settings_are_good(cls):
    getattr(ds.schedules, cls)(**GOOD[cls])
    checked = set(BOUNDS) | {"values", "schedules", "milestones", "mode"}
    assert set(inspect.signature(getattr(ds.schedules, cls)).parameters) == set(GOOD[cls]) <= checked


def test_every_schedule_is_documented():
    assert set(GOOD) == set(ds.schedules.__all__)
    for name in ds.schedules.__all__:
        doc = inspect.getdoc(getattr(ds.schedules, name))
        assert all(f"{section}\n---" in doc for section in ("Parameters", "Notes", "Examples")), name
