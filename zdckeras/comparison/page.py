"""A comparison as one HTML page that needs no network: its data as JSON, drawn by the script it contains.

Nothing of the data becomes markup: the script sets it as text, and the JSON is written without <, > and &. The page
forbids itself to load anything.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import numpy as np
from matplotlib import colormaps

from zdckeras.comparison.leaderboard import QUALITY, Comparison
from zdckeras.data.atomic import write_text
from zdckeras.data.detectors import CHANNEL_COUNT, get_detector
from zdckeras.data.particles import COLUMN, SPECIES, name_of
from zdckeras.data.showers import Showers
from zdckeras.metrics.report import FEWEST, without_nan
from zdckeras.metrics.shapes import SHAPE_OBSERVABLES, observables_in
from zdckeras.plots import histogram_counts, histogram_edges, model_colours

BINS, CORNER_BINS = 30, 18
CORNER = ("photons", "centre_x", "centre_y", "width", "core", "parity")  # observables of the corner plot
BY_SPECIES = ("WS", "MAE", "RMSE", "MAE_w", *(f"WS{k + 1}" for k in range(CHANNEL_COUNT)), "D")
PARTS = ("page.css", "page.js")  # what goes into the template, in the place of its name


def write_page(table: Comparison, path: str | Path) -> Path:
    """Write a comparison as one self-contained HTML file, whole or not at all.

    Arguments:
        table: from `zdckeras.comparison.compare.compare`.
        path: of the file.

    Returns:
        The file, a `pathlib.Path`.
    """
    here, path = files("zdckeras.comparison"), Path(path)
    text = (here / "page.html").read_text(encoding="utf-8")
    for part in PARTS:
        text = text.replace(f"/* {part} */", (here / part).read_text(encoding="utf-8"))
    write_text(path, text.replace("/* data */", embedded(page_data(table))))
    return path


def embedded(data: object) -> str:
    """JSON that may stand in a script element: <, > and & are written as escapes, and NaN as null.

    Example:
        >>> embedded({"name": "</script>", "value": float("nan")})
        '{"name":"\\\\u003c/script\\\\u003e","value":null}'
    """
    text = json.dumps(without_nan(data), default=str, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def page_data(table: Comparison) -> dict:
    """All that the page shows, as plain values."""
    real, name = table.looks["real"].real, table.provenance["detector"]
    names = [row for row in table.order() if row in table.looks]
    parts = {tab: real.pdg == code for tab, code in SPECIES.items() if (real.pdg == code).sum() >= FEWEST}
    parts = {"all": np.ones(len(real), bool)} | parts
    values = {label: np.column_stack([table.looks[label].sums, table.looks[label].shapes])
              for label in ("real", *names)}
    return {
        "detector": name, "unit": get_detector(name).unit, "shape": get_detector(name).shape, "host": table.host,
        "rows": ["real", *names], "colours": dict(zip(names, model_colours(names), strict=True)),
        "palette": [f"rgb({', '.join(str(round(255 * c)) for c in colour[:3])})"
                    for colour in colormaps["viridis"](np.linspace(0, 1, 64))],
        "tables": {"quality": table.quality_rows(), "cost": table.cost_rows(),
                   "species": {metric: table.species_rows(metric) for metric in BY_SPECIES},
                   "shapes": table.shape_rows()},
        "notes": table.notes(),
        "runs": " to ".join(str(runs) for runs in sorted({pick(score["runs"] for score in table.scores.values())
                                                          for pick in (min, max)})),
        "failures": table.failures, "sort": table.sort, "made with": table.provenance, "provenance": table.made,
        "ideals": {heading: table.ideal(heading) for heading in QUALITY},
        "tabs": {tab: int(rows.sum()) for tab, rows in parts.items()},
        "gallery": _gallery(table, real, names),
        "histograms": {tab: _histograms({label: v[rows] for label, v in values.items()}, get_detector(name).unit)
                       for tab, rows in parts.items()},
        "corner": {"names": [observables_in(get_detector(name).unit)[one] for one in CORNER],
                   "tabs": {tab: _corner({label: table.looks[label].shapes[rows] for label in values})
                            for tab, rows in parts.items()}},
        "points": [_point(table, row) for row in table.order() if table.costs.get(row, {}).get("ms_1")],
    }


def _gallery(table, real: Showers, names):
    """Titles of the pictured particles, and their responses as index, value, index, value, ... of lit cells."""
    def sparse(image):
        flat = np.asarray(image).reshape(-1)
        lit = np.flatnonzero(flat)
        kept = flat[lit].astype(int) if flat.dtype.kind in "ui" else [float(f"{value:.3g}") for value in flat[lit]]
        return np.column_stack([lit, kept]).reshape(-1).tolist()

    rows = table.looks["real"].rows
    tabs = {code: tab for tab, code in SPECIES.items()}
    titles = [f"{name_of(real.pdg[row])}, {real.particles[row, COLUMN['energy']]:.0f} GeV" for row in rows]
    return {"titles": titles, "tabs": [tabs.get(int(real.pdg[row]), "") for row in rows],
            "images": {label: [sparse(image) for image in table.looks[label].gallery] for label in ("real", *names)}}


def _histograms(values: Mapping[str, np.ndarray], unit):
    """Edges and counts of the channel sums and of every observable."""
    titles = [f"channel {k + 1} [{unit}]" for k in range(CHANNEL_COUNT)] + list(observables_in(unit).values())
    found = []
    for k, title in enumerate(titles):
        edges = histogram_edges(values["real"][:, k], BINS)
        found.append({"title": title, "edges": [float(f"{edge:.6g}") for edge in edges],
                      "counts": {label: histogram_counts(v[:, k], edges).astype(int).tolist()
                                 for label, v in values.items()}})
    return found


def _corner(values: Mapping[str, np.ndarray]):
    """Limits, and for every row of the table counts in two dimensions of each pair and the correlations."""
    columns = [list(SHAPE_OBSERVABLES).index(name) for name in CORNER]
    chosen = {label: v[:, columns] for label, v in values.items()}
    limits = np.percentile(chosen["real"], (0.5, 99.5), axis=0)
    limits[1] = np.where(limits[1] > limits[0], limits[1], limits[0] + 1)
    found = {"limits": [[float(f"{edge:.4g}") for edge in pair] for pair in limits.T], "rows": {}}
    for label, v in chosen.items():
        cells = np.clip(((v - limits[0]) / (limits[1] - limits[0]) * CORNER_BINS).astype(int), 0, CORNER_BINS - 1)
        pairs = [np.bincount(cells[:, i] * CORNER_BINS + cells[:, j], minlength=CORNER_BINS**2).tolist()
                 for i in range(len(CORNER)) for j in range(i + 1)]
        with np.errstate(invalid="ignore", divide="ignore"):
            correlation = np.corrcoef(v.T).round(2).tolist()
        found["rows"][label] = {"pairs": pairs, "correlation": correlation}
    return found


def _point(table, row):
    """One point of the plot of quality against time."""
    cost = table.costs[row]
    return {"name": row, "ms": {"1": cost["ms_1"], "256": cost.get("ms_256")}, "front": row in table.front(),
            "values": {heading: table.quality(row, heading) for heading in QUALITY}}
