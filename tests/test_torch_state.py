"""State dicts of PyTorch: the optimizers that take them go on as PyTorch does, and what does not fit is an error."""

import numpy as np
import pytest
from rule_cases import assert_same_bits

import downslope as ds
from downslope.rules.torch_state import IGNORED, RULES

torch = pytest.importorskip("torch", reason="its optimizers are what is compared with")

SHAPES = [(5,), (2, 3), (4,), ()]
NOT_OURS = ["ASGD", "Adafactor", "Muon", "Rprop", "SparseAdam"]

# The settings of two groups: together, they set every hyper-parameter to something else than its default.
CASES = [
    ("SGD", [{}, {"weight_decay": 0.1, "maximize": True}]),
    ("SGD", [{"momentum": 0.9}, {"momentum": 0.8, "dampening": 0.3, "weight_decay": 0.1}]),
    ("SGD", [{}, {"momentum": 0.8, "nesterov": True, "maximize": True}]),
    (
        "Adagrad",
        [{"lr_decay": 0.1, "maximize": True}, {"initial_accumulator_value": 0.5, "eps": 1e-3, "weight_decay": 0.1}],
    ),
    ("Adadelta", [{"rho": 0.5}, {"eps": 1e-3, "weight_decay": 0.1, "maximize": True}]),
    ("RMSprop", [{}, {"alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1}]),
    ("RMSprop", [{"momentum": 0.9}, {"centered": True, "momentum": 0.5, "maximize": True}]),
    ("Adam", [{"betas": (0.5, 0.9)}, {"amsgrad": True, "eps": 1e-3, "weight_decay": 0.1}]),
    ("Adam", [{}, {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}]),
    ("AdamW", [{}, {"weight_decay": 0.5, "amsgrad": True}]),
    ("Adamax", [{"betas": (0.5, 0.9)}, {"eps": 0.1, "weight_decay": 0.1, "maximize": True}]),
    ("NAdam", [{"momentum_decay": 0.1}, {"betas": (0.5, 0.9), "eps": 0.01, "weight_decay": 0.1}]),
    ("NAdam", [{"decoupled_weight_decay": True, "weight_decay": 0.1}, {"momentum_decay": 0.0, "maximize": True}]),
    ("RAdam", [{"betas": (0.5, 0.9)}, {"betas": (0.9, 0.99), "eps": 0.01, "weight_decay": 0.1}]),
    ("RAdam", [{"decoupled_weight_decay": True, "weight_decay": 0.1}, {"betas": (0.9, 0.5), "maximize": True}]),
]
EVERY_CLASS = sorted({name for name, _ in CASES})


@pytest.fixture
def default_dtype(dtype):
    """PyTorch keeps NAdam's product in its default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    yield
    torch.set_default_dtype(before)


class Pair:
    """An optimizer of PyTorch, and gradients; the second array has none at first, the third seldom."""

    def __init__(self, name, settings, dtype="float64", **options):
        self.rng, self.dtype = np.random.default_rng(0), dtype
        self.tensors = [torch.tensor(self.rng.uniform(0.5, 2, s).astype(dtype), requires_grad=True) for s in SHAPES]
        groups = [{"params": self.tensors[2 * i : 2 * i + 2], **group} for i, group in enumerate(settings)]
        self.theirs = getattr(torch.optim, name)(groups, **{"lr": 0.01, **options})

    def grads(self, t):
        present = [True, t > 10, t % 3 == 1, True]
        grads = [self.rng.standard_normal(s).astype(self.dtype) for s in SHAPES]
        return [np.array(grad) if here else None for grad, here in zip(grads, present, strict=True)]

    def step(self, t, ours=None):
        grads = self.grads(t)
        for tensor, grad in zip(self.tensors, grads, strict=True):
            tensor.grad = None if grad is None else torch.from_numpy(grad)
        self.theirs.step()
        if ours is not None:
            ours.step(grads)

    def params(self):
        return [tensor.detach().numpy().copy() for tensor in self.tensors]

    def ours(self, name, **options):
        """An optimizer of ours on copies of the parameters as they are, with settings of its own."""
        first, second, *rest = self.params()
        return ds.OPTIMIZERS[name.lower()]([{"params": [first, second]}, {"params": rest}], lr=0.77, **options)


def as_numpy(tree):
    """A state dict with arrays where it has tensors."""
    if isinstance(tree, dict):
        return {key: as_numpy(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [as_numpy(value) for value in tree]
    return tree.numpy() if isinstance(tree, torch.Tensor) else tree


def everything(opt):
    return [p.copy() for p in opt.params], opt.state_dict()


@pytest.mark.parametrize("name, settings", CASES, ids=[f"{name}-{settings}" for name, settings in CASES])
@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-12), ("float32", 2e-5)])
@pytest.mark.parametrize("convert", [as_numpy, lambda saved: saved], ids=["arrays", "tensors"])
def test_going_on_where_torch_was(name, settings, dtype, rtol, convert, default_dtype):
    pair = Pair(name, settings, dtype)
    for t in range(1, 9):
        pair.step(t)
    ours = pair.ours(name)
    ours.load_state_dict(convert(pair.theirs.state_dict()))
    counts = [0, 0, 0, 0]
    if name == "SGD":
        for i, tensor in enumerate(pair.tensors):
            counts[i] = int(pair.theirs.state[tensor].get("momentum_buffer") is not None)
    else:
        counts = [8, 0, 3, 8]
    assert [int(slots["step"]) for slots in ours.state] == counts and ours.step_count == max(counts)
    for t in range(9, 30):
        pair.step(t, ours)
        for p, q in zip(ours.params, pair.params(), strict=True):
            np.testing.assert_allclose(p, q, rtol=rtol, atol=0 if dtype == "float64" else 2e-6)


def test_the_cases_leave_no_hyper_parameter_out():
    for rule, names in RULES.items():
        group = dict(ds.OPTIMIZERS[rule](np.ones(1)).param_groups[0])
        cases = [settings for name, both in CASES if ds.OPTIMIZERS[name.lower()].rule == rule for settings in both]
        for name in (*names, "weight_decay", "maximize"):
            assert any(case.get(name, group[name]) != group[name] for case in cases), (rule, name)


@pytest.mark.parametrize("name", EVERY_CLASS)
def test_what_torch_has_is_either_taken_over_or_known_to_change_nothing(name):
    """A later PyTorch may have another hyper-parameter."""
    ours = ds.OPTIMIZERS[name.lower()](np.ones(1))
    (group,) = getattr(torch.optim, name)([torch.ones(1)], lr=0.1).state_dict()["param_groups"]
    assert set(group) <= {*ours.param_groups[0], *IGNORED}
    assert {"lr", "weight_decay", *RULES[ours.rule]} <= set(group)


@pytest.mark.parametrize("name", EVERY_CLASS)
def test_before_the_first_step(name):
    pair = Pair(name, [{}, {}], lr=0.125)
    ours = pair.ours(name)
    ours.step(pair.grads(11))
    ours.load_state_dict(as_numpy(pair.theirs.state_dict()))
    assert ours.step_count == 0 and ours.lr == 0.125
    fresh = pair.ours(name)
    fresh.lr = 0.125
    np.testing.assert_equal(ours.state_dict()["state"], fresh.state_dict()["state"])


def test_an_accumulator_starts_at_its_initial_value_even_so():
    """PyTorch has Adagrad's state from the start on, but it may have been left out of the dict."""
    saved = as_numpy(Pair("Adagrad", [{}, {"initial_accumulator_value": 0.5}]).theirs.state_dict())
    saved["state"] = {}
    ours = ds.Adagrad([{"params": [np.ones(5), np.ones((2, 3))]}, {"params": [np.ones(4), np.ones(())]}])
    ours.load_state_dict(saved)
    assert [slots["sum"].flat[0] for slots in ours.state] == [0, 0, 0.5, 0.5]


def test_what_torch_does_not_have_stays():
    pair = Pair("Adam", [{}, {}])
    pair.step(1)
    ours = pair.ours("Adam", grad_scale=0.5, bias_correction=False)
    ours.load_state_dict(as_numpy(pair.theirs.state_dict()))
    assert [(g["lr"], g["grad_scale"], g["bias_correction"]) for g in ours.param_groups] == [(0.01, 0.5, False)] * 2


def test_a_dict_of_an_older_torch():
    """AdamW did not say that its decay is decoupled, counts were integers, and SGD had buffers that are None."""
    saved = {
        "state": {0: {"step": 3, "exp_avg": np.ones(2), "exp_avg_sq": np.ones(2)}},
        "param_groups": [
            {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, "amsgrad": False, "params": [0]}
        ],
    }
    ours = ds.AdamW(np.ones(2))
    ours.load_state_dict(saved)
    assert ours.param_groups[0]["decoupled_weight_decay"] is True and ours.step_count == 3
    saved = {
        "state": {0: {"momentum_buffer": None}, 1: {"momentum_buffer": np.ones(1)}},
        "param_groups": [
            {"lr": 0.1, "momentum": momentum, "dampening": 0, "weight_decay": 0, "nesterov": False, "params": [i]}
            for i, momentum in enumerate((0, 0.5))
        ],
    }
    ours = ds.SGD([{"params": np.ones(2)}, {"params": np.ones(1)}])
    ours.load_state_dict(saved)
    assert [dict(slots) for slots in ours.state] == [{"step": 0}, {"step": 1, "momentum_buffer": [1]}]


def test_ways_of_executing_and_notes_of_schedulers_are_ignored():
    pair = Pair("SGD", [{}, {}], momentum=0.9, foreach=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(pair.theirs, max_lr=0.5, total_steps=10)
    pair.step(1)
    scheduler.step()
    saved = as_numpy(pair.theirs.state_dict())
    assert {"initial_lr", "max_lr", "min_lr"} <= set(saved["param_groups"][0])
    ours = pair.ours("SGD")
    ours.load_state_dict(saved)
    assert ours.lr == saved["param_groups"][0]["lr"]

    named = torch.optim.Adam([("w", torch.ones(2, requires_grad=True))], fused=True, capturable=False)
    ours = ds.Adam(np.ones(2))
    ours.load_state_dict(as_numpy(named.state_dict()))
    assert ours.lr == 1e-3


def test_numbers_may_be_tensors():
    tensor = torch.ones(2, requires_grad=True)
    theirs = torch.optim.Adam([tensor], lr=torch.tensor(0.25), betas=(torch.tensor(0.5), torch.tensor(0.75)))
    for saved in (theirs.state_dict(), as_numpy(theirs.state_dict())):
        ours = ds.Adam(np.ones(2))
        ours.load_state_dict(saved)
        assert ours.lr == 0.25 and ours.param_groups[0]["betas"] == (0.5, 0.75)
        assert type(ours.lr) is float


def stepped_dict(name):
    """The state dict of any class, of two matrices, since that is all that Muon takes."""
    tensors = [torch.ones((2, 3), requires_grad=True) for _ in range(2)]
    theirs = getattr(torch.optim, name)(tensors, **({"momentum": 0.9} if name == "SGD" else {}))
    for tensor in tensors:
        tensor.grad = torch.ones(2, 3).to_sparse() if name == "SparseAdam" else torch.ones(2, 3)
    theirs.step()
    return as_numpy(theirs.state_dict())


def refuses(ours, saved, message="state_dict"):
    before = everything(ours)
    groups = [dict(group) for group in ours.param_groups]
    with pytest.raises(ValueError, match=message):
        ours.load_state_dict(saved)
    np.testing.assert_equal(everything(ours), before)
    np.testing.assert_equal([dict(group) for group in ours.param_groups], groups)


@pytest.mark.filterwarnings("ignore:Adafactor")
@pytest.mark.parametrize("theirs", EVERY_CLASS + NOT_OURS)
@pytest.mark.parametrize("ours", ds.OPTIMIZERS)
def test_a_dict_of_another_rule_is_refused(theirs, ours):
    cls = ds.OPTIMIZERS[ours]
    opt = cls([np.ones((2, 3), "f4"), np.ones((2, 3), "f4")])
    opt.step([np.ones((2, 3), "f4"), None])
    saved = stepped_dict(theirs)
    if theirs in EVERY_CLASS and cls.rule == ds.OPTIMIZERS[theirs.lower()].rule:
        opt.load_state_dict(saved)
        assert opt.step_count == 1
    else:
        refuses(opt, saved)


def test_rules_that_torch_does_not_have_are_named():
    refuses(ds.Lion([np.ones(2)]), {"state": {}, "param_groups": [{"params": [0]}]}, "torch.optim.* has no Lion")


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda d: d["param_groups"][0].update(cautious=True), "state_dict.*unexpected 'cautious'"),
        (lambda d: d["param_groups"][0].pop("amsgrad"), r"state_dict is not one of torch.optim's Adam.*\['amsgrad'\]"),
        (lambda d: d["param_groups"][0].update(lr=-1.0), "state_dict: lr must be >= 0"),
        (lambda d: d["param_groups"][0].update(lr=np.ones(2)), "state_dict: lr must be a number"),
        (lambda d: d["param_groups"][0].update(params=[0]), "state_dict has groups of the arrays"),
        (lambda d: d["param_groups"].append(d["param_groups"][0]), "state_dict has groups of the arrays"),
        (lambda d: d.pop("param_groups"), "state_dict.*it lacks 'param_groups'"),
        (lambda d: d.pop("state"), "state_dict.*it lacks 'state'"),
        (lambda d: d["state"][1].pop("step"), "state_dict.*it lacks 'step'"),
        (lambda d: d["state"][1].update(step=np.array(1.5)), "step.* must be an integer, got 1.5"),
        (lambda d: d["state"][1].update(step=-1.0), "step.* must be >= 0"),
        (lambda d: d["state"][1].update(step=np.nan), "step.* must be an integer, got nan"),
        (lambda d: d["state"][1].pop("exp_avg"), "must have"),
        (lambda d: d["state"][1].update(max_exp_avg_sq=np.ones((2, 3), "f4")), "must have"),
        (lambda d: d["state"][1].update(exp_avg=np.ones(3, "f4")), r"must have shape \(2, 3\)"),
        (lambda d: d["state"][1].update(exp_avg=np.ones((2, 3))), "dtype float32, got .* float64"),
        (lambda d: d["state"][1].update(exp_avg=torch.ones((2, 3), dtype=torch.bfloat16)), "state_dict.*BFloat16"),
        (lambda d: d["state"][1].update(exp_avg=torch.ones((2, 3), device="meta")), "state_dict.*Tensor.cpu"),
        (lambda d: d.update(state={0: 3}), "state_dict"),
        (lambda d: d.update(state=[]), "state_dict"),
        (lambda d: d.update(rule="adam"), "state_dict lacks the hyper-parameters"),
    ],
)
def test_what_does_not_fit_is_refused(spoil, message):
    saved = stepped_dict("Adam")
    spoil(saved)
    opt = ds.Adam([np.ones((2, 3), "f4"), np.ones((2, 3), "f4")], lr=0.5)
    opt.step([np.full((2, 3), 2, "f4")] * 2)
    refuses(opt, saved, message)


def test_the_arrays_of_the_dict_are_copied():
    saved = stepped_dict("Adam")
    opt = ds.Adam([np.ones((2, 3), "f4"), np.ones((2, 3), "f4")])
    opt.load_state_dict(saved)
    before = saved["state"][0]["exp_avg"].copy()
    opt.step([np.ones((2, 3), "f4")] * 2)
    assert_same_bits(saved["state"][0]["exp_avg"], before)
