import numpy as np
import pytest
from rule_cases import on_threads


@pytest.fixture
def forced_threads():
    """A context in which even the smallest step runs on n threads."""
    return on_threads


@pytest.fixture
def silent():
    """NumPy warns of the infinities and NaNs that some cases lead to."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(20)
