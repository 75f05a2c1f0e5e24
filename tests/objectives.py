"""Objectives for tests of the loops; all forms of Rosenbrock's give the same bits."""

import ctypes
import subprocess

import numpy as np
from rule_cases import assert_same_bits

START = (-1.2, 1.0)


def rosenbrock(x, a=1.0, b=100.0):
    """Value and gradient of (a - x0)^2 + b (x1 - x0^2)^2."""
    r, s = a - x[0], x[1] - x[0] * x[0]
    return r * r + b * (s * s), np.array([-2 * r - 4 * b * s * x[0], 2 * b * s])


def value(x, a=1.0, b=100.0):
    return rosenbrock(x, a, b)[0]


def gradient(x, a=1.0, b=100.0):
    return rosenbrock(x, a, b)[1]


def square(x):
    return float(np.sum(x * x)), 2 * x


def waves(x):
    return float(np.sum(np.sin(3 * x) + x * x)), 3 * np.cos(3 * x) + 2 * x


def recording(fun, points):
    """The same function, which writes down where it is called."""

    def recorded(x, *args):
        points.append(x.copy())
        return fun(x, *args)

    return recorded


def rows(X, index, constants=None):
    """For points in rows; `constants` has a and b of each problem in a row."""
    a, b = (1.0, 100.0) if constants is None else constants[index].T
    f, G = rosenbrock(X.T, a, b)
    return f, G.T


SOURCE = r"""
#include <math.h>
#include <unistd.h>

double both(int n, const double *x, double *grad, void *user_data)
{
    const double *constants = user_data;
    double a = constants ? constants[0] : 1, b = constants ? constants[1] : 100;
    double r = a - x[0], s = x[1] - x[0] * x[0];
    grad[0] = -2 * r - 4 * b * s * x[0];
    grad[1] = 2 * b * s;
    return r * r + b * (s * s);
}

double value(int n, const double *x, void *user_data)
{
    double grad[2];
    return both(n, x, grad, user_data);
}

void gradient(int n, const double *x, double *grad, void *user_data)
{
    both(n, x, grad, user_data);
}

/* Counts in user_data[0], waits until user_data[1] is at least x[0], for ten seconds at most, and is done. */
double wait_for(int n, const double *x, double *grad, void *user_data)
{
    volatile double *numbers = user_data;
    numbers[0] += 1;
    for (int i = 0; numbers[1] < x[0]; i++) {
        if (i == 100000)
            return NAN;
        usleep(100);
    }
    grad[0] = 0;
    return x[0];
}

/* Never done. After user_data[0] calls, each takes a quarter of a millisecond. */
double endless(int n, const double *x, double *grad, void *user_data)
{
    double *calls_left = user_data;
    if (calls_left && --calls_left[0] < 0)
        usleep(250);
    for (int i = 0; i < n; i++)
        grad[i] = 1;
    return 0;
}

/* Never done: each step goes on by a millionth, and its small reduction is the one that the Jacobian promises. */
void endless_residuals(int m, int n, const double *x, double *r, double *jac, void *user_data)
{
    r[0] = 1e-6;
    r[1] = sqrt(1 + 1e-6 * x[0]);
    jac[0] = 1;
    jac[1] = 0;
}
"""


def compile_library(folder):
    """The functions above as a library of ctypes, with their types."""
    path = folder / "objectives.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-ffp-contract=off", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=SOURCE, text=True, check=True)
    library, doubles = ctypes.CDLL(str(path)), ctypes.POINTER(ctypes.c_double)
    for name in ("both", "value", "gradient", "wait_for", "endless"):
        function, outputs = getattr(library, name), [doubles] * (name != "value")
        function.argtypes = [ctypes.c_int, doubles, *outputs, ctypes.c_void_p]
        function.restype = None if name == "gradient" else ctypes.c_double
    library.endless_residuals.argtypes = [ctypes.c_int, ctypes.c_int, doubles, doubles, doubles, ctypes.c_void_p]
    library.endless_residuals.restype = None
    return library


def assert_same_results(actual, expected):
    """All entries of two results are equal, numbers by their bits; any NaN equals any NaN."""
    assert list(actual) == list(expected)
    for name, entry in actual.items():
        found, wanted = np.asarray(entry), np.asarray(expected[name])
        if found.dtype.kind == "f":
            assert_same_bits(found, wanted, name)
        else:
            assert found.dtype == wanted.dtype and np.array_equal(found, wanted), name
