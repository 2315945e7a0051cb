"""Training, validation and test showers, embedded ones or a user's own, and the floor of the test."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from zdckeras.data.files import open_showers
from zdckeras.data.repeats import with_floor
from zdckeras.data.showers import Showers
from zdckeras.simulation.reference import half_libraries, load, resimulate

ROWS = "rows of the whole test part"  # in the metadata of the test


def showers_for(detector: str, data: str | Path | Sequence[str] | None, sizes: dict, draws: Iterable[int] = (1,),
                seed: int = 0) -> tuple[Showers, Showers, Showers, list[Showers]]:
    """Training, validation and test showers, and further responses to the test's particles: the floor.

    Arguments:
        detector: detector, as in `load`; of own showers only this one is kept.
        data: own showers, as `open_showers` takes them, or None for embedded ones. Own photons are cut and split as the
            papers do it, and the floor is made of repeated conditions: one half of each one's rows against the other.
            The test then has the rows of the first half; where few conditions occur twice, it has all, and no
            floor, see `zdckeras.data.repeats.with_floor`.
        sizes: part -> number of embedded showers; a part left out has one shower.
        draws: seeds of the further responses; own data have one at most, whatever the number.
        seed: of embedded draws and of the pairs of own data.

    Returns:
        Three `Showers`, and a list of `Showers` of the particles of the third.

    Raises:
        ValueError: as `open_showers` and `load`, or if own showers lack the detector.
    """
    if data is not None:
        training, validation, test = own_parts(open_showers(data), detector)
        rows, (test, again) = len(test), with_floor(test, seed)
        if again:
            test.metadata[ROWS] = rows
        return training, validation, test, again
    training, validation, test = (load(detector, part, sizes.get(part, 1), seed, progress=True)
                                  for part in ("train", "validation", "test"))
    return training, validation, test, [resimulate(test, k) for k in draws]


def apart(training: Showers, validation: Showers, test: Showers, draws: Iterable[int] = (1,), seed: int = 0,
          ) -> tuple[Showers, Showers, Showers, list[Showers], list[Showers]]:
    """Embedded showers anew, so that no Geant4 shower of the training is in the test: each has half of the library.

    What a model knows by heart of the training's showers helps it nowhere in such a test.

    Arguments:
        training, validation, test: `Showers` of one detector, from `showers_for`.
        draws: seeds of further responses to the test's particles.
        seed: of the training's and the test's responses.

    Returns:
        Training and validation, whose responses the first half of the packaged library gives, and a test, whose
        responses the other half gives; further responses of the test's half (the floor), and, one more, of the
        training's.

    Example:
        >>> parts = [load("zn", part, size=4) for part in ("train", "validation", "test")]
        >>> training, _, test, floor, other = apart(*parts, draws=(1, 2))
        >>> bool((test.particles == floor[1].particles).all()), len(other), len(training)
        (True, 3, 4)
    """
    name = test.detector().name
    first, second = ({name: half} for half in half_libraries(name))
    draws, begin = list(draws), 1_000_000 * (seed + 1)  # apart from the seeds of draws: none makes two responses
    training, validation = (resimulate(part, begin + k, first) for k, part in enumerate((training, validation)))
    floor = [resimulate(test, k, second) for k in draws]
    other = [resimulate(test, begin + 3 + k, first) for k in range(len(draws) + 1)]
    return training, validation, resimulate(test, begin + 2, second), floor, other


def own_parts(showers: Showers, detector: str) -> tuple[Showers, Showers, Showers]:
    """Training, validation and test part of own showers: photons cut, and all split, as the papers do it.

    Arguments:
        showers: all of them.
        detector: name, or several joined by +, as in "zn+zp"; others are left out.

    Raises:
        ValueError: if they lack the detector, or too few pass the cut.
    """
    showers = showers.only(*detector.split("+"))
    if {one.unit for one in map(showers.detector, showers.responses)} == {"photons"}:
        showers = showers.at_least()
    return showers.split()
