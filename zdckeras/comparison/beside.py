"""Rows of an earlier report on the same test set beside those of a new one: its models' files are not needed."""

import json
from pathlib import Path

import numpy as np

from zdckeras.comparison.leaderboard import BESIDE, Comparison
from zdckeras.provenance import PROVENANCE_FILE

SAME = ("detector", "channels", "seed", "judged", "pixels")  # settings that scores depend on
TIMED = ("ms_1", "ms_256", "MiB")  # costs of the machine they were measured on


def read_report(folder: str | Path) -> tuple[dict, dict, dict]:
    """Scores, costs and provenance that `Comparison.write` has left in a folder.

    Raises:
        FileNotFoundError: if one of its files is not there.
        ValueError: for files that are damaged.
    """
    found = []
    for name in ("report.json", "costs.json", PROVENANCE_FILE):
        path = Path(folder) / name
        if not path.is_file():
            raise FileNotFoundError(f"No such file: {path}: expected the folder of a report as compare --out writes it")
        try:
            found.append(_numbers(json.loads(path.read_text(encoding="utf-8"))))
        except ValueError as error:
            raise ValueError(f"{path}: expected JSON, received a damaged file: {error}") from None
    return found[0], found[1], found[2]


def check_report(told: dict, folder: str | Path, provenance: dict) -> None:
    """ValueError, in one line, unless scores of a report can stand beside those of a comparison.

    Arguments:
        told: provenance of the comparison.
        folder: of the report.
        provenance: of the report.
    """
    for name in SAME:
        if provenance.get(name) != told[name]:
            raise ValueError(f"{folder}: expected a report of {name} {told[name]}, received one of "
                             f"{provenance.get(name, 'no known')} {name}.")
    if not np.allclose(provenance.get("mean sums", np.nan), told["mean sums"], rtol=1e-3):
        raise ValueError(f"{folder}: expected a report on the same showers, received one on others: mean channel sums "
                         f"{provenance.get('mean sums', 'unknown')}, here {told['mean sums']}.")


def join(table: Comparison, folder: str | Path) -> None:
    """Add the models of a report to a comparison that has a `provenance`; rows that it has already stay as they are.

    Times and memory are taken over only from a machine of the same name.

    Raises:
        FileNotFoundError, ValueError: as `read_report` and `check_report`.
    """
    scores, costs, provenance = read_report(folder)
    check_report(table.provenance, folder, provenance)
    for name, score in scores.items():
        if name in table.scores or name in BESIDE:
            continue
        table.add(name, score)
        kept = dict(costs["costs"].get(name, {}))
        if costs.get("host") != table.host:
            kept = {key: value for key, value in kept.items() if key not in TIMED}
        table.costs[name] = kept
        table.made[name] = {"report": str(folder), **costs.get("made", {}).get(name, {})}
    table.provenance["beside"] = str(folder)


def _numbers(value):
    """Nested values with NaN for null, as scores have it."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float("nan") if value is None else value
