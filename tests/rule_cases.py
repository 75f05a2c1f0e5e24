"""Every rule with every option that changes its formula, from the list of optimizers; and how bits are compared."""

import numpy as np

import downslope as ds

VARIANTS = {
    "sgd": [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.25},
        {"momentum": 0.9, "nesterov": True},
    ],
    "nag": [{}, {"momentum": 0.0}],
    "adagrad": [{}, {"lr_decay": 0.1, "initial_accumulator_value": 0.5}],
    "adadelta": [{}, {"rho": 0.5, "eps": 1e-3}],
    "rmsprop": [{}, {"momentum": 0.9}, {"centered": True}, {"centered": True, "momentum": 0.9}],
    "adam": [{}, {"amsgrad": True}, {"bias_correction": False}, {"betas": (0.0, 0.5), "eps": 0.0}],
    "adamw": [{}, {"amsgrad": True}],
    "adamax": [{}],
    "nadam": [{}, {"momentum_decay": None}],
    "adabelief": [
        {},
        {"amsgrad": True},
        {"rectify": True},
        {"amsgrad": True, "rectify": True},
        {"eps_root": 0.0, "eps": 1e-8},
    ],
    "radam": [{}, {"betas": (0.9, 0.99)}],
    "lion": [{}],
}

SURROUNDINGS = [
    {},
    {"weight_decay": 0.1},
    {"weight_decay": 0.1, "decoupled_weight_decay": True},
    {"maximize": True},
    {"grad_scale": 0.3},
    {"weight_decay": 0.01, "maximize": True, "grad_scale": 1e-3},
]

CASES = [(name, hyper) for name in ds.OPTIMIZERS for hyper in VARIANTS.get(name, [{}])]


def case_id(case):
    """A readable test id of (name, options) or of options alone."""
    name, options = case if isinstance(case, tuple) else ("", case)
    return "-".join([name, *(f"{key}={value}" for key, value in options.items())]) or "plain"


def pair(name, params, **options):
    """The optimizer `name` on `params`, and the reference on copies of them."""
    opt = ds.OPTIMIZERS[name](params, **options)
    settings = dict(opt.param_groups[0])
    del settings["params"]
    return opt, ds.reference.Optimizer(opt.rule, [np.array(param, order="C") for param in params], **settings)


def assert_same_bits(actual, expected, what=""):
    """Equal dtype, shape and bits; any NaN equals any NaN."""
    assert actual.dtype == expected.dtype and actual.shape == expected.shape, what
    same = actual.reshape(-1).view(f"u{actual.itemsize}") == expected.reshape(-1).view(f"u{expected.itemsize}")
    same |= np.isnan(actual.reshape(-1)) & np.isnan(expected.reshape(-1))
    assert same.all(), f"{what}: {np.count_nonzero(~same)} of {same.size} differ, first at {np.argmin(same)}"


def assert_same_optimizers(opt, ref):
    """Parameters, state and counts of an optimizer over a sequence equal those of the reference."""
    for i, (param, expected) in enumerate(zip(opt.params, ref.params, strict=True)):
        assert_same_bits(np.ascontiguousarray(param).reshape(param.shape), expected, f"params[{i}]")
    for i, (slots, expected) in enumerate(zip(opt.state, ref.state, strict=True)):
        assert slots["step"] == ref.steps[i]
        for name, slot in expected.items():
            if name == "mu_product":
                assert slots[name] == slot
            else:
                flat = np.ascontiguousarray(slots[name]).reshape(-1)
                assert_same_bits(flat, slot, f"state[{i}][{name!r}]")
