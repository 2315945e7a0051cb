"""Trained generators that come with the package, and how they become small."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import h5py
import numpy as np

from zdckeras.data.atomic import atomic_path
from zdckeras.loading import load_model, read_config
from zdckeras.provenance import (
    PROVENANCE_FILE,
    SKETCH,
    SKETCH_FILE,
    provenance_of,
    sketch_text,
    training_sketch_of,
)

if TYPE_CHECKING:
    from zdckeras.generators import Sampler
    from zdckeras.hits.classifier import HitClassifier

PLACE = Path(__file__).parent / "pretrained_models"  # <name>.keras, and <name>.md that says what it is
HITS = Path(__file__).parent / "hits" / "pretrained.keras"  # the classifier of ZN and ZP, and its .md
WEIGHTS = "model.weights.h5"  # member of a .keras archive
TOLERANCE = 1e-3  # rounding errors of an array, in its standard deviations, up to which it is kept in half precision


def pretrained(name: str) -> "Sampler":
    """A trained generator that comes with the package.

    Arguments:
        name: "zn", "zp", ...: a file in `zdckeras/pretrained_models`, beside which a card says what it was trained on
            and how good it is.

    Returns:
        The generator; `sample` makes showers.

    Raises:
        ValueError: for another name, with those that are there.

    Example:
        >>> "cpv" in pretrained_names()
        False
    """
    return load_model(_pretrained_file(name))


def pretrained_names() -> list[str]:
    """Names that `pretrained` knows."""
    return sorted(path.stem for path in PLACE.glob("[!.]*.keras"))


def model_file(model: str | Path) -> Path:
    """The `.keras` file behind the name of a pretrained generator or a path, looked at but not loaded.

    A bare name of a pretrained one always means that; what has the same name in the current folder is ./<name>.

    Raises:
        FileNotFoundError, ValueError: as `pretrained` and `load_model`, at once.
    """
    bare = isinstance(model, str) and Path(model).name == model and not Path(model).suffix
    named = bare and (model in pretrained_names() or not Path(model).exists())
    path = _pretrained_file(model, ", or a .keras, .onnx or SavedModel path") if named else Path(model)
    read_config(path)
    return path


def card_of(file: Path) -> str:
    """What the card beside a `.keras` file says, or nothing."""
    card = file.with_suffix(".md")
    return card.read_text(encoding="utf-8") if card.is_file() else ""


def about_models(files: Mapping[str, Path]) -> dict[str, str]:
    """Metadata of an exported file: its source, and of each model its card, its provenance and, of a single one, the
    sketch of the showers it was trained on, all as text.

    Arguments:
        files: name -> `.keras` file.

    Raises:
        FileNotFoundError, ValueError: if a file is not there, or no model.
    """
    about = {"source": ", ".join(files)}
    for name, file in files.items():
        about |= {f"card of {name}": card_of(file), f"provenance of {name}": json.dumps(provenance_of(file))}
    sketch = training_sketch_of(*files.values()) if len(files) == 1 else None
    return about | ({SKETCH: sketch_text(sketch)} if sketch else {})


def open_generator(model: "Sampler | str | Path") -> "Sampler":
    """A generator from whatever names it: itself, the name of a pretrained one, or the path of a `.keras` file.

    Raises:
        FileNotFoundError, ValueError: as `model_file` and `load_model`, or for a model that is no generator.
    """
    found = load_model(model_file(model)) if isinstance(model, (str, Path)) else model
    from zdckeras.generators import Sampler

    if not isinstance(found, Sampler):
        raise ValueError(f"{model}: expected a generator (Sampler), received {type(found).__name__}.")
    return found


def open_hits(path: str | Path | None = None) -> "HitClassifier":
    """A trained classifier of particles that leave light, from its `.keras` file, or that which comes with the package.

    Raises:
        FileNotFoundError, ValueError: as `load_model`, and for another kind of model.
    """
    from zdckeras.hits.classifier import HitClassifier

    path = HITS if path is None else Path(path)
    model = load_model(path)
    if not isinstance(model, HitClassifier):
        raise ValueError(f"{path}: expected a HitClassifier, received {type(model).__name__}.")
    return model


def pack(generator: "Sampler", path: str | Path, source: str | Path | None = None) -> Path:
    """Save a generator as a smaller `.keras` file, its weights in half precision where that hardly moves them.

    An array w is kept as float16 if the rounding errors have rms(float16(w) - w) <= 10^-3 std(w); large offsets, values
    beyond 65504 and whole numbers keep their type. Keras turns them into the type of the layer when it loads the file.

    Arguments:
        generator: `Sampler`.
        path: a name that ends in .keras.
        source: file that the generator was read from: what it says about its making and its training rows is kept.

    Returns:
        The file, a `pathlib.Path`, written whole or not at all; `load_model` reads it.

    Raises:
        TypeError: if `generator` is no `Sampler`.
        ValueError: for another name.
    """
    from zdckeras.generators import Sampler

    if not isinstance(generator, Sampler):
        raise TypeError(f"Expected a generator (Sampler) to pack, received {type(generator).__name__} {generator!r}.")
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"Expected a name that ends in .keras, which `load_model` reads; received {path}.")
    with TemporaryDirectory() as folder, atomic_path(path) as temporary:
        generator.save(Path(folder) / "model.keras")
        with (zipfile.ZipFile(Path(folder) / "model.keras") as archive,
              zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packed):
            for name in archive.namelist():
                content = archive.read(name)
                packed.writestr(name, _half(content) if name == WEIGHTS else content)
            if source is not None:
                with zipfile.ZipFile(source) as told:
                    for name in {PROVENANCE_FILE, SKETCH_FILE} & set(told.namelist()):
                        packed.writestr(name, told.read(name))
    return path


def _pretrained_file(name, or_else=""):
    """The file of a pretrained generator; ValueError, with what else might have been meant, if there is none."""
    names = pretrained_names()
    if name not in names:
        known = ", ".join(names) or "(none is there)"
        raise ValueError(f"Expected the name of a pretrained generator, one of {known}{or_else}; received "
                         f"{name!r}.")
    return PLACE / f"{name}.keras"


def _half(content):
    """A file of weights, as bytes, with the arrays that bear it in half precision."""
    written = io.BytesIO()
    with h5py.File(io.BytesIO(content)) as source, h5py.File(written, "w") as target:
        _copy(source, target)
    return written.getvalue()


def _copy(source, target):
    """Groups, arrays and attributes of one HDF5 group into another."""
    target.attrs.update(source.attrs)
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            _copy(item, target.create_group(name))
        else:
            target.create_dataset(name, data=_shortened(item[()])).attrs.update(item.attrs)


def _shortened(values):
    """An array as float16 if that keeps it within the tolerance, or as it is."""
    if values.dtype.kind != "f" or not values.size:
        return values
    with np.errstate(over="ignore"):
        short = values.astype("float16")
    error = np.sqrt(np.mean((short.astype("float64") - values) ** 2))
    return short if error <= TOLERANCE * values.std() else values
