"""The Python face: structures, groups, schedules, visible state, saving and copying."""

import copy
import inspect
import pickle
import threading
import time
from contextlib import ExitStack

import ml_dtypes
import numpy as np
import pytest
from rule_cases import CASES, assert_same_bits, assert_same_optimizers, case_id, pair

import downslope as ds


def test_one_array():
    p = np.array([1.0, 2.0])
    opt = ds.SGD(p, lr=0.5, momentum=0.5)
    opt.step(np.array([2.0, 2.0]))
    assert opt.params is p
    assert p.tolist() == [0.0, 1.0]
    assert opt.state["momentum_buffer"].tolist() == [2.0, 2.0]
    assert opt.state["step"] == 1 and opt.step_count == 1


def test_a_sequence():
    params = (np.ones(2), np.ones(3))
    opt = ds.SGD(params, lr=1.0)
    opt.step((np.ones(2), None))
    opt.step([None, np.ones(3)])
    assert [p.tolist() for p in opt.params] == [[0, 0], [0, 0, 0]]
    assert opt.params[0] is params[0] and isinstance(opt.state, list)
    assert ds.SGD(iter(params)).params[1] is params[1]


def test_a_mapping():
    params = {"w": np.ones(2), 7: np.ones(1)}
    opt = ds.SGD(params, lr=1.0, momentum=0.9)
    opt.step({7: np.ones(1), "w": np.full(2, 2.0)})
    assert params["w"].tolist() == [-1, -1] and params[7].tolist() == [0]
    assert list(opt.params) == ["w", 7] and opt.params["w"] is params["w"]
    assert opt.state["w"]["momentum_buffer"].tolist() == [2, 2]


def test_groups():
    a, b, c = np.ones(1), np.ones(1), np.ones(1)
    opt = ds.SGD([{"params": [a, b]}, {"params": c, "lr": 0.25, "maximize": True}], lr=0.5)
    opt.step([np.ones(1)] * 3)
    assert [p.item() for p in opt.params] == [0.5, 0.5, 1.25]
    assert [g["lr"] for g in opt.param_groups] == [0.5, 0.25]
    assert opt.param_groups[0]["params"][1] is b
    with pytest.raises(ValueError, match="lr differs between the groups"):
        opt.lr  # noqa: B018
    opt.lr = 1.0
    assert opt.lr == 1.0
    opt.param_groups[1]["maximize"] = False
    opt.step([None, None, np.ones(1)])
    assert c.item() == 0.25


def test_groups_may_differ_in_their_state(rng):
    params = [rng.standard_normal(5) for _ in range(3)]
    single = [p.copy() for p in params]
    settings = [{"momentum": 0.0}, {"momentum": 0.9}, {"momentum": 0.9, "centered": True}]
    opt = ds.RMSprop([{"params": p, **s} for p, s in zip(params, settings, strict=True)])
    alone = [ds.RMSprop(p, **s) for p, s in zip(single, settings, strict=True)]
    for _ in range(4):
        grads = [rng.standard_normal(5) for _ in params]
        opt.step(grads)
        for each, grad in zip(alone, grads, strict=True):
            each.step(grad)
    for p, q in zip(params, single, strict=True):
        assert_same_bits(p, q)
    assert [set(s) for s in opt.state] == [
        {"square_avg", "step"},
        {"square_avg", "momentum_buffer", "step"},
        {"square_avg", "grad_avg", "momentum_buffer", "step"},
    ]


def test_a_step_without_any_gradient_does_not_count():
    opt = ds.Adam([np.ones(2), np.ones(1)])
    opt.step([None, None])
    assert opt.step_count == 0
    opt.step([np.ones(2), None])
    assert opt.step_count == 1
    assert [int(s["step"]) for s in opt.state] == [1, 0]


def test_empty_arrays_count_their_steps():
    opt = ds.Adam([np.ones((0, 3)), np.ones(())])
    opt.step([np.ones((0, 3)), np.ones(())])
    assert opt.step_count == 1 and int(opt.state[0]["step"]) == 1


def test_bound_gradients_are_read_anew_at_every_step(rng):
    params = [rng.standard_normal(5), rng.standard_normal(4)]
    opt, ref = pair("adam", params)
    grads = [np.empty(5), None]
    opt.bind(grads)
    grads[1] = "not looked at again"
    for _ in range(5):
        grads[0][:] = rng.standard_normal(5)
        opt.step()
        ref.step([grads[0], None])
    other = [rng.standard_normal(5), rng.standard_normal(4)]
    opt.step(other)  # passed gradients win, and do not unbind
    ref.step(other)
    opt.step()
    ref.step([grads[0], None])
    assert_same_optimizers(opt, ref)


def test_hyper_parameters_may_change_between_steps(rng):
    params = [rng.standard_normal(5)]
    opt, ref = pair("adam", params)
    for lr, betas in ((0.1, (0.9, 0.999)), (0.01, (0.5, 0.9)), (np.float32(0.5), [0.0, 0.0])):
        opt.lr = lr
        opt.param_groups[0]["betas"] = betas
        ref.change(lr=float(lr), betas=betas)
        grads = [rng.standard_normal(5)]
        opt.step(grads)
        ref.step(grads)
    assert_same_optimizers(opt, ref)
    assert type(opt.lr) is float and opt.param_groups[0]["betas"] == (0.0, 0.0)


# In this order, one by one; SGD begins with Nesterov momentum, which excludes dampening.
CHANGED = {
    "nesterov": False,
    "lr": 0.03,
    "betas": (0.5, 0.9),
    "eps": 1e-3,
    "eps_root": 1e-4,
    "momentum": 0.5,
    "dampening": 0.25,
    "alpha": 0.5,
    "rho": 0.5,
    "lr_decay": 0.5,
    "initial_accumulator_value": 3.0,
    "momentum_decay": 0.5,
    "centered": True,
    "amsgrad": True,
    "rectify": True,
    "bias_correction": False,
    "weight_decay": 0.2,
    "decoupled_weight_decay": True,
    "maximize": True,
    "grad_scale": 0.5,
    "clip_value": 0.25,
}


@pytest.mark.parametrize("name", ds.OPTIMIZERS)
def test_every_hyper_parameter_of_a_group_may_change_between_steps(name, rng):
    """And the other group does not notice."""
    options = {"momentum": 0.9, "nesterov": True} if name == "sgd" else {}
    start = [rng.standard_normal(5), rng.standard_normal(37)]
    opt = ds.OPTIMIZERS[name]([{"params": p.copy()} for p in start], **options)
    refs = [pair(name, [p], **options)[1] for p in start]
    group, changed = opt.param_groups[1], refs[1]
    names = set(group) - {"params"}
    assert names <= set(CHANGED)
    for key, value in CHANGED.items():
        if key in names:
            assert group[key] != value or (name, key) == ("adamw", "decoupled_weight_decay")
            group[key] = value
            if key in ("maximize", "grad_scale"):
                changed.factor = group["grad_scale"] * (-1 if group["maximize"] else 1)
            elif key == "decoupled_weight_decay":
                changed.decoupled = value
            elif key in ("weight_decay", "clip_value"):
                setattr(changed, key, value)
            else:
                changed.change(**{key: value})
        for _ in range(2):
            grads = [rng.standard_normal(p.shape) for p in start]
            opt.step(grads)
            for ref, grad in zip(refs, grads, strict=True):
                ref.step([grad])
    for i, ref in enumerate(refs):
        assert_same_bits(opt.params[i], ref.params[0], f"params[{i}]")


def test_an_option_that_needs_more_state_may_be_set_later(rng):
    params = [rng.standard_normal(5)]
    opt, ref = pair("adam", params)
    opt.bind(params_grad := [rng.standard_normal(5)])
    opt.step()
    ref.step(params_grad)
    m = opt.state[0]["exp_avg"]
    opt.param_groups[0]["amsgrad"] = True
    ref.change(amsgrad=True)
    opt.step()  # still bound
    ref.step(params_grad)
    assert_same_optimizers(opt, ref)
    assert opt.step_count == 2
    opt.param_groups[0]["amsgrad"] = False
    ref.change(amsgrad=False)
    assert set(opt.state[0]) == {"exp_avg", "exp_avg_sq", "step"}
    assert np.shares_memory(opt.state[0]["exp_avg"], m)
    opt.step()
    ref.step(params_grad)
    assert_same_optimizers(opt, ref)


def test_a_schedule_is_called_with_the_step_to_come():
    p = np.zeros(1)
    called = []

    def schedule(step):
        called.append(step)
        return 1 / step

    opt = ds.SGD([{"params": p}, {"params": np.zeros(1), "lr": 1.0}], lr=schedule)
    opt.step([np.ones(1)] * 2)
    opt.step([None, None])
    opt.step([np.ones(1)] * 2)
    assert called == [1, 2, 2]
    assert p.item() == -1.5
    assert opt.param_groups[0]["lr"] is schedule


def test_state_is_visible_and_its_mapping_is_fixed():
    opt = ds.Adam(np.zeros(2), lr=1.0)
    opt.state["exp_avg"][:] = 1.0
    opt.state["exp_avg_sq"][:] = 1.0
    opt.step(np.zeros(2))
    assert (opt.params != 0).all()
    with pytest.raises(TypeError):
        opt.state["exp_avg"] = np.zeros(2)
    with pytest.raises(ValueError, match="does not own its data"):
        opt.state["exp_avg"].resize((100,), refcheck=False)


def test_add_param_group():
    opt = ds.SGD([np.ones(1)], lr=0.5)
    opt.step([np.ones(1)])
    opt.add_param_group({"params": np.ones(1), "lr": 0.25})
    opt.add_param_group({"params": [np.ones(1), np.ones(2)]})
    opt.step([np.ones(1), np.ones(1), None, np.ones(2)])
    assert [p.tolist() for p in opt.params] == [[0.0], [0.75], [1.0], [0.5, 0.5]]
    assert opt.step_count == 2
    with pytest.raises(ValueError, match=r"params\[[04]\] and params\[[04]\] share memory"):
        opt.add_param_group({"params": opt.params[0]})
    assert len(opt.params) == 4
    with pytest.raises(ValueError, match="entry 'params'"):
        opt.add_param_group({"lr": 1.0})

    named = ds.SGD({"a": np.ones(1)})
    named.add_param_group({"params": {"b": np.ones(2)}, "lr": 0.5})
    named.step({"b": np.ones(2), "a": None})
    assert named.params["b"].tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match=r"new names, got \['a'\] again"):
        named.add_param_group({"params": {"a": np.ones(1)}})
    with pytest.raises(ValueError, match="must be a mapping from new names"):
        named.add_param_group({"params": [np.ones(1)]})
    with pytest.raises(ValueError, match="params is one array"):
        ds.SGD(np.ones(1)).add_param_group({"params": np.ones(1)})


def test_adding_arrays_lets_bound_gradients_go():
    opt = ds.SGD([np.ones(1)])
    opt.bind([np.ones(1)])
    opt.add_param_group({"params": np.ones(1)})
    with pytest.raises(RuntimeError):
        opt.step()


@pytest.mark.parametrize("case", CASES, ids=case_id)
@pytest.mark.parametrize("way", ["state_dict", "pickle", "deepcopy"])
def test_going_on_from_a_copy_gives_the_same_bits(case, way, rng):
    name, hyper = case
    cls = ds.OPTIMIZERS[name]
    grads = [[rng.standard_normal(5), None if t % 2 else rng.standard_normal((2, 3))] for t in range(10)]
    opt = cls([rng.standard_normal(5), rng.standard_normal((2, 3))], **hyper, weight_decay=0.01)
    for g in grads[:5]:
        opt.step(g)
    if way == "state_dict":
        twin = cls([p.copy() for p in opt.params], lr=123.0)
        twin.load_state_dict(opt.state_dict())
    else:
        twin = copy.deepcopy(opt) if way == "deepcopy" else pickle.loads(pickle.dumps(opt))
    assert not any(np.shares_memory(p, q) for p, q in zip(opt.params, twin.params, strict=True))
    assert type(twin) is cls and twin.step_count == 5
    for g in grads[5:]:
        opt.step(g)
        twin.step(g)
    for p, q in zip(opt.params, twin.params, strict=True):
        assert_same_bits(p, q)
    np.testing.assert_equal(opt.state_dict(), twin.state_dict())


# What holds for a whole optimizer, in any combination with the number formats.
SETTINGS = [
    {"clip_norm": 0.5, "nonfinite": "skip", "ema_decay": 0.9},
    {"state_dtype": "bfloat16", "seed": 5, "rounding": "stochastic"},
    {"state_dtype": "uint8", "seed": 2**64 - 1, "ema_decay": 0.5, "rounding": "stochastic"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=case_id)
@pytest.mark.parametrize("way", ["state_dict", "pickle", "deepcopy"])
@pytest.mark.parametrize("name", ["sgd", "adam", "nadam"])
def test_settings_go_along(name, way, settings, rng):
    dtypes = (np.float64, np.float16, ml_dtypes.bfloat16)
    cls, options = ds.OPTIMIZERS[name], {"momentum": 0.9} if name == "sgd" else {}
    grads = [[rng.standard_normal(300).astype(dtype) for dtype in dtypes] for _ in range(8)]
    grads[2][1][7] = np.nan
    opt = cls([np.ones(300, dtype) for dtype in dtypes], **options, **settings, clip_value=1.5)
    for g in grads[:4]:
        opt.step(g)
    if way == "state_dict":
        other = {key: 0.25 if key == "ema_decay" else settings[key] for key in settings if key.endswith(("dtype", "y"))}
        twin = cls([p.copy() for p in opt.params], **other)
        twin.load_state_dict(opt.state_dict())
    else:
        twin = copy.deepcopy(opt) if way == "deepcopy" else pickle.loads(pickle.dumps(opt))
    assert all(getattr(twin, key) == value for key, value in settings.items())
    assert twin.skipped_steps == opt.skipped_steps == (settings.get("nonfinite") == "skip")
    for g in grads[4:]:
        opt.step(g)
        twin.step(g)
    for p, q in zip(opt.params, twin.params, strict=True):
        assert p.tobytes() == q.tobytes()
    if opt.ema is not None:
        for p, q in zip(opt.ema, twin.ema, strict=True):
            assert p.tobytes() == q.tobytes() and not np.shares_memory(p, q)
    np.testing.assert_equal(opt.state_dict(), twin.state_dict())


def test_what_a_state_dict_holds():
    opt = ds.Adam(
        [np.ones(2), np.ones(300)], clip_norm=2.0, seed=7, nonfinite="skip", state_dtype="uint8", ema_decay=0.5
    )
    opt.step([np.full(2, np.nan), None])
    opt.step([np.ones(2), None])
    saved = opt.state_dict()
    assert {name: saved[name] for name in ("rule", "step_count", "skipped_steps")} == {
        "rule": "adam",
        "step_count": 1,
        "skipped_steps": 1,
    }
    assert saved["settings"] == {
        "clip_norm": 2.0,
        "nonfinite": "skip",
        "state_dtype": "uint8",
        "rounding": "nearest",
        "seed": 7,
        "ema_decay": 0.5,
    }
    slots = {name: (array.shape, array.dtype) for name, array in saved["state"][1].items() if name != "step"}
    assert slots == {
        "exp_avg": ((300,), np.uint8),
        "exp_avg_scale": ((2,), np.float32),
        "exp_avg_sq": ((300,), np.uint8),
        "exp_avg_sq_scale": ((2,), np.float32),
    }
    assert [slots["step"] for slots in saved["state"].values()] == [1, 0]
    assert list(saved["ema"]) == [0, 1]
    assert_same_bits(saved["ema"][0], opt.ema[0])
    opt.step([np.ones(2), None])
    assert not np.array_equal(saved["ema"][0], opt.ema[0])
    assert ds.Adam([np.ones(2)]).state_dict()["ema"] == {}


def test_accumulated_gradients_stay_behind_in_a_state_dict_and_go_along_in_a_copy():
    opt = ds.SGD([np.zeros(2)], lr=1.0)
    opt.accumulate([np.ones(2)])
    twin, loaded = copy.deepcopy(opt), ds.SGD([np.zeros(2)], lr=1.0)
    loaded.load_state_dict(opt.state_dict())
    opt.zero_grad()
    twin.step()
    assert twin.params[0].tolist() == [-1, -1]
    for without in (opt, loaded):
        with pytest.raises(RuntimeError, match="no gradients"):
            without.step()


def half_of(step):
    return 0.5 / step


@pytest.mark.parametrize(
    "make",
    [
        lambda: ds.Adam(np.ones(2), lr=half_of),
        lambda: ds.Adam({"a": np.ones(2), "b": np.ones(3, "f4")}),
        lambda: ds.Adam([{"params": np.ones(2)}, {"params": [np.ones(3), np.ones(1)], "lr": half_of, "amsgrad": True}]),
        lambda: _extended(ds.Adam({"a": np.ones(2)})),
    ],
)
def test_copies_keep_structure_groups_and_schedules(make):
    opt = make()
    opt.bind(_ones_like(opt.params))
    opt.step()
    twin = copy.deepcopy(opt)
    assert repr(twin) == repr(opt)
    assert [g["lr"] for g in twin.param_groups] == [g["lr"] for g in opt.param_groups]
    with pytest.raises(RuntimeError):  # bindings stay behind
        twin.step()
    opt.step()
    twin.step(_ones_like(twin.params))
    np.testing.assert_equal(twin.params, opt.params)
    np.testing.assert_equal(twin.state_dict(), opt.state_dict())


def _ones_like(params):
    if isinstance(params, dict):
        return {name: np.ones_like(p) for name, p in params.items()}
    return [np.ones_like(p) for p in params] if isinstance(params, list) else np.ones_like(params)


def _extended(opt):
    opt.add_param_group({"params": {"b": np.ones(2)}, "weight_decay": 0.5})
    return opt


def test_deepcopy_with_its_parameters_keeps_them_together():
    params = {"w": np.ones(3)}
    twin_params, twin = copy.deepcopy((params, ds.SGD(params)))
    assert twin.params["w"] is twin_params["w"]


def test_a_shallow_copy_is_refused():
    """It would share the averages, but not the counts that belong to them."""
    with pytest.raises(TypeError, match=r"use copy\.deepcopy"):
        copy.copy(ds.Adam(np.ones(2)))


def test_a_state_dict_is_a_snapshot():
    opt = ds.SGD(np.ones(2), momentum=0.9)
    opt.step(np.ones(2))
    saved = opt.state_dict()
    opt.step(np.ones(2))
    assert saved["state"][0]["momentum_buffer"].tolist() == [1, 1] and saved["state"][0]["step"] == 1


def test_loading_keeps_a_schedule_and_bound_gradients():
    opt = ds.SGD(np.ones(2), lr=half_of)
    g = np.ones(2)
    opt.bind(g)
    saved = opt.state_dict()
    assert saved["param_groups"][0]["lr"] is None
    opt.load_state_dict(saved)
    assert opt.lr is half_of
    opt.step()
    assert opt.params.tolist() == [0.5, 0.5]


def test_repr_shows_what_differs_from_the_defaults():
    opt = ds.Adam([{"params": [np.ones(2000), np.ones(1)]}, {"params": np.ones(1), "betas": (0.5, 0.9)}], lr=0.5)
    assert repr(opt).splitlines() == [
        "Adam(3 arrays of 2,002 elements, step_count=0",
        "    group 0: 2 arrays, lr=0.5",
        "    group 1: 1 array, lr=0.5, betas=(0.5, 0.9))",
    ]
    assert "weight_decay=0.01" in repr(ds.AdamW(np.ones(1)))
    opt = ds.SGD(np.ones(1), clip_value=2.0, clip_norm=0.5, ema_decay=0.9, seed=0)
    assert repr(opt).splitlines() == [
        "SGD(1 array of 1 elements, step_count=0, clip_norm=0.5, ema_decay=0.9",
        "    group 0: 1 array, lr=0.01, clip_value=2.0)",
    ]


def test_the_signature_shows_the_keyword_options():
    signature = inspect.signature(ds.Adam)
    assert list(signature.parameters)[:4] == ["params", "lr", "betas", "eps"]
    assert signature.parameters["weight_decay"].default == 0.0
    assert inspect.signature(ds.AdamW).parameters["weight_decay"].default == 1e-2
    assert "options" not in signature.parameters


def test_hyper_parameters_are_no_attributes():
    opt = ds.Adam(np.ones(1))
    with pytest.raises(AttributeError, match=r"betas is set in the groups: opt.param_groups\[0\]\['betas'\] = "):
        opt.betas = (0.5, 0.5)
    opt.name = "mine"
    assert opt.name == "mine"


def test_what_holds_for_all_groups_are_attributes():
    opt = ds.SGD([np.zeros(1, np.float16)], lr=1.0, ema_decay=0.5)
    assert (opt.clip_norm, opt.nonfinite, opt.rounding, opt.seed, opt.ema_decay) == (
        None,
        "propagate",
        "nearest",
        0,
        0.5,
    )
    opt.clip_norm, opt.nonfinite, opt.ema_decay, opt.seed = 0.5, "skip", 0.75, np.uint64(2**64 - 1)
    opt.step([np.ones(1, np.float16)])
    opt.step([np.full(1, np.nan, np.float16)])
    assert opt.params[0].item() == -0.5 and opt.ema[0].item() == -0.125
    assert (opt.last_grad_norm, opt.step_count, opt.skipped_steps) == (1.0, 1, 1)
    opt.clip_norm, opt.nonfinite = None, "propagate"
    opt.step([np.ones(1, np.float16)])
    assert opt.params[0].item() == -1.5 and opt.last_grad_norm is None
    assert type(opt.seed) is int
    with pytest.raises(AttributeError, match="'SGD' object has no attribute 'clip_value'"):
        opt.clip_value  # noqa: B018
    with pytest.raises(AttributeError, match=r"clip_value is set in the groups: opt.param_groups\[0\]\['clip_value'\]"):
        opt.clip_value = 1.0


def test_two_threads_that_step_by_the_same_sums():
    """The later one finds none."""
    opt = ds.SGD([np.zeros(1)], lr=1.0)
    opt.accumulate([np.ones(1)])
    errors = []

    def step():
        try:
            opt.step()
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=step)
    with opt._stepper:  # which the thread waits for, in the midst of its step
        thread.start()
        time.sleep(0.05)
        opt.step()
    thread.join()
    assert errors == ["step() has no gradients: pass them, bind(grads) once, or accumulate(grads)"]
    assert opt.params[0].item() == -1 and opt.step_count == 1


def test_setting_a_hyper_parameter_keeps_gradients_and_state_as_they_are():
    """Only an option that changes which state there is has anything rebuilt."""
    p, g = np.zeros(2), np.ones(2)
    opt = ds.SGD(p, lr=1.0, momentum=0.5)
    opt.bind(g)
    slots = opt.state["momentum_buffer"]
    opt.lr = 0.5
    opt.step()
    assert p.tolist() == [-0.5, -0.5] and opt.state["momentum_buffer"] is slots


def test_copies_keep_the_defaults_for_groups_to_come():
    opt = copy.deepcopy(ds.SGD([np.ones(1)], lr=0.5, weight_decay=0.1))
    opt.add_param_group({"params": np.ones(1)})
    assert [(g["lr"], g["weight_decay"]) for g in opt.param_groups] == [(0.5, 0.1)] * 2


class Tuned(ds.SGD):
    """A subclass with a signature and attributes of its own."""

    def __init__(self, params, *, tag):
        super().__init__(params, lr=0.25)
        self.tag = tag


def test_a_subclass_may_be_copied():
    opt = Tuned(np.ones(2), tag="a")
    for twin in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        assert twin.tag == "a" and twin.lr == 0.25
        twin.step(np.ones(2))
        assert twin.params.tolist() == [0.75, 0.75]
    assert opt.params.tolist() == [1, 1]


def test_a_copy_has_state_of_its_own_that_cannot_be_resized():
    opt = ds.NAdam(np.ones(2))
    opt.step(np.ones(2))
    twin = copy.deepcopy(opt)
    opt.step(np.ones(2))
    assert (int(twin.state["step"]), twin.step_count) == (1, 1)
    assert twin.state["mu_product"] != opt.state["mu_product"]
    with pytest.raises(ValueError, match="does not own its data"):
        twin.state["exp_avg"].resize((100,), refcheck=False)


class TestLookahead:
    def test_it_is_nesterovs_method(self, rng):
        """p_{t} = y_{t-1} - lr grad(y_{t-1}), y = p + mu v: the two-sequence form, to rounding."""
        A = np.diag([1.0, 10.0])
        p = np.array([1.0, 1.0])
        opt = ds.NAG(p, lr=0.05, momentum=0.8)
        x, v = p.copy(), np.zeros(2)
        for _ in range(30):
            with opt.lookahead():
                np.testing.assert_allclose(p, x + 0.8 * v, rtol=1e-14)
                g = A @ p
            opt.step(g)
            v = 0.8 * v - 0.05 * (A @ (x + 0.8 * v))
            x = x + v
            np.testing.assert_allclose(p, x, rtol=1e-12)

    def test_it_restores_the_very_bits(self, rng):
        params = [np.array([-0.0, np.nan, 1e-310, 1.0]), rng.standard_normal((6, 6))[::2, ::-1], np.float32([1e30, 3])]
        opt = ds.NAG(params, momentum=0.7)
        opt.step([np.ones(p.shape, p.dtype) for p in params])
        before = [p.tobytes() for p in params]
        with pytest.raises(ZeroDivisionError), opt.lookahead():
            assert params[1].tobytes() != before[1]
            1 / 0  # noqa: B018
        assert [p.tobytes() for p in params] == before

    def test_what_must_not_happen_inside(self):
        opt = ds.NAG(np.ones(2))
        with opt.lookahead():
            with pytest.raises(RuntimeError, match=r"step\(\) inside lookahead"):
                opt.step(np.ones(2))
            with pytest.raises(RuntimeError, match=r"lookahead\(\) inside lookahead"), opt.lookahead():
                pass
            with pytest.raises(RuntimeError, match="a copy inside lookahead"):
                copy.deepcopy(opt)
            with pytest.raises(RuntimeError, match="a copy inside lookahead"):
                pickle.dumps(opt)
        assert opt.params.tolist() == [1, 1]
        opt.step(np.ones(2))

    def test_groups_have_their_own_momentum(self):
        opt = ds.NAG([{"params": np.zeros(1)}, {"params": np.zeros(1), "momentum": 0.5}], lr=1.0, momentum=0.25)
        opt.step([np.ones(1)] * 2)
        with opt.lookahead():
            assert [p.item() for p in opt.params] == [-1.25, -1.5]

    def test_it_ends_well_whatever_happens_inside(self):
        opt = ds.NAG([np.ones(1)])
        with opt.lookahead():
            opt.add_param_group({"params": np.ones(1)})
            opt.load_state_dict(opt.state_dict())
        opt.step([np.ones(1)] * 2)
        assert opt.step_count == 1

    def test_a_parameter_that_became_read_only_inside(self):
        """The others are restored, and the optimizer is usable again."""
        a, b, c = np.ones(1), np.ones(1), np.ones(1)
        opt = ds.NAG([a, b, c])
        opt.step([np.ones(1)] * 3)
        before = a.item()
        with pytest.raises(ValueError, match="read-only"), opt.lookahead():
            b.flags.writeable = False
        assert a.item() == c.item() == before
        with pytest.raises(ValueError, match="read-only"), opt.lookahead():
            pass
        assert a.item() == c.item() == before
        b.flags.writeable = True
        opt.step([np.ones(1)] * 3)


class TestSchedulesThatMeddle:
    def test_with_the_slots_of_their_own_group(self):
        p = np.ones(100_000)

        def schedule(step):
            opt.param_groups[0]["momentum"] = 0.0
            return 0.5

        opt = ds.SGD(p, lr=schedule, momentum=0.9)
        opt.step(np.ones(100_000))
        assert (p == 0.5).all() and set(opt.state) == {"step"}

    def test_with_their_own_lr(self):
        p = np.ones(1)

        def schedule(step):
            opt.lr = 0.25
            return 0.5

        opt = ds.SGD(p, lr=schedule)
        opt.step(np.ones(1))
        opt.step(np.ones(1))
        assert opt.lr == 0.25 and p.item() == 0.5

    def test_with_the_lr_of_another_group(self):
        def schedule(step):
            opt.param_groups[0]["lr"] = lambda step: 0.25
            return 0.5

        opt = ds.SGD([{"params": np.ones(1), "lr": 1.0}, {"params": np.ones(1), "lr": schedule}])
        opt.step([np.ones(1)] * 2)
        assert [p.item() for p in opt.params] == [0.75, 0.5]

    def test_with_the_groups_themselves(self):
        def schedule(step):
            if len(opt.param_groups) == 1:
                opt.add_param_group({"params": np.ones(1)})
            return 0.5

        opt = ds.SGD([np.ones(1)], lr=schedule)
        with pytest.raises(ValueError, match="^grads must have 2 arrays, as params has since .*, got 1$"):
            opt.step([np.ones(1)])
        opt.step([np.ones(1)] * 2)
        assert [p.item() for p in opt.params] == [0.5, 0.5]

    def test_with_the_groups_of_what_is_accumulated(self):
        """What has been added up is applied; the new array got nothing."""

        def schedule(step):
            if len(opt.param_groups) == 1:
                opt.add_param_group({"params": np.ones(1)})
            return 0.5

        opt = ds.SGD([np.ones(1)], lr=schedule)
        opt.accumulate([np.ones(1)])
        opt.step()
        assert [p.item() for p in opt.params] == [0.5, 1.0]
        assert [int(slots["step"]) for slots in opt.state] == [1, 0]

    def test_with_what_holds_for_all_groups(self):
        def schedule(step):
            opt.clip_norm = 0.5
            return 1.0

        opt = ds.SGD([np.ones(1)], lr=schedule)
        opt.step([np.ones(1)])
        assert opt.params[0].item() == 0.5 and opt.last_grad_norm == 1

    def test_with_where_the_parameters_are(self):
        def schedule(step):
            swapped.enter_context(opt.swap_ema())
            return 1.0

        opt = ds.SGD([np.ones(1)], lr=schedule, ema_decay=0.5)
        with ExitStack() as swapped, pytest.raises(RuntimeError, match=r"^step\(\) inside swap_ema\(\)"):
            opt.step([np.ones(1)])
        assert opt.params[0].item() == 1 and opt.step_count == 0

    def test_by_failing(self):
        def schedule(step):
            raise ZeroDivisionError

        opt = ds.SGD(np.ones(1), lr=schedule)
        with pytest.raises(ZeroDivisionError):
            opt.step(np.ones(1))
        opt.lr = 1.0
        opt.step(np.ones(1))
        assert opt.params.item() == 0 and opt.step_count == 1
