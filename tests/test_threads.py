"""Threads: the settings, what a fork does, and the floating-point environment that steps run in."""

import ctypes
import ctypes.util
import os
import platform
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from rule_cases import assert_same_bits

import downslope as ds
from downslope._extension import core
from downslope.threads import _cgroup_quotas

needs_openmp = pytest.mark.skipif(not core.has_openmp, reason="this build has no OpenMP, so it has one thread")


def run(code, **env):
    """Run Python code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


@needs_openmp
def test_set_num_threads():
    before = ds.get_num_threads()
    with ds.num_threads(3):
        assert ds.get_num_threads() == 3
        ds.set_num_threads(2)
        assert ds.get_num_threads() == 2
    assert ds.get_num_threads() == before
    with pytest.raises(ZeroDivisionError), ds.num_threads(3):
        1 / 0  # noqa: B018
    assert ds.get_num_threads() == before


@pytest.mark.parametrize(
    "n, error, message",
    [
        (0, ValueError, "n must be >= 1 and <= 1024, got 0"),
        (-3, ValueError, "got -3"),
        (1025, ValueError, "got 1025"),
        (2.0, TypeError, "n must be an integer, got 2.0"),
        (True, TypeError, "got True"),
        ("2", TypeError, "got '2'"),
    ],
)
def test_bad_number_of_threads(n, error, message):
    before = ds.get_num_threads()
    with pytest.raises(error, match=message):
        ds.set_num_threads(n)
    assert ds.get_num_threads() == before


@needs_openmp
def test_the_environment_variable():
    code = "import downslope as ds; print(ds.get_num_threads())"
    assert run(code, DOWNSLOPE_NUM_THREADS="3").stdout == "3\n"
    result = run(code, DOWNSLOPE_NUM_THREADS="many")
    assert "ValueError: DOWNSLOPE_NUM_THREADS must be an integer, got 'many'" in result.stderr
    result = run(code, DOWNSLOPE_NUM_THREADS="0")
    assert "ValueError: DOWNSLOPE_NUM_THREADS must be >= 1 and <= 1024, got 0" in result.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux has processor affinity")
def test_the_default_heeds_affinity():
    code = """
        import os
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        import downslope as ds
        print(ds.get_num_threads())
    """
    assert run(code, DOWNSLOPE_NUM_THREADS="").stdout == "1\n"


def test_cgroup_quotas(tmp_path):
    """Version 2 has cpu.max along the path, version 1 a pair of files; missing files and "max" set no limit."""
    membership = tmp_path / "cgroup"
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "cpu.max").write_text("max 100000\n")
    (tmp_path / "a" / "cpu.max").write_text("150000 100000\n")
    membership.write_text("0::/a/b\n")
    assert list(_cgroup_quotas(membership, tmp_path)) == [1.5]

    group = tmp_path / "cpu,cpuacct" / "c"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("400000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    (group.parent / "cpu.cfs_quota_us").write_text("-1\n")
    (group.parent / "cpu.cfs_period_us").write_text("100000\n")
    membership.write_text("3:memory:/c\n2:cpu,cpuacct:/c\n")
    assert list(_cgroup_quotas(membership, tmp_path)) == [4.0]
    assert list(_cgroup_quotas(tmp_path / "absent", tmp_path)) == []


FORK = """
    import os, signal, sys, warnings
    import numpy as np
    import downslope as ds
    warnings.simplefilter("ignore")
    ds.set_num_threads(2)
    p, g = np.ones(100_000), np.ones(100_000)
    opt = ds.SGD(p, lr=1.0)
    opt.step(g)
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # a child that hangs is killed
        opt.step(g)
        os._exit(0 if (p == -1).all() and ds.get_num_threads() == 1 and opt.step_count == 2 else 1)
    _, status = os.waitpid(pid, 0)
    opt.step(g)
    print(os.waitstatus_to_exitcode(status), ds.get_num_threads(), p[0])
"""


@needs_openmp
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_runs_serially():
    result = run(FORK)
    assert result.stdout == "0 2 -1.0\n", result.stderr


LONG_WORK = {
    "step": "opt, g = ds.Adam(np.ones(3_000_000)), np.ones(3_000_000); work = lambda: opt.step(g)",
    "accumulate": "opt, g = ds.Adam(np.ones(3_000_000)), np.ones(3_000_000); work = lambda: opt.accumulate(g)",
    "factorize": "work = ds.curvature.Dense(np.eye(900)).factorize",
    "matvec": "C, V = ds.curvature.Dense(np.eye(900)), np.ones((900, 900)); work = lambda: C.matvec(V)",
    "blocks": "C, v = ds.curvature.BlockDiagonal([np.eye(500)] * 9), np.ones(4500); work = lambda: C.solve(v)",
    "precondition": """
kfac, batch, g = ds.KFAC({"a": (300, 200)}, bias=False), (np.ones((99, 300)), np.ones((99, 200))), np.ones((300, 200))
def work():
    kfac.update("a", *batch)
    kfac.precondition({"a": g})
""",
    "vectorized": """
X, options = np.zeros((20_000, 20)), {"maxiter": 9, "gtol": 0}
fun = lambda X, _: (((X - 1) ** 4).sum(axis=1), 4 * (X - 1) ** 3)
work = lambda: ds.minimize_many(fun, X, vectorized=True, options=options)
""",
}


@pytest.mark.parametrize("work", LONG_WORK)
def test_a_daemon_thread_may_be_at_work_when_the_interpreter_ends(work):
    """It may want the GIL back then, which it never gets."""
    result = run(
        f"import threading, time\nimport numpy as np\nimport downslope as ds\n{LONG_WORK[work]}\n"
        "rounds = []\n"
        "def forever():\n"
        "    while True:\n"
        "        work()\n"
        "        rounds.append(1)\n"
        "threading.Thread(target=forever, daemon=True).start()\n"
        "while len(rounds) < 3:\n"
        "    time.sleep(0.001)\n"
    )
    assert (result.returncode, result.stderr) == (0, "")


FORK_IN_A_STEP = """
    import os, signal, threading, time, warnings
    import numpy as np
    import downslope as ds
    warnings.simplefilter("ignore")
    p, g = np.ones(20_000_000), np.ones(20_000_000)
    opt, other = ds.Adam(p), ds.SGD(np.ones(3), lr=1.0)
    stepping = threading.Thread(target=lambda: [opt.step(g) for _ in range(20)])
    stepping.start()
    while opt.step_count < 3:
        time.sleep(0.001)
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # a child that hangs is killed
        try:
            opt.step(g)
        except RuntimeError as error:
            other.step(np.ones(3))
            os._exit(0 if "when the process forked" in str(error) and (other.params == 0).all() else 1)
        os._exit(2)  # the fork happened between two steps
    _, status = os.waitpid(pid, 0)
    stepping.join()
    print(os.waitstatus_to_exitcode(status), opt.step_count)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_forked_in_the_middle_of_a_step_does_not_wait_for_it():
    for _ in range(5):
        result = run(FORK_IN_A_STEP)
        if result.stdout != "2 20\n":
            break
    assert result.stdout == "0 20\n", result.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_forked_in_the_middle_of_an_update_does_not_wait_for_it():
    result = run("""
        import os, signal, threading, warnings
        import numpy as np
        import downslope as ds
        warnings.simplefilter("ignore")
        kfac, other = (ds.KFAC({"fc": (1, 1)}, bias=False) for _ in range(2))
        begun, forked = threading.Event(), threading.Event()
        class Inputs:
            def __array__(self, dtype=None, copy=None):
                begun.set()
                forked.wait()
                return np.ones((1, 1))
        updating = threading.Thread(target=lambda: kfac.update("fc", Inputs(), [[1.0]]))
        updating.start()
        begun.wait()
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)  # a child that hangs is killed
            try:
                kfac.state_dict()
            except RuntimeError as error:
                other.update("fc", [[1.0]], [[1.0]])
                os._exit(0 if "this preconditioner was in use when the process forked" in str(error) else 1)
            os._exit(2)
        _, status = os.waitpid(pid, 0)
        forked.set()
        updating.join()
        print(os.waitstatus_to_exitcode(status), kfac.state_dict()["state"]["fc"]["updates"])
    """)
    assert result.stdout == "0 1\n", result.stderr


@needs_openmp
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted in /proc, which only Linux has")
def test_small_steps_stay_on_the_callers_thread():
    result = run("""
        import os
        import numpy as np
        import downslope as ds
        ds.set_num_threads(2)
        before = len(os.listdir("/proc/self/task"))
        for n in (16_383, 16_384):
            params, grads = [np.ones(16_384), np.ones(n)], [np.ones(16_384), np.ones(n)]
            ds.SGD(params).step(grads)
            print(len(os.listdir("/proc/self/task")) - before)
    """)
    assert result.stdout == "0\n1\n", result.stderr


def test_large_steps_run_without_the_gil():
    """Another Python thread goes on counting while a step runs on one thread."""
    opt = ds.Adam(np.ones(4_000_000))
    grads = np.ones(4_000_000)
    counted, stop = [0], threading.Event()

    def count():
        while not stop.is_set():
            counted[0] += 1
            time.sleep(0)  # gives the GIL away, so that it comes back only if the step gives it away too

    counter = threading.Thread(target=count)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # nobody is made to give the GIL away
    try:
        with ds.num_threads(1):
            counter.start()
            while counted[0] == 0:
                time.sleep(0.001)
            before = counted[0]
            for _ in range(5):
                opt.step(grads)
            assert counted[0] > before
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        counter.join()


def test_one_optimizer_used_from_several_threads(rng):
    """Its calls take turns: what comes out are the bits of as many steps one after the other."""
    p, g = rng.standard_normal(300_000), rng.standard_normal(300_000)
    opt, twin = ds.Adam(p), ds.Adam(p.copy())
    errors = []

    def work():
        try:
            for i in range(10):
                opt.step(g)
                opt.param_groups[0]["lr"] = 1e-3
                if i % 5 == 0:
                    opt.state_dict()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert opt.step_count == 40
    for _ in range(40):
        twin.step(g)
    assert_same_bits(p, twin.params)


FE_UPWARD = {"x86_64": 0x800, "aarch64": 0x400000, "arm64": 0x400000}


@pytest.mark.skipif(platform.machine() not in FE_UPWARD, reason="the number of the rounding mode is the processor's")
@pytest.mark.parametrize("threads", [1, 2])
def test_the_callers_rounding_mode_plays_no_part(threads, rng, forced_threads):
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    params = [rng.standard_normal(5000) for _ in range(2)]
    grads = [rng.standard_normal(5000) for _ in range(2)]
    twins = [p.copy() for p in params]
    opt, twin = ds.NAdam(params), ds.NAdam(twins)
    for _ in range(3):
        twin.step(grads)
    upward = FE_UPWARD[platform.machine()]
    libm.fesetround(upward)
    try:
        with forced_threads(threads):
            for _ in range(3):
                opt.step(grads)
        still_upward = libm.fegetround() == upward and (np.ones(1) + 1e-30 > 1).all()  # x87's register, and SSE's
    finally:
        libm.fesetround(0)
    assert still_upward
    for p, q in zip(params, twins, strict=True):
        assert_same_bits(p, q)
