"""Every rule with every option that changes its formula, from the list of optimizers; and how bits are compared."""

from contextlib import contextmanager

import ml_dtypes
import numpy as np

import downslope as ds
from downslope._extension import core
from downslope.rules.settings import DEFAULTS

TILE = 1024  # elements that one thread takes at a time, and whose squares are added up first

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

# By name, since ml_dtypes' bfloat16 is no dtype that NumPy knows by itself.
DTYPES = {name: np.dtype(getattr(ml_dtypes, name, name)) for name in ("float32", "float64", "float16", "bfloat16")}

# What gradients may be for parameters of each dtype: whatever casts safely to what they are computed in.
SAFE = {name: list(DTYPES) if name == "float64" else ["float32", "float16", "bfloat16"] for name in DTYPES}

CASES = [(name, hyper) for name in ds.OPTIMIZERS for hyper in VARIANTS.get(name, [{}])]
# Those that take a RowGrad.
# Those whose state may be kept in fewer bits.
CODED_CASES = [case for case in CASES if not case[1].get("centered")]
ROW_CASES = [case for case in CASES if case[0] in ("sgd", "adagrad", "adam", "adamw")]


def case_id(case):
    """A readable test id of (name, options) or of options alone."""
    name, options = case if isinstance(case, tuple) else ("", case)
    return "-".join([name, *(f"{key}={value}" for key, value in options.items())]) or "plain"


def unaligned(shape, dtype):
    """An array whose data starts in the middle of an element."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.zeros(int(np.prod(shape)) * itemsize + 1, np.uint8)
    array = raw[1:].view(dtype).reshape(shape)
    assert not array.flags.aligned
    return array


LAYOUTS = {
    "contiguous": lambda dtype: np.zeros((30, 50), dtype),
    "fortran": lambda dtype: np.zeros((30, 50), dtype, order="F"),
    "transposed": lambda dtype: np.zeros((50, 30), dtype).T,
    "every other row": lambda dtype: np.zeros((60, 50), dtype)[::2],
    "every third column": lambda dtype: np.zeros((30, 150), dtype)[:, ::3],
    "reversed": lambda dtype: np.zeros((30, 50), dtype)[::-1, ::-1],
    "one axis reversed": lambda dtype: np.zeros((30, 50), dtype)[:, ::-1],
    "permuted": lambda dtype: np.zeros((5, 30, 10), dtype).transpose(1, 2, 0),
    "block": lambda dtype: np.zeros((40, 60), dtype)[5:35, 7:57],
    "unaligned": lambda dtype: unaligned((30, 50), dtype),
    "field": lambda dtype: np.zeros((30, 50), [("a", "u1"), ("b", dtype)])["b"],
    "column": lambda dtype: np.zeros((3000, 3), dtype)[:, 1],
    "one element": lambda dtype: np.zeros((4, 4), dtype)[1:2, 2:3],
    "one unaligned element": lambda dtype: unaligned((1,), dtype),
    "zero axes": lambda dtype: np.zeros((), dtype),
    "empty": lambda dtype: np.zeros((3, 0, 2), dtype),
    "five axes": lambda dtype: np.zeros((2, 3, 4, 5, 6), dtype)[:, ::2, :, ::-1, 1:],
}


def gradients(rng, params):
    """Of very different magnitudes, with exact zeros of both signs among them."""
    grads = []
    for param in params:
        grad = np.asarray(rng.standard_normal(param.shape) * 10.0 ** rng.integers(-6, 3, param.shape))
        grad[rng.random(param.shape) < 0.05] = 0.0
        grad[rng.random(param.shape) < 0.05] = -0.0
        grads.append(grad.astype(param.dtype))
    return grads


@contextmanager
def on_threads(n):
    """Even the smallest step runs on n threads."""
    before = core.set_parallel_threshold(0)
    try:
        with ds.num_threads(n):
            yield
    finally:
        core.set_parallel_threshold(before)


class GroupedReference(ds.reference.Optimizer):
    """The reference with options of their own for each group: a reference for each, all of the same arrays."""

    def __init__(self, rule, params, groups, numbers):
        super().__init__(rule, params, **groups[0])
        self.groups = [ds.reference.Optimizer(rule, self.params, **group) for group in groups]
        for group in self.groups:
            group.state, group.steps, group.ema = self.state, self.steps, self.ema
        self.numbers = numbers

    def _scaled(self, i, g, count):
        return self.groups[self.numbers[i]]._scaled(i, g, count)

    def _move(self, i, where, h):
        self.groups[self.numbers[i]]._move(i, where, h)


def pair(name, params, **options):
    """The optimizer `name` on `params`, a list or groups, and the reference on copies of them."""
    opt = ds.OPTIMIZERS[name](params, **options)
    copies = [np.array(param, order="C") for param in opt.params]
    groups, numbers = [], []
    for group in opt.param_groups:
        settings = {**group, **{key: getattr(opt, key) for key in DEFAULTS}}
        numbers += [len(groups)] * len(settings.pop("params"))
        groups.append(settings)
    if len(groups) > 1:
        return opt, GroupedReference(opt.rule, copies, groups, numbers)
    return opt, ds.reference.Optimizer(opt.rule, copies, **groups[0])


def assert_same_bits(actual, expected, what=""):
    """Equal dtype, shape and bits; any NaN equals any NaN."""
    assert actual.dtype == expected.dtype and actual.shape == expected.shape, what
    same = actual.reshape(-1).view(f"u{actual.itemsize}") == expected.reshape(-1).view(f"u{expected.itemsize}")
    same |= np.isnan(actual.reshape(-1)) & np.isnan(expected.reshape(-1))
    assert same.all(), f"{what}: {np.count_nonzero(~same)} of {same.size} differ, first at {np.argmin(same)}"


def outcome(call):
    """The type of the error that the call ends in, or None."""
    try:
        call()
    except (FloatingPointError, RuntimeError) as error:
        return type(error)


def in_c_order(array):
    """All elements, flat."""
    return np.ascontiguousarray(array).reshape(-1)


def assert_same_optimizers(opt, ref):
    """Parameters, state, averages and counts of an optimizer over a sequence equal those of the reference."""
    for i, (param, expected) in enumerate(zip(opt.params, ref.params, strict=True)):
        assert_same_bits(in_c_order(param).reshape(param.shape), expected, f"params[{i}]")
    for i, (slots, expected) in enumerate(zip(opt.state, ref.state, strict=True)):
        assert slots["step"] == ref.steps[i]
        # Without a schedule of momentum, the reference has no need of the product.
        assert not expected or set(slots) - {"mu_product"} == {"step", *expected} - {"mu_product"}
        for name, slot in expected.items():
            if name == "mu_product":
                assert slots[name] == slot
            else:
                assert_same_bits(in_c_order(slots[name]), slot, f"state[{i}][{name!r}]")
    assert (opt.ema is None) == (ref.ema is None)
    for i, (average, expected) in enumerate(zip(opt.ema or [], ref.ema or [], strict=True)):
        assert_same_bits(in_c_order(average), expected, f"ema[{i}]")
    assert opt.skipped_steps == ref.skipped_steps
    if opt.last_grad_norm is None or ref.last_grad_norm is None:
        assert opt.last_grad_norm is ref.last_grad_norm
    else:
        np.testing.assert_array_equal(opt.last_grad_norm, ref.last_grad_norm)
