"""What `zdckeras.metrics.report.score` leaves out, taken from the same generations while they pass."""

from collections.abc import Iterable, Iterator

import numpy as np

from zdckeras.data.detectors import channel_sums
from zdckeras.data.particles import SPECIES
from zdckeras.data.showers import Showers
from zdckeras.metrics.channels import ALL, over_runs
from zdckeras.metrics.classifier import classifier_auc, pixel_auc
from zdckeras.metrics.diversity import DIVERSITY_SPECIES, diversity_ratios
from zdckeras.metrics.multivariate import NEIGHBOURS, frechet_distance, kernel_distance, neighbourhoods
from zdckeras.metrics.shapes import shapes

GALLERY = 10  # particles whose responses are kept for pictures
DRAWS = 2  # responses to each particle whose diversity is compared
RATIOS = DIVERSITY_SPECIES | SPECIES | {ALL: None}


def pictured(pdg: np.ndarray, number: int = GALLERY) -> np.ndarray:
    """Rows to show, in their order: the first of each species, then the second of each, until there are enough.

    Example:
        >>> pictured(np.array([22, 22, 22, 2112, 310]), 4).tolist()
        [0, 1, 3, 4]
    """
    pdg = np.asarray(pdg)
    order = np.argsort(pdg, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(pdg[order]) != 0])
    turn = np.empty(len(pdg), int)
    turn[order] = np.arange(len(pdg)) - np.repeat(first, np.diff(np.r_[first, len(pdg)]))
    return np.sort(np.lexsort([np.arange(len(pdg)), turn])[:number])


class CloserLook:
    """Judges generations for the conditions of real showers beyond `score`, and keeps what pictures need of the first.

    Arguments:
        real: `Showers`, the test set.
        detector: name of the one to judge by.
        second: (N, nx, ny) another real response to each particle, for the diversity; None if there is none.
        seed: of subsamples and classifier.
        pixels: pairs for the classifier that sees the photons of every cell; 0 leaves it out.
        channels: convention of the five channels.

    Attributes:
        sums, shapes, gallery: channel sums (N, 5), shape observables (N, 11) and some responses of the first
            generation; before any, those of the real showers.
    """

    def __init__(self, real: Showers, detector: str, second: np.ndarray | None = None, seed: int = 0,
                 pixels: int = 0, channels: str = "papers") -> None:
        self.real, self.response, self.second = real, real.response_of(detector), second
        self.seed, self.pixels, self.channels, self.rows = seed, pixels, channels, pictured(real.pdg)
        self.values, self.draws, self.auc, self.areas = [], [], None, []
        self._keep(self.response)
        self._real_shapes = self.shapes

    def _keep(self, images):
        self.sums, self.shapes = channel_sums(images, self.channels), shapes(images)
        self.gallery = np.array(images[self.rows])

    def watch(self, generations: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The generations, (N, nx, ny) each, looked at one by one as they pass."""
        for run, images in enumerate(generations):
            if not run:
                self._keep(images)
                self.auc = pixel_auc(self.response, images, self.seed, self.pixels) if self.pixels else None
            else:  # `score` has that of the first
                self.areas.append(classifier_auc(self.response, images, self.real.particles, self.seed))
            found = self.shapes if not run else shapes(images)
            self.values.append(self._distances(found))
            if run < DRAWS and self.second is not None:
                self.draws.append(images)
            yield images

    def _distances(self, found):
        """Name -> number; nothing for so few showers that there are no neighbourhoods."""
        if len(found) < 2 * NEIGHBOURS:
            return {}
        return {**neighbourhoods(self._real_shapes, found, self.seed),
                "FPD": frechet_distance(self._real_shapes, found, self.seed),
                "KPD": kernel_distance(self._real_shapes, found, self.seed)}

    def result(self, auc: float) -> dict:
        """Name -> [mean, standard deviation over generations] of AUC, density, coverage, precision, recall, FPD and
        KPD; "pixels", the second classifier's area; and "diversity", species -> generated over real; None, or nothing,
        for what is not known.

        Arguments:
            auc: the classifier's area of the first generation, from `score`.
        """
        runs = zip((auc, *self.areas), self.values, strict=True)
        found = over_runs([{ALL: {"AUC": area, **values}} for area, values in runs])[ALL]
        ratios = {}
        if len(self.draws) == DRAWS:
            ratios = diversity_ratios([self.response, self.second], self.draws, self.real.pdg, RATIOS)
        return {name: list(pair) for name, pair in found.items()} | {"pixels": self.auc, "diversity": ratios}
