"""Several generators on one test set, beside the floor."""

import os
import platform
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from tqdm import tqdm

from zdckeras.arguments import own_names
from zdckeras.comparison.beside import check_report, join, read_report
from zdckeras.comparison.closer import CloserLook
from zdckeras.comparison.contenders import Model, named, opened
from zdckeras.comparison.costs import GEANT4, costs_of, simulation_costs
from zdckeras.comparison.leaderboard import BESIDE, COSTS_ALONE, Comparison
from zdckeras.data.detectors import DETECTORS, channel_masks, channel_sums, get_detector
from zdckeras.data.files import open_showers
from zdckeras.data.repeats import with_floor
from zdckeras.data.showers import Showers
from zdckeras.metrics.report import row_diversity, score
from zdckeras.provenance import overlap, versions
from zdckeras.simulation.parts import own_parts
from zdckeras.simulation.reference import FROZEN_SOURCE, GUN_SOURCE, half_libraries, load, resimulate

FLOOR_SEEDS, FLOOR_DRAWS = (1, 2, 3, 4), 3
LIBRARY_SEEDS = (91, 92)
METRICS = 2  # version of what is measured: rows of other versions do not come into one table


def compare(models: Model | Iterable[Model] | Mapping[str, Model], showers: Showers | str | Path | None = None,
            size: int = 20_000, runs: int = 5, seed: int = 0, detector: str | None = None, pixels: int = 0,
            costs: bool = False, sort: str = "AUC", force: bool = False, channels: str = "papers",
            part: str = "all", beside: str | Path | None = None) -> Comparison:
    """One table of generators on one test set, below the Monte-Carlo floor.

    The floor of embedded data are three further simulations of the same particles, and the row "other library" sets
    two against each other that have one half each of the Geant4 showers. Of other data with repeated conditions the
    floor is one half of each one's rows against the other, and the first half is what is judged; data without repeats
    are judged whole, without a floor. The table's `provenance` says how many rows there were.

    Where all showers pass the papers' photon cut, generators answer until they pass it as well. Of showers of several
    detectors that no generator has all of, those that pass the cut of the one to judge by are taken. Generators that
    take the PDG id, which tells K0S from K0L, are given it. A model that cannot be opened or fails is left out and
    named in `failures`, as long as another one is left.

    Arguments:
        models: generators, paths of `.keras` files, of .onnx files or of SavedModels' folders, or names of pretrained
            generators; one, several, or name -> one of these.
        showers: `Showers`, what `open_showers` reads, or the name of an embedded test set ("zn", "zn+zp", ...); by
            default the embedded one of the generators' detectors.
        size: showers of an embedded test set.
        runs: generations of every model.
        seed: of generations, pairs and classifier.
        detector: name of the one to judge by, where showers or generators have several.
        pixels: pairs for `pixel_auc`; 0 leaves it out.
        costs: also measure time and memory of models that are files, and of the simulation, in processes of their own.
        sort: column to sort by.
        force: also judge models by showers they were trained on.
        channels: convention of the five channels, "papers", "proton-paper" or "o2".
        part: "test" for the test part alone of own showers, those that recipes with --data do not train on; "all".
        beside: folder of a report on the same test set, whose models come into the table as they were judged there.

    Returns:
        `zdckeras.comparison.leaderboard.Comparison`; `print(table.text())`, `table.write(folder)`.

    Raises:
        ValueError, FileNotFoundError: for models or showers that cannot be read, are of different detectors, share a
            name, or have that of another row (real, floor, other library, Geant4); for showers that a model was
            trained on, and a report on another test set.
    """
    channel_masks((2, 2), channels)  # an unknown convention is told at once
    report = read_report(beside) if beside is not None else None
    if part not in ("all", "test"):
        raise ValueError(f"part: expected all or test, received {part!r}.")
    table, models = Comparison(sort), own_names(named(models), *BESIDE, COSTS_ALONE)
    contenders, table.failures = opened(models)
    trained_on = {"+".join(contender.detectors) for contender in contenders.values()}
    if showers is None and len(trained_on) > 1:
        raise ValueError(f"Expected generators of the same detectors, or showers to judge them by; received generators "
                         f"of {', '.join(sorted(trained_on))}.")
    if detector is None and len(trained_on) == 1 and "+" not in (only := next(iter(trained_on))):
        detector = only
    chosen = next(iter(trained_on)) if showers is None else showers
    showers, own = _showers(chosen, size, detector)
    told = showers.metadata.get("source", "given") if chosen is showers else chosen
    if own and part == "test":
        *_, showers = own_parts(showers, min(trained_on) if len(trained_on) == 1 else showers.detector(detector).name)
    name = showers.detector(detector).name
    if not any(set(showers.responses) <= set(contender.detectors) for contender in contenders.values()):
        cut, showers = showers.photon_cut(), showers.only(name)
        showers = showers.at_least() if name in cut else showers
    for label, contender in contenders.items():
        if name not in contender.detectors:
            raise ValueError(f"{label}: expected a generator of {name}, received one of "
                             f"{', '.join(contender.detectors)}.")
        table.costs[label] = _known(contender)
        table.costs[label] |= {"overlap": _seen(label, contender, showers, name, force)}
    real, floor = _with_floor(showers, seed)
    floor = [second.response_of(name) for second in floor]
    sums = channel_sums(real.response_of(name), channels).mean(axis=0)
    table.provenance = {"models": list(contenders), "data": told, "part": part, "detector": name,
                        "showers": len(showers), "judged": len(real), "runs": runs, "seed": seed, "channels": channels,
                        "pixels": pixels, "metrics": METRICS, "mean sums": [round(float(one), 4) for one in sums],
                        "floor": f"{len(floor)} further responses" if floor else "none, no particle occurs twice",
                        "versions": versions()}
    if report:
        check_report(table.provenance, beside, report[2])
    diversity = row_diversity(real, floor, name)
    look = partial(CloserLook, real, name, floor[0] if floor else None, seed, pixels, channels)
    table.looks["real"] = look()

    def judge(label, generations):
        table.looks[label] = closer = look()
        found = score(real, closer.watch(generations), diversity, name, channels, seed=seed)
        table.add(label, found | closer.result(found["auc"]))
        closer.draws.clear()  # the only large part

    if floor:
        judge("floor", [*floor[1:], floor[0]])  # the first two are independent of what diversity is compared with
    embedded = showers.metadata.get("source") in (FROZEN_SOURCE, GUN_SOURCE)
    if embedded and [*showers.responses] == [name] and len(floor) > 1:
        table.add("other library", _other_library(real, name, diversity, seed, pixels, channels))
    cut = showers.photon_cut()
    for label, contender in contenders.items():
        numbers = tqdm(range(runs), desc=f"judging {label}", unit="generation")
        own_cut = cut if set(cut) <= set(contender.detectors) else {}
        sample = partial(_response, contender.generator, name, contender.generator.beside(real.pdg), own_cut)
        try:
            judge(label, (sample(real.particles, seed=[seed, run]) for run in numbers))
        except Exception as error:  # whatever a model's framework raises
            if len(contenders) == 1:
                raise
            table.failures[label] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            del table.looks[label], table.costs[label]
    if not any(label in table.scores for label in contenders):
        raise ValueError(f"None of the models could be judged: {table.failures}.")
    if costs:
        _measure(table, {label: contender for label, contender in contenders.items() if label in table.scores}, real,
                 name)
    table.made = {label: contender.provenance for label, contender in contenders.items()}
    if report:
        join(table, beside, report)
    return table


def _known(contender):
    """What a file says about a model's cost."""
    found = {"kind": contender.kind, "MB": contender.megabytes}
    if weights := contender.generator.count_params():
        found["weights"] = weights
    if seconds := contender.provenance.get("recipe_s"):
        found["recipe_s"] = float(seconds)
    return found


def _seen(label, contender, showers, name, force):
    """How many of the showers are known to be training rows of a model, in words; ValueError if any are."""
    found = overlap(contender.sketch, showers, name) if contender.sketch else None
    if found and not force:
        raise ValueError(f"{label}: expected showers that it was not trained on, received {len(showers)} of which at "
                         f"least {found} are training rows of it; --part test (part='test') takes those that recipes "
                         f"leave for the test, --force (force=True) judges it all the same.")
    return "does not say" if found is None else f"{found} of {len(showers)}"


def _measure(table, contenders, real, name):
    """Times and memory of the models that are files, and of the simulation, into the table."""
    table.host = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    information = Path("/proc/cpuinfo")
    if information.exists():
        table.host = next((line.partition(":")[2].strip() for line in information.read_text().splitlines()
                           if line.startswith("model name")), table.host)
    some = real[:1024]
    jobs = {label: partial(costs_of, contender.file, some) for label, contender in contenders.items() if contender.file}
    if real.metadata.get("source") in (FROZEN_SOURCE, GUN_SOURCE):
        jobs = {"floor": partial(simulation_costs, name, some)} | jobs
    for label, job in tqdm(jobs.items(), desc="measuring", unit="model"):
        try:
            table.costs.setdefault(label, {}).update(job())
        except RuntimeError as error:
            table.costs[label]["note"] = f"not measured, {error}"
    if "floor" in jobs:
        table.costs["floor"]["kind"] = "reference simulation"
    if name == "zn":
        table.costs[COSTS_ALONE] = GEANT4


def _other_library(real, name, diversity, seed, pixels, channels):
    """Score of a simulation with one half of the Geant4 showers, judged by one with the other half."""
    first, second = (resimulate(real, k, {name: half}) for k, half in
                     zip(LIBRARY_SEEDS, half_libraries(name), strict=True))
    closer = CloserLook(first, name, None, seed, pixels, channels)
    found = score(first, closer.watch([second.response]), diversity, name, channels, seed=seed)
    return found | closer.result(found["auc"])


def _showers(showers, size, detector):
    """`Showers` from what names them, and whether they are own ones; an embedded set without the detector is not even
    begun."""
    if isinstance(showers, Showers):
        return showers, True
    names = str(showers).split("+")
    if isinstance(showers, (str, Path)) and set(names) <= set(DETECTORS):
        if detector is not None and get_detector(detector).name not in names:
            raise ValueError(f"Expected showers of {detector} to judge by, received those of {showers}.")
        return load(str(showers), "test", size, progress=True), False
    return open_showers(showers), True


def _with_floor(showers, seed):
    """(showers to judge by, list of further responses to the same particles)."""
    source, uncut = showers.metadata.get("source"), showers.metadata.get("photons") == "any"
    if source == GUN_SOURCE or source == FROZEN_SOURCE and not uncut:  # `resimulate` cuts
        used = showers.metadata.get("seed")  # of showers that are a simulation of their particles anew
        return showers, [resimulate(showers, k) for k in [k for k in FLOOR_SEEDS if k != used][:FLOOR_DRAWS]]
    return with_floor(showers, seed)


def _response(generator, detector, beside, cut, conditions, seed):
    """Responses of one detector, whether the generator has several or not."""
    made = generator.sample(conditions, seed, beside=beside, at_least=cut)
    return made[detector] if isinstance(made, dict) else made
