"""The average of the parameters: where it is, what moves it, and how it takes their place for a while."""

import copy
import itertools

import numpy as np
import pytest
from interrupts import interrupted
from rule_cases import CASES, DTYPES, LAYOUTS, assert_same_bits, case_id, in_c_order

import downslope as ds


def test_it_has_the_structure_of_params():
    w, b = np.array([[1.0, 2.0]]), np.array(3.0, np.float32)
    (one,) = [ds.SGD(w, ema_decay=0.9).ema]
    assert isinstance(one, np.ndarray) and one.tolist() == [[1.0, 2.0]]
    assert [e.tolist() for e in ds.SGD([w, b], ema_decay=0.9).ema] == [[[1.0, 2.0]], 3.0]
    assert [e.tolist() for e in ds.SGD([{"params": [w]}, {"params": b}], ema_decay=0.9).ema] == [[[1.0, 2.0]], 3.0]
    named = ds.SGD({"w": w, "b": b}, ema_decay=0.9).ema
    assert list(named) == ["w", "b"] and named["b"].shape == () and named["b"].dtype == np.float32
    assert ds.SGD({"w": w, "b": b}).ema is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_its_memory_is_its_own_and_of_float32_or_wider(dtype, rng):
    p = rng.standard_normal((30, 20)).astype(DTYPES[dtype])
    opt = ds.SGD(p, ema_decay=0.5)
    assert opt.ema.dtype == (np.float64 if dtype == "float64" else np.float32) and opt.ema.shape == p.shape
    assert not np.shares_memory(opt.ema, p)
    assert_same_bits(opt.ema, p.astype(opt.ema.dtype))
    opt.ema[...] = 7.0  # what is written into it counts
    opt.step(np.zeros(p.shape, np.float32))
    np.testing.assert_allclose(opt.ema, (7 + p.astype(float)) / 2, rtol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_it_is_the_weighted_sum_of_where_the_parameters_were(decay, rng):
    p = rng.standard_normal(40)
    opt = ds.Adam(p, lr=0.1, ema_decay=decay)
    expected = p.copy()
    for _ in range(30):
        opt.step(rng.standard_normal(40))
        expected = decay * expected + (1 - decay) * p
    np.testing.assert_allclose(opt.ema, expected, rtol=1e-12, atol=1e-12)


def test_arrays_that_a_step_skips_do_not_advance(rng):
    params = [np.ones(3), np.ones(3)]
    opt = ds.SGD(params, lr=1.0, ema_decay=0.5, nonfinite="skip")
    opt.step([np.ones(3), np.ones(3)])
    params[1][:] = 9.0
    opt.step([np.ones(3), None])
    assert opt.ema[0].tolist() == [-0.25] * 3 and opt.ema[1].tolist() == [0.5] * 3
    before = copy.deepcopy(opt.ema)
    opt.step([np.ones(3), np.array([0, np.nan, 0])])
    opt.step([None, None])
    opt.accumulate([np.ones(3), np.ones(3)])
    np.testing.assert_equal(opt.ema, before)
    assert (opt.skipped_steps, opt.step_count) == (1, 2)
    opt.nonfinite = "raise"
    with pytest.raises(FloatingPointError):
        opt.accumulate([np.ones(3), np.array([0, np.nan, 0])])
        opt.step()
    np.testing.assert_equal(opt.ema, before)


def test_arrays_that_come_later_start_where_they_are():
    opt = ds.SGD({"w": np.ones(2)}, lr=1.0, ema_decay=0.5)
    opt.step({"w": np.ones(2)})
    opt.add_param_group({"params": {"b": np.full(1, 4.0, np.float16)}})
    assert opt.ema["w"].tolist() == [0.5, 0.5] and opt.ema["b"].tolist() == [4.0]
    opt.step({"w": np.ones(2), "b": np.ones(1, np.float16)})
    assert opt.ema["w"].tolist() == [-0.25, -0.25] and opt.ema["b"].tolist() == [3.5]


def test_the_decay_may_change_but_not_whether_there_is_one():
    p = np.zeros(1)
    opt = ds.SGD(p, lr=1.0, ema_decay=0.5)
    opt.ema_decay = 0.0
    opt.step(np.ones(1))
    assert opt.ema.tolist() == [-1.0]
    with pytest.raises(AttributeError, match="ema_decay must stay a number, got None"):
        opt.ema_decay = None
    with pytest.raises(AttributeError, match="ema_decay must stay None, got 0.5"):
        ds.SGD(p).ema_decay = 0.5
    for bad in (-0.1, 1.0, np.nan):
        with pytest.raises(ValueError, match="ema_decay must be >= 0 and < 1"):
            opt.ema_decay = bad
    assert opt.ema_decay == 0.0


def test_gradients_must_not_share_memory_with_it():
    opt = ds.SGD([np.ones(3)], ema_decay=0.5)
    with pytest.raises(ValueError, match=r"grads\[0\] shares memory with the average of params\[0\]: pass a copy"):
        opt.step(opt.ema)
    with pytest.raises(ValueError, match="share memory"):
        opt.add_param_group({"params": opt.ema})


# ---- in place of the parameters ----


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_swap_and_back(dtype, layout, rng):
    param = LAYOUTS[layout](DTYPES[dtype])
    param[...] = rng.standard_normal(param.shape)
    opt = ds.Adam([param], lr=0.1, ema_decay=0.9)
    opt.step([rng.standard_normal(param.shape).astype(np.float32)])
    before, average = param.copy(), opt.ema[0].copy()
    with opt.swap_ema() as nothing:
        assert nothing is None
        assert_same_bits(in_c_order(param), in_c_order(average.astype(param.dtype)))  # to the nearest
        assert param.size == 0 or (in_c_order(param) != in_c_order(before)).any()
    assert_same_bits(in_c_order(param), in_c_order(before))
    assert_same_bits(in_c_order(opt.ema[0]), in_c_order(average))


STRUCTURES = {
    "list": lambda w, b: [w, b],
    "mapping": lambda w, b: {"w": w, "b": b},
    "groups": lambda w, b: [{"params": w}, {"params": [b], "momentum": 0.9}],
}


@pytest.mark.parametrize("structure", STRUCTURES)
def test_swap_in_every_structure(structure):
    params = [np.arange(3.0), np.arange(4, dtype=np.float16).reshape(2, 2)]
    opt = ds.SGD(STRUCTURES[structure](*params), lr=1.0, ema_decay=0.5)
    grads = [np.ones(3), np.ones((2, 2), np.float16)]
    opt.step({"w": grads[0], "b": grads[1]} if structure == "mapping" else grads)
    before = [p.copy() for p in params]
    with opt.swap_ema():
        for p, q in zip(params, before, strict=True):
            assert_same_bits(p, q + p.dtype.type(0.5))
    for p, q in zip(params, before, strict=True):
        assert_same_bits(p, q)


def test_any_bits_are_restored():
    """Those of a NaN with its payload, of a negative zero and of subnormal numbers."""
    bits = np.array([0x7FF8_0000_DEAD_BEEF, 0x8000_0000_0000_0000, 1, 0xFFF0_0000_0000_0000], np.uint64)
    p = bits.view(np.float64).copy()
    opt = ds.SGD(p, ema_decay=0.5)
    with opt.swap_ema():
        p[:] = 3.0
    assert (p.view(np.uint64) == bits).all()


def test_an_exception_inside_is_passed_on_and_the_bits_are_restored():
    p = np.ones(2)
    opt = ds.SGD(p, lr=1.0, ema_decay=0.5)
    opt.step(np.ones(2))
    with pytest.raises(ZeroDivisionError), opt.swap_ema():
        p += 1 / 0
    assert p.tolist() == [0.0, 0.0]
    opt.step(np.ones(2))
    assert p.tolist() == [-1.0, -1.0]


def test_what_may_not_happen_inside():
    """Steps, copies, and another swap; afterwards everything is as it was, and goes on."""
    p = np.ones(2)
    opt = ds.SGD(p, lr=1.0, ema_decay=0.5)
    opt.bind(np.ones(2))
    opt.step()
    with opt.swap_ema():
        for call in (opt.step, lambda: opt.step(np.ones(2)), lambda: copy.deepcopy(opt), opt.swap_ema().__enter__):
            with pytest.raises(
                RuntimeError, match=r"inside swap_ema\(\), where the parameters are not where they belong"
            ):
                call()
        assert p.tolist() == [0.5, 0.5]
        opt.accumulate()  # which moves nothing
        with pytest.raises(RuntimeError, match=r"step\(\) inside swap_ema\(\)"):
            opt.step()
        opt.accumulate(np.full(2, 3.0))
        opt.state_dict()
    assert p.tolist() == [0.0, 0.0] and opt.step_count == 1
    opt.step()
    assert p.tolist() == [-2.0, -2.0]


def test_lookahead_and_swap_do_not_nest():
    opt = ds.NAG(np.ones(2), ema_decay=0.5)
    with opt.lookahead(), pytest.raises(RuntimeError, match=r"swap_ema\(\) inside lookahead\(\)"), opt.swap_ema():
        pass
    with opt.swap_ema(), pytest.raises(RuntimeError, match=r"lookahead\(\) inside swap_ema\(\)"), opt.lookahead():
        pass


@pytest.mark.parametrize("where", ["swap_ema", "lookahead"])
def test_an_interrupt_leaves_no_parameter_elsewhere(where):
    """Neither on the way in nor inside nor on the way out; and everything goes on."""
    params = [np.ones(2), np.ones(3, np.float16), np.ones((2, 2), DTYPES["bfloat16"])]
    opt = ds.NAG(params, lr=0.25, ema_decay=0.5)
    grads = [np.ones_like(p) for p in params]
    opt.step(grads)

    def visit():
        with getattr(opt, where)():
            assert all((p != q).all() for p, q in zip(params, before, strict=True))
            for p in params:
                p[...] = 3

    for at in itertools.count():
        before = [p.copy() for p in params]
        came = interrupted(visit, at, __file__)
        for p, q in zip(params, before, strict=True):
            assert_same_bits(p, q)
        opt.step(grads)
        if not came:
            break
    assert at > 10


@pytest.mark.parametrize("where", ["swap_ema", "lookahead"])
def test_what_is_dropped_without_an_exit(where):
    """Which an interrupt may bring about."""
    p = np.ones(2)
    opt = ds.NAG(p, lr=1.0, ema_decay=0.5)
    opt.step(np.ones(2))
    elsewhere = getattr(opt, where)()
    elsewhere.__enter__()
    assert p.tolist() != [0.0, 0.0]
    del elsewhere
    assert p.tolist() == [0.0, 0.0]
    opt.step(np.ones(2))


def test_where_a_place_cannot_be_found():
    """No parameter has moved then, the ones before it neither."""
    params = [np.zeros(1, np.float16), np.full(1, 3e4, np.float16)]
    opt = ds.NAG(params, lr=1.0, momentum=4.0)
    opt.step([np.ones(1, np.float16), np.full(1, -1e4, np.float16)])
    before = [p.tolist() for p in params]
    with np.errstate(over="raise"), pytest.raises(FloatingPointError), opt.lookahead():
        pytest.fail("came in")
    assert [p.tolist() for p in params] == before


def test_without_an_average():
    with pytest.raises(RuntimeError, match=r"swap_ema\(\) without an average: make the optimizer with ema_decay"):
        with ds.SGD(np.ones(2)).swap_ema():
            pass


def test_where_a_parameter_cannot_be_written():
    """Nothing is left displaced, neither going in nor coming out."""
    params = [np.ones(2), np.ones(2)]
    opt = ds.SGD(params, lr=1.0, ema_decay=0.5)
    opt.step([np.ones(2), np.ones(2)])
    params[1].flags.writeable = False
    with pytest.raises(ValueError, match="read-only"), opt.swap_ema():
        pytest.fail("came in")
    params[1].flags.writeable = True
    assert [p.tolist() for p in params] == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match="read-only"), opt.swap_ema():
        params[0].flags.writeable = False
    assert params[1].tolist() == [0, 0]
    params[0].flags.writeable = True
    params[0][:] = 0.0
    opt.step([np.ones(2), np.ones(2)])
    assert [p.tolist() for p in params] == [[-1, -1], [-1, -1]]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_a_swap_between_steps_changes_nothing(case, rng):
    name, hyper = case
    grads = [rng.standard_normal(50).astype(np.float32) for _ in range(6)]
    start = rng.standard_normal(50).astype(DTYPES["bfloat16"])
    with_swaps, without = (ds.OPTIMIZERS[name](start.copy(), ema_decay=0.9, **hyper) for _ in range(2))
    for g in grads:
        with_swaps.step(g)
        without.step(g)
        with with_swaps.swap_ema():
            pass
    assert_same_bits(with_swaps.params, without.params)
    np.testing.assert_equal(with_swaps.state_dict(), without.state_dict())
