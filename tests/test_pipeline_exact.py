"""Promise 1 for the whole step: what surrounds a rule equals the NumPy reference bit for bit, in any combination."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rule_cases import (
    CASES,
    CODED_CASES,
    DTYPES,
    LAYOUTS,
    SAFE,
    TILE,
    assert_same_bits,
    assert_same_optimizers,
    case_id,
    gradients,
    on_threads,
    outcome,
    pair,
)

pytestmark = pytest.mark.usefixtures("silent")

# Around the widths of vectors, and around what is summed, coded and shared out at a time.
LENGTHS = [0, 1, 7, *(n + d for n in (16, 256, 512, TILE, 3 * TILE) for d in (-1, 0, 1))]


def filled(rng, array):
    """The array, full of random numbers."""
    array[...] = rng.standard_normal(array.shape)
    return array


# ---- everything at once ----

GROUP_OPTIONS = {
    "lr": st.sampled_from([0.0, 1e-3, 0.5]),
    "weight_decay": st.sampled_from([0.0, 1e-3, 0.3]),
    "decoupled_weight_decay": st.booleans(),
    "maximize": st.booleans(),
    "grad_scale": st.sampled_from([1.0, -0.3, 1e-3, 1 / 3]),
    "clip_value": st.sampled_from([None, 0.0, 1e-2, 5.0]),
}
OPTIONS = {
    "clip_norm": st.sampled_from([None, 0.0, 1e-2, 30.0, 1e6]),
    "nonfinite": st.sampled_from(["propagate", "raise", "skip"]),
    "state_dtype": st.sampled_from([None, "bfloat16", "uint8"]),
    "rounding": st.sampled_from(["nearest", "stochastic"]),
    "seed": st.sampled_from([0, 1, 2**64 - 1]),
    "ema_decay": st.sampled_from([None, 0.0, 0.9]),
}
SHAPES = [*(("flat", n) for n in LENGTHS), *((layout, None) for layout in LAYOUTS)]


@st.composite
def steps(draw, arrays):
    """What is done in one step: which way the gradients go in, and for each call which arrays have one."""
    way = draw(st.sampled_from(["pass", "bind", "accumulate", "accumulate bound"]))
    calls = draw(st.integers(1, 4)) if way.startswith("accumulate") else 1
    return {
        "way": way,
        "threads": draw(st.integers(1, 3)),
        "present": [[draw(st.integers(0, 4)) > 0 for _ in range(arrays)] for _ in range(calls)],
        "spoiled": draw(st.sampled_from([None] * 5 + [np.nan, np.inf])),
    }


@st.composite
def stories(draw):
    """An optimizer of one to three groups of arrays, and the steps that it takes."""
    groups = []
    for _ in range(draw(st.integers(1, 3))):
        kinds = draw(
            st.lists(st.tuples(st.sampled_from(SHAPES), st.sampled_from(list(DTYPES))), min_size=1, max_size=2)
        )
        groups.append({"params": kinds, **draw(st.fixed_dictionaries({}, optional=GROUP_OPTIONS))})
    kinds = [kind for group in groups for kind in group["params"]]
    return {
        "groups": groups,
        "options": draw(st.fixed_dictionaries({}, optional=OPTIONS)),
        "gradients": [draw(st.sampled_from(SAFE[dtype])) for _, dtype in kinds],
        "steps": draw(st.lists(steps(len(kinds)), min_size=1, max_size=5)),
        "entropy": draw(st.integers(0, 2**32 - 1)),
    }


def made(shape, dtype):
    """An array of a kind, as in `SHAPES`."""
    layout, n = shape
    return np.zeros(n, DTYPES[dtype]) if layout == "flat" else LAYOUTS[layout](DTYPES[dtype])


@pytest.mark.parametrize("case", CASES, ids=case_id)
@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(story=stories())
def test_all_options_together(case, story):
    name, hyper = case
    rng = np.random.default_rng(story["entropy"])
    groups = [{**group, "params": [filled(rng, made(*kind)) for kind in group["params"]]} for group in story["groups"]]
    options = dict(story["options"])
    if case not in CODED_CASES:
        options.pop("state_dtype", None)
    opt, ref = pair(name, groups, **hyper, **options)
    for step in story["steps"]:
        given_grads = []
        for present in step["present"]:
            grads = [g.astype(DTYPES[t]) for g, t in zip(gradients(rng, opt.params), story["gradients"], strict=True)]
            if step["spoiled"] is not None and grads[-1].size > 0:
                grads[-1][(-1,) * grads[-1].ndim] = step["spoiled"]
            given_grads.append([g if there else None for g, there in zip(grads, present, strict=True)])
        with on_threads(step["threads"]):
            if step["way"] == "pass":
                errors = [outcome(lambda o=o: o.step(given_grads[0])) for o in (opt, ref)]
            elif step["way"] == "bind":
                opt.bind(given_grads[0])
                errors = [outcome(opt.step), outcome(lambda: ref.step(given_grads[0]))]
            else:
                for grads in given_grads:
                    if step["way"] == "accumulate":
                        opt.accumulate(grads)
                    else:
                        opt.bind(grads)
                        opt.accumulate()
                    ref.accumulate(grads)
                errors = [outcome(o.step) for o in (opt, ref)]
        assert errors[0] is errors[1]
        if errors[0] is not None:  # what was accumulated has stayed
            opt.zero_grad()
            ref.accumulated, ref.accumulations = [None for _ in ref.params], 0
    assert_same_optimizers(opt, ref)


# ---- each for itself, at the places where it could go wrong ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_every_length_and_number_of_threads(case, dtype, rng, forced_threads):
    """With clipping and an average, and parameters that are rounded stochastically where they are of 16 bits."""
    name, hyper = case
    options = {"clip_norm": 30.0, "clip_value": 2.0, "ema_decay": 0.9, "weight_decay": 0.1, "rounding": "stochastic"}
    start = [filled(rng, np.zeros(n, DTYPES[dtype])) for n in LENGTHS]
    runs = {threads: pair(name, [p.copy() for p in start], **hyper, **options) for threads in (1, 2, 3)}
    expected = runs[1][1]
    for step in range(3):
        grads = gradients(rng, start)
        grads = [g if (step + i) % 3 else None for i, g in enumerate(grads)]
        expected.step(grads)
        for threads, (opt, _) in runs.items():
            with forced_threads(threads):
                opt.step(grads)
    for opt, _ in runs.values():
        assert opt.last_grad_norm > 30
        assert_same_optimizers(opt, expected)


FOLLOWS_C_ORDER = [
    {"clip_norm": 1.0, "ema_decay": 0.5},
    {"nonfinite": "skip", "state_dtype": "bfloat16", "rounding": "stochastic"},
    {"clip_norm": 1.0, "state_dtype": "uint8", "ema_decay": 0.5},
    {"rounding": "stochastic", "ema_decay": 0.5},
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", FOLLOWS_C_ORDER, ids=case_id)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout(layout, options, dtype, rng, forced_threads):
    """Norms, blocks and random bits follow C order, and averages and state of any order their parameter."""
    param = filled(rng, LAYOUTS[layout](DTYPES[dtype]))
    opt, ref = pair("adam", [param], lr=0.1, **options)
    for step in range(3):
        (values,) = gradients(rng, [param])
        grad = (LAYOUTS[layout] if step != 1 else lambda _: np.zeros(param.shape, values.dtype, "F"))(values.dtype)
        grad[...] = values
        with forced_threads(1 + step):
            if step == 2:  # sums of gradients are contiguous, whatever the parameter is
                opt.accumulate([grad])
                opt.step()
            else:
                opt.step([grad])
        ref.step([values])
    assert_same_optimizers(opt, ref)


@pytest.mark.parametrize("grad_dtype, dtype", [(g, p) for p in DTYPES for g in SAFE[p]])
def test_gradients_of_another_dtype(grad_dtype, dtype, rng, forced_threads):
    params = [filled(rng, np.zeros(n, DTYPES[dtype])) for n in (3, 2 * TILE + 5)]
    opt, ref = pair("adam", params, clip_norm=10.0, nonfinite="skip")
    for step in range(4):
        grads = [g.astype(DTYPES[grad_dtype]) for g in gradients(rng, params)]
        if step == 1:
            grads[1][1500] = np.inf
        with forced_threads(2):
            opt.step(grads)
        ref.step(grads)
    assert (opt.step_count, opt.skipped_steps) == (3, 1)
    assert_same_optimizers(opt, ref)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_gradients_are_of_the_compute_type(dtype, rng):
    """Of a thousand float16 gradients, too, of which the last ones would else change nothing."""
    param = np.zeros(300, DTYPES[dtype])
    grads = [rng.standard_normal(300).astype(np.float16) for _ in range(1000)]
    opt, ref = pair("sgd", [param], lr=1.0, grad_scale=0.5)
    for grad in grads:
        opt.accumulate([grad])
        ref.accumulate([grad])
    opt.step()
    ref.step()
    assert_same_optimizers(opt, ref)
    mean = np.mean([grad.astype(float) for grad in grads], axis=0)
    np.testing.assert_allclose(param.astype(float), -0.5 * mean, atol={2: 1e-3, 4: 1e-7, 8: 1e-12}[param.itemsize])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_norm_at_the_bound_is_not_clipped(dtype, rng):
    """Nothing happens up to clip_norm itself, and everything beyond."""
    start = [filled(rng, np.zeros(n, DTYPES[dtype])) for n in (5, 2 * TILE + 1)]
    grads = gradients(rng, start)
    results, norms = [], []
    for clip_norm in (1e30, None, "norm", "below"):
        if clip_norm is not None and not isinstance(clip_norm, float):
            clip_norm = norms[0] if clip_norm == "norm" else np.nextafter(norms[0], 0)
        opt, ref = pair("sgd", [p.copy() for p in start], lr=0.5, grad_scale=-0.3, clip_norm=clip_norm)
        opt.step(grads)
        ref.step(grads)
        assert_same_optimizers(opt, ref)
        results.append(opt.params)
        norms.append(opt.last_grad_norm)
    assert norms[1] is None and norms[0] == norms[2] == norms[3]
    expected = 0.3 * np.sqrt(sum(np.sum(g.astype(float) ** 2) for g in grads))
    np.testing.assert_allclose(norms[0], expected, rtol=1e-2 if start[0].itemsize == 2 else 1e-6)
    for p, q, r in zip(*results[:3], strict=True):
        assert_same_bits(p, q)
        assert_same_bits(p, r)


def test_norms_are_of_all_groups_and_all_dtypes(rng):
    groups = [
        {"params": [filled(rng, np.zeros(2000)), filled(rng, np.zeros(5, np.float32))], "grad_scale": 2.0},
        {"params": [filled(rng, np.zeros(300, np.float16))], "clip_value": 0.5, "maximize": True},
        {"params": [filled(rng, np.zeros(7, DTYPES["bfloat16"]))], "momentum": 0.9, "weight_decay": 0.1},
    ]
    opt, ref = pair("sgd", groups, clip_norm=1.0)
    for _ in range(3):
        grads = [rng.standard_normal(p.shape).astype(p.dtype) for p in opt.params]
        opt.step(grads)
        ref.step(grads)
    assert_same_optimizers(opt, ref)
    scaled = [2 * grads[0], 2 * grads[1], np.clip(grads[2], -0.5, 0.5), grads[3]]
    np.testing.assert_allclose(
        opt.last_grad_norm, np.sqrt(sum(np.sum(g.astype(float) ** 2) for g in scaled)), rtol=1e-6
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("nonfinite", ["propagate", "raise", "skip"])
def test_one_element_that_is_not_finite(nonfinite, value, dtype, rng, forced_threads):
    """At the ends and in the middle of tiles and of arrays: a search that missed one would be seen."""
    sizes = (1, 17, 2 * TILE + 3)
    for number, at in ((0, 0), (1, 0), (1, 16), (2, 0), (2, TILE - 1), (2, TILE), (2, 2 * TILE + 2)):
        params = [filled(rng, np.zeros(n, DTYPES[dtype])) for n in sizes]
        opt, ref = pair("adam", params, nonfinite=nonfinite, clip_value=1.0)
        for step in range(3):
            grads = gradients(rng, params)
            if step == 1:
                grads[number][at] = value
            with forced_threads(1 + step):
                errors = [outcome(lambda o=o: o.step(grads)) for o in (opt, ref)]
            assert errors == [FloatingPointError if step == 1 and nonfinite == "raise" else None] * 2
        assert opt.skipped_steps == (nonfinite == "skip")
        assert opt.step_count == 3 - (nonfinite != "propagate")
        assert_same_optimizers(opt, ref)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_finite_gradients_whose_norm_overflows_are_finite(dtype):
    """`nonfinite` asks for elements; the norm is taken in float64, which squares of float64 leave."""
    big = np.finfo(dtype).max
    opt, ref = pair("sgd", [np.zeros(3000, dtype)], nonfinite="raise", lr=0.0)
    grads = [np.full(3000, big, dtype)]
    opt.step(grads)
    ref.step(grads)
    assert (opt.last_grad_norm == np.inf) == (dtype == "float64")
    assert_same_optimizers(opt, ref)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_parameters_of_16_bits_at_the_ends_of_their_range(dtype, rng):
    """Subnormal numbers, the largest ones, and what is rounded to infinity, both ways of rounding."""
    info = np.finfo(dtype) if dtype == "float16" else None
    tiny, huge = (float(info.smallest_subnormal), 65504.0) if info else (2.0**-133, 3.3895313892515355e38)
    start = np.concatenate(
        [rng.uniform(-20, 20, 300) * tiny, rng.uniform(0.9, 1, 300) * huge, [0.0, -0.0, huge, -huge]]
    )
    for rounding in ("nearest", "stochastic"):
        params = [start.astype(DTYPES[dtype])]
        opt, ref = pair("sgd", params, lr=1.0, rounding=rounding)
        for _ in range(3):
            grads = [(rng.standard_normal(start.size) * np.maximum(np.abs(start) / 50, tiny)).astype(np.float32)]
            opt.step(grads)
            ref.step(grads)
        assert np.isinf(params[0].astype(float)).any()
        assert_same_optimizers(opt, ref)


def test_options_may_change_between_steps(rng):
    """Those of all groups are attributes, and hold from the next step on."""
    params = [filled(rng, np.zeros(n, t)) for n, t in ((300, np.float32), (70, np.float16))]
    opt, ref = pair("adam", params, state_dtype="bfloat16", ema_decay=0.5)
    for changes in (
        {"clip_norm": 0.1},
        {"nonfinite": "skip"},
        {"clip_norm": None},
        {"nonfinite": "propagate", "rounding": "stochastic", "seed": 5},
        {"ema_decay": 0.9},
        {"seed": 6, "rounding": "nearest"},
    ):
        for key, value in changes.items():
            setattr(opt, key, value)
            setattr(ref, key, value)
        grads = gradients(rng, params)
        opt.step(grads)
        ref.step(grads)
        assert_same_optimizers(opt, ref)


def test_norms_and_stochastic_rounding_of_a_list_that_changes(rng):
    """What is kept from step to step, for speed, follows gradients that come and go and are of other dtypes."""
    params = [filled(rng, np.zeros(n, DTYPES[t])) for n, t in ((40, "bfloat16"), (2100, "float64"), (9, "float32"))]
    opt, ref = pair("nadam", params, clip_norm=1.0, rounding="stochastic", nonfinite="skip", state_dtype="uint8")
    for step in range(12):
        grads = gradients(rng, params)
        grads = [g if step >> i & 1 else None for i, g in enumerate(grads)]
        if step % 5 == 3 and grads[1] is not None:
            grads[1] = grads[1].astype(np.float16)
        opt.step(grads)
        ref.step(grads)
        assert_same_optimizers(opt, ref)
