"""What holds for every rule of the reference, and what surrounds it."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_paths import DEFAULTS, calls

from downslope.reference import RULES, Optimizer

VARIANTS = [  # together they take every branch; RAdam rectifies within their steps
    ("sgd", {}),
    ("sgd", {"momentum": 0.9, "dampening": 0.3}),
    ("sgd", {"momentum": 0.9, "nesterov": True}),
    ("nag", {}),
    ("adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.1}),
    ("adadelta", {}),
    ("rmsprop", {}),
    ("rmsprop", {"centered": True}),
    ("rmsprop", {"centered": True, "momentum": 0.9}),
    ("adam", {}),
    ("adam", {"amsgrad": True}),
    ("adam", {"bias_correction": False}),
    ("adamax", {}),
    ("nadam", {}),
    ("nadam", {"momentum_decay": None}),
    ("adabelief", {}),
    ("adabelief", {"amsgrad": True, "rectify": True}),
    ("radam", {}),
    ("lion", {}),
]
for_every_rule = calls(*VARIANTS)


def gradients(shape, steps=11, dtype=float):
    """An odd number of them, so that Lion cannot come back to where it was."""
    return list(np.random.default_rng(9).standard_normal((steps, *shape)).astype(dtype))


def assert_state_equal(actual, expected):
    assert set(actual) == set(expected)
    for slot, value in expected.items():
        assert_array_equal(actual[slot], value, err_msg=slot)


def test_variants_leave_no_rule_out():
    assert {rule for rule, _ in VARIANTS} == set(RULES)


@for_every_rule
def test_none_leaves_array_state_and_count_alone(rule, options):
    """An array that misses gradients goes where it would go had those steps never been."""
    grads = gradients((3,))
    missed = {0, 3, 4}
    p, q, alone, never = np.ones(3), np.ones(3), np.ones(3), np.ones(3)
    opt, lone = Optimizer(rule, [p, q, never], **options), Optimizer(rule, [alone], **options)
    for i, g in enumerate(grads):
        before = q.copy()
        opt.step([g, None if i in missed else g, None])
        if i in missed:
            assert_array_equal(q, before)
        else:
            lone.step([g])
    assert opt.steps == [11, 8, 0]
    assert_array_equal(q, alone)
    assert_state_equal(opt.state[1], lone.state[0])
    assert_array_equal(never, np.ones(3))
    assert opt.state[2] == {}


@for_every_rule
def test_zero_dimensional_arrays_move_in_place(rule, options):
    p, q = np.array(1.0), np.ones(1)
    opt, like = Optimizer(rule, [p], **options), Optimizer(rule, [q], **options)
    for g in gradients((1,)):
        opt.step([g.reshape(())])
        like.step([g])
    assert p.shape == ()
    assert p == q[0] != 1


@for_every_rule
@pytest.mark.parametrize("shape", [(0,), (3, 0, 2)], ids=str)
def test_empty_arrays_are_stepped_like_any(rule, options, shape):
    p, q = np.ones(shape), np.ones(2)
    opt = Optimizer(rule, [p, q], **options)
    for g in gradients((2,), steps=3):
        opt.step([np.zeros(shape), g])
    assert p.shape == shape
    assert opt.steps == [3, 3]
    assert (q != 1).all()


LAYOUTS = {
    "every second": ((24,), lambda base: base[::2]),
    "reversed": ((12,), lambda base: base[::-1]),
    "transposed": ((4, 3), lambda base: base.T),
    "column block": ((3, 9), lambda base: base[:, 2:6]),
    "permuted axes": ((4, 5, 3), lambda base: base[:, ::2, 1:].transpose(2, 0, 1)),
}


@for_every_rule
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strided_parameters_move_in_place_and_nothing_between_them(rule, options, layout):
    shape, view = LAYOUTS[layout]
    base = np.random.default_rng(10).standard_normal(shape)
    between = np.ones(shape, dtype=bool)
    view(between)[...] = False
    original, p = base.copy(), view(base)
    q = p.copy(order="C")
    opt, like = Optimizer(rule, [p], **options), Optimizer(rule, [q], **options)
    for g in gradients(p.shape):
        opt.step([np.asfortranarray(g)])
        like.step([g])
    assert_array_equal(p, q)
    assert (p != view(original)).all()
    assert_array_equal(base[between], original[between])
    assert_state_equal(opt.state[0], like.state[0])


@for_every_rule
def test_float32_stays_float32(rule, options):
    """Parameters and state, even where a hyper-parameter is a NumPy double; and near what float64 does."""
    start, grads = np.linspace(0.5, 2, 50), gradients((50,), dtype=np.float32)
    p, wide = start.astype(np.float32), start.astype(np.float32).astype(float)
    opt = Optimizer(rule, [p], lr=np.float64(0.01), weight_decay=np.float64(0.1), **options)
    wide_opt = Optimizer(rule, [wide], lr=0.01, weight_decay=0.1, **options)
    for g in grads:
        opt.step([g])
        wide_opt.step([g])
    assert p.dtype == np.float32
    assert {value.dtype for slot, value in opt.state[0].items() if slot != "mu_product"} <= {np.dtype(np.float32)}
    assert type(opt.state[0].get("mu_product", 0.5)) is float  # a double, whatever the array's type
    assert wide.dtype == np.float64
    assert_allclose(p, wide, rtol=1e-4)


@for_every_rule
def test_narrower_gradients_are_widened_first(rule, options):
    p, q = np.ones(50, dtype=np.float64), np.ones(50, dtype=np.float64)
    opt, like = Optimizer(rule, [p], grad_scale=1 / 3, **options), Optimizer(rule, [q], grad_scale=1 / 3, **options)
    for g in gradients((50,), dtype=np.float32):
        opt.step([g])
        like.step([g.astype(np.float64)])
    assert_array_equal(p, q)


@for_every_rule
@pytest.mark.parametrize("F", [np.float32, np.float64])
def test_nan_poisons_its_own_element_and_no_other(rule, options, F):
    """It stays, too: no maximum, sign or clamp may swallow it."""
    p, q = np.ones(9, dtype=F), np.ones(9, dtype=F)
    opt, clean = Optimizer(rule, [p], **options), Optimizer(rule, [q], **options)
    for i, g in enumerate(gradients((9,), dtype=F)):
        clean.step([g])
        opt.step([np.where((np.arange(9) == 4) & (i == 2), F(np.nan), g)])
        if i >= 2:
            assert np.isnan(p[4])
    others = np.arange(9) != 4
    assert_array_equal(p[others], q[others])
    for slot, value in clean.state[0].items():
        assert np.isnan(opt.state[0][slot]).any() == (slot != "mu_product")
        if slot != "mu_product":
            assert_array_equal(opt.state[0][slot][others], value[others], err_msg=slot)
    p[4] = 1  # a sound parameter on poisoned state is poisoned again
    opt.step([np.ones(9, dtype=F)])
    assert np.isnan(p[4]) == bool(opt.state[0])


@for_every_rule
@pytest.mark.parametrize("F", [np.float32, np.float64])
@pytest.mark.parametrize("maximize", [False, True], ids=["minimize", "maximize"])
@pytest.mark.parametrize("decay", ["none", "coupled", "decoupled"])
def test_gradients_are_scaled_then_negated_then_decayed(rule, options, F, maximize, decay):
    """The decay is neither scaled nor negated; decoupled, it comes before the rule, with the lr as given.

    No lr is given here, so it is the rule's default. Adagrad's variant has an lr_decay: it leaves the decay alone.
    """
    scale, wd = 1 / 3, 0.643  # 1 - lr wd in float32 depends on where it is cast, for two of the default rates
    p, q = np.linspace(0.5, 2, 20).astype(F), np.linspace(0.5, 2, 20).astype(F)
    surroundings = {"weight_decay": 0.0 if decay == "none" else wd, "decoupled_weight_decay": decay == "decoupled"}
    opt = Optimizer(rule, [p], grad_scale=scale, maximize=maximize, **surroundings, **options)
    plain = Optimizer(rule, [q], **options)
    for g in gradients((20,), dtype=F):
        opt.step([g])
        by_hand = F(-scale if maximize else scale) * g
        if decay == "coupled":
            by_hand = by_hand + F(wd) * q
        elif decay == "decoupled":
            q *= F(1 - DEFAULTS[rule]["lr"] * wd)
        plain.step([by_hand])
    assert_array_equal(p, q)
    assert_state_equal(opt.state[0], plain.state[0])


@for_every_rule
def test_gradients_are_not_written_to(rule, options):
    p, g = np.ones(5), np.full(5, 0.5)
    g.flags.writeable = False
    for surroundings in ({}, {"weight_decay": 0.1, "maximize": True}):
        Optimizer(rule, [p], **surroundings, **options).step([g])
    assert_array_equal(g, np.full(5, 0.5))


def test_the_lr_in_force():
    assert Optimizer("sgd", []).lr == 1e-2
    assert Optimizer("sgd", [], lr=0.5).lr == 0.5
