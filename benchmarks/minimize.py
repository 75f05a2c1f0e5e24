"""The loops against their peers, side by side in one process.

Run as ``python benchmarks/minimize.py``, or with the names of some parts: loop, solve, second-order, problems, many,
memory. SciPy, numba and pyensmallen are used if they are there. Results are compared before anything is timed.
"""

import argparse
import itertools
import subprocess
import sys

import numpy as np
from side_by_side import Race, cell

import downslope as ds
from downslope.lab.problems import MORE_GARBOW_HILLSTROM, PROBLEMS, rescaled

START = np.array([-1.2, 1.0])


def rosenbrock(x):
    a, b = x[0], x[1]
    c = b - a * a
    return 100 * c * c + (1 - a) ** 2, np.array([-400 * a * c - 2 * (1 - a), 200 * c])


def rosenbrock_rows(X, index):
    a, b = X.T
    c = b - a * a
    return 100 * c * c + (1 - a) ** 2, np.stack([-400 * a * c - 2 * (1 - a), 200 * c], axis=1)


def compiled_rosenbrock():
    import numba
    from numba import types

    doubles = types.CPointer(types.double)

    @numba.cfunc(types.double(types.intc, doubles, doubles, types.voidptr))
    def fun(n, x, grad, user_data):
        a, b = x[0], x[1]
        c = b - a * a
        grad[0] = -400 * a * c - 2 * (1 - a)
        grad[1] = 200 * c
        return 100 * c * c + (1 - a) ** 2

    return fun


# ---- iterations of Adam ----

LR, BETA1, BETA2, EPS = 2e-3, 0.9, 0.999, 1e-8


def numpy_adam(steps):
    """Adam as one writes it in NumPy; returns the lowest value, too."""
    x = START.copy()
    m, v, lowest = np.zeros(2), np.zeros(2), np.inf
    for t in range(1, steps + 1):
        f, g = rosenbrock(x)
        lowest = min(lowest, f)
        m = BETA1 * m + (1 - BETA1) * g
        v = BETA2 * v + (1 - BETA2) * g * g
        x -= LR / (1 - BETA1**t) * (m / (np.sqrt(v) / np.sqrt(1 - BETA2**t) + EPS))
    return lowest


def numba_adam():
    """The same written out for numba: a loop around a function, as `minimize` is."""
    import numba

    @numba.njit
    def value_and_gradient(x, g):
        a, b = x[0], x[1]
        c = b - a * a
        g[0] = -400 * a * c - 2 * (1 - a)
        g[1] = 200 * c
        return 100 * c * c + (1 - a) ** 2

    @numba.njit
    def adam(start, steps):
        x, g, m, v = start.copy(), np.zeros(2), np.zeros(2), np.zeros(2)
        lowest = np.inf
        for t in range(1, steps + 1):
            f = value_and_gradient(x, g)
            lowest = min(lowest, f)
            c1, c2 = 1 - BETA1**t, 1 - BETA2**t
            for i in range(len(x)):
                m[i] = BETA1 * m[i] + (1 - BETA1) * g[i]
                v[i] = BETA2 * v[i] + (1 - BETA2) * (g[i] * g[i])
                x[i] -= LR / c1 * (m[i] / (np.sqrt(v[i]) / np.sqrt(c2) + EPS))
        return lowest

    return lambda steps: adam(START, steps)


def loop_rows(steps=20_000):
    fun, by_numba = compiled_rosenbrock(), numba_adam()
    options = {"lr": LR, "maxiter": steps, "gtol": 0}

    def ours():
        return ds.minimize(fun, START, method="adam", options=options).fun

    lowest = numpy_adam(steps + 1)
    assert np.isclose(ours(), lowest, rtol=1e-6) and np.isclose(by_numba(steps + 1), lowest, rtol=1e-6)
    race = Race({"ours": ours, "numba": lambda: by_numba(steps), "NumPy": lambda: numpy_adam(steps)})
    print(f"Adam on two-dimensional Rosenbrock, compiled, {steps:,} iterations: nanoseconds an iteration\n")
    print("downslope     numba     NumPy    of numba's time   times faster than NumPy")
    print(
        *(cell(race.us(name) * 1e3 / steps, 9, ".1f") for name in ("ours", "numba", "NumPy")),
        cell(race.ratio("ours", "numba"), 18),
        cell(race.ratio("NumPy", "ours"), 25, ".0f"),
    )


# ---- whole solves ----


def scipy_minimize(fun, x0, jac=True):
    from scipy.optimize import minimize

    options = {"gtol": 1e-6, "ftol": 0.0, "maxiter": 15_000, "maxfun": 10**9}
    return minimize(fun, x0, jac=jac, method="L-BFGS-B", options=options)


def solve_rows():
    from scipy.optimize import minimize

    sides = {
        "downslope": lambda: ds.minimize(rosenbrock, START, jac=True),
        "SciPy": lambda: scipy_minimize(rosenbrock, START),
        "SciPy, default ftol": lambda: minimize(rosenbrock, START, jac=True, method="L-BFGS-B"),
        "the callback alone": lambda: [rosenbrock(START) for _ in range(45)],
    }
    for name in ("downslope", "SciPy", "SciPy, default ftol"):
        res = sides[name]()
        assert np.allclose(res.x, 1, atol=1e-4), name
        print(f"{name}: {res.nfev} evaluations, f = {res.fun:.1e}")
    try:
        import pyensmallen

        def objective(x, gradient):
            f, gradient[:] = rosenbrock(x)
            return f

        solver = pyensmallen.L_BFGS()
        assert np.allclose(solver.optimize(objective, START), 1, atol=1e-4)
        sides["pyensmallen"] = lambda: solver.optimize(objective, START)
    except ModuleNotFoundError:
        pass
    race = Race(sides)
    print("\nL-BFGS on two-dimensional Rosenbrock, a Python function: microseconds a solve\n")
    print(f"{'':<20}  time   downslope is faster")
    for name in race.seconds:
        print(f"{name:<20}{cell(race.us(name), 6, '.0f')}{cell(race.ratio(name, 'downslope'), 21, '.1f', 'x')}")


# ---- second order ----

# SciPy has no Newton method with a line search but by conjugate gradients.
NAMESAKES = {"newton": "newton-cg"} | {name: name for name in ("newton-cg", "trust-exact", "trust-ncg", "dogleg")}


class Plane:
    """Two-dimensional Rosenbrock in plain Python, which costs least."""

    fun = staticmethod(lambda x: rosenbrock(x)[0])
    grad = staticmethod(lambda x: rosenbrock(x)[1])

    @staticmethod
    def hess(x):
        a, b = x[0], x[1]
        return np.array([[1200 * a * a - 400 * b + 2, -400 * a], [-400 * a, 200.0]])


class Bowl:
    """x.Ax/2 + sum(x^4), with a dense and positive definite A."""

    def __init__(self, n):
        M = np.random.default_rng(0).standard_normal((n, n))
        self.A = M @ M.T / n + np.eye(n)

    def fun(self, x):
        return x @ self.A @ x / 2 + (x**4).sum()

    def grad(self, x):
        return self.A @ x + 4 * x**3

    def hess(self, x):
        return self.A + np.diag(12 * x**2)


class Chain:
    """Rosenbrock's function of many variables; its Hessian is indefinite at the start, which SciPy's dogleg refuses."""

    def __init__(self):
        from scipy import optimize

        self.fun, self.grad, self.hess = optimize.rosen, optimize.rosen_der, optimize.rosen_hess


def second_order_solvers(problem, x0, method, gtol=1e-6):
    """One of ours and one of SciPy's, by names; each returns its result. As many iterations as SciPy allows."""
    from scipy.optimize import minimize

    both = {"maxiter": 200 * len(x0)}

    def ours():
        options = both | {"gtol": gtol}
        return ds.minimize(problem.fun, x0, method=method, jac=problem.grad, hess=problem.hess, options=options)

    namesake = NAMESAKES[method]
    options = both | ({"xtol": 1e-8} if namesake == "newton-cg" else {"gtol": gtol})

    def theirs():
        return minimize(problem.fun, x0, method=namesake, jac=problem.grad, hess=problem.hess, options=options)

    return {"ours": ours, "SciPy": theirs}


def second_order_rows():
    print("Second order, Python functions: microseconds a solve, Hessians, and times faster than SciPy's namesake\n")
    print(f"{'':<24}{'method':<13}   ours    SciPy   faster   (min)   Hessians: ours   SciPy")
    cases = {
        "Rosenbrock, n = 2": (Plane(), START),
        "quartic bowl, n = 200": (Bowl(200), np.full(200, 1.5)),
        "Rosenbrock, n = 200": (Chain(), np.tile([1.3, 0.7, 0.8, 1.9, 1.2], 40)),
    }
    for title, (problem, x0) in cases.items():
        for method in NAMESAKES:
            sides = second_order_solvers(problem, x0, method)
            ours, theirs = sides["ours"](), sides["SciPy"]()
            assert ours.success and ours.fun <= 1e-6, (title, method)
            if not (theirs.success and theirs.fun <= 1e-6):
                del sides["SciPy"]
                theirs.nhev = np.nan
            race = Race(sides)
            least = {name: min(times) for name, times in race.seconds.items()}
            print(
                f"{title:<24}{method:<13}",
                *(cell(race.us(name), 8, ".0f") for name in ("ours", "SciPy")),
                cell(race.ratio("SciPy", "ours"), 7, ".1f", "x"),
                cell(least.get("SciPy", np.nan) / least["ours"], 6, ".1f", "x"),
                cell(ours.nhev, 16, ".0f"),
                cell(theirs.nhev, 7, ".0f"),
            )
            title = ""


# ---- solved problems ----


ROTATIONS = 3


def problem_rows():
    """Over the 18 of More, Garbow & Hillstrom from three starts each, as they are and turned and rescaled at random."""
    names = ("l-bfgs", *NAMESAKES)
    solved = {method: [0] * 4 for method in names}
    evaluations = []
    for number, name in enumerate(MORE_GARBOW_HILLSTROM):
        seeds = [None, *range(ROTATIONS * number, ROTATIONS * (number + 1))]
        for seed, factor, method in itertools.product(seeds, (1, 10, 100), names):
            problem = PROBLEMS[name] if seed is None else rescaled(PROBLEMS[name], seed)
            sides = problem_solvers(problem, factor * problem.x0, method)
            found = [evaluations_until_solved(problem, side) for side in sides]
            for side in (0, 1):
                solved[method][2 * (seed is not None) + side] += found[side] is not None
            if method == "l-bfgs" and seed is None and None not in found:
                evaluations.append(found[0] / found[1])
    print("Solved of the 18 problems of More, Garbow & Hillstrom from x0, 10 x0 and 100 x0\n")
    print(f"{'':<14}{'as they are, of 54':^26}{f'rotated, rescaled, of {54 * ROTATIONS}':^34}")
    print(f"{'':<14}" + 2 * "        downslope   SciPy")
    for method, counts in solved.items():
        print(f"{method:<14}{counts[0]:>17}{counts[1]:>8}{counts[2]:>17}{counts[3]:>8}")
    print("\n(SciPy's newton-cg stands beside newton, too)")
    print(f"evaluations of l-bfgs, of SciPy's, where both solve: median {np.median(evaluations):.2f}")


def problem_solvers(problem, x0, method):
    if method == "l-bfgs":
        return (
            lambda: ds.minimize(problem.fun, x0, jac=problem.grad),
            lambda: scipy_minimize(problem.fun, x0, jac=problem.grad),
        )
    return second_order_solvers(problem, x0, method, gtol=1e-8).values()


def evaluations_until_solved(problem, solver):
    """How many it takes, or None if it does not find the minimum."""
    with np.errstate(all="ignore"):
        try:
            res = solver()
        except (ValueError, np.linalg.LinAlgError):  # SciPy's, for an indefinite or infinite Hessian
            return None
    return res.nfev if res.fun - problem.minimum <= 1e-8 * max(1, abs(problem.minimum)) else None


# ---- many ----


def many_rows(count=20_000, looped=200):
    """The loop over SciPy is timed on the first starts only, and scaled."""
    starts = np.random.default_rng(0).uniform(-2, 2, (count, 2))
    fun = compiled_rosenbrock()
    compiled, vectorized = ds.minimize_many(fun, starts), ds.minimize_many(rosenbrock_rows, starts, vectorized=True)
    assert (compiled.x == vectorized.x).all() and np.abs(compiled.x - 1).max() < 1e-4
    assert all(np.allclose(scipy_minimize(rosenbrock, x0).x, 1, atol=1e-4) for x0 in starts[:looped])
    race = Race(
        {
            "compiled": lambda: ds.minimize_many(fun, starts),
            "on one thread": lambda: ds.minimize_many(fun, starts),
            "vectorized": lambda: ds.minimize_many(rosenbrock_rows, starts, vectorized=True),
            "SciPy": lambda: [scipy_minimize(rosenbrock, x0) for x0 in starts[:looped]],
        },
        threads={"on one thread": 1},
        pause=0.3,  # until the threads of SciPy's BLAS sleep
    )
    print(f"L-BFGS from {count:,} starts of two-dimensional Rosenbrock: microseconds a problem\n")
    print(f"{'':<14}     time   times faster than a loop over SciPy")
    for name in race.seconds:
        share = looped if name == "SciPy" else count
        faster = race.ratio("SciPy", name) * share / looped
        print(f"{name:<14}{cell(race.us(name) / share, 9)}{cell(faster, 20, '.0f', 'x')}")


MEASURE = """
import resource, sys, numpy as np, downslope as ds
sys.path.insert(0, {folder!r})
from minimize import compiled_rosenbrock
fun, rows = compiled_rosenbrock(), {rows}
ds.minimize_many(fun, np.zeros((10, 2)))
starts = np.random.default_rng(0).uniform(-2, 2, (rows, 2))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
res = ds.minimize_many(fun, starts)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
shown = starts.nbytes + sum(a.nbytes for a in res.values() if isinstance(a, np.ndarray))
print(grown * 1024, shown)
"""


def memory_rows():
    print("Memory of a compiled minimize_many: what the process grew by, and its copy of the starts and its results\n")
    print("     rows    grew by, MB    starts and results, MB")
    folder = __file__.rpartition("/")[0] or "."
    for rows in (10_000, 100_000, 1_000_000):
        code = MEASURE.format(folder=folder, rows=rows)
        output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        grown, shown = map(int, output.split())
        print(f"{rows:>9,}{grown / 1e6:>15.1f}{shown / 1e6:>26.1f}")


PARTS = {
    "loop": loop_rows,
    "solve": solve_rows,
    "second-order": second_order_rows,
    "problems": problem_rows,
    "many": many_rows,
    "memory": memory_rows,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    names = parser.parse_args().parts or PARTS
    ds.show_config()
    for name in names:
        print("\n")
        PARTS[name]()


if __name__ == "__main__":
    main()
