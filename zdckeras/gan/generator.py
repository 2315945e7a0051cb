"""The shipped generator of a GAN, the factor on its light, and what its trainings took."""

from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from zdckeras import backend
from zdckeras.arguments import of_kind
from zdckeras.backend import Tensor
from zdckeras.data.detectors import channel_sums
from zdckeras.gan.networks import ResponseNetwork
from zdckeras.generators import Sampler, WithParts, trained_range
from zdckeras.judging import Trained
from zdckeras.metrics.channels import wasserstein
from zdckeras.metrics.times import milliseconds
from zdckeras.metrics.trainings import over_seeds


@keras.saving.register_keras_serializable("zdckeras")
class GanGenerator(WithParts, Sampler):
    """The shipped generator of a GAN: 10 normal numbers and a particle to photon counts, for all its detectors.

    Arguments:
        network: the trained `ResponseNetwork` (of a `ResponseGAN`, its `average`).
        factors: light yield of each detector, 1 by default; from `fit_factor` (the neutron study's postprocessing,
            applied to the light in photon space before whole photons are drawn).
        low, high: as in `Sampler`; by default those of the network's scaler.

    Raises:
        ValueError: unless there is one positive factor for each detector.
    """

    PARTS = ("network",)

    def __init__(self, network: ResponseNetwork, factors: ArrayLike | None = None, low: ArrayLike | None = None,
                 high: ArrayLike | None = None, **kwargs):
        of_kind(network, ResponseNetwork, "network")
        super().__init__(**trained_range(low, high, *network.sums.features), **kwargs)
        self.network, self.detectors = network, network.detectors
        self.noise_width = network.latent
        self.jit_compile = backend.jit_compile()
        self.built = True
        if factors is not None:
            self.factors = factors

    @property
    def factors(self):
        """Light yield of each detector; setting it needs no new compilation."""
        return ops.convert_to_numpy(self.network.sums.factors).tolist()

    @factors.setter
    def factors(self, values):
        self.network.sums.factors.assign(checked_factors(values, len(self.detectors)))

    def generate(self, noise: Tensor, conditions: Tensor) -> Tensor | tuple[Tensor, ...]:
        responses = self.network(noise, conditions)
        return responses if len(responses) > 1 else responses[0]

    def operations(self) -> int:
        """Multiplications with a weight for one response of every detector."""
        return self.network.operations()

    def get_config(self):
        return {**self.parts_config(), **self.range_config(), "name": self.name}


def checked_factors(values: ArrayLike, number: int) -> np.ndarray:
    """Light yields as an array; ValueError unless there is a positive one for each of so many detectors."""
    values = np.atleast_1d(np.asarray(values, "float32"))
    if values.shape != (number,) or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"Expected one positive factor for each of {number} detectors, received {values.tolist()}.")
    return values


def fit_factor(real: np.ndarray, generated: np.ndarray, channels: str = "papers") -> float:
    """The factor on generated light that brings channel sums closest to real ones, in photon space.

    f = argmin_f (1/5) sum_k W(S_k, f S'_k), sought within [1/3, 3]

    Arguments:
        real, generated: (N, nx, ny) photon counts of validation particles.
        channels: convention of the five channels.

    Returns:
        The factor.

    Raises:
        ValueError: for no responses, shapes that differ, or generated ones without any light.

    Source:
        neutron ZDC study, "GAN + postprocessing".

    Example:
        >>> n = np.random.default_rng(0).poisson(5.0, (50, 4, 4))
        >>> round(fit_factor(2 * n, n), 3)
        2.0
    """
    if np.ndim(real) != 3 or np.shape(real)[1:] != np.shape(generated)[1:] or not len(real) * len(generated):
        raise ValueError(f"Expected real and generated responses (N, nx, ny) of one size, at least one each; received "
                         f"shapes {np.shape(real)} and {np.shape(generated)}.")
    real, generated = channel_sums(real, channels), channel_sums(generated, channels)
    if not (np.isfinite(generated).all() and generated.any()):
        raise ValueError("Expected generated responses with finite light, received none.")
    found = minimize_scalar(lambda f: wasserstein(real, np.exp(f) * generated).mean(), bounds=(-np.log(3), np.log(3)),
                            method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


@dataclass(frozen=True)
class Training(Trained):
    """One finished training of an adversarial model.

    Arguments:
        generator, network, weights: as in `Trained`.
        history: name -> list over epochs; empty without a critic.
        seconds: of processor time, all stages together.
        steps: in which the critic took part.
    """

    history: dict
    seconds: float
    steps: int


def training_rows(trainings: Mapping[str, Training], particles: np.ndarray) -> list[list[str]]:
    """Lines of words: what trainings took, where their critics stood at the end, and the time of a response.

    Arguments:
        trainings: "<row>, seed <k>" -> `Training`.
        particles: (N, 9), for the times.
    """
    times = {id(one.generator): [milliseconds({"": [one.generator]}, particles, size)[""] / size for size in (1, 256)]
             for one in {id(t.generator): t for t in trainings.values()}.values()}

    def last(one, name):
        return one.history[name][-1] if name in one.history else np.nan

    return over_seeds(trainings, {
        "weights": lambda t: t.generator.network.count_params(), "steps": lambda t: t.steps,
        "processor s": lambda t: t.seconds, "critic's loss": lambda t: last(t, "critic_adversarial"),
        "accuracy": lambda t: last(t, "critic_accuracy"), "ms, batch 1": lambda t: times[id(t.generator)][0],
        "ms, batch 256": lambda t: times[id(t.generator)][1]})
