"""State in 16 and 8 bits, and stochastic rounding: equal to the reference bit for bit, and as good as promised."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rule_cases import (
    CODED_CASES,
    DTYPES,
    TILE,
    assert_same_bits,
    assert_same_optimizers,
    case_id,
    gradients,
    in_c_order,
    on_threads,
    pair,
)

import downslope as ds
from downslope._extension import core
from downslope.reference import codecs
from downslope.reference.optimizer import NEVER_NEGATIVE

pytestmark = pytest.mark.usefixtures("silent")

BLOCK = 256  # elements that share a scale

# One element, a short block, whole blocks, a short last one; and tiles of whole and of short blocks.
LENGTHS = (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, TILE, TILE + 3 * BLOCK + 7)


def parameters(rng, dtype, lengths=LENGTHS):
    return [rng.standard_normal(n).astype(DTYPES[dtype]) for n in lengths]


def run(name, params, grads, seed=0, **options):
    """The optimizer after these steps, on copies."""
    opt = ds.OPTIMIZERS[name]([p.copy() for p in params], seed=seed, **options)
    for g in grads:
        opt.step(g)
    return opt


def bits_of(opt):
    """All bits of parameters and state, flat."""
    arrays = [*opt.params, *(slot for slots in opt.state for slot in slots.values())]
    return np.concatenate([in_c_order(array).view(np.uint8) for array in arrays])


def decoded(slots, name):
    """The numbers in a slot of coded state."""
    if f"{name}_scale" in slots:
        return core.decode_blocks(slots[name], slots[f"{name}_scale"], name in NEVER_NEGATIVE)
    return core.decode_bfloat16(slots[name])


# ---- the codecs by themselves ----


def test_decoding_all_codes():
    halves = np.arange(2**16, dtype=np.uint16)
    assert_same_bits(core.decode_bfloat16(halves), codecs.bfloat16_decode(halves))
    codes = np.tile(np.arange(256, dtype=np.uint8), 5)
    scales = np.array([0, np.nan, 2.0**-95, 1, 2.0**127], np.float32)
    for never_negative in (False, True):
        values = core.decode_blocks(codes, scales, never_negative)
        assert_same_bits(values, codecs.uint8_decode(codes, scales, not never_negative))


def test_rounding_to_bfloat16(rng):
    """Of any bits whatever, and of the neighbours of every tie."""
    ties = (np.arange(2**16, dtype=np.uint32) << 16) + 0x8000
    values = np.concatenate([rng.integers(0, 2**32, 100_000, np.uint32), ties - 1, ties, ties + 1]).view(np.float32)
    assert_same_bits(core.encode_bfloat16(values), codecs.bfloat16_encode(values))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("state_dtype", ["bfloat16", "uint8"])
@settings(deadline=None, max_examples=100)
@given(fill=st.floats(0, allow_infinity=False, allow_nan=False))
@example(fill=0.0)
@example(fill=2.0 - 2.0**-40)  # by way of float32 it would be 2
@example(fill=1.0 + 2.0**-4 - 2.0**-40)  # ... and here a tie between codes
@example(fill=1.0 + 2.0**-7 + 2.0**-8 - 2.0**-40)  # ... and between bfloat16 numbers
@example(fill=1e300)
@example(fill=1e-300)
def test_the_state_that_adagrad_starts_from(state_dtype, dtype, fill):
    """Rounded to the nearest, at once."""
    params = [np.zeros(n, DTYPES[dtype]) for n in (0, 1, BLOCK + 1)]
    opt, ref = pair("adagrad", params, state_dtype=state_dtype, initial_accumulator_value=fill)
    T = np.dtype(ds.reference.optimizer.compute_type(params[0])).type
    ref.state = [ref._new_state(p.size, T) for p in params]
    assert_same_optimizers(opt, ref)


# ---- exact ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("state_dtype", ["bfloat16", "uint8"])
@pytest.mark.parametrize("case", CODED_CASES, ids=case_id)
def test_every_rule(case, state_dtype, dtype, rng, forced_threads):
    name, hyper = case
    options = {"state_dtype": state_dtype, "rounding": "stochastic", "seed": int(rng.integers(2**63)), **hyper}
    start = parameters(rng, dtype)
    runs = {threads: pair(name, [p.copy() for p in start], **options) for threads in (1, 2, 3)}
    expected = runs[1][1]
    for step in range(4):
        grads = [g if (step + i) % 3 else None for i, g in enumerate(gradients(rng, start))]
        expected.step(grads)
        for threads, (opt, _) in runs.items():
            with forced_threads(threads):
                opt.step(grads)
    for opt, _ in runs.values():
        assert_same_optimizers(opt, expected)


def blocks(rng, dtype):
    """Gradients in blocks of kinds: zeros, subnormal, tiny, huge, not finite, of all magnitudes, and a short one."""
    info = np.finfo(dtype)
    near = rng.standard_normal(BLOCK)
    wide = near * 10.0 ** rng.uniform(-30, 30, BLOCK)
    with_nan, with_infinity, lonely = near.copy(), near.copy(), np.zeros(BLOCK)
    with_nan[17], with_infinity[255], lonely[3] = np.nan, -np.inf, -1.0
    kinds = [np.zeros(BLOCK), -np.zeros(BLOCK), near * info.smallest_subnormal * 4, near * info.tiny * 1e3]
    kinds += [near / np.abs(near).max() * info.max, with_nan, with_infinity, lonely, wide, near[:40] * 1e-20]
    return np.concatenate(kinds).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("state_dtype", ["bfloat16", "uint8"])
@pytest.mark.parametrize("case", CODED_CASES, ids=case_id)
def test_numbers_at_the_ends_of_what_can_be_stored(case, state_dtype, dtype, rng):
    """A NaN or an infinity spoils its block, and no other."""
    name, hyper = case
    opt, ref = pair(name, [np.ones(blocks(rng, dtype).size, dtype)], state_dtype=state_dtype, **hyper)
    for _ in range(3):
        grads = [blocks(rng, dtype)]
        opt.step(grads)
        ref.step(grads)
    assert_same_optimizers(opt, ref)
    if state_dtype == "uint8":
        for key in opt.state[0]:
            if key.endswith("_scale"):
                scales = opt.state[0][key]
                assert np.isnan(scales[5]) and np.isfinite(scales[[0, 1, 2, 3, 7, 9]]).all()


# ---- where the random bits come from ----


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "float32", "state_dtype": "bfloat16"},
        {"dtype": "float64", "state_dtype": "uint8"},
        {"dtype": "bfloat16", "rounding": "stochastic"},
        {"dtype": "float16", "rounding": "stochastic"},
    ],
    ids=case_id,
)
class TestKeys:
    """The random bits are a function of the seed, the array's number, its own count, the slot and the element."""

    def test_of_the_seed(self, options, rng):
        options = dict(options)
        params = parameters(rng, options.pop("dtype"), (2000,))
        grads = [gradients(rng, params) for _ in range(3)]
        seeds = (0, 1, 2**32, 2**64 - 1)
        results = [bits_of(run("adam", params, grads, seed, **options)) for seed in seeds]
        for i, some in enumerate(results):
            assert (some == bits_of(run("adam", params, grads, seeds[i], **options))).all()
            assert all((some != other).sum() > 100 for other in results[:i])

    def test_of_the_place_in_the_list_alone(self, options, rng):
        """What other arrays there are, of which size, and what moves them, is nothing to an array."""
        options = dict(options)
        dtype = options.pop("dtype")
        alone, small, large = parameters(rng, dtype, (1500, 3, 5000))
        (g,), (g_small, g_large) = gradients(rng, [alone]), gradients(rng, [small, large])

        def of_last(others, grads, threads=1):
            with on_threads(threads):
                opt = run("adam", [*others, alone], [[*grads, g]] * 3, **options)
            one = ds.OPTIMIZERS["adam"](opt.params[-1:], **options)  # for bits_of
            return np.concatenate([bits_of(one), *(in_c_order(s).view(np.uint8) for s in opt.state[-1].values())])

        second = of_last([small], [g_small])
        assert (second == of_last([large], [g_large], threads=3)).all()
        assert (second == of_last([large], [None])).all()
        assert (second != of_last([], [])).sum() > 100

    def test_of_the_arrays_own_count(self, options, rng):
        """An array whose gradient was None goes on as if that step had not been."""
        options = dict(options)
        params = parameters(rng, options.pop("dtype"), (700, 700))
        grads = [gradients(rng, params) for _ in range(3)]
        every = run("adam", params, grads, **options)
        pauses = [[None, None], grads[0], [grads[1][0], None], [None, grads[1][1]], grads[2]]
        paused = run("adam", params, pauses, **options)
        assert (bits_of(every) == bits_of(paused)).all()

    def test_of_the_step(self, options, rng):
        """Equal numbers are rounded otherwise from step to step, and from element to element."""
        options = dict(options)
        (param,) = parameters(rng, options.pop("dtype"), (2000,))
        param[:] = 1.0
        opt = ds.SGD([param], lr=7e-4, momentum=0.9, **options)
        patterns = []
        for _ in range(3):
            param[:] = 1.0
            opt.state[0]["momentum_buffer"][...] = 0
            grad = np.full(param.shape, 1.03, np.float32)
            grad[::BLOCK] = 2.0  # the largest of a block is its scale, and not rounded
            opt.step([grad.astype(param.dtype)])
            state = opt.state[0]["momentum_buffer"]
            patterns.append(np.delete(param if state.dtype == np.float32 else state, slice(None, None, BLOCK)))
        assert all(len(np.unique(pattern)) == 2 for pattern in patterns)
        assert all((patterns[i] != patterns[j]).mean() > 0.1 for i in range(3) for j in range(i))


def test_slots_are_rounded_independently(rng):
    """Where equal numbers are stored in two places, the two go up and down apart, from block to block."""
    param = np.full(20_000 * BLOCK, 1.0, DTYPES["bfloat16"])
    opt = ds.Adam([param], lr=0.0, weight_decay=0.0, amsgrad=True, state_dtype="bfloat16", betas=(0.5, 0.5))
    opt.step([np.full(param.shape, 1.001, np.float32)])  # m = 0.5005, v = V = 0.501..., each between two neighbours
    up = [core.decode_bfloat16(opt.state[0][name]) for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")]
    up = [(values > values.min())[77::BLOCK] for values in up]
    assert all(0.05 < u.mean() < 0.95 for u in up)
    correlations = np.corrcoef(up)[np.triu_indices(3, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(20_000)


# ---- what they are good for ----


@pytest.mark.parametrize("state_dtype, size", [(None, None), ("bfloat16", 2), ("uint8", 1)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CODED_CASES, ids=case_id)
def test_the_memory_that_state_takes(case, dtype, state_dtype, size):
    name, hyper = case
    n = 10 * BLOCK + 1
    opt = ds.OPTIMIZERS[name](np.zeros(n, DTYPES[dtype]), state_dtype=state_dtype, **hyper)
    native = ds.OPTIMIZERS[name](np.zeros(n), **hyper)
    slots = len(native.state.keys() - {"step", "mu_product"})
    assert sum(native.state[key].nbytes for key in native.state.keys() - {"step", "mu_product"}) == 8 * n * slots
    taken = sum(opt.state[key].nbytes for key in opt.state.keys() - {"step", "mu_product"})
    scales = 4 * 11 if state_dtype == "uint8" else 0
    assert taken == slots * (n * (size or (8 if dtype == "float64" else 4)) + scales)


@pytest.mark.parametrize("state_dtype", ["bfloat16", "uint8"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("beta", [0.9, 0.999])
def test_an_average_decays(beta, dtype, state_dtype):
    """With a beta of 0.999 no step moves it by half a unit in the last place: to the nearest it would stand still."""
    n, steps = 20_000, 400
    opt = ds.Adam(np.zeros(n, dtype), betas=(0.0, beta), lr=0.0, state_dtype=state_dtype)
    opt.step(np.full(n, 1.0, dtype))
    start = decoded(opt.state, "exp_avg_sq").astype(float).mean()
    assert start == pytest.approx(1 - beta, rel=1e-3)
    zero, factor = np.zeros(n, dtype), 1.0
    for _ in range(steps if beta > 0.99 else 20):
        opt.step(zero)
        factor *= beta
    values = decoded(opt.state, "exp_avg_sq").astype(float)
    # What one element strays is at most a unit in the last place a step; the mean, of many, hundreds of times less.
    assert values.mean() / start == pytest.approx(factor, rel=0.02)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_parameters_follow_steps_that_are_too_small_to_see(dtype):
    """A 1024th of a unit in the last place, 1024 times; a thousandth would be rounded in float32."""
    unit = (
        float(ds.reference.codecs.bfloat16_decode(np.array([0x3F81], np.uint16))[0] - 1)
        if dtype == "bfloat16"
        else 2**-10
    )
    nearest, stochastic = (np.full(20_000, 1.5, DTYPES[dtype]) for _ in range(2))
    for param, rounding in ((nearest, "nearest"), (stochastic, "stochastic")):
        opt = ds.SGD(param, lr=unit / 1024, rounding=rounding)
        grad = np.ones(param.shape, np.float32)
        opt.bind(grad)
        for _ in range(1024):
            opt.step()
    assert (nearest == 1.5).all()
    assert (1.5 - stochastic.astype(float)).mean() / unit == pytest.approx(1, abs=0.03)


def test_state_in_8_bits_follows_that_in_32(rng):
    """Adam gets as far down a quadratic bowl with state in 2 and 1 bytes as in 4."""
    scales = 10.0 ** rng.uniform(-2, 2, 3000).astype(np.float32)
    losses = {}
    for state_dtype in (None, "bfloat16", "uint8"):
        p = np.ones(3000, np.float32)
        opt = ds.Adam(p, lr=0.01, state_dtype=state_dtype)
        for _ in range(300):
            opt.step(scales * p)
        losses[state_dtype] = float(np.abs(p).mean())
    assert losses[None] < 0.01
    assert max(losses.values()) < 0.02


# ---- going on from a copy ----


@pytest.mark.parametrize("way", ["pickle", "deepcopy", "state_dict", "file"])
@pytest.mark.parametrize("state_dtype", [None, "bfloat16", "uint8"])
@pytest.mark.parametrize("case", CODED_CASES, ids=case_id)
def test_going_on_from_a_copy(case, state_dtype, way, rng, tmp_path):
    """With averages, seed, counts of their own and the running product; and sums of gradients, in what copies all."""
    name, hyper = case
    options = {"state_dtype": state_dtype, "rounding": "stochastic", "seed": 2**64 - 3, "ema_decay": 0.9}
    options |= {"clip_norm": 5.0, "nonfinite": "skip", **hyper}
    params = [rng.standard_normal(n).astype(DTYPES[t]) for n, t in ((300, "float32"), (7, "float16"), (9, "bfloat16"))]
    params.append(np.asfortranarray(rng.standard_normal((20, 30))))
    opt, ref = pair(name, params, **options)

    def both(act):
        for optimizer in (opt, ref):
            act(optimizer)

    for step in range(3):
        grads = [g if step != i else None for i, g in enumerate(gradients(rng, params))]
        if step == 2:
            grads[0][0] = np.nan
        both(lambda o: o.step(grads))  # noqa: B023
    copies_all = way in ("pickle", "deepcopy")
    parts = [gradients(rng, params), [None, *gradients(rng, params[1:])]]
    if copies_all:
        for part in parts:
            both(lambda o: o.accumulate(part))  # noqa: B023

    if way == "pickle":
        twin = pickle.loads(pickle.dumps(opt))
    elif way == "deepcopy":
        twin = copy.deepcopy(opt)
    elif way == "state_dict":
        others = {
            **options,
            "seed": 1,
            "clip_norm": None,
            "nonfinite": "propagate",
            "rounding": "nearest",
            "ema_decay": 0,
        }
        twin = ds.OPTIMIZERS[name]([p.copy("K") for p in params], **others)
        twin.load_state_dict(opt.state_dict())
    else:
        opt.save(tmp_path / "checkpoint")
        twin = ds.load_optimizer(tmp_path / "checkpoint", [p.copy("K") for p in params])
    assert not any(np.shares_memory(p, q) for p, q in zip(opt.params, twin.params, strict=True))
    assert not any(np.shares_memory(p, q) for p, q in zip(opt.ema, twin.ema, strict=True))
    opt = twin
    if copies_all:
        both(lambda o: o.step())
    for _ in range(3):
        grads = gradients(rng, params)
        both(lambda o: o.step(grads))  # noqa: B023
    assert (opt.skipped_steps, opt.step_count) == (1, 5 + copies_all)
    assert_same_optimizers(opt, ref)
