"""Problems with known minima: the 18 of More, Garbow & Hillstrom, and the landscapes that pictures of optimizers use.

Each is one formula, which returns values and, as functions that share its subexpressions, the derivatives. Values and
gradients take complex points, too, so that a complex step can check them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import Polynomial, chebyshev


@dataclass(frozen=True)
class Problem:
    """A function of n variables to minimize, with what is known of its minimum.

    Attributes
    ----------
    name : str
    fun : callable
        ``fun(x)``, a float, for x of shape (n,). Where the formula holds for any n, so do `fun` and its derivatives.
    grad, hess : callable
        The gradient, of shape (n,), and the Hessian, (n, n), both exact.
    x0 : ndarray, (n,)
        The standard start, or one of ours where there is none; not to be written to.
    minimum : float
        The least value of `fun`; for `mccormick`, which has no least value, a local minimum.
    minimizers : ndarray, (k, n)
        Where it is attained, if not everywhere: symmetries and periods give some problems many more.
    source : str
    residuals, jac : callable or None
        For sums of squares, ``fun(x) = sum(residuals(x)**2)``: the residuals, (m,), and their Jacobian, (m, n).

    Examples
    --------
    >>> from downslope.lab.problems import PROBLEMS
    >>> rosenbrock = PROBLEMS["rosenbrock"]
    >>> print(rosenbrock.x0, f"{rosenbrock.fun(rosenbrock.x0):.6g}")
    [-1.2  1. ] 24.2
    >>> print(rosenbrock.minimizers[0], rosenbrock.grad(rosenbrock.minimizers[0]))
    [1. 1.] [0. 0.]
    """

    name: str
    fun: Callable
    grad: Callable
    hess: Callable
    x0: np.ndarray
    minimum: float
    minimizers: np.ndarray
    source: str
    residuals: Callable | None = None
    jac: Callable | None = None


PROBLEMS = {}


def _function(name, *, x0, minimum, minimizers, **facts):
    """Decorate ``formula(x)``, which returns f(x) and functions of no arguments: the gradient and the Hessian there."""
    x0, minimizers = np.array(x0, np.float64), np.array(minimizers, np.float64).reshape(-1, len(x0))
    for array in (x0, minimizers):
        array.flags.writeable = False

    def register(formula):
        def hess(x):
            H = formula(_vector(x))[2]()
            return (H + H.T) / 2  # some products of matrices are symmetric to rounding only

        PROBLEMS[name] = Problem(
            name,
            fun=lambda x: formula(_vector(x))[0],
            grad=lambda x: formula(_vector(x))[1](),
            hess=hess,
            x0=x0,
            minimum=float(minimum),
            minimizers=minimizers,
            **facts,
        )
        return formula

    return register


def _sum_of_squares(name, **facts):
    """Decorate ``formula(x)``, which returns r(x), ``jac()`` and ``curvature(w)``, the sum of w_i (Hessian of r_i)."""

    def register(formula):
        def function(x):
            r, jac, curvature = formula(x)

            def hess():
                J = jac()
                return 2 * (J.T @ J + curvature(r))

            return r @ r, lambda: 2 * (r @ jac()), hess

        residuals, jacobian = lambda x: formula(_vector(x))[0], lambda x: formula(_vector(x))[1]()
        _function(name, residuals=residuals, jac=jacobian, **facts)(function)
        return formula

    return register


def rescaled(problem, seed):
    """`problem` in other coordinates z: x = Q (s z), with a random rotation Q and random sizes s, 0.1 to 10.

    Parameters
    ----------
    problem : Problem
    seed : int
        Of Q and s.

    Returns
    -------
    Problem
        With the same values, residuals and minimum; start, minimizers and derivatives are those of z.

    Examples
    --------
    >>> from downslope.lab.problems import PROBLEMS, rescaled
    >>> beale = PROBLEMS["beale"]
    >>> turned = rescaled(beale, seed=0)
    >>> bool(np.isclose(turned.fun(turned.x0), beale.fun(beale.x0)))
    True
    """
    rng, n = np.random.default_rng(seed), len(problem.x0)
    Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    sizes = 10 ** rng.uniform(-1, 1, n)
    B = Q * sizes
    functions = {
        "fun": lambda z: problem.fun(B @ z),
        "grad": lambda z: problem.grad(B @ z) @ B,
        "hess": lambda z: B.T @ problem.hess(B @ z) @ B,
    }
    if problem.residuals is not None:
        functions |= {"residuals": lambda z: problem.residuals(B @ z), "jac": lambda z: problem.jac(B @ z) @ B}
    places = {"x0": problem.x0 @ Q / sizes, "minimizers": problem.minimizers @ Q / sizes}
    return replace(problem, **functions, **places)


def _vector(x):
    """Anything like an array as one of float64 or complex128."""
    return 1.0 * np.asarray(x)


def _symmetric(n, entries):
    """An (n, n) matrix from ``{(i, j): value}``, its lower or upper triangle, counted from 1; the others are zero."""
    matrix = np.zeros((n, n))
    for (i, j), value in entries.items():
        matrix[i - 1, j - 1] = matrix[j - 1, i - 1] = value
    return matrix


def _block_diagonal(rows, count):
    """Square blocks along the diagonal; their entries are scalars, or arrays with one for each of `count` blocks."""
    size, blocks = len(rows), np.arange(count)
    dtype = np.result_type(*(np.asarray(entry) for row in rows for entry in row))
    matrix = np.zeros((count, size, count, size), dtype)
    for i, row in enumerate(rows):
        for j, entry in enumerate(row):
            matrix[blocks, i, blocks, j] = entry
    return matrix.reshape(count * size, count * size)


# ---------------------------------------------------------------------------------------------------------------------
# The 18 for unconstrained minimization in More, Garbow & Hillstrom, "Testing unconstrained optimization software", ACM
# Transactions on Mathematical Software 7(1), 1981, in its order. Their starts and formulas are the paper's, with the
# sign that it misses in problem 11. Minima and minimizers without a closed form were computed in 50 digits.


def _more_garbow_hillstrom(name, number, **facts):
    return _sum_of_squares(name, source=f"More, Garbow & Hillstrom 1981, problem {number}", **facts)


@_more_garbow_hillstrom("helical-valley", 7, x0=[-1, 0, 0], minimum=0, minimizers=[1, 0, 0])
def _helical_valley(x):
    x1, x2, x3 = x
    rho = np.sqrt(x1**2 + x2**2)
    theta = np.sign(x2.real) / 4 if x1 == 0 else np.arctan(x2 / x1) / (2 * np.pi) + (0.5 if x1.real < 0 else 0)
    r = np.array([10 * (x3 - 10 * theta), 10 * (rho - 1), x3])

    def jac():
        a, b = 50 / (np.pi * rho**2), 10 / rho
        return np.array([[a * x2, -a * x1, 10], [b * x1, b * x2, 0], [0, 0, 1]])

    def curvature(w):
        a, b = w[0] * 50 / (np.pi * rho**4), w[1] * 10 / rho**3
        across = a * (x1**2 - x2**2) - b * x1 * x2
        return _symmetric(
            3, {(1, 1): -2 * a * x1 * x2 + b * x2**2, (1, 2): across, (2, 2): 2 * a * x1 * x2 + b * x1**2}
        )

    return r, jac, curvature


@_more_garbow_hillstrom(
    "biggs-exp6", 18, x0=[1, 2, 1, 1, 1, 1], minimum=0, minimizers=[[1, 10, 1, 5, 4, 3], [4, 10, 3, 5, 1, 1]]
)
def _biggs_exp6(x):
    x1, x2, x3, x4, x5, x6 = x
    t = np.arange(1, 14) / 10
    e1, e2, e5 = np.exp(-t * x1), np.exp(-t * x2), np.exp(-t * x5)
    r = x3 * e1 - x4 * e2 + x6 * e5 - (np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t))

    def jac():
        return np.transpose([-t * x3 * e1, t * x4 * e2, e1, -e2, -t * x6 * e5, e5])

    def curvature(w):
        first, second = w * t, w * t**2
        return _symmetric(
            6,
            {
                (1, 1): x3 * (second @ e1),
                (1, 3): -first @ e1,
                (2, 2): -x4 * (second @ e2),
                (2, 4): first @ e2,
                (5, 5): x6 * (second @ e5),
                (5, 6): -first @ e5,
            },
        )

    return r, jac, curvature


_GAUSSIAN_Y = np.array([9, 44, 175, 540, 1295, 2420, 3521, 3989, 3521, 2420, 1295, 540, 175, 44, 9]) / 1e4


@_more_garbow_hillstrom(
    "gaussian",
    9,
    x0=[0.4, 1, 0],
    minimum=1.127932769618648e-08,
    minimizers=[0.39895613783875666, 1.0000190844878056, 0],
)
def _gaussian(x):
    x1, x2, x3 = x
    d = (8 - np.arange(1, 16)) / 2 - x3
    e = np.exp(-x2 * d**2 / 2)
    r = x1 * e - _GAUSSIAN_Y

    def jac():
        return np.transpose([e, -x1 * d**2 / 2 * e, x1 * x2 * d * e])

    def curvature(w):
        w = w * e
        return _symmetric(
            3,
            {
                (1, 2): -w @ d**2 / 2,
                (1, 3): x2 * (w @ d),
                (2, 2): x1 * (w @ d**4) / 4,
                (2, 3): x1 * (w @ (d - x2 * d**3 / 2)),
                (3, 3): x1 * x2 * (w @ (x2 * d**2 - 1)),
            },
        )

    return r, jac, curvature


@_more_garbow_hillstrom(
    "powell-badly-scaled",
    3,
    x0=[0, 1],
    minimum=0,
    minimizers=[[1.0981593296998175e-05, 9.106146739866524], [9.106146739866524, 1.0981593296998175e-05]],
)
def _powell_badly_scaled(x):
    x1, x2 = x
    e1, e2 = np.exp(-x)
    r = np.array([1e4 * x1 * x2 - 1, e1 + e2 - 1.0001])
    return (
        r,
        lambda: np.array([[1e4 * x2, 1e4 * x1], [-e1, -e2]]),
        lambda w: np.array([[w[1] * e1, 1e4 * w[0]], [1e4 * w[0], w[1] * e2]]),
    )


@_more_garbow_hillstrom("box-3d", 12, x0=[0, 10, 20], minimum=0, minimizers=[[1, 10, 1], [10, 1, -1]])
def _box_3d(x):
    x1, x2, x3 = x
    t = np.arange(1, 11) / 10
    e1, e2, e3 = np.exp(-t * x1), np.exp(-t * x2), np.exp(-t) - np.exp(-10 * t)
    return (
        e1 - e2 - x3 * e3,
        lambda: np.transpose([-t * e1, t * e2, -e3]),
        lambda w: np.diag([w @ (t**2 * e1), -w @ (t**2 * e2), 0]),
    )


@_more_garbow_hillstrom("variably-dimensioned", 25, x0=1 - np.arange(1, 11) / 10, minimum=0, minimizers=np.ones(10))
def _variably_dimensioned(x):
    j = np.arange(1.0, len(x) + 1)
    s = j @ (x - 1)
    return (
        np.append(x - 1, [s, s**2]),
        lambda: np.vstack([np.eye(len(x)), j, 2 * s * j]),
        lambda w: 2 * w[-1] * np.outer(j, j),
    )


@_more_garbow_hillstrom(
    "watson",
    20,
    x0=np.zeros(9),
    minimum=1.39976013809902e-06,
    minimizers=[
        [
            -1.5307036521394342e-05,
            0.9997897039319483,
            0.014763963693556958,
            0.14634232829936222,
            1.0008211030047092,
            -2.617731140519015,
            4.104403164478857,
            -3.1436122785564424,
            1.0526264080101668,
        ]
    ],
)
def _watson(x):
    t, j = np.arange(1, 30)[:, None] / 29, np.arange(len(x))
    V, D = t**j, j * t ** np.maximum(j - 1, 0)
    first, second = np.eye(len(x))[:2]
    p = V @ x
    return (
        np.append(D @ x - p**2 - 1, [x[0], x[1] - x[0] ** 2 - 1]),
        lambda: np.vstack([D - 2 * p[:, None] * V, first, second - 2 * x[0] * first]),
        lambda w: -2 * (V.T @ (w[:29, None] * V) + w[30] * np.outer(first, first)),
    )


@_more_garbow_hillstrom(
    "penalty-1", 23, x0=np.arange(1, 11), minimum=7.087651467090369e-05, minimizers=np.full(10, 0.15812230111311634)
)
def _penalty_1(x):
    a = np.sqrt(1e-5)
    identity = np.eye(len(x))
    return (
        np.append(a * (x - 1), x @ x - 1 / 4),
        lambda: np.vstack([a * identity, 2 * x]),
        lambda w: 2 * w[-1] * identity,
    )


@_more_garbow_hillstrom(
    "penalty-2",
    24,
    x0=np.full(10, 0.5),
    minimum=0.00029366053745674594,
    minimizers=[
        0.1999836051978236,
        0.010350648471292297,
        0.019604934480438402,
        0.03208906722068565,
        0.049932677399641294,
        0.07651399515399361,
        0.11862407286950417,
        0.19214487233557667,
        0.34732058694184365,
        0.3691643741593508,
    ],
)
def _penalty_2(x):
    n, a = len(x), np.sqrt(1e-5)
    i = np.arange(1, n + 1)
    e, y = np.exp(x / 10), np.exp(i / 10)
    pairs, singles = e[1:] + e[:-1] - y[1:] - y[:-1], e[1:] - np.exp(-1 / 10)

    def jac():
        E = a / 10 * np.diag(e)
        return np.vstack([np.eye(n)[:1], E[1:] + E[:-1], E[1:], 2 * (n - i + 1) * x])

    def curvature(w):
        of_e = np.append(0, w[1:n] + w[n : 2 * n - 1]) + np.append(w[1:n], 0)
        return np.diag(of_e * a / 100 * e + w[-1] * 2 * (n - i + 1))

    return np.hstack([x[0] - 0.2, a * pairs, a * singles, (n - i + 1) @ x**2 - 1]), jac, curvature


@_more_garbow_hillstrom("brown-badly-scaled", 4, x0=[1, 1], minimum=0, minimizers=[1e6, 2e-6])
def _brown_badly_scaled(x):
    x1, x2 = x
    return (
        np.array([x1 - 1e6, x2 - 2e-6, x1 * x2 - 2]),
        lambda: np.array([[1, 0], [0, 1], [x2, x1]]),
        lambda w: np.array([[0, w[2]], [w[2], 0]]),
    )


@_more_garbow_hillstrom(
    "brown-dennis",
    16,
    x0=[25, 5, -5, -1],
    minimum=85822.20162635634,
    minimizers=[-11.594439904762165, 13.203630051207204, -0.40343948817685954, 0.2367787744557361],
)
def _brown_dennis(x):
    x1, x2, x3, x4 = x
    t = np.arange(1, 21) / 5
    one, zero = np.ones(20), np.zeros(20)
    A, B = np.transpose([one, t, zero, zero]), np.transpose([zero, zero, one, np.sin(t)])
    a, b = x1 + t * x2 - np.exp(t), x3 + x4 * np.sin(t) - np.cos(t)
    return (
        a**2 + b**2,
        lambda: 2 * (a[:, None] * A + b[:, None] * B),
        lambda w: 2 * (A.T @ (w[:, None] * A) + B.T @ (w[:, None] * B)),
    )


@_more_garbow_hillstrom("gulf", 11, x0=[5, 2.5, 0.15], minimum=0, minimizers=[50, 25, 1.5])
def _gulf(x):
    x1, x2, x3 = x
    t = np.arange(1, 100) / 100
    d = 25 + (-50 * np.log(t)) ** (2 / 3) - x2
    sign = np.sign(d.real)
    d = sign * d
    p = d**x3 / x1
    e = np.exp(-p)

    def jac_of_p():
        return np.transpose([-p / x1, -sign * x3 * p / d, p * np.log(d)])

    def curvature(w):
        w, log_d, dp = w * e, np.log(d), jac_of_p()
        d2p = {
            (1, 1): 2 * p / x1**2,
            (1, 2): sign * x3 * p / (d * x1),
            (1, 3): -p * log_d / x1,
            (2, 2): x3 * (x3 - 1) * p / d**2,
            (2, 3): -sign * p * (1 + x3 * log_d) / d,
            (3, 3): p * log_d**2,
        }
        return dp.T @ (w[:, None] * dp) - _symmetric(3, {ij: w @ value for ij, value in d2p.items()})

    return e - t, lambda: -e[:, None] * jac_of_p(), curvature


@_more_garbow_hillstrom("trigonometric", 26, x0=np.full(10, 1 / 10), minimum=0, minimizers=np.zeros(10))
def _trigonometric(x):
    i, cos, sin = np.arange(1, len(x) + 1), np.cos(x), np.sin(x)
    return (
        np.sum(1 - cos) + i * (1 - cos) - sin,
        lambda: sin + np.diag(i * sin - cos),
        lambda w: np.diag(w.sum() * cos + w * (i * cos + sin)),
    )


@_more_garbow_hillstrom("extended-rosenbrock", 21, x0=[-1.2, 1] * 5, minimum=0, minimizers=np.ones(10))
def _rosenbrock(x):
    odd, even = x[::2], x[1::2]
    return (
        np.transpose([10 * (even - odd**2), 1 - odd]).ravel(),
        lambda: _block_diagonal([[-20 * odd, 10], [-1, 0]], len(odd)),
        lambda w: np.diag(np.transpose([-20 * w[::2], 0 * odd]).ravel()),
    )


@_more_garbow_hillstrom("extended-powell-singular", 22, x0=[3, -1, 0, 1] * 3, minimum=0, minimizers=np.zeros(12))
def _powell_singular(x):
    a, b, c, d = x.reshape(-1, 4).T
    root5, root10 = np.sqrt([5, 10])
    bc, ad = 2 * (b - 2 * c), 2 * root10 * (a - d)

    def curvature(w):
        u, v = 2 * w[2::4], 2 * root10 * w[3::4]
        return _block_diagonal([[v, 0, 0, -v], [0, u, -2 * u, 0], [0, -2 * u, 4 * u, 0], [-v, 0, 0, v]], len(a))

    return (
        np.transpose([a + 10 * b, root5 * (c - d), (b - 2 * c) ** 2, root10 * (a - d) ** 2]).ravel(),
        lambda: _block_diagonal([[1, 10, 0, 0], [0, 0, root5, -root5], [0, bc, -2 * bc, 0], [ad, 0, 0, -ad]], len(a)),
        curvature,
    )


@_more_garbow_hillstrom("beale", 5, x0=[1, 1], minimum=0, minimizers=[3, 0.5])
def _beale(x):
    x1, x2 = x
    i = np.arange(1, 4)

    def curvature(w):
        across = w @ (i * x2 ** (i - 1))
        return np.array([[0, across], [across, x1 * (2 * w[1] + 6 * w[2] * x2)]])

    return (
        np.array([1.5, 2.25, 2.625]) - x1 * (1 - x2**i),
        lambda: np.transpose([x2**i - 1, x1 * i * x2 ** (i - 1)]),
        curvature,
    )


@_more_garbow_hillstrom("wood", 14, x0=[-3, -1, -3, -1], minimum=0, minimizers=[1, 1, 1, 1])
def _wood(x):
    x1, x2, x3, x4 = x
    root10, root90 = np.sqrt([10, 90])
    r = [10 * (x2 - x1**2), 1 - x1, root90 * (x4 - x3**2), 1 - x3, root10 * (x2 + x4 - 2), (x2 - x4) / root10]

    def jac():
        return np.array(
            [
                [-20 * x1, 10, 0, 0],
                [-1, 0, 0, 0],
                [0, 0, -2 * root90 * x3, root90],
                [0, 0, -1, 0],
                [0, root10, 0, root10],
                [0, 1 / root10, 0, -1 / root10],
            ]
        )

    return np.array(r), jac, lambda w: np.diag([-20 * w[0], 0, -2 * root90 * w[2], 0])


@_more_garbow_hillstrom(
    "chebyquad",
    35,
    x0=np.arange(1, 9) / 9,
    minimum=0.0035168737256779316,
    minimizers=[
        0.04315276015101663,
        0.1930908403841861,
        0.26632870689027294,
        0.5,
        0.5,
        0.7336712931097271,
        0.8069091596158139,
        0.9568472398489833,
    ],
)
def _chebyquad(x):
    # T_i is shifted to [0, 1]; its integral there is 0 for odd i and 1 / (1 - i^2) for even i.
    n, z = len(x), 2 * x - 1
    integrals = np.array([0 if i % 2 else 1 / (1 - i**2) for i in range(1, n + 1)])

    def derivative(order):
        """2^order T_i^(order)(z_j) / n in row j, column i."""
        coefficients = chebyshev.chebder(np.eye(n + 1), order)[:, 1:]
        return 2**order / n * (chebyshev.chebvander(z, n - order) @ coefficients)

    return (
        chebyshev.chebvander(z, n)[:, 1:].mean(axis=0) - integrals,
        lambda: derivative(1).T,
        lambda w: np.diag(derivative(2) @ w),
    )


MORE_GARBOW_HILLSTROM = tuple(PROBLEMS)


# ---------------------------------------------------------------------------------------------------------------------
# Landscapes in two dimensions. Most have no standard start; these are chosen so that the way down is worth looking at.

_sum_of_squares("rosenbrock", x0=[-1.2, 1], minimum=0, minimizers=[1, 1], source="Rosenbrock 1960")(_rosenbrock)


@_sum_of_squares(
    "himmelblau",
    x0=[0, 0],
    minimum=0,
    minimizers=[
        [-3.779310253377747, -3.2831859912861696],
        [-2.805118086952745, 3.131312518250573],
        [3, 2],
        [3.5844283403304917, -1.8481265269644036],
    ],
    source="Himmelblau 1972",
)
def _himmelblau(x):
    x1, x2 = x
    return (
        np.array([x1**2 + x2 - 11, x1 + x2**2 - 7]),
        lambda: np.array([[2 * x1, 1], [1, 2 * x2]]),
        lambda w: np.diag(2 * w),
    )


@_sum_of_squares("booth", x0=[-8, -6], minimum=0, minimizers=[1, 3], source="Jamil & Yang 2013")
def _booth(x):
    A = np.array([[1.0, 2.0], [2.0, 1.0]])
    return A @ x - [7, 5], lambda: A, lambda w: 0


def _quadratic(name, matrix, **facts):
    """f = x^T A x / 2."""
    A = np.array(matrix, np.float64)
    _function(name, minimum=0, minimizers=[0, 0], **facts)(lambda x: (x @ A @ x / 2, lambda: A @ x, lambda: A))


_quadratic("sphere", 2 * np.eye(2), x0=[-4, 3], source="De Jong 1975")
_quadratic("ill-conditioned", np.diag([1, 1000]), x0=[-4, 0.1], source="a quadratic with condition number 1,000")
_quadratic("matyas", [[0.52, -0.48], [-0.48, 0.52]], x0=[-8, 4], source="Matyas 1965; Jamil & Yang 2013")


@_function("three-hump-camel", x0=[-2, 2], minimum=0, minimizers=[0, 0], source="Dixon & Szego 1978")
def _three_hump_camel(x):
    x1, x2 = x
    return (
        2 * x1**2 - 1.05 * x1**4 + x1**6 / 6 + x1 * x2 + x2**2,
        lambda: np.array([4 * x1 - 4.2 * x1**3 + x1**5 + x2, x1 + 2 * x2]),
        lambda: np.array([[4 - 12.6 * x1**2 + 5 * x1**4, 1], [1, 2]]),
    )


@_function(
    "six-hump-camel",
    x0=[-1.5, 1],
    minimum=-1.0316284534898774,
    minimizers=[[0.08984201310031806, -0.7126564030207396], [-0.08984201310031806, 0.7126564030207396]],
    source="Dixon & Szego 1978",
)
def _six_hump_camel(x):
    x1, x2 = x
    return (
        4 * x1**2 - 2.1 * x1**4 + x1**6 / 3 + x1 * x2 - 4 * x2**2 + 4 * x2**4,
        lambda: np.array([8 * x1 - 8.4 * x1**3 + 2 * x1**5 + x2, x1 - 8 * x2 + 16 * x2**3]),
        lambda: np.array([[8 - 25.2 * x1**2 + 10 * x1**4, 1], [1, 48 * x2**2 - 8]]),
    )


@_function(
    "branin",
    x0=[2, 12],
    minimum=5 / (4 * np.pi),
    minimizers=[[-np.pi, 12.275], [np.pi, 2.275], [3 * np.pi, 2.475]],
    source="Branin 1972; Dixon & Szego 1978",
)
def _branin(x):
    x1, x2 = x
    b, c, s = 5.1 / (4 * np.pi**2), 5 / np.pi, 10 - 5 / (4 * np.pi)
    q, slope = x2 - b * x1**2 + c * x1 - 6, c - 2 * b * x1
    return (
        q**2 + s * np.cos(x1) + 10,
        lambda: np.array([2 * q * slope - s * np.sin(x1), 2 * q]),
        lambda: np.array([[2 * slope**2 - 4 * b * q - s * np.cos(x1), 2 * slope], [2 * slope, 2]]),
    )


@_function(
    "mccormick",
    x0=[3, 3],
    minimum=-np.sqrt(3) / 2 - np.pi / 3,
    minimizers=[0.5 - np.pi / 3, -0.5 - np.pi / 3],
    source="McCormick 1976",
)
def _mccormick(x):
    x1, x2 = x
    sin, cos = np.sin(x1 + x2), np.cos(x1 + x2)
    return (
        sin + (x1 - x2) ** 2 - 1.5 * x1 + 2.5 * x2 + 1,
        lambda: np.array([cos + 2 * (x1 - x2) - 1.5, cos - 2 * (x1 - x2) + 2.5]),
        lambda: np.array([[2 - sin, -2 - sin], [-2 - sin, 2 - sin]]),
    )


def _product(a, b):
    """A(u) B(v), its gradient and its Hessian in (u, v), from the values and first two derivatives of A and of B."""
    return (
        a[0] * b[0],
        np.array([a[1] * b[0], a[0] * b[1]]),
        np.array([[a[2] * b[0], a[1] * b[1]], [a[1] * b[1], a[0] * b[2]]]),
    )


# The two factors are polynomials of u = x1 + x2 and of v = 2 x1 - 3 x2. Each is here with its first two derivatives.
_GOLDSTEIN_PRICE = [
    [factor, factor.deriv(), factor.deriv(2)]
    for factor in (
        1 + Polynomial([1, 1]) ** 2 * Polynomial([19, -14, 3]),
        30 + Polynomial([0, 1]) ** 2 * Polynomial([18, -16, 3]),
    )
]


@_function("goldstein-price", x0=[-0.5, 0.5], minimum=3, minimizers=[0, -1], source="Goldstein & Price 1971")
def _goldstein_price(x):
    M = np.array([[1, 1], [2, -3]])
    f, grad, hess = _product(*([p(z) for p in factor] for factor, z in zip(_GOLDSTEIN_PRICE, M @ x)))
    return f, lambda: grad @ M, lambda: M.T @ hess @ M


@_function("easom", x0=[2, 2.5], minimum=-1, minimizers=[np.pi, np.pi], source="Easom 1990")
def _easom(x):
    d, cos, sin = x - np.pi, np.cos(x), np.sin(x)
    e = np.exp(-(d**2))
    derivatives = [cos * e, -(sin + 2 * d * cos) * e, (4 * d * sin + (4 * d**2 - 3) * cos) * e]
    f, grad, hess = _product(*np.transpose(derivatives))
    return -f, lambda: -grad, lambda: -hess


@_function("griewank", x0=[-7, 6], minimum=0, minimizers=[0, 0], source="Griewank 1981")
def _griewank(x):
    scale = 1 / np.sqrt([1, 2])
    cos, sin = np.cos(scale * x), np.sin(scale * x)
    f, grad, hess = _product(*np.transpose([cos, -scale * sin, -(scale**2) * cos]))
    return 1 + x @ x / 4000 - f, lambda: x / 2000 - grad, lambda: np.eye(2) / 2000 - hess


@_function("ackley", x0=[-2.3, 1.7], minimum=0, minimizers=[0, 0], source="Ackley 1987")
def _ackley(x):
    n = len(x)
    # There is a kink in the minimizer; this makes the gradient zero there, and the Hessian huge.
    rho = np.sqrt(x @ x / n) or 1e-300
    a, b = 20 * np.exp(-0.2 * rho), np.exp(np.cos(2 * np.pi * x).mean())
    grad_rho, grad_log_b = x / (n * rho), -2 * np.pi / n * np.sin(2 * np.pi * x)

    def hess():
        squares = np.outer(grad_rho, grad_rho)
        of_log_b = np.diag(-4 * np.pi**2 / n * np.cos(2 * np.pi * x)) + np.outer(grad_log_b, grad_log_b)
        return 0.2 * a * ((np.eye(n) / n - squares) / rho - 0.2 * squares) - b * of_log_b

    return 20 - a + np.e - b, lambda: 0.2 * a * grad_rho - b * grad_log_b, hess


def _separable(name, **facts):
    """Decorate ``formula(x)``, which returns the terms of a sum, one for each variable, and their two derivatives."""

    def register(formula):
        def function(x):
            terms, first, second = formula(x)
            return terms.sum(), lambda: first, lambda: np.diag(second)

        _function(name, **facts)(function)

    return register


@_separable(
    "styblinski-tang",
    x0=[0, 0],
    minimum=-78.33233140754282,
    minimizers=[-2.903534027771177, -2.903534027771177],
    source="Styblinski & Tang 1990",
)
def _styblinski_tang(x):
    return (x**4 - 16 * x**2 + 5 * x) / 2, 2 * x**3 - 16 * x + 2.5, 6 * x**2 - 16


@_separable("rastrigin", x0=[-3.6, 2.4], minimum=0, minimizers=[0, 0], source="Rastrigin 1974")
def _rastrigin(x):
    w = 2 * np.pi
    return x**2 + 10 * (1 - np.cos(w * x)), 2 * x + 10 * w * np.sin(w * x), 2 + 10 * w**2 * np.cos(w * x)


@_separable("levy", x0=[-6, 7], minimum=0, minimizers=[1, 1], source="Levy & Montalvo 1985; Laguna & Marti 2005")
def _levy(x):
    # sin^2(pi w1) + (w1 - 1)^2 [1 + 10 sin^2(pi w1 + 1)] + (w2 - 1)^2 [1 + sin^2(2 pi w2)], w = 1 + (x - 1) / 4
    v = (x - 1) / 4
    w, only_first, c, k = 1 + v, np.array([1, 0]), np.array([10, 1]), np.pi * np.array([1, 2])
    angle = k * w + [1, 0]
    s, sin, cos = 1 + c * np.sin(angle) ** 2, c * k * np.sin(2 * angle), c * k**2 * np.cos(2 * angle)
    return (
        only_first * np.sin(np.pi * w) ** 2 + v**2 * s,
        (only_first * np.pi * np.sin(2 * np.pi * w) + 2 * v * s + v**2 * sin) / 4,
        (only_first * 2 * np.pi**2 * np.cos(2 * np.pi * w) + 2 * s + 4 * v * sin + 2 * v**2 * cos) / 16,
    )
