"""The picture of low-precision state: losses, and how far they are from float32's, seeds as bands."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from downslope.lab.plot_race import scale_losses

# Of Okabe and Ito's colours, for every kind of colour vision; the lines are thinner and their dashes sparser the later
# they are drawn, so that curves that lie on each other are all seen.
STYLES = {
    "float32": {"color": "#000000", "linewidth": 2.6},
    "bfloat16": {"color": "#56B4E9", "linewidth": 1.7, "linestyle": (0, (5, 2))},
    "uint8": {"color": "#D55E00", "linewidth": 1.4, "linestyle": (0, (2, 2))},
}
RANGE = "range of float32's seeds (thin lines: of the others')"


def draw(panels, path, title):
    """Save a PNG of ``panels`` to ``path``.

    Parameters
    ----------
    panels : list of dict
        ``title``, ``xlabel``, ``x`` and ``curves``: a mapping from kind of state to a list of curves, one a seed.
    path : Path
    title : str
    """
    figure = Figure(figsize=(4.4 * len(panels), 6.8), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
    figure.suptitle(title, fontsize=12, parse_math=False)
    upper, lower = figure.subplots(2, len(panels), squeeze=False, sharex="col")
    for panel, losses, ratios in zip(panels, upper, lower):
        _draw_panel(losses, ratios, panel)
    upper[0].set_ylabel("loss")
    lower[0].set_ylabel("loss over the mean of float32's")
    entries = [axes.get_legend_handles_labels() for axes in (upper[0], lower[0])]
    handles, labels = (first + second for first, second in zip(*entries))
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    figure.savefig(path, dpi=200, format="png")


def _draw_panel(losses, ratios, panel):
    curves = {state: np.array([curve.losses for curve in runs]) for state, runs in panel["curves"].items()}
    base = curves["float32"].mean(axis=0)
    for state, values in curves.items():
        # On the first axes all bands lie on each other: one says it. On the others float32's is the noise to stay in.
        style, band = STYLES[state], np.array([values.min(axis=0), values.max(axis=0)])
        losses.plot(panel["x"], values.mean(axis=0), label=f"{state} state", **style)
        ratios.plot(panel["x"], values.mean(axis=0) / base - 1, **style)
        if state == "float32":
            losses.fill_between(panel["x"], *band, color="#bbbbbb", linewidth=0)
            ratios.fill_between(panel["x"], *(band / base - 1), color="#dddddd", linewidth=0, label=RANGE)
        else:
            for edge in band / base - 1:
                ratios.plot(panel["x"], edge, color=style["color"], linewidth=0.8)
    for axes in (losses, ratios):
        axes.grid(color="#dddddd", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    losses.set_title(panel["title"], fontsize=11)
    losses.set_xlim(panel["x"][0], panel["x"][-1])
    scale_losses(losses, np.concatenate(list(curves.values())))
    ratios.set_xlabel(panel["xlabel"])
    ratios.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ratios.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+g}%" if value else "equal"))
