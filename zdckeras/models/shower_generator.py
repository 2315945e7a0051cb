"""The shipped generator: physical conditions and noise in, photon counts out."""

import keras
import numpy as np
from keras import ops

from zdckeras import backend
from zdckeras.models.photon_sums import PhotonSums  # noqa: F401  (a saved generator finds its parts by these imports)
from zdckeras.models.shape_flow import ShapeFlow  # noqa: F401


@keras.saving.register_keras_serializable("zdckeras")
class ShowerGenerator(keras.Model):
    """Photon sums first, shape second, and the sums imposed on the shape: noise and particle to photon counts.

    S ~ p(S | c),  y ~ p(y | c, S),  n = floor(T_k(S) p(y)) with sum_{channel k} n = S_k exactly.

    Arguments:
        sums: trained `PhotonSums` of the five channels.
        shape: trained `ShapeFlow`.
        impose: "channels" imposes all five sums, "total" only the photon number.

    Returns:
        call({"conditions": (B, 9), "noise": (B, 5 + D)}) gives (B, nx, ny) photon counts as float32.

    Raises:
        ValueError: for another value of `impose`.
    """

    def __init__(self, sums, shape, impose="channels", **kwargs):
        super().__init__(**kwargs)
        if impose not in ("channels", "total"):
            raise ValueError(f"Expected impose='channels' or 'total', received {impose!r}.")
        self.sums, self.shape, self.impose = sums, shape, impose
        self.noise_width = 5 + shape.detector.cells
        self.jit_compile = backend.name() != "torch"  # Keras would leave XLA out on a CPU, where loops need it most
        self.built = True

    def generate(self, noise, conditions):
        """Photon counts (B, nx, ny) from standard normal noise (B, 5 + D) and physical conditions (B, 9)."""
        sums = self.sums.generate(noise[:, :5], conditions)
        code = self.shape.generate(noise[:, 5:], conditions, sums)
        masks = self.shape.masks
        if self.impose == "total":
            sums, masks = ops.sum(sums, axis=-1, keepdims=True), np.ones((1, masks.shape[1]), "float32")
        return ops.reshape(self.shape.code.decode(code, sums, masks), (-1, *self.shape.detector.shape))

    def call(self, inputs):
        return self.generate(inputs["noise"], inputs["conditions"])

    def sample(self, conditions, seed=0, batch_size=256):
        """Responses to many particles, in independent seeded blocks.

        Arguments:
            conditions: (N, 9) physical conditions.
            seed: integer or integers; block b draws its noise from (seed, b).
            batch_size: rows per block; part of the meaning of the seed.

        Returns:
            (N, nx, ny) uint16 photon counts.

        Raises:
            ValueError: for conditions of another shape, or not finite.
        """
        conditions = np.asarray(conditions, "float32")
        if conditions.ndim != 2 or conditions.shape[1] != 9 or not np.isfinite(conditions).all():
            raise ValueError(f"Expected finite conditions of shape (N, 9), received shape {conditions.shape} with "
                             f"{(~np.isfinite(conditions)).sum()} values that are not finite.")
        responses = np.empty((len(conditions), *self.shape.detector.shape), "uint16")
        for block, start in enumerate(range(0, len(conditions), batch_size)):
            rows = conditions[start : start + batch_size]
            padded = np.concatenate([rows, np.repeat(rows[-1:], batch_size - len(rows), axis=0)])
            rng = np.random.default_rng([*np.atleast_1d(seed).tolist(), block])
            noise = rng.standard_normal((batch_size, self.noise_width), "float32")
            counts = self.predict_on_batch({"conditions": padded, "noise": noise})
            responses[start : start + batch_size] = np.asarray(counts)[: len(rows)]
        return responses

    def get_config(self):
        return {"sums": keras.saving.serialize_keras_object(self.sums),
                "shape": keras.saving.serialize_keras_object(self.shape), "impose": self.impose, "name": self.name}

    @classmethod
    def from_config(cls, config):
        parts = {name: keras.saving.deserialize_keras_object(config.pop(name)) for name in ("sums", "shape")}
        return cls(**parts, **config)
