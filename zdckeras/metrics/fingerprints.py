"""Do two sets of showers have rows in common? A small sample of hashes beside a model says so, without the showers."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b

import numpy as np

from zdckeras.data.detectors import get_detector
from zdckeras.data.showers import Showers

KEPT = 16_384  # hashes of a sketch: 128 kB
LEAST_PHOTONS = 10  # two responses to one particle with less light may be equal by chance


def row_hashes(showers: Showers, detector: str | None = None) -> np.ndarray:
    """64-bit hashes of the rows of showers: particle in single precision, PDG id and response, sorted, each once.

    Rows with fewer than 10 photons, or without energy, are left out.

    Arguments:
        showers: `Showers`.
        detector: name; may be left out where there is only one.

    Returns:
        (n,) uint64, n at most the number of rows.
    """
    name = showers.detector(detector).name
    photons = get_detector(name).unit == "photons"
    particles, pdg = showers.particles.astype("float32"), showers.pdg.astype("int32")
    found = []
    for row, response in enumerate(showers.response_of(name)):
        if response.sum() >= LEAST_PHOTONS if photons else response.any():
            content = particles[row].tobytes() + pdg[row].tobytes()
            content += np.ascontiguousarray(response, "uint16" if photons else "float32").tobytes()
            found.append(int.from_bytes(blake2b(content, digest_size=8).digest(), "little"))
    return np.unique(np.array(found, "uint64"))


def sketch_of(sets: Iterable[Showers]) -> dict[str, np.ndarray]:
    """The smallest 16,384 hashes of all rows of several sets of showers, for each detector.

    Hashes are uniform, so this is a random sample of the rows, and the same rows are in the sample of any other set.

    Arguments:
        sets: several `Showers`, of the same detectors.

    Returns:
        Detector name -> (n,) sorted uint64, n at most 16,384.

    Source: bottom-k sketches; Cohen and Kaplan, PODC 2007.
    """
    found = {}
    for showers in sets:
        for name in showers.responses:
            both = np.union1d(found.get(name, np.empty(0, "uint64")), row_hashes(showers, name))
            found[name] = both[:KEPT]
    return found


def overlap(sketch: Mapping[str, np.ndarray], showers: Showers, detector: str | None = None) -> int | None:
    """How many rows are known to be among those of a sketch; None if it does not have the detector.

    If the sketch is a sample (it is full), only rows whose hash is not above its largest are looked for: of m rows in
    common about m x 16,384 / (rows of the sketch's set) are found. A wrong hit has a probability of 2^-64 a pair.

    Arguments:
        sketch: from `sketch_of`.
        showers: `Showers`.
        detector: name; may be left out where there is only one.

    Example:
        >>> from zdckeras.data.particles import conditions_of
        >>> pdg = np.full(4, 2112)
        >>> light = np.random.default_rng(0).poisson(1.0, (4, 44, 44))
        >>> showers = Showers(conditions_of(pdg, np.tile([0.0, 0.0, 2500.0], (4, 1))), pdg, {"zn": light})
        >>> overlap(sketch_of([showers[:3]]), showers[1:])
        2
    """
    name = showers.detector(detector).name
    if name not in sketch:
        return None
    return int(np.isin(row_hashes(showers, name), sketch[name], assume_unique=True).sum())
