"""A start for adversarial training: a generator that already gives each particle the right spread of what is seen."""

import keras
import numpy as np
from keras import ops

from zdckeras.detectors import CHANNELS, channel_masks

BLOCK = 4  # cells along each side of a block whose light is compared


def energy_score(real, first, second):
    """Per-sample energy score, ES = (|x - x'| + |x - x''|) / 2 - |x' - x''| / 2 with Euclidean distances.

    A strictly proper score: its expectation over x is least when x' and x'', two independent draws of a model, have the
    distribution of x. So one real response to each particle is enough to learn the whole conditional distribution.

    Arguments:
        real, first, second: (B, F) features of a real response and of two generated ones to the same particle.

    Returns:
        (B,).

    Source:
        Gneiting and Raftery, J. Am. Stat. Assoc. 102 (2007) 359, eq. 22.

    Example:
        >>> x = ops.zeros((1, 2))
        >>> round(float(energy_score(x, x + 1.0, x + 1.0)[0]), 3)
        1.414
    """
    def distance(a, b):
        return ops.sqrt(ops.sum(ops.square(a - b), axis=-1) + 1e-6)

    return 0.5 * (distance(real, first) + distance(real, second) - distance(first, second))


def block_features(photons):
    """ln(1 + n) of blocks of 4 x 4 cells, (B, blocks); cells beyond the last whole block are left out."""
    _, nx, ny = photons.shape
    photons = photons[:, : nx // BLOCK * BLOCK, : ny // BLOCK * BLOCK]
    blocks = ops.sum(ops.reshape(photons, (-1, nx // BLOCK, BLOCK, ny // BLOCK, BLOCK)), axis=(2, 4))
    return ops.reshape(ops.log1p(blocks), (-1, (nx // BLOCK) * (ny // BLOCK)))


def response_score(summaries, conditions, real, generated):
    """Per-sample energy score of responses, averaged over detectors.

    ES(channel sums and total, as they are and as logarithms) + ES(`SummaryFeatures`) + ES(`block_features`) / 4

    Arguments:
        summaries: `SummaryFeatures` of each detector.
        conditions: (B, 9).
        real: (B, nx, ny) photons of each detector.
        generated: (2 B, nx, ny) photons of each detector, two draws one after the other.

    Returns:
        (B,).
    """
    loss = 0.0
    for summary, true, photons in zip(summaries, real, generated, strict=True):
        draws = [ops.cast(true, "float32"), *ops.split(photons, 2)]
        seen = [summary(n, conditions) for n in draws]
        sums = [ops.concatenate([f[:, :6], f[:, -6:]], axis=-1) for f in seen]
        loss = loss + energy_score(*sums) + energy_score(*seen) + 0.25 * energy_score(*map(block_features, draws))
    return loss / len(real)


class SumsStart(keras.Model):
    """Trains the channel sums of a generator on their energy score; dense layers only, so thousands of steps a minute.

    L = E ES( (ln(1 + S) - m) / d,  S / s ) with S the channel sums and their total of each detector

    Arguments:
        gan: `ResponseGAN`, whose generator is trained.
        sums: (N, 5 K) training sums of all K detectors side by side: they set m, d and s.

    Returns:
        call({"conditions": (B, 9), "sums": (B, 5 K), "z": (B, d), "z2": (B, d)}) gives the per-sample loss (B,).
    """

    def __init__(self, gan, sums, **kwargs):
        super().__init__(**kwargs)
        self.network, self.detectors = gan.generator.sums, len(gan.names)
        sums = np.asarray(sums, "float32").reshape(len(sums), self.detectors, -1)
        sums = np.concatenate([sums.reshape(len(sums), -1), sums.sum(axis=2)], axis=1)
        self.mean, self.deviation = np.log1p(sums).mean(axis=0), np.log1p(sums).std(axis=0) + 0.1
        self.spread = sums.std(axis=0) + 1.0
        self.built = True

    def _with_totals(self, sums):
        totals = [ops.sum(part, axis=-1, keepdims=True) for part in ops.split(sums, self.detectors, axis=-1)]
        return ops.concatenate([sums, *totals], axis=-1)

    def _seen(self, sums):
        sums = self._with_totals(sums)
        standard = ops.divide(ops.subtract(ops.log1p(sums), self.mean), self.deviation)
        return ops.concatenate([standard, ops.divide(sums, self.spread)], axis=-1)

    def call(self, inputs):
        conditions = ops.cast(inputs["conditions"], "float32")
        draws = [ops.concatenate(self.network(inputs[z], conditions), axis=-1) for z in ("z", "z2")]
        return energy_score(*map(self._seen, [ops.cast(inputs["sums"], "float32"), *draws]))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean over the batch."""
        return ops.mean(y_pred)


class ShapeStart(keras.Model):
    """Trains the shapes of a generator on energy scores, given the real channel sums.

    L = E `response_score`

    No critic, no balance to keep: where the light is and how wide gets its spread in some hundred steps. What is finer
    than a block is left to the critic.

    Arguments:
        gan: `ResponseGAN`, whose generator is trained and whose critic lends its summary features.

    Returns:
        call of a batch of `training_arrays` with codes "z" and "z2" gives the per-sample loss (B,).
    """

    def __init__(self, gan, **kwargs):
        super().__init__(**kwargs)
        self.network, self.names, self.summaries = gan.generator.shape, gan.names, gan.critic.summaries
        self.masks = [channel_masks(d.shape).reshape(CHANNELS, -1).astype("float32") for d in self.network.detectors]
        self.built = True

    def call(self, inputs):
        conditions = ops.cast(inputs["conditions"], "float32")
        real = [ops.cast(inputs[f"responses_{name}"], "float32") for name in self.names]
        sums = [ops.matmul(ops.reshape(n, (-1, mask.shape[1])), mask.T)
                for n, mask in zip(real, self.masks, strict=True)]
        generated = self.network(ops.concatenate([inputs["z"], inputs["z2"]]), ops.concatenate([conditions] * 2),
                                 tuple(ops.concatenate([s, s]) for s in sums))
        return response_score(self.summaries, conditions, real, generated)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean over the batch."""
        return ops.mean(y_pred)
