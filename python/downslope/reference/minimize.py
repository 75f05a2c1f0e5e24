"""The loops of the second order with dense matrices: each step from an eigendecomposition or a dense solve."""

import numpy as np

from downslope.reference.curvature import smallest_shift, solve

# ---- steps: p, where the model g.p + p.Hp/2 is low ----


def exact_step(H, g, radius):
    """The minimum of the model in the ball: More & Sorensen 1983. In the basis of eigenvectors (H + lambda I) p = -g
    is a division; |p| falls in lambda, which bisection finds to rounding."""
    values, vectors = np.linalg.eigh(H)
    b = vectors.T @ g
    b[np.abs(b) <= 1e-14 * np.linalg.norm(g)] = 0  # but for rounding

    def coefficients(multiplier):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(b == 0, 0.0, -b / (values + multiplier))

    least = max(0.0, -values[0])
    if values[0] > 0 and np.linalg.norm(coefficients(0.0)) <= radius:
        return vectors @ coefficients(0.0)
    if np.linalg.norm(coefficients(least)) < radius:  # the hard case: on along the eigenvector of the least eigenvalue
        c = coefficients(least)
        c[0] = np.sqrt(radius**2 - c @ c)
        return vectors @ c
    low, high = least, least + np.linalg.norm(b) / radius
    while low < (middle := (low + high) / 2) < high:
        if np.linalg.norm(coefficients(middle)) > radius:
            low = middle
        else:
            high = middle
    return vectors @ coefficients(high)


def steihaug_step(H, g, radius):
    """Conjugate gradients up to the boundary, or until the residual is small (Steihaug 1983)."""
    p, r, length = np.zeros_like(g), g, np.linalg.norm(g)
    d = -r
    while True:
        curvature = d @ H @ d
        step = r @ r / curvature if curvature > 0 else np.inf
        if not np.linalg.norm(p + step * d) < radius:
            return p + to_boundary(p, d, radius) * d
        p, previous, r = p + step * d, r, r + step * H @ d
        if np.linalg.norm(r) <= min(0.5, np.sqrt(length)) * length:
            return p
        d = -r + (r @ r) / (previous @ previous) * d


def dogleg_step(H, g, radius):
    """Along -g to the model's minimum, on to Newton's point, for a positive definite H (Nocedal & Wright, 4.1)."""
    newton, cauchy = -np.linalg.solve(H, g), -(g @ g) / (g @ H @ g) * g
    if np.linalg.norm(newton) <= radius:
        return newton
    if np.linalg.norm(cauchy) >= radius:
        return -radius / np.linalg.norm(g) * g
    return cauchy + to_boundary(cauchy, newton - cauchy, radius) * (newton - cauchy)


def to_boundary(p, d, radius):
    """t > 0 with |p + t d| = radius."""
    return max(np.roots([d @ d, 2 * p @ d, p @ p - radius**2]).real)


def levenberg_marquardt_step(J, r, scale, radius):
    """The minimum of |r + J p| with |scale p| <= radius: that of its square's model, in scaled parameters."""
    J = J / scale
    return exact_step(J.T @ J, J.T @ r, radius) / scale


# ---- loops: their iterates, x0 first ----


def trust_region(step, fun, grad, hess, x0, iterations, radius=1.0, most=1e10):
    """Nocedal & Wright, algorithm 4.1, with the radius of a short or rejected step from that step's length."""
    points = [x0]
    while len(points) <= iterations:
        x = points[-1]
        g, H = grad(x), hess(x)
        p = step(H, g, radius)
        length = np.linalg.norm(p)
        ratio = (fun(x) - fun(x + p)) / -(g @ p + p @ H @ p / 2)
        if ratio < 0.25:
            radius = 0.25 * length
        elif ratio > 0.75 and length >= (1 - 1e-6) * radius:
            radius = min(2 * radius, most)
        if ratio > 0.15:
            points.append(x + p)
    return points


def newton(fun, grad, hess, x0, iterations):
    """Newton's steps, of Hessians shifted by twice the smallest shift, and a search for Wolfe's conditions.

    After a whole step, without a shift, that has halved the gradient, there is a second one of the same Hessian, times
    what has become of the curvature along the first.
    """
    points = [x0]
    while len(points) <= iterations:
        x = points[-1]
        H, g = hess(x), grad(x)
        shift = 2 * smallest_shift(H)
        p = solve(H, -g, damping=shift)
        step = wolfe_step(fun, grad, x, p)
        y = x + step * p
        if shift == 0 and step == 1 and 0 < np.linalg.norm(grad(y)) <= np.linalg.norm(g) / 2:
            change = max(0.2, 1 - 2 * (grad(y) @ p) / (g @ p))
            q = solve(H, -grad(y))
            y = y + wolfe_step(fun, grad, y, q, 1 / change) * q
        points.append(y)
    return points


def wolfe_step(fun, grad, x, p, step=1.0, decrease=1e-3, curvature=0.9):
    """A step for the strong Wolfe conditions, by doubling and bisection from `step`."""
    low, high = 0.0, np.inf
    slope = grad(x) @ p
    while True:
        there = grad(x + step * p) @ p
        if fun(x + step * p) > fun(x) + decrease * step * slope or there > -curvature * slope:
            high = step
        elif there < curvature * slope:
            low = step
        else:
            return step
        step = (low + high) / 2 if high < np.inf else 2 * step
