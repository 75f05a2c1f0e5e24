"""Promise 2 and the table of errors: the class, the message, and that a call that raises has changed nothing."""

import copy
import re
import warnings

import numpy as np
import pytest

import downslope as ds


def snapshot(opt):
    return copy.deepcopy((opt.params, [{k: v.tobytes() for k, v in s.items()} for s in opt.state], opt.step_count))


@pytest.fixture
def opt():
    """Three arrays with some history."""
    opt = ds.Adam([np.ones(3, np.float32), np.ones((2, 2)), np.ones(5)], lr=0.1)
    opt.step([np.ones(3, np.float32), np.ones((2, 2)), np.ones(5)])
    return opt


GOOD = [np.ones(3, np.float32), np.ones((2, 2)), np.ones(5)]
SWAPPED = np.dtype(np.float64).newbyteorder()

BAD_GRADS = {
    "not an array": (2, [1.0] * 5, TypeError, r"grads\[2\] must be a NumPy array, got list"),
    "a scalar": (2, np.float64(1), TypeError, r"grads\[2\] must be a NumPy array, got float64"),
    "integers": (
        2,
        np.ones(5, int),
        TypeError,
        r'grads\[2\] must have dtype float32 or float64, got int64.*astype\("float64"\)',
    ),
    "bools": (2, np.ones(5, bool), TypeError, "got bool"),
    "complex": (2, np.ones(5, complex), TypeError, "got complex128$"),
    "objects": (2, np.ones(5, object), TypeError, "got object"),
    "strings": (2, np.array(["1"] * 5), TypeError, "got <U1"),
    "records": (2, np.zeros(5, [("a", "f8")]), TypeError, "must have dtype"),
    "long double": (2, np.ones(5, np.longdouble), TypeError, "must have dtype"),
    "half": (2, np.ones(5, np.float16), TypeError, "got float16"),
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
    np.testing.assert_equal(snapshot(opt), before)
    with pytest.raises(RuntimeError, match="bind"):
        opt.step()


def test_a_bad_binding_leaves_the_old_one(opt):
    opt.bind(GOOD)
    with pytest.raises(TypeError):
        opt.bind([*GOOD[:2], "no array"])
    opt.step()
    assert opt.step_count == 2


@pytest.mark.parametrize(
    "grads, message",
    [
        (GOOD[:2], "must have 3 arrays, as params has, got 2"),
        ([*GOOD, None], "must have 3 arrays, as params has, got 4"),
        (np.ones((3, 3)), "must be a list or tuple of arrays, as params is, got one array"),
        ({"a": GOOD[0]}, "got a dict"),
    ],
)
def test_structure_of_a_sequence(opt, grads, message):
    before = snapshot(opt)
    with pytest.raises(ValueError, match=message):
        opt.step(grads)
    np.testing.assert_equal(snapshot(opt), before)


@pytest.mark.parametrize(
    "grads, message",
    [
        ({"w": np.ones(2)}, "'b' is missing .None leaves it alone.$"),
        ({"w": np.ones(2), "c": np.ones(1)}, "'b' is missing .*, 'c' is unexpected$"),
        ({"w": np.ones(2), "b": np.ones(1), "c": None}, "params: 'c' is unexpected$"),
        ([np.ones(2), np.ones(1)], "must be a mapping from names to arrays, as params is, got a list"),
    ],
)
def test_structure_of_a_mapping(grads, message):
    opt = ds.SGD({"w": np.ones(2), "b": np.ones(1)})
    with pytest.raises(ValueError, match=message):
        opt.step(grads)
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
    opt = ds.SGD({"a": a, "b": b}, lr=0.1, momentum=0.9)
    with pytest.raises(ValueError, match=r"grads\['a'\] shares memory with params\['b'\]"):
        opt.step({"a": b, "b": a})
    with pytest.raises(ValueError, match=r"grads\['b'\] shares memory with params\['b'\]"):
        opt.step({"a": np.ones(4), "b": b[::-1]})
    with pytest.raises(ValueError, match=r"grads\['a'\] shares memory with the state of params\['b'\]"):
        opt.step({"a": opt.state["b"]["momentum_buffer"], "b": None})
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
        r'params must have dtype float32 or float64, got int64: convert it first, w = w.astype\("float64"\)',
    ),
    "bools": (np.ones(2, bool), TypeError, "got bool"),
    "complex": (np.ones(2, complex), TypeError, "got complex128"),
    "objects": (np.ones(2, object), TypeError, "got object"),
    "half": (np.ones(2, np.float16), TypeError, "got float16"),
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
    with pytest.raises(RuntimeError, match=r"pass them, or bind\(grads\) once"):
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
    ("Adam", {"betas": (0.9, "x")}, TypeError, r"betas\[1\] must be a number, got 'x'"),
    ("Adam", {"eps": -1e-8}, ValueError, "eps must be >= 0 and finite"),
    ("Adam", {"amsgrad": 1}, TypeError, "amsgrad must be True or False, got 1"),
    ("Adam", {"momentum": 0.9}, TypeError, r"Adam\(\) got an unexpected 'momentum'; it takes lr, betas, eps"),
    ("Adam", {"weight_decay": -1.0}, ValueError, "weight_decay must be >= 0 and finite, got -1.0"),
    ("Adam", {"grad_scale": np.inf}, ValueError, "grad_scale must be finite, got inf"),
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
    ],
)
def test_bad_state_dict(opt, spoil):
    saved = opt.state_dict()
    spoil(saved)
    before, groups = snapshot(opt), [dict(g) for g in opt.param_groups]
    with pytest.raises(ValueError, match="state_dict"):
        opt.load_state_dict(saved)
    np.testing.assert_equal(snapshot(opt), before)
    np.testing.assert_equal([dict(g) for g in opt.param_groups], groups)


@pytest.mark.parametrize("saved", [None, 3, [], "x", {}])
def test_not_a_state_dict_at_all(opt, saved):
    with pytest.raises(ValueError, match="state_dict"):
        opt.load_state_dict(saved)
