"""Training that repeats and resumes: whole-state checkpoints, one call to fit."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from numbers import Real
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from zdckeras import backend
from zdckeras.arguments import whole_number
from zdckeras.backend import Tensor
from zdckeras.training.batches import Batches, silent
from zdckeras.training.checkpoint import Checkpoint
from zdckeras.training.constants import WithConstants
from zdckeras.training.one_cycle import tuned
from zdckeras.training.options import OPTIONS, DeviceNoise, WithDeviceNoise, logged
from zdckeras.training.states import StateError

SPENT: list[tuple[Path, float]] = []  # state files that this process trained or found finished, processor seconds


class SampleLoss(WithConstants):
    """Base of models whose call gives the loss of every sample, (B,): what is minimised is its mean over the batch.

    Under a policy of mixed precision inputs and loss stay float32; dense and convolutional layers inside follow it.
    """

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean over the batch."""
        return backend.per_replica(ops.mean(y_pred))


class _Within(keras.layers.Layer):
    """A function, called as a layer is."""

    def __init__(self, function, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.function = function

    def call(self, inputs, training=False):
        return self.function(inputs)


def hand_on(function: Callable, inputs: dict[str, Tensor], training: bool) -> Tensor:
    """f(inputs), with layers that f calls told whether it is training.

    What a model's `call` calls knows that of Keras, but not where the trainer of JAX calls `call` itself: there dropout
    and moving averages would stand still.

    Arguments:
        function: f.
        inputs: of a `SampleLoss`.
        training: what `call` was told.
    """
    return _Within(function)(inputs, training=training)


def train(model: keras.Model, batches: Batches, epochs: int, checkpoint: str | Path, validation: Batches | None = None,
          every: int = 1, verbose: int | None = None, start: str | Path | None = None,
          callbacks: Sequence[keras.callbacks.Callback] = ()) -> dict[str, list]:
    """Fit a compiled model, resuming from `checkpoint` where it exists; the result equals an uninterrupted run.

    A state of other data, batches, noise or optimizer, or of more epochs, is refused. A training that a callback ended,
    as `keras.callbacks.EarlyStopping` does, is finished for as many epochs as were asked for, with the weights that it
    ended with; for more epochs it goes on from the last one's.

    Arguments:
        model: compiled `keras.Model` with its loss in `compute_loss`.
        batches, validation: `Batches`.
        epochs: in all, those of earlier, interrupted calls included.
        checkpoint: path of the state file.
        every: epochs between checkpoints.
        verbose: as in `fit`; by default a progress bar on a terminal and a line per epoch in a log.
        start: state file of an earlier stage, of whatever data, to go on from where `checkpoint` does not exist.
        callbacks: Keras callbacks, called after each epoch's state is saved, and the log of
            `zdckeras.training.options`; what they remember themselves starts anew when a training is taken up.

    Returns:
        History, name -> list over epochs.

    Raises:
        DivergedError, StateError: see `Checkpoint`.
        ValueError: for a model that is not compiled, epochs that are none, or batches that devices cannot share.
    """
    epochs, every = whole_number(epochs, "epochs"), whole_number(every, "every")
    if not model.compiled:
        raise ValueError(f"{model.name}: expected a compiled model to train.")
    backend.check_rows(batches.batch_size)
    keeper = Checkpoint(checkpoint, batches, every, validation)
    taken = checkpoint if Path(checkpoint).exists() else start
    _build(model, batches)
    done = keeper.restore(model, start)
    if done > epochs:
        raise StateError(f"{taken} holds {done} epochs: expected at most the {epochs} asked for. Give another "
                         "file, or remove this one to train anew.")
    if verbose is None:
        verbose = 1 if sys.stdout.isatty() else 2
    try:
        if done < epochs and epochs > keeper.ended and not keeper.over:
            with backend.shared(model), logged(checkpoint, done) as logs:
                model.fit(batches, epochs=epochs, initial_epoch=done, validation_data=validation,
                          callbacks=[keeper, *callbacks, *logs], verbose=verbose, shuffle=False)
            keeper.finish(epochs)
        else:
            keeper.answer()
    finally:
        with suppress(RuntimeError):  # JAX may have given away what an interrupted step read
            keeper.keep_identity()
    SPENT.append((keeper.path.resolve(), float(keeper.spent[0])))
    return keeper.history


def processor_seconds(since: int = 0) -> float:
    """Processor seconds of the trainings in `SPENT` from one on, with what they took before they were interrupted."""
    return sum(dict(SPENT[since:]).values())


def states_folder(out: str | Path, *settings: Any) -> Path:
    """Where the state files of one set of settings go: other settings, or another backend, never take them up.

    Arguments:
        out: folder of the results.
        settings: whatever the training depends on; plain values that JSON can hold.

    Example:
        >>> states_folder("runs", {"epochs": 1}) == states_folder("runs", {"epochs": 2})
        False
    """
    policy, device = keras.config.dtype_policy().name, OPTIONS.device_noise
    further = [*([policy] if policy != "float32" else []), *(["device noise"] if device else []),
               *([f"{OPTIONS.minutes:g} minutes"] if OPTIONS.minutes else [])]
    text = json.dumps([*settings, backend.name(), *further])
    return Path(out) / "states" / sha256(text.encode()).hexdigest()[:8]


def _build(model, batches):
    """Weights for a model that has none yet."""
    if not model.built:
        model(batches[0][0])


def fit_adam(model: keras.Model, batches: Batches, path: str | Path, epochs: int, rate: float, until: int | None = None,
             validation: Batches | None = None, start: str | Path | None = None,
             callbacks: Sequence[keras.callbacks.Callback] = (), adam: Mapping[str, Any] | None = None,
             optimizer: keras.optimizers.Optimizer | None = None, device_noise: bool | None = None) -> dict[str, list]:
    """Adam on a cosine schedule over all epochs, with progress and resume: `train` for models with one loss.

    Arguments:
        model: `keras.Model` with its loss in `compute_loss`; compiled here unless it is and neither `adam` nor an
            `optimizer` is given, by XLA on a CPU, too, if it has an attribute `xla` that is true.
        batches, validation: `Batches`.
        path: of the state file.
        epochs, rate: length of the schedule and highest learning rate.
        until: stop after this many epochs, all by default.
        start, callbacks: as in `train`.
        adam: settings of `tuned`, as a study has them, in place of the `rate`, its schedule, and clipped gradients.
        optimizer: in place of the rate and its schedule.
        device_noise: whether the device draws the noise of the batches, see `zdckeras.training.options`, which decides
            by default.

    Returns:
        History, name -> list over epochs.

    Raises:
        ValueError: for `adam` and an `optimizer`.
    """
    path = Path(path)
    if adam is not None and optimizer is not None:
        raise ValueError("Expected adam or optimizer, received both.")
    _build(model, batches)
    print(f"\n{path.stem}: {model.count_params():,} weights, {epochs} x {len(batches)} steps", flush=True)
    if OPTIONS.device_noise if device_noise is None else device_noise:
        kept = model.optimizer if model.compiled and adam is None else None
        optimizer = optimizer or kept
        noise = DeviceNoise(batches.uniform, batches.normal, batches.seed)
        model, batches = WithDeviceNoise(model, noise), silent(batches)
    if not model.compiled or adam is not None or optimizer is not None:
        if optimizer is None:
            optimizer = (keras.optimizers.Adam(annealed(rate, batches, epochs), clipnorm=1.0) if adam is None else
                         tuned(epochs * len(batches), **adam))
        compiled = backend.jit_compile() or (backend.jit_sampling() and getattr(model, "xla", False))
        model.compile(optimizer, jit_compile=compiled)
    return train(model, batches, epochs if until is None else until, path, validation, start=start,
                 callbacks=callbacks)


def fit_arrays(model: keras.Model, arrays: dict[str, np.ndarray], path: str | Path, epochs: int, batch: int,
               rate: float, seed: int = 0, uniform: dict | None = None, normal: dict | None = None,
               callbacks: Sequence[keras.callbacks.Callback] = (), device_noise: bool | None = None,
               adam: Mapping[str, Any] | None = None) -> dict[str, list]:
    """`fit_adam` on shuffled `Batches` of arrays.

    Arguments:
        model: `keras.Model` with its loss in `compute_loss`.
        arrays: name -> (N, ...).
        path: of the state file.
        epochs, batch, rate: length of training, rows of a step and highest learning rate.
        seed: of order and noise.
        uniform, normal: name -> shape of one row's noise.
        callbacks, device_noise, adam: as in `fit_adam`.

    Returns:
        History, name -> list over epochs.
    """
    return fit_adam(model, Batches(arrays, batch, seed, uniform, normal), path, epochs, rate, callbacks=callbacks,
                    adam=adam, device_noise=device_noise)


def annealed(learning_rate: float, batches: Batches, epochs: int,
             warmup: float = 0.05) -> keras.optimizers.schedules.LearningRateSchedule:
    """Cosine learning-rate schedule from a short linear warm-up down to a hundredth over a training of `epochs`."""
    if isinstance(learning_rate, bool) or not isinstance(learning_rate, Real) or not 0.0 < learning_rate < np.inf:
        raise ValueError(f"Expected a finite learning rate above 0, received {learning_rate!r}.")
    steps = max(len(batches) * whole_number(epochs, "epochs"), 2)
    first = max(int(warmup * steps), 1)
    return keras.optimizers.schedules.CosineDecay(
        learning_rate / 10, steps - first, alpha=0.01, warmup_target=learning_rate, warmup_steps=first)
