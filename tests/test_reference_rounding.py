"""The order of roundings in the reference, spelled out: coefficients are literal, formed in double, cast once."""

import math

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from downslope.reference import RULES, Optimizer

B1, B2 = 0.9, 0.999
C1, C2 = 1 - B1, 1 - B2  # bias corrections at t = 1 ...
C11, C22 = 1 - B1 * B1, 1 - B2 * B2  # ... and at t = 2
LR = 0.03  # of those rates with which lr/c1 in float32 depends on where it is cast; dampening 0.9 likewise
root = np.sqrt


def sgd_dampened(F, p, g, h):
    p1 = p - F(LR) * g
    b = F(0.8) * g + F(1 - 0.9) * h
    return p1 - F(LR) * b


def sgd_nesterov(F, p, g, h):
    p1 = p - F(LR) * (g + F(0.9) * g)
    b = F(0.9) * g + F(1 - 0.0) * h
    return p1 - F(LR) * (h + F(0.9) * b)


def nag(F, p, g, h):
    v = F(0.9) * F(0) - F(LR) * g
    p1 = p + v
    return p1 + (F(0.9) * v - F(LR) * h)


def adagrad(F, p, g, h):
    s = F(0.3) + g * g
    p1 = p - F(LR) * (g / (root(s) + F(1e-3)))
    s = s + h * h
    return p1 - F(LR / (1 + 1 * 0.7)) * (h / (root(s) + F(1e-3)))


def adadelta(F, p, g, h):
    v = F(1 - 0.9) * (g * g)
    d = g * (root(F(1e-3)) / root(v + F(1e-3)))
    p1 = p - F(LR) * d
    u = F(1 - 0.9) * (d * d)
    v = F(0.9) * v + F(1 - 0.9) * (h * h)
    return p1 - F(LR) * (h * (root(u + F(1e-3)) / root(v + F(1e-3))))


def rmsprop(F, p, g, h):
    v, a = F(1 - 0.9) * (g * g), F(1 - 0.9) * g
    b = g / (root(v - a * a) + F(1e-3))
    p1 = p - F(LR) * b
    v, a = F(0.9) * v + F(1 - 0.9) * (h * h), F(0.9) * a + F(1 - 0.9) * h
    return p1 - F(LR) * (F(0.8) * b + h / (root(v - a * a) + F(1e-3)))


def adam(F, p, g, h):
    m, v = F(1 - B1) * g, F(1 - B2) * (g * g)
    p1 = p - F(LR / C1) * (m / (root(v) * F(1 / math.sqrt(C2)) + F(1e-3)))
    m, v = F(B1) * m + F(1 - B1) * h, F(B2) * v + F(1 - B2) * (h * h)
    return p1 - F(LR / C11) * (m / (root(v) * F(1 / math.sqrt(C22)) + F(1e-3)))


def adam_amsgrad(F, p, g, h):
    m, v = F(1 - B1) * g, F(1 - B2) * (g * g)
    p1 = p - F(LR / C1) * (m / (root(v) * F(1 / math.sqrt(C2)) + F(1e-3)))
    m, w = F(B1) * m + F(1 - B1) * h, F(B2) * v + F(1 - B2) * (h * h)
    return p1 - F(LR / C11) * (m / (root(np.maximum(v, w)) * F(1 / math.sqrt(C22)) + F(1e-3)))


def adamax(F, p, g, h):
    m, u = F(1 - B1) * g, np.abs(g) + F(1e-3)
    p1 = p - F(LR / C1) * (m / u)
    m, u = F(B1) * m + F(1 - B1) * h, np.maximum(F(B2) * u, np.abs(h) + F(1e-3))
    return p1 - F(LR / C11) * (m / u)


def nadam(F, p, g, h):
    q = 0.96**0.1
    mu1, mu2, mu3 = B1 * (1 - 0.5 * q), B1 * (1 - 0.5 * (q * q)), B1 * (1 - 0.5 * (q * (q * q)))
    m, v = F(1 - B1) * g, F(1 - B2) * (g * g)
    d = F(mu2 / (1 - mu1 * mu2)) * m + F((1 - mu1) / (1 - mu1)) * g
    p1 = p - F(LR) * (d / (root(v * F(1 / C2)) + F(1e-3)))
    m, v = F(B1) * m + F(1 - B1) * h, F(B2) * v + F(1 - B2) * (h * h)
    d = F(mu3 / (1 - mu1 * mu2 * mu3)) * m + F((1 - mu2) / (1 - mu1 * mu2)) * h
    return p1 - F(LR) * (d / (root(v * F(1 / C22)) + F(1e-3)))


def nadam_constant(F, p, g, h):
    m, v = F(1 - B1) * g, F(1 - B2) * (g * g)
    d = F(B1 / C11) * m + F((1 - B1) / C1) * g
    p1 = p - F(LR) * (d / (root(v * F(1 / C2)) + F(1e-3)))
    m, v = F(B1) * m + F(1 - B1) * h, F(B2) * v + F(1 - B2) * (h * h)
    d = F(B1 / (1 - B1 * (B1 * B1))) * m + F((1 - B1) / C11) * h
    return p1 - F(LR) * (d / (root(v * F(1 / C22)) + F(1e-3)))


def adabelief(F, p, g, h):
    m = F(1 - B1) * g
    s = F(1 - B2) * ((g - m) * (g - m)) + F(1e-5)
    p1 = p - F(LR / C1) * (m / (root(s * F(1 / C2)) + F(1e-3)))
    m = F(B1) * m + F(1 - B1) * h
    s = F(B2) * s + F(1 - B2) * ((h - m) * (h - m)) + F(1e-5)
    return p1 - F(LR / C11) * (m / (root(s * F(1 / C22)) + F(1e-3)))


def radam(F, p, g, h):
    m = F(1 - B1) * g
    p1 = p - F(LR / C1) * m
    m = F(B1) * m + F(1 - B1) * h
    return p1 - F(LR / C11) * m


def lion(F, p, g, h):
    p1 = p - F(LR) * np.sign(F(1 - 0.9) * g)
    m = F(1 - 0.99) * g
    return p1 - F(LR) * np.sign(F(0.9) * m + F(1 - 0.9) * h)


TWO_STEPS = [
    ("sgd", sgd_dampened, {"momentum": 0.8, "dampening": 0.9}),
    ("sgd", sgd_nesterov, {"momentum": 0.9, "nesterov": True}),
    ("nag", nag, {"momentum": 0.9}),
    ("adagrad", adagrad, {"lr_decay": 0.7, "initial_accumulator_value": 0.3, "eps": 1e-3}),
    ("adadelta", adadelta, {"rho": 0.9, "eps": 1e-3}),
    ("rmsprop", rmsprop, {"alpha": 0.9, "eps": 1e-3, "momentum": 0.8, "centered": True}),
    ("adam", adam, {"eps": 1e-3}),
    ("adam", adam_amsgrad, {"eps": 1e-3, "amsgrad": True}),
    ("adamax", adamax, {"eps": 1e-3}),
    ("nadam", nadam, {"eps": 1e-3, "momentum_decay": 0.1}),
    ("nadam", nadam_constant, {"eps": 1e-3, "momentum_decay": None}),
    ("adabelief", adabelief, {"eps": 1e-3, "eps_root": 1e-5}),
    ("radam", radam, {}),
    ("lion", lion, {}),
]


def test_two_steps_leave_no_rule_out():
    assert {rule for rule, _, _ in TWO_STEPS} == set(RULES)


def drawn(F, count=3, size=2000):
    """Arrays of many magnitudes: among 2,000 elements some round differently when an operation moves."""
    rng = np.random.default_rng(8)
    return [(rng.standard_normal(size) * 10 ** rng.uniform(-4, 1, size)).astype(F) for _ in range(count)]


@pytest.mark.parametrize("F", [np.float32, np.float64])
@pytest.mark.parametrize(("rule", "written_out", "options"), [pytest.param(*x, id=x[1].__name__) for x in TWO_STEPS])
def test_two_steps_to_the_last_bit(rule, written_out, options, F):
    p, g, h = drawn(F)
    expected = written_out(F, p.copy(), g, h)
    opt = Optimizer(rule, [p], lr=LR, **options)
    opt.step([g])
    opt.step([h])
    assert p.dtype == expected.dtype == F
    assert_array_equal(p, expected)


@pytest.mark.parametrize("F", [np.float32, np.float64])
@pytest.mark.parametrize("rule", ["radam", "adabelief"])
def test_a_rectified_step_to_the_last_bit(rule, F):
    """Step 6 on fresh state: r_t, lr, c1 and, in RAdam, sqrt(c2) meet in double and are cast once."""
    lr = 0.07  # with which lr/c1 r in float32 depends on where it is cast
    p, g = drawn(F, count=2)
    c1 = 1 - (B1 * B1) * ((B1 * B1) * (B1 * B1))
    b6 = (B2 * B2) * ((B2 * B2) * (B2 * B2))
    rho_inf = 2 / (1 - B2) - 1
    rho = rho_inf - 2 * 6 * b6 / (1 - b6)
    r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
    m = F(1 - B1) * g
    if rule == "radam":
        v = F(1 - B2) * (g * g)
        expected = p - F(lr / c1 * r * math.sqrt(1 - b6)) * (m / (root(v) + F(1e-3)))
        options = {}
    else:
        s = F(1 - B2) * ((g - m) * (g - m)) + F(1e-5)
        expected = p - F(lr / c1 * r) * (m / (root(s * F(1 / (1 - b6))) + F(1e-3)))
        options = {"eps_root": 1e-5, "rectify": True}
    opt = Optimizer(rule, [p], lr=lr, eps=1e-3, **options)
    opt.steps = [5]
    opt.step([g])
    assert_array_equal(p, expected)
