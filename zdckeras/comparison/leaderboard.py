"""The table of a comparison: quality and cost of every model, sorted, the best compromises marked, in all its forms."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

from zdckeras.data.atomic import write_text
from zdckeras.metrics.channels import ALL
from zdckeras.metrics.report import Table, text_table, without_nan

BESIDE, COSTS_ALONE = ("floor", "other library"), "Geant4"  # rows that are no models, and one without a score
NAN = float("nan")


def _metric(name):
    return lambda s: s["metrics"][ALL][name]


def _mean_over_shapes(key):
    return lambda s: sum(row[key] for row in s["shapes"].values()) / len(s["shapes"])


def _found(key):
    return lambda s: s.get(key)


# heading -> (value of a score: a number, [mean, deviation] or None; digits)
QUALITY = {
    "WS": (_metric("WS"), 2), "MAE": (_metric("MAE"), 2), "RMSE": (_metric("RMSE"), 2), "MAE_w": (_metric("MAE_w"), 2),
    "shapes": (_mean_over_shapes("distance"), 3), "separation": (_mean_over_shapes("separation"), 4),
    "AUC": (lambda s: s.get("AUC", s["auc"]), 3), "AUC pixels": (_found("pixels"), 3),
    "density": (_found("density"), 3), "coverage": (_found("coverage"), 3), "FPD": (_found("FPD"), 4),
    "KPD": (_found("KPD"), 4), "D": (lambda s: s.get("diversity", {}).get(ALL), 3)}
IDEAL = {"AUC": 0.5, "AUC pixels": 0.5, "density": 1.0, "coverage": 1.0, "D": 1.0}  # 0 for others but the following
# the floor's, where there is one: a model that always gives the mean has less, and pairs are denser than other samples
OF_FLOOR = ("MAE", "RMSE", "MAE_w", "density", "coverage")
COST = {"kind": "kind", "weights": "weights", "file [MB]": "MB", "ms, batch 1": "ms_1", "ms, batch 256": "ms_256",
        "memory [MiB]": "MiB", "recipe [CPU s]": "recipe_s", "rows seen in training": "overlap"}
ABOUT = ("Mean ± standard deviation over generations; AUC pixels, shapes and D of the first. *: no other model is "
         "both better in {sort} and faster at batch 256. shapes, separation: means over all observables. D: generated "
         "over real diversity. MAE, RMSE, MAE_w: below the floor, showers vary too little. ms a shower: processor time "
         "of one thread, {host}.")


class Comparison(Table):
    """Scores as in `Table`, with costs, sorted by one of them.

    Arguments:
        sort: column to sort models by, one of `QUALITY`.

    Attributes:
        costs: name -> what `zdckeras.comparison.costs` and files say; also of rows that have no score.
        failures: name -> why a model could not be judged, in one line.
        looks: name -> `CloserLook`, "real" among them, for the page.
        made: name -> what a model's file says about its making.
        host: what the costs were measured on, in words.
    """

    def __init__(self, sort: str = "AUC", metrics: Sequence[str] = ("WS", "MAE_w")) -> None:
        super().__init__(metrics)
        if sort not in QUALITY:
            raise ValueError(f"Expected a column to sort by, one of {', '.join(QUALITY)}; received {sort!r}.")
        self.sort, self.costs, self.failures, self.looks, self.made, self.host = sort, {}, {}, {}, {}, ""

    def quality(self, name: str, heading: str) -> float:
        """A number of a row, the mean where there are several; NaN where it is not known.

        Arguments:
            name: of the row.
            heading: of the column, one of `QUALITY`.
        """
        value = QUALITY[heading][0](self.scores[name]) if name in self.scores else None
        value = value[0] if isinstance(value, (list, tuple)) else value
        return NAN if value is None else float(value)

    def ideal(self, heading: str) -> float:
        """The value of a column that is best."""
        found = self.quality("floor", heading) if heading in OF_FLOOR else NAN
        return IDEAL.get(heading, 0.0) if math.isnan(found) else found

    def loss(self, name: str, heading: str) -> float:
        """How far a number of a row is from its ideal; infinite where it is not known."""
        away = abs(self.quality(name, heading) - self.ideal(heading))
        return math.inf if math.isnan(away) else away

    def models(self) -> list[str]:
        """Names of the models that were judged, the best first."""
        return sorted((name for name in self.scores if name not in BESIDE), key=lambda n: (self.loss(n, self.sort), n))

    def front(self) -> list[str]:
        """Models that no other beats in the sorted column and in the time of a shower at batch 256 at once."""
        def seconds(name):
            return self.costs.get(name, {}).get("ms_256", NAN)

        known = [(self.loss(name, self.sort), seconds(name), name) for name in self.models()
                 if not math.isnan(seconds(name))]
        return [name for loss, time, name in known
                if not any(a <= loss and b <= time and (a, b) != (loss, time) for a, b, _ in known)]

    def order(self) -> list[str]:
        """Names of all rows: the floors, the models, the best first, and what has only a cost."""
        rest = [name for name in self.costs if name not in self.scores]
        return [name for name in BESIDE if name in self.scores] + self.models() + rest

    def quality_rows(self) -> list[list[str]]:
        """Header and lines of quality, as lists of words; columns that no row knows are left out."""
        names, front = [name for name in self.order() if name in self.scores], self.front()
        known = [h for h in QUALITY if any(not math.isnan(self.quality(name, h)) for name in names)]
        lines = [["", *known]]
        for name in names:
            words = [_words(QUALITY[h][0](self.scores[name]), QUALITY[h][1], self.scores[name]["runs"]) for h in known]
            lines.append([f"{name} *" if name in front else name, *words])
        return lines

    def cost_rows(self) -> list[list[str]]:
        """Header and lines of costs, as lists of words; columns that no row knows are left out."""
        names = [name for name in self.order() if self.costs.get(name)]
        known = {h: key for h, key in COST.items() if any(key in self.costs[name] for name in names)}
        return [["", *known], *([name, *(_cost(self.costs[name].get(key)) for key in known.values())]
                                for name in names)]

    def species_rows(self, metric: str) -> list[list[str]]:
        """Header and lines of one metric by species, as lists of words, for every row with a score.

        Arguments:
            metric: key of `channel_metrics` ("WS", "MAE", "RMSE", "MAE_w", "WS1" to "WS5"), or "D", the diversity.
        """
        names = [name for name in self.order() if name in self.scores]
        if metric == "D":
            species = [key for key in self.species()
                       if any(key in self.scores[name].get("diversity", {}) for name in names)]
            return [["", *species], *([name, *(_words(self.scores[name].get("diversity", {}).get(key), 3, 1)
                                               for key in species)] for name in names)]
        return [["", *self.species()],
                *([name, *(_words(self.scores[name]["metrics"][key][metric], 2, self.scores[name]["runs"])
                           for key in self.species())] for name in names)]

    def overview(self, style: str = "plain") -> str:
        """Quality and cost, and a line for each model that could not be judged.

        Arguments:
            style: as in `text_table`.
        """
        parts = [text_table(self.quality_rows(), style)]
        if len(rows := self.cost_rows()) > 1:
            parts.append(text_table(rows, style))
        parts += self.notes()
        parts += [f"{name} failed: {why}" for name, why in self.failures.items()]
        return "\n\n".join(parts)

    def notes(self) -> list[str]:
        """Sentences on costs that were not measured, and on the rows that are of an earlier report."""
        joined = self.provenance.get("beside", {}).get("models", ())
        said = [f"{name}: {cost['note']}." for name, cost in self.costs.items() if "note" in cost]
        return said + [f"Of an earlier report on the same showers: {', '.join(joined)}."] * bool(joined)

    def text(self) -> str:
        return f"{self.overview()}\n\n{super().text()}"

    def markdown(self) -> str:
        return f"{ABOUT.format(sort=self.sort, host=self.host or 'not measured')}\n\n{self.overview('pipe')}\n\n" \
               f"{super().markdown()}"

    def csv(self) -> str:
        """One line a row with everything there is: quality, costs, all metrics of all species and channels, shapes."""
        rows = [self._flat(name) for name in self.order()]
        fields = list(dict.fromkeys(key for row in rows for key in row))
        written = io.StringIO()
        writer = csv.DictWriter(written, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return written.getvalue()

    def _flat(self, name):
        """Column -> number or word of one row."""
        row = {"row": name, "front": int(name in self.front())} | {h: self.costs.get(name, {}).get(key, "")
                                                                   for h, key in COST.items()}
        if name not in self.scores:
            return row
        score = self.scores[name]
        row |= {h: self.quality(name, h) for h in QUALITY}
        for found in ("AUC", "density", "coverage", "precision", "recall", "FPD", "KPD"):
            mean, deviation = score.get(found) or (NAN, NAN)
            row |= {f"{found} deviation": deviation} | ({} if found in QUALITY else {found: mean})
        for species in self.species():
            for metric, (mean, deviation) in score["metrics"][species].items():
                row |= {f"{metric} {species}": mean, f"{metric} {species} deviation": deviation}
        row |= {f"{key} {observable}": values[key] for observable, values in score["shapes"].items()
                for key in ("distance", "separation")}
        row |= {f"D {species}": ratio for species, ratio in score.get("diversity", {}).items()}
        return {key: "" if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}

    def write(self, folder: str | Path) -> Path:
        """As `Table.write`, and overview.txt, report.csv, costs.json and page.html."""
        from zdckeras.comparison.page import write_page

        folder = super().write(folder)
        about = {"host": self.host, "sorted by": self.sort, "front": self.front(), "costs": self.costs,
                 "failures": self.failures, "made": self.made}
        for name, text in (("overview.txt", f"{self.overview()}\n"), ("report.csv", self.csv()),
                           ("costs.json", json.dumps(without_nan(about), indent=1))):
            write_text(folder / name, text)
        if self.looks:
            write_page(self, folder / "page.html")
        return folder


def _words(value, digits, runs):
    """A number, or mean ± deviation of several; a dash for what is not known."""
    mean, deviation = value if isinstance(value, (list, tuple)) else (value, None)
    if mean is None or math.isnan(mean):
        return "-"
    return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if deviation is not None and runs > 1 else "")


def _cost(value):
    """A cost in three digits, whole numbers in full."""
    if value is None or isinstance(value, float) and math.isnan(value):
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) and value < 999.5 else f"{value:,.0f}" if isinstance(
        value, float) else str(value)
