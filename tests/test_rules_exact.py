"""Promise 1: every rule equals the NumPy reference bit for bit, on any number of threads and for any length."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_cases import (
    CASES,
    SURROUNDINGS,
    TILE,
    assert_same_bits,
    assert_same_optimizers,
    case_id,
    gradients,
    on_threads,
    pair,
)

import downslope as ds

LANES = (2, 4, 8, 16)  # elements of a vector, at any level and dtype
LENGTHS = sorted({0, 1, 100_003, *(n + d for n in (*LANES, 32, TILE, 2 * TILE) for d in (-1, 0, 1))})

pytestmark = pytest.mark.usefixtures("silent")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_every_length_and_number_of_threads(case, dtype, forced_threads):
    name, hyper = case
    rng = np.random.default_rng(1)
    start = [rng.standard_normal(n).astype(dtype) for n in LENGTHS]
    runs = {threads: pair(name, [p.copy() for p in start], **hyper) for threads in (1, 2, 3)}
    for step in range(24):
        grads = gradients(rng, start)
        for threads, (opt, ref) in runs.items():
            with forced_threads(threads):
                opt.step(grads)
            if threads == 1:
                ref.step(grads)
    expected = runs[1][1]
    for opt, _ in runs.values():
        assert opt.step_count == 24
        assert_same_optimizers(opt, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("around", SURROUNDINGS[1:], ids=case_id)
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_what_surrounds_a_rule(case, around, dtype, rng):
    name, hyper = case
    params = [rng.standard_normal(n).astype(dtype) for n in (1, 37, TILE + 5)]
    opt, ref = pair(name, params, **hyper, **around)
    for _ in range(20):
        grads = gradients(rng, params)
        opt.step(grads)
        ref.step(grads)
    assert_same_optimizers(opt, ref)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_nan_and_infinity_stay_where_they_are(case, rng):
    """In the vector body and in the tail alike: no maximum, sign or clamp swallows a NaN."""
    name, hyper = case
    for n in (1, 3, 16, 67):
        params = [rng.standard_normal(n).astype(np.float32)]
        opt, ref = pair(name, params, **hyper)
        for step in range(4):
            grads = gradients(rng, params)
            grads[0][step % n] = (np.nan, np.inf, -np.inf, 1e38)[step]
            ref.step(grads)
            opt.step(grads)
        assert_same_optimizers(opt, ref)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_subnormal_numbers_are_kept(case, rng):
    name, hyper = case
    params = [(rng.standard_normal(50) * 1e-42).astype(np.float32)]
    opt, ref = pair(name, params, **hyper, lr=1e-3)
    for _ in range(5):
        grads = [(rng.standard_normal(50) * 1e-40).astype(np.float32)]
        opt.step(grads)
        ref.step(grads)
    assert_same_optimizers(opt, ref)


@settings(deadline=None, max_examples=40)
@given(
    cuts=st.lists(st.integers(0, 5000), max_size=12),
    threads=st.integers(1, 3),
    name=st.sampled_from(sorted(ds.OPTIMIZERS)),
)
def test_cutting_the_list_elsewhere_changes_nothing(cuts, threads, name):
    """A parameter in one piece and the same parameter in pieces of any lengths move alike."""
    rng = np.random.default_rng(len(cuts))
    whole = rng.standard_normal(5000).astype(np.float32)
    edges = [0, *sorted(cuts), 5000]
    pieces = [whole[a:b].copy() for a, b in zip(edges, edges[1:], strict=False)]
    in_one, in_pieces = ds.OPTIMIZERS[name](whole), ds.OPTIMIZERS[name](pieces)
    for _ in range(3):
        grad = rng.standard_normal(5000).astype(np.float32)
        in_one.step(grad)
        with on_threads(threads):
            in_pieces.step([grad[a:b] for a, b in zip(edges, edges[1:], strict=False)])
    assert_same_bits(np.concatenate(pieces), whole)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_each_array_counts_its_own_steps(case, rng):
    """Bias correction, the first momentum step and NAdam's product follow the array, not the optimizer."""
    name, hyper = case
    params = [rng.standard_normal(9) for _ in range(4)]
    opt, ref = pair(name, params, **hyper)
    for step in range(12):
        grads = gradients(rng, params)
        grads = [g if step % (i + 1) == 0 else None for i, g in enumerate(grads)]
        opt.step(grads)
        ref.step(grads)
    assert [int(slots["step"]) for slots in opt.state] == [12, 6, 4, 3]
    assert_same_optimizers(opt, ref)


def test_coefficients_at_large_step_counts(rng):
    for name in ("adam", "nadam", "radam", "adabelief", "adagrad"):
        params = [rng.standard_normal(5)]
        opt, ref = pair(name, params)
        for t in (1, 10, 10**4, 10**9, 2**40):
            opt.state[0]["step"][...] = ref.steps[0] = t - 1
            grads = gradients(rng, params)
            opt.step(grads)
            ref.step(grads)
        assert_same_optimizers(opt, ref)


def test_float32_gradients_of_float64_parameters(rng):
    params = [rng.standard_normal(n) for n in (5, 3000)]
    opt, ref = pair("adam", params)
    for _ in range(5):
        grads = [rng.standard_normal(p.shape).astype(np.float32) for p in params]
        opt.step(grads)
        ref.step(grads)
    assert_same_optimizers(opt, ref)


def test_dtypes_may_be_mixed_in_one_list(rng):
    params = [rng.standard_normal(7).astype(np.float32), rng.standard_normal(7), rng.standard_normal(9).astype("f4")]
    opt, ref = pair("adamw", params)
    for _ in range(5):
        grads = gradients(rng, params)
        opt.step(grads)
        ref.step(grads)
    assert_same_optimizers(opt, ref)
