"""The picture of the curvatures: how far above the minimum, against iterations and against time."""

from matplotlib.figure import Figure

from downslope.lab.surface import DRAWN

# Of Okabe and Ito's colours, for every kind of colour vision.
COLOURS = ["#999999", "#E69F00", "#CC79A7", "#56B4E9", "#009E73", "#000000"]


def draw(descents, least, path, title):
    """Save a PNG of ``descents``, a mapping from structure to a pair without and with momentum, to ``path``.

    Parameters
    ----------
    descents : dict
    least : float
        The minimum.
    path : Path
    title : str
    """
    figure = Figure(figsize=(11, 5), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12)
    figure.suptitle(title, fontsize=12)
    by_iterations, by_time = figure.subplots(1, 2, sharey=True)
    for colour, (structure, pair) in zip(COLOURS, descents.items()):
        for descent, dashes, label in zip(pair, ("-", (0, (4, 1.5))), (structure, None)):
            gaps = descent.losses[1:] - least
            line = {"color": colour, "linestyle": dashes, "linewidth": 1.6, "label": label}
            by_iterations.plot(range(1, len(gaps) + 1), gaps, **line)
            by_time.plot(descent.seconds[1:], gaps, **line)
    by_iterations.set(xlabel="iterations", ylabel="value above the minimum")
    by_time.set(xlabel="seconds")
    for axes in (by_iterations, by_time):
        axes.set(xscale="log", yscale="log")
        axes.grid(color="#dddddd", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    first = next(iter(descents.values()))[0].losses[0] - least
    by_iterations.set_ylim(DRAWN * first, 3 * first)  # a curve that goes up leaves through the top
    handles, labels = by_iterations.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    by_time.annotate("dashed: with momentum", (0.98, 0.98), xycoords="axes fraction", ha="right", va="top", fontsize=9)
    figure.savefig(path, dpi=200, format="png")
