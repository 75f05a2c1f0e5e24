"""What surrounds a rule in the reference: order, storage, accumulation, rows, averages; and that it converges."""

import math

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_paths import calls

from downslope.reference import RULES, Optimizer
from downslope.reference.codecs import (
    bfloat16_decode,
    bfloat16_encode,
    float16_decode,
    float16_encode,
    float32_toward_zero,
    uint8_decode,
    uint8_encode,
)
from downslope.reference.optimizer import NEVER_NEGATIVE, norm
from downslope.reference.random_bits import random_bits

BF16 = ml_dtypes.bfloat16
DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, BF16], ids=lambda d: np.dtype(d).name)
STATE_DTYPES = pytest.mark.parametrize("state_dtype", [None, "bfloat16", "uint8"])
BAD = pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])

STATEFUL = calls(
    ("sgd", {"momentum": 0.9}),
    ("nag", {}),
    ("adagrad", {"initial_accumulator_value": 0.3}),
    ("adadelta", {}),
    ("rmsprop", {"momentum": 0.9, "centered": True, "eps": 0.1}),
    ("adam", {"amsgrad": True}),
    ("adamax", {}),
    ("nadam", {}),
    ("adabelief", {"amsgrad": True}),
    ("radam", {}),
    ("lion", {}),
)
UNSIGNED = {
    "exp_avg_sq",
    "max_exp_avg_sq",
    "sum",
    "square_avg",
    "acc_delta",
    "exp_inf",
    "exp_avg_var",
    "max_exp_avg_var",
}


class Rows:
    """A gradient of some rows."""

    def __init__(self, rows, values):
        self.rows, self.values = np.array(rows), values


def drawn(*shape, seed=11, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def saved(opt):
    """All that a step may change, as bytes."""
    state = [{k: v if type(v) is float else v.tobytes() for k, v in slots.items()} for slots in opt.state]
    ema = None if opt.ema is None else [e.tobytes() for e in opt.ema]
    return [p.tobytes() for p in opt.params], state, list(opt.steps), ema, opt.last_grad_norm


# ---- the order of a step ----


def test_an_example_by_hand():
    """Powers of two, so that every operation is exact: scale, negate, clip, clip by norm, decay, rule, average."""
    p = np.array([8.0, 8.0, 8.0])
    opt = Optimizer(
        "sgd",
        [p],
        lr=0.5,
        maximize=True,
        grad_scale=2.0,
        clip_value=4.0,
        clip_norm=2.5,
        weight_decay=0.25,
        ema_decay=0.75,
    )
    opt.step([np.array([1.5, 8.0, 0.0])])
    # -2 g = (-3, -16, 0); clipped to (-3, -4, 0), whose norm is 5; halved to (-1.5, -2, 0); + p/4: (0.5, 0, 2)
    assert_array_equal(p, [7.75, 8, 7])
    assert opt.last_grad_norm == 5
    assert_array_equal(opt.ema[0], [7.9375, 8, 7.75])


def test_the_same_with_decoupled_decay():
    """Decay comes before the rule, and does not enter the gradient."""
    p = np.array([8.0, 8.0, 8.0])
    options = {"clip_value": 4.0, "clip_norm": 2.5, "weight_decay": 0.25, "decoupled_weight_decay": True}
    Optimizer("sgd", [p], lr=0.5, grad_scale=-2.0, momentum=0.5, **options).step([np.array([1.5, 8.0, 0.0])])
    assert_array_equal(p, [7.75, 8, 7])  # 8 (1 - 0.125) = 7, and then (1.5, 2, 0)/2 on top


def test_the_norm_is_that_of_all_arrays_after_clipping_by_value():
    p, q, r = np.zeros(2, np.float32), np.zeros((1, 2)), np.zeros(2, np.float16)
    opt = Optimizer("sgd", [p, q, r], lr=1.0, clip_value=4.0, clip_norm=1.0)
    opt.step([np.array([100, 0], np.float32), np.array([[0.0, -3.0]]), None])
    assert opt.last_grad_norm == 5
    assert_array_equal(p, np.array([-4, 0], np.float32) * np.float32(0.2))
    assert_array_equal(q, [[0, 3 * 0.2]])
    assert_array_equal(r, 0)


@pytest.mark.parametrize("T", [np.float32, np.float64])
def test_coefficients_are_formed_in_double_and_cast_once(T):
    """Each of them is inexact here, and each operation rounds."""
    p, e, g, k = drawn(500, dtype=T), drawn(500, dtype=T), drawn(500, seed=12, dtype=T), 3
    f, c, limit, wd, d = 0.3, 0.123, 0.7, 0.1, 0.9
    opt = Optimizer("sgd", [p], lr=0.1, grad_scale=f, clip_value=c, clip_norm=limit, weight_decay=wd, ema_decay=d)
    before = p.copy()
    for _ in range(k):
        opt.accumulate([g])
    opt.step()
    h = T(f / k) * (g + g + g)
    h = np.minimum(np.maximum(h, -T(c)), T(c))
    total = norm([h])
    assert total > limit
    h = T(limit / total) * h + T(wd) * before
    after = before - T(0.1) * h
    assert_array_equal(p, after)
    assert_array_equal(opt.ema[0], e + T(1 - d) * (after - e))


def test_the_factor_is_negated_then_divided():
    for maximize, sign in ((False, -1), (True, 1)):
        p = np.zeros(1)
        opt = Optimizer("sgd", [p], lr=1.0, grad_scale=0.7, maximize=maximize)
        for g in (0.1, 0.2, 0.4):
            opt.accumulate([np.array([g])])
        opt.step()
        assert p == sign * (0.7 / 3 * ((0.1 + 0.2) + 0.4))


def test_lr_may_be_set_between_steps():
    """It is the one that decoupled decay uses, too."""
    p = np.ones(1)
    opt = Optimizer("sgd", [p], lr=0.5, weight_decay=0.5, decoupled_weight_decay=True)
    opt.step([np.ones(1)])
    assert p == 0.25
    opt.lr = 1.0
    opt.step([np.ones(1)])
    assert p == -0.875
    assert opt.lr == 1.0


# ---- clipping ----


@pytest.mark.parametrize("T", [np.float32, np.float64])
def test_clip_value(T):
    """A NaN stays one, infinities are clipped, the bounds are those of T."""
    g = np.array([0.1, 0.11, -0.1, -0.11, 5, -np.inf, np.inf, np.nan, 0.0, -0.0], T)
    p = np.zeros(g.size, T)
    Optimizer("sgd", [p], lr=1.0, clip_value=0.1).step([g])
    c = T(0.1)
    assert_array_equal(-p, np.array([c, c, -c, -c, c, -c, c, np.nan, 0, 0], T))


@pytest.mark.parametrize("T", [np.float32, np.float64])
@pytest.mark.parametrize("factor", [0.5, 0.99, 1.01, 100])
def test_clip_norm_against_the_usual_recipe(T, factor):
    """torch.nn.utils.clip_grad_norm_: g min(1, limit / norm), over all arrays; but for its 1e-6 under the fraction."""
    grads = [drawn(50, 3, dtype=T), None, 10 * drawn(7, seed=12, dtype=T)]
    total = np.linalg.norm([np.linalg.norm(g.astype(float)) for g in grads if g is not None])
    limit = factor * total
    params = [np.zeros((50, 3), T), np.zeros(4, T), np.zeros(7, T)]
    opt = Optimizer("sgd", params, lr=1.0, clip_norm=limit)
    opt.step(grads)
    assert opt.last_grad_norm == pytest.approx(total, rel=1e-14)
    for p, g in zip(params, grads, strict=True):
        assert_allclose(p, np.zeros_like(p) if g is None else -g * min(1, factor), rtol=1e-6)
        if g is not None and factor > 1:
            assert_array_equal(p, -g)


def test_the_norm_itself_is_not_clipped():
    p = np.zeros(2)
    opt = Optimizer("sgd", [p], lr=1.0, clip_norm=5.0)
    opt.step([np.array([3.0, 4.0])])
    assert_array_equal(p, [-3, -4])


def test_a_norm_that_is_not_finite():
    """NaN is not above any limit; an infinite norm leaves nothing of what is finite."""
    p = np.zeros(2)
    opt = Optimizer("sgd", [p], lr=1.0, clip_norm=1.0)
    opt.step([np.array([np.nan, 1.0])])
    assert_array_equal(p, [np.nan, -1])
    assert math.isnan(opt.last_grad_norm)
    p[:] = 0
    with np.errstate(over="ignore"):
        opt.step([np.array([1e200, 1.0])])
    assert opt.last_grad_norm == math.inf
    assert_array_equal(p, 0)


def test_when_the_norm_is_known():
    for options in ({"clip_norm": 1e9}, {"nonfinite": "skip"}, {"nonfinite": "raise"}):
        opt = Optimizer("sgd", [np.zeros(2)], **options)
        assert opt.last_grad_norm is None
        opt.step([np.array([3.0, 4.0])])
        assert opt.last_grad_norm == 5
        opt.step([None])
        assert opt.last_grad_norm == 0
        opt.clip_norm, opt.nonfinite = None, "propagate"
        opt.step([np.array([3.0, 4.0])])
        assert opt.last_grad_norm is None
    opt = Optimizer("sgd", [np.zeros(2)], clip_value=1.0)
    opt.step([np.array([3.0, 4.0])])
    assert opt.last_grad_norm is None


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1023, 1024, 1025, 5000])
def test_norm_against_an_exact_sum(size):
    """Of squares that are rounded once each; the order of additions keeps the error within a few last places."""
    for T in (np.float32, np.float64):
        x = drawn(size, dtype=T) * T(1e3)
        exact = math.sqrt(math.fsum(float(v) ** 2 for v in x))
        assert norm([x]) == pytest.approx(exact, rel=4e-16 * (4 + size / 1024), abs=0)
        assert norm([x, x, x[:0], x]) == pytest.approx(math.sqrt(3) * exact, rel=4e-16 * (4 + size / 256), abs=0)


def test_the_order_in_which_the_norm_adds():
    """One number at a time, as it is defined; the arrays in another order give other last bits, if not always."""
    same = []
    for seed in range(20):
        arrays = [drawn(size, seed=size + seed, dtype=float) for size in (3000, 5, 1024, 0, 2049)]
        total = 0.0
        for array in arrays:
            for start in range(0, array.size, 1024):
                lanes = [0.0] * 16
                for j, x in enumerate(array[start : start + 1024].tolist()):
                    lanes[j % 16] += x * x
                for w in (8, 4, 2, 1):
                    for i in range(w):
                        lanes[i] += lanes[i + w]
                total += lanes[0]
        assert norm(arrays) == math.sqrt(total)
        same.append(norm(arrays[::-1]) == math.sqrt(total))
    assert not all(same)


# ---- gradients that are not finite ----


def accumulating(nonfinite, state_dtype):
    """An optimizer in full dress after three steps."""
    params = [drawn(300), drawn(20, 3, seed=12, dtype=np.float16), drawn(9, seed=13)]
    options = {"rounding": "stochastic", "clip_norm": 1.0, "ema_decay": 0.9, "weight_decay": 0.1}
    opt = Optimizer("nadam", params, nonfinite=nonfinite, state_dtype=state_dtype, **options)
    for seed in range(3):
        opt.step([drawn(300, seed=seed), drawn(20, 3, seed=seed, dtype=np.float16), None])
    return opt


@BAD
@STATE_DTYPES
def test_raise_names_the_array_and_changes_nothing(bad, state_dtype):
    opt = accumulating("raise", state_dtype)
    before = saved(opt)
    g, h = drawn(20, 3, dtype=np.float16), drawn(9)
    g[7, 1] = h[3] = bad
    with pytest.raises(FloatingPointError, match=r"grads\[1\]"):
        opt.step([drawn(300), g, h])
    assert saved(opt) == before
    opt.accumulate([None, None, h])
    for _ in range(2):  # the accumulation is still there
        with pytest.raises(FloatingPointError, match=r"grads\[2\]"):
            opt.step()
    assert saved(opt) == before and opt.accumulations == 1 and opt.skipped_steps == 0


@BAD
@STATE_DTYPES
def test_skip_counts_and_changes_nothing(bad, state_dtype):
    opt, like = accumulating("skip", state_dtype), accumulating("skip", state_dtype)
    before = saved(opt)
    g = drawn(300)
    g[-1] = bad
    opt.step([g, None, None])
    opt.accumulate([g, None, drawn(9)])
    opt.step()
    assert saved(opt) == before and opt.skipped_steps == 2
    for optimizer in (opt, like):
        optimizer.accumulate([drawn(300), None, None])  # what was skipped is gone
        optimizer.step()
    assert saved(opt) == saved(like)


def test_nonfinite_looks_at_the_raw_gradient():
    """Not at what scaling makes of it, nor at its norm, which may overflow."""
    p = np.zeros(2, np.float32)
    opt = Optimizer("sgd", [p], lr=1.0, grad_scale=1e30, clip_value=1.0, nonfinite="raise")
    with np.errstate(over="ignore"):
        opt.step([np.array([1e30, 1.0], np.float32)])
    assert_array_equal(p, [-1, -1])
    opt = Optimizer("sgd", [p], grad_scale=0.0, clip_value=1.0, nonfinite="raise")
    with pytest.raises(FloatingPointError):
        opt.step([np.array([np.inf, 1.0], np.float32)])
    wide = np.zeros(1)
    opt = Optimizer("sgd", [wide], lr=1.0, nonfinite="skip")
    with np.errstate(over="ignore"):
        opt.step([np.array([1e200])])
    assert wide == -1e200 and opt.skipped_steps == 0


def test_propagate_lets_them_in():
    p = np.zeros(3)
    opt = Optimizer("sgd", [p], lr=1.0)
    opt.step([np.array([1.0, np.nan, np.inf])])
    assert_array_equal(p, [-1, np.nan, -np.inf])


# ---- accumulation ----


def test_accumulation_is_the_mean_over_calls():
    """Also for an array that got None in some of them; one that got None in all is left alone."""
    p, q, r = np.zeros(2), np.zeros(1), np.zeros(3)
    opt = Optimizer("sgd", [p, q, r], lr=1.0, momentum=0.5)
    opt.accumulate([np.array([1.0, 2.0]), None, None])
    opt.accumulate([np.array([3.0, 5.0]), np.array([8.0]), None])
    opt.accumulate([None, None, None])
    opt.accumulate([np.array([4.0, 1.0]), None, None])
    opt.step()
    assert_array_equal(p, [-2, -2])
    assert_array_equal(q, [-2])
    assert_array_equal(r, 0)
    assert opt.steps == [1, 1, 0]
    with pytest.raises(RuntimeError):
        opt.step()
    opt.accumulate([None, np.array([1.0]), None])  # a new one
    opt.step()
    assert_array_equal(q, [-2 - (0.5 * 2 + 1)])
    assert opt.steps == [1, 2, 0]


def test_accumulation_adds_in_the_compute_type_and_copies():
    """float32 for halves: here 2048 + 1 + 1, where halves would stay at 2048."""
    for dtype in (np.float16, BF16):
        p, g = np.zeros(1, dtype), np.array([2048], dtype)
        opt = Optimizer("sgd", [p], lr=1.0)
        opt.accumulate([g])
        g[:] = 1
        opt.accumulate([g])
        opt.accumulate([g])
        assert opt.accumulated[0].dtype == np.float32 and opt.accumulated[0] == 2050
    p, g = np.zeros(1, np.float32), np.ones(1, np.float32)
    opt = Optimizer("sgd", [p], lr=1.0)
    opt.accumulate([g])
    g[:] = 5
    opt.step()
    assert p == -1


# ---- the average of the parameters ----


@DTYPES
def test_ema(dtype):
    """Of the parameter as stored, in the compute type, from the initial parameter on; no gradient, no advance."""
    T = np.float64 if dtype == np.float64 else np.float32
    p, q = drawn(4, 5).astype(dtype), drawn(3).astype(dtype)
    opt = Optimizer("adam", [p, q], lr=0.1, ema_decay=0.9)
    e, f = p.reshape(-1).astype(T), q.astype(T)
    for seed in range(5):
        opt.step([drawn(4, 5, seed=seed).astype(dtype), drawn(3).astype(dtype) if seed == 2 else None])
        e = e + T(1 - 0.9) * (p.reshape(-1).astype(T) - e)
        if seed == 2:
            f = f + T(1 - 0.9) * (q.astype(T) - f)
        assert opt.ema[0].dtype == T
        assert_array_equal(opt.ema[0], e)
        assert_array_equal(opt.ema[1], f)
    assert Optimizer("sgd", [p]).ema is None


# ---- parameters of 16 bits ----


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("dtype", [np.float16, BF16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("rule", RULES)
def test_16_bit_parameters_take_the_step_of_float32_and_are_rounded(rule, dtype, rounding):
    """State is float32; random bits are those of a fourth slot."""
    encode, decode = (float16_encode, float16_decode) if dtype == np.float16 else (bfloat16_encode, bfloat16_decode)
    base = drawn(30, 40).astype(dtype)
    p, other = base[:, ::2].T, drawn(3).astype(dtype)  # 20, 30
    between = base[:, 1::2].copy()
    wide = p.astype(np.float32)
    options = {"lr": 0.1, "weight_decay": 0.1}
    opt = Optimizer(rule, [other, p], rounding=rounding, seed=5, **options)
    like = Optimizer(rule, [wide], **options)
    for t in range(1, 5):
        g = drawn(20, 30, seed=t).astype(dtype)
        opt.step([None, g])
        like.step([g.astype(np.float32)])
        random = random_bits(5, 1, t, 3, np.arange(600, dtype=np.uint64), 16) if rounding == "stochastic" else None
        wide[...] = decode(encode(wide.reshape(-1), random)).reshape(wide.shape)
        assert p.dtype == dtype
        assert_array_equal(p.astype(np.float32), wide)
        for name, value in like.state[0].items():
            assert_array_equal(opt.state[1][name], value)
    assert_array_equal(base[:, 1::2].view(np.uint16), between.view(np.uint16))


@pytest.mark.parametrize("dtype", [np.float16, BF16], ids=["float16", "bfloat16"])
def test_gradients_may_be_wider_or_narrower_than_16_bit_parameters(dtype):
    for other in (np.float32, np.float16, BF16):
        p, q = np.zeros(50, dtype), np.zeros(50, dtype)
        g = drawn(50).astype(other)
        Optimizer("sgd", [p], lr=0.1).step([g])
        Optimizer("sgd", [q], lr=0.1).step([g.astype(np.float32)])
        assert_array_equal(p.view(np.uint16), q.view(np.uint16))


def test_small_steps_arrive_by_stochastic_rounding_alone():
    """Steps of a tenth of half a unit in the last place: to nearest, nothing ever happens."""
    for dtype, unit in ((np.float16, 2.0**-11), (BF16, 2.0**-8)):
        for rounding in ("nearest", "stochastic"):
            p = np.full(10000, 1, dtype)
            opt = Optimizer("sgd", [p], lr=unit / 20, rounding=rounding)
            for _ in range(100):
                opt.step([np.ones(10000, dtype)])
            mean = p.astype(float).mean()
            if rounding == "nearest":
                assert mean == 1
            else:
                assert mean == pytest.approx(1 - 5 * unit, abs=unit / 10)


# ---- state of 16 and 8 bits ----


def decoded(state, state_dtype, T):
    """The state of an array, as the rule sees it."""
    if state_dtype == "bfloat16":
        return {k: v if k == "mu_product" else bfloat16_decode(v).astype(T) for k, v in state.items()}
    values = {}
    for name, codes in state.items():
        if name == "mu_product":
            values[name] = codes
        elif not name.endswith("_scale"):
            values[name] = uint8_decode(codes, state[name + "_scale"], name not in UNSIGNED).astype(T)
    return values


@DTYPES
@pytest.mark.parametrize("state_dtype", ["bfloat16", "uint8"])
@STATEFUL
def test_state_is_decoded_for_the_rule_and_encoded_after_it(rule, options, state_dtype, dtype):
    """Each slot with its own bits, keyed by seed, array, slot, count and element; strided arrays in C order."""
    T = np.float64 if dtype == np.float64 else np.float32
    p, skipped = drawn(20, 30).astype(dtype).T, np.ones(3, dtype)
    q, s = p.reshape(-1).astype(T), {}
    opt = Optimizer(rule, [skipped, p], state_dtype=state_dtype, seed=77, **options)
    index = np.arange(600, dtype=np.uint64)
    for t in range(1, 6):
        g = drawn(30, 20, seed=t).astype(dtype)
        if t == 1 and rule == "adagrad":
            x = np.full(600, 0.3, T)
            store = {"sum": bfloat16_encode(x)}
            if state_dtype == "uint8":
                store["sum"], store["sum_scale"] = uint8_encode(x, False)
            s = decoded(store, state_dtype, T)
            assert s["sum"][0] == {"bfloat16": 77 / 256, "uint8": float32_toward_zero(x)[0]}[state_dtype]
        RULES[rule](q, g.reshape(-1).astype(T), s, t, **options)
        store = {}
        slots = [name for name in s if name != "mu_product"]
        for k, name in enumerate(slots):
            random = random_bits(77, 1, t, k, index, 16 if state_dtype == "bfloat16" else 20)
            if state_dtype == "bfloat16":
                store[name] = bfloat16_encode(s[name], random)
            else:
                store[name], store[name + "_scale"] = uint8_encode(s[name], name not in UNSIGNED, random)
        if "mu_product" in s:
            store["mu_product"] = s["mu_product"]
        opt.step([None, g])
        assert set(opt.state[1]) == set(store)
        for name, value in store.items():
            assert_array_equal(opt.state[1][name], value, err_msg=name)
        s = decoded(store, state_dtype, T)
        if dtype in (np.float64, np.float32):
            assert_array_equal(p.reshape(-1), q)
        else:
            q = p.reshape(-1).astype(T)
    assert opt.state[0] == {} and opt.steps == [0, 5]


def test_layout_of_state():
    arrays = [np.zeros(600, np.float64), np.zeros((2, 3), np.float16), np.zeros(0, np.float32)]
    layouts = {
        None: {"exp_avg": [np.float64, np.float32, np.float32], "exp_avg_sq": [np.float64, np.float32, np.float32]},
        "bfloat16": {"exp_avg": [np.uint16] * 3, "exp_avg_sq": [np.uint16] * 3},
        "uint8": {"exp_avg": [np.uint8] * 3, "exp_avg_sq": [np.uint8] * 3},
    }
    layouts["uint8"] |= {"exp_avg_scale": [np.float32] * 3, "exp_avg_sq_scale": [np.float32] * 3}
    for state_dtype, layout in layouts.items():
        opt = Optimizer("adam", [a.copy() for a in arrays], state_dtype=state_dtype)
        assert opt.state == [{}, {}, {}]
        opt.step([np.ones(a.shape, a.dtype) for a in arrays])
        for i, sizes in enumerate([(600, 3), (6, 1), (0, 0)]):
            assert {k: v.dtype for k, v in opt.state[i].items()} == {k: v[i] for k, v in layout.items()}
            assert {k: v.shape for k, v in opt.state[i].items()} == {k: (sizes["scale" in k],) for k in layout}


def test_every_slot_is_known_to_be_signed_or_not():
    """By running all rules on random gradients: what is never negative is what the list says."""
    seen = {}
    for rule, options in [("sgd", {"momentum": 0.9}), ("rmsprop", {"momentum": 0.9, "centered": True}), ("nag", {})] + [
        (rule, {"amsgrad": True} if rule in ("adam", "adabelief") else {}) for rule in RULES
    ]:
        opt = Optimizer(rule, [np.zeros(200)], **options)
        for seed in range(5):
            opt.step([drawn(200, seed=seed, dtype=float)])
        for name, value in opt.state[0].items():
            if name != "mu_product":
                seen[name] = seen.get(name, False) or bool((value < 0).any())
    assert {name for name, negative in seen.items() if not negative} == UNSIGNED == NEVER_NEGATIVE


def test_blocks_restart_with_each_array():
    """Two arrays of 300 elements are not one of 600: each has a short block of its own."""
    opt = Optimizer("sgd", [np.zeros(300, np.float32), np.zeros(300, np.float32)], momentum=0.9, state_dtype="uint8")
    g = np.ones(300, np.float32)
    g[256:] = 64
    opt.step([g, 16 * g])
    assert_array_equal(opt.state[0]["momentum_buffer_scale"], [1, 64])
    assert_array_equal(opt.state[1]["momentum_buffer_scale"], [16, 1024])


@STATE_DTYPES
def test_arrays_and_seeds_are_rounded_differently(state_dtype):
    g = drawn(2000)
    opts = [
        Optimizer("adam", [np.zeros(2000, np.float32) for _ in range(2)], state_dtype=state_dtype, seed=seed)
        for seed in (0, 0, 1)
    ]
    for opt in opts:
        for _ in range(3):
            opt.step([g, g])
    same, like, other = (opt.state for opt in opts)
    for name in same[0]:
        if not name.endswith("_scale"):
            assert_array_equal(same[0][name], like[0][name])
            assert (same[0][name] != same[1][name]).any() == (state_dtype is not None)
            assert (same[0][name] != other[0][name]).any() == (state_dtype is not None)


def test_nan_in_8_bit_state_stays_in_its_block():
    p = np.zeros(600, np.float32)
    opt = Optimizer("adam", [p], state_dtype="uint8")
    g = drawn(600)
    g[300] = np.nan
    opt.step([g])
    opt.step([drawn(600)])
    assert np.isnan(p[256:512]).all() and np.isfinite(p[:256]).all() and np.isfinite(p[512:]).all()


# ---- gradients of rows ----

ROW_RULES = calls(
    ("sgd", {}),
    ("sgd", {"momentum": 0.9, "nesterov": True}),
    ("adagrad", {"initial_accumulator_value": 0.3, "lr_decay": 0.1}),
    ("adam", {}),
    ("adam", {"amsgrad": True, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("adam", {"weight_decay": 0.1, "clip_norm": 0.5, "clip_value": 0.4, "grad_scale": 0.7, "nonfinite": "skip"}),
)


@DTYPES
@pytest.mark.parametrize("state_dtype", [None, "bfloat16"])
@pytest.mark.parametrize("shape", [(50,), (50, 7), (50, 2, 3)], ids=str)
@ROW_RULES
def test_rows_move_as_if_they_were_an_array_of_their_own_count(rule, options, shape, state_dtype, dtype):
    """All rows get a gradient at the first step, then some: those move as in a dense step, the others not at all."""
    dense, sparse = drawn(*shape).astype(dtype), drawn(*shape).astype(dtype)
    options = {"state_dtype": state_dtype, "rounding": "stochastic", "seed": 3, **options}
    opt, like = Optimizer(rule, [sparse], **options), Optimizer(rule, [dense], **options)
    first = drawn(*shape, seed=12).astype(dtype)
    order = np.random.default_rng(13).permutation(50)
    opt.step([Rows(order, first[order])])
    like.step([first])
    assert saved(opt)[:3] == saved(like)[:3]
    if options.get("clip_norm"):
        assert opt.last_grad_norm == like.last_grad_norm
    rows, g = np.array([7, 0, 49, 20]), drawn(4, *shape[1:], seed=14).astype(dtype)
    full = np.zeros(shape, dtype)
    full[rows] = g
    before, slots = sparse.copy(), {k: v.reshape(shape).copy() for k, v in opt.state[0].items()}
    opt.step([Rows(rows, g)])
    like.step([full])
    if options.get("clip_norm"):
        assert opt.last_grad_norm == pytest.approx(like.last_grad_norm, rel=1e-14)
    others = np.setdiff1d(np.arange(50), rows)
    assert_array_equal(sparse[rows].astype(float), dense[rows].astype(float))
    assert_array_equal(sparse[others].astype(float), before[others].astype(float))
    for name, value in opt.state[0].items():
        assert_array_equal(value.reshape(shape)[rows], like.state[0][name].reshape(shape)[rows])
        assert_array_equal(value.reshape(shape)[others], slots[name][others])
    assert opt.steps == [2]


def test_rows_that_were_never_touched_have_initial_state():
    p = np.zeros((5, 2))
    opt = Optimizer("adagrad", [p], initial_accumulator_value=0.25)
    opt.step([Rows([1], np.ones((1, 2)))])
    assert_array_equal(opt.state[0]["sum"].reshape(5, 2)[:, 0], [0.25, 1.25, 0.25, 0.25, 0.25])


def test_rows_that_repeat_are_summed_in_order():
    """In the compute type, from the first on: (1 + 1e8) - 1e8 is not 1 + (1e8 - 1e8), and -0 stays -0."""
    p = np.zeros((6, 2), np.float32)
    p[2, 1] = -0.0
    opt = Optimizer("sgd", [p], lr=1.0, clip_norm=1e9)
    rows = [4, 2, 4, 5, 4, 2]
    values = np.array([[1, 0.5], [2, -0.0], [1e8, 1], [7, 7], [-1e8, 1], [3, -0.0]], np.float32)
    opt.step([Rows(rows, values)])
    assert_array_equal(p, [[0, 0], [0, 0], [-5, 0], [0, 0], [0, -2.5], [-7, -7]])
    assert not np.signbit(p[2, 1])  # -0 - -0
    assert opt.last_grad_norm == math.sqrt(25 + 2.5**2 + 2 * 49)
    for dtype in (np.float16, BF16):
        q = np.zeros(3, dtype)
        opt = Optimizer("sgd", [q], lr=1.0)
        opt.step([Rows([1, 1, 1], np.array([2048, 1, 1], dtype))])
        assert q[1] == (-2050 if dtype == np.float16 else -2048)


def test_rows_are_clipped_and_checked_after_they_are_summed():
    p = np.zeros(3, np.float32)
    opt = Optimizer("sgd", [p], lr=1.0, clip_value=1.0, nonfinite="skip")
    opt.step([Rows([0, 0], np.array([5, -4.5], np.float32))])
    assert_array_equal(p, [-0.5, 0, 0])
    with np.errstate(over="ignore"):
        opt.step([Rows([1, 1], np.array([3e38, 3e38], np.float32))])
    assert_array_equal(p, [-0.5, 0, 0])
    assert opt.skipped_steps == 1 and opt.steps == [1]


def test_no_rows_is_a_step_all_the_same():
    p = np.ones((3, 2))
    opt = Optimizer("adam", [p], clip_norm=1.0)
    opt.step([Rows(np.zeros(0, int), np.zeros((0, 2)))])
    assert_array_equal(p, 1)
    assert opt.steps == [1] and opt.last_grad_norm == 0


@pytest.mark.parametrize("options", [{"state_dtype": "uint8"}, {"ema_decay": 0.9}], ids=str)
def test_what_rows_do_not_go_with(options):
    params = [np.ones(4), np.ones((3, 2))]
    opt = Optimizer("adam", params, **options)
    before = saved(opt)
    with pytest.raises(ValueError, match="rows"):
        opt.step([np.ones(4), Rows([0], np.ones((1, 2)))])
    assert saved(opt) == before


# ---- convergence ----


def final_loss(state_dtype, beta2, seed, nearest=False, monkeypatch=None):
    """Of 10,000 steps of Adam down a noisy bowl, whose gradients shrink ten-thousandfold, as lr does hundredfold.

    1,500 elements are six blocks, the last of them short. Curvatures and noise differ tenfold within each. All runs of
    a seed meet the same noise.
    """
    rng = np.random.default_rng(seed)
    n, steps = 1500, 10_000
    curvature, noise = (10 ** rng.uniform(-1, 0, n).astype(np.float32) for _ in range(2))
    minimum = rng.standard_normal(n, np.float32)
    p = np.zeros(n, np.float32)
    opt = Optimizer("adam", [p], betas=(0.9, beta2), state_dtype=state_dtype, seed=seed)
    if nearest:
        monkeypatch.setattr(opt, "_random_bits", lambda *_: None)
    for t in range(steps):
        opt.lr = 1e-2 * 1e-2 ** (t / steps)
        shrinking = np.float32(1e-4 ** (t / steps)) * noise
        opt.step([curvature * (p - minimum) + shrinking * rng.standard_normal(n, np.float32)])
    return (curvature * (p - minimum) ** 2).sum() / 2


def test_rounded_state_converges_where_the_average_can_follow():
    """beta2 = 0.99 forgets as fast as the gradients shrink: each run ends within 5 percent of float32's loss.

    In 16 runs the means are 0.0 percent above it for bfloat16 and 1.9 for 8 bits, the worst 0.3 and 3.6.
    """
    for seed in range(2):
        exact = final_loss(None, 0.99, seed)
        for state_dtype in ("bfloat16", "uint8"):
            assert final_loss(state_dtype, 0.99, seed) / exact == pytest.approx(1, abs=0.05), (state_dtype, seed)


def test_rounded_state_where_the_average_lags_behind(monkeypatch):
    """beta2 = 0.999 cannot forget that fast: the average of squares does little but decay, for 10,000 steps.

    Were it rounded in every step, to one neighbour or the other, it would be a random walk, whose relative variance
    grows by the spacing of codes times 0.001 a step. In bfloat16 it is, with little spacing; in 8 bits a block decays
    by its scale, and codes stay. In 16 runs the means are 1.1 percent above float32's loss for bfloat16 and 1.9 for 8
    bits, the worst 3.0 and 3.3. Rounded to nearest, bfloat16 does not decay at all, and the loss is over 10,000 times
    what it should be; codes do not follow what elements gain and lose beside the largest of their block, and the loss
    is 1.4 to 1.7 times what it should be.
    """
    for seed in range(2):
        exact = final_loss(None, 0.999, seed)
        for state_dtype in ("bfloat16", "uint8"):
            assert final_loss(state_dtype, 0.999, seed) / exact == pytest.approx(1, abs=0.05), (state_dtype, seed)
    assert final_loss("bfloat16", 0.999, seed, True, monkeypatch) > 1000 * exact
    assert final_loss("uint8", 0.999, seed, True, monkeypatch) > 1.25 * exact
