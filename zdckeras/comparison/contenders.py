"""What is compared: generators of any family, pretrained ones and exported files, each opened by itself."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from zdckeras.campaign.answers import Answer, hides_ids, is_exported, open_answer, reach_in
from zdckeras.comparison.names import short
from zdckeras.data.detectors import get_detector
from zdckeras.data.particles import warn_untold
from zdckeras.generators import Sampler
from zdckeras.packaged import card_of, model_file, open_generator
from zdckeras.provenance import SKETCH, provenance_of, sketch_in, training_sketch_of

Model = Sampler | str | Path


class Answered(Sampler):
    """An exported file, an ONNX model or a SavedModel, as a generator to be sampled like any other.

    Arguments:
        answer: from `zdckeras.campaign.answers.open_answer`.
        file: its name, for messages.
        reach: "low" and "high", the range of its training, where its file says it.
    """

    def __init__(self, answer: Answer, file: str = "", **reach: np.ndarray) -> None:
        super().__init__(name="".join(c if c.isalnum() else "_" for c in answer.name), **reach)
        self.answer, self.file, self.noise_width = answer, file or answer.name, answer.width
        self.detectors, self.TAKES_IDS = [get_detector(name) for name in answer.detectors], answer.takes_ids
        self.built = True

    def beside(self, pdg):
        """Ids (N,), if the file takes them; if its generator alone does, warns of those that only they tell apart."""
        if hides_ids(self.answer.about):
            warn_untold(self.file, pdg)
        return super().beside(pdg)

    def predict_on_batch(self, x):
        ids = x.get("pdg", np.zeros(len(x["noise"]), "float32"))
        return tuple(self.answer.call(x["noise"], x["conditions"], ids))


@dataclass(frozen=True)
class Contender:
    """A generator and what is known about it.

    Arguments:
        generator: `Sampler`.
        kind: its class, or what it was exported to.
        file: where it was read from; None for a generator in memory.
        provenance: what its file says about its making.
        sketch: of its training showers, see `zdckeras.provenance`; None if it does not say.
    """

    generator: Sampler
    kind: str
    file: Path | None = None
    provenance: dict = field(default_factory=dict)
    sketch: dict | None = None

    @property
    def detectors(self) -> list[str]:
        """Names of its detectors."""
        return [detector.name for detector in self.generator.detectors]

    @property
    def megabytes(self) -> float:
        """Size of its file or of all files in its folder [MB]; NaN for a generator in memory."""
        if self.file is None:
            return float("nan")
        files = self.file.rglob("*") if self.file.is_dir() else [self.file]
        return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def named(models: Model | Iterable[Model] | Mapping[str, Model]) -> dict[str, Model]:
    """Name -> model; a path or a pretrained name is its own name, of several paths without the folder they share.

    Raises:
        ValueError: for no model, or two of one name.

    Example:
        >>> list(named(["zn", "runs/gan/generator.keras", "runs/vae/generator.keras"]))
        ['zn', 'gan/generator.keras', 'vae/generator.keras']
    """
    if isinstance(models, Mapping) and models:
        return dict(models)
    models = [models] if isinstance(models, (str, Path, Sampler)) else list(models)
    names = [model.name if isinstance(model, Sampler) else str(model) for model in models]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"Expected at least one model, each with a name of its own, received {names}; give a "
                         f"dictionary name -> model.")
    return dict(zip(short(names), models, strict=True))


def opened(models: Mapping[str, Model]) -> tuple[dict[str, Contender], dict[str, str]]:
    """Contenders by name, and why each of the others cannot be opened, in one line.

    Raises:
        ValueError, FileNotFoundError, ImportError: the first error, if none can be opened.
    """
    found, failures, first = {}, {}, None
    for name, model in models.items():
        try:
            found[name] = open_contender(model)
        except (ValueError, TypeError, FileNotFoundError, ImportError) as error:
            failures[name], first = " ".join(str(error).split()), first or error
    if not found:
        raise first
    return found, failures


def open_contender(model: Model) -> Contender:
    """A `Contender` of a generator, a .keras file, the name of a pretrained one, a .onnx file or a SavedModel's folder.

    Raises:
        FileNotFoundError, ValueError, ImportError: as `open_generator` and `open_answer`.
    """
    if is_exported(model):
        path = Path(model)
        answer = open_answer(path)
        kind = "SavedModel" if path.is_dir() else "ONNX"
        about = dict(answer.about)
        sketch = sketch_in(about.pop(SKETCH)) if SKETCH in about else None
        return Contender(Answered(answer, str(path), **reach_in(about)), kind, path, _read(about), sketch)
    generator = open_generator(model)
    if isinstance(model, Sampler):
        return Contender(generator, type(generator).__name__)
    file = model_file(model)
    made = provenance_of(file)
    if card := card_of(file):
        made["card"] = card
    return Contender(generator, type(generator).__name__, file, made, training_sketch_of(file))


def _read(about):
    """What an exported file says about its making, parts that are JSON as plain values; a card may only begin so."""
    def plain(value):
        try:
            return json.loads(value) if value.startswith(("{", "[")) else value
        except (ValueError, RecursionError):
            return value

    return {key: plain(value) for key, value in about.items()}
