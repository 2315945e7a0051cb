"""Rows of an earlier report on the same test set beside those of a new one: its models' files are not needed."""

import json
from pathlib import Path

import numpy as np

from zdckeras.comparison.leaderboard import BESIDE, Comparison
from zdckeras.metrics.channels import ALL
from zdckeras.provenance import PROVENANCE_FILE

SAME = ("metrics", "detector", "channels", "seed", "judged", "pixels")  # settings that scores depend on
# costs of the machine they were measured on
TIMED = ("ms_1", "ms_256", "MiB", "wall_1", "wall_256", "cpu_1", "cpu_256", "first_s", "device")
PARTS = {"metrics", "counts", "shapes", "auc", "runs"}  # of a score


def read_report(folder: str | Path) -> tuple[dict, dict, dict]:
    """Scores, costs and provenance that `Comparison.write` has left in a folder.

    Raises:
        FileNotFoundError: if one of its files is not there.
        ValueError: for files that are damaged, or of something else.
    """
    found = {}
    for name in ("report.json", "costs.json", PROVENANCE_FILE):
        path = Path(folder) / name
        if not path.is_file():
            raise FileNotFoundError(f"No such file: {path}: expected the folder of a report as compare --out writes it")
        try:
            found[name] = _numbers(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"{path}: expected JSON, received a damaged file: {error}") from None
    scores, costs, provenance = found.values()
    if not (all(isinstance(part, dict) for part in found.values()) and isinstance(costs.get("costs"), dict)
            and all(isinstance(score, dict) and PARTS <= set(score) for score in scores.values())):
        raise ValueError(f"{folder}: expected the scores, costs and provenance of a report, received something else.")
    return scores, costs, provenance


def check_report(told: dict, folder: str | Path, provenance: dict) -> None:
    """ValueError, in one line, unless a report is on the test set of a comparison.

    Arguments:
        told: provenance of the comparison.
        folder: of the report.
        provenance: of the report.
    """
    for name in SAME:
        if provenance.get(name) != told[name]:
            raise ValueError(f"{folder}: expected a report with {name} {told[name]}, received one with "
                             f"{provenance.get(name, 'none')}.")
    if not np.allclose(provenance.get("mean sums", np.nan), told["mean sums"], rtol=1e-3):
        raise ValueError(f"{folder}: expected a report on the same showers, received one with mean channel sums "
                         f"{provenance.get('mean sums', 'unknown')}, where they are {told['mean sums']}.")


def join(table: Comparison, folder: str | Path, report: tuple[dict, dict, dict]) -> None:
    """Add the models of a report to a comparison.

    Rows that the comparison has, or has tried, stay as they are. Times and memory are taken over only from a machine of
    the same name.

    Arguments:
        table: with a `provenance` that has passed `check_report`.
        folder: of the report.
        report: from `read_report`.

    Raises:
        ValueError: if floors differ by more than a hundredth, where the metrics have changed since.
    """
    scores, costs, provenance = report
    floors = [score["metrics"][ALL]["WS"][0] for score in (scores.get("floor"), table.scores.get("floor")) if score]
    if len(floors) == 2 and not np.isclose(*floors, rtol=0.01):
        raise ValueError(f"{folder}: expected a report by the metrics of today, with a floor of WS {floors[1]:.4f}, "
                         f"received one with {floors[0]:.4f}.")
    taken = [name for name in scores if not {name} & {*table.scores, *table.failures, *BESIDE}]
    for name in taken:
        table.add(name, scores[name])
        table.costs[name] = {key: value for key, value in costs["costs"].get(name, {}).items()
                             if costs.get("host") == table.host or key not in TIMED}
        table.made[name] = {"report": Path(folder).name, "judged by": provenance.get("versions", {})} | costs.get(
            "made", {}).get(name, {})
    table.provenance["beside"] = {"report": Path(folder).name, "models": taken}


def _numbers(value):
    """Nested values with NaN for null, as scores have it."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float("nan") if value is None else value
