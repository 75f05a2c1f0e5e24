"""Gradients of some rows: equal to the reference bit for bit, and all other rows stand still."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rule_cases import (
    DTYPES,
    ROW_CASES,
    SAFE,
    TILE,
    assert_same_bits,
    assert_same_optimizers,
    case_id,
    gradients,
    in_c_order,
    on_threads,
    outcome,
    pair,
)

import downslope as ds

pytestmark = pytest.mark.usefixtures("silent")

# Where a gradient of zero does nothing, so that standing still is what a dense gradient asks for, too.
LAZY_IS_DENSE = [("sgd", {}), ("adagrad", {}), ("adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.5})]

LAYOUTS = {
    "contiguous": lambda shape, dtype: np.zeros(shape, dtype),
    "fortran": lambda shape, dtype: np.zeros(shape, dtype, "F"),
    "strided": lambda shape, dtype: np.zeros([2 * n for n in shape], dtype)[tuple(slice(None, None, 2) for _ in shape)],
    "reversed": lambda shape, dtype: np.zeros(shape, dtype)[tuple(slice(None, None, -1) for _ in shape)],
    "permuted": lambda shape, dtype: np.zeros(shape[1:] + shape[:1], dtype).transpose(-1, *range(len(shape) - 1)),
}


def array(rng, shape, dtype="float32", layout="contiguous"):
    """Random numbers."""
    made = LAYOUTS[layout](shape, DTYPES[dtype])
    made[...] = rng.standard_normal(shape)
    return made


def row_grad(rng, param, rows, dtype="float32", layout="contiguous"):
    """Gradients of these rows, of very different magnitudes."""
    values = LAYOUTS[layout]((len(rows), *param.shape[1:]), DTYPES[dtype])
    values[...] = gradients(rng, [values])[0]
    return ds.RowGrad(rows, values)


def bits(opt):
    """Copies of all parameters and all state."""
    return [
        (p.copy(), {name: slot.copy() for name, slot in s.items()}) for p, s in zip(opt.params, opt.state, strict=True)
    ]


# ---- exact ----

SHAPES = [(1,), (40,), (1, 5), (30, 1), (20, 7), (6, 3, 5), (5, TILE + 3), (4, 2, 300), (3, 0), (0, 4)]
OPTIONS = {
    "weight_decay": st.sampled_from([0.0, 0.3]),
    "decoupled_weight_decay": st.booleans(),
    "maximize": st.booleans(),
    "grad_scale": st.sampled_from([1.0, -0.3]),
    "clip_value": st.sampled_from([None, 0.5]),
    "clip_norm": st.sampled_from([None, 1e-2, 30.0, 1e6]),
    "nonfinite": st.sampled_from(["propagate", "raise", "skip"]),
    "state_dtype": st.sampled_from([None, "bfloat16"]),
    "rounding": st.sampled_from(["nearest", "stochastic"]),
    "seed": st.sampled_from([0, 2**64 - 1]),
}


@st.composite
def stories(draw):
    """Arrays, and for each step a gradient of each: of rows, dense, or none."""
    layouts = st.sampled_from(list(LAYOUTS))
    kinds = []
    for _ in range(draw(st.integers(1, 3))):
        dtype = draw(st.sampled_from(list(DTYPES)))
        kinds.append((draw(st.sampled_from(SHAPES)), dtype, draw(layouts), draw(st.sampled_from(SAFE[dtype]))))
    steps = []
    for _ in range(draw(st.integers(1, 4))):
        grads = []
        for shape, *_ in kinds:
            some = st.lists(st.integers(0, shape[0] - 1), max_size=12) if shape[0] > 0 else st.just([])
            rows = draw(st.one_of(some, st.permutations(range(shape[0])), st.sampled_from(["dense", None])))
            grads.append((rows, draw(layouts)))
        steps.append(
            {
                "grads": grads,
                "threads": draw(st.integers(1, 3)),
                "bound": draw(st.booleans()),
                "spoiled": draw(st.sampled_from([None] * 5 + [np.nan, np.inf])),
            }
        )
    options = draw(st.fixed_dictionaries({}, optional=OPTIONS))
    return {"kinds": kinds, "steps": steps, "options": options, "entropy": draw(st.integers(0, 2**32 - 1))}


@pytest.mark.parametrize("case", ROW_CASES, ids=case_id)
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(story=stories())
def test_rows_of_any_kind_with_any_options(case, story):
    name, hyper = case
    rng = np.random.default_rng(story["entropy"])
    params = [array(rng, shape, dtype, layout) for shape, dtype, layout, _ in story["kinds"]]
    opt, ref = pair(name, params, **hyper, **story["options"])
    for step in story["steps"]:
        grads = []
        for param, (*_, dtype), (rows, layout) in zip(params, story["kinds"], step["grads"], strict=True):
            if rows is None:
                grads.append(None)
                continue
            dense = rows == "dense"
            grad = row_grad(rng, param, range(len(param)) if dense else rows, dtype, layout)
            if step["spoiled"] is not None and grad.values.size > 0:
                grad.values[(-1,) * param.ndim] = step["spoiled"]
            grads.append(grad.values if dense else grad)
        with on_threads(step["threads"]):
            if step["bound"]:
                opt.bind(grads)
                error = outcome(opt.step)
            else:
                error = outcome(lambda: opt.step(grads))
        assert error is outcome(lambda: ref.step(grads))
    assert_same_optimizers(opt, ref)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, 15, 255, 256, 257, TILE - 1, TILE, TILE + 1, 3 * TILE])
def test_rows_that_are_cut_by_tiles(length, dtype, rng, forced_threads):
    """Rows end where tiles do not; and the threads' shares begin in the middle of rows."""
    param = array(rng, (2 + 8000 // length, length), dtype)
    options = {"state_dtype": "bfloat16", "rounding": "stochastic", "clip_norm": 1.0}
    opt, ref = pair("adam", [param], lr=0.1, **options)
    for threads in (1, 2, 3):
        grad = row_grad(rng, param, rng.integers(0, len(param), 5 + len(param) // 2))
        with forced_threads(threads):
            opt.step([grad])
        ref.step([grad])
    assert_same_optimizers(opt, ref)


def test_values_of_a_row_are_added_in_order_of_appearance():
    """Which shows where the order decides what is rounded away."""
    p = np.zeros((3, 1), np.float32)
    opt = ds.SGD(p, lr=1.0)
    values = np.array([[1e8], [5.0], [1.0], [-1e8], [7.0]], np.float32)
    opt.step(ds.RowGrad([2, 0, 2, 2, 0], values))
    assert p.tolist() == [[-12.0], [0.0], [0.0]]
    opt.step(ds.RowGrad([1, 1, 1], values[[0, 3, 2]]))
    assert p.tolist() == [[-12.0], [-1.0], [0.0]]


def test_norms_are_those_of_the_summed_rows(rng):
    """Of rows and dense gradients together."""
    params = [array(rng, (100, 30)), array(rng, (50,), "float64")]
    rows = row_grad(rng, params[0], [3, 99, 3, 3, 0])
    dense = rng.standard_normal(50)
    opt, ref = pair("sgd", params, clip_norm=1e-3)
    for o in (opt, ref):
        o.step([rows, dense])
    assert_same_optimizers(opt, ref)
    whole = np.zeros((100, 30))
    np.add.at(whole, rows.rows, rows.values)
    np.testing.assert_allclose(opt.last_grad_norm, np.sqrt(np.sum(whole**2) + np.sum(dense**2)), rtol=1e-6)


# ---- lazy ----


@pytest.mark.parametrize("state_dtype", [None, "bfloat16"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ROW_CASES, ids=case_id)
def test_other_rows_stand_still(case, dtype, state_dtype, rng):
    """In parameters and state, whatever would move them; and the array's count goes on."""
    name, hyper = case
    params = [array(rng, (50, 3), dtype), array(rng, (20,), dtype)]
    options = {"weight_decay": 0.1, "maximize": True, "clip_norm": 1e3, "state_dtype": state_dtype, **hyper}
    opt = ds.OPTIMIZERS[name](params, rounding="stochastic", lr=0.5, **options)
    opt.step([array(rng, p.shape) for p in params])  # so that there is momentum
    before = bits(opt)
    touched = [[7, 3, 7, 49], [0]]
    grads = [
        ds.RowGrad(rows, 100 * array(rng, (len(rows), *p.shape[1:]))) for p, rows in zip(params, touched, strict=True)
    ]
    opt.step(grads)
    for (p, slots), (q, now), rows in zip(before, bits(opt), touched, strict=True):
        still = np.setdiff1d(np.arange(len(p)), rows)
        assert now.pop("step") == slots.pop("step") + 1 == 2
        assert_same_bits(q[still], p[still])
        assert (q[rows] != p[rows]).all()
        for key in slots:
            assert_same_bits(now[key][still], slots[key][still], key)
            assert (now[key][rows] != slots[key][rows]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LAZY_IS_DENSE, ids=case_id)
def test_the_dense_step_where_zeros_do_nothing(case, dtype, rng):
    name, hyper = case
    lazy = array(rng, (60, 5), dtype)
    dense = lazy.copy()
    opts = [ds.OPTIMIZERS[name](p, lr=0.1, grad_scale=0.3, **hyper) for p in (lazy, dense)]
    for _ in range(5):
        rows = rng.permutation(60)[:9]
        values = array(rng, (9, 5))
        whole = np.zeros((60, 5), np.float32)
        whole[rows] = values
        opts[0].step(ds.RowGrad(rows, values))
        opts[1].step(whole)
    assert_same_bits(lazy, dense)
    for key in opts[0].state:
        assert_same_bits(np.asarray(opts[0].state[key]), np.asarray(opts[1].state[key]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ROW_CASES, ids=case_id)
def test_all_rows_are_the_dense_step(case, dtype, rng):
    name, hyper = case
    lazy = array(rng, (40, 3), dtype, "fortran")
    dense = lazy.copy()
    options = {"weight_decay": 0.1, "rounding": "stochastic", "state_dtype": "bfloat16", "clip_norm": 1.0, **hyper}
    opts = [ds.OPTIMIZERS[name](p, lr=0.1, **options) for p in (lazy, dense)]
    for _ in range(4):
        grad = row_grad(rng, lazy, rng.permutation(40))
        opts[0].step(grad)
        opts[1].step(grad.values[np.argsort(grad.rows)])
    assert opts[0].last_grad_norm == opts[1].last_grad_norm
    assert_same_bits(in_c_order(lazy), in_c_order(dense))
    for key in opts[0].state:
        assert_same_bits(in_c_order(opts[0].state[key]), in_c_order(opts[1].state[key]))


# ---- how they are given ----


def test_rows_may_be_integers_of_any_kind(rng):
    start = array(rng, (9, 2))
    values = array(rng, (3, 2))
    kinds = [np.array([8, 0, 8], dtype) for dtype in ("i1", "u2", "i4", "u8", ">i8")] + [[8, 0, 8], (8, 0, 8)]
    kinds.append(np.array([8, 1, 0, 1, 8])[::2])
    results = []
    for rows in kinds:
        p = start.copy()
        ds.Adam(p).step(ds.RowGrad(rows, values))
        results.append(p)
    for p in results:
        assert_same_bits(p, results[0])
        assert_same_bits(p[1:8], start[1:8])


def test_bound_rows_and_values_are_read_anew_at_every_step(rng):
    params = [array(rng, (30, 4)), array(rng, (5,))]
    opt, ref = pair("adam", params, clip_norm=1.0)
    grad = row_grad(rng, params[0], np.array([1, 2, 3]))
    dense = array(rng, (5,))
    opt.bind([grad, dense])
    for step in range(5):
        opt.step()
        ref.step([grad, dense])
        assert_same_optimizers(opt, ref)
        grad.rows[:] = rng.integers(0, 30, len(grad.rows))
        grad.values[:] = rng.standard_normal(grad.values.shape)
        if step == 2:  # a batch that touched more of them
            grad = row_grad(rng, params[0], np.arange(0, 30, 3))
            opt.bind([grad, dense])


def test_rows_and_dense_gradients_by_turns(rng):
    """In one list, and for one array from step to step, each at its own count."""
    params = [array(rng, (12, 3), t, layout) for t, layout in zip(DTYPES, LAYOUTS, strict=False)]
    opt, ref = pair("adamw", params, amsgrad=True, clip_norm=1.0, rounding="stochastic")
    for step in range(12):
        grads = []
        for i, p in enumerate(params):
            kind = (step + i) % 4
            rows = rng.integers(0, 12, 5)
            grads.append([None, array(rng, p.shape), row_grad(rng, p, rows), row_grad(rng, p, [])][kind])
        opt.step(grads)
        ref.step(grads)
    assert [int(slots["step"]) for slots in opt.state] == [9] * 4
    assert_same_optimizers(opt, ref)


def test_no_rows_at_all():
    """Is still a step, that of an array none of whose rows moves."""
    p = np.ones((4, 2))
    opt = ds.Adam(p, weight_decay=0.1)
    opt.step(ds.RowGrad([], np.zeros((0, 2))))
    assert (p == 1).all() and opt.step_count == 1 and opt.state["step"] == 1


def test_a_row_whose_sum_is_not_finite(rng):
    """The sum is what is applied, so it is what is looked at; and its array is named."""
    params = [array(rng, (4,)), array(rng, (4, 2))]
    big = np.full((2, 2), 3e38, np.float32)
    opt = ds.SGD(params, nonfinite="raise")
    before = bits(opt)
    for rows, values in (([1, 1], big), ([1, 2], big * [[1], [np.nan]])):
        with pytest.raises(FloatingPointError, match=r"^grads\[1\] has an element that is not finite$"):
            opt.step([np.ones(4, np.float32), ds.RowGrad(rows, values.astype(np.float32))])
    opt.step([None, ds.RowGrad([1, 2], np.zeros((2, 2), np.float32))])
    for (p, _), (q, _) in zip(before, bits(opt), strict=True):
        assert_same_bits(p, q)


# ---- what is refused ----


def test_what_makes_no_row_gradient():
    with pytest.raises(TypeError, match="rows must be integers, got float64"):
        ds.RowGrad([0.0, 1.0], np.zeros((2, 2)))
    with pytest.raises(TypeError, match="rows must be integers, got bool"):
        ds.RowGrad([True, False], np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"rows must have one axis, got shape \(1, 2\)"):
        ds.RowGrad([[0, 1]], np.zeros((2, 2)))


@pytest.mark.parametrize(
    "rows, values, error, message",
    [
        ([0, 5], np.zeros((2, 3)), ValueError, r"^grads\[1\]\.rows must be >= 0 and < 5, got 5$"),
        ([-1], np.zeros((1, 3)), ValueError, r"^grads\[1\]\.rows must be >= 0 and < 5, got -1$"),
        ([0, 1], np.zeros((1, 3)), ValueError, r"^grads\[1\]\.values must have shape \(2, 3\), a row .* got \(1, 3\)"),
        ([0], np.zeros((1, 4)), ValueError, r"^grads\[1\]\.values must have shape \(1, 3\), a row .* got \(1, 4\)"),
        ([0], np.zeros(3), ValueError, r"^grads\[1\]\.values must have shape \(1, 3\), a row .* got \(3,\)"),
        ([0], np.zeros((1, 1)), ValueError, r"^grads\[1\]\.values must have shape \(1, 3\), a row .* got \(1, 1\)"),
        ([0], np.zeros((1, 3), int), TypeError, r"^grads\[1\]\.values must have dtype float32, float64, .* got int64"),
        ([0], np.zeros((1, 3), complex), TypeError, r"^grads\[1\]\.values must have dtype float32, float64"),
        ([0], [[0.0, 0.0, 0.0]], TypeError, r"^grads\[1\]\.values"),
    ],
)
@pytest.mark.parametrize("way", ["step", "bind"])
def test_a_row_gradient_that_does_not_fit(way, rows, values, error, message):
    """Nothing has moved then, and what was bound stays so."""
    params = [np.ones(2), np.ones((5, 3))]
    opt = ds.Adam(params)
    opt.bind([np.ones(2), None])
    before = bits(opt)
    with pytest.raises(error, match=message):
        getattr(opt, way)([np.ones(2), ds.RowGrad(rows, values)])
    for (p, slots), (q, now) in zip(before, bits(opt), strict=True):
        assert_same_bits(p, q)
        np.testing.assert_equal(slots, now)
    opt.step()
    assert (params[0] < 1).all() and (params[1] == 1).all()


def test_values_that_do_not_cast_safely():
    with pytest.raises(TypeError, match=r"^grads\.values is float64, which does not cast safely to float32"):
        ds.SGD(np.ones((2, 2), np.float32)).step(ds.RowGrad([0], np.zeros((1, 2))))


def test_an_array_without_axes_has_no_rows():
    with pytest.raises(ValueError, match=r"^grads is a RowGrad, but its parameter has no rows: its shape is \(\)$"):
        ds.SGD(np.ones(())).step(ds.RowGrad([0], np.zeros(1)))


@pytest.mark.parametrize("name", sorted(set(ds.OPTIMIZERS) - {name for name, _ in ROW_CASES}))
def test_rules_that_take_no_rows(name):
    with pytest.raises(ValueError, match=rf"^grads is a RowGrad, which {name} does not take: sgd, adagrad, adam and "):
        ds.OPTIMIZERS[name](np.ones((2, 2))).step(ds.RowGrad([0], np.zeros((1, 2))))


@pytest.mark.parametrize("name, hyper", ROW_CASES)
def test_options_that_would_touch_every_row(name, hyper):
    grad = ds.RowGrad([0], np.zeros((1, 2)))
    opt = ds.OPTIMIZERS[name](np.ones((2, 2)), ema_decay=0.9, **hyper)
    with pytest.raises(ValueError, match=r"^grads is a RowGrad, which cannot be used with ema_decay"):
        opt.step(grad)
    opt = ds.OPTIMIZERS[name](np.ones((2, 2)), state_dtype="uint8", **hyper)
    if opt.state.keys() == {"step"}:
        opt.step(grad)  # without state there is nothing in 8 bits
        return
    with pytest.raises(ValueError, match=r'^grads is a RowGrad, which cannot be used with state_dtype="uint8"'):
        opt.step(grad)


def test_rows_cannot_be_accumulated():
    opt = ds.SGD([np.ones((2, 2)), np.ones((2, 2))], lr=1.0)
    grads = [np.ones((2, 2)), ds.RowGrad([0], np.ones((1, 2)))]
    with pytest.raises(ValueError, match=r"^grads\[1\] is a RowGrad, which cannot be accumulated: step by it"):
        opt.accumulate(grads)
    opt.step(grads)  # nothing was left behind
    assert opt.params[0].tolist() == [[0, 0], [0, 0]] and opt.params[1].tolist() == [[0, 0], [1, 1]]


def test_repr():
    assert repr(ds.RowGrad([1, 2], np.zeros(2))) == "RowGrad(rows=array([1, 2]), values=array([0., 0.]))"
