"""First-order rules as methods of `minimize`: the optimizers, step by step."""

from contextlib import nullcontext

import pytest
from objectives import assert_same_results, recording, square, waves
from rule_cases import CASES, assert_same_bits, case_id

import downslope as ds


def path_of(opt, steps):
    """Where `waves` is evaluated."""
    p = opt.params
    points = [p.copy()]
    for _ in range(steps):
        with opt.lookahead() if isinstance(opt, ds.NAG) else nullcontext():
            grad = waves(p)[1]
        opt.step(grad)
        with opt.lookahead() if isinstance(opt, ds.NAG) else nullcontext():
            points.append(p.copy())
    return points


RULES = [(name, ds.OPTIMIZERS[name], hyper, {}) for name, hyper in CASES] + [
    ("momentum", ds.SGD, {}, {"momentum": 0.9}),
    ("momentum", ds.SGD, {"momentum": 0.5, "dampening": 0.1}, {}),
    ("nesterov", ds.SGD, {}, {"momentum": 0.9, "nesterov": True}),
    ("nesterov", ds.SGD, {"momentum": 0.5}, {"nesterov": True}),
]


@pytest.mark.parametrize("lr", [None, 0.03, ds.schedules.Cosine(0.1, steps=8, final=0.01)], ids=["", "lr", "schedule"])
@pytest.mark.parametrize("decay", [{}, {"weight_decay": 0.1}, {"weight_decay": 0.2, "decoupled_weight_decay": True}])
@pytest.mark.parametrize(
    "name, cls, hyper, implied", RULES, ids=[case_id((name, hyper)) for name, _, hyper, _ in RULES]
)
def test_rules_are_the_optimizers(name, cls, hyper, implied, decay, lr, rng):
    if cls is ds.AdamW:
        decay = {key: setting for key, setting in decay.items() if key == "weight_decay"}
    options = {**hyper, **decay} | ({} if lr is None else {"lr": lr})
    x0, points = rng.standard_normal((3, 5)), []
    res = ds.minimize(
        recording(waves, points), x0, method=name, jac=True, options={**options, "maxiter": 12, "gtol": 0}
    )
    expected = path_of(cls(x0.copy(), **implied, **options), 12)
    assert (res.nit, res.nfev, res.njev, res.status) == (12, 13, 13, 1)
    for t, (point, wanted) in enumerate(zip(points, expected, strict=True)):
        assert_same_bits(point, wanted, f"step {t}")
    best = min(expected, key=lambda x: waves(x)[0])
    assert_same_bits(res.x, best)
    assert_same_bits(res.jac, waves(best)[1])
    assert res.fun == waves(best)[0]


def test_every_rule_is_a_method():
    names = {"momentum", "nesterov", *ds.OPTIMIZERS}
    for name in names:
        expected = ds.minimize(square, [1.0, 2.0], method=name, jac=True, options={"maxiter": 3})
        assert_same_results(
            ds.minimize(square, [1.0, 2.0], method=name.upper(), jac=True, options={"maxiter": 3}), expected
        )
    assert {name for name, *_ in RULES} == names


@pytest.mark.parametrize("limits", [{"maxiter": 5}, {"maxfev": 5}, {"maxiter": 8, "maxfev": 5}])
def test_a_schedule_is_read_beforehand_for_steps_that_may_come(limits):
    asked, seen = [], []
    options = {"lr": lambda step: asked.append((step, len(seen))) or 0.1 / step, "gtol": 0, **limits}
    res = ds.minimize(recording(square, seen), [1.0, 2.0], method="adam", jac=True, options=options)
    assert asked == [(step, 0) for step in range(1, 6)] and res.nit <= 5


def test_a_schedule_that_is_told_is_refused():
    plateau = ds.schedules.ReduceOnPlateau(0.1)
    joined = ds.schedules.Joined([ds.schedules.Linear(0.0, 5, final=0.1), plateau], [5])
    for schedule in (plateau, joined, ds.schedules.Joined([joined], [])):
        with pytest.raises(TypeError, match="^lr must follow from the step alone: .*, got .*ReduceOnPlateau"):
            ds.minimize(square, [1.0, 2.0], method="adam", jac=True, options={"lr": schedule})


def test_gradient_descent_in_closed_form():
    """x_t = (1 - 2 lr)^t x_0 for f = x^2."""
    res = ds.minimize(square, 1.0, method="sgd", jac=True, options={"lr": 0.125, "maxiter": 20})
    assert res.x == pytest.approx(0.75**20, rel=1e-14) and res.fun == res.x**2
