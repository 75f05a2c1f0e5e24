"""The mini-batch loop: the trajectory of the loop written out, its end, and taking it up again."""

import builtins
import copy
import io
import math
import pickle

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_cases import assert_same_bits
from test_foreign_arrays import BFLOAT, Exporter

import downslope as ds

RNG = np.random.default_rng(7)
X = RNG.standard_normal((23, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.1 * RNG.standard_normal(23)


def start(dtype=np.float64):
    return {"w": np.zeros(3, dtype), "b": np.zeros((), dtype)}


def squares(p, x, y):
    """Mean squared error of a line, and its gradients, in another order than the parameters."""
    r = x @ p["w"] + p["b"] - y
    return np.mean(r * r), {"b": np.array(2 * r.mean(), p["b"].dtype), "w": (2 / len(r) * (r @ x)).astype(p["w"].dtype)}


def trained(epochs, *, rule=ds.Adam, batch_size=5, lr=0.05, options={}, **kwargs):
    """Parameters, optimizer and result of a training from the start."""
    p = start()
    opt = rule(p, lr=lr, **options)
    return p, opt, ds.train(squares, p, (X, Y), opt, batch_size, epochs, **kwargs)


def assert_same_params(actual, expected):
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert_same_bits(actual[name], array)


def bits(p):
    return {name: array.tobytes() for name, array in p.items()}


# ---- the trajectory ----


@pytest.mark.parametrize("batch_size", [None, 1, 5, 23, 100])
@pytest.mark.parametrize("rule", ds.OPTIMIZERS.values(), ids=lambda rule: rule.__name__)
def test_equals_the_loop_written_out(rule, batch_size):
    p = start()
    opt = rule(p, lr=0.01)
    losses, steps = [], 0
    batches = ds.minibatches(X, Y, batch_size=batch_size, seed=3)
    for _ in range(4):
        total = 0.0
        for x, y in batches:
            if rule is ds.NAG:
                with opt.lookahead():
                    loss, grads = squares(p, x, y)
            else:
                loss, grads = squares(p, x, y)
            opt.step(grads)
            total += len(x) * loss
            steps += 1
        losses.append(total / len(X))
    moved, _, res = trained(4, rule=rule, batch_size=batch_size, lr=0.01, seed=3)
    assert_same_params(moved, p)
    assert res.history.keys() == {"loss"} and res.history["loss"].tolist() == losses
    assert (res.nit, res.nfev, res.epoch, res.batch) == (steps, steps, 4, 0)
    assert (res.success, res.status, res.message) == (True, 0, "All 4 epochs are done.")


def test_seeds_differ():
    one, _, _ = trained(1, seed=1)
    two, _, _ = trained(1, seed=2)
    default, _, _ = trained(1)
    zero, _, _ = trained(1, seed=0)
    assert bits(one) != bits(two) and bits(default) == bits(zero)


@pytest.mark.parametrize("structure", ["array", "sequence", "mapping", "groups"])
def test_structures(structure):
    def fun(p, x):
        arrays = list(p.values()) if isinstance(p, dict) else [p] if isinstance(p, np.ndarray) else p
        assert p is params
        grads = [np.full(array.shape, x.mean()) for array in arrays]
        return 1.0, dict(zip(p, grads, strict=True)) if isinstance(p, dict) else grads if len(grads) > 1 else grads[0]

    a, b = np.zeros(2), np.zeros((2, 2), order="F")
    params = {"array": a, "sequence": (a, b), "mapping": {"b": b, "a": a}, "groups": [a, b]}[structure]
    given_params = [{"params": [a], "lr": 0.5}, {"params": b}] if structure == "groups" else params
    opt = ds.SGD(given_params, lr=0.5)
    res = ds.train(fun, params, [1.0, 3.0], opt, batch_size=None, epochs=2)
    assert a.tolist() == [-2, -2] and (structure == "array" or b.tolist() == [[-2, -2], [-2, -2]])
    best = res.x
    if structure == "array":
        assert best.tolist() == [-1, -1]
    elif structure == "mapping":
        assert list(best) == ["b", "a"] and best["a"].tolist() == [-1, -1] and best["b"].shape == (2, 2)
    else:
        assert type(best) is list and best[0].tolist() == [-1, -1] and best[1].shape == (2, 2)


def test_one_array_of_data_and_several():
    def fun(p, *batch):
        seen.append([array.tolist() for array in batch])
        return 0.0, np.zeros(1)

    p = np.zeros(1)
    for data, expected in [
        (np.array([1, 2]), [[[1, 2]]]),
        ((np.array([1, 2]),), [[[1, 2]]]),
        ([1, 2], [[[1, 2]]]),
        ((np.array([1, 2]), [[3], [4]]), [[[1, 2], [[3], [4]]]]),
    ]:
        seen = []
        ds.train(fun, p, data, ds.SGD(p), batch_size=None, epochs=1)
        assert seen == expected


def test_bound_gradients_and_arrays_that_are_left_alone():
    a, b = np.zeros(1), np.zeros(1)
    opt, g = ds.SGD([a, b], lr=1.0), [np.empty(1), np.empty(1)]
    opt.bind(g)

    def bound(p, x):
        g[0][:], g[1][:] = 1, 2
        return 0.0, None

    ds.train(bound, [a, b], X, opt, batch_size=None, epochs=1)
    assert (a.item(), b.item()) == (-1, -2)
    ds.train(lambda p, x: (0.0, [None, np.ones(1)]), [a, b], X, opt, batch_size=None, epochs=1)
    assert (a.item(), b.item()) == (-1, -3)


@pytest.mark.parametrize("loss", [1.5, np.float32(1.5), np.array(1.5), np.array([1.5]), np.int64(1), True])
def test_kinds_of_numbers_for_a_loss(loss):
    p = np.zeros(1)
    res = ds.train(lambda p, x: (loss, np.ones(1)), p, X, ds.SGD(p), 10, 1)
    assert type(res.fun) is float and res.fun == float(np.asarray(loss).item())


def test_foreign_parameters():
    """Of another library, by its protocol: the same memory is recognized."""

    class Foreign:
        def __init__(self, array):
            self.__array_interface__, self.array = array.__array_interface__, array

    array = np.zeros(2)
    p = Foreign(array)
    res = ds.train(lambda p, x: (1.0, np.ones(2)), p, X, ds.SGD(p, lr=1.0), None, 1)
    assert array.tolist() == [-1, -1] and res.x.tolist() == [-1, -1]


# ---- the best parameters, and what callbacks are told ----


def test_the_best_parameters_are_kept():
    """A rate that grows diverges after a while; the result is from before."""
    ends = []

    def note(r):
        if r.batch == 0:
            ends.append((r.history["loss"][-1], {name: array.copy() for name, array in r.x.items()}))

    p, _, res = trained(30, rule=ds.SGD, lr=lambda step: 1e-2 * 1.05**step, callbacks=[note])
    losses = [loss for loss, _ in ends]
    best = int(np.argmin(losses))
    assert 0 < best < 29 and losses[-1] > 2 * losses[best]
    assert res.history["loss"].tolist() == losses
    assert res.fun == losses[best]
    assert_same_params(res.x, ends[best][1])
    assert_same_params(p, ends[-1][1])
    assert not any(np.shares_memory(res.x[name], p[name]) for name in p)


def test_validation_chooses_the_best():
    scores, snapshots = iter([3.0, 1.0, math.nan, 2.0]), []

    def validate(p):
        snapshots.append({name: array.copy() for name, array in p.items()})
        return next(scores)

    _, _, res = trained(4, validate=validate)
    np.testing.assert_array_equal(res.history["validation"], [3.0, 1.0, math.nan, 2.0])
    assert len(res.history["loss"]) == 4 and res.fun == 1.0
    assert_same_params(res.x, snapshots[1])


@pytest.mark.parametrize("score, best", [(math.nan, 2), (math.inf, 0)])
def test_validation_that_is_never_finite(score, best):
    snapshots = []

    def validate(p):
        snapshots.append({name: array.copy() for name, array in p.items()})
        return score

    def stop(r):
        if r.nit == 3 * 5 + 2:
            raise StopIteration

    _, _, res = trained(4, validate=validate, callbacks=[stop])
    np.testing.assert_array_equal([res.fun, *res.history["validation"]], [score] * 4)
    assert_same_params(res.x, snapshots[best])


def test_what_callbacks_are_told():
    told, order = [], []

    def first(r):
        order.append("first")
        told.append((r.epoch, r.batch, r.nit, r.nfev, r.loss, r.fun, len(r.history["loss"])))
        assert r.x is p and isinstance(r, ds.OptimizeResult)

    losses, sizes = [], []

    def fun(p, x, y):
        loss, grads = squares(p, x, y)
        losses.append(loss)
        sizes.append(len(x))
        return loss, grads

    p = start()
    ds.train(fun, p, (X, Y), ds.SGD(p), 10, 2, callbacks=(first, lambda r: order.append("second")))
    assert order == ["first", "second"] * 6 and sizes == [10, 10, 3] * 2
    for i, (epoch, batch, nit, nfev, loss, mean, completed) in enumerate(told):
        assert (epoch, batch) == divmod(i + 1, 3)
        assert nit == nfev == i + 1 and loss == losses[i] and completed == epoch
        running = slice(i // 3 * 3, i + 1)
        assert mean == pytest.approx(np.average(losses[running], weights=sizes[running]), rel=1e-14)


def test_callbacks_may_move_the_parameters():
    def project(r):
        np.clip(r.x["w"], 0, None, out=r.x["w"])

    p, _, res = trained(10, callbacks=[project])
    assert (p["w"] >= 0).all() and p["w"][1] == 0


# ---- ends ----


@pytest.mark.parametrize(
    "reason, message", [((), "A callback ended it."), (("enough",), "A callback ended it: enough.")]
)
@pytest.mark.parametrize("at", [1, 4, 5, 7, 10])
def test_stop_iteration(at, reason, message):
    called = []

    def stop(r):
        if r.nit == at:
            raise StopIteration(*reason)

    p, opt, res = trained(3, callbacks=[stop, lambda r: called.append(r.nit)])
    assert called == list(range(1, at))
    assert (res.nit, res.epoch, res.batch) == (at, *divmod(at, 5)) and opt.step_count == at
    assert (res.success, res.status, res.message) == (True, 1, message)
    if at < 5:
        assert_same_params(res.x, p)
        assert not any(np.shares_memory(res.x[name], p[name]) for name in p)
        assert math.isfinite(res.fun)
    else:
        assert res.fun == res.history["loss"].min()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 1, 4, 5, 7])
def test_a_loss_that_is_not_finite(at, bad):
    """It is taken where the last step led: the parameters go back to where that step began."""
    before = []

    def fun(p, x, y):
        before.append(copy.deepcopy(p))
        loss, grads = squares(p, x, y)
        return (bad if len(before) == at + 1 else loss), grads

    p = start()
    opt = ds.Adam(p, lr=0.05)
    res = ds.train(fun, p, (X, Y), opt, 5, 3)
    assert (res.success, res.status) == (False, 2)
    assert (
        res.message == f"The loss turned {bad} after {at} steps: the parameters are the last ones with a finite loss."
    )
    assert (res.nit, res.nfev, opt.step_count) == (at, at + 1, at)
    assert_same_params(p, before[max(at - 1, 0)])
    if at < 5:
        assert_same_params(res.x, p)
    else:
        assert res.fun == res.history["loss"][0]
        assert_same_params(res.x, before[5])


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("at", [1, 3, 5, 10])
def test_a_gradient_that_is_not_finite(at, dtype):
    """In the last step of an epoch no other loss shows it, and such parameters must not be kept as the best."""
    before = []

    def fun(p, x, y):
        before.append(p.copy())
        grad = np.full(3, math.nan if len(before) == at else 0.5).astype(p.dtype)
        return (math.nan if np.isnan(p.astype(float)).any() else 1.0), grad

    p = np.zeros(3, dtype)
    res = ds.train(fun, p, (X, Y), ds.SGD(p, lr=0.5), 5, 2)
    assert (res.success, res.status) == (False, 2)
    assert np.isfinite(p.astype(float)).all() and np.isfinite(res.x.astype(float)).all()
    assert p.tolist() == before[at - 1].tolist()
    ending = "The last step made a parameter" if at % 5 == 0 else "The loss turned nan after"
    assert res.message.startswith(ending)


def test_foreign_bfloat16_is_looked_at_as_numbers():
    bits = np.zeros(2, np.uint16)
    p = Exporter(bits, code=BFLOAT)
    res = ds.train(lambda p, x: (1.0, np.array([0, math.nan], np.float32)), p, X, ds.SGD(p), None, 1)
    assert res.status == 2 and bits.tolist() == [0, 0]


def test_a_stop_after_a_gradient_that_is_not_finite():
    def stop(r):
        raise StopIteration

    p = np.zeros(1)
    res = ds.train(lambda p, x: (1.0, np.array([math.nan])), p, X, ds.SGD(p), 5, 1, callbacks=[stop])
    assert p.tolist() == [0] and res.x.tolist() == [0] and res.status == 2


class Interrupt(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError("x"), StopIteration("x"), TypeError("x"), Interrupt("x")])
@pytest.mark.parametrize("where", ["fun", "validate"])
@pytest.mark.parametrize("rule", [ds.SGD, ds.NAG])
def test_exceptions_leave_as_themselves(where, error, rule):
    after = []

    def fun(p, x, y):
        if where == "fun" and len(after) == 2:
            raise error
        return squares(p, x, y)

    def validate(p):
        if where == "validate":
            raise error

    p = start()
    opt = rule(p)
    with pytest.raises(type(error)) as caught:
        ds.train(fun, p, (X, Y), opt, 5, 2, callbacks=[lambda r: after.append(bits(r.x))], validate=validate)
    assert caught.value is error
    assert opt.step_count == len(after) + (where == "validate")
    if where == "fun":
        assert bits(p) == after[-1]
    opt.step(squares(p, X, Y)[1])  # it is not locked, nor at the look-ahead point


def test_exceptions_of_callbacks_leave_as_themselves():
    error = KeyError("x")

    def callback(r):
        raise error

    with pytest.raises(KeyError) as caught:
        trained(1, callbacks=[callback])
    assert caught.value is error


# ---- early stopping ----


def stopped_after(losses, **kwargs):
    """How many epochs it takes to stop at these losses, or None."""
    stop, history = ds.EarlyStopping(**kwargs), {"loss": []}
    for epoch, loss in enumerate(losses, start=1):
        stop(ds.OptimizeResult(batch=1, history=history))
        history["loss"].append(loss)
        try:
            stop(ds.OptimizeResult(batch=0, history=history))
        except StopIteration:
            return epoch
    return None


def test_early_stopping():
    assert stopped_after([3, 2, 1, 1, 1, 1], patience=2) == 5
    assert stopped_after([3, 2, 2, 1, 1, 0], patience=2) is None
    assert stopped_after([1, 1], patience=1) == 2
    assert stopped_after([3.0, 2.9, 2.8, 2.4, 2.3, 2.2], patience=2, min_delta=0.5) == 3
    assert stopped_after([3.0, 2.9, 2.4, 2.3, 1.8], patience=2, min_delta=0.5) is None
    assert stopped_after([math.nan, math.nan], patience=2) == 2


@given(st.lists(st.integers(0, 5), max_size=20), st.integers(1, 4), st.integers(0, 2))
def test_early_stopping_by_its_definition(losses, patience, min_delta):
    """It stops at the first epoch that is `patience` epochs after the last improvement."""
    best, last, expected = math.inf, 0, None
    for epoch, loss in enumerate(losses, start=1):
        if loss < best - min_delta:
            best, last = loss, epoch
        if epoch - last >= patience:
            expected = epoch
            break
    assert stopped_after(losses, patience=patience, min_delta=min_delta) == expected


def test_one_early_stopping_for_two_trainings_and_over_an_interruption():
    def validate(p):
        return next(scores)

    def interrupt(r):
        if r.nit == 12:
            saved.append(pickle.dumps((opt, r.state)))

    stop = ds.EarlyStopping(2)
    for _ in range(2):
        scores, saved = iter([5.0, 4.0, 4.0, 4.0, 1.0]), []
        p = start()
        opt = ds.Adam(p)
        res = ds.train(squares, p, (X, Y), opt, 5, 100, [stop, interrupt], validate=validate)
        assert res.epoch == 4 and res.status == 1 and "no improvement by more than 0 in 2 epochs" in res.message
    opt, state = pickle.loads(saved[0])
    scores = iter([4.0, 4.0])
    res = ds.train(squares, opt.params, (X, Y), opt, 5, 100, [ds.EarlyStopping(2)], validate=validate, resume=state)
    assert res.epoch == 4 and res.history["validation"].tolist() == [5.0, 4.0, 4.0, 4.0]


@pytest.mark.parametrize(
    "args, error, message",
    [
        ((0,), ValueError, "patience must be >= 1, got 0"),
        ((1.0,), TypeError, "patience must be an integer"),
        ((1, -0.1), ValueError, "min_delta must be >= 0 and finite, got -0.1"),
        ((1, "a"), TypeError, "min_delta must be a number"),
    ],
)
def test_bad_early_stopping(args, error, message):
    with pytest.raises(error, match=message):
        ds.EarlyStopping(*args)


def test_early_stopping_shows_its_settings():
    assert repr(ds.EarlyStopping(3, 0.5)) == "EarlyStopping(patience=3, min_delta=0.5)"


# ---- taking it up again ----


@settings(deadline=None, max_examples=40)
@given(
    rule=st.sampled_from(list(ds.OPTIMIZERS.values())),
    at=st.integers(1, 15),
    batch_size=st.sampled_from([None, 4, 5, 23]),
    through_pickle=st.booleans(),
    state_dtype=st.sampled_from([None, "bfloat16", "uint8"]),
)
def test_resumed_trainings_have_the_same_bits(rule, at, batch_size, through_pickle, state_dtype):
    saved = []

    def checkpoint(r):
        if r.nit == at:
            saved.append((pickle.dumps((opt, r.state)), bits(r.x), copy.deepcopy(r.x), opt.state_dict(), r.state))

    p = start()
    opt = rule(p, lr=0.03, state_dtype=state_dtype, ema_decay=0.9)
    whole = ds.train(squares, p, (X, Y), opt, batch_size, 4, [checkpoint], validate=lambda p: float(abs(p["w"][0])))
    if not saved:  # it was over before
        return
    ((pickled, there, params, opt_state, state),) = saved
    if through_pickle:
        again, state = pickle.loads(pickled)
    else:  # in one process, where the first training has gone on since
        again = rule(params, lr=0.03, state_dtype=state_dtype, ema_decay=0.9)
        again.load_state_dict(opt_state)
    assert bits(again.params) == there
    res = ds.train(
        squares, again.params, (X, Y), again, batch_size, 4, resume=state, validate=lambda p: float(abs(p["w"][0]))
    )
    assert_same_params(again.params, p)
    assert_same_params(again.ema, opt.ema)
    assert_same_params(res.x, whole.x)
    assert (res.fun, res.nit, res.nfev, res.epoch) == (whole.fun, whole.nit, whole.nfev, whole.epoch)
    for name in ("loss", "validation"):
        assert res.history[name].tolist() == whole.history[name].tolist()


def test_more_epochs_after_the_end():
    p, opt, res = trained(2)
    assert_same_params(ds.train(squares, p, (X, Y), opt, 5, 2, resume=res.state).x, res.x)
    assert opt.step_count == 10
    longer = ds.train(squares, p, (X, Y), opt, 5, 5, resume=res.state)
    whole_p, _, whole = trained(5)
    assert_same_params(p, whole_p)
    assert longer.history["loss"].tolist() == whole.history["loss"].tolist() and longer.nit == 25
    assert len(res.history["loss"]) == 2 and len(res.state.history["loss"]) == 2


def test_a_result_is_no_part_of_the_state():
    p, opt, res = trained(2)
    best = copy.deepcopy(res.x)
    res.x["w"][:] = np.nan
    res = ds.train(squares, p, (X, Y), opt, 5, 2, resume=res.state)
    assert_same_params(res.x, best)


def test_a_smaller_rate_after_a_loss_that_was_not_finite():
    """Diverged trainings go on from the last good parameters, at the end of an epoch, too."""

    def fun(p, x):
        return (1.0 if abs(p[0]) < 3 else math.inf), np.ones(1) * (
            2e308 if opt.lr == 1.0 and opt.step_count == 4 else 1
        )

    p = np.zeros(1)
    with np.errstate(over="ignore"):
        opt = ds.SGD(p, lr=1.0)
        res = ds.train(fun, p, X, opt, None, 20)
        assert res.status == 2 and p.tolist() == [-2.0]
        opt.lr = 0.01
        res = ds.train(fun, p, X, opt, None, 20, resume=res.state)
    assert res.status == 0 and res.epoch == 20


def test_a_state_prints_without_its_lists():
    _, _, res = trained(2)
    assert repr(res.state) == (
        "TrainState(rows=23, batch_size=5, seed=0, step_count=10, epoch=2, batch=0, nit=10, nfev=10, seen=0, "
        f"total=0.0, best_fun={res.fun!r})"
    )


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data": (X[:20], Y[:20])}, "resume must be of a training with rows 20, got 23"),
        ({"batch_size": 6}, "resume must be of a training with batch_size 6, got 5"),
        ({"seed": 1}, "resume must be of a training with seed 1, got 0"),
        ({"fresh": True}, "resume must be of a training with step_count 0, got 5"),
        ({"validate": lambda p: 0.0}, r"with history \['loss', 'validation'\], got \['loss'\]"),
    ],
)
def test_a_state_of_another_training(changes, message):
    p, opt, res = trained(1)
    arguments = {"data": (X, Y), "batch_size": 5, "epochs": 3, **changes}
    if arguments.pop("fresh", False):
        opt = ds.Adam(p)
    before = bits(p)
    with pytest.raises(ValueError, match=message):
        ds.train(squares, p, optimizer=opt, resume=res.state, **arguments)
    assert bits(p) == before
    with pytest.raises(TypeError, match="resume must be the state of an earlier training, got a OptimizeResult"):
        ds.train(squares, p, (X, Y), opt, 5, 3, resume=res)


# ---- the progress bar ----


def test_progress(monkeypatch):
    tqdm = pytest.importorskip("tqdm")
    bars = []

    class Bar(tqdm.tqdm):
        def __init__(self, **kwargs):
            bars.append(self)
            super().__init__(file=io.StringIO(), **kwargs)
            self.started_at = self.n

        def close(self):
            self.last = self.n
            super().close()

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    p, opt, res = trained(2, progress=True)
    ds.train(squares, p, (X, Y), opt, 5, 4, progress=True, resume=res.state)
    assert [(bar.started_at, bar.last, bar.total, bar.unit) for bar in bars] == [
        (0, 10, 10, "step"),
        (10, 20, 20, "step"),
    ]
    assert bars[0].postfix == f"fun={res.history['loss'][-1]:.4g}"


def test_progress_without_tqdm(monkeypatch):
    load = builtins.__import__

    def without_tqdm(name, *args, **kwargs):
        if name.partition(".")[0] == "tqdm":
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_tqdm)
    trained(1)
    p = start()
    opt = ds.Adam(p)
    with pytest.raises(ImportError, match=r"progress=True needs the library tqdm: pip install 'downslope\[demo\]'"):
        ds.train(squares, p, (X, Y), opt, 5, 1, progress=True)
    assert opt.step_count == 0


# ---- errors ----

W = np.zeros(3)
SQUARE = np.zeros((2, 2))


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"epochs": 0}, ValueError, "epochs must be >= 1, got 0"),
        ({"epochs": 1.0}, TypeError, "epochs must be an integer, got 1.0"),
        ({"batch_size": 0}, ValueError, "batch_size must be >= 1, got 0"),
        ({"batch_size": "a"}, TypeError, "batch_size must be an integer, got 'a'"),
        ({"seed": -1}, ValueError, "seed must be >= 0, got -1"),
        ({"progress": 1}, TypeError, "progress must be True or False, got 1"),
        ({"data": (X, Y[:5])}, ValueError, r"arrays\[1\] must have the length of arrays\[0\], 23, got 5"),
        ({"data": X[:0]}, ValueError, "data must have at least one row, got none"),
        ({"data": ()}, TypeError, "at least one array"),
        ({"callbacks": print}, TypeError, "callbacks must be a sequence of callables, got <built-in function print>"),
        ({"callbacks": [print, 3]}, TypeError, r"callbacks must be a sequence of callables, got \[<built-in .*, 3\]"),
        ({"callbacks": None}, TypeError, "callbacks must be a sequence of callables, got None"),
        ({"fun": 3}, TypeError, "^fun must be callable, got 3"),
        ({"validate": 3}, TypeError, "^validate must be callable, got 3"),
        ({"optimizer": "adam"}, TypeError, "optimizer must be an Optimizer over params, got a str"),
        ({"optimizer": ds.Adam}, TypeError, "optimizer must be an Optimizer over params, got a type"),
        ({"optimizer": ds.Adam(W.copy())}, ValueError, "arrays of params, but params is not one of its"),
        ({"params": [W, np.zeros(1)]}, ValueError, r"arrays of params, but params\[1\] is not one of its"),
        ({"params": {"w": W[:2]}}, ValueError, r"arrays of params, but params\['w'\] is not one of its"),
        ({"params": W[::-1]}, ValueError, "arrays of params, but params is not one of its"),
        ({"params": SQUARE.T, "optimizer": ds.SGD(SQUARE)}, ValueError, "params, but params is not one of its"),
        ({"optimizer": ds.SGD([W, np.zeros(1)])}, ValueError, "the 1 arrays of params alone, got 2"),
        ({"params": [1, 2]}, TypeError, r"params\[0\]"),
        ({"fun": lambda p, x, y: 1.0}, TypeError, r"fun must return \(loss, grads\), got a float"),
        ({"fun": lambda p, x, y: (1.0, p, p)}, TypeError, r"fun must return \(loss, grads\), got a tuple"),
        ({"fun": lambda p, x, y: ("a", p)}, TypeError, "the loss that fun returns must be .* got dtype <U1"),
        ({"fun": lambda p, x, y: (1j, p)}, TypeError, "the loss that fun returns must be .* got dtype complex128"),
        ({"fun": lambda p, x, y: (x, p)}, TypeError, r"the loss that fun returns must be a number, .* \(5, 3\)"),
        ({"fun": lambda p, x, y: (1.0, np.zeros(2))}, ValueError, r"shape"),
    ],
)
def test_bad_arguments(changes, error, message):
    arguments = {
        "fun": lambda p, x, y: (1.0, np.ones(3)),
        "params": W,
        "data": (X, Y),
        "optimizer": ds.SGD(W),
        "batch_size": 5,
        "epochs": 1,
    }
    with pytest.raises(error, match=message):
        ds.train(**{**arguments, **changes})
    assert W.tolist() == [0, 0, 0]


def test_a_validation_that_is_no_number():
    with pytest.raises(TypeError, match="what validate returns must be .* got dtype object"):
        trained(1, validate=lambda p: None)
