"""Preconditioners against Adam on the deep autoencoder of the digits, from the same starts on the same batches.

Run as ``python benchmarks/autoencoder.py``. Everything is on one thread. Each method's learning rate is the best of one
grid: Adam's for the lowest loss within its epochs, the others' for the fewest epochs until they reach that loss, of
which they have half as many. K-FAC without a clip has the damping that its name says, the others the lab's. Then Adam
and the others take turns, a start after the other, and are timed; losses are those of all training rows and are not
timed.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy comes in

import time
from dataclasses import replace

import numpy as np

import downslope as ds
from downslope.lab.datasets import load
from downslope.lab.models import autoencoder
from downslope.lab.preconditioned import MACHINERY_PERIOD, METHODS, PERIOD, UPDATE_EVERY

LRS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
EPOCHS, BATCH, STARTS = 100, 128, 5


class Rule:
    """A rule of downslope as a trainer."""

    def __init__(self, make, model, params):
        self.model, self.params, self.opt = model, params, make(params)

    def train(self, batch):
        self.opt.step(self.model.loss_and_grads(self.params, *batch)[1])


class Preconditioned:
    """One of the lab's methods."""

    def __init__(self, method, model, params, seed):
        self.trainer = method.trainer(method, model, params, seed)

    def train(self, batch):
        self.trainer.take_gradients(*batch)
        self.trainer.step()


def plain_kfac(damping):
    """Without a clip."""
    return replace(METHODS["kfac"], make=lambda shapes: ds.KFAC(shapes, damping=damping, period=PERIOD))


def entrants():
    """Name -> function of (lr, model, params, seed)."""
    made = {
        "Adam": lambda lr, *start: Rule(lambda params: ds.Adam(params, lr=lr), *start[:2]),
        "SGD, momentum 0.9": lambda lr, *start: Rule(lambda params: ds.SGD(params, lr=lr, momentum=0.9), *start[:2]),
    }
    methods = {
        "KFAC": METHODS["kfac"],
        "KFAC, no clip, 0.03": plain_kfac(0.03),
        "KFAC + quadratic model": METHODS["kfac-quadratic"],
        "EKFAC": METHODS["ekfac"],
        "TONGA": METHODS["tonga"],
        "DiagonalFisher": METHODS["diagonal-fisher"],
    }
    for name, method in methods.items():
        made[name] = lambda lr, *start, method=method: Preconditioned(replace(method, lr=lr), *start)
    return made


def run(make, lr, epochs, seed, target=None):
    """Losses and seconds after each epoch, until the loss is at the target."""
    inputs, _ = load("digits").split(seed)[0]
    model = autoencoder(inputs.shape[1])
    params = model.init(seed)
    trainer = make(lr, model, params, seed)
    batches = ds.minibatches(inputs, inputs, batch_size=BATCH, seed=seed)
    losses, seconds, total = [], [], 0.0
    with np.errstate(all="ignore"):
        for _ in range(epochs):
            started = time.perf_counter()
            for batch in batches:
                trainer.train(batch)
            total += time.perf_counter() - started
            losses.append(float(model.loss(model.predict(params, inputs), inputs)[0]))
            seconds.append(total)
            if not losses[-1] < 1e6 or (target is not None and losses[-1] <= target):
                break
    return np.array(losses), np.array(seconds)


def best_lr(make, target, seed=0):
    """By the lowest loss; or by the epochs until the target, and then by the lowest loss."""
    if target is None:
        return min(LRS, key=lambda lr: np.nanmin(run(make, lr, EPOCHS, seed)[0]))

    def rank(lr):
        losses, _ = run(make, lr, EPOCHS // 2, seed, target)
        return (len(losses) if losses[-1] <= target else np.inf, np.nanmin(losses))

    return min(LRS, key=rank)


def main():
    made = entrants()
    adam = made.pop("Adam")
    adam_lr = best_lr(adam, None)
    first = run(adam, adam_lr, EPOCHS, 0)[0].min()
    has_no_rate = {"KFAC + quadratic model"}
    lrs = {name: 1.0 if name in has_no_rate else best_lr(make, first) for name, make in made.items()}
    epochs, seconds = ({name: [] for name in ["Adam", *made]} for _ in range(2))
    for seed in range(STARTS):
        losses, times = run(adam, adam_lr, EPOCHS, seed)
        at, target = int(losses.argmin()), losses.min()
        epochs["Adam"].append(at + 1)
        seconds["Adam"].append(times[at])
        for name, make in made.items():
            losses, times = run(make, lrs[name], EPOCHS // 2, seed, target)
            reached = losses[-1] <= target
            epochs[name].append(len(losses) if reached else np.nan)
            seconds[name].append(times[-1] if reached else np.nan)
    print(f"until Adam's best loss in {EPOCHS} epochs of batches of {BATCH}; medians of {STARTS} starts")
    print(f"{'':<24}{'lr':>8}{'reached':>9}{'epochs':>8}{'of Adam':>9}{'s':>8}{'of Adam':>9}")
    for name in epochs:
        reached = np.isfinite(epochs[name])
        line = f"{name:<24}{'-' if name in has_no_rate else format(adam_lr if name == 'Adam' else lrs[name], 'g'):>8}"
        line += f"{reached.sum():>6}/{STARTS}"
        if reached.any():
            for own, width, form in ((epochs, 9, ".0f"), (seconds, 8, ".2f")):
                line += f"{np.nanmedian(own[name]):>{width}{form}}"
                line += f"{np.nanmedian(np.divide(own[name], own['Adam'])):>9.2f}"
        print(line)


if __name__ == "__main__":
    ds.show_config()
    print(f"\nfactors updated once in {UPDATE_EVERY} steps, factorized once in {PERIOD * UPDATE_EVERY};")
    print(f"beside the quadratic model at every step, and once in {MACHINERY_PERIOD}\n")
    with ds.num_threads(1):
        main()
