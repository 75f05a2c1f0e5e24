"""The reference against closed forms that follow from the mathematics."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_paths import U, calls, descend, exact_rectification

from downslope.reference import Optimizer
from downslope.reference.rules import power

# G is a constant gradient, T the column of step counts: G * T has a row for each step.
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
