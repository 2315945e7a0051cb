"""Any saved model of any family from its `.keras` file, whatever version of this package wrote it.

Keras, which takes seconds, is imported when the file has been looked at, so that a wrong path is told at once.
"""

import json
import zipfile
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import zdckeras

if TYPE_CHECKING:
    import keras

CONFIG = "config.json"  # member of a .keras archive
OURS = "zdckeras>"  # registered names of this package's classes begin so
RENAMED = {"where": "detector"}  # keys in configurations of earlier versions
LONGEST = 200  # characters of Keras's message that are passed on


def load_model(path: str | Path) -> "keras.Model":
    """A model or generator saved by `model.save(path)`, with its classes found by name in this package.

    Code is never taken from the file: it names classes of Keras and of this package (or of yours, if you registered
    them with `keras.saving.register_keras_serializable` and have imported them).

    Arguments:
        path: a `.keras` file.

    Returns:
        The Keras model, compiled if it was.

    Raises:
        FileNotFoundError: if nothing is there.
        ValueError: if it is no Keras model, is damaged, names an unknown class, or does not fit its own weights; one
            line that says what was expected and what received.

    Example:
        >>> load_model("served/1")
        Traceback (most recent call last):
        FileNotFoundError: No such file: served/1
    """
    path = Path(path)
    config = read_config(path)
    import keras

    try:
        known, current = classes_of(config, path), with_current_names(config)
    except RecursionError:
        raise ValueError(f"{path}: expected a Keras model, received a configuration that is nested too deep.") from None
    try:
        if current == config:
            return keras.saving.load_model(path, safe_mode=True)
        with TemporaryDirectory() as folder:
            return keras.saving.load_model(_with_config(path, current, Path(folder) / "model.keras"), safe_mode=True)
    except Exception as error:  # Keras raises many kinds, with the whole configuration in the message
        said = " ".join(str(error).split("Exception encountered:")[-1].split()) or type(error).__name__
        said = said if len(said) <= LONGEST else said[:LONGEST] + " ..."
        raise ValueError(f"{path}: expected a whole Keras model of {', '.join(known) or 'Keras classes'}, received one "
                         f"that cannot be made again: {said}") from None


def classes_of(config: Any, path: str | Path) -> list[str]:
    """Import the classes that a configuration names, and give their names.

    Raises:
        ValueError: for a registered name that is neither one of this package nor known to Keras.
    """
    import keras

    names = sorted(set(_registered_names(config)))
    for module in _modules():
        if all(map(keras.saving.get_registered_object, names)):
            break
        import_module(module)
    unknown = [name for name in names if not keras.saving.get_registered_object(name)]
    if unknown:
        raise ValueError(f"{path}: expected classes of zdckeras {zdckeras.__version__} or registered with Keras, "
                         f"received {', '.join(unknown)[:LONGEST]}.")
    return [name.removeprefix(OURS) for name in names]


def with_current_names(config: Any, ours: bool = False) -> Any:
    """The configuration with today's names of keys in everything that belongs to a class of this package.

    Arguments:
        config: configuration, as in `config.json`.
        ours: whether it lies within the configuration of such a class.

    Example:
        >>> old = {"class_name": "Spots", "registered_name": "zdckeras>Spots", "config": {"where": "zn", "number": 8}}
        >>> with_current_names(old)["config"]
        {'detector': 'zn', 'number': 8}
    """
    if isinstance(config, list):
        return [with_current_names(value, ours) for value in config]
    if not isinstance(config, dict):
        return config
    if "class_name" in config:
        ours = str(config.get("registered_name")).startswith(OURS)
    return {RENAMED.get(key, key) if ours else key: with_current_names(value, ours) for key, value in config.items()}


def read_config(path: Path) -> dict[str, Any]:
    """The configuration in a .keras file, a dictionary.

    Raises:
        FileNotFoundError, ValueError: if nothing is there, or no Keras model, in one line.
    """
    if path.is_dir():
        raise ValueError(f"{path}: expected a .keras file, received a folder.")
    if not path.is_file():
        raise FileNotFoundError(f"No such file: {path}")
    expected = f"{path}: expected a Keras model, a .keras archive with {CONFIG}"
    if path.suffix != ".keras":
        raise ValueError(f"{expected}; received a name that ends in {path.suffix!r}.")
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read(CONFIG))
    except Exception as error:  # damaged archives raise half a dozen unrelated kinds
        raise ValueError(f"{expected}; received {path.stat().st_size} bytes: {str(error)[:LONGEST]}") from None
    if not isinstance(config, dict) or "class_name" not in config:
        raise ValueError(f"{expected} that names a class; received a {CONFIG} without.")
    return config


def _registered_names(config):
    """All registered names in a configuration, in the order of appearance."""
    values = config.values() if isinstance(config, dict) else config if isinstance(config, list) else ()
    if isinstance(config, dict) and "class_name" in config and ">" in str(config.get("registered_name")):
        yield config["registered_name"]
    for value in values:
        yield from _registered_names(value)


def _modules():
    """Names of the modules in this package's folders, those of the backends excepted."""
    for package in iter_modules(zdckeras.__path__, "zdckeras."):
        if package.ispkg and package.name != "zdckeras.backend":
            for module in iter_modules(import_module(package.name).__path__, package.name + "."):
                yield module.name


def _with_config(path, config, copy):
    """A copy of a .keras file with another configuration."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as written:
        for member in archive.infolist():
            written.writestr(member, json.dumps(config) if member.filename == CONFIG else archive.read(member))
    return copy
