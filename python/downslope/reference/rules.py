"""Every update rule in plain NumPy, in the order of operations that the compiled core repeats to the last bit.

A rule is a function ``rule(p, g, s, t, *, hyper-parameters)`` on flat arrays of one floating dtype. It updates the
parameter ``p`` and the state ``s`` (slot name -> array) in place, given the gradient ``g`` and the array's own step
count ``t = 1, 2, ...``. What depends on the step alone is worked out in Python floats (IEEE double) and cast once, by
``T``, to the array's dtype, so that NumPy's promotion rules play no part.
"""

import math

import numpy as np


def power(base, exponent):
    """``base**exponent`` for an integer exponent >= 0, by squaring: the same bits whatever libm is installed."""
    result = 1.0
    while exponent > 0:
        if exponent % 2 == 1:
            result *= base
        base *= base
        exponent //= 2
    return result


def rectification(beta2, t):
    """r_t of Liu et al. 2020, or None while the variance of the adaptive step is still intractable."""
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * t * power(beta2, t) / (1 - power(beta2, t))
    if rho <= 5:
        return None
    return math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))


def slot(s, name, p, fill=0.0):
    """The state array ``name``, made on first use."""
    if name not in s:
        s[name] = np.full_like(p, fill)
    return s[name]


def sgd(p, g, s, t, *, lr=1e-2, momentum=0.0, dampening=0.0, nesterov=False):
    T = p.dtype.type
    d = g
    if momentum > 0:
        b = slot(s, "momentum_buffer", p)
        b[:] = g if t == 1 else T(momentum) * b + T(1 - dampening) * g
        d = g + T(momentum) * b if nesterov else b
    p -= T(lr) * d


def nag(p, g, s, t, *, lr=1e-2, momentum=0.9):
    T = p.dtype.type
    v = slot(s, "velocity", p)
    v[:] = T(momentum) * v - T(lr) * g
    p += v


def adagrad(p, g, s, t, *, lr=1e-2, lr_decay=0.0, initial_accumulator_value=0.0, eps=1e-10):
    T = p.dtype.type
    a = slot(s, "sum", p, initial_accumulator_value)
    a += g * g
    p -= T(lr / (1 + (t - 1) * lr_decay)) * (g / (np.sqrt(a) + T(eps)))


def adadelta(p, g, s, t, *, lr=1.0, rho=0.9, eps=1e-6):
    T = p.dtype.type
    v, u = slot(s, "square_avg", p), slot(s, "acc_delta", p)
    v[:] = T(rho) * v + T(1 - rho) * (g * g)
    d = g * (np.sqrt(u + T(eps)) / np.sqrt(v + T(eps)))
    u[:] = T(rho) * u + T(1 - rho) * (d * d)
    p -= T(lr) * d


def rmsprop(p, g, s, t, *, lr=1e-2, alpha=0.99, eps=1e-8, momentum=0.0, centered=False):
    T = p.dtype.type
    v = slot(s, "square_avg", p)
    v[:] = T(alpha) * v + T(1 - alpha) * (g * g)
    variance = v
    if centered:
        a = slot(s, "grad_avg", p)
        a[:] = T(alpha) * a + T(1 - alpha) * g
        variance = np.maximum(v - a * a, T(0))
    d = g / (np.sqrt(variance) + T(eps))
    if momentum > 0:
        b = slot(s, "momentum_buffer", p)
        d = b[:] = T(momentum) * b + d
    p -= T(lr) * d


def adam(p, g, s, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, amsgrad=False, bias_correction=True):
    T, (beta1, beta2) = p.dtype.type, betas
    c1 = 1 - power(beta1, t) if bias_correction else 1.0
    c2 = 1 - power(beta2, t) if bias_correction else 1.0
    m, v = slot(s, "exp_avg", p), slot(s, "exp_avg_sq", p)
    m[:] = T(beta1) * m + T(1 - beta1) * g
    v[:] = T(beta2) * v + T(1 - beta2) * (g * g)
    if amsgrad:
        top = slot(s, "max_exp_avg_sq", p)
        v = top[:] = np.maximum(top, v)
    p -= T(lr / c1) * (m / (np.sqrt(v) * T(1 / math.sqrt(c2)) + T(eps)))


def adamax(p, g, s, t, *, lr=2e-3, betas=(0.9, 0.999), eps=1e-8):
    T, (beta1, beta2) = p.dtype.type, betas
    m, u = slot(s, "exp_avg", p), slot(s, "exp_inf", p)
    m[:] = T(beta1) * m + T(1 - beta1) * g
    u[:] = np.maximum(T(beta2) * u, np.abs(g) + T(eps))
    p -= T(lr / (1 - power(beta1, t))) * (m / u)


def nadam(p, g, s, t, *, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, momentum_decay=4e-3):
    T, (beta1, beta2) = p.dtype.type, betas
    if momentum_decay is None:
        on_m, on_g = beta1 / (1 - power(beta1, t + 1)), (1 - beta1) / (1 - power(beta1, t))
    else:
        mu = beta1 * (1 - 0.5 * power(0.96**momentum_decay, t))
        mu_next = beta1 * (1 - 0.5 * power(0.96**momentum_decay, t + 1))
        product = s["mu_product"] = s.get("mu_product", 1.0) * mu
        on_m, on_g = mu_next / (1 - product * mu_next), (1 - mu) / (1 - product)
    m, v = slot(s, "exp_avg", p), slot(s, "exp_avg_sq", p)
    m[:] = T(beta1) * m + T(1 - beta1) * g
    v[:] = T(beta2) * v + T(1 - beta2) * (g * g)
    denominator = np.sqrt(v * T(1 / (1 - power(beta2, t)))) + T(eps)
    p -= T(lr) * ((T(on_m) * m + T(on_g) * g) / denominator)


def adabelief(p, g, s, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-16, eps_root=1e-16, amsgrad=False, rectify=False):
    T, (beta1, beta2) = p.dtype.type, betas
    step_size = lr / (1 - power(beta1, t))
    m, v = slot(s, "exp_avg", p), slot(s, "exp_avg_var", p)
    m[:] = T(beta1) * m + T(1 - beta1) * g
    v[:] = T(beta2) * v + T(1 - beta2) * ((g - m) * (g - m)) + T(eps_root)
    if amsgrad:
        top = slot(s, "max_exp_avg_var", p)
        v = top[:] = np.maximum(top, v)
    r = rectification(beta2, t) if rectify else 1.0
    if r is None:
        p -= T(step_size) * m
    else:
        p -= T(step_size * r) * (m / (np.sqrt(v * T(1 / (1 - power(beta2, t)))) + T(eps)))


def radam(p, g, s, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
    T, (beta1, beta2) = p.dtype.type, betas
    step_size = lr / (1 - power(beta1, t))
    m, v = slot(s, "exp_avg", p), slot(s, "exp_avg_sq", p)
    m[:] = T(beta1) * m + T(1 - beta1) * g
    v[:] = T(beta2) * v + T(1 - beta2) * (g * g)
    r = rectification(beta2, t)
    if r is None:
        p -= T(step_size) * m
    else:
        p -= T(step_size * r * math.sqrt(1 - power(beta2, t))) * (m / (np.sqrt(v) + T(eps)))


def lion(p, g, s, t, *, lr=1e-4, betas=(0.9, 0.99)):
    T, (beta1, beta2) = p.dtype.type, betas
    m = slot(s, "exp_avg", p)
    p -= T(lr) * np.sign(T(beta1) * m + T(1 - beta1) * g)
    m[:] = T(beta2) * m + T(1 - beta2) * g


RULES = {
    rule.__name__: rule for rule in (sgd, nag, adagrad, adadelta, rmsprop, adam, adamax, nadam, adabelief, radam, lion)
}
