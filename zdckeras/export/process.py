"""A second process under TensorFlow: writes what only TensorFlow can, whatever backend this one runs."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import keras

import zdckeras
from zdckeras.generators import Sampler


def in_tensorflow_process(module: str, models: dict[str, keras.Model], *arguments: str | Path) -> None:
    """Save models, and run a module of this package on them in a fresh process under TensorFlow, on the CPU.

    The module is run as `python -m <module> <folder> <arguments>`; in the folder are `<name>.keras`. Whatever lies in
    the current folder is not imported there: -P, and of PYTHONPATH only absolute places.

    Arguments:
        module: its full name.
        models: name -> Keras model.
        arguments: further words; paths are made absolute.

    Raises:
        RuntimeError: if the process fails, with its last words.
    """
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    places = [str(Path(zdckeras.__file__).parents[1]), *filter(os.path.isabs, given)]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1",
                   "PYTHONPATH": os.pathsep.join(places)}
    words = [str(word.resolve()) if isinstance(word, Path) else word for word in arguments]
    with TemporaryDirectory() as scratch:
        for name, model in models.items():
            model.save(Path(scratch) / f"{name}.keras")
        done = subprocess.run([sys.executable, "-P", "-m", module, scratch, *words], env=environment, cwd=scratch,
                              capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError("The TensorFlow process that writes the model failed: " + done.stderr.strip()[-1000:])


def check_generator(generator: Sampler) -> None:
    """TypeError unless this is a `Sampler`, which is what can be exported."""
    if not isinstance(generator, Sampler):
        raise TypeError(f"Expected a generator (Sampler) to export, received {type(generator).__name__} {generator!r}.")
