"""Pictures of responses, what reports write, and curves."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from zdckeras.arguments import own_names
from zdckeras.data.atomic import atomic_path
from zdckeras.data.detectors import channel_sums
from zdckeras.data.particles import COLUMN, name_of
from zdckeras.data.showers import Showers
from zdckeras.metrics import directional
from zdckeras.metrics.energy_report import EnergyReport
from zdckeras.metrics.probabilities import calibration
from zdckeras.metrics.shapes import SHAPE_OBSERVABLES, observables_in, shapes
from zdckeras.metrics.trainings import by_row
from zdckeras.plots.histograms import channel_histograms, model_colours, shape_histograms

NAMED = 16  # curves, in a column of their legend
SPARSITY_THRESHOLDS = np.geomspace(0.01, 1000.0, 26)  # MeV, of the sparsity curves


def save_figure(figure: Figure, path: str | Path, dpi: int = 150) -> None:
    """Write a figure under a temporary name and rename it.

    Arguments:
        figure: `matplotlib.figure.Figure`.
        path: file to write; the suffix decides the format.
        dpi: dots per inch.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


def write_pictures(folder: str | Path, showers: Showers, generated: dict[str, np.ndarray], histories: dict[str, dict],
                   columns: int = 8) -> None:
    """The four pictures of a report: responses.png, channels.png, shapes.png and learning.png.

    Arguments:
        folder: where to; made if missing.
        showers: `Showers` of one detector, the real ones; the gallery shows the first of each of its species.
        generated: model name -> (N, nx, ny) photon counts for the same particles.
        histories: model name -> dictionary of lists, see `learning_curves`.
        columns: particles in the gallery.
    """
    folder, real, unit = Path(folder), showers.response, showers.detector().unit
    _, first = np.unique(showers.pdg, return_index=True)
    shown = np.sort(first)[:columns]
    gallery = {name: images[shown] for name, images in generated.items()}
    save_figure(response_gallery(showers[shown], gallery), folder / "responses.png")
    sums = {name: channel_sums(images) for name, images in generated.items()}
    save_figure(channel_histograms(channel_sums(real), sums, unit=unit), folder / "channels.png")
    observed = {name: shapes(images) for name, images in generated.items()}
    save_figure(shape_histograms(shapes(real), observed, observables=observables_in(unit)), folder / "shapes.png")
    save_figure(learning_curves(histories), folder / "learning.png")


def write_energy_pictures(folder: str | Path, report: EnergyReport, columns: int = 8) -> None:
    """The three pictures of a report on energies, of one training of each row: responses.png, shapes.png, sparsity.png.

    Arguments:
        folder: where to; made if missing.
        report: `zdckeras.metrics.energy_report.EnergyReport`.
        columns: particles in the gallery.
    """
    folder, test = Path(folder), report.test
    made, observed = ({row: trainings[0] for row, trainings in by_row(found).items()}
                      for found in (report.responses, report.shapes))
    gallery = {name: images[:columns] for name, images in made.items()}
    save_figure(response_gallery(test[:columns], gallery), folder / "responses.png")
    save_figure(shape_histograms(report.real, observed, observables=directional.FLIGHT_OBSERVABLES),
                folder / "shapes.png")
    curves = {name: directional.sparsity(images, SPARSITY_THRESHOLDS) for name, images in made.items()}
    save_figure(sparsity_curves(directional.sparsity(test.response, SPARSITY_THRESHOLDS), curves, SPARSITY_THRESHOLDS),
                folder / "sparsity.png")


def response_gallery(showers: Showers, generated: dict[str, np.ndarray], detector: str | None = None) -> Figure:
    """Real responses above generated ones of the same particles, one particle a column, one colour scale for all.

    Colours are logarithmic in photons or MeV; cells with less than half of one are white. Titles give the particle,
    its energy and, on every picture, the sum.

    Arguments:
        showers: `Showers`, n particles to show.
        generated: model name -> (n, nx, ny) photon counts.
        detector: name; may be left out where there is only one.

    Returns:
        Figure.

    Raises:
        ValueError: for generated responses of another shape, or a model named "real".
    """
    real = showers.response_of(detector)
    rows = {name: np.asarray(images) for name, images in ({"real": real} | own_names(generated)).items()}
    for name, images in rows.items():
        if images.shape != real.shape:
            raise ValueError(f"{name}: expected responses of shape {real.shape}, received {images.shape}.")
    number, nx, ny = real.shape
    height = 1.25 * min(max(ny / nx, 0.5), 2.0) + 0.15
    figure = Figure(figsize=(0.9 + 1.25 * number, 0.35 + height * len(rows)), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.03, w_pad=0.02, hspace=0.0, wspace=0.0)
    axes = figure.subplots(len(rows), number, squeeze=False)
    norm = LogNorm(1, max(2.0, *(float(images.max()) for images in rows.values())))
    for line, (name, images) in enumerate(rows.items()):
        axes[line, 0].set_ylabel(fill(name, 13), fontsize=9)
        for column, (axis, image) in enumerate(zip(axes[line], images, strict=True)):
            picture = _draw(axis, image, norm)
            title = f"{image.sum():.0f}"
            if line == 0:
                energy = showers.particles[column, COLUMN["energy"]]
                title = f"{name_of(showers.pdg[column], latex=True)}, {energy:.0f} GeV\n{title}"
            axis.set_title(title, fontsize=8, pad=2)
    unit = showers.detector(detector).unit
    figure.colorbar(picture, ax=axes, label=f"{unit} in the cell", shrink=0.8, pad=0.01)
    return figure


def property_traversal(responses: dict[str, np.ndarray], values: dict[str, np.ndarray],
                       unit: str = "photons") -> Figure:
    """One property a row, asked for from low to high along the columns, titles giving how much; the others are held.

    Arguments:
        responses: property -> (K, nx, ny) photon counts.
        values: property -> (K,) values asked for.
        unit: of the light in a cell.

    Returns:
        Figure.

    Raises:
        ValueError: unless there are K responses and K values of every property.
    """
    found = [len(part[name]) if name in part else 0 for name in responses for part in (responses, values)]
    if len(set(found)) != 1:
        raise ValueError(f"Expected as many responses as values for each of {', '.join(responses)}; received {found}.")
    figure = Figure(figsize=(0.9 + 1.25 * found[0], 0.3 + 1.45 * len(responses)), layout="constrained")
    axes = figure.subplots(len(responses), found[0], squeeze=False)
    norm = LogNorm(1, max(2.0, *(float(np.max(images)) for images in responses.values())))
    for line, (name, images) in zip(axes, responses.items(), strict=True):
        line[0].set_ylabel(SHAPE_OBSERVABLES[name].split(" [")[0], fontsize=8)
        for axis, image, value in zip(line, images, values[name], strict=True):
            picture = _draw(axis, image, norm)
            axis.set_title(f"{value:.3g}", fontsize=8, pad=2)
    figure.colorbar(picture, ax=axes, label=f"{unit} in the cell", shrink=0.8, pad=0.01)
    return figure


def sparsity_curves(real: np.ndarray, generated: dict[str, np.ndarray], thresholds: Sequence[float]) -> Figure:
    """Share of cells above a threshold against the threshold, the mean over showers and the band of one deviation.

    Arguments:
        real: (N, T) from `zdckeras.metrics.directional.sparsity`.
        generated: model name -> (M, T).
        thresholds: (T,) [MeV].

    Returns:
        Figure.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    rows = {"real": real} | own_names(generated)
    for colour, (name, values) in zip(("0.4", *model_colours(generated)), rows.items(), strict=True):
        mean, deviation = np.mean(values, axis=0), np.std(values, axis=0)
        axis.fill_between(thresholds, mean - deviation, mean + deviation, color=colour, alpha=0.2, linewidth=0)
        axis.plot(thresholds, mean, color=colour, label=name)
    axis.set(xscale="log", xlabel="threshold [MeV]", ylabel="share of cells above", ylim=(0, None))
    axis.legend(frameon=False)
    return figure


def probability_curves(lit: np.ndarray, probabilities: dict[str, np.ndarray]) -> Figure:
    """How well probabilities tell what happens: ROC curves, and the share that happened against what was stated.

    Arguments:
        lit: (N,) boolean, what happened.
        probabilities: name -> (N,).
    """
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    roc, states = figure.subplots(1, 2)
    for colour, (name, p) in zip(model_colours(probabilities), probabilities.items(), strict=True):
        false, true, _ = roc_curve(lit, p)
        roc.plot(false, true, color=colour, label=name)
        stated, found, _ = calibration(p, lit)
        states.plot(stated, found, "o-", color=colour, label=name)
    states.plot([0, 1], [0, 1], ":", color="grey")
    roc.set(xlabel="share of empty ones kept", ylabel="share of lit ones kept")
    states.set(xlabel="probability stated", ylabel="share with light")
    roc.legend(frameon=False)
    return figure


def learning_curves(histories: dict[str, dict], key: str = "loss") -> Figure:
    """Training (solid) and validation (dashed) curves over epochs, one colour a model.

    Arguments:
        histories: model name -> dictionary of lists, as in `keras.callbacks.History.history`.
        key: what to draw, with "val_" before it for validation.

    Returns:
        Figure.

    Raises:
        ValueError: if a history lacks the key.
    """
    columns = -(-len(histories) // NAMED)
    figure = Figure(figsize=(5.5 + 2.5 * columns, 4), layout="constrained")
    axis = figure.subplots()
    for colour, (name, history) in zip(model_colours(histories), histories.items(), strict=True):
        if key not in history:
            raise ValueError(f"{name}: expected a history with {key!r}, found {', '.join(history) or 'nothing'}.")
        for curve, style, label in ((key, "-", name), (f"val_{key}", "--", None)):
            if curve in history:
                epochs = np.arange(1, len(history[curve]) + 1)
                axis.plot(epochs, history[curve], style, color=colour, label=label)
    axis.set(xlabel="epoch", ylabel=key)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.3)
    if histories:
        figure.legend(loc="outside right upper", ncols=columns, fontsize="small", frameon=False)
    return figure


def _draw(axis, image, norm):
    """One response (nx, ny), x to the right."""
    axis.set(xticks=[], yticks=[])
    lit = np.ma.masked_less(image, 0.5)
    return axis.imshow(lit.T, origin="lower", cmap="viridis", norm=norm, interpolation="none", aspect="equal")
