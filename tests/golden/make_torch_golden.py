"""Record what `torch.optim` does, in float64, as numbers that the rules are tested against: ``torch_optim.npz``.

Run it with PyTorch installed, from anywhere: ``python make_torch_golden.py``. The tests need the file alone.

Every case steps two arrays 100 times from the same start with the same recorded gradients. ``often`` (7,) has a
gradient at each step; ``seldom`` (2, 2) has none (None) at some, the first included, so that the two have different
step counts. The columns of ``often`` differ in kind, so that each option has something to show itself on: noise of
three scales, an almost constant gradient, one that is mostly zero, one that is always zero, and a smooth one.

The file holds

- ``torch_version``, ``snapshots`` (the steps at which parameters are recorded);
- ``often/start``, ``often/grads``, ``seldom/start``, ``seldom/grads``, ``seldom/present`` (a bool for each step);
- ``cases``: JSON, a list of ``{"id": ..., "optimizer": class name, "options": keywords}``;
- for each case ``<id>/often``, ``<id>/seldom`` (snapshots first) and, after the last step, each state slot under
  PyTorch's name, as ``<id>/often/<slot>`` and ``<id>/seldom/<slot>``.
"""

import json
import pathlib

import numpy as np
import torch

STEPS = 100
SNAPSHOTS = [1, 2, 3, 6, 10, 100]  # 6 is where RAdam starts to rectify
NOT_STATE = {"step"}

# Options alone, then together. What a case leaves out is at its default, which PyTorch and downslope share; SGD's lr,
# which they don't, is always given.
CASES = [
    ("SGD", {"lr": 0.01}),
    ("SGD", {"lr": 0.01, "momentum": 0.9}),
    ("SGD", {"lr": 0.01, "momentum": 0.9, "dampening": 0.3}),
    ("SGD", {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.01, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.01, "maximize": True}),
    ("SGD", {"lr": 0.01, "maximize": True, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.002, "momentum": 0.95, "dampening": 0.5, "weight_decay": 0.2, "maximize": True}),
    ("SGD", {"lr": 0.002, "momentum": 0.8, "nesterov": True, "weight_decay": 0.2, "maximize": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.5}),
    ("Adagrad", {"lr_decay": 0.1}),
    ("Adagrad", {"initial_accumulator_value": 0.5}),
    ("Adagrad", {"eps": 0.1}),
    ("Adagrad", {"weight_decay": 0.1}),
    ("Adagrad", {"maximize": True}),
    ("Adagrad", {"maximize": True, "weight_decay": 0.1}),
    (
        "Adagrad",
        {
            "lr": 0.2,
            "lr_decay": 0.02,
            "initial_accumulator_value": 0.1,
            "eps": 1e-3,
            "weight_decay": 0.3,
            "maximize": True,
        },
    ),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.1}),
    ("Adadelta", {"rho": 0.5}),
    ("Adadelta", {"rho": 0.0}),
    ("Adadelta", {"eps": 0.01}),
    ("Adadelta", {"weight_decay": 0.1}),
    ("Adadelta", {"maximize": True}),
    ("Adadelta", {"maximize": True, "weight_decay": 0.1}),
    ("Adadelta", {"lr": 0.5, "rho": 0.95, "eps": 1e-4, "weight_decay": 0.3, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.1}),
    ("RMSprop", {"alpha": 0.8}),
    ("RMSprop", {"eps": 0.1}),
    ("RMSprop", {"momentum": 0.9}),
    ("RMSprop", {"centered": True}),
    ("RMSprop", {"weight_decay": 0.1}),
    ("RMSprop", {"maximize": True}),
    ("RMSprop", {"maximize": True, "weight_decay": 0.1}),
    ("RMSprop", {"centered": True, "momentum": 0.9}),
    ("RMSprop", {"momentum": 0.9, "weight_decay": 0.1}),
    (
        "RMSprop",
        {
            "lr": 0.002,
            "alpha": 0.9,
            "eps": 1e-3,
            "momentum": 0.5,
            "centered": True,
            "weight_decay": 0.3,
            "maximize": True,
        },
    ),
    ("Adam", {}),
    ("Adam", {"lr": 0.1}),
    ("Adam", {"betas": (0.5, 0.9)}),
    ("Adam", {"betas": (0.0, 0.999)}),
    ("Adam", {"betas": (0.9, 0.0)}),
    ("Adam", {"eps": 0.01}),
    ("Adam", {"amsgrad": True}),
    ("Adam", {"amsgrad": True, "betas": (0.5, 0.9)}),
    ("Adam", {"weight_decay": 0.1}),
    ("Adam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("Adam", {"maximize": True}),
    ("Adam", {"maximize": True, "weight_decay": 0.1}),
    (
        "Adam",
        {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "amsgrad": True, "weight_decay": 0.3, "maximize": True},
    ),
    (
        "Adam",
        {
            "lr": 0.05,
            "betas": (0.8, 0.95),
            "eps": 1e-3,
            "amsgrad": True,
            "weight_decay": 0.3,
            "decoupled_weight_decay": True,
            "maximize": True,
        },
    ),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.1}),
    ("AdamW", {"betas": (0.5, 0.9)}),
    ("AdamW", {"eps": 0.01}),
    ("AdamW", {"amsgrad": True}),
    ("AdamW", {"weight_decay": 0.0}),
    ("AdamW", {"weight_decay": 0.5}),
    ("AdamW", {"maximize": True}),
    (
        "AdamW",
        {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "amsgrad": True, "weight_decay": 0.3, "maximize": True},
    ),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.1}),
    ("Adamax", {"betas": (0.5, 0.9)}),
    ("Adamax", {"eps": 0.1}),
    ("Adamax", {"weight_decay": 0.1}),
    ("Adamax", {"maximize": True}),
    ("Adamax", {"maximize": True, "weight_decay": 0.1}),
    ("Adamax", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3, "maximize": True}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.1}),
    ("NAdam", {"betas": (0.5, 0.9)}),
    ("NAdam", {"eps": 0.01}),
    ("NAdam", {"momentum_decay": 0.1}),
    ("NAdam", {"momentum_decay": 0.0}),
    ("NAdam", {"weight_decay": 0.1}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("NAdam", {"maximize": True}),
    ("NAdam", {"maximize": True, "weight_decay": 0.1}),
    (
        "NAdam",
        {
            "lr": 0.05,
            "betas": (0.8, 0.95),
            "eps": 1e-3,
            "momentum_decay": 0.02,
            "weight_decay": 0.3,
            "decoupled_weight_decay": True,
            "maximize": True,
        },
    ),
    ("RAdam", {}),
    ("RAdam", {"lr": 0.1}),
    ("RAdam", {"betas": (0.5, 0.9)}),
    ("RAdam", {"betas": (0.9, 0.99)}),
    ("RAdam", {"betas": (0.9, 0.5)}),  # never rectified: rho_inf = 3
    ("RAdam", {"eps": 0.01}),
    ("RAdam", {"weight_decay": 0.1}),
    ("RAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"maximize": True}),
    ("RAdam", {"maximize": True, "weight_decay": 0.1}),
    (
        "RAdam",
        {
            "lr": 0.05,
            "betas": (0.8, 0.95),
            "eps": 1e-3,
            "weight_decay": 0.3,
            "decoupled_weight_decay": True,
            "maximize": True,
        },
    ),
]


def make_inputs():
    """Starting points and gradients, of different kinds in different columns."""
    rng = np.random.default_rng(20)
    t = np.arange(1, STEPS + 1)
    noise = rng.standard_normal((STEPS, 7))
    often = np.stack(
        [
            noise[:, 0],
            1 + 0.1 * noise[:, 1],  # almost constant: a centered variance nearly cancels
            1e-6 * noise[:, 2],  # so small that eps shows
            1e3 * noise[:, 3],
            np.where(t % 10 == 4, noise[:, 4], 0.0),  # mostly zero: running maxima outlive the average
            np.zeros(STEPS),
            np.sin(t / 7) * np.exp(-t / 50) + 0.01 * noise[:, 6],
        ],
        axis=1,
    )
    seldom = rng.standard_normal((STEPS, 2, 2)) * [[1.0, 1e-2], [1e-4, 10.0]]
    present = (t % 3 != 1) | (t == STEPS)  # absent at steps 1, 4, 7, ...
    return {
        "often/start": rng.uniform(0.5, 2.0, 7) * [1, -1, 1, -1, 1, -1, 1],
        "often/grads": often,
        "seldom/start": rng.uniform(0.5, 2.0, (2, 2)) * [[1, -1], [-1, 1]],
        "seldom/grads": seldom,
        "seldom/present": present,
    }


def record(name, options, inputs):
    """Run one case; return its arrays by the last part of their key."""
    often, seldom = (torch.tensor(inputs[f"{array}/start"], requires_grad=True) for array in ("often", "seldom"))
    optimizer = getattr(torch.optim, name)([often, seldom], **options)
    paths = {"often": [], "seldom": []}
    for i in range(STEPS):
        often.grad = torch.tensor(inputs["often/grads"][i])
        seldom.grad = torch.tensor(inputs["seldom/grads"][i]) if inputs["seldom/present"][i] else None
        optimizer.step()
        if i + 1 in SNAPSHOTS:
            paths["often"].append(often.detach().numpy().copy())
            paths["seldom"].append(seldom.detach().numpy().copy())
    out = {array: np.array(path) for array, path in paths.items()}
    for array, tensor in (("often", often), ("seldom", seldom)):
        for slot, value in optimizer.state[tensor].items():
            if slot not in NOT_STATE and value is not None:
                out[f"{array}/{slot}"] = value.numpy()
    return out


def main():
    torch.set_default_dtype(torch.float64)  # NAdam keeps its product in the default dtype
    inputs = make_inputs()
    cases, arrays = [], {}
    for name, options in CASES:
        case = f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})"
        assert case not in (known["id"] for known in cases), f"{case} is there twice"
        cases.append({"id": case, "optimizer": name, "options": options})
        arrays.update({f"{case}/{key}": value for key, value in record(name, options, inputs).items()})
    np.savez_compressed(
        pathlib.Path(__file__).with_name("torch_optim.npz"),
        torch_version=torch.__version__,
        snapshots=SNAPSHOTS,
        cases=json.dumps(cases),
        **inputs,
        **arrays,
    )


if __name__ == "__main__":
    main()
