"""What tests of the methods of the second order have in common."""

import numpy as np
import pytest

import downslope as ds
from downslope.lab.problems import PROBLEMS

METHODS = ("newton", "newton-cg", "trust-exact", "trust-ncg", "dogleg")
WITH_PRODUCTS = ("newton-cg", "trust-ncg")
TRUST_REGIONS = ("trust-exact", "trust-ncg", "dogleg")
ROSENBROCK = PROBLEMS["rosenbrock"]

all_methods = pytest.mark.parametrize("method", METHODS)


class Quadratic:
    """f(x) = b.x + x.Ax/2"""

    def __init__(self, A, b):
        self.A, self.b = np.array(A, float), np.array(b, float)

    def fun(self, x):
        return self.b @ x + x @ self.A @ x / 2

    def grad(self, x):
        return self.b + self.A @ x

    def hess(self, x):
        return self.A


def solve(problem, x0, method, **more):
    return ds.minimize(problem.fun, x0, method=method, jac=problem.grad, hess=problem.hess, **more)


def iterates(problem, x0, method, **more):
    seen = []
    res = solve(problem, x0, method, callback=seen.append, **more)
    return np.array([x0, *seen]), res


def random_quadratic(rng, eigenvalues):
    n = len(eigenvalues)
    Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    return Quadratic(Q * eigenvalues @ Q.T, rng.standard_normal(n)), Q


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
