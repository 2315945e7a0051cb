"""What every shipped generator can do: answer a list of particles, of any length, from a seed."""

import time
import warnings

import keras
import numpy as np

from zdckeras.data.particles import CONDITION_COUNT, CONDITIONS, UNIT_NAMES


class Sampler(keras.Model):
    """Base of generators that map noise and physical conditions to photon counts.

    Subclasses set `noise_width`, the numbers of standard normal noise a shower takes, and `detectors`, a list of
    `Detector`, and define `generate(noise, conditions)`, which gives one (B, nx, ny) array for one detector and a
    tuple of them for several.

    Returns:
        call({"conditions": (B, 9), "noise": (B, noise_width)}) gives what `generate` gives.
    """

    def generate(self, noise, conditions):
        """Photon counts from standard normal noise (B, noise_width) and physical conditions (B, 9)."""
        raise NotImplementedError

    def call(self, inputs):
        return self.generate(inputs["noise"], inputs["conditions"])

    def sample(self, conditions, seed=0, batch_size=256, beside=None):
        """Responses to many particles, in independent seeded blocks.

        Arguments:
            conditions: (N, 9) physical conditions.
            seed: integer or integers; block b draws its noise from (seed, b).
            batch_size: rows per block; part of the meaning of the seed.
            beside: name -> (N, ...) further inputs of `call`, where a subclass takes any.

        Returns:
            (N, nx, ny) uint16 photon counts or float32 energies [MeV]; detector name -> these where there are several
            detectors.

        Raises:
            ValueError: for conditions of another shape, or not finite.
        """
        conditions = np.asarray(conditions, "float32")
        if conditions.ndim != 2 or conditions.shape[1] != CONDITION_COUNT or not np.isfinite(conditions).all():
            raise ValueError(f"Expected finite conditions of shape (N, {CONDITION_COUNT}), received shape "
                             f"{conditions.shape} with {(~np.isfinite(conditions)).sum()} values that are not finite.")
        responses = [np.empty((len(conditions), *detector.shape), "uint16" if detector.unit == "photons" else "float32")
                     for detector in self.detectors]
        for block, start in enumerate(range(0, len(conditions), batch_size)):
            rows = np.minimum(np.arange(start, start + batch_size), len(conditions) - 1)  # the last fills a block up
            inputs = {name: values[rows] for name, values in {"conditions": conditions, **(beside or {})}.items()}
            rng = np.random.default_rng([*np.atleast_1d(seed).tolist(), block])
            noise = rng.standard_normal((batch_size, self.noise_width), "float32")
            made = self.predict_on_batch({**inputs, "noise": noise})
            for counts, part in zip(responses, made if isinstance(made, (tuple, list)) else (made,), strict=True):
                counts[start : start + batch_size] = np.asarray(part)[: len(counts) - start]
        if len(responses) == 1:
            return responses[0]
        return {detector.name: counts for detector, counts in zip(self.detectors, responses, strict=True)}


class RangedSampler(Sampler):
    """A `Sampler` that knows which particles it was trained on.

    Arguments:
        low, high: (9,) range of the training conditions; `sample` warns of particles outside.
    """

    def __init__(self, low, high, **kwargs):
        super().__init__(**kwargs)
        self.low, self.high = np.asarray(low, "float64"), np.asarray(high, "float64")

    def sample(self, conditions, seed=0, batch_size=256, beside=None):
        """As `Sampler.sample`; warns, naming them, of conditions outside the trained range.

        Raises:
            ValueError: as there, and for energies that are not positive.
        """
        values = np.asarray(conditions, "float64")
        if values.ndim == 2 and values.shape[1] == len(CONDITIONS):
            if (values[:, 0] <= 0).any():
                raise ValueError(f"Expected positive energies [GeV], received {values[:, 0].min()}.")
            slack = 0.02 * (self.high - self.low) + 1e-9  # beyond the outermost training particle
            beyond = (values < self.low - slack) | (values > self.high + slack)
            if beyond.any():
                named = [f"{name} ({count} of {len(values)} outside {low:.4g} to {high:.4g} {unit})" for
                         name, unit, count, low, high in zip(CONDITIONS, UNIT_NAMES, beyond.sum(axis=0), self.low,
                                                             self.high, strict=True) if count]
                warnings.warn(f"Particles outside the trained range: {', '.join(named)}.", stacklevel=2)
        return super().sample(conditions, seed, batch_size, beside)

    def get_config(self):
        return {"low": self.low.tolist(), "high": self.high.tolist(), "name": self.name}


def milliseconds(groups, conditions, batch, repeats=15):
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
