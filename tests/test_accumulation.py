"""Sums of gradients, and gradients that are not finite: what a step does with them, and what it leaves."""

import copy
import threading

import numpy as np
import pytest
from rule_cases import CASES, CODED_CASES, DTYPES, assert_same_bits, case_id, gradients

import downslope as ds


def bits(opt):
    """A copy of all that a step may change."""
    return copy.deepcopy((opt.params, opt.state_dict()))


# ---- accumulate ----


def test_the_mean_of_all_calls():
    """A gradient of None adds nothing, but its call counts; an array that got nothing is left alone."""
    params = [np.zeros(2), np.zeros(2), np.zeros(2)]
    opt = ds.SGD(params, lr=1.0, weight_decay=0.0, momentum=0.5)
    opt.accumulate([np.array([1.0, 2.0]), None, None])
    opt.accumulate([np.array([3.0, 4.0]), np.array([8.0, 0.0]), None])
    opt.accumulate([None, None, None])
    opt.accumulate([np.array([0.0, 2.0]), None, None])
    assert all((p == 0).all() for p in params) and opt.step_count == 0
    opt.step()
    assert [p.tolist() for p in params] == [[-1.0, -2.0], [-2.0, 0.0], [0.0, 0.0]]
    assert [int(slots["step"]) for slots in opt.state] == [1, 1, 0] and opt.step_count == 1


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_one_call_and_a_step_are_a_step(case, rng):
    name, hyper = case
    start = [rng.standard_normal(n).astype(t) for n, t in ((1500, np.float32), (3, np.float16))]
    direct, summed = (
        ds.OPTIMIZERS[name]([p.copy() for p in start], weight_decay=0.1, clip_norm=1.0, **hyper) for _ in range(2)
    )
    for _ in range(4):
        grads = gradients(rng, start)
        direct.step(grads)
        summed.accumulate(grads)
        summed.step()
    for p, q in zip(direct.params, summed.params, strict=True):
        assert_same_bits(p, q)
    np.testing.assert_equal(direct.state_dict(), summed.state_dict())
    assert direct.last_grad_norm == summed.last_grad_norm


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_parts_of_a_batch_are_the_batch(case, dtype, rng):
    """The mean of gradients that can be added and divided exactly is their mean to the bit."""
    name, hyper = case
    start = rng.standard_normal(300).astype(DTYPES[dtype])
    whole, parts = (
        ds.OPTIMIZERS[name](start.copy(), ema_decay=0.9, seed=3, rounding="stochastic", **hyper) for _ in "ab"
    )
    for _ in range(3):
        batch = rng.integers(-8, 9, (4, 300)).astype(DTYPES[dtype])
        whole.step(batch.astype(np.float32).mean(0))
        for g in batch:
            parts.accumulate(g)
        parts.step()
    assert_same_bits(whole.params, parts.params)
    np.testing.assert_equal(whole.state_dict(), parts.state_dict())


def test_gradients_are_added_when_they_are_given():
    """What is written into them afterwards does not count, and they are not written."""
    p, g = np.zeros(3), np.array([1.0, 2.0, 3.0])
    opt = ds.SGD(p, lr=1.0)
    opt.accumulate(g)
    g[:] = 5.0
    opt.accumulate(g)
    assert g.tolist() == [5.0, 5.0, 5.0]
    g[:] = np.nan
    opt.step()
    assert p.tolist() == [-3.0, -3.5, -4.0]


def test_bound_gradients():
    """They are added by accumulate(), applied by step() where nothing is added up, and they stay the caller's."""
    p, g = np.zeros(2), np.array([1.0, 2.0])
    opt = ds.SGD(p, lr=1.0)
    opt.bind(g)
    opt.accumulate()
    g += 2
    opt.accumulate()
    opt.accumulate(np.array([5.0, 0.0]))  # others, among them
    opt.step()
    assert p.tolist() == [-3.0, -2.0]
    opt.step()
    assert p.tolist() == [-6.0, -6.0] and g.tolist() == [3.0, 4.0]
    opt.accumulate()
    opt.zero_grad()
    assert g.tolist() == [3.0, 4.0]
    g[:] = 1.0
    opt.step()
    assert p.tolist() == [-7.0, -7.0]


def test_nothing_bound():
    opt = ds.SGD(np.zeros(2))
    with pytest.raises(RuntimeError, match=r"accumulate\(\) has no gradients: pass them, or bind\(grads\) once"):
        opt.accumulate()
    with pytest.raises(RuntimeError, match=r"step\(\) has no gradients"):
        opt.step()  # the failed call did not count


def test_gradients_while_others_are_added_up():
    p = np.zeros(2)
    opt = ds.SGD(p, lr=1.0)
    opt.accumulate(np.ones(2))
    with pytest.raises(RuntimeError, match=r"step\(\) got gradients while others are accumulated"):
        opt.step(np.ones(2))
    assert (p == 0).all() and opt.step_count == 0
    opt.step()
    assert (p == -1).all()
    opt.step(np.ones(2))
    assert (p == -2).all()


def test_zero_grad_forgets():
    p = np.zeros(2)
    opt = ds.SGD(p, lr=1.0)
    opt.zero_grad()
    opt.accumulate(np.ones(2))
    opt.zero_grad()
    with pytest.raises(RuntimeError, match=r"step\(\) has no gradients"):
        opt.step()
    opt.accumulate(np.full(2, 3.0))
    opt.step()
    assert (p == -3).all()


@pytest.mark.parametrize(
    "bad, error",
    [
        ([np.ones(2), np.ones(4)], ValueError),
        ([np.ones(2)], ValueError),
        ([np.ones(2), np.ones(3, int)], TypeError),
        ([np.ones(2), "no array"], TypeError),
        (np.ones(2), ValueError),
    ],
)
def test_a_call_that_raises_has_added_nothing(bad, error):
    """To no array, the first time and later; nor has it counted."""
    params = [np.zeros(2), np.zeros(3)]
    opt = ds.SGD(params, lr=1.0)
    for _ in range(2):
        with pytest.raises(error):
            opt.accumulate(bad)
        opt.accumulate([np.ones(2), np.ones(3)])
    with pytest.raises(ValueError, match="shares memory"):
        opt.accumulate([np.ones(2), params[1]])
    opt.step()
    assert all((p == -1).all() for p in params)


def test_arrays_that_come_while_sums_wait():
    """They have got nothing of the calls before, which count for the mean nevertheless."""
    first, second = np.zeros(2), np.zeros(1)
    opt = ds.SGD([first], lr=1.0)
    opt.accumulate([np.ones(2)])
    opt.add_param_group({"params": second, "lr": 0.5})
    opt.accumulate([np.ones(2), np.array([4.0])])
    opt.step()
    assert first.tolist() == [-1.0, -1.0] and second.tolist() == [-1.0]
    opt.accumulate([np.ones(2), None])
    third = np.zeros(3)
    opt.add_param_group({"params": third})
    opt.step()
    assert first.tolist() == [-2.0, -2.0] and second.tolist() == [-1.0] and third.tolist() == [0.0] * 3


def test_hyper_parameters_and_settings_may_change_while_sums_wait():
    """Those of the step hold; what asks for other state, too."""
    p = np.zeros(2)
    opt = ds.SGD(p, lr=5.0)
    opt.accumulate(np.ones(2))
    opt.param_groups[0].update(lr=1.0, momentum=0.5)
    opt.clip_norm = 1e6
    opt.accumulate(np.full(2, 3.0))
    opt.step()
    assert p.tolist() == [-2.0, -2.0] and opt.last_grad_norm == pytest.approx(np.sqrt(8))
    assert opt.state["momentum_buffer"].tolist() == [2.0, 2.0]


def test_a_schedule_goes_by_steps_not_by_calls():
    asked = []

    def lr(step):
        asked.append(step)
        return 1.0 / step

    p = np.zeros(1)
    opt = ds.SGD(p, lr=lr)
    for _ in range(2):
        for _ in range(3):
            opt.accumulate(np.full(1, 6.0))
        assert asked == list(range(1, opt.step_count + 1))
        opt.step()
    assert asked == [1, 2] and p.tolist() == [-9.0]


def test_sums_are_no_part_of_a_state_dict():
    opt = ds.SGD(np.zeros(2), lr=1.0)
    before = opt.state_dict()
    opt.accumulate(np.ones(2))
    np.testing.assert_equal(opt.state_dict(), before)
    opt.load_state_dict(before)  # and loading one leaves them
    opt.step()
    assert (opt.params == -1).all()


def test_a_copy_has_sums_of_its_own():
    opt = ds.SGD(np.zeros(2), lr=1.0)
    opt.accumulate(np.ones(2))
    twin = copy.deepcopy(opt)
    twin.accumulate(np.full(2, 5.0))
    opt.step()
    twin.step()
    assert opt.params.tolist() == [-1.0, -1.0] and twin.params.tolist() == [-3.0, -3.0]


def test_steps_of_two_threads_by_the_same_sums():
    """One applies them; to the other it is as if there had never been any."""
    opt = ds.SGD(np.zeros(400_000), lr=1.0)
    grads = np.ones(400_000)
    for round_ in range(20):
        opt.accumulate(grads)
        errors, start = [], threading.Barrier(2)

        def step():
            start.wait()  # noqa: B023
            try:
                opt.step()
            except Exception as error:
                errors.append(error)  # noqa: B023

        threads = [threading.Thread(target=step) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [type(error) for error in errors] == [RuntimeError] and "no gradients" in str(errors[0])
        assert opt.step_count == round_ + 1
    assert (opt.params == -20).all()


# ---- gradients that are not finite ----


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("structure", ["list", "mapping", "array"])
def test_raise_names_the_array_and_changes_nothing(structure, value, rng):
    params, grads, name = {
        "list": ([np.ones(2), np.ones((2, 2))], [np.ones(2), np.array([[1, 1], [value, 1]])], r"grads\[1\]"),
        "mapping": ({"a": np.ones(2), "b": np.ones(1)}, {"b": np.array([value]), "a": np.ones(2)}, r"grads\['b'\]"),
        "array": (np.ones(2), np.array([value, 1]), "grads"),
    }[structure]
    opt = ds.Adam(params, nonfinite="raise", ema_decay=0.5)
    before = bits(opt)
    for call in (lambda: opt.step(grads), lambda: (opt.bind(grads), opt.step())):
        with pytest.raises(FloatingPointError, match=f"^{name} has an element that is not finite$"):
            call()
    np.testing.assert_equal(bits(opt), before)
    assert (opt.step_count, opt.skipped_steps) == (0, 0)


def test_the_first_of_several_is_named():
    opt = ds.SGD([np.ones(2)] * 0 + [np.ones(2) for _ in range(4)], nonfinite="raise")
    with pytest.raises(FloatingPointError, match=r"^grads\[2\]"):
        opt.step([np.ones(2), None, np.full(2, np.inf), np.full(2, np.nan)])


@pytest.mark.parametrize("case", CODED_CASES, ids=case_id)
def test_skip_changes_nothing_but_a_count(case, rng):
    name, hyper = case
    params = [rng.standard_normal(700), rng.standard_normal(5).astype(np.float16)]
    opt = ds.OPTIMIZERS[name](params, nonfinite="skip", state_dtype="uint8", ema_decay=0.9, **hyper)
    opt.step(gradients(rng, params))
    norm = opt.last_grad_norm
    for count in (1, 2):
        before = bits(opt)
        grads = gradients(rng, params)
        grads[count - 1][3] = np.nan
        opt.step(grads)
        assert opt.skipped_steps == count and opt.step_count == 1 and opt.last_grad_norm == norm
        before[1]["skipped_steps"] += 1
        np.testing.assert_equal(bits(opt), before)
    opt.step(gradients(rng, params))
    assert (opt.step_count, opt.skipped_steps) == (2, 2)


def test_what_is_spoiled_by_the_scale_is_not_what_is_looked_at():
    """`nonfinite` is about what was given."""
    p = np.zeros(2, np.float32)
    opt = ds.SGD(p, lr=1.0, grad_scale=1e10, nonfinite="raise")
    opt.step(np.array([1.0, 3e38], np.float32))
    assert p.tolist() == [-1e10, -np.inf]
    opt = ds.SGD(p, lr=1.0, clip_value=1.0, nonfinite="raise")
    with pytest.raises(FloatingPointError):
        opt.step(np.array([1.0, np.inf], np.float32))


def test_skip_clears_sums_and_raise_keeps_them():
    params = [np.zeros(2), np.zeros(2)]
    opt = ds.SGD(params, lr=1.0, nonfinite="raise")
    good, bad = [np.ones(2), np.ones(2)], [np.ones(2), np.array([1.0, np.inf])]
    opt.accumulate(good)
    opt.accumulate(bad)
    for _ in range(2):
        with pytest.raises(FloatingPointError, match=r"^grads\[1\] has an element that is not finite$"):
            opt.step()
    with pytest.raises(RuntimeError, match="while others are accumulated"):
        opt.step(good)
    opt.nonfinite = "skip"
    opt.step()
    assert (opt.step_count, opt.skipped_steps) == (0, 1)
    with pytest.raises(RuntimeError, match="no gradients"):
        opt.step()
    opt.step(good)
    assert all((p == -1).all() for p in params)


def test_a_sum_that_overflows_is_not_finite():
    """Though its parts are: the sum is what would be applied."""
    opt = ds.SGD(np.zeros(1, np.float32), nonfinite="skip")
    for _ in range(2):
        opt.accumulate(np.full(1, 3e38, np.float32))
    opt.step()
    assert opt.skipped_steps == 1 and (opt.params == 0).all()


def test_a_schedule_is_asked_again_for_a_step_that_was_skipped():
    asked = []
    opt = ds.SGD(np.zeros(1), lr=lambda step: asked.append(step) or 1.0, nonfinite="skip")
    for value in (1.0, np.nan, 1.0):
        opt.step(np.full(1, value))
    assert asked == [1, 2, 2]


def test_the_last_norm():
    """None where no option needs it; a number, of scaled gradients before they are clipped, where one does."""
    p = np.zeros(2)
    opt = ds.SGD(p, grad_scale=2.0)
    assert opt.last_grad_norm is None
    opt.step(np.array([3.0, 4.0]))
    assert opt.last_grad_norm is None
    for option in ({"clip_norm": 1.0}, {"clip_norm": 1e9}, {"nonfinite": "raise"}, {"nonfinite": "skip"}):
        opt = ds.SGD(p, grad_scale=2.0, **option)
        assert opt.last_grad_norm is None
        opt.step(np.array([3.0, 4.0]))
        assert opt.last_grad_norm == 10.0 and type(opt.last_grad_norm) is float
        opt.accumulate(np.array([3.0, 4.0]))
        opt.accumulate(np.array([-3.0, 4.0]))
        opt.step()
        assert opt.last_grad_norm == 8.0
        opt.step(np.zeros(2))
        assert opt.last_grad_norm == 0.0
    opt.nonfinite = "propagate"
    opt.step(np.ones(2))
    assert opt.last_grad_norm is None


def test_a_norm_of_infinity_or_nan():
    """An infinite gradient, clipped by norm, is what NumPy makes of it: zeros, and a NaN where it was infinite."""
    p = np.zeros(3)
    opt = ds.SGD(p, lr=1.0, clip_norm=1.0)
    opt.step(np.array([1.0, np.inf, 2.0]))
    assert opt.last_grad_norm == np.inf
    np.testing.assert_equal(p, [0.0, np.nan, 0.0])
    p[:] = 0.0
    opt.step(np.array([1.0, np.nan, 30.0]))  # no comparison with a NaN holds, so nothing is clipped
    assert np.isnan(opt.last_grad_norm)
    np.testing.assert_equal(p, [-1.0, np.nan, -30.0])
