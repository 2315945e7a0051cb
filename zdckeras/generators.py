"""What every shipped generator can do: answer a list of particles, of any length, from a seed."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from numbers import Real
from threading import Lock
from typing import Self

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike
from tqdm import tqdm

from zdckeras import backend
from zdckeras.arguments import random_numbers, real_numbers, seed_numbers, whole_number
from zdckeras.backend import Tensor
from zdckeras.data.detectors import Detector, get_detector
from zdckeras.data.kinematics import check_particles
from zdckeras.data.particles import CONDITION_COUNT, warn_outside, warn_unknown
from zdckeras.data.showers import Showers

DRAWS = 512  # of a particle, at most, to bring its response over a photon cut
AGAIN = 2**31  # in the seeds of further attempts
WHOLE_BLOCK = 4096  # rows up to which a block is filled up to its size, so that its graph is compiled once


class Sampler(keras.Model):
    """Base of generators that map noise and physical conditions to photon counts.

    Subclasses set `noise_width`, the numbers of standard normal noise a shower takes, and `detectors`, a list of
    `Detector`, and define `generate(noise, conditions)`, which gives one (B, nx, ny) array for one detector and a
    tuple of them for several.

    Arguments:
        low, high: (9,) range of the training conditions, if it is known; `sample` warns of particles outside.

    Returns:
        call({"conditions": (B, 9), "noise": (B, noise_width)}) gives what `generate` gives.

    Raises:
        ValueError: for a range that is none.
    """

    TAKES_IDS = False  # whether the PDG id of a particle, where it is known, is a further input "pdg"
    BESIDE = ()  # names of other further inputs

    def __init__(self, low: ArrayLike | None = None, high: ArrayLike | None = None, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.low, self.high = (None if edge is None else np.asarray(edge, "float64") for edge in (low, high))
        self._one_at_a_time = Lock()
        shapes = [np.shape(edge) for edge in (low, high) if edge is not None]
        if shapes and (shapes != [(CONDITION_COUNT,)] * 2 or not (self.low <= self.high).all()):
            raise ValueError(f"Expected low and high of shape (9,), low at most high; received {low} and {high}.")

    def generate(self, noise, conditions):
        """Photon counts from standard normal noise (B, noise_width) and physical conditions (B, 9)."""
        raise NotImplementedError

    def call(self, inputs):
        return self.generate(inputs["noise"], inputs["conditions"])

    def range_config(self) -> dict:
        """The trained range, where it is known, for `get_config`."""
        return {} if self.low is None else {"low": self.low.tolist(), "high": self.high.tolist()}

    def check_weights(self) -> None:
        """Raise ValueError unless all weights are finite; the message names those that are not."""
        check_weights(self)

    def checked(self, conditions: ArrayLike) -> np.ndarray:
        """Conditions (N, 9) as float32; warns, naming them, of those outside the trained range.

        Raises:
            ValueError: for another shape, values that float32 cannot hold, or energies that are not positive.
        """
        values = real_numbers(conditions, "conditions")
        finite = np.abs(values) <= np.finfo("float32").max
        if values.ndim != 2 or values.shape[1] != CONDITION_COUNT or not finite.all():
            raise ValueError(f"Expected finite conditions of shape (N, {CONDITION_COUNT}), received shape "
                             f"{values.shape} with {(~finite).sum()} values that are not finite.")
        if (values[:, 0] <= 0).any():
            raise ValueError(f"Expected positive energies [GeV], received {values[:, 0].min()}.")
        if self.low is not None:
            warn_outside(values, self.low, self.high, level=3)
        return values.astype("float32")

    def blocks(self, conditions: ArrayLike, seed: int | Sequence[int] = 0, batch_size: int = 256,
               beside: Mapping[str, np.ndarray] | None = None) -> Iterator[dict[str, np.ndarray]]:
        """What `sample` gives, block by block as it is made, for more showers than memory holds.

        Arguments, Raises: as `sample`.

        Returns:
            Iterator of {detector name: (b, nx, ny) uint16 photon counts or float32 energies [MeV]}.
        """
        batch_size = whole_number(batch_size, "batch_size")
        return self._blocks(self._inputs(self.checked(conditions), beside), seed_numbers(seed), batch_size)

    def _inputs(self, conditions, beside):
        """Checked conditions and what stands beside them, by name."""
        known = (*(["pdg"] if self.TAKES_IDS else []), *self.BESIDE)
        beside = {name: real_numbers(values, name) for name, values in (beside or {}).items()}
        wrong = {name: values.shape for name, values in beside.items()
                 if name not in known or values.shape[:1] != conditions.shape[:1]}
        if wrong:
            raise ValueError(f"{self.name}: expected {', '.join(known) or 'nothing'} beside {len(conditions)} "
                             f"particles, a row for each; received {wrong}.")
        return {"conditions": conditions, **{name: values.astype("float32") for name, values in beside.items()}}

    def _noise(self, rng, rows):
        """The noise of a block, by name of the input."""
        return {"noise": rng.standard_normal((rows, self.noise_width), "float32")}

    def _blocks(self, inputs, seed, batch_size, noise=None):
        """Responses block by block, name of the detector -> (b, nx, ny): what the model makes of inputs and noise.

        Arguments:
            inputs: name -> (N, ...) arrays.
            seed: list of integers.
            batch_size: rows of a block, which the last is filled up to.
            noise: function of (generator of random numbers, rows) in place of `_noise`.
        """
        size = len(next(iter(inputs.values())))
        filled = min(batch_size, max(WHOLE_BLOCK, 1 << (size - 1).bit_length())) if size else 0
        for block, start in enumerate(range(0, size, batch_size)):
            rows = np.minimum(np.arange(start, start + filled), size - 1)
            drawn = (noise or self._noise)(random_numbers([*seed, block], 2), filled)
            made = self.made_of({**{name: values[rows] for name, values in inputs.items()}, **drawn})
            made = made if isinstance(made, (tuple, list)) else (made,)
            yield {detector.name: self._kept(detector, np.asarray(part)[: size - start], start)
                   for detector, part in zip(self.detectors, made, strict=True)}

    def made_of(self, inputs: dict[str, np.ndarray]) -> Tensor | tuple:
        """Outputs for one block. Threads take turns on JAX, where Keras hands one state from call to call, and on every
        backend while the graph is made."""
        with self._one_at_a_time if backend.name() == "jax" or self.predict_function is None else nullcontext():
            return backend.predicted(self, inputs)

    def _kept(self, detector, made, start):
        """Responses of rows from `start` as they are kept; ValueError for any that no detector could give."""
        with np.errstate(invalid="ignore"):
            kept = made.astype(_dtype(detector))
            good = kept == made if detector.unit == "photons" else (made >= 0) & (made < np.inf)
        if good.all():
            return kept
        row = int(np.argmin(good.reshape(len(made), -1).all(axis=1)))
        expected = "whole photons from 0 to 65535" if detector.unit == "photons" else "energies from 0 MeV"
        raise ValueError(f"{self.name}: expected {expected} in {detector.name}, made {made[row].min():g} to "
                         f"{made[row].max():g} for particle {start + row}: are weights and particle sound?")

    def showers(self, conditions: np.ndarray, pdg: np.ndarray, seed: int | Sequence[int] = 0, batch_size: int = 256,
                progress: bool = False) -> Iterator[Showers]:
        """`Showers` of many particles, block by block; together what `sample` gives with `beside(pdg)` beside them.

        Arguments:
            conditions, seed, batch_size: as in `sample`.
            pdg: (N,) PDG ids, for the record, and for generators that take them.
            progress: show a bar.

        Returns:
            Iterator of `Showers`, N rows in all.

        Raises:
            ValueError: as `sample`, unless there is one id for each particle, or for those that cannot be.
        """
        rows = len(conditions)
        if np.shape(pdg) != (rows,):
            raise ValueError(f"Expected one PDG id for each of {rows} particles, received shape {np.shape(pdg)}.")
        blocks = self.blocks(conditions, seed, batch_size, self.beside(pdg))
        check_particles(np.asarray(conditions, "float64"), np.asarray(pdg))
        about = {"source": self.name, "seed": seed}
        parts = (slice(start, start + batch_size) for start in range(0, len(pdg), batch_size))
        bar = tqdm(blocks, "generating", -(-len(pdg) // batch_size), unit="block", disable=not progress)
        return (Showers.answering(conditions[k], pdg[k], made, about) for k, made in zip(parts, bar, strict=True))

    def beside(self, pdg: np.ndarray) -> dict[str, np.ndarray]:
        """PDG ids (N,) as the further input of `sample` and `blocks`, if the generator takes them; warns of those that
        it does not know."""
        if not self.TAKES_IDS:
            return {}
        warn_unknown(self.name, pdg)
        return {"pdg": np.asarray(pdg, "float32")}

    def sample(self, conditions: ArrayLike, seed: int | Sequence[int] = 0, batch_size: int = 256,
               beside: Mapping[str, np.ndarray] | None = None,
               at_least: float | Mapping[str, float] = 0) -> np.ndarray | dict[str, np.ndarray]:
        """Responses to many particles, in independent seeded blocks.

        Arguments:
            conditions: (N, 9) physical conditions.
            seed: integer or integers; block b draws its noise from (seed, b).
            batch_size: rows per block; part of the meaning of the seed. A block is filled up, to 4096 rows at most, so
                that its graph is compiled once: 1 for particles that come one by one.
            beside: name -> (N, ...) further inputs of `call`, where a subclass takes any.
            at_least: photons below which a response is drawn again, as the papers' data are cut; for several detectors
                name -> photons, one of which has to be reached. Particles that have not reached it in 512 draws keep
                their last response, with a warning.

        Returns:
            (N, nx, ny) uint16 photon counts or float32 energies [MeV]; detector name -> these where there are several
            detectors.

        Raises:
            ValueError: for conditions of another shape, not finite, or with energies that are not positive; a seed,
                batch size or cut that is none; inputs that the generator does not take; and for responses that no
                detector could give (not finite, negative, more than 65535 photons in a cell).
        """
        inputs, seed = self._inputs(self.checked(conditions), beside), seed_numbers(seed)
        batch_size, cut = whole_number(batch_size, "batch_size"), self._cut(at_least)
        responses = self._gather(inputs, seed, batch_size)
        dim = _dim(responses, cut) if any(cut.values()) else np.empty(0, int)
        attempt, drawn = 0, 1
        while len(dim) and drawn < DRAWS:
            copies = max(1, min(64, 2048 // len(dim)))
            rows = np.tile(dim, copies)
            made = self._gather({name: values[rows] for name, values in inputs.items()}, [*seed, AGAIN, attempt],
                                batch_size)
            for name, counts in made.items():
                responses[name][dim] = counts[: len(dim)]
            lit = np.setdiff1d(np.arange(len(rows)), _dim(made, cut))
            for name, counts in made.items():
                responses[name][rows[lit]] = counts[lit]
            dim = dim[_dim({name: counts[dim] for name, counts in responses.items()}, cut)]
            attempt, drawn = attempt + 1, drawn + copies
        if len(dim):
            warnings.warn(f"{len(dim)} of {len(conditions)} particles stay below {cut} photons.", stacklevel=2)
        return responses if len(responses) > 1 else responses[self.detectors[0].name]

    def _cut(self, at_least):
        """Detector name -> photons that are enough."""
        names = [detector.name for detector in self.detectors]
        cut = dict(at_least) if isinstance(at_least, Mapping) else dict.fromkeys(names, at_least)
        for name, photons in cut.items():
            if name not in names or isinstance(photons, bool) or not isinstance(photons, (Real, np.number)) or not (
                    0 <= photons < np.inf):
                raise ValueError(f"at_least: expected photons of at least 0 for {', '.join(names)}, received "
                                 f"{at_least!r}.")
        return cut

    def _gather(self, inputs, seed, batch_size, noise=None):
        """Detector name -> responses, those of all blocks together."""
        size = len(next(iter(inputs.values())))
        responses = {detector.name: np.empty((size, *detector.shape), _dtype(detector)) for detector in self.detectors}
        for block, made in enumerate(self._blocks(inputs, seed, batch_size, noise)):
            for name, counts in made.items():
                responses[name][block * batch_size : (block + 1) * batch_size] = counts
        return responses


def _dim(responses, cut):
    """Rows in which none of the detectors that are cut reaches its number of photons."""
    return np.flatnonzero(np.all([responses[name].sum(axis=(1, 2)) < photons for name, photons in cut.items()], axis=0))


def _dtype(detector):
    """What a detector's responses are kept as."""
    return "uint16" if detector.unit == "photons" else "float32"


class RangedSampler(Sampler):
    """A `Sampler` that is not made without the range of its training.

    Arguments:
        low, high: (9,) range of the training conditions; `sample` warns of particles outside.
    """

    def __init__(self, low: ArrayLike, high: ArrayLike, **kwargs):
        super().__init__(low, high, **kwargs)

    def get_config(self):
        return {**self.range_config(), "name": self.name}


def check_weights(model: keras.Model) -> None:
    """ValueError unless all weights of a model are finite; the message names one that is not."""
    broken = [weight.path for weight in model.weights
              if not np.isfinite(np.asarray(ops.convert_to_numpy(weight), "float64")).all()]
    if broken:
        raise ValueError(f"{model.name}: expected finite weights, received {len(broken)} of {len(model.weights)} "
                         f"arrays with NaN or infinite values, such as {broken[0]}.")


def trained_range(low: ArrayLike | None, high: ArrayLike | None, *features: keras.layers.Layer) -> dict:
    """The range of a generator's training: the one given, else what all its `ParticleFeatures` have seen.

    Arguments:
        low, high: (9,), or None to take those of the features.
        features: layers with `low` and `high`, None where an earlier version saved them.

    Returns:
        {"low": (9,), "high": (9,)}, both None if it is not known.
    """
    if low is None and high is None and all(f.low is not None for f in features):
        low, high = np.max([f.low for f in features], axis=0), np.min([f.high for f in features], axis=0)
    return {"low": low, "high": high}


def one_detector(**parts: Detector | str) -> Detector:
    """The `Detector` that all parts of a model are made for; ValueError, naming them, if they differ.

    Example:
        >>> one_detector(sums="zn", shape="zp")
        Traceback (most recent call last):
        ValueError: Expected parts of one detector, received sums of zn, shape of zp.
    """
    found = {name: get_detector(part) for name, part in parts.items()}
    if len(set(found.values())) > 1:
        raise ValueError("Expected parts of one detector, received "
                         f"{', '.join(f'{name} of {part.name}' for name, part in found.items())}.")
    return next(iter(found.values()))


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
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in cls.PARTS}
        return cls(**{**config, **parts})
