"""The data set: particles, and the responses of one or more detectors to them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zdckeras.data.detectors import Detector
from zdckeras.data.detectors import get_detector as detector_of
from zdckeras.data.kinematics import are_ids, check_particles
from zdckeras.data.particles import CONDITIONS
from zdckeras.data.responses import measured
from zdckeras.mapped import in_blocks, joined, selected

# The papers keep showers with at least this many photons.
PAPER_PHOTONS = {"zn": 10, "zp": 1}


@dataclass(frozen=True, eq=False)
class Showers:
    """Particles and the responses of one or more detectors to them, row by row.

    Indexing with a slice, a boolean mask, an integer array or one integer gives a `Showers` of those rows. Responses
    that are on disk (see `zdckeras.mapped`) stay there.

    Arguments:
        particles: (N, 9) conditions in the order and units of `zdckeras.data.particles.CONDITIONS`.
        pdg: (N,) PDG ids.
        responses: detector name -> (N, nx, ny), first axis x: photon counts, or energies [MeV] where that is the
            detector's unit.
        metadata: where the data come from: source, seeds, ...; plain values that JSON can hold.

    Raises:
        ValueError: for no rows, shapes that do not belong together or to the detector, particles that cannot be (see
            `zdckeras.data.kinematics.check_particles`), and counts that are negative, fractional or not finite.

    Example:
        >>> from zdckeras.data.particles import conditions_of
        >>> pdg = np.array([22, 2112])
        >>> particles = conditions_of(pdg, np.array([[0.0, 0.0, 100.0], [0.0, 0.0, -2500.0]]))
        >>> showers = Showers(particles, pdg, {"zn": np.ones((2, 44, 44), "uint16")})
        >>> len(showers), len(showers[showers.species(22)]), showers.response.shape
        (2, 1, (2, 44, 44))
    """

    particles: np.ndarray
    pdg: np.ndarray
    responses: dict
    metadata: dict = field(default_factory=dict)

    def __post_init__(self):
        particles, pdg = _checked_particles(self.particles), np.asarray(self.pdg)
        rows = len(particles)
        if pdg.shape != (rows,):
            raise ValueError(f"pdg: expected shape ({rows},) to match the particles, received {pdg.shape}.")
        if not are_ids(pdg):
            raise ValueError(f"pdg: expected whole numbers, received dtype {pdg.dtype} with values {pdg[:5].tolist()}.")
        check_particles(particles, pdg)
        self._set(particles, pdg.astype("int32"), _checked_responses(self.responses, rows), self.metadata)

    def _set(self, *values):
        """The four attributes, checked."""
        for name, value in zip(("particles", "pdg", "responses"), values[:3], strict=True):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "metadata", dict(values[3]))

    @classmethod
    def _of(cls, particles, pdg, responses, metadata):
        """`Showers` of parts of checked ones."""
        if not len(particles):
            raise ValueError("Empty selection: expected at least one particle, received none.")
        made = object.__new__(cls)
        made._set(particles, pdg, responses, metadata)
        return made

    @classmethod
    def answering(cls, particles: np.ndarray, pdg: np.ndarray, responses: dict, metadata: dict) -> "Showers":
        """`Showers` of a part of particles that have been checked as a whole; the responses are checked here."""
        return cls._of(_checked_particles(particles), np.asarray(pdg).astype("int32"),
                       _checked_responses(responses, len(particles)), metadata)

    def __len__(self):
        return len(self.particles)

    def __repr__(self):
        return f"Showers({len(self)} particles, {' and '.join(self.responses)})"

    def __getitem__(self, rows):
        if isinstance(rows, (int, np.integer)):
            rows = [rows]
        if np.ndim(self.pdg[rows]) != 1:
            raise IndexError(f"Expected one row, a slice, a mask (N,) or a list of rows, received {str(rows)[:100]!r}.")
        responses = {name: selected(counts, rows) for name, counts in self.responses.items()}
        return Showers._of(self.particles[rows], self.pdg[rows], responses, self.metadata)

    @property
    def response(self) -> np.ndarray:
        """The (N, nx, ny) photon counts or energies of the only detector; ValueError if there are several."""
        return self.response_of()

    def response_of(self, detector: str | None = None) -> np.ndarray:
        """The photon counts of one detector.

        Arguments:
            detector: name; may be left out where there is only one.

        Returns:
            Array (N, nx, ny), uint16 photons or float32 energies [MeV].

        Raises:
            ValueError: if the showers do not have that detector, or have several and none is named.
        """
        return self.responses[self.detector(detector).name]

    def detector(self, name: str | None = None) -> Detector:
        """The `Detector` called `name`, or the only one; ValueError if it is not among these showers."""
        if name is None and len(self.responses) > 1:
            raise ValueError(f"These showers have several detectors, {', '.join(self.responses)}: name one.")
        detector = detector_of(next(iter(self.responses)) if name is None else name)
        if detector.name not in self.responses:
            raise ValueError(f"These showers have no detector {detector.name!r}, only {', '.join(self.responses)}.")
        return detector

    def only(self, *detectors: str) -> "Showers":
        """The same particles with the responses of the named detectors alone, in that order.

        Raises:
            ValueError: for a detector that is not there, named twice, or none.
        """
        responses = {detector_of(name).name: self.response_of(name) for name in detectors}
        if not responses or len(responses) < len(detectors):
            raise ValueError(f"Expected names of detectors, each once, received {', '.join(detectors) or 'none'}.")
        return Showers._of(self.particles, self.pdg, responses, self.metadata)

    def photon_sums(self, detector: str | None = None) -> np.ndarray:
        """Sum S = sum_ij R[i, j] of each response, (N,): photons as int64, energies [MeV] as float64."""
        response = self.response_of(detector)
        sums = np.empty(len(response), "float64" if response.dtype.kind == "f" else "int64")
        for rows, block in in_blocks(response):
            sums[rows] = block.sum(axis=(1, 2), dtype=sums.dtype)
        return sums

    def species(self, pdg: int) -> np.ndarray:
        """Mask (N,) of the rows whose particle has this PDG id."""
        return self.pdg == pdg

    def at_least(self, photons: int | None = None, detector: str | None = None) -> "Showers":
        """The showers with S >= photons, S the photon sum in one detector.

        Arguments:
            photons: the least number of photons, at least 0; by default the papers' cut, 10 for ZN and 1 for ZP.
            detector: name; may be left out where there is only one, or for the papers' cut in at least one of several.

        Returns:
            `Showers` of the selected rows.

        Raises:
            ValueError: if none is left, or for a detector without a default cut.

        Example:
            >>> from zdckeras.data.particles import conditions_of
            >>> response = np.zeros((2, 56, 30), "uint16")
            >>> response[1, 28, 15] = 4
            >>> particles = conditions_of(np.array([2212] * 2), np.array([[0.0, 0.0, 2510.0]] * 2))
            >>> len(Showers(particles, np.array([2212] * 2), {"zp": response}).at_least())
            1
        """
        names = list(self.responses) if detector is None and photons is None else [self.detector(detector).name]
        if photons is None and (unknown := [name for name in names if name not in PAPER_PHOTONS]):
            raise ValueError(f"The papers have no photon cut for {unknown[0]!r}: say how many photons.")
        if photons is not None and not 0 <= float(photons) < np.inf:
            raise ValueError(f"Expected a number of photons of at least 0, received {photons}.")
        cuts = {name: PAPER_PHOTONS[name] if photons is None else photons for name in names}
        sums = {name: self.photon_sums(name) for name in names}
        kept = np.any([sums[name] >= cut for name, cut in cuts.items()], axis=0)
        if not kept.any():
            found = " or ".join(f"at least {cut} photons in {name!r} (the brightest has {sums[name].max()})"
                                for name, cut in cuts.items())
            raise ValueError(f"Empty selection: none of {len(self)} showers has {found}.")
        return self[kept]

    def photon_cut(self) -> dict[str, int]:
        """Detector -> photons of the papers' cut, if every shower reaches that of one of its detectors; {} if not."""
        cut = {name: PAPER_PHOTONS[name] for name in self.responses if name in PAPER_PHOTONS}
        reached = [self.photon_sums(name) >= photons for name, photons in cut.items()]
        return cut if cut and np.any(reached, axis=0).all() else {}

    def split(self, by_condition: bool = False) -> tuple["Showers", "Showers", "Showers"]:
        """The papers' split: 20 % test, then 10 % of the total as validation, the rest for training.

        Row by row it is exactly the split of the published studies, order included: scikit-learn's
        `train_test_split` with test_size 0.2 and random_state 42, then 0.1 / 0.8 of the rest with random_state 43.

        Arguments:
            by_condition: split the distinct condition vectors instead of the rows, so that a repeated condition
                is never on two sides; the shares then hold for conditions, and rows keep their order.

        Returns:
            (training, validation, test), three `Showers`.

        Raises:
            ValueError: for fewer than 3 rows (or distinct conditions).

        Source: github.com/m-wojnar/faster_zdc, zdc/utils/data.py.
        """
        from sklearn.model_selection import train_test_split  # a second that campaigns need not wait

        units = len(self)
        if by_condition:
            conditions, unit_of_row = np.unique(self.particles, axis=0, return_inverse=True)
            units = len(conditions)
        if units < 3:
            raise ValueError(f"A split needs at least 3 {'conditions' if by_condition else 'showers'}, found {units}.")
        rest, test = train_test_split(np.arange(units), test_size=0.2, random_state=42)
        training, validation = train_test_split(rest, test_size=0.1 / (1 - 0.2), random_state=43)
        parts = (training, validation, test)
        if by_condition:
            parts = tuple(np.flatnonzero(np.isin(unit_of_row, part)) for part in parts)
        return tuple(self[part] for part in parts)


def concatenate(parts: Iterable[Showers]) -> Showers:
    """One data set from several, rows in the order given.

    Arguments:
        parts: `Showers` with the same detectors.

    Returns:
        `Showers`; metadata that differ are kept as a list under "parts".

    Raises:
        ValueError: for no parts, or different detectors.
    """
    parts = [checked(part) for part in parts]
    if not parts:
        raise ValueError("Expected at least one data set to concatenate, received none.")
    names = set(parts[0].responses)
    for part in parts:
        if set(part.responses) != names:
            raise ValueError(f"Cannot concatenate showers of {sorted(names)} with showers of {sorted(part.responses)}.")
    first = parts[0].metadata
    same = all(part.metadata == first for part in parts)
    return Showers._of(
        np.concatenate([part.particles for part in parts]),
        np.concatenate([part.pdg for part in parts]),
        {name: joined([part.responses[name] for part in parts]) for name in parts[0].responses},
        first if same else {"parts": [part.metadata for part in parts]},
    )


def checked(showers: Any) -> Showers:
    """`Showers` as they are; TypeError for anything else."""
    if not isinstance(showers, Showers):
        raise TypeError(f"Expected Showers, received {type(showers).__name__} {str(showers)[:50]!r}.")
    return showers


def _checked_responses(given, rows):
    """Detector name -> (rows, nx, ny) as they are kept; ValueError for what cannot be responses."""
    if not isinstance(given, dict) or not given:
        raise ValueError("responses: expected a dictionary with at least one detector name -> (N, nx, ny) array.")
    responses = {}
    for name, values in given.items():
        detector = detector_of(name)
        expected, shape = (rows, *detector.shape), np.shape(values)
        if shape != expected:
            raise ValueError(f"responses[{detector.name!r}]: expected shape {expected}, received {shape}.")
        if detector.name in responses:
            raise ValueError(f"responses: expected one array for {detector.name!r}, received two.")
        responses[detector.name] = measured(values, detector, f"responses[{detector.name!r}]")
    return responses


def _checked_particles(particles):
    """(N, 9) float64, N > 0, all finite."""
    try:
        particles = np.asarray(particles, "float64")
    except (TypeError, ValueError):
        raise ValueError(f"particles: expected numbers, received dtype {np.asarray(particles).dtype}.") from None
    if particles.ndim != 2 or particles.shape[1] != len(CONDITIONS):
        raise ValueError(
            f"particles: expected shape (N, {len(CONDITIONS)}) with columns {', '.join(CONDITIONS)}, "
            f"received {particles.shape}."
        )
    if not len(particles):
        raise ValueError("Empty selection: expected at least one particle, received none.")
    finite = np.isfinite(particles)
    if not finite.all():
        row, column = np.argwhere(~finite)[0].tolist()
        raise ValueError(
            f"particles[{row}, {column}] ({CONDITIONS[column]}) = {particles[row, column]}: expected finite numbers."
        )
    return particles
