"""What every training of a process does besides: logs of its losses, and noise that the device draws."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from numbers import Real
from pathlib import Path

import keras
from keras import ops

from zdckeras import backend
from zdckeras.command import positive, whole
from zdckeras.data.atomic import write_text
from zdckeras.training.constants import WithConstants

# kind of log -> packages that it needs
LOGS = {"csv": (), "tensorboard": ("tensorflow", "tensorboard"), "mlflow": ("mlflow",),
        "wandb": ("wandb", "tensorflow")}  # whose callback imports TensorFlow on every backend


@dataclass
class Options:
    """Settings that hold for all trainings of a process, as `keras.config` holds them for all layers.

    Arguments:
        log: "csv" or "tensorboard": losses of every epoch go to logs/<name> beside the state file; "mlflow" or "wandb"
            (Weights & Biases): to a run of their own; None: nowhere.
        device_noise: whether models draw their noise themselves, see `DeviceNoise`.
        minutes: of the clock, all its starts together, after which every training ends with the epoch that it is in;
            None: all epochs.
    """

    log: str | None = None
    device_noise: bool = False
    minutes: float | None = None


OPTIONS = Options()


def set_options(log: str | None = None, device_noise: bool = False, minutes: float | None = None) -> None:
    """Set the `Options` of this process; without arguments, put them back.

    Raises:
        ValueError: for an unknown kind of log, or minutes that are not above 0.
    """
    if log not in (None, *LOGS):
        raise ValueError(f"log: expected one of {', '.join(LOGS)} or None, received {log!r}.")
    if minutes is not None and (isinstance(minutes, bool) or not isinstance(minutes, Real) or not minutes > 0):
        raise ValueError(f"minutes: expected a number above 0, received {minutes!r}.")
    OPTIONS.log, OPTIONS.device_noise, OPTIONS.minutes = log, bool(device_noise), minutes


def add_arguments(parser: argparse.ArgumentParser, half: bool = False) -> None:
    """The arguments --log, --devices, --minutes, --device-noise and --mixed-precision; `apply_arguments` and, of the
    second, `apply_devices` give them effect.

    Arguments:
        parser: of a recipe.
        half: whether the networks of the recipe bear mixed precision; where they do not, it is refused.
    """
    parser.add_argument("--log", choices=LOGS, type=_kind_of_log, help="losses of every epoch: CSV files, or files for "
                        "TensorBoard, in logs/ beside the states; or runs of MLflow or of Weights & Biases, which go "
                        "where their own environment variables say")
    parser.add_argument("--devices", type=whole(1), help="that share every batch of a training, on JAX and "
                        "TensorFlow")
    parser.add_argument("--minutes", type=positive, help="after which every training ends with the epoch that it is "
                        "in; what follows takes it as it is then")
    parser.add_argument("--device-noise", action="store_true", help="noise drawn by the device, for large batches on a "
                        "GPU; repeats on one backend, not across backends")
    parser.set_defaults(mixed_precision=False)
    parser.add_argument("--mixed-precision", action=_HalfPrecision if half else _Refused, nargs=0,
                        help="dense and convolutional layers in bfloat16" if half else argparse.SUPPRESS)


def apply_arguments(args: argparse.Namespace) -> None:
    """Set the `Options` and the policy that a command line asks for, before models are made."""
    set_options(getattr(args, "log", None), getattr(args, "device_noise", False), getattr(args, "minutes", None))
    if getattr(args, "mixed_precision", False):
        keras.config.set_dtype_policy("mixed_bfloat16")  # which needs no scaling of losses


def apply_devices(args: argparse.Namespace) -> None:
    """Let the devices that a command line asks for share the batches of trainings; before anything is computed.

    Raises:
        ValueError: for devices that there are not, or several that would all draw the same noise.
    """
    if args.devices and args.device_noise:
        raise ValueError("expected one of --devices and --device-noise, received both: all devices would draw alike")
    backend.use_devices(args.devices or 1)


def _kind_of_log(word):
    """Type of --log: told at once where what it needs is not installed."""
    missing = [name for name in LOGS.get(word, ()) if find_spec(name) is None]
    if missing:
        raise argparse.ArgumentTypeError(f"{' and '.join(missing)} not installed: pip install zdckeras[{word}]")
    return word


class _HalfPrecision(argparse.Action):
    """Noted, for `apply_arguments`."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, True)


class _Refused(argparse.Action):
    """What the models of a recipe cannot do."""

    def __call__(self, parser, namespace, values, option_string=None):
        parser.error(f"{option_string}: the models of this recipe compute in float32, or densities, inverses and "
                     f"counts would be lost")


@contextmanager
def logged(checkpoint: str | Path, done: int = 0) -> Iterator[list[keras.callbacks.Callback]]:
    """The callback that logs the training of one state file, as the options say; in a list, empty for none.

    MLflow and Weights & Biases get one run for each start of a training, named after the folder of results and the
    state file, and ended with the context; within a run that is open already, MLflow's is nested.

    Arguments:
        checkpoint: state file, <results>/states/<settings>/<name>.npz in recipes.
        done: epochs in it, from which the training goes on; CSV files keep none beyond them.
    """
    checkpoint = Path(checkpoint).absolute()
    folder, run = checkpoint.parent / "logs", f"{checkpoint.parents[:3][-1].name}/{checkpoint.stem}"
    if OPTIONS.log == "mlflow":
        import mlflow
        import mlflow.keras

        with mlflow.start_run(run_name=run, nested=mlflow.active_run() is not None):
            yield [mlflow.keras.MlflowCallback()]
    elif OPTIONS.log == "wandb":
        import wandb
        from wandb.integration.keras import WandbMetricsLogger

        with wandb.init(project=os.environ.get("WANDB_PROJECT", "zdckeras"), name=run):
            yield [WandbMetricsLogger()]
    elif OPTIONS.log == "csv":
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{checkpoint.stem}.csv"
        _cut(file, done)
        yield [keras.callbacks.CSVLogger(str(file), append=True)]
    elif OPTIONS.log == "tensorboard":
        yield [keras.callbacks.TensorBoard(str(folder / checkpoint.stem), write_graph=False)]
    else:
        yield []


def _cut(file, done):
    """Leave the first `done` epochs of a CSV log alone; the others are trained again."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
    kept = [line for line in lines[1:] if line.partition(",")[0].isdigit() and int(line.partition(",")[0]) < done]
    if len(kept) < len(lines) - 1 or lines and not kept:
        write_text(file, "".join([*lines[:1], *kept]) if kept else "")


class DeviceNoise(keras.layers.Layer):
    """Adds fresh noise to a batch on the device that trains, in place of noise that comes with the data.

    For batches whose noise takes long to draw and to carry over (a million numbers for 256 rows of a flow over cells).
    A training then repeats for its seed on one backend, and goes on exactly after an interruption, but two backends
    draw other numbers.

    Arguments:
        uniform, normal: name -> shape of one row's noise, as in `Batches`.
        seed: whole number.

    Returns:
        call of a batch, name -> (B, ...), gives it with the noise; what it has already, as of validation, stays.
    """

    def __init__(self, uniform=None, normal=None, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.uniform, self.normal = dict(uniform or {}), dict(normal or {})
        self.source = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, batch):
        rows = ops.shape(next(iter(batch.values())))[0]
        drawn = {name: kind((rows, *shape), seed=self.source)
                 for kind, wanted in ((keras.random.uniform, self.uniform), (keras.random.normal, self.normal))
                 for name, shape in wanted.items() if name not in batch}
        return {**batch, **drawn}


class WithDeviceNoise(WithConstants):
    """A model of one loss that draws the noise of its batches itself.

    Arguments:
        model: `keras.Model` with its loss in `compute_loss`; it is what is trained.
        noise: `DeviceNoise`.
    """

    def __init__(self, model, noise, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.model, self.noise = model, noise
        self.built = True

    @property
    def constants(self) -> tuple[keras.Layer, ...]:
        """Those of the model."""
        return getattr(self.model, "constants", ())

    def call(self, inputs, training=False):  # the trainer of JAX does not hand `training` on to what is inside
        return self.model(self.noise(inputs), training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """That of the model."""
        return self.model.compute_loss(x, y, y_pred, sample_weight, training)
