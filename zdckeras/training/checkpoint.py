"""Checkpoints of trainings: the whole state of a model and its optimizer, saved between epochs."""

import time
from pathlib import Path

import keras
import numpy as np

from zdckeras.mapped import in_blocks
from zdckeras.training.batches import Batches
from zdckeras.training.options import OPTIONS
from zdckeras.training.states import check_identity, identity, keep_identity, read_state, write_left, write_state


def _finite(values):
    """Whether all values are, of bfloat16 too, which NumPy does not know."""
    return np.isfinite(values if values.dtype.kind in "biuf" else values.astype("float32")).all()


def _all_finite(array):
    """Whether all values of a long array are, as float32, read in blocks of rows."""
    with np.errstate(over="ignore"):
        return all(np.isfinite(np.asarray(block, "float32")).all() for _, block in in_blocks(array))


class DivergedError(RuntimeError):
    """The loss, or a weight, became NaN or infinite; the message says when, and where the last good weights are."""


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole state (weights, optimizer, epoch, history) after every epoch and starts each epoch's batches.

    The file says which data and settings it belongs to (see `zdckeras.training.states`). Weights are saved as they are
    trained, not as an optimizer with `use_ema` averages them when `fit` ends.

    Arguments:
        path: file `*.npz`, written under a temporary name and renamed.
        batches: the `Batches` of the training.
        every: epochs between saves (the last epoch is always saved).
        validation: `Batches` that begin each epoch, too.

    Raises:
        DivergedError: when the loss, a weight or the optimizer's state is not finite; the file then still holds the
            last good state.
    """

    def __init__(self, path, batches, every=1, validation=None):
        super().__init__()
        self.path, self.batches, self.every = Path(path), batches, every
        self.begin = [batches, *[validation] * isinstance(validation, Batches)]
        self.history, self.identity, self.kept, self.last, self.averaged, self.ended = {}, {}, 0, None, None, 0
        self.spent, self.begun = np.zeros(2), self._clocks()  # seconds of the processor and on the clock

    @staticmethod
    def _clocks():
        return np.array([time.process_time(), time.monotonic()])

    @property
    def over(self):
        """Whether the `minutes` of `zdckeras.training.options` are over, all starts together."""
        return OPTIONS.minutes is not None and self.spent[1] >= 60.0 * OPTIONS.minutes

    def _variables(self):
        return [*self.model.variables, *self.model.optimizer.variables]

    def _values(self):
        return [variable.numpy() for variable in self._variables()]

    def restore(self, model, start=None):
        """Load the saved state into a compiled, built model; returns the epochs already done (0 without a file).

        Arguments:
            model: compiled `keras.Model`.
            start: file of another training of such a model, of whatever data, to begin with where there is no state.

        Raises:
            StateError: if the file is damaged, or belongs to another model, or to other data or settings.
        """
        self.set_model(model)
        self.identity = identity(self.batches, model.optimizer, self.path)
        own = self.path.exists()
        if not own and start is None:
            return 0
        path = self.path if own else Path(start)
        if not own and not path.is_file():
            raise FileNotFoundError(f"No such file: {path}")
        if own:
            check_identity(path, read_state(path), self.identity)
        model.optimizer.build(model.trainable_variables)
        record = read_state(path, self._variables())
        self.history, self.kept = record["history"], record["epochs"]
        self.ended = record.get("ended", 0) if own else 0
        self.spent = np.array([record.get(name, 0.0) if own else 0.0 for name in ("seconds", "clock")])
        return record["epochs"]

    def on_train_begin(self, logs=None):
        self.epoch, self.begun = self.kept, self._clocks()

    def on_epoch_begin(self, epoch, logs=None):
        for batches in self.begin:
            batches.start_epoch(epoch)

    def on_epoch_end(self, epoch, logs=None):
        logs = {key: float(value) for key, value in (logs or {}).items()}
        if not np.isfinite(logs.get("loss", 0.0)):
            raise self._diverged(f"The loss is {logs['loss']} after epoch {epoch + 1}")
        for key, value in logs.items():
            self.history.setdefault(key, []).append(value)
        self.epoch, now = epoch + 1, self._clocks()
        self.spent, self.begun = self.spent + now - self.begun, now
        if self.over:
            self.model.stop_training = True
        self.last = self._values()  # before `fit` averages them
        if self.epoch % self.every == 0:
            self.save()

    def on_train_end(self, logs=None):
        if self.kept < self.epoch:  # the last one, or whatever stopped it
            self.save()
        self.averaged = [variable.numpy() for variable in self.model.variables]

    def finish(self, epochs):
        """Note, after `fit`, whether callbacks ended it before so many epochs, and the weights that they changed then.

        As `keras.callbacks.EarlyStopping` does, of which a new one would go on training.
        """
        stopped = self.model.stop_training and not self.over and self.epoch < epochs
        left = [variable.numpy() for variable in self.model.variables]
        if all(map(np.array_equal, left, self.averaged)):
            left = None
        if stopped or left:
            write_left(self.path, left, {"ended": epochs} if stopped else {})

    def answer(self):
        """What `fit` ends with, in a model whose training is found finished: averages, or what callbacks left."""
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        if self.path.exists():
            read_state(self.path, self.model.variables, left=True)

    def keep_identity(self):
        """That of the beginning, where callbacks changed the rate meanwhile."""
        keep_identity(self.identity, self.model.optimizer, self.path)

    @property
    def saved(self):
        """Epochs in the file."""
        return read_state(self.path)["epochs"]

    def _diverged(self, what):
        kept = f"epoch {self.saved} is saved in {self.path}" if self.path.exists() else "nothing was saved"
        wrong = [name for name, values in self.batches.arrays.items() if not _all_finite(values)]
        advice = "Try a smaller learning rate."
        if wrong:
            advice = f"Not all values of {', '.join(wrong)} in the data are finite."
        return DivergedError(f"{what}; {kept}. {advice}")

    def save(self):
        """Write the state at the end of the last epoch; DivergedError where one of its numbers is not finite."""
        if not all(map(_finite, self.last)):
            raise self._diverged(f"Weights or the optimizer's state are not finite after epoch {self.epoch}")
        self.kept, (seconds, clock) = self.epoch, self.spent.tolist()
        write_state(self.path, self.last, {"epochs": self.epoch, "history": self.history, "seconds": seconds,
                                           "clock": clock, "training": self.identity})
