"""The result of a loop: SciPy's class, without SciPy."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import downslope as ds

# Names of entries that SciPy puts first, in their order, and others.
NAMES = ["message", "success", "status", "fun", "x", "nit", "jac", "nfev", "history", "a_long_name"]
ARRAYS = hnp.arrays(
    st.sampled_from([np.float64, np.float32, np.int64, np.bool_]), hnp.array_shapes(min_dims=0, max_dims=3, max_side=15)
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | ARRAYS | st.lists(st.floats())
ENTRIES = st.recursive(
    st.dictionaries(st.sampled_from(NAMES), LEAVES, min_size=1),
    lambda inner: st.dictionaries(st.sampled_from(NAMES), LEAVES | inner, min_size=1),
    max_leaves=8,
)


@settings(deadline=None)  # the first example imports SciPy
@given(ENTRIES)
def test_prints_as_scipys_does(entries):
    scipy_optimize = pytest.importorskip("scipy.optimize")
    with np.errstate(all="ignore"):  # a signalling NaN
        assert repr(ds.OptimizeResult(entries)) == repr(scipy_optimize.OptimizeResult(entries))


def test_layout():
    res = ds.OptimizeResult(nfev=3, x=np.array([1 / 3, -2e30, np.nan, np.inf]), fun=0.5, message="two\nlines")
    res.parts = {"b": 1, "x": np.eye(2), 3: {}}
    assert repr(res) == "\n".join(
        [
            " message: two",
            "          lines",
            "     fun: 0.5",
            "       x: [ 3.333e-01 -2.000e+30        nan        inf]",
            "    nfev: 3",
            "   parts: x: [[ 1.000e+00  0.000e+00]",
            "              [ 0.000e+00  1.000e+00]]",
            "          b: 1",
            "          3: {}",
        ]
    )
    assert str(res) == repr(res)
    assert repr(ds.OptimizeResult()) == "OptimizeResult()"


def test_entries_are_attributes():
    res = ds.OptimizeResult(x=1)
    res.fun = 2.0
    res["nit"] = 3
    assert res == {"x": 1, "fun": 2.0, "nit": 3} and (res.x, res["fun"], res.nit) == (1, 2.0, 3)
    assert dir(res) == ["fun", "nit", "x"] and "fun" in res
    del res.x
    assert "x" not in res and not hasattr(res, "x") and getattr(res, "x", None) is None
    with pytest.raises(AttributeError, match="^x$"):
        res.x
    with pytest.raises(KeyError):
        del res.x


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(protocol):
    res = ds.OptimizeResult(x=np.arange(3.0), message="done", inner=ds.OptimizeResult(a=1))
    twin = pickle.loads(pickle.dumps(res, protocol))
    assert type(twin) is ds.OptimizeResult and type(twin.inner) is ds.OptimizeResult
    assert list(twin) == list(res) and twin.x.tolist() == [0, 1, 2]


def test_copies():
    res = ds.OptimizeResult(x=np.arange(3.0))
    assert type(copy.copy(res)) is ds.OptimizeResult and copy.copy(res).x is res.x
    assert copy.deepcopy(res).x is not res.x and copy.deepcopy(res).x.tolist() == [0, 1, 2]
