"""The mini-batch loop: an objective that is a mean over data, and an optimizer that moves its parameters in place."""

import math
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import numpy as np

from downslope.minimize.minibatches import minibatches
from downslope.minimize.progress import progress_bar
from downslope.minimize.result import OptimizeResult
from downslope.rules.arrays import computed, parameter_array
from downslope.rules.optimizer import Optimizer
from downslope.rules.structure import read_params
from downslope.validation import boolean, function, integer, one_number


def train(
    fun,
    params,
    data,
    optimizer,
    batch_size,
    epochs,
    callbacks=(),
    progress=False,
    *,
    seed=0,
    validate=None,
    resume=None,
):
    """Minimize a mean over data in mini-batches, moving the parameters in place.

    Parameters
    ----------
    fun : callable
        ``fun(params, *batch) -> (loss, grads)``: the mean loss over the rows of a batch, a number, and its gradients
        as ``optimizer.step`` takes them; None for those that are bound.
    params : array, sequence or mapping of arrays
        What `fun` is to be given; `optimizer` moves it.
    data : array or tuple of arrays
        Their first axes, the examples, have equal length; a batch has the same rows of each.
    optimizer : Optimizer
        Made over the arrays of `params`. With `NAG`, `fun` is called at the look-ahead point.
    batch_size : int or None
        Rows in a batch; None is all rows at once: see `minibatches`.
    epochs : int
        Passes over the data, at least 1; with `resume`, those before it count.
    callbacks : sequence of callables
        ``callback(intermediate_result)``, called in turn after every step: see Notes. One that raises `StopIteration`
        ends the training.
    progress : bool
        Whether to show a progress bar, which needs tqdm.
    seed : int
        Of the order of the rows, at least 0. Each epoch has a new order.
    validate : callable, optional
        ``validate(params) -> float``, such as the loss on data held out, called after every epoch. It takes the place
        of the training loss in choosing the best parameters.
    resume : optional
        The ``state`` of an earlier training, which is taken up where that was taken, mid-epoch, too.

    Returns
    -------
    OptimizeResult
        With the entries

        - ``x``: a copy of the best parameters, in the structure of `params`: those at the end of the epoch with the
          least loss (of the last epoch, if all losses are NaN), or where no epoch was completed, the last ones.
          `params` themselves are where the last step left them;
        - ``fun``: the loss of that epoch: the mean over its rows, each at the parameters of its step, or what
          `validate` returned;
        - ``history``: a dict with an array of the mean ``"loss"`` of each epoch, and with `validate`, another,
          ``"validation"``;
        - ``epoch``, ``batch``: completed epochs, and steps in the epoch that was not completed;
        - ``nit``, ``nfev``: steps, and calls of `fun`; ``state``: for `resume`;
        - ``success``, ``status``, ``message``: 0, all epochs are done; 1, a callback ended it; both are a success; 2,
          the loss or the parameters turned infinite or NaN: `params` are again those for which the loss was last
          finite, but the optimizer's state is as its last step left it.

    Raises
    ------
    TypeError
        If `optimizer` is none, `fun`, `validate` or a callback cannot be called, `resume` is no state, or `fun` doesn't
        return a number and gradients.
    ValueError
        If `optimizer` moves other arrays than `params`, data have different lengths or no rows, a number is out of
        range, or `resume` is of another training.
    ImportError
        For a progress bar without tqdm.

    Notes
    -----
    An ``intermediate_result`` has ``x`` (`params`), ``epoch``, ``batch``, ``nit``, ``nfev``, ``history``, ``state``,
    ``loss`` (of the last batch) and ``fun`` (the mean of the epoch up to now). ``batch`` is 0 at the end of an epoch,
    which is then in the history: what is to run once an epoch starts with ``if intermediate_result.batch: return``.

    What `fun`, `validate` or a callback raise leaves as it is, with the parameters where the last step left them.

    A checkpoint is the state together with the optimizer, of which a pickle carries the parameters along. Resumed from
    it, with the same `fun`, `data`, `batch_size` and `seed`, parameters and history go on with the same bits.

    References
    ----------
    .. [1] L. Bottou, F. E. Curtis and J. Nocedal, "Optimization methods for large-scale machine learning", 2018.

    Examples
    --------
    Least squares, interrupted in the middle of the third epoch and taken up again:

    >>> import pickle
    >>> import numpy as np
    >>> import downslope as ds
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((100, 3))
    >>> y = X @ [1.0, -2.0, 3.0]
    >>> def fun(p, Xb, yb):
    ...     r = Xb @ p["w"] - yb
    ...     return np.mean(r * r), {"w": 2 / len(r) * (r @ Xb)}
    >>> def checkpoint(intermediate_result):
    ...     global saved
    ...     if intermediate_result.nit == 25:
    ...         saved = pickle.dumps((opt, intermediate_result.state))
    ...         raise StopIteration("out of time")
    >>> p = {"w": np.zeros(3)}
    >>> opt = ds.Adam(p, lr=0.1)
    >>> res = ds.train(fun, p, (X, y), opt, batch_size=10, epochs=20, callbacks=[checkpoint])
    >>> res.message, res.epoch, res.batch
    ('A callback ended it: out of time.', 2, 5)
    >>> opt, state = pickle.loads(saved)
    >>> res = ds.train(fun, opt.params, (X, y), opt, batch_size=10, epochs=20, resume=state)
    >>> res.nit, len(res.history["loss"]), res.x["w"].round(2)
    (200, 20, array([ 1., -2.,  3.]))
    """
    function("fun", fun)
    if validate is not None:
        function("validate", validate)
    epochs, progress = integer("epochs", epochs, lower=1), boolean("progress", progress)
    parameters = _Parameters(params, optimizer)
    callbacks = _callables("callbacks", callbacks)
    batches = minibatches(*(data if isinstance(data, tuple) else (data,)), batch_size=batch_size, seed=seed)
    if len(batches) == 0:
        raise ValueError("data must have at least one row, got none")
    start = {"rows": batches._rows, "batch_size": batch_size, "seed": seed, "step_count": optimizer.step_count}
    history = {"loss": []} if validate is None else {"loss": [], "validation": []}
    state = TrainState(**start, history=history) if resume is None else _resumed(resume, start, history)

    training = _Training(fun, params, parameters, optimizer, batches, validate, state)
    done = state.epoch * len(batches) + state.batch
    with progress_bar(progress, total=epochs * len(batches), done=done, unit="step") as advance:
        try:
            stop = training.run(epochs, callbacks, advance)
        except _NotFinite as reason:
            return training.result(2, f"{reason}: the parameters are the last ones with a finite loss.")
    if stop is None:
        return training.result(0, f"All {epochs} epochs are done.")
    return training.result(1, f"A callback ended it{': ' if str(stop) else ''}{stop}.")


@dataclass
class TrainState:
    """Where a training is, apart from parameters and optimizer.

    Copies share its lists and arrays, which are never changed but for growth: of the history, the first `epoch` entries
    count.
    """

    rows: int
    batch_size: int | None
    seed: int
    step_count: int
    history: dict = field(repr=False)
    epoch: int = 0
    batch: int = 0
    nit: int = 0
    nfev: int = 0
    seen: int = 0  # rows in the running epoch
    total: float = 0.0  # of their losses
    best_fun: float = math.nan  # until an epoch has a loss that is a number
    best: list | None = field(default=None, repr=False)  # the parameters


class _NotFinite(Exception):
    """The training cannot go on."""


class _Training:
    """The loop, one step at a time."""

    def __init__(self, fun, params, parameters, optimizer, batches, validate, state):
        self._function, self._params, self._parameters = fun, params, parameters
        self._optimizer, self._batches, self._validate, self.state = optimizer, batches, validate, state
        self._where_gradients_are_taken = getattr(optimizer, "lookahead", nullcontext)
        self.loss = self.fun = math.nan

    def run(self, epochs, callbacks, advance):
        """Take steps until it is over; the StopIteration of the callback that ended it, or None."""
        state = self.state
        while state.epoch < epochs:
            for batch in self._batches._batches(state.epoch, state.batch):
                self._step(batch)
                if state.batch == len(self._batches):
                    self._end_epoch()
                advance(self.fun)
                stop = self._called(callbacks)
                if stop is not None:
                    self._check_parameters()
                    return stop
        return None

    def _step(self, batch):
        state, rows = self.state, len(batch[0])
        with self._where_gradients_are_taken():
            returned = self._function(self._params, *batch)
        try:
            loss, grads = returned
        except (TypeError, ValueError):
            raise TypeError(f"fun must return (loss, grads), got a {type(returned).__name__}") from None
        self.loss = one_number("the loss that fun returns", loss)
        state.nfev += 1
        if not math.isfinite(self.loss):
            self._parameters.restore()
            raise _NotFinite(f"The loss turned {self.loss} after {state.nit} steps")
        self._parameters.keep()
        self._optimizer.step(grads)
        if state.batch + 1 == len(self._batches):
            self._check_parameters()
        state.nit += 1
        state.batch += 1
        state.seen += rows
        state.total += rows * self.loss
        self.fun = state.total / state.seen

    def _end_epoch(self):
        state = self.state
        losses = {"loss": self.fun}
        if self._validate is not None:
            losses["validation"] = one_number("what validate returns", self._validate(self._params))
        for name, loss in losses.items():
            state.history[name].append(loss)
        if loss < state.best_fun or math.isnan(state.best_fun):
            state.best_fun, state.best = loss, self._parameters.copies()
        state.epoch += 1
        state.batch, state.seen, state.total = 0, 0, 0.0

    def _check_parameters(self):
        """Look at parameters that are to be kept or returned: no loss has been taken there."""
        if not self._parameters.finite():
            self._parameters.restore()
            raise _NotFinite("The last step made a parameter infinite or NaN")

    def _called(self, callbacks):
        """The StopIteration that one of them raises, or None."""
        if not callbacks:
            return None
        report = OptimizeResult(fun=self.fun, x=self._params, loss=self.loss, **self._counts())
        try:
            for callback in callbacks:
                callback(report)
        except StopIteration as stop:
            return stop
        return None

    def result(self, status, message):
        """What the user is given."""
        state = self.state
        fun, best = (self.fun, self._parameters.arrays) if state.best is None else (state.best_fun, state.best)
        res = OptimizeResult(message=message, success=status != 2, status=status, fun=fun)
        res.update(x=self._parameters.structured(best), **self._counts())
        res.history = {name: np.array(losses) for name, losses in res.history.items()}
        return res

    def _counts(self):
        state = self.state
        counts = {name: getattr(state, name) for name in ("nit", "nfev", "epoch", "batch", "history")}
        return {**counts, "state": replace(state, step_count=self._optimizer.step_count)}


class _Parameters:
    """The arrays that move, with a copy of each from before the last step."""

    def __init__(self, params, optimizer):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be an Optimizer over params, got a {type(optimizer).__name__}")
        self._structure, groups = read_params(params)
        items = (item for arrays, _ in groups for item in arrays)
        labels = [f"params{label}" for label in self._structure.labels]
        read = [parameter_array(label, item) for label, item in zip(labels, items, strict=True)]
        self.arrays, self._storages = [array for array, _ in read], [storage for _, storage in read]
        moved = {_place(member.param) for member in optimizer._members}
        for label, array in zip(labels, self.arrays, strict=True):
            if _place(array) not in moved:
                raise ValueError(f"optimizer must have the arrays of params, but {label} is not one of its")
        if len(self.arrays) != len(optimizer._members):
            raise ValueError(
                f"optimizer must have the {len(self.arrays)} arrays of params alone, got {len(optimizer._members)}"
            )
        self._kept = None

    def finite(self):
        """Whether no element is infinite or NaN."""
        pairs = zip(self.arrays, self._storages, strict=True)
        return all(np.isfinite(computed(array, storage)).all() for array, storage in pairs)

    def keep(self):
        """Remember the arrays as they are."""
        if self._kept is None:
            self._kept = self.copies()
        else:
            _assign(self._kept, self.arrays)

    def restore(self):
        """Put back what was remembered, if anything was."""
        if self._kept is not None:
            _assign(self.arrays, self._kept)

    def copies(self):
        return [array.copy(order="K") for array in self.arrays]

    def structured(self, arrays):
        """Copies of `arrays` in the structure of the parameters."""
        return self._structure.unflatten([array.copy(order="K") for array in arrays])


def _assign(targets, sources):
    for target, source in zip(targets, sources, strict=True):
        target[...] = source


def _place(array):
    """Where an array is in memory."""
    return array.ctypes.data, array.shape, array.strides


def _resumed(resume, start, history):
    """The state to go on from, if it belongs to this training."""
    if not isinstance(resume, TrainState):
        raise TypeError(f"resume must be the state of an earlier training, got a {type(resume).__name__}")
    start = {**start, "history": list(history)}
    for name, value in {**vars(resume), "history": list(resume.history)}.items():
        if name in start and value != start[name]:
            raise ValueError(f"resume must be of a training with {name} {start[name]!r}, got {value!r}")
    return replace(resume, history={name: losses[: resume.epoch] for name, losses in resume.history.items()})


def _callables(name, given):
    """An iterable of callables as a list."""
    items = list(given) if isinstance(given, Iterable) else [given]
    if callable(given) or not all(map(callable, items)):
        raise TypeError(f"{name} must be a sequence of callables, got {given!r}")
    return items
