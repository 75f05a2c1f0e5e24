"""What the benchmarks share: problems, the limit that a bare C loop sets, and steps timed in turns."""

import ctypes
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

import downslope as ds

ROUNDS = 11
SECONDS_A_TURN = 0.1

# Adam's streams with next to no arithmetic: state of 4, 2 or 1 bytes, and a whole training step that also reads the
# gradients for their norm and moves an average of the parameters.
BARE_LOOPS = """
#define PARALLEL _Pragma("omp parallel for simd schedule(static) num_threads(threads)")
#define STREAMS(name, state)                                                                \\
    void name(float *p, const float *g, state *m, state *v, float *e, long n, int threads) { \\
        PARALLEL                                                                            \\
        for (long i = 0; i < n; ++i) { p[i] += g[i]; m[i] += 1; v[i] += 1; }                \\
    }
STREAMS(streams4, float)
STREAMS(streams2, unsigned short)
STREAMS(streams1, unsigned char)

void training(float *p, const float *g, float *m, float *v, float *e, long n, int threads) {
    float sum = 0;
    #pragma omp parallel for simd schedule(static) num_threads(threads) reduction(+ : sum)
    for (long i = 0; i < n; ++i) sum += g[i] * g[i];
    PARALLEL
    for (long i = 0; i < n; ++i) { p[i] += sum * g[i]; m[i] += 1; v[i] += 1; e[i] += p[i]; }
}
"""


def compiled_loops():
    """The C loops as a library, or None where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    folder = Path(tempfile.mkdtemp())
    (folder / "loops.c").write_text(BARE_LOOPS)
    command = [compiler, "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "loops.c", "-o", "loops.so"]
    subprocess.run(command, cwd=folder, check=True)
    loops = ctypes.CDLL(str(folder / "loops.so"))
    shutil.rmtree(folder)
    return loops


LOOPS = compiled_loops()


def bare_loop(n, name="streams4", state=np.float32, threads=None):
    """A step that is one of the C loops over n elements, or None."""
    if LOOPS is None:
        return None
    average = np.zeros(n if name == "training" else 0, np.float32)
    arrays = [np.ones(n, dtype) for dtype in (np.float32, np.float32, state, state)] + [average]
    arguments = [ctypes.c_void_p(a.ctypes.data) for a in arrays] + [ctypes.c_long(n), threads or ds.get_num_threads()]
    loop = LOOPS[name]
    step = lambda: loop(*arguments)  # noqa: E731
    step.arrays = arrays  # which must live as long as the step
    return step


def torch_or_none():
    """PyTorch with as many threads, if it is there."""
    try:
        import torch
    except ModuleNotFoundError:
        return None
    torch.set_num_threads(ds.get_num_threads())
    return torch


def torch_tensors(params, grads):
    """Copies as PyTorch's parameters with gradients."""
    torch = torch_or_none()
    tensors = [torch.tensor(p, requires_grad=True) for p in params]
    for tensor, grad in zip(tensors, grads, strict=True):
        tensor.grad = torch.tensor(grad)
    return tensors


def problem(sizes, seed=0):
    """Parameters and gradients."""
    rng = np.random.default_rng(seed)
    params = [rng.standard_normal(n, dtype=np.float32) for n in sizes]
    return params, [rng.standard_normal(n, dtype=np.float32) for n in sizes]


def repetitions(step):
    """How often to call a step in one turn."""
    step()
    start = time.perf_counter()
    step()
    return max(1, int(SECONDS_A_TURN / (time.perf_counter() - start)))


def seconds(step, times):
    """Seconds a call."""
    start = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - start) / times


class Race:
    """Steps that take turns, round by round.

    Parameters
    ----------
    steps : dict
        Name -> callable; what is None is left out.
    threads : dict
        Name -> how many threads downslope may use in this step's turns, where that isn't the usual number.
    pause : float
        Seconds before each turn, in which threads that another library keeps awake go to sleep.
    """

    def __init__(self, steps, threads={}, pause=0.0):
        steps = {name: step for name, step in steps.items() if step is not None}
        usual = ds.get_num_threads()
        self.seconds = {name: [] for name in steps}
        times = {}
        for turn in range(ROUNDS + 1):
            for name, step in steps.items():
                ds.set_num_threads(threads.get(name, usual))
                time.sleep(pause)
                if turn == 0:
                    times[name] = repetitions(step)
                else:
                    self.seconds[name].append(seconds(step, times[name]))
        ds.set_num_threads(usual)

    def us(self, name):
        """Median microseconds of a step, or NaN if it is not there."""
        return 1e6 * np.median(self.seconds.get(name, np.nan))

    def ratio(self, name, base):
        """Median over the rounds of one step's time over another's, or NaN."""
        return np.median(np.divide(self.seconds.get(name, np.nan), self.seconds.get(base, np.nan)))


def cell(number, width, form=".2f", unit=""):
    """A number in a column, or a dash for what was not measured."""
    return f"{'-' if np.isnan(number) else format(number, form) + unit:>{width}}"
