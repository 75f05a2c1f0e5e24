"""Facts about this installation."""

import platform
import sys
from importlib.metadata import version

import numpy as np

from downslope import _detect
from downslope._extension import core
from downslope.threads import get_num_threads

__version__ = version("downslope")


def isa():
    """The instruction set level in use, such as ``"x86-64-v3"``.

    Chosen at import as the best that the processor has; the environment variable ``DOWNSLOPE_ISA`` forces one. Results
    are the same bits on every level.

    Examples
    --------
    >>> import downslope as ds
    >>> isinstance(ds.isa(), str)
    True
    """
    return core.isa


def show_config():
    """Print what a bug report should tell: versions, instruction set, threads and how the core was built.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.show_config()  # doctest: +ELLIPSIS
    downslope     ...
    """
    facts = {
        "downslope": __version__,
        "instructions": f"{isa()} (built: {', '.join(_detect.built_levels())})",
        "threads": f"{get_num_threads()} ({'OpenMP' if core.has_openmp else 'built without OpenMP'})",
        "compiler": core.compiler,
        "Eigen": core.eigen_version,
        "NumPy": np.__version__,
        "Python": f"{platform.python_version()} on {sys.platform} {platform.machine()}",
    }
    for name, fact in facts.items():
        print(f"{name:<13} {fact}")
