"""What a training will cost (weights, operations, memory, time on a GPU), and what it has cost."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zdckeras.data.atomic import atomic_path

GPU_RATE = 1e13  # operations a second that small convolutions reach on a large GPU in float32: an assumption
ACTIVATION_COPIES = 2  # each activation and its gradient


@dataclass(frozen=True)
class Passes:
    """How often one train step runs a network.

    Arguments:
        network: functional `keras.Model`.
        forward: batches passed forward alone.
        gradient: batches passed forward and back; a gradient of a gradient counts as one more.
        trained: whether its weights are trained.
    """

    network: keras.Model
    forward: float
    gradient: float
    trained: bool = True


def products_of(network: keras.Model) -> int:
    """Multiplications with a weight for one row of a functional model: dense layers and convolutions.

    Example:
        >>> x = keras.Input((8, 8, 1))
        >>> products_of(keras.Model(x, keras.layers.Conv2D(4, 3)(x)))  # 6 x 6 cells, 3 x 3 x 1 x 4 weights
        1296
    """
    return sum(int(np.prod(layer.kernel.shape)) * int(np.prod(layer.output.shape[1:-1]))
               for layer in network.layers if hasattr(layer, "kernel"))


def activations_of(network: keras.Model) -> int:
    """Numbers that a functional model computes for one row and keeps for the gradient."""
    return sum(int(np.prod(layer.output.shape[1:])) for layer in network.layers
               if not isinstance(layer, keras.layers.InputLayer) and not isinstance(layer.output, list))


@dataclass(frozen=True)
class Cost:
    """Cost of a training, from `training_cost`.

    Arguments:
        rows: lines of words on each network.
        memory: bytes of weights, gradients, Adam's two moments and activations.
        step: floating-point operations of a step.
        steps: in all.
    """

    rows: list
    memory: int
    step: float
    steps: int

    def seconds(self, rate: float = GPU_RATE) -> float:
        """Time at so many operations a second."""
        return self.step * self.steps / rate

    def text(self) -> str:
        """All of it in lines."""
        return "\n".join([
            *self.rows, f"memory of a step: {self.memory / 1e9:.2f} GB (weights, gradients, Adam, activations)",
            f"{self.steps:,} steps of {self.step / 1e9:,.1f} GFLOP: {self.seconds() / 3600:.1f} hours on a GPU that "
            f"sustains {GPU_RATE / 1e12:.0f} TFLOP/s in float32 (an assumption, not a measurement)"])


def training_cost(passes: Mapping[str, Passes], batch: int, steps: int) -> Cost:
    """Count what a training costs: a pass forward is one unit of a network's operations, one with gradient three.

    Arguments:
        passes: name -> `Passes`.
        batch: rows of a step.
        steps: of the whole training.

    Returns:
        `Cost`.

    Example:
        >>> x = keras.Input((10,))
        >>> found = training_cost({"net": Passes(keras.Model(x, keras.layers.Dense(5)(x)), 1.0, 2.0)}, 4, 100)
        >>> found.step, found.memory  # 2 x 4 x 50 x (1 + 3 x 2); 55 weights in four copies, 5 numbers a row
        (2800.0, 1200)
    """
    rows, memory, step = [], 0, 0.0
    for name, one in passes.items():
        weights, products = one.network.count_params(), products_of(one.network)
        rows.append(f"{name}: {weights:,} weights, {2 * products / 1e6:,.1f} MFLOP a response")
        kept = batch * activations_of(one.network) * ACTIVATION_COPIES * one.gradient
        memory += int(4 * ((4 if one.trained else 1) * weights + kept))
        step += 2.0 * batch * products * (one.forward + 3.0 * one.gradient)
    return Cost(rows, memory, step, steps)


def printed_cost(passes: Mapping[str, Passes], rows: int, settings: dict) -> None:
    """Print what the adversarial training of a preset would cost, for --dry-run.

    Arguments:
        passes: of its networks, see `Passes`.
        rows: training showers.
        settings: {"epochs", "batch"} of the training.
    """
    steps = settings["epochs"] * (rows // settings["batch"])
    print(training_cost(passes, settings["batch"], steps).text())


def timed(state: str | Path, training: Callable[[], Any]) -> tuple[Any, float]:
    """What a training gives, and the processor seconds that it took, kept in `<state>.json` for when it is finished.

    Arguments:
        state: path of its state file, by which a training that has nothing left to do is known.
        training: function without arguments; the seconds of an interrupted call are lost.

    Returns:
        (what the training gives, seconds).
    """
    state = Path(state)
    kept, before = state.with_suffix(".json"), state.stat().st_mtime_ns if state.exists() else None
    begin, spent = time.process_time(), json.loads(kept.read_text()) if kept.exists() else 0.0
    found = training()
    if state.stat().st_mtime_ns != before:
        spent += time.process_time() - begin
        with atomic_path(kept) as temporary:
            temporary.write_text(json.dumps(spent), encoding="utf-8")
    return found, spent
