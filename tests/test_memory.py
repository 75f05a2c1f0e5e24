"""Memory that the core writes cannot be taken away, replaced or made read-only behind its back."""

import pickle

import numpy as np
import pytest

import downslope as ds


def resized():
    """An optimizer whose parameter was given other memory since."""
    p = np.zeros(2)
    opt = ds.SGD([p], ema_decay=0.5)
    opt.accumulate([np.ones(2)])
    p.resize(1000, refcheck=False)
    return opt


def test_a_resized_parameter_is_noticed_when_a_group_is_added():
    opt = resized()
    with pytest.raises(ValueError, match=r"^params\[0\] has been given"):
        opt.add_param_group({"params": [np.zeros(1)]})
    with pytest.raises(ValueError, match=r"^params\[0\] has been given"):
        opt.accumulate([np.ones(1000)])


def test_a_resized_parameter_is_noticed_when_it_is_unpickled():
    with pytest.raises(ValueError, match=r"^params\[0\] has been given another shape"):
        pickle.loads(pickle.dumps(resized()))


def test_sums_that_do_not_fit_their_parameter_are_refused():
    p = np.zeros(2)
    opt = ds.SGD([p])
    opt.accumulate([np.ones(2)])
    p.resize(1000, refcheck=False)
    opt = pickle.loads(pickle.dumps(opt))
    with pytest.raises(ValueError, match=r"^what was accumulated does not fit params\[0\]: zero_grad\(\)$"):
        opt.accumulate([np.ones(1000)])
    with pytest.raises(ValueError, match=r"^grads\[0\] must have the shape"):
        opt.step()
    opt.zero_grad()
    opt.step([np.ones(1000)])


@pytest.mark.parametrize("state_dtype", [None, "bfloat16", "uint8"])
@pytest.mark.parametrize("copied", [lambda opt: opt, lambda opt: pickle.loads(pickle.dumps(opt))])
def test_no_array_of_an_optimizer_can_be_resized_or_its_base(copied, state_dtype):
    opt = copied(ds.Adam([np.zeros(4)], ema_decay=0.5, state_dtype=state_dtype))
    for array in (*opt.ema, *opt.state[0].values()):
        assert not isinstance(array.base, np.ndarray)
        with pytest.raises(ValueError, match="does not own its data"):
            array.resize(10_000, refcheck=False)


def test_unpickled_memory_that_is_read_only_is_copied():
    """As out-of-band buffers may be: memory maps, and bytes, which nobody may change."""
    opt = ds.Adam([np.zeros(300), np.zeros((300, 2))[:, 0]], ema_decay=0.5)
    opt.step([np.ones(300)] * 2)
    buffers = []
    data = pickle.dumps(opt, 5, buffer_callback=buffers.append)
    immutable = [bytes(buffer) for buffer in buffers]
    before = [bytes(bytearray(buffer)) for buffer in immutable]
    copy = pickle.loads(data, buffers=immutable)
    copy.step([np.ones(300)] * 2)
    opt.step([np.ones(300)] * 2)
    assert immutable == before
    for mine, other in zip(opt.params, copy.params, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("which", [lambda opt: opt.state[0]["momentum_buffer"], lambda opt: opt.ema[0]])
def test_read_only_state_is_refused(which):
    opt = ds.SGD([np.zeros(3)], momentum=0.9, ema_decay=0.5)
    which(opt).flags.writeable = False
    with pytest.raises(ValueError, match="is read-only"):
        opt.add_param_group({"params": [np.zeros(1)]})


def test_code_of_values_that_meddles_comes_before_the_checks():
    a, e = np.zeros(4), np.zeros((4, 2))
    opt = ds.SGD([a, e], lr=1.0)

    class Values:
        array = np.ones((1, 2))

        def __dlpack__(self, **options):
            a.resize(10_000, refcheck=False)
            return self.array.__dlpack__(**options)

    with pytest.raises(ValueError, match=r"^params\[0\] has been given other memory"):
        opt.step([np.ones(4), ds.RowGrad([0], Values())])
    assert not e.any() and opt.step_count == 0


def test_no_code_of_a_parameter_comes_between_while_it_goes_home():
    """Nor an interrupt, which Python would handle there."""

    class Interrupting(np.ndarray):
        def __setitem__(self, key, value):
            super().__setitem__(key, value)
            if self.interrupts:
                raise KeyboardInterrupt

    first = np.zeros(2).view(Interrupting)
    first.interrupts = False
    second = np.zeros(3)
    opt = ds.SGD([first, second], lr=1.0, ema_decay=0.5)
    opt.step([np.ones(2), np.ones(3)])
    with opt.swap_ema():
        assert (np.asarray(first) == -0.5).all()
        first.interrupts = True
    assert (np.asarray(first) == -1).all() and (second == -1).all()
    first.interrupts = False
    opt.step([np.ones(2), np.ones(3)])
