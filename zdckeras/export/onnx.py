"""A trained generator as an ONNX file, for ONNX Runtime and every program that embeds it."""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

import zdckeras
from zdckeras import backend
from zdckeras.backend.tensorflow_onnx import all_nodes, to_onnx, valid_rows
from zdckeras.data.atomic import atomic_path, check_place
from zdckeras.data.particles import CONDITIONS, UNIT_NAMES
from zdckeras.export.precision import PRECISIONS, reduced
from zdckeras.export.process import (
    about_ids,
    check_generator,
    check_ids,
    in_tensorflow_process,
    told_in,
    told_to_parent,
)
from zdckeras.export.session import open_session
from zdckeras.generators import Sampler
from zdckeras.loading import load_model
from zdckeras.simulation.gun import GUNS, draw_gun
from zdckeras.simulation.primaries import draw_primaries

OPSET = 17
LARGEST = 1e30  # numbers beyond are no particle
STANDING_IN = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0)  # a photon, computed in place of what is no particle
CHECK = "expected_finite_numbers_and_energies_above_0"  # of the operation that fails otherwise
TRIAL = 128  # particles on which TensorFlow and ONNX Runtime have to agree


class Agreement(NamedTuple):
    """How what ONNX Runtime answers compares with TensorFlow's on the same particles and noise.

    Arguments:
        showers: compared.
        equal: share that is equal in every cell (energies: to 10^-4 of the brightest).
        sums: share with the same total.
        moved: half the summed differences over the sum.
        largest: difference in a cell.
    """

    showers: int
    equal: float
    sums: float
    moved: float
    largest: float


def export_onnx(generator: Sampler, path: str | Path, overwrite: bool = False,
                provenance: Mapping[str, str] | None = None, precision: str = "float32", ids: bool = False) -> Path:
    """Write a generator as one ONNX file, looked through and tried out before it gets its name.

    Inputs, by position, with any number of rows B: noise (B, noise_width) of standard normal numbers, and condition
    (B, 9), physical. Outputs: "photons" (B, nx, ny) int32 counts or "energy" in MeV as float32, with the detector's
    name behind for a generator of several. A row that is no particle (a number that is not finite, an energy that is
    not above 0) stops the run with an error that names what was expected; a runtime that does not check look-ups gives
    an empty response in its place. Metadata say detector, shape, units, versions, where the weights come from, and
    whether the generator takes PDG ids while the file is not told them.

    Before the file is renamed into place every operator has to be one of ONNX, the checker and ONNX Runtime have to
    take it, and what it answers has to be what TensorFlow answers: rounding in other orders moves a photon now and
    then, no more than 1 % of them. The graph is compact, see `zdckeras.backend.compact_graphs`.

    Arguments:
        generator: `Sampler` of any family.
        path: a name that ends in .onnx.
        overwrite: replace an existing file.
        provenance: further metadata, such as where the generator was trained.
        precision: "float32"; "float16", half the size; or "int8", a quarter. What that loses is measured on trial
            particles and stands in the metadata: at most 5 % and 50 % of the photons may be in other cells.
        ids: whether a third input is pdg (B,) int32, PDG ids, 0 where they are not known: they alone tell K0S from
            K0L, which have one mass; for generators that take them.

    Returns:
        The file, a `pathlib.Path`.

    Raises:
        TypeError: if `generator` is no `Sampler`.
        ValueError: for another ending or precision, ids of a generator that takes none, weights that are not finite,
            an operator outside ONNX, or answers that differ.
        FileExistsError: if the file exists and `overwrite` is False.
        ImportError: if TensorFlow, tf2onnx, onnx or onnxruntime is not installed.
        RuntimeError: if the process under TensorFlow fails, where another backend runs.

    Example:
        >>> export_onnx("model.keras", "model.onnx")
        Traceback (most recent call last):
        TypeError: Expected a generator (Sampler) to export, received str 'model.keras'.
    """
    check_generator(generator)
    path = onnx_target(path, overwrite)
    if precision not in PRECISIONS:
        raise ValueError(f"Expected a precision of {', '.join(PRECISIONS)}, received {precision!r}.")
    check_ids(generator, ids)
    generator.check_weights()
    if backend.name() == "tensorflow":
        return write_onnx(generator, path, provenance, precision, ids)
    in_tensorflow_process(__name__, {"generator": generator}, path, provenance or {}, precision, "ids" * ids)
    return path


def onnx_target(path: str | Path, overwrite: bool) -> Path:
    """The path of a file to write; ValueError, FileExistsError or ImportError if it cannot."""
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"Expected a name that ends in .onnx, received {path}.")
    if path.is_dir():
        raise FileExistsError(f"{path} is a folder, expected a file.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: choose another name, or allow to overwrite it.")
    check_place(path)
    require_onnx()
    return path


def require_onnx() -> None:
    """ImportError, in one line, unless everything that writes and tries ONNX files is installed."""
    if missing := [name for name in ("tensorflow", "tf2onnx", "onnx", "onnxruntime") if find_spec(name) is None]:
        raise ImportError(f"ONNX needs {', '.join(missing)}: pip install 'zdckeras[tensorflow,onnx]'.")


def write_onnx(generator: Sampler, path: Path, provenance: Mapping[str, str] | None = None,
               precision: str = "float32", ids: bool = False) -> Path:
    """`export_onnx` without its checks of arguments, under the TensorFlow backend."""
    several = len(generator.detectors) > 1

    def answer(noise, condition, pdg=None):
        responses = checked_responses(generator, noise, condition, pdg=pdg)
        return {("photons" if detector.unit == "photons" else "energy") + (f"_{detector.name}" if several else ""):
                ops.cast(response, "int32" if detector.unit == "photons" else "float32")
                for detector, response in zip(generator.detectors, responses, strict=True)}

    about = metadata(generator, ids) | dict(provenance or {})
    return write_checked(answer, trial(generator, generator.noise_width, ids=ids), path, about, precision)


def write_checked(answer: Callable, examples: Mapping[str, np.ndarray], path: Path, about: Mapping[str, Any],
                  precision: str = "float32") -> Path:
    """Write a function that gives a dictionary of responses, after all checks of `export_onnx`.

    Arguments:
        answer: of tensors (B, ...), one for each example; gives name -> (B, ...).
        examples: input name -> (N, ...), on which TensorFlow and ONNX Runtime are compared.
        path: of the file.
        about: metadata.
        precision: as in `export_onnx`.

    Raises:
        ValueError: for an operator outside ONNX, or answers of ONNX Runtime that are not TensorFlow's.
    """
    import onnx

    model, graph = to_onnx(answer, examples, OPSET)
    refuse_foreign_operators(model)
    model, about = reduced(model, precision), {**about, "precision": precision}
    with atomic_path(path) as temporary:
        add_metadata(model, about)
        onnx.checker.check_model(model, full_check=True)
        temporary.write_bytes(model.SerializeToString())
        found = compare_with_graph(open_session(temporary), graph, examples)
        if not found.moved <= PRECISIONS[precision]:
            raise ValueError(f"Expected ONNX Runtime to answer as TensorFlow does, received responses with "
                             f"{100 * found.moved:.2g} % of their light elsewhere.")
        add_metadata(model, {**about, "agreement_with_tensorflow": json.dumps(found._asdict())})
        temporary.write_bytes(model.SerializeToString())
    return path


def checked_responses(generator: Sampler, noise, condition, strict: bool = True, pdg=None) -> list:
    """What a generator answers, float32 (B, nx, ny) for each detector, with a guard that is part of the graph.

    Arguments:
        generator: `Sampler`.
        noise, condition: tensors.
        strict: whether a row that is no particle stops the run; if not, its response is empty.
        pdg: (B,) tensor of PDG ids, for a generator that takes them.
    """
    numbers = ops.concatenate([noise, condition], axis=-1)
    valid = ops.all(ops.abs(numbers) < LARGEST, axis=-1) & (condition[:, 0] > 0.0)  # no comparison holds for NaN
    condition = ops.where(valid[:, None], condition, np.array(STANDING_IN, "float32"))
    noise, told = ops.where(valid[:, None], noise, 0.0), [] if pdg is None else [pdg]
    made = generator.generate(noise, condition, *told)
    weight = valid_rows(valid, CHECK) if strict else ops.ones_like(condition[:, 0])
    return [ops.where(valid[:, None, None], ops.cast(response, "float32"), 0.0) * weight[:, None, None]
            for response in (made if isinstance(made, (tuple, list)) else (made,))]


def refuse_foreign_operators(model) -> None:
    """ValueError, with their names, if a model has operators that ONNX does not know."""
    import onnx

    versions = {entry.domain: entry.version for entry in model.opset_import}

    def known(node):
        return node.domain in versions and onnx.defs.has(node.op_type, versions[node.domain], node.domain)

    foreign = sorted({f"{node.domain}::{node.op_type}".removeprefix("::") for node in all_nodes(model.graph)
                      if not known(node)})
    if foreign:
        raise ValueError(f"Expected operators of ONNX {versions.get('')}, received {', '.join(foreign)}.")


def trial(generator: Sampler, width: int, size: int = TRIAL, ids: bool = False) -> dict[str, np.ndarray]:
    """Fixed noise (size, width) and particles (size, 9), float32, of the kind that a generator was made for, and their
    PDG ids (size,) int32 where they are asked for."""
    rng, name = np.random.default_rng(20), generator.detectors[0].name
    particles, pdg, *_ = draw_gun(name, size, rng) if name in GUNS else draw_primaries(size, rng)
    found = {"noise": rng.standard_normal((size, width), "float32"), "condition": particles.astype("float32")}
    return found | ({"pdg": pdg.astype("int32")} if ids else {})


def compare_with_graph(session, graph: Callable, examples: Mapping[str, np.ndarray]) -> Agreement:
    """`Agreement` of a session with the function that it was made of: all examples at once, and the first alone."""
    pairs = []
    for rows in (slice(None), slice(0, 1)):
        inputs = {name: values[rows] for name, values in examples.items()}
        true = graph(*map(ops.convert_to_tensor, inputs.values()))
        made = session.run(None, inputs)
        for entry, response in zip(session.get_outputs(), made, strict=True):
            pairs.append((np.asarray(response, "float64"), np.asarray(true[entry.name], "float64")))
    return agreement(pairs)


def agreement(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Agreement:
    """`Agreement` of pairs of responses (N, ...).

    Example:
        >>> a = np.array([[[3.0, 1.0]], [[2.0, 2.0]]])
        >>> agreement([(a, a), (a, a + [[[1.0, -1.0]], [[0.0, 0.0]]])])
        Agreement(showers=4, equal=0.75, sums=1.0, moved=0.0625, largest=1.0)
    """
    equal, sums, moved, total, largest = [], [], 0.0, 0.0, 0.0
    for made, true in pairs:
        made, true = (values.reshape(len(values), -1) for values in (made, true))
        slack = 0.0 if np.array_equal(true, np.rint(true)) else 1e-4 * np.abs(true).max()
        difference = np.abs(made - true)
        equal += (difference <= slack).all(axis=1).tolist()
        sums += (np.abs(made.sum(axis=1) - true.sum(axis=1)) <= slack * true.shape[1]).tolist()
        moved, total = moved + 0.5 * difference.sum(), total + np.abs(true).sum()
        largest = max(largest, difference.max())
    return Agreement(len(equal), float(np.mean(equal)), float(np.mean(sums)), float(moved / max(total, 1.0)),
                     float(largest))


def metadata(generator: keras.Model, ids: bool = False) -> dict[str, str]:
    """What a file, which is told PDG ids or is not, says of the generator in it, all text."""
    digest, packages = hashlib.sha256(), ("keras", "tensorflow", "tf2onnx", "onnx", "numpy")
    weights = generator.get_weights()
    for values in weights:
        digest.update(np.ascontiguousarray(values).tobytes())
    units = ", ".join(f"{name} [{unit}]" for name, unit in zip(CONDITIONS, UNIT_NAMES, strict=True))
    reach = {name: ",".join(f"{value:.9g}" for value in values)
             for name in ("low", "high") if (values := getattr(generator, name, None)) is not None}
    return reach | about_ids(generator, ids) | {
        "detector": ",".join(detector.name for detector in generator.detectors),
        "shape": ",".join("x".join(map(str, detector.shape)) for detector in generator.detectors) + " (x first)",
        "unit": ",".join(detector.unit for detector in generator.detectors),
        "condition": units, "noise": "standard normal",
        "model": type(generator).__name__, "name": generator.name, "weights": str(sum(map(np.size, weights))),
        "weights_sha256": digest.hexdigest(),
        "versions": ", ".join([f"zdckeras {zdckeras.__version__}", *(f"{name} {_version(name)}" for name in packages)]),
    }


def _version(name):
    """Of a package, which may have been installed under another name, as tensorflow-cpu is."""
    try:
        return version(name)
    except PackageNotFoundError:
        return import_module(name).__version__


def add_metadata(model, about: Mapping[str, Any]) -> None:
    """Replace the metadata of an ONNX model."""
    del model.metadata_props[:]
    for name, value in about.items():
        model.metadata_props.add(key=name, value=str(value))
    model.producer_name, model.producer_version = "zdckeras", zdckeras.__version__


if __name__ == "__main__":
    told_to_parent(lambda: write_onnx(load_model(Path(sys.argv[1]) / "generator.keras"), Path(sys.argv[2]),
                                      told_in(sys.argv[3]), sys.argv[4], bool(sys.argv[5])))
