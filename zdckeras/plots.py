"""Pictures of responses, channel sums, learning curves and shower shapes.

Every function returns a `matplotlib.figure.Figure` made without pyplot: no window, no global state, any machine.
"""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from zdckeras.atomic import atomic_path
from zdckeras.detectors import CHANNELS
from zdckeras.metrics.shapes import OBSERVABLES
from zdckeras.particles import COLUMN, species

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
REAL = {"color": "0.75", "edgecolor": "0.4"}
PERCENTILE = 99.5  # histograms end here, so that one rare bright shower does not squeeze the rest


def save_figure(figure, path, dpi=150):
    """Write a figure under a temporary name and rename it.

    Arguments:
        figure: `matplotlib.figure.Figure`.
        path: file to write; the suffix decides the format.
        dpi: dots per inch.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


def response_gallery(showers, generated, detector=None):
    """Real responses above generated ones of the same particles, one particle a column, one colour scale for all.

    Colours are logarithmic in photons; cells without light are white. Titles give the particle, its energy and, on
    every picture, the photon sum.

    Arguments:
        showers: `Showers`, n particles to show.
        generated: model name -> (n, nx, ny) photon counts.
        detector: name; may be left out where there is only one.

    Returns:
        Figure.

    Raises:
        ValueError: for generated responses of another shape.
    """
    real = showers.response_of(detector)
    rows = {"real": real} | {name: np.asarray(images) for name, images in generated.items()}
    _same_shape(rows)
    number, nx, ny = real.shape
    ratio = min(max(ny / nx, 0.5), 2.0)
    figure = Figure(figsize=(1.0 + 1.35 * number, 0.6 + (1.35 * ratio + 0.2) * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), number, squeeze=False)
    norm = LogNorm(1, max(2.0, *(float(images.max()) for images in rows.values())))
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(name)
        for column, (axis, image) in enumerate(zip(line, images, strict=True)):
            lit = np.ma.masked_less(image, 0.5)
            picture = axis.imshow(
                lit.T, origin="lower", cmap="viridis", norm=norm, interpolation="none", aspect="equal"
            )
            axis.set(xticks=[], yticks=[])
            title = f"{image.sum():.0f}"
            if line is axes[0]:
                energy = showers.particles[column, COLUMN["energy"]]
                title = f"${species(showers.pdg[column]).latex_name}$, {energy:.0f} GeV\n{title}"
            axis.set_title(title, fontsize=8, pad=2)
    figure.colorbar(picture, ax=axes, label="photons in the cell", shrink=0.8, pad=0.01)
    return figure


def channel_histograms(real, generated, bins=40):
    """Distributions of the five channel sums with the ratio generated to real underneath.

    Shaded: real. Lines: one a model. Bars are statistical, sqrt(n) in each bin; the grey band of the ratio is the
    statistical error of the real histogram. The last bin holds everything beyond.

    Arguments:
        real: (N, 5) channel sums [photons].
        generated: model name -> (M, 5) channel sums.
        bins: number of bins.

    Returns:
        Figure.

    Raises:
        ValueError: for another number of columns.
    """
    rows = {"real": np.asarray(real, "float64")} | {k: np.asarray(v, "float64") for k, v in generated.items()}
    for name, values in rows.items():
        if values.ndim != 2 or values.shape[1] != CHANNELS:
            raise ValueError(f"{name}: expected channel sums of shape (N, {CHANNELS}), received {values.shape}.")
    titles = [f"channel {k + 1} [photons]" for k in range(CHANNELS)]
    return _histograms(rows, titles, bins, ["linear"] * CHANNELS, log_counts=True, across=CHANNELS)


def shape_histograms(real, generated, bins=40):
    """Distributions of the shower-shape observables with the ratio generated to real underneath.

    Arguments:
        real: (N, 11) from `zdckeras.metrics.shapes.shapes`.
        generated: model name -> (M, 11).
        bins: number of bins.

    Returns:
        Figure.

    Raises:
        ValueError: for another number of columns.
    """
    rows = {"real": np.asarray(real, "float64")} | {k: np.asarray(v, "float64") for k, v in generated.items()}
    for name, values in rows.items():
        if values.ndim != 2 or values.shape[1] != len(OBSERVABLES):
            raise ValueError(f"{name}: expected shapes (N, {len(OBSERVABLES)}), received {values.shape}.")
    return _histograms(rows, list(OBSERVABLES.values()), bins, log_counts=False, across=4)


def learning_curves(histories, key="loss"):
    """Training (solid) and validation (dashed) curves over epochs, one colour a model.

    Arguments:
        histories: model name -> dictionary of lists, as in `keras.callbacks.History.history`.
        key: what to draw, with "val_" before it for validation.

    Returns:
        Figure.

    Raises:
        ValueError: if a history lacks the key.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for colour, (name, history) in zip(_colours(histories), histories.items(), strict=True):
        if key not in history:
            raise ValueError(f"{name}: expected a history with {key!r}, found {', '.join(history) or 'nothing'}.")
        for curve, style, part in ((key, "-", "training"), (f"val_{key}", "--", "validation")):
            if curve in history:
                epochs = np.arange(1, len(history[curve]) + 1)
                axis.plot(epochs, history[curve], style, color=colour, label=f"{name}, {part}")
    axis.set(xlabel="epoch", ylabel=key)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.3)
    if histories:
        axis.legend(frameon=False)
    return figure
