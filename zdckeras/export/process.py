"""A second process under TensorFlow: writes what only TensorFlow can, whatever backend this one runs."""

import builtins
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import keras

import zdckeras
from zdckeras.data.atomic import check_place
from zdckeras.data.files import OTHER_SUFFIXES, ROOT_SUFFIX
from zdckeras.export.session import TAKES_IDS, TOLD_IDS
from zdckeras.generators import Sampler

KINDS = (FileExistsError, FileNotFoundError, ImportError, MemoryError, OSError, TypeError, ValueError)


def in_tensorflow_process(module: str, models: dict[str, keras.Model], *arguments: str | Path | Mapping) -> None:
    """Save models, and run a module of this package on them in a fresh process under TensorFlow, on the CPU.

    The module is run as `python -m <module> <folder> <arguments>`; in the folder are `<name>.keras`. Whatever lies in
    the current folder is not imported there: -P, and of PYTHONPATH only absolute places.

    Arguments:
        module: its full name.
        models: name -> Keras model.
        arguments: further words; paths are made absolute, and of a dictionary the word is the name of a JSON file in
            the folder that holds it, of any length: `told_in` reads it back.

    Raises:
        ValueError, TypeError, ImportError, OSError, MemoryError: as what the process ends with, see `told_to_parent`.
        RuntimeError: if it fails otherwise, with its last words.
    """
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    places = [str(Path(zdckeras.__file__).parents[1]), *filter(os.path.isabs, given)]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1",
                   "PYTHONPATH": os.pathsep.join(places)}
    with TemporaryDirectory() as scratch:
        words = [_word(argument, Path(scratch) / f"argument-{k}.json") for k, argument in enumerate(arguments)]
        for name, model in models.items():
            model.save(Path(scratch) / f"{name}.keras")
        done = subprocess.run([sys.executable, "-P", "-m", module, scratch, *words], env=environment, cwd=scratch,
                              capture_output=True, text=True)
    if done.returncode:
        raise _error_of(done.stderr.strip())


def _word(argument, file):
    """An argument as a word of a command line, which holds some 100 kB at most; a dictionary goes into a file."""
    if isinstance(argument, Mapping):
        file.write_text(json.dumps(dict(argument)), encoding="utf-8")
        return str(file)
    return str(argument.resolve()) if isinstance(argument, Path) else argument


def told_in(file: str | Path) -> dict:
    """The dictionary that `in_tensorflow_process` put into a file."""
    return json.loads(Path(file).read_text(encoding="utf-8"))


def told_to_parent(work: Callable[[], object]) -> None:
    """Do the work of a second process; an error ends it, with its kind and message as the last line."""
    try:
        work()
    except Exception as error:
        traceback.print_exc()
        known = next((kind.__name__ for kind in type(error).__mro__ if kind in KINDS), "")
        text = str(error) if known else f"{type(error).__name__}: {error}"
        print(json.dumps({"kind": known, "error": text}), file=sys.stderr)
        raise SystemExit(1) from None


def _error_of(said):
    """The error that a process ended with, from its last words."""
    try:
        told = json.loads(said.splitlines()[-1])
        kind, text = getattr(builtins, told["kind"] or "RuntimeError"), told["error"]
    except (IndexError, ValueError, KeyError, TypeError):
        kind, text = RuntimeError, said[-1000:]
    before = "The TensorFlow process that writes the model failed: " if kind is RuntimeError else ""
    return kind(f"{before}{text}")


def check_folder_place(folder: str | Path) -> None:
    """See, before a conversion, whether a folder can be written.

    Raises:
        FileExistsError: if a file is there.
        ValueError: for a name of a file, such as one that ends in .onnx, or if nothing can be written there, see
            `zdckeras.data.atomic.check_place`.
    """
    if (ending := Path(folder).suffix.lower()) in (ROOT_SUFFIX, *OTHER_SUFFIXES):
        more = ", a file that `--to onnx` (`export_onnx`) writes" if ending == ".onnx" else ""
        raise ValueError(f"{folder}: expected a folder, received a name that ends in {ending}{more}.")
    if Path(folder).is_file():
        raise FileExistsError(f"{folder} is a file, expected a folder.")
    check_place(Path(folder))


def about_ids(generator: Sampler, ids: bool) -> dict[str, str]:
    """What an exported file says of PDG ids: that they are an input, or that its generator alone takes them."""
    takes = getattr(generator, "TAKES_IDS", False)  # O2's classifier is no generator
    return TOLD_IDS if ids else TAKES_IDS if takes else {}


def check_ids(generator: Sampler, ids: bool) -> None:
    """ValueError if PDG ids are to be an input of a generator that takes none."""
    if ids and not generator.TAKES_IDS:
        raise ValueError(f"Expected a generator that takes PDG ids, to be told them; received {generator.name}, a "
                         f"{type(generator).__name__}, which takes none.")


def check_generator(generator: Sampler) -> None:
    """TypeError unless this is a `Sampler`, which is what can be exported."""
    if not isinstance(generator, Sampler):
        raise TypeError(f"Expected a generator (Sampler) to export, received {type(generator).__name__} {generator!r}.")
