"""The verdict on generated responses in energy: shapes along the flight, classifier test and energy resolution."""

from operator import itemgetter
from pathlib import Path

import numpy as np

from zdckeras.arguments import own_names
from zdckeras.data.atomic import write_text
from zdckeras.data.showers import Showers
from zdckeras.metrics.channels import Residuals, mae, rmse, ws
from zdckeras.metrics.classifier import classifier_auc, pixel_auc
from zdckeras.metrics.directional import (
    FLIGHT_OBSERVABLES,
    LEAST_SHOWERS,
    directional_shapes,
    directional_table,
    energy_resolution,
)
from zdckeras.metrics.report import text_table
from zdckeras.metrics.trainings import over_seeds


class EnergyReport:
    """Tables of several models' responses to the particles of one test set, beside the floor.

    Arguments:
        test: `Showers` of one detector read out in energy.
        responses: model name -> (N, nx, ny) [MeV] for the same particles; a second simulation goes first, as "floor".
            "<row>, seed <k>" are trainings of one row.
        seed: of the classifiers.
        pairs: of the classifier that sees all cells, see `pixel_auc`; 0 leaves it out.

    Attributes:
        real: (N, 11) `directional_shapes` of the test set; shapes: the same for every model.
        tables: model -> observable -> {"separation", "distance"}; auc: model -> AUC.
        quality: model -> {"WS", "MAE", "RMSE" [MeV], "AUC", and "AUC pixels" where it is asked for}.

    Raises:
        ValueError: for responses of another shape, bad values, or a model named "real".
    """

    def __init__(self, test: Showers, responses: dict[str, np.ndarray], seed: int = 0, pairs: int = 0) -> None:
        self.test, self.responses, detector = test, own_names(responses), test.detector()
        self.real = directional_shapes(test.response, test.particles, detector)
        self.shapes = {name: directional_shapes(e, test.particles, detector) for name, e in responses.items()}
        self.tables = {name: directional_table(self.real, values) for name, values in self.shapes.items()}
        self.auc = {name: classifier_auc(test.response, e, test.particles, seed) for name, e in responses.items()}
        self.quality = {}
        for name, energy in responses.items():
            errors = Residuals.between(test.response, energy)
            found = {"WS": ws(errors), "MAE": mae(errors), "RMSE": rmse(errors), "AUC": self.auc[name]}
            pixels = {"AUC pixels": pixel_auc(test.response, energy, seed, pairs)} if pairs else {}
            self.quality[name] = found | pixels

    def quality_rows(self) -> list[list[str]]:
        """Lines of words: errors of the five channel sums [MeV] and areas of both classifiers, over trainings."""
        columns = next(iter(self.quality.values()), {})
        return over_seeds(self.quality, {name: lambda found, name=name: found[name] for name in columns})

    def shape_rows(self) -> list[list[str]]:
        """Lines of words: separation powers, then Wasserstein distances in real deviations, over trainings."""
        def rows(kind, title, digits):
            columns = {name: lambda table, name=name: table[name][kind] for name in FLIGHT_OBSERVABLES}
            return over_seeds(self.tables, columns, title, digits)

        return rows("separation", "separation power", 4) + rows("distance", "distance / spread", 3)

    def resolution_rows(self) -> list[list[str]]:
        """Lines of words: energy resolution, (s / E)^2 = a^2 / E + b^2; dashes for fewer showers than it takes."""
        found = dict.fromkeys(("real", *self.shapes), {"stochastic": np.nan, "constant": np.nan})
        if len(self.test) >= LEAST_SHOWERS:
            found = {name: energy_resolution(values[:, 0], self.test.particles[:, 0])
                     for name, values in {"real": self.real, **self.shapes}.items()}
        columns = {"a [sqrt GeV]": itemgetter("stochastic"), "b": itemgetter("constant")}
        return over_seeds(found, columns, "energy resolution", digits=4)

    def write(self, folder: str | Path, *more: str | list[list[str]]) -> str:
        """Write report.txt into a folder; returns the text.

        Arguments:
            folder: where to; made if missing.
            more: further tables (lists of lines of words) or strings for the text.
        """
        parts = [self.quality_rows(), self.shape_rows(), self.resolution_rows(), *more]
        text = "\n\n".join(part if isinstance(part, str) else text_table(part) for part in parts)
        write_text(Path(folder) / "report.txt", text + "\n")
        return text
