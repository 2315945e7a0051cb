"""The folder that ALICE O2 loads to simulate the Zero Degree Calorimeters fast: three ONNX files and their scales."""

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from keras import ops

from zdckeras import backend
from zdckeras.data.atomic import atomic_folder
from zdckeras.data.particles import COLUMN, CONDITION_COUNT
from zdckeras.export.o2_check import KEYS, PARAMETERS, config_line
from zdckeras.export.onnx import LARGEST, STANDING_IN, checked_responses, metadata, require_onnx, trial, write_checked
from zdckeras.export.process import check_folder_place, in_tensorflow_process, told_in, told_to_parent
from zdckeras.generators import Sampler
from zdckeras.hits.classifier import HitClassifier
from zdckeras.layers.photon_drawing import CellNoise
from zdckeras.loading import load_model

NOISE = 10  # standard normal numbers that O2 hands to a generator
DETECTOR_OF = {"neutron": "zn", "proton": "zp"}  # slot -> detector
SPECIAL = ';"$`\\\n'  # what ends a setting for O2, or means something to a shell within quotes
OFFSET = 1.5  # of ln(n + 1.5): whole numbers survive O2's truncation in float32 up to 975,916


def export_o2(folder: str | Path, neutron: Sampler, proton: Sampler, classifier: HitClassifier,
              overwrite: bool = False, provenance: Mapping[str, str] | None = None) -> Path:
    """Write the files that O2 loads unchanged: classifier.onnx, neutron.onnx, proton.onnx, a scale file for each.

    A generator's file takes noise (1, 10) and condition (1, 9) by position and gives ln(n + 1.5) of the photons n of
    every cell, 0 where there are none, as float32 with the second axis first: O2 reads cell (x, y) at N_x y + x and
    takes the whole part of exp(v) - 1, which is n. The classifier's gives 1 or 0, float32. Scale files say mean 0 and
    scale 1, for the charge, which O2 has in units of |e| / 3, scale 3: the models get physical values, and scale them
    inside. Generators that need more than ten numbers make them from these, see `widened`. What is no particle (a
    number that is not finite, an energy that is not above 0) gets an empty response. One line in configKeyValues.txt
    tells O2 where the files are.

    O2 asks both generators for every particle that passes the classifier, so both have to be able to answer "empty":
    trained on all responses, or with the way to the detector inside, as modular generators have it.

    Arguments:
        folder: where to; made if missing.
        neutron, proton: generators of ZN and ZP, or twice one of both.
        classifier: of particles that leave light.
        overwrite: replace the folder if it exists, and has nothing else in it.
        provenance: further metadata of all three.

    Returns:
        The folder, a `pathlib.Path`. It appears whole or not at all.

    Raises:
        TypeError: for something else than generators and a `HitClassifier`.
        ValueError: for a generator of another detector, a folder whose path O2 would read otherwise, or as
            `export_onnx`.
        FileExistsError: if the folder exists and `overwrite` is False, or if other files are in it.
        ImportError, RuntimeError: as `export_onnx`.
    """
    folder, models = Path(folder), {"neutron": neutron, "proton": proton, "classifier": classifier}
    for slot, model in models.items():
        expected = HitClassifier if slot == "classifier" else Sampler
        if not isinstance(model, expected):
            raise TypeError(f"Expected a {expected.__name__} as {slot}, received {type(model).__name__} {model!r}.")
        names = [detector.name for detector in model.detectors]
        wanted = DETECTOR_OF.values() if slot == "classifier" else [DETECTOR_OF[slot]]
        if not set(wanted) <= set(names):
            raise ValueError(f"Expected a model of {' and '.join(wanted)} as {slot}, received one of "
                             f"{' and '.join(names)}.")
    if wrong := sorted(set(str(folder.resolve())) & set(SPECIAL)):
        raise ValueError(f"{folder.resolve()}: expected a path that O2 and a shell read as it stands in {KEYS}, "
                         f"received one with {' '.join(map(repr, wrong))}.")
    check_folder_place(folder)
    if folder.exists() and not overwrite:
        raise FileExistsError(f"{folder} exists: choose another folder, or allow to overwrite it.")
    own = {KEYS, *(f"{slot}{ending}" for slot in models for ending in (".onnx", "_scales.txt"))}
    if folder.exists() and (others := sorted({path.name for path in folder.iterdir()} - own)):
        raise FileExistsError(f"{folder} is a folder with {others[0]} in it: expected one with O2's files alone, which "
                              "is replaced as a whole.")
    require_onnx()
    for model in models.values():
        model.check_weights()
    with atomic_folder(folder) as temporary:
        if backend.name() == "tensorflow":
            write_o2(models, temporary, provenance)
        else:
            in_tensorflow_process(__name__, models, temporary, provenance or {})
        (temporary / KEYS).write_text(config_line(folder.resolve()) + "\n", encoding="utf-8")
    return folder


def write_o2(models: Mapping[str, Sampler | HitClassifier], folder: Path,
             provenance: Mapping[str, str] | None = None) -> None:
    """The three models and their scale files, under the TensorFlow backend."""
    folder.mkdir(parents=True, exist_ok=True)
    for slot, model in models.items():
        examples = trial(models["neutron"], NOISE)
        answer = generator_answer(model, DETECTOR_OF[slot]) if slot in DETECTOR_OF else classifier_answer(model)
        if slot == "classifier":
            del examples["noise"]
        about = metadata(model) | {"o2_slot": slot} | dict(provenance or {})
        write_checked(answer, examples, folder / f"{slot}.onnx", about)
        (folder / f"{slot}_scales.txt").write_text(scale_text(), encoding="utf-8", newline="\n")


def generator_answer(generator: Sampler, detector: str) -> Callable:
    """The function of O2's noise (B, 10) and conditions (B, 9) that a generator's file holds."""
    index, widen = [one.name for one in generator.detectors].index(detector), widened(generator.noise_width)

    def answer(noise, condition):
        photons = ops.round(checked_responses(generator, widen(noise), condition, strict=False)[index])
        value = ops.where(photons > 0.5, ops.log(ops.maximum(photons, 1.0) + OFFSET), 0.0)
        return {"response": ops.transpose(value, (0, 2, 1))}

    return answer


def classifier_answer(classifier: HitClassifier) -> Callable:
    """The function of conditions (B, 9) that the classifier's file holds: 1 where a particle passes, else 0."""
    edge = math.log(classifier.threshold / (1.0 - classifier.threshold))

    def answer(condition):
        valid = ops.all(ops.abs(condition) < LARGEST, axis=-1) & (condition[:, COLUMN["energy"]] > 0.0)
        logits = classifier.logits(ops.where(valid[:, None], condition, np.array(STANDING_IN, "float32")))
        return {"lit": ops.cast(valid & (logits > edge), "float32")[:, None]}

    return answer


def widened(width: int, seed: int = 23) -> Callable:
    """Function of ten standard normal numbers (B, 10) that gives `width` of them, (B, width).

    The first are the ten themselves; the others come in pairs from uniform numbers u, v of `CellNoise`:
    sqrt(-2 ln u) cos(2 pi v) and sqrt(-2 ln u) sin(2 pi v). So two models with different numbers share no noise, and
    nothing in the graph draws by itself: ONNX's random operators give two sessions the same numbers.

    Arguments:
        width: numbers that the generator takes.
        seed: of the cell noise.

    Source:
        Box and Muller, Ann. Math. Statist. 29 (1958) 610.

    Example:
        >>> z = np.random.default_rng(0).standard_normal((4000, 10), "float32")
        >>> more = ops.convert_to_numpy(widened(50)(z))
        >>> more.shape, bool((more[:, :10] == z).all()), round(float(more[:, 10:].std()), 2)
        ((4000, 50), True, 1.0)
    """
    if width <= NOISE:
        return lambda noise: noise[:, :width]
    uniform = CellNoise(2 * -(-(width - NOISE) // 2), NOISE, seed)

    def widen(noise):
        radius, angle = ops.split(uniform(noise), 2, axis=-1)
        radius, angle = ops.sqrt(-2.0 * ops.log(radius)), 2.0 * math.pi * angle
        more = ops.concatenate([radius * ops.cos(angle), radius * ops.sin(angle)], axis=-1)
        return ops.concatenate([noise, more[:, : width - NOISE]], axis=-1)

    return widen


def scale_text() -> str:
    """A scale file: means 0, scales 1, for the charge 3.

    Example:
        >>> scale_text().splitlines()[9:13], scale_text().splitlines()[-1]
        (['0', '', '#scales', '1'], '3')
    """
    scales = ["3" if name == "charge" else "1" for name in COLUMN]
    return "\n".join(["#means", *["0"] * CONDITION_COUNT, "", "#scales", *scales, ""])


if __name__ == "__main__":
    told_to_parent(lambda: write_o2({slot: load_model(Path(sys.argv[1]) / f"{slot}.keras") for slot in PARAMETERS},
                                    Path(sys.argv[2]), told_in(sys.argv[3])))
