"""What the tests of the reference share: the defaults, paths of one array, and exact arithmetic."""

import decimal

import numpy as np
import pytest

from downslope.reference import Optimizer

U = 2.0**-53  # the unit roundoff of float64

# The design's table.
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
