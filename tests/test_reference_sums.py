"""The reference against the papers, on one number at a time: averages are explicit sums over all past gradients."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from reference_paths import descend, exact_rectification, name_of

_rng = np.random.default_rng(7)
HISTORIES = {
    "noise": _rng.standard_normal(100).tolist(),
    "drift": (1 + 0.1 * _rng.standard_normal(100)).tolist(),
    "rare": [float(x) if t % 9 == 3 else 0.0 for t, x in enumerate(_rng.standard_normal(100))],
    "large": (1e4 * _rng.standard_normal(100)).tolist(),
    "small": (1e-6 * _rng.standard_normal(100)).tolist(),
}


def past_average(beta, values):
    """(1 - beta) sum_i beta^(t-i) x_i."""
    t = len(values) - 1
    return (1 - beta) * math.fsum(beta ** (t - i) * x for i, x in enumerate(values))


def nag_by_sums(grads, *, lr, momentum):
    """Each gradient moves p at its own step by -lr g and at each later one by momentum times the last."""
    return [
        -lr * math.fsum(g * (1 - momentum ** (t - i)) / (1 - momentum) for i, g in enumerate(grads[:t]))
        for t in range(1, len(grads) + 1)
    ]


def adam_by_sums(grads, *, lr, betas, eps, amsgrad=False):
    """Kingma and Ba 2015, algorithm 1, without the correction of bias; amsgrad: Reddi et al. 2018, algorithm 2."""
    v = [past_average(betas[1], [g * g for g in grads[:t]]) for t in range(1, len(grads) + 1)]
    moves = []
    for t in range(1, len(grads) + 1):
        second = max(v[:t]) if amsgrad else v[t - 1]
        moves.append(-lr * past_average(betas[0], grads[:t]) / (math.sqrt(second) + eps))
    return [math.fsum(moves[:t]) for t in range(1, len(grads) + 1)]


def nadam_by_sums(grads, *, lr, betas, eps):
    """Dozat 2016, with a constant momentum: the next step's momentum on m, this step's complement on g."""
    beta1, beta2 = betas
    moves = []
    for t in range(1, len(grads) + 1):
        ahead = beta1 * past_average(beta1, grads[:t]) / (1 - beta1 ** (t + 1))
        ahead += (1 - beta1) * grads[t - 1] / (1 - beta1**t)
        v = past_average(beta2, [g * g for g in grads[:t]]) / (1 - beta2**t)
        moves.append(-lr * ahead / (math.sqrt(v) + eps))
    return [math.fsum(moves[:t]) for t in range(1, len(grads) + 1)]


def adabelief_by_sums(grads, *, lr, betas, eps, eps_root, amsgrad=False, rectify=False):
    """Zhuang et al. 2020, algorithm 2: the surprise g - m, with the new m; eps_root is added to s at every step."""
    beta1, beta2 = betas
    steps = range(1, len(grads) + 1)
    m = [past_average(beta1, grads[:t]) for t in steps]
    surprise = [(g - mean) ** 2 for g, mean in zip(grads, m, strict=True)]
    s = [past_average(beta2, surprise[:t]) + eps_root * math.fsum(beta2**k for k in range(t)) for t in steps]
    moves = []
    for t in steps:
        r = exact_rectification(beta2, t) if rectify else 1.0
        m_hat = m[t - 1] / (1 - beta1**t)
        s_hat = (max(s[:t]) if amsgrad else s[t - 1]) / (1 - beta2**t)
        moves.append(-lr * m_hat if r is None else -lr * r * m_hat / (math.sqrt(s_hat) + eps))
    return [math.fsum(moves[:t]) for t in steps]


def lion_by_sums(grads, *, lr, betas):
    """Chen et al. 2023, algorithm 2: the sign of beta1 m + (1 - beta1) g, m the average of the gradients before."""
    beta1, beta2 = betas
    signs = []
    for t in range(1, len(grads) + 1):
        before = past_average(beta2, grads[: t - 1]) if t > 1 else 0.0
        u = beta1 * before + (1 - beta1) * grads[t - 1]
        signs.append((u > 0) - (u < 0))
    return [-lr * sum(signs[:t]) for t in range(1, len(grads) + 1)]


BELIEF = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "eps_root": 1e-16}
BY_SUMS = [
    ("nag", nag_by_sums, {"lr": 0.01, "momentum": 0.9}),
    ("nag", nag_by_sums, {"lr": 0.1, "momentum": 0.0}),
    ("adam", adam_by_sums, {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-3}),
    ("adam", adam_by_sums, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "amsgrad": True}),
    ("nadam", nadam_by_sums, {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-3}),
    ("nadam", nadam_by_sums, {"lr": 0.01, "betas": (0.5, 0.999), "eps": 1e-8}),
    ("adabelief", adabelief_by_sums, BELIEF),
    ("adabelief", adabelief_by_sums, {**BELIEF, "betas": (0.5, 0.9)}),
    ("adabelief", adabelief_by_sums, {**BELIEF, "eps_root": 0.0}),
    ("adabelief", adabelief_by_sums, {**BELIEF, "eps_root": 1e-3}),
    ("adabelief", adabelief_by_sums, {**BELIEF, "eps": 0.1}),
    ("adabelief", adabelief_by_sums, {**BELIEF, "amsgrad": True}),
    ("adabelief", adabelief_by_sums, {**BELIEF, "rectify": True}),
    ("adabelief", adabelief_by_sums, {**BELIEF, "rectify": True, "betas": (0.9, 0.5)}),  # never rectified
    (
        "adabelief",
        adabelief_by_sums,
        {**BELIEF, "betas": (0.8, 0.9), "eps": 1e-3, "eps_root": 1e-4, "amsgrad": True, "rectify": True},
    ),
    ("lion", lion_by_sums, {"lr": 0.01, "betas": (0.9, 0.99)}),
    ("lion", lion_by_sums, {"lr": 0.01, "betas": (0.5, 0.8)}),
]
NOT_IN_THE_PAPER = {"adam": {"bias_correction": False}, "nadam": {"momentum_decay": None}}  # forms, not numbers


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize(("rule", "by_sums", "options"), [pytest.param(*x, id=name_of(x[0], x[2])) for x in BY_SUMS])
def test_equals_explicit_sums(rule, by_sums, options, history):
    grads = HISTORIES[history]
    _, path = descend(rule, grads, **options, **NOT_IN_THE_PAPER.get(rule, {}))
    expected = np.array(by_sums(grads, **options))
    # A path that comes back past its start keeps the rounding of how far it has been.
    assert_allclose(path[1:], expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())


def test_adabelief_measures_the_surprise_with_the_new_average():
    """At step 1 the new m is (1 - beta1) g, so s = (1 - beta2)(beta1 g)^2; with the old one it would be Adam's v."""
    g = np.array([3.0, -0.25, 1e-3])
    opt, _ = descend("adabelief", [g], eps_root=0.0)
    assert_allclose(opt.state[0]["exp_avg_var"], (1 - 0.999) * (0.9 * g) ** 2, rtol=1e-14, atol=0)
