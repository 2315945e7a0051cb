"""Particles to answer: out of files of showers, tables (CSV) and generated events (HepMC3)."""

import csv
import gzip
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from zdckeras.data.files import open_particles
from zdckeras.data.kinematics import check_ids, check_particles, likely_ids, nucleus_charges
from zdckeras.data.particles import COLUMN, CONDITION_COUNT, CONDITIONS, conditions_of, unknown_ids

FINAL = 1  # HepMC status of particles that leave the event
MOMENTUM, VERTEX = ("px", "py", "pz"), ("vx", "vy", "vz")
EVENT_FILES = (".hepmc", ".hepmc3", ".hepmc2")
FOOTER = b"END_EVENT_LISTING"  # in the last line of a whole HepMC file


def particles_of(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Conditions (N, 9) and PDG ids (N,) of the particles in a file; without ids, see `likely_ids`.

    Arguments:
        path: whatever `zdckeras.data.files.open_particles` takes; a .csv table, see `particles_from_csv`; or a HepMC
            file, see `particles_from_events`.

    Raises:
        FileNotFoundError: if nothing is there.
        ImportError: if the package that reads it is not installed.
        ValueError: if it holds no particles, or some that cannot be; in one line that begins with the name.
    """
    place = Path(path)
    if place.suffix.lower() != ".csv" and not is_event_file(place):
        return open_particles(path)
    if not place.is_file():
        raise FileNotFoundError(f"No such file: {place}")
    try:
        values = (particles_from_csv if place.suffix.lower() == ".csv" else particles_from_events)(place)
        if not len(values) or not np.isfinite(values).all():
            raise ValueError(f"expected particles of finite numbers, received {len(values)} with "
                             f"{(~np.isfinite(values)).sum()} numbers that are not")
        conditions = values[:, :CONDITION_COUNT]
        pdg = (values[:, -1] if values.shape[1] > CONDITION_COUNT else likely_ids(conditions)).astype("int32")
        check_particles(conditions, pdg)
    except ImportError:
        raise
    except Exception as error:  # damaged files raise a dozen unrelated kinds
        raise ValueError(f"{place}: cannot be read as particles: {' '.join(str(error).split())[:600]}") from None
    return conditions, pdg


def particles_from_csv(path: str | Path) -> np.ndarray:
    """Conditions and PDG ids of a table with a header, (N, 10), or (N, 9) where it has no ids.

    Columns, in any order, in capitals or not: the nine conditions with or without `pdg`; or `pdg`, `px`, `py`, `pz`
    [GeV] and, if it is not the origin, the vertex `vx`, `vy`, `vz` [cm]; of `energy` [GeV], `mass` [MeV] and `charge`
    those that are there are taken, the rest follows from the id. Columns of other names are not looked at. Nuclei that
    the table of the `particle` package lacks want the nine conditions. Empty lines are skipped.

    Arguments:
        path: a .csv file, commas between the columns.

    Raises:
        ValueError: for missing or repeated columns, lines of another length, words in place of numbers, or unknown ids.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines, rows = csv.reader(file), []
        filled = (line for line in lines if len(line) > 1 or "".join(line).strip())
        names = [name.strip().lower() for name in next(filled, [])]
        for line in filled:
            if len(line) != len(names):
                raise ValueError(f"line {lines.line_num}: expected {len(names)} values, received {len(line)}")
            rows.append(line)
    columns = {name: k for k, name in enumerate(names) if name in (*CONDITIONS, "pdg")}
    if repeated := sorted({name for name in columns if names.count(name) > 1}):
        raise ValueError(f"expected columns of different names, received {', '.join(repeated)} more than once")
    missing = [name for name in ("pdg", *MOMENTUM) if name not in columns]
    if missing and not set(CONDITIONS) <= set(columns):
        raise ValueError(f"expected columns {', '.join(CONDITIONS)}, or pdg, px, py, pz; {', '.join(missing)} missing")
    try:
        values = np.array([[row[k] for k in columns.values()] for row in rows], "float64").reshape(-1, len(columns))
    except ValueError as error:
        raise ValueError(f"expected numbers below the header, {error}") from None
    columns = {name: k for k, name in enumerate(columns)}
    if "pdg" in columns:
        check_ids(values[:, columns["pdg"]])
    if set(CONDITIONS) <= set(columns):
        wanted = [*CONDITIONS, *(["pdg"] if "pdg" in columns else [])]
        return values[:, [columns[name] for name in wanted]]
    if (given := len(set(VERTEX) & set(columns))) not in (0, len(VERTEX)):
        raise ValueError(f"expected the whole vertex {', '.join(VERTEX)} or nothing of it, received {given} of these")
    pdg = values[:, columns["pdg"]]
    vertex = values[:, [columns[name] for name in VERTEX]] if set(VERTEX) <= set(columns) else None
    found = conditions_of(pdg, values[:, [columns[name] for name in MOMENTUM]], vertex)
    for name in {"energy", "mass", "charge"} & set(columns):
        found[:, COLUMN[name]] = values[:, columns[name]]
    return np.column_stack([found, pdg])


def particles_from_events(path: str | Path) -> np.ndarray:
    """Final-state particles of all events of a HepMC file, (N, 10): conditions and PDG ids, in the order of the file.

    A particle's vertex is where it was produced. Neutrinos, which no calorimeter sees, are left out. Nuclei that the
    table of the `particle` package lacks have the energy and mass of the file, and the charge of their id.

    Arguments:
        path: a HepMC2 or HepMC3 file in ASCII, which may be compressed (.gz).

    Raises:
        ImportError: if `pyhepmc` is not installed.
        ValueError: for a file without events, one that is cut off or damaged, or ids that are in no table and of no
            nucleus.
    """
    if find_spec("pyhepmc") is None:
        raise ImportError("HepMC files are read by pyhepmc, which is not installed: pip install pyhepmc.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pyhepmc
    parts, read = [], 0
    with pyhepmc.open(str(path), "r") as events:
        for event in events:
            read += 1
            energy = 1e-3 if event.momentum_unit == pyhepmc.Units.MEV else 1.0
            length = 0.1 if event.length_unit == pyhepmc.Units.MM else 1.0
            found = [(p.pid, p.momentum, p.production_vertex) for p in event.particles
                     if p.status == FINAL and abs(p.pid) not in (12, 14, 16)]
            for pid, momentum, vertex in found:
                place = vertex.position if vertex is not None else None
                parts.append([pid, *(energy * getattr(momentum, name) for name in (*MOMENTUM, "e")),
                              *((length * getattr(place, name) for name in "xyz") if place is not None else (0,) * 3)])
    begun, whole = _events_in(path)
    if begun and (read < begun or not whole):  # the reader stops without a word
        raise ValueError(f"expected a whole file of events that ends in {FOOTER.decode()}, received one with {begun} "
                         f"events of which {read} can be read{'' if whole else ' and no such line'}")
    if not parts:
        raise ValueError("expected events with final-state particles, found none")
    rows = np.array(parts, "float64")
    pdg, momentum, total, vertex = rows[:, 0], rows[:, 1:4], rows[:, 4], rows[:, 5:]
    strange, found = np.isin(pdg, unknown_ids(pdg)), np.empty((len(rows), CONDITION_COUNT))
    found[~strange] = conditions_of(pdg[~strange], momentum[~strange], vertex[~strange])
    mass = 1e3 * np.sqrt(np.maximum(total**2 - (momentum**2).sum(axis=1), 0.0))  # MeV
    found[strange, :-1] = np.column_stack([total, vertex, momentum, mass])[strange]
    found[strange, -1] = nucleus_charges(pdg[strange])
    return np.column_stack([found, pdg])


def _events_in(path):
    """(number of lines that begin an event, whether the footer is there) of a HepMC file."""
    begun, whole = 0, False
    with (gzip.open if Path(path).suffix.lower() == ".gz" else open)(path, "rb") as lines:
        for line in lines:
            begun += line.startswith(b"E ")
            whole = whole or FOOTER in line
    return begun, whole


def is_event_file(path: Path) -> bool:
    """Whether a name is that of a HepMC file.

    Example:
        >>> is_event_file(Path("a.hepmc3.gz")), is_event_file(Path("a.npz"))
        (True, False)
    """
    *_, before, last = "", "", *(suffix.lower() for suffix in path.suffixes)
    return last in EVENT_FILES or (last == ".gz" and before in EVENT_FILES)
