"""K-FAC, EKFAC, TONGA and the diagonal Fisher against dense matrices, formed and inverted; checkpoints; failures."""

import copy
import inspect
import itertools
import pickle
import sys
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interrupts import interrupted
from rule_cases import assert_same_bits

import downslope as ds
from downslope.preconditioners import QuadraticModel, adapt_damping
from downslope.reference import preconditioners as reference

LinAlgError = np.linalg.LinAlgError
SHAPES = {"wide": (3, 5), "tall": (6, 2), "one": (1, 1)}


def assert_close(x, expected, relative=1e-10):
    assert x.shape == expected.shape
    assert np.abs(x - expected).max() <= relative * np.abs(expected).max()


def batch(rng, shape, rows=7, dtype=np.float64):
    return rng.standard_normal((rows, shape[0])).astype(dtype), rng.standard_normal((rows, shape[1])).astype(dtype)


def gradients(rng, shapes=SHAPES, bias=True, dtype=np.float64):
    made = {}
    for name, (n_in, n_out) in shapes.items():
        gW, gb = rng.standard_normal((n_in, n_out)).astype(dtype), rng.standard_normal(n_out).astype(dtype)
        made[name] = (gW, gb) if bias else gW
    return made


def stacked(grad):
    return np.vstack(grad) if isinstance(grad, tuple) else grad


KRONECKER = {
    "factored": (ds.KFAC, reference.KFAC, {"mode": "factored"}),
    "inverted": (ds.KFAC, reference.KFAC, {"mode": "factored", "period": 3}),  # a period pays for inverses
    "exact": (ds.KFAC, reference.KFAC, {"mode": "exact"}),
    "ekfac": (ds.EKFAC, reference.EKFAC, {"period": 2}),
}
kronecker = pytest.mark.parametrize("kind", KRONECKER)


def made_kronecker(kind, shapes=SHAPES, **options):
    cls, dense, own = KRONECKER[kind]
    options = {"damping": 0.1, "decay": 0.8, **own, **options}
    known = inspect.signature(dense).parameters
    return cls(shapes, **options), {
        name: dense(**{key: value for key, value in options.items() if key in known}) for name in shapes
    }


@kronecker
@pytest.mark.parametrize("bias", [True, False])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), updates=st.integers(1, 6), damping=st.floats(0.01, 10), rows=st.integers(1, 12))
def test_kronecker_factored_is_the_dense_computation(kind, bias, seed, updates, damping, rows):
    rng = np.random.default_rng(seed)
    rows += 7 * (kind == "ekfac")  # eigenvectors of eigenvalue zero are not unique
    ours, dense = made_kronecker(kind, bias=bias, damping=damping)
    for _ in range(updates):
        batches = {name: batch(rng, shape, rows) for name, shape in SHAPES.items()}
        ours.update(batches)
        for name, of_layer in batches.items():
            dense[name].update(*of_layer)
    grads = gradients(rng, bias=bias)
    directions = ours.precondition(grads)
    assert list(directions) == list(grads)
    for name, direction in directions.items():
        assert type(direction) is type(grads[name])
        assert_close(stacked(direction), dense[name].precondition(stacked(grads[name])), 1e-9)


@kronecker
@pytest.mark.parametrize("shape, rows", [((300, 40), 17), ((20, 140), 300), ((520, 3), 9)])
def test_layers_of_several_tiles(kind, shape, rows, rng, forced_threads):
    """By the factors, which are small enough to be formed, and for any number of threads with the same bits."""
    x, g = batch(rng, shape, rows)
    results = []
    for threads in (1, 2, 3):
        with forced_threads(threads):
            ours, _ = made_kronecker(kind, {"fc": shape, "small": (2, 2)})
            ours.update({"fc": (x, g), "small": (x[:, :2], g[:, :2])})
            grads = {"fc": (x.T @ g, g.sum(axis=0)), "small": (x[:2, :2], x[0, :2])}
            results.append(np.vstack(ours.precondition(grads)["fc"]))
    for other in results[1:]:
        assert_same_bits(other, results[0])
    a = np.column_stack([x, np.ones(rows)])
    A, G, D, grad = a.T @ a / rows, g.T @ g / rows, results[0], np.vstack(grads["fc"])
    if kind in ("factored", "inverted"):
        pi = np.sqrt(np.trace(A) / len(A) / (np.trace(G) / len(G)))
        back = (A + pi * np.sqrt(0.1) * np.eye(len(A))) @ D @ (G + np.sqrt(0.1) / pi * np.eye(len(G)))
    elif kind == "exact":
        back = A @ D @ G + 0.1 * D
    else:
        Qa, Qg = np.linalg.eigh(A)[1], np.linalg.eigh(G)[1]
        if max(len(A), len(G)) > rows:
            return  # eigenvectors of eigenvalue zero are not unique
        S = ((a @ Qa) ** 2).T @ ((g @ Qg) ** 2) / rows
        back = Qa @ ((Qa.T @ D @ Qg) * (S + 0.1)) @ Qg.T
    assert_close(back, grad, 1e-9)


@kronecker
def test_single_precision(kind, rng):
    """float32 in, float32 out: near what float64 makes of the same numbers."""
    single, _ = made_kronecker(kind)
    double, _ = made_kronecker(kind)
    for _ in range(3):
        batches = {name: batch(rng, shape, 300, np.float32) for name, shape in SHAPES.items()}
        single.update(batches)
        double.update({name: (x.astype(float), g.astype(float)) for name, (x, g) in batches.items()})
    grads = gradients(rng, dtype=np.float32)
    directions = single.precondition(grads)
    expected = double.precondition({name: (gW.astype(float), gb.astype(float)) for name, (gW, gb) in grads.items()})
    for name, (gW, gb) in directions.items():
        assert gW.dtype == gb.dtype == np.float32
        assert_close(np.vstack([gW, gb]), np.vstack(expected[name]), 1e-4)
    mixed = single.precondition({name: (gW.astype(float), gb) for name, (gW, gb) in grads.items()})
    assert {(gW.dtype.char, gb.dtype.char) for gW, gb in mixed.values()} == {("d", "f")}
    listed = single.precondition({name: (gW.tolist(), gb[::-1][::-1]) for name, (gW, gb) in grads.items()})
    assert_same_bits(listed["wide"][0], mixed["wide"][0])


@pytest.mark.parametrize("bias", [True, False])
def test_the_fisher_is_exact_where_inputs_and_output_gradients_are_independent(bias, rng):
    """Every input meets every output gradient, in one batch or in several that are averaged."""
    x, g = rng.standard_normal((4, 3)), rng.standard_normal((5, 2))
    X, G = np.repeat(x, 5, axis=0), np.tile(g, (4, 1))
    a = reference.with_one(X, bias)
    per_example = (a[:, :, None] * G[:, None, :]).reshape(20, -1)
    fisher = per_example.T @ per_example / 20
    grad = rng.standard_normal((3 + bias, 2))
    expected = np.linalg.solve(fisher + 0.01 * np.eye(len(fisher)), grad.ravel()).reshape(grad.shape)
    exact = ds.KFAC({"fc": (3, 2)}, bias=bias, mode="exact", damping=0.01)
    eigen = ds.EKFAC({"fc": (3, 2)}, bias=bias, damping=0.01)
    whole = ds.KFAC({"fc": (3, 2)}, bias=bias, mode="factored", damping=0.0)
    for ours, dense in ((exact, expected), (eigen, expected), (whole, None)):
        for _ in range(2):
            ours.update("fc", X, G)
        direction = ours.precondition({"fc": (grad[:-1], grad[-1]) if bias else grad})["fc"]
        if dense is None:  # undamped
            dense = np.linalg.solve(fisher, grad.ravel()).reshape(grad.shape)
        assert_close(stacked(direction), dense)


def test_a_period_keeps_the_factorization(rng):
    """KFAC: anew at the first precondition() after so many updates, and whenever the damping changes."""
    for kind in ("factored", "exact"):
        ours, dense = made_kronecker(kind, {"fc": (3, 2)}, period=3, bias=False)
        grad = rng.standard_normal((3, 2))
        for k in range(1, 8):
            x, g = batch(rng, (3, 2))
            ours.update("fc", x, g)
            dense["fc"].update(x, g)
            if k in (1, 4, 7):
                expected = dense["fc"].precondition(grad)
            assert_close(ours.precondition({"fc": grad})["fc"], expected)
        ours.update("fc", *batch(rng, (3, 2)))
        ours.damping = 0.2
        assert np.abs(ours.precondition({"fc": grad})["fc"] - expected).max() > 1e-3 * np.abs(expected).max()


@kronecker
def test_the_clip(kind, rng):
    """D^T C D is at most `max_kl`, where C D is the gradient before the clip."""
    free, _ = made_kronecker(kind)
    clipped, _ = made_kronecker(kind, max_kl=0.5)
    batches = {name: batch(rng, shape) for name, shape in SHAPES.items()}
    free.update(batches)
    clipped.update(batches)
    grads = gradients(rng)
    whole, some = free.precondition(grads), clipped.precondition(grads)

    def product(directions):
        return sum(np.sum(stacked(directions[name]) * stacked(grads[name])) for name in grads)

    assert product(whole) > 0.5
    factor = np.sqrt(0.5 / product(whole))
    for name in grads:
        assert_close(stacked(some[name]), factor * stacked(whole[name]), 1e-13)
    clipped.max_kl = 2 * product(whole)
    assert_same_bits(clipped.precondition(grads)["tall"][0], whole["tall"][0])


@pytest.mark.parametrize("block", ["neuron", "layer"])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2), (7,), (1, 2)])
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    updates=st.integers(1, 12),
    rank=st.integers(1, 4),
    period=st.integers(1, 5),
    damping=st.floats(0.01, 10),
)
def test_tonga_is_the_dense_computation(block, shape, seed, updates, rank, period, damping):
    rng = np.random.default_rng(seed)
    options = {"rank": rank, "period": period, "decay": 0.8, "damping": damping}
    ours = ds.TONGA({"W": shape}, block=block, **options)
    blocks = shape[-1] if block == "neuron" else 1
    dense = [reference.TONGA(**options) for _ in range(blocks)]
    for _ in range(updates):
        grad = rng.standard_normal(shape)
        ours.update({"W": grad})
        for of_block, column in zip(dense, grad.reshape(-1, blocks).T, strict=True):
            of_block.update(column)
    grad = rng.standard_normal(shape)
    expected = [of_block.precondition(column) for of_block, column in zip(dense, grad.reshape(-1, blocks).T)]
    assert_close(ours.precondition({"W": grad})["W"], np.transpose(expected).reshape(shape), 1e-8)


def test_tonga_in_single_precision_and_on_threads(rng, forced_threads):
    grads = rng.standard_normal((30, 50, 40))
    results = []
    for threads in (1, 2, 3):
        with forced_threads(threads):
            ours = ds.TONGA({"W": (50, 40)}, damping=0.1)
            for grad in grads:
                ours.update({"W": grad})
            results.append(ours.precondition({"W": grads[0]})["W"])
    for other in results[1:]:
        assert_same_bits(other, results[0])
    single = ds.TONGA({"W": (50, 40)}, damping=0.1)
    for grad in grads:
        single.update({"W": grad.astype(np.float32)})
    direction = single.precondition({"W": grads[0].astype(np.float32)})["W"]
    assert direction.dtype == np.float32
    assert_close(direction, results[0], 1e-5)


def test_tonga_with_next_to_no_damping(rng):
    """Rounding makes the small matrix of Woodbury's identity indefinite: its eigenvalues are taken then."""
    ours = ds.TONGA({"W": (3,)}, block="layer", rank=2, period=100, damping=1e-12)
    for _ in range(50):
        ours.update({"W": [1e3, 1e3, 0.0]})
    direction = ours.precondition({"W": np.array([0.0, 0.0, 1e-12])})["W"]
    np.testing.assert_allclose(direction, [0, 0, 1], atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), updates=st.integers(1, 5), shape=st.sampled_from([(3,), (2, 4), (2, 1, 3)]))
def test_diagonal_fisher_is_the_dense_computation(seed, updates, shape):
    rng = np.random.default_rng(seed)
    ours, dense = ds.DiagonalFisher({"W": shape}, decay=0.7), reference.DiagonalFisher(decay=0.7)
    for rows in range(1, updates + 1):
        grads = rng.standard_normal((rows, *shape))
        ours.update({"W": grads})
        dense.update(grads)
    grad = rng.standard_normal(shape)
    assert_close(ours.precondition({"W": grad})["W"], dense.precondition(grad), 1e-12)
    assert ours.precondition({"W": grad.astype(np.float32)})["W"].dtype == np.float32


def some(kind, **options):
    """A preconditioner of two arrays, with functions that make what goes into its two methods."""
    shapes = {"a": (3, 2), "b": (2, 4)}
    if kind in KRONECKER:
        ours, _ = made_kronecker(kind, shapes, **options)
        return ours, lambda rng: {n: batch(rng, s) for n, s in shapes.items()}, lambda rng: gradients(rng, shapes)
    plain = lambda rng: gradients(rng, shapes, bias=False)  # noqa: E731
    if kind == "tonga":
        return ds.TONGA(shapes, rank=2, **{"period": 3, "damping": 0.1, **options}), plain, plain
    made = ds.DiagonalFisher(shapes, **{"damping": 0.1, **options})
    return made, lambda rng: {n: rng.standard_normal((5, *s)) for n, s in shapes.items()}, plain


ALL = [*KRONECKER, "tonga", "diagonal"]
every = pytest.mark.parametrize("kind", ALL)


def same_directions(one, other):
    assert list(one) == list(other)
    for name in one:
        assert_same_bits(stacked(one[name]), stacked(other[name]))


@every
@pytest.mark.parametrize("period", [1, 3])
@pytest.mark.parametrize("way", ["load_state_dict", "save", "pickle", "deepcopy"])
def test_checkpoints_go_on_with_the_same_bits(kind, period, way, rng, tmp_path):
    options = {} if kind == "diagonal" else {"period": period}
    ours, feed, grads = some(kind, **options)
    for _ in range(5):
        ours.update(feed(rng))
        ours.precondition(grads(rng))
    ours.update(feed(rng))
    ours.damping = 0.2
    if way == "load_state_dict":
        other, _, _ = some(kind, **options)
        other.update(feed(rng))
        other.load_state_dict(ours.state_dict())
    elif way == "save":
        ours.save(tmp_path / "p.safetensors")
        other = ds.load_preconditioner(tmp_path / "p.safetensors")
    else:
        other = pickle.loads(pickle.dumps(ours)) if way == "pickle" else copy.deepcopy(ours)
    assert type(other) is type(ours) and repr(other) == repr(ours) and other.damping == 0.2
    for _ in range(4):
        g = grads(rng)
        same_directions(other.precondition(g), ours.precondition(g))
        fed = feed(rng)
        ours.update(fed)
        other.update(fed)
        ours.damping = other.damping = 0.2


class Tagged:
    """Of a subclass with a signature and attributes of its own."""

    def __init__(self, tag):
        super().__init__({"a": (3, 2)}, damping=0.5)
        self.tag = tag


class TaggedKFAC(Tagged, ds.KFAC):
    pass


class TaggedEKFAC(Tagged, ds.EKFAC):
    pass


class TaggedTONGA(Tagged, ds.TONGA):
    pass


class TaggedFisher(Tagged, ds.DiagonalFisher):
    pass


class TONGA(ds.TONGA):
    """One that has the name of ours."""


@pytest.mark.parametrize("cls", [TaggedKFAC, TaggedEKFAC, TaggedTONGA, TaggedFisher])
def test_a_subclass_may_be_copied(cls, rng, tmp_path):
    """And its state loaded, but not saved: nothing but pickle would find the class again."""
    ours = cls("x")
    one = rng.standard_normal((3, 2))
    fed = {TaggedTONGA: one, TaggedFisher: one[None]}.get(cls, (one[:, :1] * np.ones(3), one))
    ours.update({"a": fed})
    loaded = cls("y")
    loaded.load_state_dict(ours.state_dict())
    copies = [copy.deepcopy(ours), copy.copy(ours), pickle.loads(pickle.dumps(ours)), loaded]
    grads = {"a": (one, one[0]) if issubclass(cls, (ds.KFAC, ds.EKFAC)) else one}
    before = ours.precondition(grads)
    for other in copies:
        assert type(other) is cls and other.tag == ("y" if other is loaded else "x") and other.damping == 0.5
        same_directions(other.precondition(grads), before)
        other.update({"a": fed})
        other.failures["a"] = 1
        assert ours.state_dict()["state"]["a"]["updates"] == 1 and ours.failures == {"a": 0}
    for unknown in (ours, TONGA({"a": (3, 2)})):
        message = f"classes of downslope.preconditioners.PRECONDITIONERS can be saved, got {type(unknown).__name__}"
        with pytest.raises(TypeError, match=message):
            unknown.save(tmp_path / "p.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_copy_whose_memory_must_not_be_written(rng):
    """As it is where pickle leaves the buffers to its caller."""
    ours, feed, grads = some("factored")
    ours.update(feed(rng))
    buffers = []
    data = pickle.dumps(ours, protocol=5, buffer_callback=buffers.append)
    other = pickle.loads(data, buffers=[bytes(buffer.raw()) for buffer in buffers])
    fed, g = feed(rng), grads(rng)
    ours.update(fed)
    other.update(fed)
    same_directions(other.precondition(g), ours.precondition(g))


@kronecker
@pytest.mark.parametrize("period", [1, 3])
@pytest.mark.parametrize("updates", [0, 1])
def test_a_checkpoint_between_two_factorizations(kind, period, updates, rng):
    ours, feed, grads = some(kind, period=period)
    ours.update(feed(rng))
    ours.precondition(grads(rng))
    for _ in range(updates):
        ours.update(feed(rng))
    other = copy.deepcopy(ours)
    g = grads(rng)
    same_directions(other.precondition(g), ours.precondition(g))


@pytest.mark.parametrize("period", [1, 3])
def test_a_state_whose_factors_are_no_longer_positive(period, rng):
    ours, feed, grads = some("factored", period=period)
    ours.update(feed(rng))
    ours.precondition(grads(rng))
    state = ours.state_dict()
    for key in state["state"]["b"]:
        if key.endswith("inputs"):
            np.fill_diagonal(state["state"]["b"][key], -1)
    ours.load_state_dict(state)
    with pytest.raises(LinAlgError, match="layer 'b': the factor of the inputs is not positive definite"):
        ours.precondition(grads(rng))


@every
def test_state_that_does_not_fit_changes_nothing(kind, rng):
    ours, feed, grads = some(kind)
    ours.update(feed(rng))
    saved, g = ours.state_dict(), grads(rng)
    before = ours.precondition(g)
    array = next(key for key, value in saved["state"]["a"].items() if isinstance(value, np.ndarray))

    def changed(change):
        state = copy.deepcopy(saved)
        change(state)
        return state

    for change, message in [
        (lambda s: s.update({"class": "Other"}), "class"),
        (lambda s: s.update(layers={"a": (3, 2)}), "layers"),
        (lambda s: s["settings"].update(decay=0.5), "decay"),
        (lambda s: s["settings"].update(other=1), "other"),
        (lambda s: s.pop("state"), "lacks 'state'"),
        (lambda s: s["state"]["a"].update({array: np.zeros(3)}), "must have shape"),
        (lambda s: s["state"]["b"][array].fill(np.nan), "must be finite"),
        (lambda s: s["state"]["b"].pop("updates"), "must have"),
        (lambda s: s["state"]["b"].update(updates=-1), "updates.* must be >= 0"),
        (lambda s: s["failures"].update(a=-1), "failures.* must be >= 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            ours.load_state_dict(changed(change))
        same_directions(ours.precondition(g), before)
    with pytest.raises(ValueError, match="not one of"):
        ours.load_state_dict(3)


def test_a_state_with_more_columns_than_there_is_room_for(rng):
    ours, feed, _ = some("tonga")
    ours.update(feed(rng))
    state = ours.state_dict()
    state["state"]["b"]["used"] = 4  # rank 2, and one gradient
    with pytest.raises(ValueError, match="'used'.* must be <= 3, got 4"):
        ours.load_state_dict(state)


def test_files_that_hold_something_else(tmp_path):
    path = tmp_path / "adam.safetensors"
    ds.Adam(np.zeros(2)).save(path)
    with pytest.raises(ValueError, match="adam.safetensors is not of a preconditioner"):
        ds.load_preconditioner(path)
    with pytest.raises(FileNotFoundError):
        ds.load_preconditioner(tmp_path / "none")


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_a_batch_that_is_not_finite_is_left_out(kind, bad, rng):
    """Of the layer that has it. So are moments that overflow."""
    ours, feed, grads = some(kind, **({"period": 1} if kind in KRONECKER else {}))
    good = feed(rng)
    ours.update(good)
    g = grads(rng)
    before, state = ours.precondition(g), ours.state_dict()["state"]["a"]
    spoilt = feed(rng)
    if kind in KRONECKER:
        spoilt["a"][1][0, 0] = bad
    else:
        spoilt["a"].flat[0] = bad
    with pytest.warns(RuntimeWarning, match="layer 'a'.*must be finite"):
        ours.update(spoilt)
    assert ours.failures == {"a": 1, "b": 0}
    after = ours.state_dict()["state"]["a"]
    assert after.keys() == state.keys() and all(np.array_equal(after[key], state[key]) for key in state)
    directions = ours.precondition(g)
    assert_same_bits(stacked(directions["a"]), stacked(before["a"]))
    assert np.isfinite(stacked(directions["b"])).all() and np.any(stacked(directions["b"]) != stacked(before["b"]))


def test_single_precision_overflows_earlier(rng):
    kfac = ds.KFAC({"fc": (1, 1)})
    with pytest.warns(RuntimeWarning, match="layer 'fc'"):
        kfac.update("fc", np.full((4, 1), 1e19, np.float32), np.ones((4, 1)))
    kfac.update("fc", np.full((4, 1), 1e19), np.ones((4, 1)))
    assert kfac.failures == {"fc": 1}


@pytest.mark.parametrize("kind", ["factored", "exact", "ekfac", "diagonal"])
def test_a_factorization_that_fails_leaves_the_last_good_one(kind, rng):
    """Without damping, inputs that are all zero make a singular factor, and name its layer."""
    ours, feed, grads = some(kind, damping=0.0, decay=0.0, **({"bias": False} if kind in KRONECKER else {}))
    zeros = feed(rng)
    parts = zeros["b"] if kind in KRONECKER else (zeros["b"],)
    parts[0][...] = 0
    first, _, _ = some(kind, damping=0.0, **({"bias": False} if kind in KRONECKER else {}))
    g = {name: grad[0] if kind in KRONECKER else grad for name, grad in grads(rng).items()}
    first.update(zeros)
    with pytest.raises(LinAlgError, match="layer 'b'"):
        first.precondition(g)
    ours.update(feed(rng))
    good = ours.precondition(g)
    for _ in range(20):  # moves EKFAC on to other eigenvectors, too
        ours.update(zeros)
        with pytest.warns(RuntimeWarning, match="layer 'b'.*the last good one is used"):
            directions = ours.precondition(g)
    assert ours.failures == {"a": 0, "b": 20}
    assert_same_bits(directions["b"], good["b"])
    ours.update(feed(rng))
    assert np.any(ours.precondition(g)["b"] != good["b"])


def loaded(ours):
    other = type(ours)(ours.layers, **ours.state_dict()["settings"])
    other.load_state_dict(ours.state_dict())
    return other


@pytest.mark.parametrize("kind", ["factored", "inverted", "exact", "ekfac", "diagonal"])
@pytest.mark.parametrize("copied", [copy.deepcopy, loaded])
def test_copies_and_checkpoints_have_the_last_good_factorization(kind, copied, rng):
    """Which is in use where the next one fails, by less damping or by new factors."""
    options = {"bias": False, "decay": 0.5} if kind in KRONECKER else {"decay": 0.5}
    ours, feed, grads = some(kind, **options)
    zeros = feed(rng)
    for part in zeros["b"] if kind in KRONECKER else (zeros["b"],):
        part[...] = 0
    g = {name: grad[0] if kind in KRONECKER else grad for name, grad in grads(rng).items()}
    ours.update(zeros)
    ours.precondition(g)
    for _ in range(4):  # EKFAC has other eigenvectors then, and the factors of a period are new ones
        ours.update({**zeros, "a": feed(rng)["a"]})
        ours.damping = 0.0
        before = copied(ours)
        with pytest.warns(RuntimeWarning, match="layer 'b'.*the last good one is used"):
            expected = ours.precondition(g)
        for other in (before, copied(ours)):
            with pytest.warns(RuntimeWarning, match="layer 'b'.*the last good one is used"):
                same_directions(other.precondition(g), expected)


@every
def test_an_interrupt_of_an_update_leaves_the_old_or_the_new(kind, rng):
    """Of each layer. EKFAC's second moments may lack the batch, and its eigenvectors then be the older ones."""
    ours, feed, _ = some(kind)
    ours.update(feed(rng))
    fed = feed(rng)
    keys = ("updates", "inputs", "output_grads", "mean", "columns", "weights", "used")

    def parts(of):
        return {
            name: [(key, np.array(slots[key]).tobytes()) for key in keys if key in slots]
            for name, slots in of.state_dict()["state"].items()
        }

    new = copy.deepcopy(ours)
    new.update(fed)
    for at in itertools.count():
        other = copy.deepcopy(ours)
        came = interrupted(lambda: other.update(fed), at)
        for name, of_layer in parts(other).items():
            assert of_layer in (parts(ours)[name], parts(new)[name])
        if not came:
            break
    assert parts(other) == parts(new) and at > 1


@every
def test_what_is_not_finite_in_gradients_propagates(kind, rng, silent):
    ours, feed, grads = some(kind, **({"max_kl": 1.0} if kind in KRONECKER else {}))
    ours.update(feed(rng))
    g = grads(rng)
    (g["a"][0] if kind in KRONECKER else g["a"])[...] = np.nan
    assert np.isnan(stacked(ours.precondition(g)["a"])).all()


@every
def test_bad_arguments_leave_everything_as_it_was(kind, rng):
    ours, feed, grads = some(kind)
    good = grads(rng)
    with pytest.raises(RuntimeError, match="layer 'a' has had no update"):
        ours.precondition(good)
    ours.update(feed(rng))
    before = ours.precondition(good)
    fed = feed(rng)
    for update, error, message in [
        ({**fed, "c": fed["a"]}, ValueError, "'c' is unexpected"),
        ({**fed, "b": fed["a"]}, ValueError, r"must have shape|must be a pair"),
        ({**fed, "b": None}, (TypeError, ValueError), "'b'"),
        (3, (TypeError, ValueError), "mapping|no layer|unexpected"),
    ]:
        with pytest.raises(error, match=message):
            ours.update(update)
    for wrong, error, message in [
        ({"a": good["a"]}, ValueError, "'b' is missing"),
        ({**good, "c": good["a"]}, ValueError, "'c' is unexpected"),
        ({**good, "b": good["a"]}, ValueError, r"grads\['b'\].* must have shape"),
        ({**good, "b": tuple(1j * np.array(part) for part in good["b"])}, (TypeError, ValueError), "'b'"),
        ([1], ValueError, "grads must be a mapping"),
    ]:
        with pytest.raises(error, match=message):
            ours.precondition(wrong)
    same_directions(ours.precondition(good), before)
    with pytest.raises(ValueError, match="damping must be >"):
        ours.damping = -1.0
    assert ours.damping == 0.1


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: ds.KFAC({}), ValueError, "layers must be a mapping"),
        (lambda: ds.KFAC([(1, 2)]), ValueError, "layers must be a mapping"),
        (lambda: ds.KFAC({"fc": (3,)}), ValueError, r"layers\['fc'\] must be a tuple of 2 integers"),
        (lambda: ds.KFAC({"fc": (3, 0)}), ValueError, r"layers\['fc'\]\[1\] must be >= 1, got 0"),
        (lambda: ds.KFAC({"fc": (3, 1)}, bias=1), TypeError, "bias must be True or False"),
        (lambda: ds.KFAC({"fc": (3, 1)}, mode="full"), ValueError, "mode must be 'factored' or 'exact', got 'full'"),
        (lambda: ds.KFAC({"fc": (3, 1)}, decay=1.0), ValueError, "decay must be >= 0 and < 1, got 1.0"),
        (lambda: ds.KFAC({"fc": (3, 1)}, period=0), ValueError, "period must be >= 1, got 0"),
        (lambda: ds.KFAC({"fc": (3, 1)}, max_kl=-1), ValueError, "max_kl must be >= 0 and finite, got -1"),
        (lambda: ds.EKFAC({"fc": (3, 1)}, damping=np.inf), ValueError, "damping must be >= 0 and finite, got inf"),
        (lambda: ds.TONGA({"W": ()}), ValueError, r"layers\['W'\] must be a tuple of one or more integers"),
        (lambda: ds.TONGA({"W": (3,)}, block="row"), ValueError, "block must be 'neuron' or 'layer', got 'row'"),
        (lambda: ds.TONGA({"W": (3,)}, rank=0), ValueError, "rank must be >= 1, got 0"),
        (lambda: ds.TONGA({"W": (3,)}, damping=0.0), ValueError, "damping must be > 0 and finite, got 0"),
        (lambda: ds.DiagonalFisher({"W": (3,)}, decay=-1), ValueError, "decay must be >= 0 and < 1, got -1"),
        (
            lambda: ds.KFAC({"fc": (2, 1)}).update("fc", [[1.0]], [[1.0]]),
            ValueError,
            r"shape \(batch, 2\), got \(1, 1\)",
        ),
        (lambda: ds.KFAC({"fc": (1, 1)}).update("fc", [[1.0]], [[1.0]] * 2), ValueError, "as many rows as inputs, 1"),
        (lambda: ds.KFAC({"fc": (1, 1)}).update("fc", np.zeros((0, 1)), np.zeros((0, 1))), ValueError, "batch"),
        (lambda: ds.KFAC({"fc": (1, 1)}).update("fc", [["x"]], [[1.0]]), TypeError, "inputs of 'fc' must be an array"),
        (lambda: ds.KFAC({"fc": (1, 1)}).update("fc", [[1], [1, 2]], [[1.0]]), ValueError, "inputs of 'fc' must be an"),
    ],
)
def test_bad_settings(call, error, message):
    with pytest.raises(error, match=message):
        call()


# The machinery: on a linear network y = x @ W + b with the loss mean(sum((y - t)^2)), the quadratic model is exact.


def linear_problem(rng, rows=9):
    x, t = rng.standard_normal((rows, 3)), rng.standard_normal((rows, 2))

    def loss_and_grads(W, b):
        r = x @ W + b - t
        return np.mean(np.sum(r * r, axis=1)), {"fc": (2 * x.T @ r / rows, 2 * r.mean(axis=0))}

    return loss_and_grads, lambda v: x @ v["fc"][0] + v["fc"][1], lambda dy: 2 * dy


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_step_size_and_momentum_minimize_the_model(damping, rng):
    """Against a dense Hessian, over random directions; the predicted decrease is the real one without damping."""
    loss_and_grads, jvp, metric = linear_problem(rng)
    W, b = rng.standard_normal((3, 2)), rng.standard_normal(2)
    model = QuadraticModel()
    columns = [jvp({"fc": (e[:6].reshape(3, 2), e[6:])}).ravel() for e in np.eye(8)]
    H = 2 * np.array(columns) @ np.array(columns).T / 9 + damping * np.eye(8)
    before = None
    for _ in range(3):
        loss, grads = loss_and_grads(W, b)
        direction = {"fc": (rng.standard_normal((3, 2)), rng.standard_normal(2))}
        u = model.step(grads, direction, damping, jvp, metric)
        flat = [np.concatenate([v["fc"][0].ravel(), v["fc"][1]]) for v in (direction, before) if v is not None]
        g = np.concatenate([grads["fc"][0].ravel(), grads["fc"][1]])
        D = np.array(flat)
        best = np.linalg.solve(D @ H @ D.T, D @ g)
        assert_close(np.array([model.step_size, model.momentum][: len(flat)]), best, 1e-8)
        assert_close(np.concatenate([u["fc"][0].ravel(), u["fc"][1]]), best @ D, 1e-8)
        W, b, before = W - u["fc"][0], b - u["fc"][1], u
        new_loss, _ = loss_and_grads(W, b)
        if damping == 0:
            assert loss - new_loss == pytest.approx(model.decrease, rel=1e-9)
        else:
            assert loss - new_loss > model.decrease > 0


def test_conjugate_gradients(rng):
    """With the gradient as the direction, the two-dimensional search is the method of conjugate gradients, and done
    after as many steps as there are parameters."""
    loss_and_grads, jvp, metric = linear_problem(rng)
    W, b, model = np.zeros((3, 2)), np.zeros(2), QuadraticModel()
    for _ in range(8):
        _, grads = loss_and_grads(W, b)
        u = model.step(grads, grads, 0.0, jvp, metric)
        W, b = W - u["fc"][0], b - u["fc"][1]
    _, grads = loss_and_grads(W, b)
    assert max(np.abs(part).max() for part in grads["fc"]) < 1e-9


def test_directions_that_are_parallel_or_vanish(rng):
    loss_and_grads, jvp, metric = linear_problem(rng)
    _, grads = loss_and_grads(np.zeros((3, 2)), np.zeros(2))
    model = QuadraticModel()
    first = model.step(grads, grads, 0.0, jvp, metric)
    again = model.step(grads, first, 0.0, jvp, metric)  # parallel to the one before
    assert_close(again["fc"][0], first["fc"][0])
    nothing = {"fc": (np.zeros((3, 2)), np.zeros(2))}
    assert not QuadraticModel().step(grads, nothing, 0.0, jvp, metric)["fc"][0].any()


def test_the_model_refuses(rng):
    loss_and_grads, jvp, metric = linear_problem(rng)
    _, grads = loss_and_grads(np.zeros((3, 2)), np.zeros(2))
    model = QuadraticModel()
    u = model.step(grads, grads, 0.1, jvp, metric)
    for arguments, error, message in [
        ((grads, grads, -1.0, jvp, metric), ValueError, "damping must be >= 0"),
        ((grads, {"other": 1}, 0.1, jvp, metric), ValueError, "direction must be a mapping with the names"),
        ((grads, {"fc": (grads["fc"][0],)}, 0.1, jvp, metric), ValueError, "must have the shapes"),
        ((grads, {"fc": grads["fc"][::-1]}, 0.1, jvp, metric), ValueError, "must have the shapes"),
        (({}, {}, 0.1, jvp, metric), ValueError, "grads must be a mapping .* with at least one, got {}"),
        ((3, grads, 0.1, jvp, metric), ValueError, "grads must be a mapping .* got 3"),
        ((grads, {"fc": [1j * part for part in u["fc"]]}, 0.1, jvp, metric), TypeError, r"direction\['fc'\] must be"),
        ((grads, grads, 0.1, lambda v: 1j * jvp(v), metric), TypeError, r"jvp\(v\) must be .* real numbers"),
        ((grads, grads, 0.1, jvp, lambda dy: 1j * dy), TypeError, r"metric\(dy\) must be .* real numbers"),
        ((grads, grads, 0.1, lambda v: 1.0, metric), ValueError, r"jvp\(v\) must have shape"),
        ((grads, grads, 0.1, jvp, lambda dy: dy.T), ValueError, r"metric\(dy\) must have shape"),
        ((grads, grads, 0.1, jvp, lambda dy: dy * np.nan), FloatingPointError, "must be finite"),
    ]:
        with pytest.raises(error, match=message):
            model.step(*arguments)
    twin = QuadraticModel()
    twin.step(grads, grads, 0.1, jvp, metric)
    assert_same_bits(model.step(grads, u, 0.1, jvp, metric)["fc"][0], twin.step(grads, u, 0.1, jvp, metric)["fc"][0])


@pytest.mark.parametrize(
    "decrease, factor", [(0.8, 0.95**5), (0.5, 1), (0.2, 0.95**-5), (-1, 0.95**-5), (np.nan, 0.95**-5)]
)
def test_adaptation_of_the_damping(decrease, factor):
    assert adapt_damping(2.0, decrease, 1.0) == pytest.approx(2 * factor, rel=1e-15)


@pytest.mark.parametrize("steps", [10**4, 10**6, 10**400], ids=["1e4", "1e6", "1e400"])
@pytest.mark.parametrize("damping", [1e-320, 1e-3, 1e300])
def test_a_damping_stays_one(damping, steps):
    """However often it is adapted, it can be passed again."""
    least, most = sys.float_info.min, sys.float_info.max
    assert least <= adapt_damping(damping, 1.0, 1.0, steps) <= max(damping, least)
    assert damping < adapt_damping(damping, -1.0, 1.0, steps) <= most
    for wrong in (0, -1.0, np.inf):
        with pytest.raises(ValueError, match=r"damping must be >=? 0 and finite, got"):
            adapt_damping(wrong, 1.0, 1.0, steps)


def test_any_mapping_will_do(rng):
    """And arrays of integers, in which a step would have no room."""
    loss_and_grads, jvp, metric = linear_problem(rng)
    _, grads = loss_and_grads(np.zeros((3, 2)), np.zeros(2))
    direction = {"fc": (np.ones((3, 2)), np.arange(2.0))}
    expected = QuadraticModel().step(grads, direction, 0.1, jvp, metric)
    integers = {"fc": (np.ones((3, 2), int), [0, 1])}
    u = QuadraticModel().step(MappingProxyType(grads), MappingProxyType(integers), 0.1, jvp, metric)
    assert_same_bits(u["fc"][0], expected["fc"][0])
    assert_same_bits(u["fc"][1], expected["fc"][1])


def test_single_precision_steps_stay_single(rng):
    grads = {"fc": np.ones((2, 1), np.float32)}
    model = QuadraticModel()
    for _ in range(2):
        u = model.step(grads, grads, 0.1, lambda v: np.ones((3, 2)) @ v["fc"], lambda dy: dy)
        assert u["fc"].dtype == np.float32
