"""One optimizer step against NumPy, PyTorch and a bare C loop, side by side in one process.

Run as ``python benchmarks/step.py``; PyTorch and a C compiler are used if they are there. Results are compared before
anything is timed. The two sides of a ratio take turns, round by round; a ratio is the median over the rounds.
"""

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

BARE_LOOP = """
void streams(float *p, const float *g, float *m, float *v, long n, int threads) {
#pragma omp parallel for simd schedule(static) num_threads(threads)
    for (long i = 0; i < n; ++i) { p[i] += g[i]; m[i] += g[i]; v[i] += g[i]; }
}
"""


def numpy_adam(params, grads, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam as one writes it in NumPy."""
    m = [np.zeros_like(p) for p in params]
    v = [np.zeros_like(p) for p in params]
    t = 0

    def step():
        nonlocal t
        t += 1
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g * g
            p -= lr / (1 - beta1**t) * m[i] / (np.sqrt(v[i] / (1 - beta2**t)) + eps)

    return step


def torch_adam(params, grads):
    """PyTorch's fused Adam on copies: (step, tensors), or None where there is no PyTorch."""
    try:
        import torch
    except ModuleNotFoundError:
        return None
    torch.set_num_threads(ds.get_num_threads())
    tensors = [torch.tensor(p, requires_grad=True) for p in params]
    for tensor, grad in zip(tensors, grads, strict=True):
        tensor.grad = torch.tensor(grad)
    return torch.optim.Adam(tensors, lr=1e-3, fused=True).step, tensors


def bare_loop(n):
    """A C loop over Adam's seven streams with next to no arithmetic, or None where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    folder = Path(tempfile.mkdtemp())
    (folder / "streams.c").write_text(BARE_LOOP)
    command = [compiler, "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "streams.c", "-o", "streams.so"]
    subprocess.run(command, cwd=folder, check=True)
    streams = ctypes.CDLL(str(folder / "streams.so")).streams
    shutil.rmtree(folder)
    arrays = [np.ones(n, np.float32) for _ in range(4)]
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in arrays]
    threads = ds.get_num_threads()
    step = lambda: streams(*pointers, ctypes.c_long(n), threads)  # noqa: E731
    step.arrays = arrays
    return step


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


def compare(steps):
    """Median seconds of each step, and the median over rounds of its ratio to the first."""
    times = [repetitions(step) for step in steps]
    rounds = np.array([[seconds(*pair) for pair in zip(steps, times, strict=True)] for _ in range(ROUNDS)])
    return np.median(rounds, axis=0), np.median(rounds / rounds[:, :1], axis=0)


def problem(sizes, seed=0):
    rng = np.random.default_rng(seed)
    params = [rng.standard_normal(n, dtype=np.float32) for n in sizes]
    return params, [rng.standard_normal(n, dtype=np.float32) for n in sizes]


def check_equal(sizes):
    """Three steps of each side from one start agree to rounding."""
    params, grads = problem(sizes)
    by_numpy = [p.copy() for p in params]
    step_numpy, by_torch = numpy_adam(by_numpy, grads), torch_adam(params, grads)
    opt = ds.Adam(params)
    for _ in range(3):
        opt.step(grads)
        step_numpy()
        if by_torch:
            by_torch[0]()
    for i, p in enumerate(params):
        np.testing.assert_allclose(p, by_numpy[i], rtol=1e-5, atol=1e-7)
        if by_torch:
            np.testing.assert_allclose(p, by_torch[1][i].detach().numpy(), rtol=1e-5, atol=1e-7)


def adam_rows():
    cases = [
        ("10 elements", [10]),
        ("100,000 elements", [100_000]),
        ("1 million", [1_000_000]),
        ("20 million", [20_000_000]),
        ("1,000 arrays of 100", [100] * 1000),
    ]
    print("Adam, float32                us a step      us a step    times faster than       of the bare")
    print("                         bound    passed      NumPy   torch  NumPy   torch fused    C loop")
    for name, sizes in cases:
        check_equal(sizes)
        params, grads = problem(sizes)
        bound, passed = ds.Adam(params), ds.Adam([p.copy() for p in params])
        one = len(sizes) == 1
        if one:
            bound, passed = ds.Adam(params[0]), ds.Adam(params[0].copy())
        bound.bind(grads[0] if one else grads)
        given = grads[0] if one else grads
        steps = {
            "bound": bound.step,
            "passed": lambda passed=passed, given=given: passed.step(given),
            "numpy": numpy_adam([p.copy() for p in params], grads),
        }
        fused = torch_adam(params, grads)
        if fused:
            steps["torch"] = fused[0]
        if len(sizes) == 1 and sizes[0] >= 1_000_000 and (loop := bare_loop(sizes[0])):
            steps["loop"] = loop
        medians, ratios = compare(list(steps.values()))
        us, ratio = dict(zip(steps, medians * 1e6, strict=True)), dict(zip(steps, ratios, strict=True))
        cells = [f"{us['bound']:10.2f}", f"{us['passed']:10.2f}", f"{us['numpy']:10.1f}"]
        cells.append(f"{us['torch']:8.1f}" if "torch" in us else "       -")
        cells.append(f"{ratio['numpy']:6.1f}x")
        cells.append(f"{ratio['torch']:9.2f}x" if "torch" in us else "        -")
        cells.append(f"{ratio['loop']:12.2f}" if "loop" in us else "           -")
        print(f"{name:<20}", *cells)


def rule_rows(n=1_000_000):
    print(f"\nEvery rule, {n:,} elements, float32: us a step, and times faster than the NumPy reference (same bits)")
    for name, cls in ds.OPTIMIZERS.items():
        (p,), (g,) = problem([n])
        q = p.copy()
        opt = cls(p)
        settings = dict(opt.param_groups[0])
        del settings["params"]
        ref = ds.reference.Optimizer(opt.rule, [q], **settings)
        for _ in range(2):
            opt.step(g)
            ref.step([g])
        assert p.tobytes() == q.tobytes(), name
        opt.bind(g)
        medians, ratios = compare([opt.step, lambda ref=ref, g=g: ref.step([g])])
        print(f"{cls.__name__:<12} {medians[0] * 1e6:10.1f} {ratios[1]:8.1f}x")


if __name__ == "__main__":
    ds.show_config()
    print()
    adam_rows()
    rule_rows()
