"""One ill-conditioned problem, minimized along the directions that each kind of curvature gives."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import downslope as ds

BUMPS = 40, 30  # of the surface along its two axes: 1,200 coefficients
POINTS_A_BUMP = 3  # along each axis
WIDTH = 0.7  # of a bump, over the distance of neighbours: what overlaps is ill-conditioned
SEEN = 0.7  # the share of points that were measured
NOISE, OUTLIERS, OUTLIER_NOISE = 0.1, 0.1, 5.0
HUBER = 0.5  # residuals larger than this count as absolute values instead of squares
RIDGE = 1e-6
RANK = 50

REACHED = 1e-6  # the share of the way to the minimum that may be left where iterations are counted
DRAWN = 1e-9  # and where curves end


class Surface:
    """Fit a surface to points of a grid with holes and outliers.

    ::

        f(W) = mean over measured points of h^2 (sqrt(1 + (r/h)^2) - 1)  +  ridge/2 sum of W^2,    r = X W Y^T - Z

    The rows of X and Y hold what the bumps along each axis are at its points. The curvature is that of Gauss and
    Newton, with the weight 1/sqrt(1 + (r/h)^2) on each measured point. Were the weights a product of a function of the
    row and one of the column, it would be a Kronecker product; with holes and outliers it almost is.
    """

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.X, self.Y = (_bumps(count) for count in BUMPS)
        shape = len(self.X), len(self.Y)
        x, y = np.linspace(-3, 3, shape[0])[:, None], np.linspace(-3, 3, shape[1])
        noise = np.where(rng.random(shape) < OUTLIERS, OUTLIER_NOISE, NOISE)
        self.Z = _peaks(x, y) + noise * rng.standard_normal(shape)
        seen = rng.random(shape) < SEEN
        self.seen = seen / seen.sum()  # weights of the mean

    @property
    def size(self):
        """How many coefficients there are."""
        return self.X.shape[1] * self.Y.shape[1]

    def loss_and_grad(self, w):
        """The value at the coefficients `w`, flat, and its gradient."""
        r = self._residuals(w)
        root = np.sqrt(1 + r * r)
        loss = HUBER**2 * np.sum(self.seen * (root - 1)) + RIDGE / 2 * (w @ w)
        return loss, (self.X.T @ (HUBER * self.seen * r / root) @ self.Y).ravel() + RIDGE * w

    def _residuals(self, w):
        return (self.X @ w.reshape(BUMPS) @ self.Y.T - self.Z) / HUBER

    def weights(self, w):
        """Of the points, in the curvature at `w`."""
        r = self._residuals(w)
        return self.seen / np.sqrt(1 + r * r)

    # What the curvature without the ridge is made of, from these weights. The ridge is the damping.

    def ones(self, weights):
        """Not of the curvature: the gradient itself is the direction."""
        return (np.ones(self.size),)

    def diagonal(self, weights):
        return (((self.X * self.X).T @ weights @ (self.Y * self.Y)).ravel(),)

    def blocks(self, weights):
        """One for each bump along X, whose coefficients lie side by side."""
        return ((self.Y.T * ((self.X * self.X).T @ weights)[:, None, :]) @ self.Y,)

    def factors(self, weights):
        """With the product of the weights' margins for the weights."""
        rows, columns = weights.sum(axis=1), weights.sum(axis=0)
        return (self.X.T * rows) @ self.X, (self.Y.T * (columns / columns.sum())) @ self.Y

    def low_rank(self, weights):
        """Nystroem's approximation from products with random vectors, and what it leaves of the diagonal."""
        (diagonal,) = self.diagonal(weights)
        start = np.random.default_rng(0).standard_normal((RANK, *BUMPS))
        products = self.X.T @ (weights * (self.X @ start @ self.Y.T)) @ self.Y
        start, products = start.reshape(RANK, -1), products.reshape(RANK, -1)
        tiny = 1e-9 * np.linalg.norm(products) / np.linalg.norm(start)
        inner = start @ (products + tiny * start).T
        U = np.linalg.solve(np.linalg.cholesky((inner + inner.T) / 2), products).T
        return U, np.maximum(diagonal - np.sum(U * U, axis=1), 0)

    def full(self, weights):
        (_, a), (_, b) = self.X.shape, self.Y.shape
        XX = (self.X[:, :, None] * self.X[:, None, :]).reshape(len(self.X), -1)
        YY = (self.Y[:, :, None] * self.Y[:, None, :]).reshape(len(self.Y), -1)
        products = (XX.T @ weights @ YY).reshape(a, a, b, b)
        return (products.transpose(0, 2, 1, 3).reshape(a * b, a * b),)


def _bumps(count):
    points = np.linspace(0, count - 1, count * POINTS_A_BUMP)
    return np.exp(-0.5 * ((points[:, None] - np.arange(count)) / WIDTH) ** 2)


def _peaks(x, y):
    """Three hills and three hollows."""
    return (
        3 * (1 - x) ** 2 * np.exp(-(x**2) - (y + 1) ** 2)
        - 10 * (x / 5 - x**3 - y**5) * np.exp(-(x**2) - y**2)
        - np.exp(-((x + 1) ** 2) - y**2) / 3
    )


@dataclass(frozen=True)
class Structure:
    """A kind of curvature, and the learning rates that suit its directions.

    Attributes
    ----------
    make : type
        Of `downslope.curvature`.
    parts : callable
        ``parts(surface, weights)`` is what it is made of.
    lr : float
        Without momentum; the best of 1, 0.5, 0.2, 0.1 and so on.
    lr_momentum, momentum : float
        With momentum, likewise.
    """

    make: type
    parts: Callable
    lr: float
    lr_momentum: float
    momentum: float


STRUCTURES = {
    "none": Structure(ds.curvature.Diagonal, Surface.ones, 200.0, 500.0, 0.9),
    "diagonal": Structure(ds.curvature.Diagonal, Surface.diagonal, 0.2, 0.5, 0.9),
    "low-rank": Structure(ds.curvature.LowRank, Surface.low_rank, 0.2, 0.5, 0.9),
    "block-diagonal": Structure(ds.curvature.BlockDiagonal, Surface.blocks, 0.5, 0.5, 0.8),
    "Kronecker": Structure(ds.curvature.Kronecker, Surface.factors, 1.0, 1.0, 0.2),
    "full": Structure(ds.curvature.Dense, Surface.full, 1.0, 1.0, 0.2),
}


@dataclass(frozen=True)
class Descent:
    """What one kind of curvature did.

    Attributes
    ----------
    losses, seconds : ndarray
        At the start and after each iteration.
    nbytes : int
        Of the arrays that the curvature was made of.
    """

    losses: np.ndarray
    seconds: np.ndarray
    nbytes: int

    def iterations_to(self, loss):
        """After how many iterations the loss was as low as this, or None."""
        (low,) = np.nonzero(self.losses <= loss)
        return int(low[0]) if len(low) else None

    @property
    def ms(self):
        """The median milliseconds of an iteration."""
        return 1e3 * np.median(np.diff(self.seconds))


def descend(surface, structure, *, momentum, iterations, until=-np.inf, on_iteration=lambda: None):
    """Go from zero along ``C.solve(gradient, damping)``, which is given to `SGD` as the gradient.

    Parameters
    ----------
    surface : Surface
    structure : Structure
    momentum : bool
    iterations : int
        At most.
    until : float
        It ends where the loss is as low as this.
    on_iteration : callable
        Called after every iteration.

    Returns
    -------
    Descent
    """
    w = np.zeros(surface.size)
    if momentum:
        opt = ds.SGD(w, lr=structure.lr_momentum, momentum=structure.momentum)
    else:
        opt = ds.SGD(w, lr=structure.lr)
    loss, grad = surface.loss_and_grad(w)
    losses, seconds, nbytes = [loss], [0.0], 0
    start = time.perf_counter()
    while len(losses) <= iterations and losses[-1] > until:
        parts = structure.parts(surface, surface.weights(w))
        opt.step(structure.make(*parts).solve(grad, damping=RIDGE))
        loss, grad = surface.loss_and_grad(w)
        losses.append(loss)
        seconds.append(time.perf_counter() - start)
        nbytes = sum(part.nbytes for part in parts)
        on_iteration()
    return Descent(np.array(losses), np.array(seconds), nbytes)


def least_loss(surface):
    """The minimum, to rounding: along Kronecker-factored directions, a hundred iterations are far more than enough."""
    return descend(surface, STRUCTURES["Kronecker"], momentum=False, iterations=100).losses.min()
