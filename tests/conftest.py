import os
import shutil

# Before NumPy comes in: the small problems here are no work for two threads that wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from objectives import compile_library
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


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """Compiled objectives."""
    if shutil.which("cc") is None:
        pytest.skip("needs the compiler under the name cc")
    return compile_library(tmp_path_factory.mktemp("objectives"))
