"""How a conditional GAN is trained here: sums first, then shapes, then generator against critic."""

from pathlib import Path

import keras
import numpy as np

from zdckeras import backend
from zdckeras.data.detectors import channel_sums
from zdckeras.gan.model import training_arrays
from zdckeras.gan.scores import ShapeStart, SumsStart
from zdckeras.training.batches import Batches
from zdckeras.training.loop import annealed, fit_adam, train


def start(gan, showers, states, sums, shape, seed=0):
    """Warm start of a generator, first `SumsStart`, then `ShapeStart`; the averaged generator follows.

    Arguments:
        gan: fresh `ResponseGAN`.
        showers: training `Showers`.
        states: folder of the state files; finished or interrupted stages are taken up there.
        sums, shape: {"epochs", "batch", "rate"} of each stage, and "rows", how many showers it uses (all if left out).
        seed: of order and noise.

    Returns:
        Histories, stage -> name -> list over epochs.
    """
    codes, states = {"normal": {"z": (gan.latent,), "z2": (gan.latent,)}}, Path(states)
    some = showers[: sums.get("rows")]
    counts = np.concatenate([channel_sums(some.responses[name]) for name in gan.names], axis=1)
    batches = Batches({"conditions": some.particles, "sums": counts}, sums["batch"], seed, **codes)
    histories = {"sums": fit_adam(SumsStart(gan), batches, states / "sums.npz", sums["epochs"], sums["rate"])}
    arrays = training_arrays(showers[: shape.get("rows")], diversity=False)
    batches = Batches(arrays, shape["batch"], seed, **codes)
    histories["shape"] = fit_adam(ShapeStart(gan), batches, states / "shape.npz", shape["epochs"], shape["rate"])
    gan.average.set_weights(gan.generator.get_weights())
    return histories


def play(gan, arrays, path, epochs, batch, generator, critic, seed=0, uniform=None):
    """Generator against critic (and regressor), each with Adam on a cosine schedule.

    Arguments:
        gan: `ResponseGAN` or another `PhasedModel` with a phase "generator" and `latent` numbers of noise, started.
        arrays: `training_arrays`.
        path: of the state file, from which an interrupted training goes on.
        epochs, batch: length of training and rows of a step.
        generator, critic: highest learning rates; the regressor has the critic's.
        seed: of order and noise.
        uniform: names and shapes of uniform numbers that the losses want beside the latent noise.

    Returns:
        History, name -> list over epochs.

    Raises:
        DivergedError: when a loss is not finite; the last good epoch is in the state file.
    """
    batches = Batches(arrays, batch, seed, uniform, {name: (gan.latent,) for name in ("z", "z2")})
    rates = {phase: generator if phase == "generator" else critic for phase in gan.phases()}
    print(f"\n{Path(path).stem}: {', '.join(rates)}; {epochs} x {len(batches)} steps", flush=True)
    gan.compile({phase: keras.optimizers.Adam(annealed(rate, batches, epochs, warmup=0.1), beta_1=0.5, beta_2=0.99)
                 for phase, rate in rates.items()}, jit_compile=backend.jit_compile())
    return train(gan, batches, epochs, path)
