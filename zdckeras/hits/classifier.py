"""Does this particle leave light: a small network on particles, those without any response included."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from zdckeras.arguments import plain
from zdckeras.backend import Tensor
from zdckeras.data.detectors import get_detector
from zdckeras.data.particles import CONDITION_COUNT, Scaler
from zdckeras.generators import check_weights
from zdckeras.layers.dense import linear, seeds_of, silu_layers
from zdckeras.layers.particle_features import FlightFeatures
from zdckeras.training.loop import SampleLoss, fit_arrays


@keras.saving.register_keras_serializable("zdckeras")
class HitClassifier(SampleLoss):
    """Probability that a particle leaves light in at least one of some detectors, p(c) = sigmoid(f(features(c))).

    L = -y ln p - (1 - y) ln(1 - p), least where p is the share of the responses to c that are not empty. A particle
    passes if p is above the threshold; a simulation then asks a generator for its response, which may still be empty.

    Arguments:
        detectors: names.
        scaler: {"mean": (9,), "scale": (9,)} of the conditions.
        hidden: widths of f.
        threshold: of p.
        seed: of the weights.

    Returns:
        call({"conditions": (B, 9), "lit": (B,) 0 or 1}) gives the per-sample loss (B,) [nats].

    Raises:
        ValueError: for no detector, or a threshold that is not between 0 and 1.

    Example:
        >>> model = HitClassifier(["zn", "zp"], {"mean": [0.0] * 9, "scale": [1.0] * 9}, hidden=(8,))
        >>> p = model.probability(np.ones((3, 9)))
        >>> p.shape, bool((p > 0).all() and (p < 1).all())
        ((3,), True)
    """

    def __init__(self, detectors: Sequence[str], scaler: dict[str, Any], hidden: Sequence[int] = (96, 96),
                 threshold: float = 0.01, seed: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        if not detectors or not 0.0 < threshold < 1.0:
            raise ValueError(f"Expected at least one detector and a threshold between 0 and 1, received {detectors} "
                             f"and {threshold}.")
        self.settings = dict(detectors=list(detectors), scaler=plain(scaler), hidden=tuple(hidden), seed=seed)
        self.detectors = [get_detector(name) for name in detectors]
        self.features = [FlightFeatures(name, **scaler, dtype="float32") for name in detectors]
        seeds, width = seeds_of([seed, 81]), sum(features.width for features in self.features)
        self.body = silu_layers(hidden, width, seeds)
        self.read = linear(hidden[-1], 1, seeds)
        self.threshold = float(threshold)
        self.built = True

    @classmethod
    def fit_scales(cls, detectors: Sequence[str], conditions: np.ndarray, **settings: Any) -> "HitClassifier":
        """A fresh model with its scaler fitted on training conditions (N, 9)."""
        return cls(detectors, Scaler.fit(conditions).get_config(), **settings)

    def check_weights(self) -> None:
        """Raise ValueError unless all weights are finite; the message names one that is not."""
        check_weights(self)

    def logits(self, conditions: Tensor) -> Tensor:
        """ln p / (1 - p) of particles (B, 9), (B,)."""
        conditions = ops.cast(conditions, "float32")
        known = ops.concatenate([features(conditions) for features in self.features], axis=-1)
        return self.read(self.body(known))[:, 0]

    def call(self, inputs):
        logits = self.logits(inputs["conditions"])
        return ops.softplus(logits) - ops.cast(inputs["lit"], "float32") * logits

    def probability(self, conditions: ArrayLike, batch_size: int = 8192) -> np.ndarray:
        """p of particles (N, 9), (N,) float32.

        Raises:
            ValueError: for another shape, values that are not finite, or a p that is not, as of broken weights.
        """
        conditions = np.asarray(conditions, "float32")
        if conditions.ndim != 2 or conditions.shape[1] != CONDITION_COUNT or not np.isfinite(conditions).all():
            raise ValueError(f"Expected finite conditions of shape (N, {CONDITION_COUNT}), received shape "
                             f"{conditions.shape} with {(~np.isfinite(conditions)).sum()} values that are not finite.")
        parts = [ops.convert_to_numpy(ops.sigmoid(self.logits(conditions[start : start + batch_size])))
                 for start in range(0, len(conditions), batch_size)]
        p = np.concatenate(parts or [np.zeros(0, "float32")])
        if not np.isfinite(p).all():
            raise ValueError(f"{self.name}: expected finite probabilities, made {(~np.isfinite(p)).sum()} of {len(p)} "
                             "that are not: are weights and particles sound?")
        return p

    def passes(self, conditions: ArrayLike) -> np.ndarray:
        """Which particles (N, 9) pass the threshold, (N,) boolean."""
        return self.probability(conditions) > self.threshold

    def get_config(self):
        return {**self.settings, "threshold": self.threshold, "name": self.name}


def fit_hits(detectors: Sequence[str], conditions: np.ndarray, lit: np.ndarray, path: str | Path, epochs: int,
             batch: int, rate: float, seed: int = 0, **settings: Any) -> tuple[HitClassifier, dict]:
    """A trained `HitClassifier` and its history.

    Arguments:
        detectors: names.
        conditions: (N, 9).
        lit: (N,) whether the particle left light.
        path: of the state file.
        epochs, batch, rate: of the training, see `zdckeras.training.loop.fit_adam`.
        seed: of weights and order.
        settings: of the model.
    """
    model = HitClassifier.fit_scales(detectors, conditions, seed=seed, **settings)
    arrays = {"conditions": conditions, "lit": np.asarray(lit, "float32")}
    return model, fit_arrays(model, arrays, path, epochs, batch, rate, seed)
