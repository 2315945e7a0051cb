"""Several generators on one test set, beside the floor."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from zdckeras.data.detectors import DETECTORS, get_detector
from zdckeras.data.files import open_showers
from zdckeras.data.repeats import repeated_pairs
from zdckeras.data.showers import PAPER_PHOTONS, Showers
from zdckeras.generators import Sampler
from zdckeras.metrics.provenance import versions
from zdckeras.metrics.report import Table, judge
from zdckeras.packaged import open_generator
from zdckeras.simulation.reference import FROZEN_SOURCE, GUN_SOURCE, load, resimulate

FLOOR_SEEDS = (1, 2)

Model = Sampler | str | Path


def compare(models: Model | Iterable[Model] | Mapping[str, Model], showers: Showers | str | Path | None = None,
            size: int = 20_000, runs: int = 5, seed: int = 0, detector: str | None = None) -> Table:
    """One table of generators on one test set, below the Monte-Carlo floor.

    The floor of embedded data is the mean of two further simulations of the same particles. Of other data with
    repeated conditions the floor is one half of each one's rows against the other, and the first half is what is
    judged; data without repeats are judged whole, without a floor. The table's `provenance` says how many rows there
    were.

    Where all showers pass the papers' photon cut, generators answer until they pass it as well. Generators that take
    the PDG id, which tells K0S from K0L, are given it.

    Arguments:
        models: generators, paths of `.keras` files, or names of pretrained ones; one, several, or name -> one of these.
        showers: `Showers`, what `open_showers` reads, or the name of an embedded test set ("zn", "zn+zp", ...); by
            default the embedded one of the generators' detectors.
        size: showers of an embedded test set.
        runs: generations of every model.
        seed: of generations, pairs and classifier.
        detector: name of the one to judge by, where showers or generators have several.

    Returns:
        `zdckeras.metrics.report.Table`; `print(table.text())`, `table.write(folder)`.

    Raises:
        ValueError, FileNotFoundError: for a model or showers that cannot be read, are of different detectors, or share
            a name.
    """
    generators = _named(models)
    trained_on = {"+".join(one.name for one in generator.detectors) for generator in generators.values()}
    if showers is None and len(trained_on) > 1:
        raise ValueError(f"Expected generators of the same detectors, or showers to judge them by; received generators "
                         f"of {', '.join(sorted(trained_on))}.")
    if detector is None and len(trained_on) == 1 and "+" not in (only := next(iter(trained_on))):
        detector = only
    chosen = next(iter(trained_on)) if showers is None else showers
    showers = _showers(chosen, size, detector)
    told = showers.metadata.get("source", "given") if chosen is showers else chosen
    name = showers.detector(detector).name
    for label, generator in generators.items():
        if name not in (made := [one.name for one in generator.detectors]):
            raise ValueError(f"{label}: expected a generator of {name}, received one of {', '.join(made)}.")
    real, floor = _with_floor(showers, seed)
    cut = _photon_cut(showers)
    samplers = {label: partial(_response, generator, name, generator.beside(real.pdg), cut)
                for label, generator in generators.items()}
    table = judge(real, [second.response_of(name) for second in floor], samplers, runs, seed, name)
    table.provenance = {"models": list(generators), "data": told, "detector": name, "showers": len(showers),
                        "judged": len(real), "runs": runs, "seed": seed,
                        "floor": f"{len(floor)} further responses" if floor else "none, no particle occurs twice",
                        "versions": versions()}
    return table


def _named(models):
    """Name -> generator; a path or a pretrained name is its own name."""
    if not isinstance(models, Mapping):
        models = [models] if isinstance(models, (str, Path, Sampler)) else list(models)
        names = [model.name if isinstance(model, Sampler) else str(model) for model in models]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"Expected at least one model, each with a name of its own, received {names}; give a "
                             f"dictionary name -> model.")
        models = dict(zip(names, models, strict=True))
    return {name: open_generator(model) for name, model in models.items()}


def _showers(showers, size, detector):
    """`Showers` from what names them; an embedded set without the detector is not even begun."""
    if isinstance(showers, Showers):
        return showers
    names = str(showers).split("+")
    if isinstance(showers, (str, Path)) and set(names) <= set(DETECTORS):
        if detector is not None and get_detector(detector).name not in names:
            raise ValueError(f"Expected showers of {detector} to judge by, received those of {showers}.")
        return load(str(showers), "test", size, progress=True)
    return open_showers(showers)


def _with_floor(showers, seed):
    """(showers to judge by, list of further responses to the same particles)."""
    source, uncut = showers.metadata.get("source"), showers.metadata.get("photons") == "any"
    if source == GUN_SOURCE or source == FROZEN_SOURCE and not uncut:  # `resimulate` cuts
        return showers, [resimulate(showers, k) for k in FLOOR_SEEDS]
    try:
        real, second = repeated_pairs(showers, seed)
    except ValueError:  # no condition occurs twice
        return showers, []
    return real, [second]


def _response(generator, detector, beside, cut, conditions, seed):
    """Responses of one detector, whether the generator has several or not."""
    made = generator.sample(conditions, seed, beside=beside, at_least=cut)
    return made[detector] if isinstance(made, dict) else made


def _photon_cut(showers):
    """Name -> photons of the papers' cut, which every shower reaches in one of its detectors; nothing otherwise."""
    cut = {name: PAPER_PHOTONS[name] for name in showers.responses if name in PAPER_PHOTONS}
    reached = [showers.photon_sums(name) >= photons for name, photons in cut.items()]
    return cut if cut and np.any(reached, axis=0).all() else {}
