import numpy as np
import pytest

import downslope as ds
from downslope._extension import core


@pytest.fixture
def forced_threads():
    """A context in which even the smallest step runs on n threads."""
    before = core.set_parallel_threshold(0)
    yield ds.num_threads
    core.set_parallel_threshold(before)


@pytest.fixture
def rng():
    return np.random.default_rng(20)
