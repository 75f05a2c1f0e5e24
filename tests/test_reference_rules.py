"""The reference rules against things that know nothing of them, so that core and reference can't be wrong alike.

In order: numbers recorded from PyTorch; closed forms that follow from the mathematics; explicit sums for what PyTorch
does not have; the order of roundings, spelled out with literal coefficients; and what surrounds every rule.
"""

import decimal
import fractions
import json
import math
import pathlib

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from downslope.reference.rules import RULES, Optimizer, power, rectification

U = 2.0**-53  # the unit roundoff of float64
with np.load(pathlib.Path(__file__).parent / "golden" / "torch_optim.npz") as _file:
    TORCH = dict(_file)
TORCH_CASES = json.loads(str(TORCH["cases"]))


def name_of(rule, options):
    """A readable test id: the call."""
    return f"{rule}({', '.join(f'{key}={value}' for key, value in options.items())})"


def calls(*pairs):
    """Parametrize over (rule, options)."""
    return pytest.mark.parametrize(("rule", "options"), [pytest.param(*pair, id=name_of(*pair)) for pair in pairs])


def descend(rule, grads, start=0.0, **options):
    """Step one float64 array through ``grads``, a row for each step; return the optimizer and the path, start first."""
    grads = np.asarray(grads, dtype=float)
    p = np.full(grads.shape[1:], start)
    opt, path = Optimizer(rule, [p], **options), [p.copy()]
    for g in grads:
        opt.step([g])
        path.append(p.copy())
    return opt, np.array(path)


def exact_rectification(beta2, t):
    """rho_t > 5 and r_t of Liu et al. 2020, section 3.3, for the very double beta2, in 60 digits."""
    with decimal.localcontext(decimal.Context(prec=60)):
        b = decimal.Decimal(beta2)
        rho_inf = 2 / (1 - b) - 1
        rho = rho_inf - 2 * t * b**t / (1 - b**t)
        if rho <= 5:
            return None
        return float(((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)).sqrt())


# ---------------------------------------------------------------------------------------------------------------------
# Names and defaults: the design's table
# ---------------------------------------------------------------------------------------------------------------------

DEFAULTS = {
    "sgd": {"lr": 1e-2, "momentum": 0.0, "dampening": 0.0, "nesterov": False},
    "nag": {"lr": 1e-2, "momentum": 0.9},
    "adagrad": {"lr": 1e-2, "lr_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10},
    "adadelta": {"lr": 1.0, "rho": 0.9, "eps": 1e-6},
    "rmsprop": {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "centered": False},
    "adam": {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False, "bias_correction": True},
    "adamax": {"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8},
    "nadam": {"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8, "momentum_decay": 4e-3},
    "adabelief": {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-16,
        "eps_root": 1e-16,
        "amsgrad": False,
        "rectify": False,
    },
    "radam": {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8},
    "lion": {"lr": 1e-4, "betas": (0.9, 0.99)},
}


def test_rules_and_defaults_are_the_designs():
    assert {name: rule.__kwdefaults__ for name, rule in RULES.items()} == DEFAULTS


# ---------------------------------------------------------------------------------------------------------------------
# PyTorch
# ---------------------------------------------------------------------------------------------------------------------

NOT_IN_TORCH = {
    "nag": set(DEFAULTS["nag"]),
    "adabelief": set(DEFAULTS["adabelief"]),
    "lion": set(DEFAULTS["lion"]),
    "adam": {"bias_correction"},
}


def as_rule(case):
    """Rule and options of a recorded case; AdamW is Adam with decoupled decay, 1e-2 by default."""
    if case["optimizer"] == "AdamW":
        return "adam", {"weight_decay": 1e-2, "decoupled_weight_decay": True, **case["options"]}
    return case["optimizer"].lower(), case["options"]


@pytest.mark.parametrize("case", TORCH_CASES, ids=[case["id"] for case in TORCH_CASES])
def test_equals_torch(case):
    """Parameters at the snapshots and every state slot at the end, under its PyTorch name, to 1e-12 relative.

    The two sides round differently (``lerp``, ``addcmul``, the power function), never by design: no case needs an
    absolute tolerance. The second array misses gradients, so this also checks that step counts are kept per array.
    """
    rule, options = as_rule(case)
    params = [TORCH["often/start"].copy(), TORCH["seldom/start"].copy()]
    opt, paths = Optimizer(rule, params, **options), ([], [])
    for i, (often, seldom, present) in enumerate(
        zip(TORCH["often/grads"], TORCH["seldom/grads"], TORCH["seldom/present"], strict=True)
    ):
        opt.step([often, seldom if present else None])
        if i + 1 in TORCH["snapshots"]:
            for path, p in zip(paths, params, strict=True):
                path.append(p.copy())

    assert opt.steps == [len(TORCH["often/grads"]), TORCH["seldom/present"].sum()]
    for name, path, state in zip(("often", "seldom"), paths, opt.state, strict=True):
        assert_allclose(path, TORCH[f"{case['id']}/{name}"], rtol=1e-12, atol=0)
        prefix = f"{case['id']}/{name}/"
        assert set(state) == {key.removeprefix(prefix) for key in TORCH if key.startswith(prefix)}
        for slot, value in state.items():
            assert_allclose(np.ravel(value), TORCH[prefix + slot].ravel(), rtol=1e-12, atol=0, err_msg=slot)


def test_torch_cases_leave_no_option_out():
    """Every hyper-parameter of every rule that PyTorch knows is somewhere set to something else than its default."""
    missing = {(rule, option) for rule in RULES for option in DEFAULTS[rule]}
    missing -= {(rule, option) for rule, options in NOT_IN_TORCH.items() for option in options}
    missing.remove(("sgd", "nesterov"))  # an option of SGD with momentum only: looked for below
    nesterov = False
    for rule, options in map(as_rule, TORCH_CASES):
        missing -= {(rule, key) for key, value in options.items() if value != DEFAULTS[rule].get(key)}
        nesterov |= rule == "sgd" and options.get("nesterov", False)
    assert not missing
    assert nesterov
    shared = {"weight_decay", "decoupled_weight_decay", "maximize"}
    assert shared <= {key for case in TORCH_CASES for key in case["options"]}


# ---------------------------------------------------------------------------------------------------------------------
# Coefficients
# ---------------------------------------------------------------------------------------------------------------------


POWERS = [
    (base, exponent)
    for base in (0.3, 0.5, 0.9, 0.95, 0.96**4e-3, 0.99, 0.999, 0.9999, 1 - U, 1.25)
    for exponent in (1, 2, 3, 5, 7, 10, 31, 32, 100, 999, 1024, 10007)
    if exponent * abs(math.log2(base)) < 1000  # beyond, a power is subnormal or infinite and has another bound
]


@pytest.mark.parametrize(("base", "exponent"), POWERS)
def test_power_against_exact_rationals(base, exponent):
    """t - 1 multiplications, however they are grouped, lose at most (t - 1) u / (1 - (t - 1) u)."""
    exact = fractions.Fraction(base) ** exponent
    error = abs(fractions.Fraction(power(base, exponent)) - exact) / exact
    assert error <= (exponent - 1) * U / (1 - (exponent - 1) * U)


def test_power_at_the_ends():
    assert [power(0.3, 0), power(0.0, 0), power(0.0, 7), power(1.0, 10**9)] == [1, 1, 0, 1]
    assert [power(0.5, t) for t in range(1074)] == [math.ldexp(1, -t) for t in range(1074)]
    assert power(0.9, 10**9) == 0


def test_power_squares_from_the_low_bit_up():
    """Which products are formed decides the last bit: b^13 is (b * b^4) * b^8."""
    for b in np.random.default_rng(0).uniform(0.5, 1, 100).tolist():
        b4 = (b * b) * (b * b)
        assert power(b, 13) == (b * b4) * (b4 * b4)


@pytest.mark.parametrize(
    ("beta2", "first"),
    [(0.0, None), (0.5, None), (0.6, None), (0.7, 10), (0.75, 8), (0.8, 7)]
    + [(beta2, 6) for beta2 in (0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999)],
)
def test_rectification_sets_in_at_the_known_step(beta2, first):
    """As beta2 -> 1, rho_t -> t from below: rho_5 never exceeds 5, and rho_6 does from beta2 = 0.9 on."""
    steps = range(1, 300)
    assert next((t for t in steps if exact_rectification(beta2, t) is not None), None) == first
    assert next((t for t in steps if rectification(beta2, t) is not None), None) == first
    if first is not None:
        assert all(rectification(beta2, t) is not None for t in range(first, 300))


@pytest.mark.parametrize("t", [1, 2, 5, 6, 7, 8, 10, 13, 50, 100, 1000, 20000])
@pytest.mark.parametrize("beta2", [0.5, 0.75, 0.8, 0.9, 0.99, 0.999, 0.9999])
def test_rectification_against_sixty_digits(beta2, t):
    """rho_t is a difference of numbers near rho_inf, themselves hurt by the cancellation in 1 - beta2^t."""
    expected, rho_inf = exact_rectification(beta2, t), 2 / (1 - beta2) - 1
    if expected is None:
        assert rectification(beta2, t) is None
    else:
        assert 0 < expected <= 1
        assert rectification(beta2, t) == pytest.approx(expected, rel=U * (rho_inf**2 + 8), abs=0)


# ---------------------------------------------------------------------------------------------------------------------
# Closed forms. G is a constant gradient, T the column of step counts: G * T has a row for each step.
# ---------------------------------------------------------------------------------------------------------------------

G = np.array([3.0, -0.25, 1e-3])
T = np.arange(1, 101)[:, None]
CONSTANT = np.repeat(G[None], len(T), axis=0)
SPIKE = np.where(T == 1, G, 0.0)  # a gradient once, then none


def assert_moves(path, moves, rtol=1e-12):
    """The path, from 0, is the running sum of what the formula says each step moves."""
    assert_allclose(path[1:], np.cumsum(moves, axis=0), rtol=rtol, atol=0)


def test_sgd_is_a_straight_line():
    _, path = descend("sgd", CONSTANT, lr=0.1)
    assert_allclose(path[1:], -0.1 * T * G, rtol=1e-13, atol=0)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("dampening", [0.0, 0.3, 1.0])
def test_sgd_momentum_is_a_geometric_sum(dampening, nesterov):
    """The first gradient enters undampened: b_t = g (mu^(t-1) + (1 - dampening)(1 - mu^(t-1))/(1 - mu))."""
    mu = 0.9
    opt, path = descend("sgd", CONSTANT, lr=0.1, momentum=mu, dampening=dampening, nesterov=nesterov)
    b = G * (mu ** (T - 1) + (1 - dampening) * (1 - mu ** (T - 1)) / (1 - mu))
    assert_allclose(opt.state[0]["momentum_buffer"], b[-1], rtol=1e-12, atol=0)
    assert_moves(path, -0.1 * (G + mu * b if nesterov else b))


@pytest.mark.parametrize("curvature", [12.0, 2.0, 0.2, 0.02])
def test_nag_on_a_parabola_follows_its_iteration_matrix(curvature):
    """With gradients h p at the look-ahead, p_t = A r1^t + B r2^t, r the roots of r^2 - a (1 + mu) r + a mu.

    a = 1 - lr h. The roots are real and of both signs at the first curvature, complex at the next two, real and
    positive at the last.
    """
    lr, mu, a = 0.1, 0.9, 1 - 0.1 * curvature
    p = np.ones(1)
    opt, path = Optimizer("nag", [p], lr=lr, momentum=mu), []
    for _ in range(100):
        ahead = p + mu * opt.state[0].get("velocity", 0.0)
        opt.step([curvature * ahead])
        path.append(p.item())
    r1, r2 = np.roots([1, -a * (1 + mu), a * mu]).astype(complex)
    weight = (a - r1) / (r2 - r1)  # p_0 = 1, p_1 = a
    expected = ((1 - weight) * r1 ** T[:, 0] + weight * r2 ** T[:, 0]).real
    assert_allclose(path, expected, rtol=0, atol=1e-12)


def slope(x):
    """The gradient of a function that is not a quadratic, with its minimum at 0."""
    return np.tanh(x) + 0.3 * x


def look_ahead_descent(lr, mu, steps=60):
    """NAG on `slope`: the positions p, and the points p + mu v at which the gradients were taken."""
    p = np.array([2.0, -0.5, 0.1])
    opt, positions, ahead = Optimizer("nag", [p], lr=lr, momentum=mu), [p.copy()], []
    for _ in range(steps):
        ahead.append(p + mu * opt.state[0].get("velocity", 0.0))
        opt.step([slope(ahead[-1])])
        positions.append(p.copy())
    return np.array(positions), np.array(ahead)


def test_nag_is_nesterovs_two_sequences():
    """Nesterov 1983: x_k = y_(k-1) - lr grad(y_(k-1)), y_k = x_k + mu (x_k - x_(k-1)), with a constant mu."""
    lr, mu = 0.2, 0.8
    positions, ahead = look_ahead_descent(lr, mu)
    x = y = positions[0]
    for k in range(60):
        assert_allclose(ahead[k], y, rtol=0, atol=1e-13)
        last, x = x, y - lr * slope(y)
        y = x + mu * (x - last)
        assert_allclose(positions[k + 1], x, rtol=0, atol=1e-13)


def test_nag_looks_ahead_to_where_sgd_with_nesterov_stands():
    """PyTorch's form of Nesterov momentum keeps the look-ahead point as its parameter: one method, two coordinates."""
    lr, mu = 0.2, 0.8
    _, ahead = look_ahead_descent(lr, mu)
    q = np.array([2.0, -0.5, 0.1])
    opt = Optimizer("sgd", [q], lr=lr, momentum=mu, nesterov=True)
    for point in ahead:
        assert_allclose(q, point, rtol=0, atol=1e-13)
        opt.step([slope(q)])


@pytest.mark.parametrize("lr_decay", [0.0, 0.05])
@pytest.mark.parametrize("start", [0.0, 0.5])
def test_adagrad_with_constant_gradient(start, lr_decay):
    opt, path = descend("adagrad", CONSTANT, lr=0.1, lr_decay=lr_decay, initial_accumulator_value=start, eps=1e-3)
    total = start + T * G**2
    assert_allclose(opt.state[0]["sum"], total[-1], rtol=1e-13, atol=0)
    assert_moves(path, -0.1 / (1 + (T - 1) * lr_decay) * G / (np.sqrt(total) + 1e-3))


def test_adagrad_steps_shrink_as_the_square_root_of_time():
    _, path = descend("adagrad", CONSTANT, lr=0.1, eps=0.0)
    assert_moves(path, -0.1 * np.sign(G) / np.sqrt(T))


def test_adadeltas_first_two_steps():
    """The first step is worth sqrt(eps); each step divides by this gradient's average, times that of past moves."""
    rho, eps = 0.9, 1e-4
    opt, path = descend("adadelta", CONSTANT[:2], lr=0.5, rho=rho, eps=eps)
    first = G * np.sqrt(eps) / np.sqrt((1 - rho) * G**2 + eps)
    second = G * np.sqrt((1 - rho) * first**2 + eps) / np.sqrt((1 - rho**2) * G**2 + eps)
    assert_moves(path, [-0.5 * first, -0.5 * second])
    assert_allclose(opt.state[0]["acc_delta"], rho * (1 - rho) * first**2 + (1 - rho) * second**2, rtol=1e-13, atol=0)


def test_rmsprop_with_constant_gradient():
    alpha, eps = 0.9, 1e-3
    opt, path = descend("rmsprop", CONSTANT, lr=0.1, alpha=alpha, eps=eps)
    v = (1 - alpha**T) * G**2
    assert_allclose(opt.state[0]["square_avg"], v[-1], rtol=1e-12, atol=0)
    assert_moves(path, -0.1 * G / (np.sqrt(v) + eps))


def test_rmsprop_momentum_is_a_weighted_sum_of_scaled_gradients():
    alpha, eps, mu = 0.9, 1e-3, 0.5
    _, path = descend("rmsprop", CONSTANT, lr=0.1, alpha=alpha, eps=eps, momentum=mu)
    scaled = G / (np.sqrt((1 - alpha**T) * G**2) + eps)
    b = np.array([(mu ** (t - T[:t]) * scaled[:t]).sum(axis=0) for t in range(1, len(T) + 1)])
    assert_moves(path, -0.1 * b)


def test_rmsprop_centered_variance_of_a_constant_gradient():
    """v - a^2 = g^2 alpha^t (1 - alpha^t): what is left of the variance is the start from zero."""
    alpha, eps, t = 0.9, 1e-3, T[:40]
    opt, path = descend("rmsprop", CONSTANT[:40], lr=0.1, alpha=alpha, eps=eps, centered=True)
    assert_allclose(opt.state[0]["grad_avg"], (1 - alpha ** t[-1]) * G, rtol=1e-12, atol=0)
    assert_moves(path, -0.1 * G / (np.sqrt(G**2 * alpha**t * (1 - alpha**t)) + eps))


def test_rmsprop_centered_never_takes_the_root_of_a_negative_variance():
    """Here the design leaves PyTorch, which has no max(., 0): rounding takes v - a^2 below zero, and sqrt is NaN."""
    g = np.random.default_rng(3).uniform(0.1, 10, 500)
    opt, path = descend("rmsprop", np.tile(g, (80, 1)), lr=0.1, alpha=0.5, eps=1e-3, centered=True)
    variance = opt.state[0]["square_avg"] - opt.state[0]["grad_avg"] ** 2
    assert (variance < 0).any()
    assert np.isfinite(path).all()
    nothing_left = variance <= 0
    assert_allclose((path[-1] - path[-2])[nothing_left], -0.1 * g[nothing_left] / 1e-3, rtol=1e-10)


@calls(
    ("adam", {}),
    ("adam", {"amsgrad": True}),
    ("adamax", {}),
    ("nadam", {"betas": (0.0, 0.999)}),
    ("rmsprop", {"alpha": 0.0}),
    ("lion", {}),
    ("adagrad", {}),
)
def test_first_step_is_the_sign_of_the_gradient(rule, options):
    """Without eps these rules know no scale: whatever the gradient's size, the first step is lr long."""
    g = np.array([1e-30, -1e-8, 1.0, -7.0, 1e30])
    eps = {} if rule == "lion" else {"eps": 0.0}
    _, path = descend(rule, [g], lr=0.25, **eps, **options)
    assert_allclose(path[1], -0.25 * np.sign(g), rtol=1e-14, atol=0)


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("eps", [0.0, 1e-8, 0.1])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.8), (0.0, 0.0)])
def test_adam_with_constant_gradient_is_a_straight_line(betas, eps, amsgrad):
    """Bias correction makes m = g and v = g^2 exactly, from the first step on."""
    opt, path = descend("adam", CONSTANT, lr=0.1, betas=betas, eps=eps, amsgrad=amsgrad)
    assert_allclose(path[1:], -0.1 * T * G / (np.abs(G) + eps), rtol=1e-12, atol=0)
    assert_allclose(opt.state[0]["exp_avg"], (1 - betas[0] ** T[-1]) * G, rtol=1e-12, atol=0)
    assert_allclose(opt.state[0]["exp_avg_sq"], (1 - betas[1] ** T[-1]) * G**2, rtol=1e-12, atol=0)


def test_adam_without_bias_correction():
    beta1, beta2, eps = 0.9, 0.99, 0.1
    _, path = descend("adam", CONSTANT, lr=0.1, betas=(beta1, beta2), eps=eps, bias_correction=False)
    assert_moves(path, -0.1 * (1 - beta1**T) * G / (np.sqrt(1 - beta2**T) * np.abs(G) + eps))


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_after_a_spike(amsgrad):
    """The average of squares decays as beta2^t; with amsgrad its maximum stays. Either is corrected for its bias."""
    beta1, beta2, eps = 0.9, 0.8, 0.1
    _, path = descend("adam", SPIKE, lr=0.1, betas=(beta1, beta2), eps=eps, amsgrad=amsgrad)
    m = (1 - beta1) * beta1 ** (T - 1) * G
    v = (1 - beta2) * (1 if amsgrad else beta2 ** (T - 1)) * G**2
    assert_moves(path, -0.1 / (1 - beta1**T) * m / (np.sqrt(v) / np.sqrt(1 - beta2**T) + eps))


@calls(("adam", {"betas": (0.9, 0.8)}), ("adabelief", {"betas": (0.9, 0.8)}))
def test_amsgrad_keeps_the_running_maximum(rule, options):
    """The maximum never falls, is the maximum of what the plain rule keeps, and makes no step longer."""
    grads = np.random.default_rng(4).standard_normal((50, 5)) * np.geomspace(1, 0.1, 50)[:, None]
    plain, top = ([np.zeros(5)] for _ in range(2))
    plain_opt, top_opt = Optimizer(rule, plain, **options), Optimizer(rule, top, amsgrad=True, **options)
    slot = {"adam": "exp_avg_sq", "adabelief": "exp_avg_var"}[rule]
    most = np.zeros(5)
    for g in grads:
        before = plain[0].copy(), top[0].copy()
        plain_opt.step([g])
        top_opt.step([g])
        assert_array_equal(top_opt.state[0][slot], plain_opt.state[0][slot])
        most = np.maximum(most, plain_opt.state[0][slot])
        assert_array_equal(top_opt.state[0]["max_" + slot], most)
        assert (np.abs(top[0] - before[1]) <= np.abs(plain[0] - before[0]) + 1e-15).all()
    assert (most > plain_opt.state[0][slot]).any()


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_adamax_with_constant_gradient_is_a_straight_line(eps):
    """eps belongs to the norm: u = |g| + eps at every step, without a bias of its own."""
    opt, path = descend("adamax", CONSTANT, lr=0.1, eps=eps)
    assert_allclose(opt.state[0]["exp_inf"], np.abs(G) + eps, rtol=1e-15, atol=0)
    assert_allclose(path[1:], -0.1 * T * G / (np.abs(G) + eps), rtol=1e-12, atol=0)


def test_adamax_after_a_spike():
    """The norm decays by beta2 a step until eps, under the maximum, holds it up."""
    beta1, beta2, eps = 0.9, 0.8, 1e-4
    _, path = descend("adamax", SPIKE, lr=0.1, betas=(beta1, beta2), eps=eps)
    u = np.maximum(beta2 ** (T - 1) * (np.abs(G) + eps), eps)
    assert (u == eps).any()
    assert_moves(path, -0.1 / (1 - beta1**T) * (1 - beta1) * beta1 ** (T - 1) * G / u)


@pytest.mark.parametrize("eps", [1e-8, 0.1])
def test_nadam_constant_form_with_constant_gradient(eps):
    beta1 = 0.9
    _, path = descend("nadam", CONSTANT, lr=0.1, betas=(beta1, 0.99), eps=eps, momentum_decay=None)
    weight = beta1 * (1 - beta1**T) / (1 - beta1 ** (T + 1)) + (1 - beta1) / (1 - beta1**T)
    assert_moves(path, -0.1 * weight * G / (np.abs(G) + eps))


@pytest.mark.parametrize("psi", [0.0, 4e-3, 0.1])
def test_nadam_schedule_with_constant_gradient(psi):
    """PyTorch's schedule, the product written out: mu_t = beta1 (1 - 0.96^(t psi)/2), P_t = mu_1 ... mu_t."""
    beta1, eps, steps = 0.9, 0.1, len(T)
    mu = [beta1 * (1 - 0.5 * 0.96 ** (t * psi)) for t in range(1, steps + 2)]
    weight = np.array(
        [
            (1 - mu[t - 1]) / (1 - math.prod(mu[:t])) + mu[t] * (1 - beta1**t) / (1 - math.prod(mu[: t + 1]))
            for t in range(1, steps + 1)
        ]
    )[:, None]
    opt, path = descend("nadam", CONSTANT, lr=0.1, betas=(beta1, 0.99), eps=eps, momentum_decay=psi)
    assert_moves(path, -0.1 * weight * G / (np.abs(G) + eps))
    assert opt.state[0]["mu_product"] == pytest.approx(math.prod(mu[:steps]), rel=1e-12, abs=0)


@pytest.mark.parametrize("psi", [4e-3, 0.1, 0.37])
def test_nadam_raises_to_a_real_power_once(psi):
    """0.96^psi is one ``pow``, then integer powers: 100 steps to the last bit, whatever library computes ``pow``."""
    opt, path = descend("nadam", CONSTANT, momentum_decay=psi)
    p, m, v, product = np.zeros(3), np.zeros(3), np.zeros(3), 1.0
    for t in range(1, len(T) + 1):
        mu, mu_next = (0.9 * (1 - 0.5 * power(0.96**psi, k)) for k in (t, t + 1))
        product *= mu
        m = 0.9 * m + (1 - 0.9) * G
        v = 0.999 * v + (1 - 0.999) * (G * G)
        d = mu_next / (1 - product * mu_next) * m + (1 - mu) / (1 - product) * G
        p = p - 2e-3 * (d / (np.sqrt(v * (1 / (1 - power(0.999, t)))) + 1e-8))
        assert_array_equal(path[t], p)
    assert opt.state[0]["mu_product"] == product


def test_nadam_constant_form_is_the_limit_of_the_schedule():
    """Under a momentum that warms up at once, mu_t = beta1 and P_t = beta1^t: Dozat's two forms coincide."""
    grads = np.random.default_rng(5).standard_normal((100, 4))
    _, constant = descend("nadam", grads, momentum_decay=None)
    opt, limit = descend("nadam", grads, momentum_decay=1e6)
    assert_allclose(limit, constant, rtol=0, atol=1e-14)
    assert opt.state[0]["mu_product"] == pytest.approx(0.9**100, rel=1e-12, abs=0)


def test_nadam_constant_form_keeps_no_product():
    opt, _ = descend("nadam", CONSTANT, momentum_decay=None)
    assert set(opt.state[0]) == {"exp_avg", "exp_avg_sq"}


@pytest.mark.parametrize("eps_root", [0.0, 1e-16, 1e-3])
@pytest.mark.parametrize("eps", [1e-16, 0.1])
def test_adabelief_with_constant_gradient(eps, eps_root):
    """g - m_t = beta1^t g, so s_t is a geometric sum of ratio beta1^2/beta2, and eps_root accumulates beside it."""
    beta1, beta2 = 0.9, 0.99
    opt, path = descend("adabelief", CONSTANT, lr=0.1, betas=(beta1, beta2), eps=eps, eps_root=eps_root)
    s = (1 - beta2) * beta1**2 * (beta2**T - beta1 ** (2 * T)) / (beta2 - beta1**2) * G**2
    s = s + eps_root * (1 - beta2**T) / (1 - beta2)
    assert_allclose(opt.state[0]["exp_avg_var"], s[-1], rtol=1e-12, atol=0)
    assert_moves(path, -0.1 * G / (np.sqrt(s / (1 - beta2**T)) + eps))


@pytest.mark.parametrize("eps", [1e-8, 0.1])
@pytest.mark.parametrize("beta2", [0.5, 0.8, 0.99, 0.999])
def test_radam_with_constant_gradient(beta2, eps):
    """First momentum alone, then r_t sqrt(c2) m/(sqrt(v) + eps), where eps is not divided by sqrt(c2)."""
    _, path = descend("radam", CONSTANT, lr=0.1, betas=(0.9, beta2), eps=eps)
    moves = []
    for t in range(1, len(T) + 1):
        r, c2 = exact_rectification(beta2, t), 1 - beta2**t
        moves.append(-0.1 * (G if r is None else r * math.sqrt(c2) * G / (math.sqrt(c2) * np.abs(G) + eps)))
    assert_moves(path, moves, rtol=U * (2 / (1 - beta2)) ** 2 + 1e-12)


def test_radam_is_momentum_alone_for_five_steps():
    """With beta2 = 0.999: linear in the gradient, whatever its scale, until step 6."""
    grads = np.random.default_rng(6).standard_normal((6, 4))
    _, path = descend("radam", grads)
    _, scaled = descend("radam", 1000 * grads)
    assert_allclose(scaled[:6], 1000 * path[:6], rtol=1e-12, atol=0)
    assert (np.abs(scaled[6] - scaled[5]) < 10 * np.abs(path[6] - path[5])).all()


def test_lion_with_constant_gradient():
    opt, path = descend("lion", CONSTANT * [1, 1, 0], lr=0.1)
    assert_allclose(path[1:], -0.1 * T * np.sign(G * [1, 1, 0]), rtol=1e-12, atol=0)
    assert_allclose(opt.state[0]["exp_avg"], (1 - 0.99 ** T[-1]) * G * [1, 1, 0], rtol=1e-12, atol=0)


def test_lion_turns_when_the_interpolation_changes_sign():
    """After 100 gradients of 1 come those of -1: it goes on at the k-th while beta1 beta2^(k-1) (2 - beta2^100) > 1.

    It takes both betas in their places: beta1 in the sign, beta2 in what is kept, and the sign before the average.
    """
    beta1, beta2 = 0.9, 0.99
    onward = sum(beta1 * beta2 ** (k - 1) * (2 - beta2**100) > 1 for k in range(1, 101))
    assert onward == 39
    _, path = descend("lion", [1.0] * 100 + [-1.0] * 100, lr=1.0, betas=(beta1, beta2))
    assert_array_equal(np.diff(path), [-1.0] * (100 + onward) + [1.0] * (100 - onward))


# ---------------------------------------------------------------------------------------------------------------------
# What PyTorch has not, from the papers, on one number at a time: averages are explicit sums over all past gradients
# ---------------------------------------------------------------------------------------------------------------------

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
    opt, _ = descend("adabelief", [G], eps_root=0.0)
    assert_allclose(opt.state[0]["exp_avg_var"], (1 - 0.999) * (0.9 * G) ** 2, rtol=1e-14, atol=0)


# ---------------------------------------------------------------------------------------------------------------------
# The order of roundings: two steps of each rule, written out. Coefficients are literal, formed in double, cast once.
# ---------------------------------------------------------------------------------------------------------------------

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


# ---------------------------------------------------------------------------------------------------------------------
# What holds for every rule
# ---------------------------------------------------------------------------------------------------------------------

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
