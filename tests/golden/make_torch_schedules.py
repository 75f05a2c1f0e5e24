"""Record the rates of `torch.optim.lr_scheduler` that the schedules are tested against: ``torch_schedules.npz``.

Run it with PyTorch installed, from anywhere: ``python make_torch_schedules.py``. The tests need the file alone.

The file holds

- ``torch_version``, ``cases`` and ``plateaus``: JSON, lists of ``{"id": ..., "scheduler": class name, "options":
  keywords}``; for SequentialLR, the options are the milestones and a list of such cases;
- for each case ``<id>``: the rates of the epochs 0, 1, ..., from a rate of `LR` (`OneCycleLR` has its own);
- ``metrics``, a row for each plateau, and ``rates``: what the rate was after each metric, from `LR`.
"""

import json
import pathlib
import warnings

import numpy as np
import torch
from torch.optim import lr_scheduler

LR = 0.3
EPOCHS = 60
PLATEAUS, METRICS = 120, 80

CASES = [
    ("StepLR", {"step_size": 7}),
    ("StepLR", {"step_size": 1, "gamma": 0.9}),
    ("StepLR", {"step_size": 100, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [1, 10, 11, 59], "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [30]}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("ExponentialLR", {"gamma": 1.0}),
    ("LinearLR", {"start_factor": 0.001, "end_factor": 1.0, "total_iters": 20}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 59}),
    ("LinearLR", {"start_factor": 0.25, "end_factor": 0.5, "total_iters": 1}),
    ("CosineAnnealingLR", {"T_max": 59}),
    ("CosineAnnealingLR", {"T_max": 40, "eta_min": 0.01}),
    ("CosineAnnealingLR", {"T_max": 1, "eta_min": 0.01}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 60}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 60, "pct_start": 0.25, "div_factor": 2.0, "final_div_factor": 3.0}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 7, "pct_start": 0.4}),  # the peak is between two epochs
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 30, "pct_start": 0.02}),  # the peak is before the first epoch
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 2, "pct_start": 0.0}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 1}),
    (
        "SequentialLR",
        {
            "milestones": [10, 25],
            "schedulers": [
                {"scheduler": "LinearLR", "options": {"start_factor": 0.1, "end_factor": 1.0, "total_iters": 10}},
                {"scheduler": "StepLR", "options": {"step_size": 4, "gamma": 0.5}},
                {"scheduler": "CosineAnnealingLR", "options": {"T_max": 35}},
            ],
        },
    ),
]


def new_optimizer():
    """Something to schedule, which never moves."""
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)


def make(optimizer, scheduler, options):
    """A scheduler, for SequentialLR with those that it consists of."""
    if scheduler == "SequentialLR":
        parts = [make(optimizer, **part) for part in options["schedulers"]]
        return lr_scheduler.SequentialLR(optimizer, parts, options["milestones"])
    if scheduler == "OneCycleLR":
        options = {**options, "cycle_momentum": False}
    return getattr(lr_scheduler, scheduler)(optimizer, **options)


def record(scheduler, options):
    """The rates of the epochs; a OneCycleLR and a CosineAnnealingLR have only so many."""
    epochs = options.get("total_steps", options.get("T_max", EPOCHS - 1) + 1)
    optimizer = new_optimizer()
    schedule, rates = make(optimizer, scheduler, options), []
    for epoch in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if epoch + 1 < epochs:
            schedule.step()
    return np.array(rates)


def make_plateaus():
    """Options and metrics, of many kinds but none negative: noise about a curve that flattens, NaN and infinity."""
    rng = np.random.default_rng(21)
    cases, metrics = [], []
    for _ in range(PLATEAUS):
        mode = str(rng.choice(["min", "max"]))
        options = {
            "mode": mode,
            "factor": float(rng.choice([0.0, 0.1, 0.5, 0.9])),
            "patience": int(rng.integers(0, 6)),
            "threshold": float(rng.choice([0.0, 1e-4, 0.05, 0.5])),
            "cooldown": int(rng.integers(0, 5)),
            "min_lr": float(rng.choice([0.0, 0.01, LR])),
        }
        curve = np.exp(-np.arange(METRICS) / rng.choice([3, 10, 50]))
        curve = (curve if mode == "min" else 1 - curve) + rng.choice([0.0, 1.0])
        row = np.abs(curve + rng.choice([0.0, 0.01, 0.3]) * rng.standard_normal(METRICS)).round(3)
        row[rng.random(METRICS) < rng.choice([0.0, 0.1])] = np.nan
        row[rng.random(METRICS) < rng.choice([0.0, 0.02])] = np.inf
        cases.append({"id": str(options), "scheduler": "ReduceLROnPlateau", "options": options})
        metrics.append(row)
    return cases, np.array(metrics)


def record_plateau(options, metrics):
    """The rate after each metric; `eps`, below which PyTorch leaves a reduction out, is 0."""
    optimizer = new_optimizer()
    schedule, rates = lr_scheduler.ReduceLROnPlateau(optimizer, **options, eps=0.0), []
    for metric in metrics:
        schedule.step(metric)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def main():
    warnings.simplefilter("error")
    cases = [{"id": f"{name}({options})", "scheduler": name, "options": options} for name, options in CASES]
    plateaus, metrics = make_plateaus()
    np.savez_compressed(
        pathlib.Path(__file__).with_name("torch_schedules.npz"),
        torch_version=torch.__version__,
        cases=json.dumps(cases),
        plateaus=json.dumps(plateaus),
        metrics=metrics,
        rates=[record_plateau(case["options"], row) for case, row in zip(plateaus, metrics, strict=True)],
        **{case["id"]: record(case["scheduler"], case["options"]) for case in cases},
    )


if __name__ == "__main__":
    main()
