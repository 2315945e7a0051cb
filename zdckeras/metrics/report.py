"""The verdict on generated showers as one dictionary, and the table that sets several models side by side."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from zdckeras.arguments import own_names
from zdckeras.data.atomic import atomic_path
from zdckeras.data.detectors import get_detector
from zdckeras.data.particles import SPECIES
from zdckeras.data.repeats import condition_statistics, repeated
from zdckeras.data.showers import Showers
from zdckeras.metrics.channels import ALL, Residuals, channel_metrics, over_runs
from zdckeras.metrics.classifier import classifier_auc
from zdckeras.metrics.shapes import SHAPE_OBSERVABLES, shape_table, shapes
from zdckeras.provenance import PROVENANCE_FILE, provenance_text

FEWEST = 30  # showers of a species that has a column of its own


def score(real: Showers, generated: Iterable[np.ndarray], diversity: np.ndarray, detector: str | None = None,
          channels: str = "papers", errors: str = "zdc", seed: int = 0) -> dict:
    """Judge repeated generations for the conditions of real showers.

    WS, MAE, RMSE and MAE_w are computed for every generation and species; shapes and the classifier's AUC come from
    the first generation. The Monte-Carlo floor is this function applied to [second simulation of the conditions].

    Arguments:
        real: `Showers`, the test set.
        generated: generations of all its conditions, each (N, nx, ny) photon counts: an array (runs, N, nx, ny), a
            list, or a generator, of which one element is held at a time.
        diversity: (N,) output variability of each row's condition in [0, 1].
        detector: name; may be left out where there is only one.
        channels: convention of the five channels.
        errors: convention of MAE and RMSE, "zdc" or "faster-zdc".
        seed: of the classifier.

    Returns:
        Plain dictionary: "detector", "channels", "errors", "showers", "runs", "counts" (species -> rows), "metrics"
        (species -> metric -> [mean, standard deviation over runs]), "shapes" (see `shape_table`), "auc".

    Raises:
        ValueError: for no generations, or ones that do not have the shape of the real responses.
    """
    name = real.detector(detector).name
    response = real.response_of(name)
    runs, table, auc = [], None, None
    for images in generated:
        residuals = Residuals.between(response, images, channels)
        runs.append(channel_metrics(residuals, real.pdg, diversity, errors))
        if len(runs) == 1:
            table = shape_table(shapes(response), shapes(images))
            auc = classifier_auc(response, images, real.particles, seed)
    metrics = over_runs(runs)
    counts = {species: int(real.species(code).sum()) for species, code in SPECIES.items()}
    return {
        "detector": name,
        "channels": channels,
        "errors": errors,
        "showers": len(real),
        "runs": len(runs),
        "counts": counts | {ALL: len(real)},
        "metrics": {species: {k: list(pair) for k, pair in values.items()} for species, values in metrics.items()},
        "shapes": table,
        "auc": auc,
    }


def judge(real: Showers, resimulated: Sequence[np.ndarray], models: dict[str, Callable], runs: int = 5, seed: int = 0,
          detector: str | None = None, channels: str = "papers") -> "Table":
    """One table of several models on one test set, below the Monte-Carlo floor.

    Arguments:
        real: `Showers`, the test set.
        resimulated: list of (N, nx, ny) further simulations of the same conditions; each is a run of the row "floor",
            which is left out if there are none.
        models: name -> function of (conditions (N, 9), seed) that gives (N, nx, ny) photon counts.
        runs: generations of every model, with the seeds `noise_seed` [seed, 0], [seed, 1], ...; trainings of one row,
            "<row>, seed <k>", have noise of their own, so that its deviation has that of the noise in it, and rows are
            compared at the same noise.
        seed: of generations and classifier.
        detector: name; may be left out where there is only one.
        channels: convention of the five channels.

    Returns:
        `Table` with the rows floor and one per model; MAE_w is a dash where no condition has a second response.

    Raises:
        ValueError: as `score`; and for a model named "floor" or "real".
    """
    own_names(models, "floor")
    diversity = row_diversity(real, resimulated, detector)
    table = Table()
    if len(resimulated):
        table.add("floor", score(real, resimulated, diversity, detector, channels, seed=seed))
    for name, sample in models.items():
        numbers = tqdm(range(runs), desc=f"judging {name}", unit="generation")
        made = (sample(real.particles, seed=noise_seed(name, seed, run)) for run in numbers)
        table.add(name, score(real, made, diversity, detector, channels, seed=seed))
    return table


def noise_seed(name: str, seed: int, run: int) -> list[int]:
    """The seed of a generation of a model: [seed, run], and of all but the first training of a row its number behind.

    Example:
        >>> noise_seed("GAN", 5, 1), noise_seed("GAN, seed 0", 5, 1), noise_seed("GAN, seed 2", 5, 1)
        ([5, 1], [5, 1], [5, 1, 2])
        >>> noise_seed("GAN, seed best", 5, 1)
        [5, 1]
    """
    _, _, training = name.partition(", seed ")
    return [seed, run, int(training)] if training.isdecimal() and int(training) else [seed, run]


def row_diversity(real: Showers, resimulated: Sequence[np.ndarray], detector: str | None = None) -> np.ndarray:
    """Diversity (N,) in [0, 1] of each row's condition, from the rows that share it or from further responses; 1 if
    there are none."""
    if repeated(real).any():
        return condition_statistics(real, detector).diversity
    if not len(resimulated):
        return np.ones(len(real))
    name = real.detector(detector).name
    both = Showers(np.tile(real.particles, (2, 1)), np.tile(real.pdg, 2),
                   {name: np.concatenate([real.response_of(name), resimulated[0]])})
    return condition_statistics(both).diversity[: len(real)]


class Table:
    """Scores of several models under one another, as plain text or Markdown.

    Arguments:
        metrics: which metrics get a line per model, by their key in `channel_metrics`.

    Attributes:
        scores: name -> `score`.
        provenance: what the table was made from, for its files; empty unless it is set.

    Example:
        >>> table = Table(["WS"])
        >>> values, counts = {species: {"WS": [1.0, 0.25]} for species in ("n", "p", "all")}, {"n": 40, "p": 2}
        >>> table.add("floor", {"metrics": values, "counts": counts, "shapes": {}, "auc": 0.5, "runs": 5})
        >>> print(*table.text().splitlines()[:2], sep="|")
                            n          all|floor WS  1.00 ± 0.25  1.00 ± 0.25
    """

    def __init__(self, metrics: Sequence[str] = ("WS", "MAE_w")) -> None:
        self.metrics = tuple(metrics)
        self.scores, self.provenance = {}, {}

    def add(self, name: str, result: dict) -> None:
        """Append one model's `score` under a name; a name that is there already is replaced."""
        self.scores[name] = result

    def species(self) -> list[str]:
        """Names of the species of which every row has at least 30 showers, and "all"."""
        return [species for species in (*SPECIES, ALL)
                if all(result["counts"].get(species, 0) >= FEWEST or species == ALL for result in self.scores.values())]

    def rows(self) -> list[list[str]]:
        """Header and lines of the channel metrics of these species, as lists of words."""
        lines = [["", *self.species()]]
        for name, result in self.scores.items():
            for metric in self.metrics:
                pairs = [result["metrics"][species][metric] for species in lines[0][1:]]
                lines.append([f"{name} {metric}", *(with_error(*pair, result["runs"]) for pair in pairs)])
        return lines

    def shape_rows(self) -> list[list[str]]:
        """Header and lines of runs, AUC and shape distances (in real standard deviations), as lists of words."""
        names = [name for name in SHAPE_OBSERVABLES if all(name in result["shapes"] for result in self.scores.values())]
        lines = [["", "runs", "AUC", *names]]
        for model, result in self.scores.items():
            distances = [result["shapes"][name]["distance"] for name in names]
            auc = result.get("AUC", [result["auc"], 0.0])  # over generations, where all were looked at
            values = [with_error(*auc, result["runs"] if "AUC" in result else 1, digits=3), *(
                f"{distance:.3f}" for distance in distances)]
            lines.append([model, str(result["runs"]), *values])
        return lines

    def text(self) -> str:
        """Both tables with columns aligned, an empty line between."""
        return "\n\n".join(text_table(lines) for lines in (self.rows(), self.shape_rows()))

    def markdown(self) -> str:
        """Both tables as Markdown with a sentence on what they show."""
        first = next(iter(self.scores.values()), {})
        settings = [f"{key} {first[key]}" for key in ("detector", "showers", "channels", "errors") if key in first]
        about = f" ({', '.join(settings)})" if settings else ""
        unit = get_detector(first["detector"]).unit if "detector" in first else "photons"
        return "\n".join(
            [
                f"Mean ± standard deviation over generations, in {unit}{about}:",
                "",
                text_table(self.rows(), "pipe"),
                "",
                "Classifier AUC (0.5 is indistinguishable) and Wasserstein distance of shower shapes in units of the "
                "real standard deviation:",
                "",
                text_table(self.shape_rows(), "pipe"),
                "",
                *([provenance_text(self.provenance), ""] if self.provenance else []),
            ]
        )

    def write(self, folder: str | Path) -> Path:
        """Write report.md, report.json (every score in full) and, where it is known, provenance.json into a folder."""
        folder = Path(folder)
        with ExitStack() as files:
            def write(name, text):
                files.enter_context(atomic_path(folder / name)).write_text(text, encoding="utf-8")

            write("report.md", self.markdown())
            write("report.json", json.dumps(without_nan(self.scores), indent=1))
            if self.provenance:
                write(PROVENANCE_FILE, json.dumps(self.provenance, indent=1, default=str))
        return folder


def in_floors(value: float, floor: float | None) -> str:
    """A distance in units of the floor's, in words, where there is one.

    Example:
        >>> in_floors(3.0, 1.5), in_floors(3.0, None)
        ('2.00 floors', '3.00, without a floor to compare with')
    """
    return f"{value / floor:.2f} floors" if floor else f"{value:.2f}, without a floor to compare with"


def text_table(lines: Sequence[Sequence[str]], style: str = "plain") -> str:
    """Lines of words, the first of which is the header, as a table: names to the left, numbers to the right.

    Arguments:
        lines: equally many words each, the first one of a line its name.
        style: of `tabulate`: "plain", "pipe" (Markdown), ...

    Returns:
        The text, without a newline at its end.

    Example:
        >>> print(text_table([["", "WS", "AUC"], ["floor", "1.20", "0.500"], ["GAN", "11.00", "0.9"]]))
                  WS    AUC
        floor   1.20  0.500
        GAN    11.00    0.9
    """
    header, *body = lines
    right = ["right"] * (len(header) - 1)
    return tabulate(body, header, style, colalign=("left", *right) if body else None, disable_numparse=True)


def with_error(mean: float, deviation: float, runs: int, digits: int = 2) -> str:
    """Mean ± deviation in words; only the mean where there is one run; a dash where there is no mean.

    Example:
        >>> with_error(1.5, 0.25, 3), with_error(1.5, 0.25, 1, digits=3), with_error(float("nan"), 0.0, 3)
        ('1.50 ± 0.25', '1.500', '-')
    """
    if math.isnan(mean):
        return "-"
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}" if runs > 1 else f"{mean:.{digits}f}"


def without_nan(value: object) -> object:
    """Nested values with None for NaN, which JSON does not have: a species without showers becomes null."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
