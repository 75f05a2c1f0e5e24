"""The race's picture: training loss against epochs and against seconds, a column for each model."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from downslope.lab.race import ENTRANTS

# Okabe and Ito's colours for every kind of colour vision, without their yellow, too pale for a line on white.
COLOURS = ["#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"]
DASHES = ["-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5))]
MARKERS = "os^vDPX<>*pHdh"
LABEL_GAP = 0.054  # between neighbouring labels, in heights of a panel


def draw(results, path, title):
    """Save a PNG of ``results``, a list of ``(model, laps)``, to ``path``."""
    figure = Figure(figsize=(5.4 * len(results), 9.2), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12)
    figure.suptitle(title, fontsize=11, parse_math=False)
    for (model, laps), column in zip(results, figure.subplots(2, len(results), squeeze=False).T):
        _draw_panel(column[0], model, laps)
        _draw_seconds(column[1], laps)
    figure.savefig(path, dpi=200, format="png")


def _draw_panel(axes, model, laps):
    losses = np.array([lap.losses for lap in laps])
    epochs = losses.shape[1] - 1
    axes.set_title(f"{model.name}, {model.size:,} parameters", fontsize=11)
    axes.set(xlabel="epoch", ylabel="training loss", xlim=(0, epochs))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    scale_losses(axes, losses)
    axes.grid(color="#dddddd", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)

    # Each curve is named at its end; the names are spread so as not to overlap, in the order of the losses.
    to_axes = axes.transData + axes.transAxes.inverted()
    last = np.where(np.isfinite(losses[:, -1]), losses[:, -1], axes.get_ylim()[1])
    ends = np.clip(to_axes.transform(np.column_stack([np.full(len(laps), epochs), last]))[:, 1], 0, 1)
    every = max(1, epochs // 5)
    outside = {"transform": axes.transAxes, "clip_on": False}
    for i, (lap, end, height) in enumerate(zip(laps, ends, _spread(ends, LABEL_GAP))):
        style = _style(lap.rule)
        axes.plot(lap.losses, markevery=(i * every // len(laps), every), **style)
        axes.plot([1, 1.06], [end, height], color=style["color"], linewidth=0.6, **outside)
        axes.plot([1.06, 1.11, 1.16], [height] * 3, markevery=[1], **style, **outside)
        axes.text(1.18, height, ENTRANTS[lap.rule], va="center", fontsize=9, transform=axes.transAxes)


def _draw_seconds(axes, laps):
    """The same curves against the time that they took, in logarithm, as methods differ a hundredfold."""
    axes.set(xlabel="seconds of training", ylabel="training loss", xscale="log")
    scale_losses(axes, np.array([lap.losses for lap in laps]))
    axes.grid(color="#dddddd", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    for i, lap in enumerate(laps):
        epochs = len(lap.losses) - 1
        every = max(1, epochs // 5)
        axes.plot(lap.seconds[1:], lap.losses[1:], markevery=(i * every // len(laps), every), **_style(lap.rule))


def scale_losses(axes, losses):
    """Logarithmic from a factor of four on; a curve that diverges leaves through the top instead of setting it."""
    shown = losses[np.isfinite(losses) & (losses > 0)]
    low, high = shown.min(), min(shown.max(), 3 * losses[0, 0])
    if high < 4 * low:
        margin = 0.05 * max(high - low, 0.01 * high)  # never nothing
        axes.set_ylim(low - margin, high + margin)
        return
    margin = (high / low) ** 0.04
    axes.set(yscale="log", ylim=(low / margin, high * margin))
    if high < 300 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _style(rule):
    """Colours repeat after seven rules, with other dashes; a rule looks the same in every race."""
    i = list(ENTRANTS).index(rule)
    return {
        "color": COLOURS[i % len(COLOURS)],
        "linestyle": DASHES[i // len(COLOURS) % len(DASHES)],
        "marker": MARKERS[i % len(MARKERS)],
        "markersize": 5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
        "linewidth": 1.3,
    }


def _spread(heights, gap):
    """As near ``heights`` in [0, 1] as labels ``gap`` apart can be, in the same order."""
    order = np.argsort(heights, kind="stable")
    ladder = gap * np.arange(len(heights))
    slack = heights[order] - ladder  # must not decrease: take the middle of its two monotone envelopes
    middle = (np.maximum.accumulate(slack) + np.minimum.accumulate(slack[::-1])[::-1]) / 2
    spread = np.empty(len(heights))
    spread[order] = np.clip(middle, 0, max(0, 1 - ladder[-1])) + ladder
    return spread
