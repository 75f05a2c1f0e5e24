"""Learning-rate schedules: callables ``schedule(step) -> float``, with step = 1, 2, ..., for the `lr` of an optimizer.

Any such callable will do; these are the usual ones, small and picklable. All but `ReduceOnPlateau` are immutable, equal
if their settings are, and functions of the step alone, so that a resumed run goes on at the same rates. Formulas are
written in ``t = step - 1``, how many steps were taken before, PyTorch's epoch. Rates are finite and >= 0.

Examples
--------
A thousand steps of warm-up, then a cosine:

>>> import numpy as np
>>> import downslope as ds
>>> warm_up = ds.schedules.Linear(0.0, steps=1000, final=1e-3)
>>> opt = ds.Adam(np.ones(3), lr=ds.schedules.Joined([warm_up, ds.schedules.Cosine(1e-3, steps=9000)], [1000]))
>>> [opt.lr(step) for step in (1, 501, 1001, 10001)]
[0.0, 0.0005, 0.001, 0.0]
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field

from downslope.validation import function, integer, number, real, sequence

__all__ = [
    "Cosine",
    "Exponential",
    "Joined",
    "Linear",
    "OneCycle",
    "PiecewiseConstant",
    "ReduceOnPlateau",
    "StepDecay",
]


class _Schedule:
    """The call; a schedule says with `_rate(t)` what the rate is after t steps."""

    def __call__(self, step):
        """The learning rate of a step; the first step is 1."""
        return self._rate(integer("step", step, lower=1) - 1)

    def _keep(self, **checked):
        """Set the fields to their checked values, past the freeze."""
        for name, value in checked.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class StepDecay(_Schedule):
    """Step decay: the rate is multiplied by `gamma` every `step_size` steps, for ever.

    ::

        rate = lr * gamma^floor(t / step_size),    t = step - 1

    Parameters
    ----------
    lr : float
        The rate of the first `step_size` steps, >= 0.
    step_size : int
        At least 1.
    gamma : float, default 0.1
        In [0, 1].

    Notes
    -----
    PyTorch's ``StepLR``.

    Examples
    --------
    >>> import downslope as ds
    >>> schedule = ds.schedules.StepDecay(1.0, step_size=30, gamma=0.5)
    >>> [schedule(step) for step in (1, 30, 31, 60, 61)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    lr: float
    step_size: int
    gamma: float = 0.1

    def __post_init__(self):
        self._keep(
            lr=number("lr", self.lr, lower=0.0),
            step_size=integer("step_size", self.step_size, lower=1),
            gamma=number("gamma", self.gamma, lower=0.0, upper=1.0, includes_upper=True),
        )

    def _rate(self, t):
        return self.lr * _power(self.gamma, t // self.step_size)


@dataclass(frozen=True)
class Exponential(_Schedule):
    """Exponential decay: the rate is multiplied by `gamma` after every step, for ever.

    ::

        rate = lr * gamma^t,    t = step - 1

    Parameters
    ----------
    lr : float
        The rate of the first step, >= 0.
    gamma : float
        In [0, 1].

    Notes
    -----
    PyTorch's ``ExponentialLR``.

    Examples
    --------
    >>> import downslope as ds
    >>> schedule = ds.schedules.Exponential(1.0, gamma=0.5)
    >>> [schedule(step) for step in (1, 2, 3, 4)]
    [1.0, 0.5, 0.25, 0.125]
    """

    lr: float
    gamma: float

    def __post_init__(self):
        self._keep(
            lr=number("lr", self.lr, lower=0.0),
            gamma=number("gamma", self.gamma, lower=0.0, upper=1.0, includes_upper=True),
        )

    def _rate(self, t):
        return self.lr * _power(self.gamma, t)


@dataclass(frozen=True)
class Linear(_Schedule):
    """A straight line from `lr` to `final`: warm-up when it rises, linear decay when it falls.

    ::

        rate = lr + (final - lr) * min(t / steps, 1),    t = step - 1

    Parameters
    ----------
    lr : float
        The rate of the first step, >= 0.
    steps : int
        After how many steps the rate is `final`: from step ``steps + 1`` on, where it stays. At least 1.
    final : float, default 0.0
        At least 0.

    Notes
    -----
    PyTorch's ``LinearLR``, whose factors times its rate are `lr` and `final`.

    Examples
    --------
    >>> import downslope as ds
    >>> warm_up = ds.schedules.Linear(0.0, steps=4, final=1.0)
    >>> [warm_up(step) for step in (1, 2, 3, 4, 5, 6)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """

    lr: float
    steps: int
    final: float = 0.0

    def __post_init__(self):
        self._keep(
            lr=number("lr", self.lr, lower=0.0),
            steps=integer("steps", self.steps, lower=1),
            final=number("final", self.final, lower=0.0),
        )

    def _rate(self, t):
        t = min(t, self.steps)
        return self.lr * ((self.steps - t) / self.steps) + self.final * (t / self.steps)


@dataclass(frozen=True)
class Cosine(_Schedule):
    """Cosine annealing, without restarts: half a wave from `lr` to `final`.

    ::

        rate = final + (lr - final) * (1 + cos(pi * min(t / steps, 1))) / 2,    t = step - 1

    Parameters
    ----------
    lr : float
        The rate of the first step, >= 0.
    steps : int
        After how many steps the rate is `final`: from step ``steps + 1`` on, where it stays. At least 1.
    final : float, default 0.0
        At least 0.

    Notes
    -----
    PyTorch's ``CosineAnnealingLR``, which rises again after `steps`. For warm restarts, join several.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017,
       arXiv:1608.03983.

    Examples
    --------
    >>> import downslope as ds
    >>> schedule = ds.schedules.Cosine(1e-3, steps=1000, final=1e-5)
    >>> [round(schedule(step), 6) for step in (1, 251, 501, 1001, 2000)]
    [0.001, 0.000855, 0.000505, 1e-05, 1e-05]
    """

    lr: float
    steps: int
    final: float = 0.0

    def __post_init__(self):
        self._keep(
            lr=number("lr", self.lr, lower=0.0),
            steps=integer("steps", self.steps, lower=1),
            final=number("final", self.final, lower=0.0),
        )

    def _rate(self, t):
        return _cosine(self.lr, self.final, (self.steps - min(t, self.steps)) / self.steps)


@dataclass(frozen=True)
class OneCycle(_Schedule):
    """One cycle: up to `max_lr` along half a cosine wave, then down, far below the start, along another.

    ::

        initial = max_lr / div_factor,  final = initial / final_div_factor,  peak = pct_start * steps - 1
        rate = initial + (max_lr - initial) * (1 - cos(pi * t / peak)) / 2                            while t < peak
        rate = final + (max_lr - final) * (1 + cos(pi * (t - peak) / (steps - 1 - peak))) / 2         afterwards

    with ``t = min(step, steps) - 1``.

    Parameters
    ----------
    max_lr : float
        The highest rate, >= 0.
    steps : int
        How many steps there are. The last one has the final rate, and so has any step after it. At least 1.
    pct_start : float, default 0.3
        The fraction of the steps in which the rate rises, in [0, 1).
    div_factor : float, default 25.0
        At least 1.
    final_div_factor : float, default 1e4
        At least 1.

    Notes
    -----
    PyTorch's ``OneCycleLR`` with two phases, for the rate alone: momentum is left as it is. Where ``peak <= 0``, the
    rate only falls.

    References
    ----------
    .. [1] L. N. Smith and N. Topin, "Super-convergence: very fast training of neural networks using large learning
       rates", 2018, arXiv:1708.07120.

    Examples
    --------
    >>> import downslope as ds
    >>> schedule = ds.schedules.OneCycle(1.0, steps=10)
    >>> [round(schedule(step), 6) for step in (1, 2, 3, 10, 11)]
    [0.04, 0.52, 1.0, 4e-06, 4e-06]
    """

    max_lr: float
    steps: int
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self):
        self._keep(
            max_lr=number("max_lr", self.max_lr, lower=0.0),
            steps=integer("steps", self.steps, lower=1),
            pct_start=number("pct_start", self.pct_start, lower=0.0, upper=1.0),
            div_factor=number("div_factor", self.div_factor, lower=1.0),
            final_div_factor=number("final_div_factor", self.final_div_factor, lower=1.0),
        )

    def _rate(self, t):
        # Everything in fractions of the steps: quotients of integers, which may have any number of digits.
        t = min(t, self.steps - 1)
        peak = self.pct_start - 1 / self.steps
        initial = self.max_lr / self.div_factor
        if t / self.steps < peak:
            return _cosine(initial, self.max_lr, 1 - t / self.steps / peak)
        left = (self.steps - 1 - t) / self.steps
        return _cosine(self.max_lr, initial / self.final_div_factor, left / (1 - self.pct_start))


@dataclass(frozen=True)
class PiecewiseConstant(_Schedule):
    """A rate for each of several stretches of steps, constant in each.

    ::

        rate = values[i] for the steps milestones[i-1] < step <= milestones[i]

    Parameters
    ----------
    values : sequence of float
        Each >= 0. The last one holds for ever.
    milestones : sequence of int
        The last step of each value but the last; increasing, the first at least 1.

    Notes
    -----
    PyTorch's ``MultiStepLR``, with rates of any ratio. For straight lines between rates, join several `Linear`.

    Examples
    --------
    >>> import downslope as ds
    >>> schedule = ds.schedules.PiecewiseConstant([0.1, 0.01, 0.005], milestones=[100, 150])
    >>> [schedule(step) for step in (1, 100, 101, 150, 151)]
    [0.1, 0.1, 0.01, 0.01, 0.005]
    """

    values: tuple[float, ...]
    milestones: tuple[int, ...]

    def __post_init__(self):
        values = _elements("values", self.values)
        self._keep(
            values=tuple(number(f"values[{i}]", value, lower=0.0) for i, value in enumerate(values)),
            milestones=_milestones(self.milestones, "values", len(values)),
        )

    def _rate(self, t):
        return self.values[bisect_right(self.milestones, t)]


@dataclass(frozen=True)
class Joined(_Schedule):
    """Several schedules, one after the other, each of which counts its own steps from 1.

    ::

        rate = schedules[i](step - milestones[i-1]) for the steps milestones[i-1] < step <= milestones[i]

    Parameters
    ----------
    schedules : sequence of callable
        Schedules of any kind. The last one goes on for ever.
    milestones : sequence of int
        The last step of each schedule but the last, counted from the start of all; increasing, the first at least 1.

    Notes
    -----
    PyTorch's ``SequentialLR``.

    Examples
    --------
    >>> import downslope as ds
    >>> warm_up, decay = ds.schedules.Linear(0.0, steps=2, final=1.0), ds.schedules.Exponential(1.0, gamma=0.5)
    >>> schedule = ds.schedules.Joined([warm_up, decay], milestones=[2])
    >>> [schedule(step) for step in (1, 2, 3, 4, 5)]
    [0.0, 0.5, 1.0, 0.5, 0.25]
    """

    schedules: tuple[Callable, ...]
    milestones: tuple[int, ...]

    def __post_init__(self):
        schedules = _elements("schedules", self.schedules)
        for i, schedule in enumerate(schedules):
            function(f"schedules[{i}]", schedule)
        self._keep(schedules=schedules, milestones=_milestones(self.milestones, "schedules", len(schedules)))

    def _rate(self, t):
        i = bisect_right(self.milestones, t)
        taken = self.milestones[i - 1] if i else 0
        return self.schedules[i](t - taken + 1)


@dataclass(eq=False)  # Two that are equal now may differ after the next metric, which only one of them is told.
class ReduceOnPlateau(_Schedule):
    """A rate that is reduced when a metric, told with `update`, has stopped improving.

    ::

        m improves when m < best * (1 - threshold)
        after more than `patience` metrics in a row that don't:  lr = max(lr * factor, min_lr)

    where metrics during the `cooldown` that follows a reduction don't count against the rate.

    Parameters
    ----------
    lr : float
        The rate to begin with, >= 0.
    mode : {"min", "max"}, default "min"
        Whether a lower metric is better, or a higher one: m > best * (1 + threshold).
    factor : float, default 0.1
        In [0, 1).
    patience : int, default 10
        How many metrics in a row may fail to improve without a reduction, >= 0.
    threshold : float, default 1e-4
        How much better than the best a metric must be to count as better, relative to the size of the best; in [0, 1).
    cooldown : int, default 0
        How many metrics after a reduction are not counted if they fail to improve, >= 0.
    min_lr : float, default 0.0
        Where reduction ends, >= 0 and <= `lr`.

    Attributes
    ----------
    lr : float
        The rate as it is now, which the call returns whatever the step.
    best : float
        The best metric so far.
    num_bad_epochs, cooldown_counter : int
        How many metrics in a row failed to improve, and for how many more they will not be counted.

    Notes
    -----
    PyTorch's ``ReduceLROnPlateau`` with its relative threshold, but for two things. Where the best is negative, the
    sign before `threshold` turns round, so that better still means better; in PyTorch, a negative metric that stays as
    it is improves for ever (pytorch/pytorch#47513). And no reduction is too small to be made (PyTorch's ``eps``).

    A NaN is no improvement. The state is part of a pickle of the schedule, or of its optimizer, but not of the
    optimizer's ``state_dict()``. Schedules of this kind are equal only if they are the same object.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> plateau = ds.schedules.ReduceOnPlateau(0.1, factor=0.5, patience=1)
    >>> opt = ds.SGD(np.ones(3), lr=plateau)
    >>> for validation_loss in (1.0, 0.8, 0.8, 0.9):
    ...     plateau.update(validation_loss)
    >>> plateau.lr
    0.05
    """

    lr: float
    _: KW_ONLY
    mode: str = "min"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    cooldown: int = 0
    min_lr: float = 0.0
    best: float = field(init=False)
    num_bad_epochs: int = field(init=False, default=0)
    cooldown_counter: int = field(init=False, default=0)

    def __post_init__(self):
        self.lr = number("lr", self.lr, lower=0.0)
        if self.mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {self.mode!r}")
        self.factor = number("factor", self.factor, lower=0.0, upper=1.0)
        self.patience = integer("patience", self.patience, lower=0)
        self.threshold = number("threshold", self.threshold, lower=0.0, upper=1.0)
        self.cooldown = integer("cooldown", self.cooldown, lower=0)
        self.min_lr = number("min_lr", self.min_lr, lower=0.0, upper=self.lr, includes_upper=True)
        self.best = math.inf if self.mode == "min" else -math.inf

    def update(self, metric):
        """Tell the next metric, such as the loss on validation data after an epoch.

        Parameters
        ----------
        metric : float
            It may be infinite or NaN.

        Raises
        ------
        TypeError
            If it is no number.
        """
        metric = real("metric", metric)
        sign = 1 if self.mode == "max" else -1
        # Beyond the best, on whichever side of zero that is. A product, since inf - inf would be NaN.
        to_beat = self.best * (1 + math.copysign(self.threshold, sign * self.best))
        if sign * metric > sign * to_beat:
            self.best, self.num_bad_epochs = metric, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self.lr = max(self.lr * self.factor, self.min_lr)
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def _rate(self, t):
        return self.lr


def _power(gamma, n):
    """gamma^n for gamma in [0, 1]: beyond n = 2^63 nothing changes, and an integer may be too large for a float."""
    return gamma ** min(n, 2**63)


def _cosine(start, end, left):
    """Half a cosine wave from `start`, where all of it is `left`, 1, to `end`, where nothing is, 0."""
    weight = math.sin(math.pi / 2 * left) ** 2  # (1 + cos(pi (1 - left)))/2, which would cancel near the end
    return weight * start + (1 - weight) * end


def _elements(name, values):
    """A sequence, as a tuple with at least one element."""
    elements = sequence(name, values)
    if not elements:
        raise ValueError(f"{name} must have at least one element, got none")
    return elements


def _milestones(values, pieces, count):
    """The steps at which one of `count` pieces ends and another follows, as a tuple."""
    values = sequence("milestones", values)
    if len(values) != count - 1:
        raise ValueError(f"milestones must be one fewer than {pieces}, {count - 1}, got {len(values)}")
    checked, lower = [], 1
    for i, value in enumerate(values):
        checked.append(integer(f"milestones[{i}]", value, lower=lower))
        lower = checked[-1] + 1
    return tuple(checked)
