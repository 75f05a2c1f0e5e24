"""Promise 2 and the table of errors: the class, the message, and that a call that raises has changed nothing."""

import copy
import itertools
import re
import warnings
from collections import defaultdict

import ml_dtypes
import numpy as np
import pytest
from interrupts import interrupted

import downslope as ds
from downslope.rules import settings


def bits(arrays):
    return [None if a is None else (a.shape, a.dtype, a.tobytes()) for a in arrays]


def snapshot(opt):
    """All that a call may change, arrays by their bits."""
    accumulated, sums = opt._stepper.accumulated, opt._stepper.sums
    return {
        "params": bits(opt.params),
        "state": [dict(zip(slots, bits(slots.values()), strict=True)) for slots in opt.state],
        "ema": bits(opt.ema or []),
        "counts": (opt.step_count, opt.skipped_steps, opt.last_grad_norm),
        "sums": (accumulated, bits(sums)),
        "settings": {name: getattr(opt, name) for name in settings.DEFAULTS},
        "groups": [{name: value for name, value in group.items() if name != "params"} for group in opt.param_groups],
    }


@pytest.fixture
def opt():
    """Four arrays with some history."""
    opt = ds.Adam([np.ones(3, np.float32), np.ones((2, 2)), np.ones(5), np.ones(4, np.float16)], lr=0.1)
    opt.step(GOOD)
    return opt


GOOD = [np.ones(3, np.float32), np.ones((2, 2)), np.ones(5), np.ones(4, np.float16)]
SWAPPED = np.dtype(np.float64).newbyteorder()

BAD_GRADS = {
    "not an array": (2, [1.0] * 5, TypeError, r"grads\[2\] must be a NumPy array, got list"),
    "a scalar": (2, np.float64(1), TypeError, r"grads\[2\] must be a NumPy array, got float64"),
    "integers": (
        2,
        np.ones(5, int),
        TypeError,
        r'grads\[2\] must have dtype float32, float64, float16 or bfloat16, got int64.*astype\("float64"\)',
    ),
    "bools": (2, np.ones(5, bool), TypeError, "got bool"),
    "complex": (2, np.ones(5, complex), TypeError, "got complex128$"),
    "objects": (2, np.ones(5, object), TypeError, "got object"),
    "strings": (2, np.array(["1"] * 5), TypeError, "got <U1"),
    "records": (2, np.zeros(5, [("a", "f8")]), TypeError, "must have dtype"),
    "long double": (2, np.ones(5, np.longdouble), TypeError, "must have dtype"),
    "unsafe for 16 bits": (3, np.ones(4), TypeError, r'grads\[3\] is float64.*safely to float32.*astype\("float32"\)'),
    "byte-swapped": (2, np.ones(5, SWAPPED), TypeError, f"got {re.escape(SWAPPED.str)}"),
    "masked": (2, np.ma.ones(5), TypeError, r"grads\[2\] is a masked array"),
    "unsafe cast": (0, np.ones(3), TypeError, r'grads\[0\] is float64.*safely to float32.*astype\("float32"\)'),
    "wrong shape": (
        1,
        np.ones(4),
        ValueError,
        r"grads\[1\] must have the shape of its parameter, \(2, 2\), got \(4,\)",
    ),
    "would broadcast": (1, np.ones((1, 2)), ValueError, r"got \(1, 2\)"),
    "zero axes": (2, np.ones(()), ValueError, r"\(5,\), got \(\)"),
}


@pytest.mark.parametrize("call", ["step", "bind"])
@pytest.mark.parametrize("what", BAD_GRADS)
def test_bad_gradient(opt, what, call):
    i, bad, error, message = BAD_GRADS[what]
    grads = list(GOOD)
    grads[i] = bad
    before = snapshot(opt)
    with pytest.raises(error, match=message):
        getattr(opt, call)(grads)
    assert snapshot(opt) == before
    with pytest.raises(RuntimeError, match="bind"):
        opt.step()


def test_a_bad_binding_leaves_the_old_one(opt):
    opt.bind(GOOD)
    with pytest.raises(TypeError):
        opt.bind([*GOOD[:3], "no array"])
    opt.step()
    assert opt.step_count == 2


@pytest.mark.parametrize(
    "grads, message",
    [
        (GOOD[:2], "must have 4 arrays, as params has, got 2"),
        ([*GOOD, None], "must have 4 arrays, as params has, got 5"),
        (np.ones((3, 3)), "must be a list or tuple of arrays, as params is, got one array"),
        ({"a": GOOD[0]}, "got a dict"),
    ],
)
def test_structure_of_a_sequence(opt, grads, message):
    before = snapshot(opt)
    with pytest.raises(ValueError, match=message):
        opt.step(grads)
    assert snapshot(opt) == before


@pytest.mark.parametrize(
    "grads, message",
    [
        ({"w": np.ones(2)}, "'b' is missing .None leaves it alone.$"),
        ({"w": np.ones(2), "c": np.ones(1)}, "'b' is missing .*, 'c' is unexpected$"),
        ({"w": np.ones(2), "b": np.ones(1), "c": None}, "params: 'c' is unexpected$"),
        ([np.ones(2), np.ones(1)], "must be a mapping from names to arrays, as params is, got a list"),
        (defaultdict(lambda: None, w=np.ones(2), c=np.ones(1)), "'b' is missing .*, 'c' is unexpected$"),
    ],
)
def test_structure_of_a_mapping(grads, message):
    opt = ds.SGD({"w": np.ones(2), "b": np.ones(1)})
    size = len(grads)
    with pytest.raises(ValueError, match=message):
        opt.step(grads)
    assert len(grads) == size
    with pytest.raises(ValueError, match=r"grads\['b'\] must have the shape"):
        opt.step({"w": np.ones(2), "b": np.ones(2)})
    assert opt.step_count == 0


def test_structure_of_one_array():
    opt = ds.SGD(np.ones(2))
    for grads in ([np.ones(2)], {"w": np.ones(2)}):
        with pytest.raises(ValueError, match="must be one array, as params is"):
            opt.step(grads)
    with pytest.raises(TypeError, match="grads must be a NumPy array, got float"):
        opt.step(1.0)


def test_gradients_must_not_share_memory_with_what_a_step_writes():
    a, b = np.ones(4), np.full(4, 2.0)
    opt = ds.SGD({"a": a, "b": b}, lr=0.1, momentum=0.9, ema_decay=0.5)
    with pytest.raises(ValueError, match=r"grads\['a'\] shares memory with params\['b'\]"):
        opt.step({"a": b, "b": a})
    with pytest.raises(ValueError, match=r"grads\['b'\] shares memory with params\['b'\]"):
        opt.step({"a": np.ones(4), "b": b[::-1]})
    with pytest.raises(ValueError, match=r"grads\['a'\] shares memory with the state of params\['b'\]"):
        opt.step({"a": opt.state["b"]["momentum_buffer"], "b": None})
    with pytest.raises(ValueError, match=r"grads\['a'\] shares memory with the average of params\['a'\]"):
        opt.step({"a": opt.ema["a"], "b": None})
    assert (a == 1).all() and (b == 2).all() and opt.step_count == 0


def test_overlap_is_found_among_many_nested_intervals():
    pool = np.zeros((50, 7))
    params = [pool[:, i] for i in range(0, 7, 2)]
    opt = ds.SGD(params)
    grads = [pool[:, i] for i in (1, 3, 5)]
    opt.step([*grads, None])
    for i, param in enumerate(params):
        with pytest.raises(ValueError, match=rf"params\[{i}\]"):
            opt.step([param[::-1], None, None, None])


BAD_PARAMS = {
    "no array": (3.0, TypeError, "params must be a NumPy array, a sequence or a mapping of them, got float"),
    "a list of numbers": ([1.0], TypeError, r"params\[0\] must be a NumPy array, got float"),
    "nested": ([[np.ones(2)]], TypeError, r"params\[0\] must be a NumPy array, got list"),
    "a string": ("abc", TypeError, "got str"),
    "integers": (
        np.ones(2, int),
        TypeError,
        r"params must have dtype float32, float64, float16 or bfloat16, got int64: "
        r'convert it first, w = w.astype\("float64"\)',
    ),
    "bools": (np.ones(2, bool), TypeError, "got bool"),
    "complex": (np.ones(2, complex), TypeError, "got complex128"),
    "objects": (np.ones(2, object), TypeError, "got object"),
    "eight bits": (np.ones(2, ml_dtypes.float8_e5m2), TypeError, "got float8_e5m2: convert it first"),
    "long double": (np.ones(2, np.longdouble), TypeError, "astype"),
    "byte-swapped integers": (np.ones(2, np.dtype(int).newbyteorder()), TypeError, 'must have dtype .*"float64"'),
    "byte-swapped": (np.ones(2, SWAPPED), TypeError, r'byte-swapped .*w = w.astype\("float64"\)'),
    "masked": (np.ma.ones(2), TypeError, "masked"),
    "nothing": ([], ValueError, "at least one array"),
    "empty mapping": ({}, ValueError, "at least one array"),
    "empty group": ([{"params": []}], ValueError, "at least one array"),
    "group without params": ([{"lr": 1.0}], ValueError, r"params\[0\] must be a mapping with an entry 'params'"),
    "group with an unknown entry": ([{"params": np.ones(1), "rl": 1.0}], TypeError, "unexpected 'rl'"),
    "broadcast": (np.lib.stride_tricks.as_strided(np.ones(1), (3,), (0,)), ValueError, "share memory"),
    "sliding window": (np.lib.stride_tricks.as_strided(np.ones(5), (3, 3), (8, 8)), ValueError, "share memory"),
    "long windows": (
        np.lib.stride_tricks.as_strided(np.ones(10**6), (10**6 - 999, 1000), (8, 8)),
        ValueError,
        "share memory",
    ),
    "half an element apart": (np.lib.stride_tricks.as_strided(np.ones(5), (4,), (4,)), ValueError, "share memory"),
}


@pytest.mark.parametrize("what", BAD_PARAMS)
def test_bad_parameter(what):
    params, error, message = BAD_PARAMS[what]
    with pytest.raises(error, match=message):
        ds.SGD(params)


def test_strides_made_by_hand_that_do_not_overlap():
    """Axes that interleave, so that no axis steps over the other: only the list of addresses tells."""
    param = np.lib.stride_tricks.as_strided(np.ones(20), (3, 2), (2 * 8, 3 * 8))  # elements 0 2 4 and 3 5 7
    opt = ds.SGD(param, lr=1.0)
    opt.step(np.ones((3, 2)))
    assert (param == 0).all()


def test_read_only_parameter():
    param = np.ones(2)
    param.flags.writeable = False
    with pytest.raises(ValueError, match="params is read-only"):
        ds.SGD(param)


def test_the_same_or_overlapping_parameters_twice():
    a = np.ones((4, 4))
    with pytest.raises(ValueError, match=r"params\['[xy]'\] and params\['[xy]'\] share memory"):
        ds.SGD({"x": a, "y": a})
    with pytest.raises(ValueError, match=r"params\[2\] and params\[0\] share memory: pass each array only once"):
        ds.SGD([a[:2], np.ones(3), a[1:]])
    ds.SGD([a[:, ::2], a[:, 1::2]])


class Changed:
    """What a user may do to an array between two steps."""

    @staticmethod
    def shape(array):
        with np.errstate(all="ignore"):
            array.resize((3, 2), refcheck=False)

    @staticmethod
    def memory(array):
        array.resize((200, 300), refcheck=False)

    @staticmethod
    def read_only(array):
        array.flags.writeable = False


@pytest.mark.parametrize(
    "change, message", [("shape", "other memory, shape"), ("memory", "other memory"), ("read_only", "become read-only")]
)
def test_a_parameter_that_changed_under_the_optimizer(change, message):
    a, b = np.ones((2, 3)), np.ones(4)
    opt = ds.SGD([b, a])
    getattr(Changed, change)(a)
    with pytest.raises(ValueError, match=rf"params\[1\].*{message}"):
        opt.step([np.ones(4), np.ones((2, 3))])
    assert (b == 1).all() and opt.step_count == 0


@pytest.mark.parametrize("how", ["set", "copy", "load"])
@pytest.mark.parametrize("change", ["resize", "dtype"])
def test_a_parameter_that_no_longer_fits_its_state(change, how):
    p = np.ones(4)
    opt = ds.Adam([p])
    saved = opt.state_dict()
    if change == "resize":
        p.resize(10**6, refcheck=False)
    else:
        p = opt.params[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer NumPy deprecates it
            p.dtype = np.int64
    with pytest.raises((ValueError, TypeError), match="params|state_dict"):
        if how == "set":
            opt.param_groups[0]["amsgrad"] = True
        elif how == "copy":
            copy.deepcopy(opt)
        else:
            opt.load_state_dict(saved)
    with pytest.raises(ValueError, match=r"params\[0\] has been given other memory, shape or dtype"):
        opt.step([np.ones(4)])


class Meddler(np.ndarray):
    """An array that answers NumPy's questions itself, and calls back."""

    def __array_function__(self, function, types, args, kwargs):
        return False


def test_a_subclass_cannot_deny_that_it_shares_memory():
    p = np.ones(4)
    opt = ds.SGD(p)
    with pytest.raises(ValueError, match="grads shares memory with params"):
        opt.step(p.view(Meddler))
    with pytest.raises(ValueError, match="share memory"):
        ds.SGD([p, p.view(Meddler)])


def test_checking_a_gradient_cannot_come_back_to_the_optimizer():
    p = np.ones(4)
    opt = ds.SGD([p], lr=1.0)
    seen = []

    class Caller(np.ndarray):
        @property
        def __class__(self):
            for call in (lambda: opt.step([np.ones(4)]), lambda: opt.add_param_group({"params": np.ones(1)})):
                with pytest.raises(RuntimeError, match="cannot be used by code that it runs to check arrays") as error:
                    call()
                seen.append(error)
            return np.ndarray

    opt.step([np.ones(4).view(Caller)])
    assert seen and p.tolist() == [0] * 4 and opt.step_count == 1


def test_the_counters_are_state_too():
    opt = ds.NAdam([np.ones(()), np.ones(3)])
    with pytest.raises(ValueError, match=r"grads\[0\] shares memory with the state of params\[1\]"):
        opt.step([opt.state[1]["mu_product"], None])


def test_binding_nothing():
    with pytest.raises(ValueError, match="grads must be one array, as params is, got a NoneType"):
        ds.SGD(np.ones(1)).bind(None)
    with pytest.raises(ValueError, match="grads must be a list or tuple"):
        ds.SGD([np.ones(1)]).bind(None)


def test_binding_to_a_parameter_that_changed():
    """And changed back later: the gradient would have been taken for one of the other shape."""
    p = np.ones((2, 3))
    opt = ds.SGD(p)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer NumPy deprecates it
        p.shape = (3, 2)
    with pytest.raises(ValueError, match="params has been given other memory, shape or dtype"):
        opt.bind(np.ones((3, 2)))


def test_a_bound_gradient_that_changed_is_checked_again():
    p, g = np.zeros(4), np.ones(4)
    opt = ds.SGD(p, lr=1.0)
    opt.bind(g)
    g.resize((5000,), refcheck=False)
    with pytest.raises(ValueError, match=r"grads must have the shape of its parameter, \(4,\), got \(5000,\)"):
        opt.step()
    g.resize((4,), refcheck=False)
    opt.step()
    assert (p == -1).all()


def test_a_masked_view_of_an_accepted_gradient_is_refused():
    p, g = np.zeros(4), np.ones(4)
    opt = ds.SGD(p)
    opt.step(g)
    with pytest.raises(TypeError, match="masked"):
        opt.step(np.ma.array(g, copy=False))


def test_nothing_bound(opt):
    with pytest.raises(RuntimeError, match=r"pass them, bind\(grads\) once, or accumulate\(grads\)"):
        opt.step()


BAD_HYPER = [
    ("Adam", {"lr": -0.1}, ValueError, "lr must be >= 0 and finite, got -0.1"),
    ("Adam", {"lr": np.nan}, ValueError, "lr must be >= 0 and finite, got nan"),
    ("Adam", {"lr": np.inf}, ValueError, "lr must be >= 0 and finite, got inf"),
    ("Adam", {"lr": 10**400}, ValueError, "lr must be >= 0 and finite"),
    ("Adam", {"lr": "0.1"}, TypeError, "lr must be a number, got '0.1'"),
    ("Adam", {"lr": True}, TypeError, "lr must be a number, got True"),
    ("Adam", {"lr": None}, TypeError, "lr must be a number, got None"),
    ("Adam", {"lr": 1j}, TypeError, "lr must be a number"),
    ("Adam", {"lr": np.ones(1)}, TypeError, "lr must be a number"),
    ("Adam", {"betas": (0.9, 1.0)}, ValueError, r"betas\[1\] must be >= 0 and < 1, got 1.0"),
    ("Adam", {"betas": (-0.1, 0.9)}, ValueError, r"betas\[0\] must be >= 0 and < 1, got -0.1"),
    ("Adam", {"betas": (0.9,)}, ValueError, "betas must have length 2, got 1"),
    ("Adam", {"lr": 10**5000}, ValueError, "lr must be >= 0 and finite, got inf"),
    ("Adam", {"betas": b"ab"}, TypeError, "betas must be a sequence of 2 numbers, got b'ab'"),
    ("Adam", {"betas": {0.9: 1, 0.99: 2}}, TypeError, "betas must be a sequence of 2 numbers"),
    ("Adam", {"betas": 0.9}, TypeError, "betas must be a sequence of 2 numbers, got 0.9"),
    ("Adam", {"betas": np.array(0.9)}, TypeError, r"betas must be a sequence of 2 numbers, got array\(0.9\)"),
    ("Adam", {"betas": (0.9, "x")}, TypeError, r"betas\[1\] must be a number, got 'x'"),
    ("Adam", {"eps": -1e-8}, ValueError, "eps must be >= 0 and finite"),
    ("Adam", {"amsgrad": 1}, TypeError, "amsgrad must be True or False, got 1"),
    ("Adam", {"momentum": 0.9}, TypeError, r"Adam\(\) got an unexpected 'momentum'; it takes lr, betas, eps"),
    ("Adam", {"weight_decay": -1.0}, ValueError, "weight_decay must be >= 0 and finite, got -1.0"),
    ("Adam", {"grad_scale": np.inf}, ValueError, "grad_scale must be finite, got inf"),
    ("Adam", {"clip_value": -1.0}, ValueError, "clip_value must be >= 0 and finite, got -1.0"),
    ("Adam", {"clip_value": np.inf}, ValueError, "clip_value must be >= 0 and finite, got inf"),
    ("Adam", {"clip_value": np.nan}, ValueError, "clip_value must be >= 0 and finite, got nan"),
    ("Adam", {"clip_value": "1"}, TypeError, "clip_value must be a number, got '1'"),
    ("Adam", {"maximize": "yes"}, TypeError, "maximize must be True or False, got 'yes'"),
    ("Adadelta", {"rho": 1.5}, ValueError, "rho must be >= 0 and <= 1, got 1.5"),
    ("NAdam", {"momentum_decay": -1.0}, ValueError, "momentum_decay must be >= 0 and finite"),
    ("SGD", {"dampening": np.nan}, ValueError, "dampening must be finite, got nan"),
    ("SGD", {"nesterov": True}, ValueError, "nesterov=True needs momentum > 0, got 0.0"),
    (
        "SGD",
        {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
        ValueError,
        "nesterov=True needs dampening 0, got 0.1",
    ),
]


@pytest.mark.parametrize("cls, hyper, error, message", BAD_HYPER, ids=[f"{c}-{m}" for c, _, _, m in BAD_HYPER])
def test_bad_hyper_parameter(cls, hyper, error, message):
    with pytest.raises(error, match=message):
        getattr(ds, cls)(np.ones(2), **hyper)
    with pytest.raises(error, match=message.replace(r"Adam\(\)", "a group of params")):
        getattr(ds, cls)([{"params": [np.ones(2)], **hyper}])


@pytest.mark.parametrize("cls, hyper, error, message", BAD_HYPER, ids=[f"{c}-{m}" for c, _, _, m in BAD_HYPER])
def test_bad_hyper_parameter_set_later(cls, hyper, error, message):
    opt = getattr(ds, cls)(np.ones(2))
    before = dict(opt.param_groups[0])
    with pytest.raises(error, match=message.replace(r"Adam\(\)", "a parameter group")):
        opt.param_groups[0].update({"lr": 0.5} | hyper)
    np.testing.assert_equal(dict(opt.param_groups[0]), before)


# What holds for a whole optimizer.
BAD_SETTINGS = [
    ({"clip_norm": -1.0}, ValueError, "clip_norm must be >= 0 and finite, got -1.0"),
    ({"clip_norm": np.inf}, ValueError, "clip_norm must be >= 0 and finite, got inf"),
    ({"clip_norm": np.nan}, ValueError, "clip_norm must be >= 0 and finite, got nan"),
    ({"clip_norm": "1"}, TypeError, "clip_norm must be a number, got '1'"),
    ({"clip_norm": True}, TypeError, "clip_norm must be a number, got True"),
    ({"ema_decay": 1.0}, ValueError, "ema_decay must be >= 0 and < 1, got 1.0"),
    ({"ema_decay": -0.1}, ValueError, "ema_decay must be >= 0 and < 1, got -0.1"),
    ({"ema_decay": np.nan}, ValueError, "ema_decay must be >= 0 and < 1, got nan"),
    ({"ema_decay": [0.9]}, TypeError, r"ema_decay must be a number, got \[0.9\]"),
    ({"seed": -1}, ValueError, "seed must be >= 0 and <= 18446744073709551615, got -1"),
    ({"seed": 2**64}, ValueError, "seed must be >= 0 and <= 18446744073709551615, got 18446744073709551616"),
    ({"seed": 1.0}, TypeError, "seed must be an integer, got 1.0"),
    ({"seed": None}, TypeError, "seed must be an integer, got None"),
    ({"seed": True}, TypeError, "seed must be an integer, got True"),
    ({"nonfinite": "ignore"}, ValueError, "nonfinite must be 'propagate', 'raise' or 'skip', got 'ignore'"),
    ({"nonfinite": None}, TypeError, "nonfinite must be 'propagate', 'raise' or 'skip', got None"),
    ({"nonfinite": np.nan}, TypeError, "nonfinite must be 'propagate', 'raise' or 'skip', got nan"),
    ({"state_dtype": "float16"}, ValueError, "state_dtype must be None, 'bfloat16' or 'uint8', got 'float16'"),
    ({"state_dtype": np.uint8}, TypeError, "state_dtype must be None, 'bfloat16' or 'uint8', got <class"),
    ({"rounding": "up"}, ValueError, "rounding must be 'nearest' or 'stochastic', got 'up'"),
    ({"rounding": 1}, TypeError, "rounding must be 'nearest' or 'stochastic', got 1"),
]


@pytest.mark.parametrize("bad, error, message", BAD_SETTINGS, ids=[message for *_, message in BAD_SETTINGS])
def test_bad_setting(bad, error, message):
    """When it is given, and when it is set later."""
    message = f"^{message}"
    with pytest.raises(error, match=message):
        ds.Adam(np.ones(2), **bad)
    opt = ds.Adam([np.ones(2)], ema_decay=0.5)
    opt.step([np.ones(2)])
    before = snapshot(opt)
    ((name, value),) = bad.items()
    with pytest.raises(error, match=message):
        setattr(opt, name, value)
    assert snapshot(opt) == before


@pytest.mark.parametrize("name", settings.DEFAULTS)
def test_a_setting_in_a_group(name):
    """Even the default, since it would seem to hold for the group alone."""
    value = settings.DEFAULTS[name]
    message = rf"got '{name}', which holds for all groups: pass it to SGD\(\), or set .*, opt\.{name} = \.\.\.$"
    with pytest.raises(TypeError, match=f"^a group of params {message}"):
        ds.SGD([{"params": np.ones(2), name: value}])
    opt = ds.SGD([np.ones(2)])
    before = snapshot(opt)
    with pytest.raises(TypeError, match=f"^a group of params {message}"):
        opt.add_param_group({"params": np.ones(2), name: value})
    with pytest.raises(TypeError, match=f"^a parameter group {message}"):
        opt.param_groups[0].update({"lr": 0.5, name: value})
    assert snapshot(opt) == before


@pytest.mark.parametrize(
    "made, later, message",
    [
        ({}, {"state_dtype": "uint8"}, "state_dtype must stay None, got 'uint8': make another optimizer"),
        ({"state_dtype": "uint8"}, {"state_dtype": None}, "state_dtype must stay 'uint8', got None"),
        ({}, {"ema_decay": 0.9}, "ema_decay must stay None, got 0.9: whether there is an average is fixed when"),
        ({"ema_decay": 0.9}, {"ema_decay": None}, "ema_decay must stay a number, got None"),
    ],
)
def test_settings_that_are_fixed(made, later, message):
    opt = ds.Adam([np.ones(2)], **made)
    before = snapshot(opt)
    ((name, value),) = later.items()
    with pytest.raises(AttributeError, match=f"^{message}"):
        setattr(opt, name, value)
    with pytest.raises(ValueError, match=f"^state_dict: {message}"):
        opt.load_state_dict(ds.Adam([np.ones(2)], **{**made, **later}).state_dict())
    assert snapshot(opt) == before
    setattr(opt, name, made.get(name))  # as it is


def test_a_schedule_is_checked_when_it_is_called():
    p = np.ones(2)
    opt = ds.SGD(p, lr=lambda step: -1.0)
    with pytest.raises(ValueError, match="lr must be >= 0 and finite, got -1.0"):
        opt.step(np.ones(2))
    opt.lr = lambda step: "fast"
    with pytest.raises(TypeError, match="lr must be a number, got 'fast'"):
        opt.step(np.ones(2))
    assert (p == 1).all() and opt.step_count == 0


def test_groups_keep_their_entries():
    group = ds.SGD(np.ones(2)).param_groups[0]
    with pytest.raises(TypeError, match="cannot be deleted"):
        del group["lr"]
    with pytest.raises(TypeError, match="unexpected 'params'"):
        group["params"] = []
    with pytest.raises(KeyError):
        group["rl"]


def test_the_base_class_has_no_rule():
    with pytest.raises(TypeError, match="only the base"):
        ds.Optimizer(np.ones(2))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.update(rule="sgd"),
        lambda d: d.pop("state"),
        lambda d: d.pop("rule"),
        lambda d: d.update(step_count=-1),
        lambda d: d.update(step_count=1.5),
        lambda d: d.update(param_groups=[]),
        lambda d: d["param_groups"][0].update(lr=-1.0),
        lambda d: d["param_groups"][0].update(foo=1),
        lambda d: d["param_groups"][0].pop("eps"),
        lambda d: d["param_groups"][0].update(params=[0]),
        lambda d: d["state"].pop(1),
        lambda d: d["state"][1].pop("exp_avg"),
        lambda d: d["state"][1].update(more=np.ones(2)),
        lambda d: d["state"][1].update(step=-3),
        lambda d: d["state"][1].update(step=2**70),
        lambda d: d.update(step_count=2**70),
        lambda d: d["state"][1].update(exp_avg=np.ones(3)),
        lambda d: d["state"][1].update(exp_avg=np.ones((2, 2), np.float32)),
        lambda d: d["param_groups"][0].update(amsgrad=True),
        lambda d: d.update(state=7),
        lambda d: d.update(state={0: 1, 1: 2, 2: 3}),
        lambda d: d.pop("settings"),
        lambda d: d.pop("skipped_steps"),
        lambda d: d.update(skipped_steps=-1),
        lambda d: d["settings"].pop("seed"),
        lambda d: d["settings"].update(seed=-1),
        lambda d: d["settings"].update(nonfinite="maybe"),
        lambda d: d["settings"].update(clip_norm="1"),
        lambda d: d["settings"].update(state_dtype="uint8"),
        lambda d: d["settings"].update(ema_decay=0.5),
        lambda d: d["param_groups"][0].update(clip_value=-1.0),
    ],
)
def test_bad_state_dict(opt, spoil):
    saved = opt.state_dict()
    spoil(saved)
    before = snapshot(opt)
    with pytest.raises(ValueError, match="state_dict"):
        opt.load_state_dict(saved)
    assert snapshot(opt) == before


@pytest.mark.parametrize("saved", [None, 3, [], "x", {}])
def test_not_a_state_dict_at_all(opt, saved):
    with pytest.raises(ValueError, match="state_dict"):
        opt.load_state_dict(saved)


# ---- gradients of rows ----


BAD_ROWS = [
    ([0.0, 1.0], TypeError, "rows must be integers, got float64"),
    ([True, False], TypeError, "rows must be integers, got bool: pass numpy.flatnonzero of it"),
    (["0"], TypeError, "rows must be integers, got <U1"),
    ([None], TypeError, "rows must be integers, got object"),
    ([[0, 1]], ValueError, r"rows must have one axis, got shape \(1, 2\)"),
    (0, ValueError, r"rows must have one axis, got shape \(\)"),
    ([[0], [0, 1]], ValueError, "rows must be an array: .*inhomogeneous"),
    (np.ma.array([0, 1], mask=[False, True]), TypeError, "rows must not be a masked array: fill it first"),
    ([[]], ValueError, r"rows must have one axis, got shape \(1, 0\)"),
]


@pytest.mark.parametrize("rows, error, message", [pytest.param(*bad, id=bad[-1]) for bad in BAD_ROWS])
def test_bad_rows(rows, error, message):
    with pytest.raises(error, match=f"^{message}"):
        ds.RowGrad(rows, np.ones((2, 3)))
    with pytest.raises(AttributeError):
        ds.RowGrad([0, 1], np.ones((2, 3))).rows = rows


FLOATS, DOUBLES = np.ones((2, 3), np.float32), np.ones((2, 3))
BAD_ROW_GRADS = {
    "before the first": ("adam", {}, [1, -1], FLOATS, ValueError, r"grads\[1\].rows must be >= 0 and < 4, got -1$"),
    "after the last": ("adam", {}, [4, 1], FLOATS, ValueError, r"grads\[1\].rows must be >= 0 and < 4, got 4$"),
    "too few values": (
        "sgd",
        {},
        [1, 2, 3],
        FLOATS,
        ValueError,
        r"grads\[1\].values must have shape \(3, 3\), a row of its parameter for each of its rows, got \(2, 3\)$",
    ),
    "values of other rows": ("sgd", {}, [1, 2], FLOATS[:, :2], ValueError, r"shape \(2, 3\), .*, got \(2, 2\)$"),
    "values of one row": ("sgd", {}, [1], FLOATS[0], ValueError, r"shape \(1, 3\), .*, got \(3,\)$"),
    "unsafe cast": ("adagrad", {}, [1, 2], DOUBLES, TypeError, r"grads\[1\].values is float64.*safely to float32"),
    "integers": ("adamw", {}, [1, 2], DOUBLES.astype(int), TypeError, r"grads\[1\].values must have dtype .*int64"),
    "masked": ("adamw", {}, [1, 2], np.ma.array(FLOATS), TypeError, r"grads\[1\].values is a masked array"),
    "no array": ("sgd", {}, [1, 2], FLOATS.tolist(), TypeError, r"grads\[1\].values must be a NumPy array, got list"),
    "other rule": (
        "lion",
        {},
        [1, 2],
        FLOATS,
        ValueError,
        r"grads\[1\] is a RowGrad, which lion does not take: sgd, adagrad, adam and adamw do$",
    ),
    "8-bit state": (
        "adam",
        {"state_dtype": "uint8"},
        [1, 2],
        FLOATS,
        ValueError,
        r'grads\[1\] is a RowGrad, which .* state_dtype="uint8", .*: make the optimizer with "bfloat16" or None$',
    ),
    "average": (
        "sgd",
        {"ema_decay": 0.9},
        [1, 2],
        FLOATS,
        ValueError,
        r"grads\[1\] is a RowGrad, which cannot be used with ema_decay, .*: make the optimizer without it$",
    ),
}


@pytest.mark.parametrize("call", ["step", "bind", "accumulate"])
@pytest.mark.parametrize("what", BAD_ROW_GRADS)
def test_bad_gradient_of_rows(what, call, rng):
    name, options, rows, values, error, message = BAD_ROW_GRADS[what]
    opt = ds.OPTIMIZERS[name]([np.ones(3), rng.standard_normal((4, 3)).astype(np.float32)], lr=0.1, **options)
    opt.step([np.ones(3), np.ones((4, 3), np.float32)])
    before = snapshot(opt)
    with pytest.raises(error, match=message):
        getattr(opt, call)([np.ones(3), ds.RowGrad(rows, values)])
    assert snapshot(opt) == before


def test_rows_of_no_axis():
    opt = ds.SGD([np.ones(())])
    with pytest.raises(ValueError, match=r"grads\[0\] is a RowGrad, but its parameter has no rows: its shape is \(\)"):
        opt.step([ds.RowGrad([], np.ones(()))])


@pytest.mark.parametrize("rows", [[0, 2], []])
def test_rows_cannot_be_accumulated(rows):
    """Not even none of them."""
    opt = ds.SGD([np.ones(2), np.ones((4, 3))])
    opt.accumulate([np.ones(2), None])
    before = snapshot(opt)
    with pytest.raises(ValueError, match=r"grads\[1\] is a RowGrad, which cannot be accumulated: step by it, or pass"):
        opt.accumulate([np.ones(2), ds.RowGrad(rows, np.ones((len(rows), 3)))])
    assert snapshot(opt) == before
    opt.accumulate([None, np.ones((4, 3))])


def test_bound_rows_are_checked_at_every_step():
    p, rows, values = np.ones((4, 3)), np.array([0, 2]), np.ones((2, 3))
    opt = ds.SGD([p], lr=1.0)
    opt.bind([grad := ds.RowGrad(rows, values)])
    rows[1] = 7
    with pytest.raises(ValueError, match=r"grads\[0\].rows must be >= 0 and < 4, got 7"):
        opt.step()
    rows[1], grad.values = 1, np.ones((3, 3))
    with pytest.raises(ValueError, match=r"grads\[0\].values must have shape \(2, 3\)"):
        opt.step()
    assert (p == 1).all()
    grad.values = values
    opt.step()
    assert p[:, 0].tolist() == [0, 0, 1, 1]


# ---- accumulation ----


def test_nothing_to_accumulate(opt):
    before = snapshot(opt)
    with pytest.raises(RuntimeError, match=r"^accumulate\(\) has no gradients: pass them, or bind\(grads\) once"):
        opt.accumulate()
    assert snapshot(opt) == before


@pytest.mark.parametrize("what", BAD_GRADS)
def test_bad_gradient_to_accumulate(opt, what):
    i, bad, error, message = BAD_GRADS[what]
    grads = list(GOOD)
    grads[i] = bad
    opt.accumulate([*GOOD[:2], None, None])
    before = snapshot(opt)
    with pytest.raises(error, match=message):
        opt.accumulate(grads)
    assert snapshot(opt) == before


def test_gradients_passed_while_others_are_accumulated(opt):
    opt.accumulate(GOOD)
    before = snapshot(opt)
    with pytest.raises(RuntimeError, match=r"^step\(\) got gradients while others are accumulated: .* zero_grad\(\)$"):
        opt.step(GOOD)
    assert snapshot(opt) == before
    opt.step()
    opt.step(GOOD)
    assert opt.step_count == 3


# ---- what is not finite ----


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("way", ["passed", "bound", "accumulated"])
def test_a_gradient_that_is_not_finite(way, bad):
    params = [np.ones(3), np.ones(5000, np.float32), np.ones(4, np.float16)]
    opt = ds.Adam(params, nonfinite="raise", ema_decay=0.9, clip_norm=1.0, lr=lambda step: 0.1)
    grads = [np.ones_like(p) for p in params]
    opt.step(grads)
    grads[1][4999] = bad
    args = []
    if way == "passed":
        args = [grads]
    else:
        getattr(opt, "bind" if way == "bound" else "accumulate")(grads)
    before = snapshot(opt)
    with pytest.raises(FloatingPointError, match=r"^grads\[1\] has an element that is not finite"):
        opt.step(*args)
    assert snapshot(opt) == before


# ---- an interrupt ----

CHANGES = {
    "lr": lambda opt, _: setattr(opt, "lr", 0.5),
    "a setting": lambda opt, _: setattr(opt, "clip_norm", 0.25),
    "a group": lambda opt, _: opt.param_groups[1].update(lr=0.5, momentum=0.5),
    "a group's slots": lambda opt, _: opt.param_groups[0].update(momentum=0.0),
    "another group": lambda opt, _: opt.add_param_group({"params": np.ones(1), "lr": 0.5}),
    "load_state_dict": lambda opt, saved: opt.load_state_dict(saved),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_interrupt_leaves_the_old_or_the_new(change):
    """Wherever it comes; and what is applied is what is shown, of which a copy is made."""

    def made(**options):
        opt = ds.SGD([{"params": np.ones(3)}, {"params": np.ones(2)}], momentum=0.9, ema_decay=0.5, **options)
        opt.step([np.full(3, 2.0), np.ones(2)])
        return opt

    other = made(lr=0.125, clip_norm=0.5, nonfinite="skip", seed=3)
    other.step([np.full(3, np.nan), np.ones(2)])
    saved = other.state_dict()
    new = made()
    CHANGES[change](new, saved)
    allowed = [snapshot(made()), snapshot(new)]
    for at in itertools.count():
        opt = made()
        came = interrupted(lambda: CHANGES[change](opt, saved), at)
        assert snapshot(opt) in allowed
        twin = copy.deepcopy(opt)
        for each in (opt, twin):
            each.step([np.ones_like(p) for p in each.params])
        assert bits(opt.params) == bits(twin.params)
        if not came:
            break
    assert at > 1


# ---- while the parameters are elsewhere ----


def test_no_average_to_swap(opt):
    before = snapshot(opt)
    with pytest.raises(RuntimeError, match=r"^swap_ema\(\) without an average: make the optimizer with ema_decay$"):
        with opt.swap_ema():
            pass
    assert snapshot(opt) == before


ELSEWHERE = {
    "step": lambda opt: opt.step([np.ones(3), None]),
    "step by bound ones": lambda opt: opt.step(),
    "swap_ema": lambda opt: opt.swap_ema().__enter__(),
    "lookahead": lambda opt: opt.lookahead().__enter__(),
    "a copy": copy.deepcopy,
}


@pytest.mark.parametrize("where", ["swap_ema", "lookahead"])
@pytest.mark.parametrize("call", ELSEWHERE)
def test_what_must_not_happen_elsewhere(where, call):
    opt = ds.NAG([np.ones(3), np.ones(4, np.float16)], lr=0.1, ema_decay=0.5)
    opt.bind([np.ones(3), np.ones(4, np.float16)])
    opt.step()
    before = snapshot(opt)
    what = "a copy" if call == "a copy" else rf"{call.split()[0]}\(\)"
    message = rf"^{what} inside {where}\(\), where the parameters are not where they belong: leave it first$"
    with getattr(opt, where)():
        there = snapshot(opt)
        assert there["params"] != before["params"]
        with pytest.raises(RuntimeError, match=message):
            ELSEWHERE[call](opt)
        assert snapshot(opt) == there
    assert snapshot(opt) == before
    opt.step()


def test_accumulated_gradients_elsewhere():
    """They may be taken there, but applied only outside."""
    opt = ds.NAG([np.ones(3)], lr=0.1, ema_decay=0.5)
    opt.step([np.ones(3)])
    with opt.lookahead():
        opt.accumulate([2 * opt.params[0]])
        there = snapshot(opt)
        with pytest.raises(RuntimeError, match=r"^step\(\) inside lookahead\(\)"):
            opt.step()
        assert snapshot(opt) == there
    opt.step()
    assert opt.step_count == 2


@pytest.mark.parametrize("state_dtype", ["bfloat16", "uint8"])
def test_centered_needs_whole_state(state_dtype):
    """The difference of two rounded averages may be zero where the gradient is not, and a step divides by its root."""
    with pytest.raises(ValueError, match="^centered must be False with state_dtype="):
        ds.RMSprop(np.zeros(3), centered=True, state_dtype=state_dtype)
    opt = ds.RMSprop(np.zeros(3), state_dtype=state_dtype)
    with pytest.raises(ValueError, match="^centered must be False with state_dtype="):
        opt.param_groups[0]["centered"] = True
    assert opt.param_groups[0]["centered"] is False and set(opt.state) - {"square_avg_scale"} == {"square_avg", "step"}
