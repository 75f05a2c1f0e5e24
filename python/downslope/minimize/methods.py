"""Methods by their names: what each is in the core, and which options it takes."""

import inspect
import math
from collections.abc import Mapping
from functools import cache

from downslope._extension import core
from downslope.rules import OPTIMIZERS
from downslope.rules.hyperparameters import schema
from downslope.schedules import Joined, ReduceOnPlateau
from downslope.validation import integer, number

# Names that stand for a rule with other defaults.
_RULES = {name: (cls, {}) for name, cls in OPTIMIZERS.items()} | {
    "momentum": (OPTIMIZERS["sgd"], {"momentum": 0.9}),
    "nesterov": (OPTIMIZERS["sgd"], {"momentum": 0.9, "nesterov": True}),
}
# Those of the second order: line searches, and trust regions.
_NEWTON = ("newton", "newton-cg")
_TRUST = ("trust-exact", "trust-ncg", "dogleg")
METHODS = (*_RULES, "l-bfgs", *_NEWTON, *_TRUST)
# What a method uses beside the gradient; of `hess` and `hessp` the first that is given.
SECOND_ORDER = dict.fromkeys(("newton", "trust-exact", "dogleg"), ("hess",)) | dict.fromkeys(
    ("newton-cg", "trust-ncg"), ("hess", "hessp")
)

# Unlimited, as the core takes it.
_FOR_EVER = 2**62

# option -> (default, check); maxiter's default is the method's.
_LOOP_OPTIONS = {
    "maxiter": (None, lambda name, value: integer(name, value, lower=0, upper=_FOR_EVER)),
    "maxfev": (_FOR_EVER, lambda name, value: integer(name, value, lower=1, upper=_FOR_EVER)),
    "gtol": (1e-6, lambda name, value: number(name, value, lower=0)),
    "ftol": (0.0, lambda name, value: number(name, value, lower=0)),
    "xtol": (0.0, lambda name, value: number(name, value, lower=0)),
    "max_seconds": (math.inf, lambda name, value: number(name, value, lower=0, upper=math.inf, includes_upper=True)),
    "disp": (False, lambda name, value: bool(value)),
    "progress": (False, lambda name, value: bool(value)),
}
_MAXITER = {"l-bfgs": 15_000} | dict.fromkeys((*_NEWTON, *_TRUST), 1_000)
_RULE_MAXITER = 10_000


class Plan:
    """A method with its options, checked: what the core needs, and what the Python side does itself."""

    def __init__(self, method, options, tol):
        self.name = _known(method)
        options = _copied(options)
        if tol is not None:
            options.setdefault("gtol", number("tol", tol, lower=0))
        loop = {}
        for name, (default, check) in _LOOP_OPTIONS.items():
            given = options.pop(name, None)
            loop[name] = default if given is None else check(name, given)
        if loop["maxiter"] is None:
            loop["maxiter"] = _MAXITER.get(self.name, _RULE_MAXITER)
        self.disp, self.progress = loop.pop("disp"), loop.pop("progress")
        self.maxiter, self.max_seconds = loop["maxiter"], loop["max_seconds"]
        self.limits = core.Limits(**loop)
        if self.name in _RULES:
            # Each step takes at least one evaluation.
            self.method = _rule_method(self.name, options, min(loop["maxiter"], loop["maxfev"]))
        elif self.name in _NEWTON:
            self.method = core.NewtonMethod(truncated=self.name == "newton-cg", gtol=loop["gtol"])
            _refuse(options, (), self.name)
        elif self.name in _TRUST:
            self.method = _trust_region(self.name, options)
        else:
            self.method = core.LBFGSMethod(integer("maxcor", options.pop("maxcor", 10), lower=1, upper=2**31 - 1))
            _refuse(options, ("maxcor",), self.name)


def _copied(options):
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"options must be a dict, got {options!r}")
    return dict(options or {})


def _known(method):
    if not isinstance(method, str):
        raise TypeError(f"method must be a string, got {method!r}")
    if method.lower() not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    return method.lower()


def _refuse(options, known, method):
    if options:
        names = ", ".join((*_LOOP_OPTIONS, *known))
        raise TypeError(f"unknown option {next(iter(options))!r} of method {method!r}; known are {names}")


def _trust_region(name, options):
    """Its options are those of SciPy's methods of the same names."""
    radii = []
    for option, default in (("initial_trust_radius", 1.0), ("max_trust_radius", 1e10)):
        radius = number(option, options.pop(option, default), lower=0)
        if radius == 0:
            raise ValueError(f"{option} must be > 0, got {radius}")
        radii.append(radius)
    _refuse(options, ("initial_trust_radius", "max_trust_radius"), name)
    initial, most = radii
    if initial > most:
        raise ValueError(f"initial_trust_radius must be <= max_trust_radius = {most}, got {initial}")
    return core.TrustRegionMethod(name.removeprefix("trust-"), initial, most)


@cache
def _defaults(cls):
    """Of the rule's own hyper-parameters, and of weight decay."""
    shown = inspect.signature(cls).parameters
    names = dict.fromkeys(row[0].partition("[")[0] for row in core.rule_table(cls.rule))
    return {name: shown[name].default for name in (*names, "weight_decay", "decoupled_weight_decay")}


def _rule_method(name, options, steps):
    cls, aliased = _RULES[name]
    table, values = schema(cls.rule), {**_defaults(cls), **aliased}
    given = {key: options.pop(key) for key in values if key in options}
    _refuse(options, values, name)
    values |= {key: table.check(key, value) for key, value in given.items()}
    cls._check_group(values, None)
    return core.RuleMethod(
        cls.rule,
        table.hyper_values(values),
        weight_decay=values["weight_decay"],
        decoupled_weight_decay=values["decoupled_weight_decay"],
        rates=_rates(values["lr"], steps),
    )


def _rates(lr, steps):
    """What a schedule gives for each step; the loop does not call it, so that it can go without the GIL."""
    if not callable(lr):
        return []
    if _is_told(lr):
        raise TypeError(f"lr must follow from the step alone: it is read for all steps before the first, got {lr!r}")
    return [number(f"lr({t})", lr(t), lower=0) for t in range(1, steps + 1)]


def _is_told(schedule):
    """Whether what a schedule says depends on what it will be told."""
    return isinstance(schedule, ReduceOnPlateau) or (
        isinstance(schedule, Joined) and any(map(_is_told, schedule.schedules))
    )
