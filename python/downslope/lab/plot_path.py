"""The picture of one descent in two dimensions: contours, the path, and the minimizers."""

import numpy as np
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

GRID = 160  # points along each axis
LEVELS = 24


def draw(problem, path, out, title):
    """Save a PNG to ``out``.

    Parameters
    ----------
    problem : Problem
        In two variables.
    path : ndarray, (k, 2)
        The start first.
    out : Path
    title : str
    """
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    axes = figure.subplots()
    low, high = view(path, problem.minimizers)
    xs, ys = np.linspace(low, high, GRID).T
    with np.errstate(all="ignore"):
        values = np.array([[problem.fun(np.array([x, y])) for x in xs] for y in ys])
    values = np.ma.masked_invalid(values)
    # Levels that share out the area show the valleys of any landscape, whatever the range of its values.
    levels = np.unique(np.quantile(values.compressed(), np.linspace(0, 1, LEVELS)))
    axes.contourf(xs, ys, values, levels=levels, norm=BoundaryNorm(levels, 256), cmap="Blues_r", alpha=0.6)
    axes.contour(xs, ys, values, levels=levels, colors="white", linewidths=0.4)
    axes.plot(*path.T, color="#D55E00", linewidth=1.2, marker=".", markersize=3, label=f"{len(path) - 1:,} iterations")
    axes.plot(*path[0], "o", color="black", markersize=6, label="start")
    axes.plot(*problem.minimizers.T, "*", color="black", markersize=10, label="minimum")
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel="x1", ylabel="x2")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(out, dpi=200, format="png")


def view(path, minimizers):
    """Two opposite corners of what to show: start, minimizers, and the path while it is near them."""
    marks = np.vstack([path[:1], minimizers])
    low, high = marks.min(axis=0), marks.max(axis=0)
    size = np.where(high > low, high - low, 1)
    reached = np.clip(path[np.isfinite(path).all(axis=1)], low - size, high + size)
    low, high = np.minimum(low, reached.min(axis=0)), np.maximum(high, reached.max(axis=0))
    return low - 0.15 * size, high + 0.15 * size
