"""Mini-batches: every row once a pass, in an order that the seed and the number of the pass decide."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import downslope as ds


@given(
    rows=st.integers(0, 40),
    batch_size=st.integers(1, 45),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
)
def test_every_row_once_a_pass(rows, batch_size, shuffle, drop_last):
    x, y = np.arange(rows), np.arange(2 * rows).reshape(rows, 2)
    batches = ds.minibatches(x, y, batch_size=batch_size, shuffle=shuffle, drop_last=drop_last)
    for _ in range(2):
        seen = list(batches)
        assert len(seen) == len(batches)
        assert all(len(xb) == batch_size for xb, _ in seen[:-1])
        assert all((yb[:, 0] == 2 * xb).all() for xb, yb in seen)
        joined = np.concatenate([xb for xb, _ in seen]) if seen else np.array([], int)
        if drop_last:
            assert len(joined) == rows - rows % batch_size and len(set(joined)) == len(joined)
        else:
            assert sorted(joined) == list(range(rows))
        if not shuffle:
            assert joined.tolist() == list(range(len(joined)))


def orders(batches, passes):
    return [np.concatenate(list(batches)).tolist() for _ in range(passes)]


def test_passes_differ_and_are_reproducible():
    x = np.arange(50)
    first, second = orders(ds.minibatches(x, batch_size=7, seed=3), 2)
    assert first != second
    assert orders(ds.minibatches(x, batch_size=7, seed=3), 2) == [first, second]
    assert orders(ds.minibatches(x, batch_size=7, seed=4), 1) != [first]


def test_passes_may_interleave():
    x = np.arange(20)
    expected = orders(ds.minibatches(x, batch_size=4), 2)
    batches = ds.minibatches(x, batch_size=4)
    pairs = list(zip(batches, batches, strict=True))
    assert [np.concatenate(side).tolist() for side in zip(*pairs, strict=True)] == expected


def test_one_argument_spans_batch_to_stochastic():
    x = np.arange(6.0)
    (whole,) = ds.minibatches(x)
    assert np.shares_memory(whole, x) and whole.tolist() == x.tolist()
    assert [b.shape for b in ds.minibatches(x, batch_size=1)] == [(1,)] * 6
    assert np.shares_memory(next(iter(ds.minibatches(x, batch_size=2, shuffle=False))), x)


@pytest.mark.parametrize(
    "args, kwargs, error, message",
    [
        ((), {}, TypeError, "at least one array"),
        ((3.0,), {}, ValueError, r"arrays\[0\] must have at least one axis"),
        (([1, 2], [1]), {}, ValueError, r"arrays\[1\] must have the length of arrays\[0\], 2, got 1"),
        (([1], [[1], [1, 2]]), {}, ValueError, r"^arrays\[1\] must be an array: .*inhomogeneous"),
        (([1],), {"batch_size": 0}, ValueError, "batch_size must be >= 1, got 0"),
        (([1],), {"batch_size": 2.0}, TypeError, "batch_size must be an integer, got 2.0"),
        (([1],), {"batch_size": True}, TypeError, "batch_size must be an integer, got True"),
        (([1],), {"seed": -1}, ValueError, "seed must be >= 0, got -1"),
        (([1],), {"seed": None}, TypeError, "seed must be an integer, got None"),
    ],
)
def test_bad_arguments(args, kwargs, error, message):
    with pytest.raises(error, match=message):
        ds.minibatches(*args, **kwargs)
