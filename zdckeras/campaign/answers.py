"""What answers particles in a campaign: a Keras generator, an ONNX file or a SavedModel, behind one function."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np

from zdckeras.arguments import random_numbers
from zdckeras.data.detectors import DETECTORS, get_detector
from zdckeras.data.responses import measured
from zdckeras.export.session import TAKES_IDS, TOLD_IDS, about_served, open_session

BLOCK = 256  # rows that draw their noise from one seed, as `Sampler.sample` does it by default


@dataclass(frozen=True)
class Answer:
    """A generator without its framework.

    Arguments:
        name: of the generator.
        detectors: names.
        width: numbers of noise a shower takes.
        call: function of noise (B, width), conditions (B, 9) and PDG ids (B,) that gives (B, nx, ny) for each detector.
        about: what an exported file says about its making, as text by name.
        takes_ids: whether the ids make a difference.
    """

    name: str
    detectors: tuple
    width: int
    call: Callable
    about: dict = field(default_factory=dict)
    takes_ids: bool = False

    def unchecked(self, conditions: np.ndarray, pdg: np.ndarray, seed: int, block: int) -> dict[str, np.ndarray]:
        """`block` as the generator gives it, whatever it is."""
        rows = np.minimum(np.arange(BLOCK), len(conditions) - 1)  # the last fills a block up
        noise = random_numbers([seed, block], 2).standard_normal((BLOCK, self.width), "float32")
        made = self.call(noise, conditions[rows].astype("float32"), pdg[rows].astype("float32"))
        return {name: np.asarray(part)[: len(conditions)] for name, part in zip(self.detectors, made, strict=True)}

    def block(self, conditions: np.ndarray, pdg: np.ndarray, seed: int, block: int) -> dict[str, np.ndarray]:
        """Responses to rows (n, 9), n <= 256, that are block number `block`: what `Sampler.sample` gives for them."""
        made = self.unchecked(conditions, pdg, seed, block)
        return {name: measured(part, get_detector(name), f"{self.name}, block {block}") for name, part in made.items()}


def open_answer(model: str | Path) -> Answer:
    """An `Answer` of whatever names a generator.

    Arguments:
        model: a `.keras` file or the name of a pretrained generator; a .onnx file written by `export_onnx`; or the
            folder of a version of a SavedModel.

    Raises:
        FileNotFoundError, ValueError: if nothing is there, or something else.
        ImportError: if what runs it is not installed.
    """
    path = Path(model)
    if is_exported(model):
        return _from_onnx(path) if path.suffix == ".onnx" else _from_saved_model(path)
    from zdckeras.packaged import open_generator

    generator = open_generator(model)

    def call(noise, conditions, pdg):
        inputs = {"noise": noise, "conditions": conditions} | ({"pdg": pdg} if generator.TAKES_IDS else {})
        made = generator.made_of(inputs)  # threads take turns where they have to
        return made if isinstance(made, (tuple, list)) else (made,)

    names = tuple(detector.name for detector in generator.detectors)
    return Answer(generator.name, names, generator.noise_width, call, takes_ids=generator.TAKES_IDS)


def _session(path):
    """ONNX Runtime's session of a file; FileNotFoundError or ValueError if there is none."""
    if not path.is_file():
        raise FileNotFoundError(f"No such file: {path}")
    try:
        return open_session(path)
    except Exception as error:  # ONNX Runtime has a dozen kinds of its own
        raise ValueError(f"{path}: expected an ONNX model, received one that ONNX Runtime refuses: "
                         f"{' '.join(str(error).split())[:200]}") from None


def _from_onnx(path):
    session = _session(path)
    about = session.get_modelmeta().custom_metadata_map
    if slot := about.get("o2_slot"):
        raise ValueError(f"{path}: expected a generator as `export_onnx` writes it, received O2's {slot} model, whose "
                         "answers O2 decodes: `zdckeras check-o2` takes its folder.")
    inputs = {entry.name: entry.shape for entry in session.get_inputs()}
    if set(inputs) - {"pdg"} != {"noise", "condition"} or "detector" not in about:
        raise ValueError(f"{path}: expected a generator as `export_onnx` writes it, with inputs noise and condition, "
                         f"received inputs {', '.join(inputs)}.")

    def call(noise, conditions, pdg):
        told = {"pdg": pdg.astype("int32")} if "pdg" in inputs else {}
        return session.run(None, {"noise": noise, "condition": conditions, **told})

    return Answer(about["name"], tuple(about["detector"].split(",")), inputs["noise"][1], call, dict(about),
                  "pdg" in inputs)


def _from_saved_model(folder):
    from zdckeras.backend.tensorflow_export import open_saved_model

    if not (folder / "saved_model.pb").is_file():
        raise ValueError(f"{folder}: expected a folder with saved_model.pb, the version of a SavedModel.")
    try:
        function, width, outputs, takes_ids = open_saved_model(folder)
    except ValueError:
        raise
    except Exception as error:  # TensorFlow has kinds of its own, and those of protocol buffers
        raise ValueError(f"{folder}: expected a whole SavedModel, received one that TensorFlow refuses: "
                         f"{' '.join(str(error).split())[:200]}") from None
    names, order = detectors_of(outputs, folder), sorted(outputs)
    return Answer(folder.parent.name, tuple(names[output] for output in order), width,
                  lambda noise, conditions, pdg: [function(noise, conditions, pdg)[output] for output in order],
                  about_served(folder), takes_ids)


def detectors_of(outputs: Mapping[str, tuple[int, int]], what: str | Path) -> dict[str, str]:
    """Detector of each output of a SavedModel, (nx, ny) by name: what its name says, or its shape.

    Raises:
        ValueError: for a shape of no known detector; the message begins with `what`.

    Example:
        >>> detectors_of({"photons": (44, 44)}, "served"), detectors_of({"photons_zp": (56, 30)}, "served")
        ({'photons': 'zn'}, {'photons_zp': 'zp'})
    """
    shapes = {detector.shape: name for name, detector in DETECTORS.items()}
    names = {output: output.partition("_")[2] or shapes.get(shape) for output, shape in outputs.items()}
    if not set(names.values()) <= set(DETECTORS):
        raise ValueError(f"{what}: expected responses of a known detector, received {dict(outputs)}.")
    return names


def reach_of(model: str | Path) -> dict[str, np.ndarray]:
    """{"low" (9,), "high" (9,)} of the particles a generator was trained on; {} if its file does not say.

    Arguments:
        model: as `open_answer` takes it; a SavedModel does not say.
    """
    from zdckeras.loading import read_config
    from zdckeras.packaged import model_file

    if is_exported(model):
        return reach_in(about_exported(model))
    about = read_config(model_file(model)).get("config", {})
    return {name: np.array(about[name]) for name in ("low", "high")} if about.get("low") and about.get("high") else {}


def about_exported(model: str | Path) -> dict[str, str]:
    """What an exported file says about itself, as text by name; {} for other models."""
    if not is_exported(model):
        return {}
    path = Path(model)
    return about_served(path) if path.is_dir() else _session(path).get_modelmeta().custom_metadata_map


def hides_ids(about: Mapping[str, str]) -> bool:
    """Whether a file that says this about itself is not told PDG ids, while the generator that it was made from is.

    Example:
        >>> hides_ids({"takes_ids": "true"}), hides_ids({"name": "of an earlier version"})
        (True, False)
    """
    return TAKES_IDS.items() <= about.items()


def knows_ids(model: str | Path) -> bool:
    """Whether PDG ids make a difference to a generator, as `open_answer` takes it, by what its file says.

    Example:
        >>> knows_ids("zn")
        True
    """
    from zdckeras.loading import read_config
    from zdckeras.packaged import model_file

    if is_exported(model):
        return TOLD_IDS.items() <= about_exported(model).items()
    return "transport" in read_config(model_file(model)).get("config", {})


def reach_in(about: Mapping[str, str]) -> dict[str, np.ndarray]:
    """`reach_of` an ONNX file that says this about itself.

    Example:
        >>> reach_in({"low": "1,2", "high": "3,4"})["high"].tolist(), reach_in({"name": "gan"})
        ([3.0, 4.0], {})
    """
    if not (about.get("low") and about.get("high")):
        return {}
    return {name: np.array([float(word) for word in about[name].split(",")]) for name in ("low", "high")}


def is_exported(model: object) -> bool:
    """Whether a model is named by what an exporter wrote: a .onnx file, or the folder of a SavedModel.

    A folder that has the name of a pretrained generator is meant by ./<name> alone.
    """
    if not isinstance(model, (str, Path)) or not (Path(model).suffix == ".onnx" or Path(model).is_dir()):
        return False
    from zdckeras.packaged import pretrained_names

    return model not in pretrained_names()


def look_at(model: object) -> None:
    """Raise FileNotFoundError or ValueError, at once and without Keras, if a path or a name can be no generator."""
    if is_exported(model):
        if not (Path(model) / "saved_model.pb" if Path(model).is_dir() else Path(model)).is_file():
            raise FileNotFoundError(f"{model}: expected a .onnx file or the folder of one version of a SavedModel, "
                                    "such as served/1; found no saved_model.pb.")
    elif isinstance(model, (str, Path)):
        from zdckeras.packaged import model_file

        model_file(model)


def place_of(model: str | Path) -> str:
    """A model as workers in other folders find it: a pretrained name as it is, of anything else the whole path."""
    from zdckeras.packaged import pretrained_names

    return model if isinstance(model, str) and model in pretrained_names() else str(Path(model).resolve())


def digest_of(model: str | Path) -> str:
    """SHA-256 of a model: of its file, or of all files in its folder."""
    from zdckeras.packaged import model_file

    path = Path(model)
    if not (path.exists() and is_exported(model)):
        path = model_file(model)
    found = sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            found.update(json.dumps([file.relative_to(path).as_posix(), file.stat().st_size]).encode())
            with open(file, "rb") as content:
                while chunk := content.read(1 << 20):
                    found.update(chunk)
    return found.hexdigest()
