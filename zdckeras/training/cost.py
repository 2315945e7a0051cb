"""What a training will cost (weights, operations, memory, time on a GPU), and what it has cost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import keras
import numpy as np

from zdckeras.training.loop import SPENT, processor_seconds

GPU_RATE = 1e13  # operations a second; steps of the published networks reached 4e12 to 4e13 on one large GPU
ACTIVATION_COPIES = 2  # each activation and its gradient


@dataclass(frozen=True)
class Counts:
    """What a network computes for one row.

    Arguments:
        weights: its weights.
        products: multiplications with a weight, of dense layers and convolutions.
        activations: numbers that are kept for the gradient.
    """

    weights: int
    products: int
    activations: int

    @classmethod
    def of(cls, network: keras.Model) -> Self:
        """Of a functional model.

        Example:
            >>> x = keras.Input((8, 8, 1))
            >>> Counts.of(keras.Model(x, keras.layers.Conv2D(4, 3)(x)))  # 6 x 6 cells, 3 x 3 x 1 x 4 weights and biases
            Counts(weights=40, products=1296, activations=144)
        """
        return cls(network.count_params(), products_of(network), activations_of(network))

    @classmethod
    def of_call(cls, model: keras.Layer, *inputs: Any) -> Self:
        """Of any other model or layer: what its innermost layers give when it is called, once, on one row.

        Scores of attention and distances to codes, which no layer of their own makes, are left out.

        Arguments:
            model: built.
            inputs: of its call, with one row each.

        Example:
            >>> stack = keras.Sequential([keras.layers.Dense(3), keras.layers.ReLU()])
            >>> stack.build((None, 5))
            >>> Counts.of_call(stack, np.ones((1, 5), "float32"))
            Counts(weights=18, products=15, activations=6)
        """
        inner = [layer for layer in model._flatten_layers() if not layer._layers]
        products, activations = [], []

        def watch(layer):
            call = layer.call

            def watched(*args, **kwargs):
                made = call(*args, **kwargs)
                activations.extend(int(np.prod(part.shape)) for part in keras.tree.flatten(made))
                if hasattr(layer, "kernel"):
                    products.append(_products(layer.kernel.shape, layer, args[0].shape, made.shape))
                return made
            vars(layer)["call"] = watched

        try:
            for layer in inner:
                watch(layer)
            model(*inputs)
        finally:
            for layer in inner:
                vars(layer).pop("call", None)
        return cls(model.count_params(), sum(products), sum(activations))


@dataclass(frozen=True)
class Passes:
    """How often one train step runs a network.

    Arguments:
        network: functional `keras.Model`, or the `Counts` of any other.
        forward: batches passed forward alone.
        gradient: batches passed forward and back; a gradient of a gradient counts as one more.
        trained: whether its weights are trained.
    """

    network: keras.Model | Counts
    forward: float
    gradient: float
    trained: bool = True


def passes_of_loss(name: str, model: keras.Model, **rows: tuple[int, ...]) -> dict[str, Passes]:
    """The one pass forward and back that a step of a `SampleLoss` takes, as its row `name`.

    Arguments:
        name: of the row.
        model: built.
        rows: name of each of its inputs -> shape of a row.
    """
    inputs = {key: np.ones((1, *shape), "float32") for key, shape in rows.items()}
    return {name: Passes(Counts.of_call(model, inputs), 0.0, 1.0)}


def _products(kernel, layer, inputs, outputs):
    """Multiplications of a layer for one row: its kernel at every place, which transposed convolutions have before."""
    places = inputs if isinstance(layer, keras.layers.Conv2DTranspose) else outputs
    return int(np.prod(kernel)) * int(np.prod(places[:-1]))


def products_of(network: keras.Model) -> int:
    """Multiplications with a weight for one row of a functional model: dense layers and convolutions.

    Example:
        >>> x = keras.Input((8, 8, 1))
        >>> products_of(keras.Model(x, keras.layers.Conv2D(4, 3)(x)))  # 6 x 6 cells, 3 x 3 x 1 x 4 weights
        1296
    """
    return sum(_products(layer.kernel.shape, layer, layer.input.shape[1:], layer.output.shape[1:])
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
            f"sustains {GPU_RATE / 1e12:.0f} TFLOP/s in float32 (4 to 39 were measured on an H100)"])


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
        counts = one.network if isinstance(one.network, Counts) else Counts.of(one.network)
        rows.append(f"{name}: {counts.weights:,} weights, {2 * counts.products / 1e6:,.1f} MFLOP a response")
        kept = batch * counts.activations * ACTIVATION_COPIES * one.gradient
        memory += int(4 * ((4 if one.trained else 1) * counts.weights + kept))
        step += 2.0 * batch * counts.products * (one.forward + 3.0 * one.gradient)
    return Cost(rows, memory, step, steps)


def printed_cost(passes: Mapping[str, Passes], rows: int, settings: dict) -> None:
    """Print what a training of a preset would cost, for --dry-run.

    Arguments:
        passes: of its networks, see `Passes`.
        rows: training showers.
        settings: {"epochs", "batch"} of the training.
    """
    steps = settings["epochs"] * (rows // settings["batch"])
    print(training_cost(passes, settings["batch"], steps).text())


def timed(training: Callable[[], Any]) -> tuple[Any, float]:
    """What a training gives, and the processor seconds that it took until its last saved state, resumed or not.

    Arguments:
        training: function without arguments, around one or several trainings with state files of their own.

    Returns:
        (what the training gives, seconds).
    """
    begun = len(SPENT)
    found = training()
    return found, processor_seconds(begun)
