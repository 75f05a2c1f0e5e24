"""Least squares against SciPy, side by side in one process.

Run as ``python benchmarks/least_squares.py``, or with the names of some parts: many, problems. Needs SciPy and a C
compiler. Results are compared before anything is timed.
"""

import argparse
import ctypes
import itertools
import subprocess
import tempfile

import numpy as np
from scipy.optimize import least_squares
from side_by_side import Race, cell

import downslope as ds
from downslope.lab.problems import MORE_GARBOW_HILLSTROM, PROBLEMS, rescaled

POINTS = 50
TIMES = np.linspace(0, 4, POINTS)

# a exp(-b t) + c, with its Jacobian: as residuals, whose data are times and observations, and as a model.
SOURCE = """
#include <math.h>
static void decay(int m, const double *p, const double *t, double *e, double *values, double *jac) {
    for (int i = 0; i < m; i++) e[i] = exp(-p[1] * t[i]);
    for (int i = 0; i < m; i++) {
        values[i] = p[0] * e[i] + p[2];
        jac[3 * i] = e[i], jac[3 * i + 1] = -p[0] * t[i] * e[i], jac[3 * i + 2] = 1;
    }
}
void model(int m, int n, const double *p, double *values, double *jac, void *times) {
    double e[m];
    decay(m, p, times, e, values, jac);
}
void residuals(int m, int n, const double *p, double *r, double *jac, void *row) {
    const double *t = row, *y = t + m;
    double e[m];
    decay(m, p, t, e, r, jac);
    for (int i = 0; i < m; i++) r[i] -= y[i];
}
"""


def compiled_functions():
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/decay.so"
        flags = ["-O3", "-march=native", "-ffast-math", "-shared", "-fPIC"]
        subprocess.run(["cc", *flags, "-x", "c", "-", "-o", path, "-lm"], input=SOURCE, text=True, check=True)
        library = ctypes.CDLL(path)
    doubles = ctypes.POINTER(ctypes.c_double)
    for function in (library.residuals, library.model):
        function.restype = None
        function.argtypes = [ctypes.c_int, ctypes.c_int, doubles, doubles, doubles, ctypes.c_void_p]
    return library.residuals, library.model


def scipy_fit(y):
    def fun(p):
        return p[0] * np.exp(-p[1] * TIMES) + p[2] - y

    def jac(p):
        e = np.exp(-p[1] * TIMES)
        return np.stack([e, -p[0] * TIMES * e, np.ones(POINTS)], axis=1)

    return least_squares(fun, START, jac, method="lm", x_scale="jac", ftol=1e-10, xtol=1e-10, gtol=1e-10).x


START = np.array([1.0, 1.0, 0.0])


def many_rows(count=20_000, looped=500):
    """The loop over SciPy is timed on the first fits only, and scaled."""
    rng = np.random.default_rng(0)
    true = rng.uniform([1, 0.5, -1], [5, 3, 1], (count, 3))
    Y = true[:, :1] * np.exp(-true[:, 1:2] * TIMES) + true[:, 2:] + 0.05 * rng.standard_normal((count, POINTS))
    rows = np.hstack([np.broadcast_to(TIMES, Y.shape), Y])
    starts = np.tile(START, (count, 1))
    residuals, model = compiled_functions()

    def ours():
        return ds.least_squares_many(residuals, starts, data=rows, n_residuals=POINTS)

    res, (popt, _) = ours(), ds.curve_fit_many(model, TIMES, Y, START)
    assert res.success.all() and np.allclose(popt, res.x, rtol=1e-9, atol=1e-9)
    looked_up = np.array([scipy_fit(y) for y in Y[:looped]])
    differ = np.abs((res.x[:looped] - looked_up) / np.maximum(1, np.abs(looked_up))).max()
    assert differ < 1e-8, differ
    race = Race(
        {
            "least_squares_many": ours,
            "on one thread": ours,
            "curve_fit_many": lambda: ds.curve_fit_many(model, TIMES, Y, START),
            "SciPy": lambda: [scipy_fit(y) for y in Y[:looped]],
        },
        threads={"on one thread": 1},
    )
    print(f"{count:,} fits of a exp(-b t) + c to {POINTS} points, compiled: microseconds a fit")
    print(f"(the largest difference from SciPy is {differ:.0e}, {res.nfev.mean():.1f} evaluations a fit)\n")
    print(f"{'':<20}     time   times faster than a loop over SciPy")
    for name in race.seconds:
        share = looped if name == "SciPy" else count
        faster = race.ratio("SciPy", name) * share / looped
        print(f"{name:<20}{cell(race.us(name) / share, 9)}{cell(faster, 20, '.0f', 'x')}")


ROTATIONS = 5


def problem_rows():
    """Over the 18 of More, Garbow & Hillstrom from three starts each, as they are and turned and rescaled at random."""
    print("Solved of the 18 problems of More, Garbow & Hillstrom from x0, 10 x0 and 100 x0\n")
    print(f"{'':<14}{'as they are, of 54':^29}{f'rotated, rescaled, of {54 * ROTATIONS}':^29}")
    print(f"{'':<14}" + 2 * "  exact Jacobian  differences")
    for side in ("SciPy", "lm", "dogleg", "gauss-newton"):
        solved = [0] * 4
        for number, name in enumerate(MORE_GARBOW_HILLSTROM):
            seeds = [None, *range(ROTATIONS * number, ROTATIONS * (number + 1))]
            for seed, factor in itertools.product(seeds, (1, 10, 100)):
                problem = PROBLEMS[name] if seed is None else rescaled(PROBLEMS[name], seed)
                for i, options in enumerate(({"jac": problem.jac}, {})):
                    solved[2 * (seed is not None) + i] += finds(side, problem, factor * problem.x0, options)
        print(f"{side:<14}{solved[0]:>16}{solved[1]:>13}{solved[2]:>16}{solved[3]:>13}")


def finds(side, problem, x0, options):
    with np.errstate(all="ignore"):
        try:
            if side == "SciPy":
                tolerances = dict.fromkeys(("ftol", "xtol", "gtol"), 1e-10)
                x = least_squares(problem.residuals, x0, method="lm", x_scale="jac", **tolerances, **options).x
            else:
                x = ds.least_squares(problem.residuals, x0, method=side, **options).x
        except ValueError:  # SciPy's, where residuals are not finite at x0
            return False
        return bool(problem.fun(x) - problem.minimum <= 1e-8 * max(1, abs(problem.minimum)))


PARTS = {"many": many_rows, "problems": problem_rows}


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
