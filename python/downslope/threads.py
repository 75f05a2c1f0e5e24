"""How many threads a step may use: a setting of the process."""

import math
import os
from contextlib import contextmanager
from pathlib import Path

from downslope._extension import core
from downslope.validation import integer


def set_num_threads(n):
    """Let steps use up to `n` threads, in the whole process.

    Results do not depend on it. Steps over fewer than 32,768 elements stay on the caller's thread in any case, and so
    does every step in a child that was forked, where waking the parent's threads would hang.

    Parameters
    ----------
    n : int
        At least 1.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If it is less than 1.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.set_num_threads(1)
    >>> ds.get_num_threads()
    1
    """
    core.set_num_threads(_thread_count("n", n))


def get_num_threads():
    """How many threads a step may use; by default as many as affinity and cgroup allow, or ``DOWNSLOPE_NUM_THREADS``.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.get_num_threads() >= 1
    True
    """
    return core.get_num_threads()


@contextmanager
def num_threads(n):
    """`set_num_threads` for the length of a ``with`` block.

    Examples
    --------
    >>> import downslope as ds
    >>> with ds.num_threads(1):
    ...     ds.get_num_threads()
    1
    """
    before = core.get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        core.set_num_threads(before)


def _thread_count(name, n):
    return integer(name, n, lower=1, upper=1024)


def _allowed_processors():
    """What this process may use: its affinity, and the CPU quota of its cgroup (version 2 or 1) and of those above."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
    for quota in _cgroup_quotas(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")):
        processors = min(processors, max(1, math.ceil(quota)))
    return processors


def _cgroup_quotas(membership, root):
    """The quotas, in processors, that bind the cgroups which the file `membership` names."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / controllers if controllers else root
        group = mount / path.lstrip("/")
        for folder in (group, *group.parents):
            try:
                if controllers:
                    quota, period = ((folder / f"cpu.cfs_{which}_us").read_text() for which in ("quota", "period"))
                else:
                    quota, period = (folder / "cpu.max").read_text().split()
                if quota != "max" and int(quota) > 0:
                    yield int(quota) / int(period)
            except (OSError, ValueError):
                pass  # no limit is set here
            if folder == mount:
                break


def _initial_num_threads(setting):
    """The number that the environment variable asks for, or all that the process may use."""
    if not setting:
        return _allowed_processors()
    try:
        n = int(setting)
    except ValueError:
        raise ValueError(f"DOWNSLOPE_NUM_THREADS must be an integer, got {setting!r}") from None
    return _thread_count("DOWNSLOPE_NUM_THREADS", n)


core.set_num_threads(_initial_num_threads(os.environ.get("DOWNSLOPE_NUM_THREADS")))
