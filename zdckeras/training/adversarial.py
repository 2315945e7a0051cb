"""Adversarial training: a generator with its averaged copy, warmed up on proper scores, then set against a critic."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zdckeras import backend
from zdckeras.training.batches import Batches
from zdckeras.training.loop import annealed, fit_arrays, train
from zdckeras.training.one_cycle import tuned
from zdckeras.training.options import OPTIONS, DeviceNoise
from zdckeras.training.phases import PhasedModel


class AdversarialModel(PhasedModel):
    """Base of a generator against a critic: it answers with the moving average of the generator's weights.

    Subclasses set `generator` and `average` (see `with_average`), `latent`, the numbers of noise, and `settings`, their
    configuration, and define `phases`, one of which is "generator".

    Returns:
        call({"conditions": (B, 9), "z": (B, latent)}) gives what the averaged generator gives.
    """

    def averages(self) -> tuple:
        return ((self.generator, self.average),)

    def call(self, inputs):
        return self.average(inputs["z"], inputs["conditions"])

    def get_config(self):
        return {**self.settings, "momentum": self.momentum, "name": self.name}


def with_average(make: Callable[[], keras.layers.Layer]) -> tuple[keras.layers.Layer, keras.layers.Layer]:
    """A fresh layer, and a copy of it for the moving average of its weights, which no optimizer moves.

    Arguments:
        make: function without arguments that gives a fresh, built layer.
    """
    layer, average = make(), make()
    average.set_weights(layer.get_weights())
    average.trainable = False
    return layer, average


def term_weights(weights: dict[str, float] | None, defaults: dict[str, float]) -> dict[str, float]:
    """Weights of the terms of a loss by name, those left out as in `defaults`.

    Raises:
        ValueError: for a name that has no default, or a negative weight.

    Example:
        >>> term_weights({"energy": 2}, {"energy": 0.0, "centre": 0.1})
        {'energy': 2.0, 'centre': 0.1}
    """
    weights = defaults | {name: float(weight) for name, weight in (weights or {}).items()}
    wrong = {name: weight for name, weight in weights.items() if name not in defaults or not weight >= 0.0}
    if wrong:
        raise ValueError(f"Expected weights of at least 0 for {', '.join(defaults)}; received {wrong}.")
    return weights


def check_network(kind: str, network: keras.Layer, inputs: Sequence[tuple], outputs: Sequence[tuple],
                  more: int = 0) -> int:
    """ValueError, in one line, unless a user's Keras model takes and gives arrays of these shapes; it is built.

    Arguments:
        kind: what it is to be, for the message.
        network: `keras.Model` of one array, or of a list where there are several inputs.
        inputs, outputs: shapes, None for the batch.
        more: how many arrays of any shape it may give behind these.

    Returns:
        How many arrays it gives behind these, `more` or 0.

    Example:
        >>> dense = keras.layers.Dense(2)
        >>> check_network("critic", dense, [(None, 5)], [(None, 1)])
        Traceback (most recent call last):
        ValueError: critic: expected outputs of shapes [(None, 1)], received [(None, 2)].
    """
    if not isinstance(network, keras.Layer):
        raise ValueError(f"{kind}: expected a Keras model, received {type(network).__name__}.")
    tensors = [keras.KerasTensor(shape) for shape in inputs]
    try:
        made = network(tensors if len(tensors) > 1 else tensors[0])
    except Exception as error:  # Keras raises many kinds
        raise ValueError(f"{kind}: expected a model of arrays {list(inputs)}, received one that fails: "
                         f"{' '.join(str(error).split())[:200]}") from None
    made = made if isinstance(made, (list, tuple)) else [made]
    other = [type(output).__name__ for output in made if not hasattr(output, "shape")]
    if other:
        raise ValueError(f"{kind}: expected outputs of shapes {list(outputs)}, received {', '.join(other)}.")
    found = [tuple(output.shape) for output in made]
    extra = len(found) - len(outputs)
    if found[: len(outputs)] != list(outputs) or extra not in (0, more):
        raise ValueError(f"{kind}: expected outputs of shapes {list(outputs)}, received {found}.")
    return extra


def warm_start_scores(gan: AdversarialModel, stages: dict[str, tuple], states: str | Path,
                      seed: int = 0, callbacks: Sequence[keras.callbacks.Callback] = ()) -> dict[str, dict]:
    """Trains a generator on proper scores alone, stage by stage, before it meets the critic; its average follows.

    No critic, no balance to keep: a strictly proper score is least for the right distribution, so that one real
    response to each particle is enough to learn from.

    Arguments:
        gan: fresh `AdversarialModel`.
        stages: name -> (`SampleLoss` around a part of the generator, arrays, {"epochs", "batch", "rate"}); the loss
            also gets normal noise "z" and "z2", (B, latent) each.
        states: folder of the state files; finished or interrupted stages are taken up there.
        seed: of order and noise.
        callbacks: of every stage, as in `train`.

    Returns:
        Histories, stage -> name -> list over epochs.

    Source:
        Gneiting and Raftery, J. Am. Stat. Assoc. 102 (2007) 359 (proper scores).
    """
    histories, noise = {}, {"z": (gan.latent,), "z2": (gan.latent,)}
    for name, (model, arrays, settings) in stages.items():
        settings = {key: settings[key] for key in ("epochs", "batch", "rate")}
        histories[name] = fit_arrays(model, arrays, Path(states) / f"{name}.npz", seed=seed, normal=noise,
                                     callbacks=callbacks, **settings)
    gan.average.set_weights(gan.generator.get_weights())
    return histories


def train_adversarially(gan: PhasedModel, arrays: dict[str, np.ndarray], path: str | Path, epochs: int, batch: int,
                        generator: float, critic: float, seed: int = 0, uniform: dict | None = None,
                        callbacks: Sequence[keras.callbacks.Callback] = (), device_noise: bool | None = None,
                        adam: Mapping[str, Any] | None = None, regressor: float | None = None) -> dict[str, list]:
    """Generator against critic (and regressor), each with Adam on a cosine schedule, or as published.

    A phase that runs several times in a step has as many times the steps in its schedule.

    Arguments:
        gan: `PhasedModel` with a phase "generator" and `latent` numbers of noise, warmed up.
        arrays: name -> (N, ...), what the losses need of every response, beside normal noise "z" and "z2".
        path: of the state file, from which an interrupted training goes on.
        epochs, batch: length of training and rows of a step.
        generator, critic: highest learning rates, where `adam` has none of its own.
        seed: of order and noise.
        uniform: names and shapes of uniform numbers that the losses want beside the latent noise.
        callbacks, device_noise: as in `fit_arrays`.
        adam: settings of Adam at constant rates, as studies have it, or phase -> settings of `tuned`; by default betas
            of 0.5 and 0.99 and a schedule.
        regressor: highest learning rate of that phase, where there is one; the critic's by default.

    Returns:
        History, name -> list over epochs.

    Raises:
        DivergedError: when a loss is not finite; the last good epoch is in the state file.
        ValueError: for batches smaller than a phase's repetitions, or settings of Adam for some of the phases alone.
    """
    normal = {name: (gan.latent,) for name in ("z", "z2")}
    if OPTIONS.device_noise if device_noise is None else device_noise:
        gan.device_noise, uniform, normal = DeviceNoise(uniform, normal, seed), None, None
    batches = Batches(arrays, batch, seed, uniform, normal)
    repeats = {name: phase.repeats for name, phase in gan.phases().items()}
    if batch < max(repeats.values()):
        raise ValueError(f"Expected batches of at least {max(repeats.values())} rows, one for each repetition of the "
                         f"critic's phase, received {batch}.")
    rates = {"critic": critic, "generator": generator, "regressor": critic if regressor is None else regressor}
    rates = {phase: rates.get(phase, critic) for phase in repeats}
    if any(isinstance(one, Mapping) for one in (adam or {}).values()) and set(adam) != set(rates):
        raise ValueError(f"Expected settings of Adam for {', '.join(rates)}, or for none of them, received some for "
                         f"{', '.join(adam)}.")
    print(f"\n{Path(path).stem}: {', '.join(rates)}; {epochs} x {len(batches)} steps", flush=True)
    if adam is None:
        adam = {"beta_1": 0.5, "beta_2": 0.99}
        rates = {phase: annealed(rate, batches, epochs * repeats[phase], warmup=0.1) for phase, rate in rates.items()}
    steps, own = epochs * len(batches), set(adam) == set(rates)
    gan.compile({phase: tuned(steps * repeats[phase], **{"rate": rate} | adam[phase]) if own else
                 keras.optimizers.Adam(rate, **adam) for phase, rate in rates.items()},
                jit_compile=backend.jit_compile())
    return train(gan, batches, epochs, path, callbacks=callbacks)
