"""Seeded batches of named arrays with their noise."""

import copy

import keras
import numpy as np

from zdckeras.arguments import whole_number
from zdckeras.mapped import selected


class Batches(keras.utils.PyDataset):
    """Shuffled batches of named arrays, each with fresh noise, all fixed by (seed, epoch, batch).

    Noise is data: it is drawn here with NumPy and handed to the model beside the arrays, so that every backend
    trains on the same numbers and an interrupted training goes on exactly where it stopped. After all batches of an
    epoch the next begins by itself, whoever asks for them (`model.fit(batches, epochs=3, shuffle=False)`; without
    shuffle=False Keras puts the batches in an order of its own, which no seed fixes).

    Arguments:
        arrays: name -> (N, ...) array, in memory or on disk, or list; rows are gathered batch by batch and cast to
            float32.
        batch_size: rows per batch; the last, smaller batch is dropped if `whole`.
        seed: of the order and the noise.
        uniform, normal: name -> shape of one row's uniform [0, 1) or standard-normal noise.
        shuffle: False for validation, whose noise is then the same in every epoch.
        whole: drop the incomplete last batch (graphs then compile once).

    Raises:
        ValueError: for no arrays, arrays of different lengths, a batch size or seed that is none, or fewer rows than
            one batch.

    Example:
        >>> batches = Batches({"x": np.arange(6.0)}, 4, seed=1, normal={"z": (2,)})
        >>> x = batches[0][0]
        >>> len(batches), x["x"].shape, x["z"].shape
        (1, (4,), (4, 2))
    """

    def __init__(self, arrays, batch_size, seed=0, uniform=None, normal=None, shuffle=True, whole=True):
        super().__init__(workers=1)
        arrays = {name: values if hasattr(values, "shape") else np.asarray(values) for name, values in arrays.items()}
        lengths = {name: len(values) for name, values in arrays.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"Expected arrays of one length, received {lengths}.")
        batch_size, seed = whole_number(batch_size, "batch_size"), whole_number(seed, "seed", 0)
        self.rows = next(iter(lengths.values()))
        if self.rows < batch_size and whole:
            raise ValueError(f"Expected at least one batch of {batch_size} rows, received {self.rows}.")
        self.arrays, self.batch_size, self.seed = arrays, batch_size, seed
        self.uniform, self.normal, self.drawn = uniform or {}, normal or {}, {}
        self.shuffle, self.whole, self.running = shuffle, whole, False  # whether `fit` is within an epoch
        self.start_epoch(0)

    def start_epoch(self, epoch):
        """Fix order and noise to those of one epoch."""
        self.epoch, self.given, self.told = epoch if self.shuffle else 0, 0, True
        order = np.arange(self.rows)
        self.order = np.random.default_rng([self.seed, self.epoch]).permutation(order) if self.shuffle else order

    def on_epoch_begin(self):
        """Begin the next epoch if the last one is over and no other was named; `fit` calls this."""
        if not self.told and self.given >= len(self):
            self.start_epoch(self.epoch + 1)
        self.running, self.told = True, False

    def on_epoch_end(self):
        """`fit` calls this, before the first epoch too."""
        self.running = False

    def __len__(self):
        return self.rows // self.batch_size if self.whole else -(-self.rows // self.batch_size)

    def __getitem__(self, index):
        self.given += self.running  # batches taken for a look do not count
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, self.epoch, index, 1])
        batch = {name: np.asarray(selected(values, rows), "float32") for name, values in self.arrays.items()}
        for name, shape in self.uniform.items():
            batch[name] = rng.random((len(rows), *shape), "float32")
        for name, shape in self.normal.items():
            batch[name] = rng.standard_normal((len(rows), *shape), "float32")
        return (batch,)


def silent(batches: Batches) -> Batches:
    """The same batches without their noise, for models that draw it themselves, which `drawn` then names.

    Arguments:
        batches: `Batches`.

    Example:
        >>> list(silent(Batches({"x": np.arange(6.0)}, 4, normal={"z": (2,)}))[0][0])
        ['x']
    """
    others = copy.copy(batches)
    others.uniform, others.normal, others.drawn = {}, {}, {**batches.uniform, **batches.normal}
    return others
