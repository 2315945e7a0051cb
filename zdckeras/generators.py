"""What every shipped generator can do: answer a list of particles, of any length, from a seed."""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

import keras
import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from zdckeras.data.particles import CONDITION_COUNT, CONDITIONS, UNIT_NAMES
from zdckeras.data.showers import Showers

ATTEMPTS = 200  # to bring a response over a photon cut
AGAIN = 2**31  # in the seeds of further attempts


class Sampler(keras.Model):
    """Base of generators that map noise and physical conditions to photon counts.

    Subclasses set `noise_width`, the numbers of standard normal noise a shower takes, and `detectors`, a list of
    `Detector`, and define `generate(noise, conditions)`, which gives one (B, nx, ny) array for one detector and a
    tuple of them for several.

    Returns:
        call({"conditions": (B, 9), "noise": (B, noise_width)}) gives what `generate` gives.
    """

    TAKES_IDS = False  # whether the PDG id of a particle, where it is known, is a further input "pdg"

    def generate(self, noise, conditions):
        """Photon counts from standard normal noise (B, noise_width) and physical conditions (B, 9)."""
        raise NotImplementedError

    def call(self, inputs):
        return self.generate(inputs["noise"], inputs["conditions"])

    def checked(self, conditions: ArrayLike) -> np.ndarray:
        """Conditions (N, 9) as float32; ValueError for another shape, or values that are not finite."""
        conditions = np.asarray(conditions, "float32")
        if conditions.ndim != 2 or conditions.shape[1] != CONDITION_COUNT or not np.isfinite(conditions).all():
            raise ValueError(f"Expected finite conditions of shape (N, {CONDITION_COUNT}), received shape "
                             f"{conditions.shape} with {(~np.isfinite(conditions)).sum()} values that are not finite.")
        return conditions

    def blocks(self, conditions: ArrayLike, seed: int | Sequence[int] = 0, batch_size: int = 256,
               beside: Mapping[str, np.ndarray] | None = None) -> Iterator[dict[str, np.ndarray]]:
        """What `sample` gives, block by block as it is made, for more showers than memory holds.

        Arguments, Raises: as `sample`.

        Returns:
            Iterator of {detector name: (b, nx, ny) uint16 photon counts or float32 energies [MeV]}.
        """
        return self._blocks(self.checked(conditions), np.atleast_1d(seed).tolist(), batch_size, beside or {})

    def _blocks(self, conditions, seed, batch_size, beside):
        """The iterator of `blocks`."""
        for block, start in enumerate(range(0, len(conditions), batch_size)):
            rows = np.minimum(np.arange(start, start + batch_size), len(conditions) - 1)  # the last fills a block up
            inputs = {name: values[rows] for name, values in {"conditions": conditions, **beside}.items()}
            noise = np.random.default_rng([*seed, block]).standard_normal((batch_size, self.noise_width), "float32")
            made = self.predict_on_batch({**inputs, "noise": noise})
            made = made if isinstance(made, (tuple, list)) else (made,)
            yield {detector.name: np.asarray(part)[: len(conditions) - start].astype(_dtype(detector))
                   for detector, part in zip(self.detectors, made, strict=True)}

    def showers(self, conditions: np.ndarray, pdg: np.ndarray, seed: int | Sequence[int] = 0, batch_size: int = 256,
                progress: bool = False) -> Iterator[Showers]:
        """`Showers` of many particles, block by block; together they are what `sample` gives.

        Arguments:
            conditions, seed, batch_size: as in `sample`.
            pdg: (N,) PDG ids, for the record, and for generators that take them.
            progress: show a bar.

        Returns:
            Iterator of `Showers`, N rows in all.

        Raises:
            ValueError: as `sample`.
        """
        blocks = self.blocks(conditions, seed, batch_size, self.beside(pdg))
        metadata = {"source": self.name, "seed": seed}
        rows = (slice(start, start + batch_size) for start in range(0, len(pdg), batch_size))
        bar = tqdm(blocks, desc="generating", total=-(-len(pdg) // batch_size), unit="block", disable=not progress)
        return (Showers(conditions[part], pdg[part], made, metadata) for part, made in zip(rows, bar, strict=True))

    def beside(self, pdg: np.ndarray) -> dict[str, np.ndarray]:
        """PDG ids (N,) as the further input of `sample` and `blocks`, if the generator takes them."""
        return {"pdg": np.asarray(pdg, "float32")} if self.TAKES_IDS else {}

    def sample(self, conditions: ArrayLike, seed: int | Sequence[int] = 0, batch_size: int = 256,
               beside: Mapping[str, np.ndarray] | None = None,
               at_least: int | Mapping[str, int] = 0) -> np.ndarray | dict[str, np.ndarray]:
        """Responses to many particles, in independent seeded blocks.

        Arguments:
            conditions: (N, 9) physical conditions.
            seed: integer or integers; block b draws its noise from (seed, b).
            batch_size: rows per block; part of the meaning of the seed.
            beside: name -> (N, ...) further inputs of `call`, where a subclass takes any.
            at_least: photons below which a response is drawn again, as the papers' data are cut; for several detectors
                name -> photons, one of which has to be reached. Particles that never reach it keep their last response,
                with a warning.

        Returns:
            (N, nx, ny) uint16 photon counts or float32 energies [MeV]; detector name -> these where there are several
            detectors.

        Raises:
            ValueError: for conditions of another shape, or not finite.
        """
        conditions, seed, beside = self.checked(conditions), np.atleast_1d(seed).tolist(), beside or {}
        responses = self._gather(conditions, seed, batch_size, beside)
        cut = at_least if isinstance(at_least, Mapping) else {detector.name: at_least for detector in self.detectors}
        dim = _dim(responses, cut)
        for attempt in range(ATTEMPTS if any(cut.values()) else 0):
            if not len(dim):
                break
            rows = np.tile(dim, max(1, min(64, 2048 // len(dim))))
            made = self._gather(conditions[rows], [*seed, AGAIN, attempt], batch_size,
                                {name: np.asarray(values)[rows] for name, values in beside.items()})
            for name, counts in made.items():
                responses[name][dim] = counts[: len(dim)]
            lit = np.setdiff1d(np.arange(len(rows)), _dim(made, cut))
            for name, counts in made.items():
                responses[name][rows[lit]] = counts[lit]
            dim = dim[_dim({name: counts[dim] for name, counts in responses.items()}, cut)]
        if any(cut.values()) and len(dim):
            warnings.warn(f"{len(dim)} of {len(conditions)} particles stay below {cut} photons.", stacklevel=2)
        return responses if len(responses) > 1 else responses[self.detectors[0].name]

    def _gather(self, conditions, seed, batch_size, beside):
        """Detector name -> responses, those of all blocks together."""
        responses = {detector.name: np.empty((len(conditions), *detector.shape), _dtype(detector))
                     for detector in self.detectors}
        for block, made in enumerate(self._blocks(conditions, seed, batch_size, beside)):
            for name, counts in made.items():
                responses[name][block * batch_size : (block + 1) * batch_size] = counts
        return responses


def _dim(responses, cut):
    """Rows in which no detector reaches its number of photons."""
    return np.flatnonzero(np.all([counts.sum(axis=(1, 2)) < cut.get(name, 0) for name, counts in responses.items()],
                                 axis=0))


def _dtype(detector):
    """What a detector's responses are kept as."""
    return "uint16" if detector.unit == "photons" else "float32"


class RangedSampler(Sampler):
    """A `Sampler` that knows which particles it was trained on.

    Arguments:
        low, high: (9,) range of the training conditions; `sample` warns of particles outside.
    """

    def __init__(self, low: ArrayLike, high: ArrayLike, **kwargs):
        super().__init__(**kwargs)
        self.low, self.high = np.asarray(low, "float64"), np.asarray(high, "float64")

    def checked(self, conditions: ArrayLike) -> np.ndarray:
        """As `Sampler.checked`; warns, naming them, of conditions outside the trained range.

        Raises:
            ValueError: as there, and for energies that are not positive.
        """
        values = np.asarray(conditions, "float64")
        if values.ndim == 2 and values.shape[1] == CONDITION_COUNT:
            if (values[:, 0] <= 0).any():
                raise ValueError(f"Expected positive energies [GeV], received {values[:, 0].min()}.")
            slack = 0.02 * (self.high - self.low) + 1e-9  # beyond the outermost training particle
            beyond = (values < self.low - slack) | (values > self.high + slack)
            if beyond.any():
                named = [f"{name} ({count} of {len(values)} outside {low:.4g} to {high:.4g} {unit})" for
                         name, unit, count, low, high in zip(CONDITIONS, UNIT_NAMES, beyond.sum(axis=0), self.low,
                                                             self.high, strict=True) if count]
                warnings.warn(f"Particles outside the trained range: {', '.join(named)}.", stacklevel=3)
        return super().checked(conditions)

    def get_config(self):
        return {"low": self.low.tolist(), "high": self.high.tolist(), "name": self.name}


def milliseconds(groups: Mapping[str, Sequence[Sampler]], conditions: ArrayLike, batch: int,
                 repeats: int = 15) -> dict[str, float]:
    """Median time that groups of generators take for one batch of the same particles, taking turns.

    Arguments:
        groups: name -> list of `Sampler`, called one after the other.
        conditions: (N, 9), repeated where N is less than the batch.
        batch: particles at once.
        repeats: calls of each, after one that compiles.

    Returns:
        Name -> milliseconds for one batch, noise and its copy to the device included.
    """
    rng, times = np.random.default_rng(0), {name: [] for name in groups}
    rows = np.resize(np.asarray(conditions, "float32"), (batch, np.shape(conditions)[1]))
    for _ in range(repeats + 1):
        for name, group in groups.items():
            begin = time.perf_counter()
            for generator in group:
                noise = rng.standard_normal((batch, generator.noise_width), "float32")
                generator.predict_on_batch({"conditions": rows, "noise": noise})
            times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: float(np.median(values[1:])) for name, values in times.items()}


class WithParts:
    """Mixin before a Keras model or layer: the attributes named in PARTS are kept in its configuration.

    A subclass puts `**self.parts_config()` into what its `get_config` gives, and takes the parts by name when
    constructed. A part may be None.
    """

    PARTS = ()

    def parts_config(self) -> dict:
        """Name -> serialised part."""
        return {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self.PARTS}

    @classmethod
    def from_config(cls, config: dict) -> Self:
        """A model around its own parts, read from the configuration."""
        parts = {name: keras.saving.deserialize_keras_object(config.pop(name)) for name in cls.PARTS}
        return cls(**parts, **config)
