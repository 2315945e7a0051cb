"""The reference simulation as data: primaries, transport and frozen showers make `Showers` of any size."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

import numpy as np
from tqdm import tqdm

from zdckeras.arguments import random_numbers, seed_numbers, whole_number
from zdckeras.data.detectors import get_detector
from zdckeras.data.showers import PAPER_PHOTONS, Showers, concatenate
from zdckeras.simulation.frozen import FrozenShowers
from zdckeras.simulation.gun import GUNS, PointShowers, draw_gun
from zdckeras.simulation.library import packaged_library
from zdckeras.simulation.points import packaged_points
from zdckeras.simulation.primaries import draw_primaries
from zdckeras.simulation.transport import transport

Simulator = FrozenShowers | PointShowers  # what answers for a detector, with or without a gun
FROZEN_SOURCE = "Geant4 11.4 frozen showers, light scale arbitrary"
GUN_SOURCE = "Geant4 11.4 showers of a gun, energy in the scintillator"
PRIMARIES_AT_ONCE = 20_000  # primaries simulated at once; part of the meaning of a seed
DATA_PARTS = ("train", "validation", "test")
ROUNDS = 2000  # of attempts, up to 64 a particle, to bring a condition over its photon cut again


def half_libraries(name: str) -> tuple[Simulator, Simulator]:
    """Showers from one half of a detector's packaged library of Geant4 showers, and from the other, for `resimulate`.

    Arguments:
        name: detector.

    Example:
        >>> particles = load("focalh", "test", size=4)
        >>> first, second = (resimulate(particles, 1, {"focalh": half}) for half in half_libraries("focalh"))
        >>> bool((first.response == second.response).all())
        False
    """
    if name in GUNS:
        first, second = (PointShowers(name, half) for half in packaged_points(name).halves())
    else:
        first, second = (FrozenShowers(name, half) for half in packaged_library(name).halves())
    return first, second


def respond(conditions: np.ndarray, pdg: np.ndarray, detectors: Sequence[str],
            rng: np.random.Generator, frozen: Mapping[str, Simulator] | None = None) -> dict[str, np.ndarray]:
    """One response of each detector to each particle: transport, decays, showers, photons; or, for a detector with a
    gun, the energy of its showers.

    Arguments:
        conditions: (N, 9) in the order of `zdckeras.data.particles.CONDITIONS`.
        pdg: (N,) PDG ids.
        detectors: names.
        rng: NumPy generator.
        frozen: detector name -> showers of another library than the packaged one.

    Returns:
        Detector name -> (N, nx, ny) uint16 photon counts, many of them empty, or float32 energies [MeV].

    Raises:
        ValueError: for showers of another kind of detector.

    Example:
        >>> from zdckeras.data.particles import conditions_of
        >>> pdg = np.array([2112])
        >>> particle = conditions_of(pdg, np.array([[0.0, 0.0, 2680.0]]))
        >>> r = respond(particle, pdg, ["zn"], np.random.default_rng(0))["zn"]
        >>> r.shape, bool(500 < r.sum() < 2500)
        ((1, 44, 44), True)
    """
    for name, simulator in (frozen or {}).items():
        kind = PointShowers if name in GUNS else FrozenShowers
        if not isinstance(simulator, kind):
            raise ValueError(f"Expected {kind.__name__} for {name}, received {type(simulator).__name__}.")
    if detectors[0] in GUNS:
        guns = {name: (frozen or {}).get(name) or PointShowers(name) for name in detectors}
        return {name: gun.respond(conditions, pdg, rng) for name, gun in guns.items()}
    arrivals = transport(conditions, pdg, rng, tuple(detectors))
    showers = {name: (frozen or {}).get(name) or FrozenShowers(name) for name in detectors}
    return {
        name: showers[name].respond(a.primary, a.pdg, a.energy, a.x, a.y, len(pdg), rng)
        for name, a in ((name, arrivals[name]) for name in detectors)
    }


def _lit(responses):
    """Rows in which at least one detector passes the papers' photon cut, where there is one."""
    return np.any([r.sum(axis=(1, 2)) >= PAPER_PHOTONS.get(name, 0) for name, r in responses.items()], axis=0)


def stream(detectors: Sequence[str], seed: int | Sequence[int], keep_all: bool = False) -> Iterator[Showers]:
    """Endless blocks of independent showers, block b fixed by (seed, b).

    Arguments:
        detectors: names.
        seed: integer or sequence of integers.
        keep_all: also responses below the papers' photon cut (10 for ZN, 1 for ZP, in at least one detector).

    Returns:
        Iterator of `Showers`; each block starts from 20,000 primaries.

    Example:
        >>> block = next(stream(["zn"], seed=3))
        >>> bool(block.response.sum(axis=(1, 2)).min() >= 10)
        True
    """
    names = [get_detector(name).name for name in detectors]
    cut = " or ".join(f"{PAPER_PHOTONS[name]} in {name}" for name in names if name in PAPER_PHOTONS)
    photons = f"at least {cut}" if cut and not keep_all else "any"
    source = GUN_SOURCE if names[0] in GUNS else FROZEN_SOURCE
    metadata = {"source": source, "seed": seed_numbers(seed), "photons": photons}
    for block in count():
        rng = random_numbers([*metadata["seed"], block], 3)  # as `load` has them
        if names[0] in GUNS:
            conditions, pdg = draw_gun(names[0], PRIMARIES_AT_ONCE, rng)
        else:
            conditions, pdg = draw_primaries(PRIMARIES_AT_ONCE, rng)
        responses = respond(conditions, pdg, names, rng)
        kept = slice(None) if keep_all else _lit(responses)
        yield Showers(conditions[kept], pdg[kept], {name: r[kept] for name, r in responses.items()}, metadata)


def draws(name: str, part: str = "train", size: int = 20_000, seed: int = 0, keep_all: bool = False,
          progress: bool = False) -> Iterator[Showers]:
    """The rows of `load`, block by block as they are simulated, for writing more than memory holds.

    Arguments:
        name, part, size, seed, progress: as in `load`.
        keep_all: also responses below the papers' photon cut.

    Returns:
        Iterator of `Showers`, `size` rows in all.

    Raises:
        ValueError: as in `load`.

    Example:
        >>> [len(block) for block in draws("zn", size=7, keep_all=True)]
        [7]
    """
    names = [get_detector(one).name for one in str(name).split("+")]
    if len(set(names)) < len(names):
        raise ValueError(f"{name!r}: expected each detector once.")
    if len(names) > 1 and set(names) & set(GUNS):
        raise ValueError(f"{name!r}: expected one detector, or zn+zp; {', '.join(GUNS)} have guns of their own.")
    if part not in DATA_PARTS:
        raise ValueError(f"Unknown part {part!r}; expected one of {', '.join(DATA_PARTS)}.")
    for what, number, least in (("size", size, 1), ("seed", seed, 0)):
        if not isinstance(number, (int, float, np.number)) or not least <= number < 2**63 or int(number) != number:
            raise ValueError(f"Expected a whole number of at least {least} as {what}, received {number!r}.")
    return _draws(names, part, int(size), [int(seed), DATA_PARTS.index(part)], keep_all, progress)


def _draws(names, part, size, seed, keep_all, progress):
    """The iterator of `draws`."""
    done = 0
    with tqdm(total=size, desc=f"simulating {'+'.join(names)} {part}", unit=" showers", disable=not progress) as bar:
        for block in stream(names, seed, keep_all):
            block = block[: size - done]
            done += len(block)
            yield block
            bar.update(len(block))
            if done == size:
                return


def load(name: str, part: str = "train", size: int = 20_000, seed: int = 0, progress: bool = False) -> Showers:
    """The embedded reference data: `size` showers over the papers' photon cut.

    Training, validation and test are independent draws of one process (the same Geant4 library), not a split of it.

    Arguments:
        name: "zn", "zp" or "zn+zp"; "ecal" or "focalh" (see `zdckeras.simulation.gun`).
        part: "train", "validation" or "test".
        size: number of showers.
        seed: of the draw; each part has its own stream.
        progress: show a bar.

    Returns:
        `Showers`; the first n of a longer draw are the shorter draw.

    Raises:
        ValueError: for an unknown detector or part, a size below 1 or a seed below 0.

    Example:
        >>> showers = load("zn", "test", size=5)
        >>> len(showers), showers.metadata["source"]
        (5, 'Geant4 11.4 frozen showers, light scale arbitrary')
    """
    return concatenate(draws(name, part, size, seed, progress=progress))


def resimulate(showers: Showers, seed: int, frozen: Mapping[str, Simulator] | None = None) -> Showers:
    """A second, independent response to the same particles, again over the photon cut: the Monte-Carlo floor.

    Particles that fail the cut are simulated again until they pass, as the first response passed it.

    Arguments:
        showers: `Showers` of the reference simulation.
        seed: of the second draw.
        frozen: detector name -> showers of another library than the packaged one.

    Returns:
        `Showers` of the same particles in the same order.

    Raises:
        ValueError: for showers below the cut (`keep_all`), or if a particle does not pass in 2000 rounds of attempts
            (it cannot have come from this simulation).

    Example:
        >>> first = load("zn", "test", size=20)
        >>> second = resimulate(first, seed=1)
        >>> bool((first.particles == second.particles).all()), bool((first.response == second.response).all())
        (True, False)
    """
    if (below := (~_lit(showers.responses)).sum()):
        raise ValueError("Expected showers that pass the papers' photon cut, as every further response does; received "
                         f"{below} of {len(showers)} below it.")
    rng = random_numbers([whole_number(seed, "seed", 0), len(DATA_PARTS), 0, 1], 4)  # no stream of `load` is like this
    responses = {name: np.zeros_like(r) for name, r in showers.responses.items()}
    open_rows = np.arange(len(showers))
    for _ in range(ROUNDS):
        attempts = np.tile(open_rows, max(1, min(64, 2000 // len(open_rows))))
        for part in np.array_split(attempts, -(-len(attempts) // PRIMARIES_AT_ONCE)):
            drawn = respond(showers.particles[part], showers.pdg[part], list(responses), rng, frozen)
            lit = _lit(drawn)
            for name, r in drawn.items():
                responses[name][part[lit]] = r[lit]
        open_rows = open_rows[~_lit({name: r[open_rows] for name, r in responses.items()})]
        if not len(open_rows):
            metadata = {"source": showers.metadata.get("source", FROZEN_SOURCE), "seed": seed}
            return Showers(showers.particles, showers.pdg, responses, metadata)
    raise ValueError(f"{len(open_rows)} particles never pass the photon cut: {showers.particles[open_rows[0]]}.")
