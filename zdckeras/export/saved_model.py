"""A trained generator as a TensorFlow SavedModel, for servers and programs that know neither Keras nor this package."""

import json
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from zdckeras import backend
from zdckeras.backend.tensorflow_export import COMPILED, write_records, write_saved_model
from zdckeras.data.atomic import atomic_folder
from zdckeras.export.process import (
    about_ids,
    check_folder_place,
    check_generator,
    check_ids,
    in_tensorflow_process,
    told_to_parent,
)
from zdckeras.export.serving import predict_request, warm_up
from zdckeras.export.session import ABOUT
from zdckeras.generators import Sampler
from zdckeras.loading import load_model

PHOTON = 100.0, 0.0, 0.0, 0.0, 0.0, 0.0, 100.0, 0.0, 0.0  # of 100 GeV, along the beam
WARM_UP = "assets.extra/tf_serving_warmup_requests"


def export_saved_model(generator: Sampler, folder: str | Path, version: int = 1, overwrite: bool = False,
                       compiled: Sequence[int] = (), about: Mapping[str, str] | None = None, ids: bool = False) -> Path:
    """Write a generator as `<folder>/<version>/`, the layout that TensorFlow Serving watches.

    Signatures, each with any batch size B, take physical conditions c (B, 9) and give {"photons": (B, nx, ny)},
    photon counts as int32 ("photons_zn" and "photons_zp" for a generator of both detectors), or {"energy": ...} in MeV
    as float32:

        serving_default(condition (B, 9) float32, noise (B, noise_width) float32): n = generate(noise, c)
        sample(condition, seed (2,) int32): the same with standard normal noise drawn from the seed
        sample_rows(condition, seed (B,) int32): row b draws its noise from seed b alone, so that a particle's shower
            does not depend on the batch it came in (up to rounding: TensorFlow multiplies matrices of different
            heights in different order, which moves a photon now and then)

    A particle that is none (a number that is not finite, an energy that is not above 0), noise that is not finite, or
    as many seeds or rows of noise as there are not particles, stop the call with a message. No particles give (0, nx,
    ny). The graphs contain plain TensorFlow operations only. A signature compiled_<B>, with the arguments of
    serving_default, is added for every batch size that is asked for: XLA compiles it when it is first called, which
    takes seconds, and then it is fast, on this one size. A server calls every signature once as it loads the model, by
    the requests in assets.extra. Under another backend than TensorFlow the generator is saved as `.keras` and written
    by a second process under TensorFlow, which must be installed.

    Arguments:
        generator: `Sampler`: `ShowerGenerator`, `GanGenerator`, ...
        folder: where to; made if missing.
        version: whole number above 0; servers take the highest.
        overwrite: replace this version if it exists.
        compiled: batch sizes above 0.
        about: what it was made from, into assets.extra/provenance.json, beside that its generator takes the PDG id, if
            it does and the SavedModel is not told; `zdckeras.export.session.about_served` reads it back.
        ids: whether all signatures take pdg (B,) int32, too: PDG ids, 0 where they are not known, which alone tell K0S
            from K0L; for generators that take them.

    Returns:
        The folder of the version, a `pathlib.Path`. It appears whole or not at all.

    Raises:
        TypeError: if `generator` is no `Sampler`.
        ValueError: for a version or batch sizes that are no whole numbers above 0, ids of a generator that takes none,
            weights that are not finite, or if nothing can be written there.
        FileExistsError: if the version exists and `overwrite` is False, or a file is where a folder is to be.
        ImportError: if TensorFlow is not installed.
        RuntimeError: if the second process fails, with its last words.

    Example:
        >>> export_saved_model("model.keras", "served")
        Traceback (most recent call last):
        TypeError: Expected a generator (Sampler) to export, received str 'model.keras'.
    """
    check_generator(generator)
    for name, number in [("version", version), *(("batch size", size) for size in compiled)]:
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ValueError(f"Expected a whole number above 0 as {name}, received {number!r}.")
    target = Path(folder) / str(version)
    for place in (Path(folder), target):
        check_folder_place(place)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists: give another version, or allow to overwrite it.")
    check_ids(generator, ids)
    generator.check_weights()
    if find_spec("tensorflow") is None:
        raise ImportError("A SavedModel is written by TensorFlow, which is not installed: pip install tensorflow.")
    with atomic_folder(target) as temporary:
        if backend.name() == "tensorflow":
            write_served(generator, temporary, compiled, ids)
        else:
            in_tensorflow_process(__name__, {"generator": generator}, temporary, "ids" * ids, *map(str, compiled))
        if told := about_ids(generator, ids) | dict(about or {}):
            (Path(temporary) / ABOUT).write_text(json.dumps(told, indent=1), encoding="utf-8")
    return target


def write_served(generator: Sampler, folder: str | Path, compiled: Sequence[int] = (), ids: bool = False) -> None:
    """The SavedModel and the requests to warm up with, under the TensorFlow backend."""
    write_saved_model(generator, folder, compiled, ids)

    def particles(rows):
        told = {"pdg": np.full(rows, 22, "int32")} if ids else {}
        return {"condition": np.tile(np.array(PHOTON, "float32"), (rows, 1)), **told}

    def noise(rows):
        return {"noise": np.zeros((rows, generator.noise_width), "float32")}

    requests = [predict_request(particles(1) | noise(1))]
    requests += [predict_request(particles(1) | {"seed": np.array(seed, "int32")}, name)
                 for name, seed in {"sample": [1, 2], "sample_rows": [1]}.items()]
    requests += [predict_request(particles(size) | noise(size), f"{COMPILED}{size}") for size in compiled]
    file = Path(folder) / WARM_UP
    file.parent.mkdir()
    write_records(file, warm_up(requests))


if __name__ == "__main__":
    told_to_parent(lambda: write_served(load_model(Path(sys.argv[1]) / "generator.keras"), sys.argv[2],
                                        [int(size) for size in sys.argv[4:]], bool(sys.argv[3])))
