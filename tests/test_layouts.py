"""Any layout: strided, transposed, reversed, unaligned, 0-d and empty arrays are updated in place, to the same bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_cases import LAYOUTS, assert_same_bits, assert_same_optimizers, on_threads, pair

import downslope as ds


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("grad_layout", ["the same", "contiguous", "fortran"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_layout(name, layout, grad_layout, dtype, rng, forced_threads):
    param = LAYOUTS[layout](dtype)
    param[...] = rng.standard_normal(param.shape)
    address, strides = param.__array_interface__["data"][0], param.strides
    opt, ref = pair(name, [param])
    for step in range(5):
        values = rng.standard_normal(param.shape).astype(dtype)
        grad = (
            LAYOUTS[layout](dtype)
            if grad_layout == "the same"
            else np.zeros(param.shape, dtype, grad_layout[0].upper())
        )
        grad[...] = values
        with forced_threads(1 + step % 3):
            opt.step([grad])
        ref.step([values])
        assert_same_bits(np.ascontiguousarray(grad), np.ascontiguousarray(values), "a gradient is only read")
    assert (param.__array_interface__["data"][0], param.strides) == (address, strides)
    assert_same_optimizers(opt, ref)


def test_what_lies_between_the_elements_stays(rng):
    base = rng.standard_normal((20, 30))
    before = base.copy()
    opt = ds.Adam(base[::2, ::3], lr=1.0)
    opt.step(np.ones((10, 10)))
    changed = base != before
    assert changed[::2, ::3].all()
    changed[::2, ::3] = False
    assert not changed.any()


def test_fortran_order_gets_fortran_state():
    """So that parameter, state and gradient can be walked as one contiguous block."""
    opt = ds.Adam(np.zeros((3, 4), order="F"))
    assert opt.state["exp_avg"].flags.f_contiguous


def test_broadcast_and_read_only_gradients(rng):
    params = [np.zeros((20, 70))]
    opt, ref = pair("adam", params)
    grad = np.broadcast_to(rng.standard_normal(70), (20, 70))
    assert not grad.flags.writeable
    opt.step([grad])
    ref.step([np.array(grad)])
    assert_same_optimizers(opt, ref)


def test_interleaved_parameters_and_gradients(rng):
    """Their address intervals meet, but they share no element."""
    pool = rng.standard_normal((100, 4))
    expected = [pool[:, 0].copy(), pool[:, 1].copy()]
    grads = [pool[:, 2].copy(), pool[:, 3].copy()]
    opt = ds.Adam([pool[:, 0], pool[:, 1]])
    opt.step([pool[:, 2], pool[:, 3]])
    ds.Adam(expected).step(grads)
    assert_same_bits(pool, np.stack([*expected, *grads], axis=1))


@st.composite
def views(draw):
    """A view by random slices and a random permutation of axes."""
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    index = tuple(
        slice(draw(st.integers(0, n - 1)), None, draw(st.integers(1, 3)))
        if draw(st.booleans())
        else slice(None, None, -draw(st.integers(1, 3)))
        for n in shape
    )
    return shape, index, draw(st.permutations(range(len(shape))))


@settings(deadline=None, max_examples=150)
@given(views(), st.integers(1, 3))
def test_random_views(view, threads):
    shape, index, axes = view
    rng = np.random.default_rng(0)
    param = rng.standard_normal(shape)[index].transpose(axes)
    grad = rng.standard_normal(shape)[index].transpose(axes)
    opt, ref = pair("adabelief", [param])
    with on_threads(threads):
        opt.step([grad])
    ref.step([np.array(grad)])
    assert_same_optimizers(opt, ref)
