"""The reference against PyTorch: the names and defaults of the design, and recorded trajectories in float64."""

import json
import pathlib

import numpy as np
import pytest
from numpy.testing import assert_allclose
from reference_paths import DEFAULTS

from downslope.reference import RULES, Optimizer

with np.load(pathlib.Path(__file__).parent / "golden" / "torch_optim.npz") as _file:
    TORCH = dict(_file)
TORCH_CASES = json.loads(str(TORCH["cases"]))


def test_rules_and_defaults_are_the_designs():
    assert {name: rule.__kwdefaults__ for name, rule in RULES.items()} == DEFAULTS


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
