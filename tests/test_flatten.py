"""Named arrays in one vector, and back."""

import pickle

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rule_cases import assert_same_bits

import downslope as ds

ARRAYS = hnp.arrays(
    st.sampled_from([np.float64, np.float32, np.float16, np.dtype(">f8")]),
    hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
)
ARRAYS = ARRAYS | ARRAYS.map(np.transpose)
STRUCTURES = ARRAYS | st.lists(ARRAYS) | st.dictionaries(st.text() | st.integers(), ARRAYS)


def arrays_of(params):
    return list(params.values()) if isinstance(params, dict) else [params] if isinstance(params, np.ndarray) else params


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # signalling NaNs
@given(STRUCTURES)
def test_there_and_back(params):
    vector, unflatten = ds.flatten(params)
    arrays = arrays_of(params)
    assert vector.dtype == np.float64
    expected = np.concatenate([np.empty(0), *(array.astype(np.float64).ravel(order="C") for array in arrays)])
    np.testing.assert_array_equal(vector, expected)
    back = unflatten(vector)
    assert type(back) is type(params)
    if isinstance(params, dict):
        assert list(back) == list(params)
    for given_array, restored in zip(arrays, arrays_of(back), strict=True):
        assert restored.dtype == given_array.dtype and restored.shape == given_array.shape
        np.testing.assert_array_equal(restored, given_array)
        assert not np.shares_memory(restored, vector) and not np.shares_memory(restored, given_array)


def test_bfloat16():
    p = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    vector, unflatten = ds.flatten(p)
    assert vector.tolist() == [1.5, -2.0]
    assert unflatten(vector).dtype == p.dtype and unflatten(vector).tolist() == [1.5, -2.0]


def test_gradients_by_name():
    _, unflatten = ds.flatten({"w": np.zeros((2, 1)), "b": np.zeros(1), 3: np.zeros(())})
    grads = {"b": np.array([3.0]), 3: np.float32(4), "w": np.array([[1.0], [2.0]])}
    assert_same_bits(unflatten.flatten(grads), np.array([1.0, 2.0, 3.0, 4.0]))


def test_plain_numbers_and_integer_vectors():
    vector, unflatten = ds.flatten({"a": 1.5, "b": [2.0, 3.0]})
    assert vector.tolist() == [1.5, 2.0, 3.0]
    back = unflatten([1, 2, 3])
    assert back["a"].shape == () and back["a"].dtype == np.float64 and back["b"].tolist() == [2.0, 3.0]


def test_the_vector_is_a_copy():
    p = np.zeros(2)
    vector, _ = ds.flatten(p)
    vector += 1
    assert p.tolist() == [0, 0]


def test_the_way_back_pickles():
    _, unflatten = ds.flatten({"a": np.zeros(2, np.float32)})
    back = pickle.loads(pickle.dumps(unflatten))([1.0, 2.0])
    assert back["a"].dtype == np.float32 and back["a"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "params, error, message",
    [
        (
            {"a": np.zeros(2), "n": np.arange(3)},
            TypeError,
            r"params\['n'\] must have a floating-point dtype, got int64",
        ),
        ([np.zeros(1), np.array([True])], TypeError, r"params\[1\] must have a floating-point dtype, got bool"),
        (np.zeros(2, complex), TypeError, "^params must be an array of real numbers .* got dtype complex128"),
        (np.zeros(2, np.longdouble), TypeError, "float64 can hold, got dtype (float128|longdouble)"),
        ([None], TypeError, r"params\[0\] must be .* got dtype object"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), TypeError, "params must not be a masked array"),
        ("abc", TypeError, "params must be a NumPy array"),
        (3.0, TypeError, "params must be a NumPy array"),
    ],
)
def test_bad_arrays(params, error, message):
    with pytest.raises(error, match=message):
        ds.flatten(params)


@pytest.mark.parametrize(
    "vector, error, message",
    [
        (np.zeros(2), ValueError, r"vector must have shape \(3,\), got \(2,\)"),
        (np.zeros(4), ValueError, r"vector must have shape \(3,\), got \(4,\)"),
        (np.zeros((3, 1)), ValueError, r"vector must have shape \(3,\), got \(3, 1\)"),
        (0.0, ValueError, r"vector must have shape \(3,\), got \(\)"),
        (np.zeros(3, complex), TypeError, "vector must be .* got dtype complex128"),
        (["a", "b", "c"], TypeError, "vector must be .* got dtype <U1"),
    ],
)
def test_bad_vectors(vector, error, message):
    _, unflatten = ds.flatten([np.zeros(1), np.zeros(2)])
    with pytest.raises(error, match=message):
        unflatten(vector)


@pytest.mark.parametrize(
    "grads, error, message",
    [
        ({"w": np.zeros((2, 1))}, ValueError, r"shape \(1, 2\), as params\['w'\] has, got \(2, 1\)"),
        ({"v": np.zeros((1, 2))}, ValueError, "'w' is missing .* 'v' is unexpected"),
        ([np.zeros((1, 2))], ValueError, "grads must be a mapping"),
        ({"w": None}, TypeError, r"grads\['w'\] must be an array of real numbers"),
    ],
)
def test_bad_gradients(grads, error, message):
    _, unflatten = ds.flatten({"w": np.zeros((1, 2))})
    with pytest.raises(error, match=message):
        unflatten.flatten(grads)
