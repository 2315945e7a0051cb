"""Histograms of channel sums and shower shapes with the ratio to the real ones, and what they share with the page."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from zdckeras.arguments import own_names
from zdckeras.data.detectors import CHANNEL_COUNT
from zdckeras.metrics.shapes import SHAPE_OBSERVABLES

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
RANGE = (0.2, 99.8)  # percentiles where histograms end, so that one rare bright shower does not squeeze the rest
RATIOS = (0.5, 1.5)  # ends of the ratio panels


def channel_histograms(real: np.ndarray, generated: dict[str, np.ndarray], bins: int = 30,
                       unit: str = "photons") -> Figure:
    """Distributions of the five channel sums with the ratio generated to real underneath.

    Shaded: real. Lines: one a model. Bars are statistical, sqrt(n) in each bin; the grey band of the ratio is the
    statistical error of the real histogram; a triangle at an edge is a ratio beyond it, or showers where no real ones
    are. The outer bins hold everything beyond them.

    Arguments:
        real: (N, 5) channel sums.
        generated: model name -> (M, 5) channel sums.
        bins: number of bins.
        unit: of the sums.

    Returns:
        Figure.

    Raises:
        ValueError: for another number of columns, no rows, values that are not finite, or a model named "real".
    """
    titles = [f"channel {k + 1} [{unit}]" for k in range(CHANNEL_COUNT)]
    return _histograms("channel sums of shape", real, generated, titles, bins, across=CHANNEL_COUNT)


def shape_histograms(real: np.ndarray, generated: dict[str, np.ndarray], bins: int = 30,
                     observables: dict[str, str] = SHAPE_OBSERVABLES) -> Figure:
    """Distributions of shower-shape observables with the ratio generated to real underneath.

    Arguments:
        real: (N, K) from `zdckeras.metrics.shapes.shapes` or `zdckeras.metrics.directional.directional_shapes`.
        generated: model name -> (M, K).
        bins: number of bins.
        observables: their names, as `observables_in` and `zdckeras.metrics.directional.FLIGHT_OBSERVABLES` have them.

    Returns:
        Figure.

    Raises:
        ValueError: for another number of columns, no rows, values that are not finite, or a model named "real".
    """
    return _histograms("shapes", real, generated, list(observables.values()), bins, across=4)


def _histograms(what, real, generated, titles, bins, across):
    """A grid of histograms with ratio panels, one for each title: columns of real values and of every model's."""
    rows = {name: np.asarray(v, "float64") for name, v in ({"real": real} | own_names(generated)).items()}
    for name, values in rows.items():
        if values.ndim != 2 or values.shape[1] != len(titles) or not len(values) or not np.isfinite(values).all():
            raise ValueError(f"{name}: expected {what} (N, {len(titles)}), received {values.shape}, of which "
                             f"{np.isfinite(values).sum()} numbers are finite.")
    down = -(-len(titles) // across)
    columns = min(len(rows), max(1, int(3.1 * across / (0.5 + 0.085 * max(map(len, rows))))))  # of names, in inches
    figure = Figure(figsize=(3.1 * across, 3.2 * down + 0.2 * -(-len(rows) // columns) + 0.2), layout="constrained")
    grid = figure.add_gridspec(2 * down, across, height_ratios=[3, 1] * down)
    for k, title in enumerate(titles):
        line, column = divmod(k, across)
        axis = figure.add_subplot(grid[2 * line, column])
        below = figure.add_subplot(grid[2 * line + 1, column], sharex=axis)
        _histogram(axis, below, {name: values[:, k] for name, values in rows.items()}, bins)
        axis.tick_params(labelbottom=False)
        below.set(ylim=RATIOS, xlabel=title)
        if column == 0:
            axis.set_ylabel("showers")
            below.set_ylabel("ratio")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=columns, frameon=False)
    return figure


def _histogram(axis, below, values, bins):
    """One quantity: real shaded, models as lines with bars, all scaled to the number of real showers."""
    real = values["real"]
    edges = histogram_edges(real, bins)
    centres = (edges[:-1] + edges[1:]) / 2
    reference = histogram_counts(real, edges)
    shown = np.where(reference > 0, reference, np.nan)
    axis.stairs(reference, edges, fill=True, color="0.8", label="real")
    below.stairs(1 + 1 / np.sqrt(shown), edges, baseline=1 - 1 / np.sqrt(shown), fill=True, color="0.8")
    below.axhline(1, color="0.4", linewidth=0.8)
    models = {name: column for name, column in values.items() if name != "real"}
    for colour, (name, column) in zip(model_colours(models), models.items(), strict=True):
        found, weight = histogram_counts(column, edges), len(real) / len(column)
        counts, error = weight * found, weight * np.sqrt(found)
        axis.stairs(counts, edges, color=colour, linewidth=1.2, label=name)
        axis.errorbar(centres, counts, error, fmt="none", color=colour, linewidth=0.7)
        ratio = np.divide(counts, reference, out=np.where(counts > 0, np.inf, np.nan), where=reference > 0)
        below.errorbar(centres, counts / shown, error / shown, fmt=".", color=colour, markersize=3, linewidth=0.7)
        for place, marker, beyond in ((0.56, "v", ratio < RATIOS[0]), (1.44, "^", ratio > RATIOS[1])):
            below.plot(centres[beyond], np.full(beyond.sum(), place), marker, color=colour, markersize=3)
    if _whole(real):  # numbers of photons and cells fall steeply
        axis.set(yscale="log", ylim=(0.5, None))


def histogram_edges(real: np.ndarray, bins: int) -> np.ndarray:
    """Equal bins between two percentiles of the real values (N,), whole-numbered where all values are whole."""
    low, high = np.percentile(real, RANGE)
    if _whole(real):
        width = max(1.0, np.ceil((high - low + 1) / bins))
        return np.arange(np.floor(low) - 0.5, high + width + 0.5, width)
    return np.linspace(low, high if high > low else low + 1.0, bins + 1)


def _whole(values):
    return bool(np.all(values == np.rint(values)))


def histogram_counts(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Counts of values (N,) in bins, the first and last one holding what lies beyond."""
    inside = np.clip(values, (edges[0] + edges[1]) / 2, (edges[-2] + edges[-1]) / 2)
    return np.histogram(inside, edges)[0].astype("float64")


def model_colours(models: Sequence[str] | Mapping[str, object]) -> list[str]:
    """One colour for each model, all different."""
    if len(models) <= len(COLOURS):
        return list(COLOURS[: len(models)])
    return [to_hex(colour) for colour in colormaps["turbo"](np.linspace(0.0, 1.0, len(models)))]
