"""What ALICE O2 does with the files of a fast simulation, told again in NumPy and ONNX Runtime, to check a folder."""

import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zdckeras.data.particles import COLUMN
from zdckeras.export.session import open_session
from zdckeras.simulation.primaries import draw_primaries

SLOTS = {"classifier": None, "neutron": (44, 44), "proton": (56, 30)}  # cells along x and y
NUMBERS, CONDITIONS = 10, 9  # that O2 hands over
MOST = np.float32(np.finfo("float32").max)
FEWEST = 50  # responses, of which some have to be empty and some not
KEYS = "configKeyValues.txt"
PARAMETERS = {"classifier": ("ZDCFastSimClassifierPath", "ZDCFastSimClassifierScales"),
              "neutron": ("ZDCFastSimModelPathNeutron", "ZDCFastSimModelScalesNeutron"),
              "proton": ("ZDCFastSimModelPathProton", "ZDCFastSimModelScalesProton")}
CHANNELS = ("common", "tower 1", "tower 2", "tower 3", "tower 4")


@dataclass(frozen=True)
class O2Answer:
    """What O2 makes of particles.

    Arguments:
        passed: (N,) boolean, those that the classifier accepts; only these have responses.
        side: (N,) "A" or "C", where the particle flies to.
        photons: slot -> (N, nx, ny) whole numbers.
        hits: slot -> (N, 5) photons of the common channel and the four towers.
        towers: (N, 5) photons of ZN as the study of this detector sums them, for O2's debugging output.
        milliseconds: slot -> (n,) processor time of every call, batch 1, one thread: other programs do not disturb it.
    """

    passed: np.ndarray
    side: np.ndarray
    photons: dict
    hits: dict
    towers: np.ndarray
    milliseconds: dict


def read_scales(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Means and scales (9,) float32 of a scale file, read line by line as O2 reads it.

    Raises:
        ValueError: for what O2 refuses or cannot turn into numbers.
    """
    path = Path(path)
    lines = iter(path.read_bytes().decode("utf-8").split("\n"))  # a carriage return stays in the line
    found = {}
    for header in ("#means", "#scales"):
        for line in lines:
            if line == header:
                break
        else:
            raise ValueError(f"{path}: expected a line {header!r}, with nothing before or behind it; received none.")
        values = []
        for line in lines:
            if not line:
                break
            values.append(_number(line, path, header))
        if len(values) != CONDITIONS:
            raise ValueError(f"{path}: expected {CONDITIONS} lines below {header}, then an empty one; received "
                             f"{len(values)}.")
        found[header] = np.array(values, "float32")
    if not (found["#scales"] != 0).all():
        raise ValueError(f"{path}: expected scales other than 0, received {found['#scales'].tolist()}.")
    return found["#means"], found["#scales"]


def _number(line, path, header):
    """What C++'s stof makes of a line: the number it starts with."""
    match = re.match(r"\s*[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?)", line)
    if not match:
        raise ValueError(f"{path}: expected a number below {header}, received {line!r}.")
    value = float(match[0])
    if value and not 1.1754944e-38 <= abs(value) <= MOST:
        raise ValueError(f"{path}: expected numbers that float32 holds, received {line!r}.")
    if match[0] != line.rstrip():
        raise ValueError(f"{path}: expected nothing but a number in a line, received {line!r}, which O2 reads as "
                         f"{match[0]}.")
    return value


def open_slot(folder: Path, slot: str):
    """A session on one of the three files, its inputs and output of the number, order and type that O2 relies on.

    Raises:
        ValueError: for another number of inputs, numbers or cells, type, or detector; FileNotFoundError if there is no
            file.
    """
    path = folder / f"{slot}.onnx"
    if not path.is_file():
        raise FileNotFoundError(f"No such file: {path}")
    try:
        session = open_session(path)
    except Exception as error:
        raise ValueError(f"{path}: ONNX Runtime refuses it: {' '.join(str(error).split())[:300]}") from None
    wanted = [CONDITIONS] if slot == "classifier" else [NUMBERS, CONDITIONS]
    inputs = session.get_inputs()
    received = [int(np.prod(_fixed(entry))) for entry in inputs]
    if received != wanted:
        raise ValueError(f"{path}: expected inputs of {' and '.join(map(str, wanted))} numbers, in this order, "
                         f"received {' and '.join(map(str, received))}.")
    for entry in [*inputs, session.get_outputs()[0]]:
        if entry.type != "tensor(float)":
            raise ValueError(f"{path}: expected float32 for {entry.name}, received {entry.type}: O2 would read its "
                             f"bytes as float32.")
    shape, cells = session.get_outputs()[0].shape[1:], SLOTS[slot]
    if cells and all(isinstance(size, int) for size in shape):
        if int(np.prod(shape)) != cells[0] * cells[1] or tuple(shape) == cells != cells[::-1]:
            raise ValueError(f"{path}: expected responses of {cells[1]} x {cells[0]} cells, those along x last, "
                             f"received {' x '.join(map(str, shape))}.")
    told = session.get_modelmeta().custom_metadata_map.get("o2_slot", slot)
    if told != slot:
        raise ValueError(f"{path}: expected the {slot} model, received the {told} model.")
    return session


def _fixed(entry):
    """The shape of an input with every dynamic dimension 1, as O2 fixes it."""
    return [size if isinstance(size, int) and size > 0 else 1 for size in entry.shape]


def physical(conditions: np.ndarray) -> np.ndarray:
    """The nine numbers of particles as O2 has them, float32: as ours, but the charge in units of |e| / 3."""
    values = np.array(conditions, "float64")
    values[:, COLUMN["charge"]] *= 3.0
    return values.astype("float32")


def run_slot(session, *inputs) -> np.ndarray:
    """The first output of a session for one particle, as a flat array of the memory that O2 reads."""
    feed = {entry.name: np.ascontiguousarray(values, "float32").reshape(_fixed(entry))
            for entry, values in zip(session.get_inputs(), inputs, strict=True)}
    return session.run(None, feed)[0].reshape(-1)


def photons_of(pixels: np.ndarray, nx: int, ny: int) -> np.ndarray:
    """Whole photons (nx, ny) of the memory of a response: cell (x, y) is at nx y + x, n the whole part of e^v - 1.

    Raises:
        ValueError: for another number of pixels.
    """
    if len(pixels) != nx * ny:
        raise ValueError(f"Expected {nx * ny} pixels, received {len(pixels)}.")
    with np.errstate(over="ignore", invalid="ignore"):
        counts = np.expm1(pixels.astype("float32"))
    if not (np.isfinite(counts) & (np.abs(counts) < 2**31)).all():
        raise ValueError("Expected responses that are numbers of photons, received some that are not finite or beyond "
                         "two billions.")
    return np.maximum(np.trunc(counts).astype("int64"), 0).reshape(ny, nx).T


def hits_of(photons: np.ndarray) -> np.ndarray:
    """Photons of the common channel (even cells) and of four towers (odd cells), (5,), of a response (nx, ny).

    ZN has two by two towers, numbered along x first; ZP has four strips along x.
    """
    nx, ny = photons.shape
    hits = np.zeros(5, "int64")
    for x in range(nx):
        for y in np.flatnonzero(photons[x]):
            tower = (1 + (x >= nx // 2) + 2 * (y >= ny // 2)) if nx == ny else 1 + 4 * x // nx
            hits[0 if (x + y) % 2 == 0 else tower] += photons[x, y]
    return hits


def study_channels(photons: np.ndarray) -> np.ndarray:
    """Five sums of ZN for O2's debugging output: even cells in quadrants, (low x, low y) first, then all odd cells."""
    nx, ny = photons.shape
    channels = np.zeros(5, "int64")
    for x, y in zip(*np.nonzero(photons), strict=True):
        channels[4 if (x + y) % 2 else 2 * (x >= nx // 2) + (y >= ny // 2)] += photons[x, y]
    return channels


def play_o2(folder: str | Path, conditions: np.ndarray, noise: dict) -> O2Answer:
    """O2's way from particles to hits, with the files of a folder.

    Arguments:
        folder: as from `zdckeras.export.o2.export_o2`.
        conditions: (N, 9) physical.
        noise: slot -> (N, 10) standard normal numbers.

    Raises:
        FileNotFoundError, ValueError: for files that O2 cannot use, in one line.
    """
    folder = Path(folder)
    sessions = {slot: open_slot(folder, slot) for slot in SLOTS}
    scales = {slot: read_scales(folder / f"{slot}_scales.txt") for slot in SLOTS}
    values, size = physical(conditions), len(conditions)
    passed, milliseconds = np.zeros(size, bool), {slot: [] for slot in SLOTS}
    photons = {slot: np.zeros((size, *shape), "int64") for slot, shape in SLOTS.items() if shape}
    hits, towers = {slot: np.zeros((size, 5), "int64") for slot in photons}, np.zeros((size, 5), "int64")

    def answer(slot, row):
        mean, scale = scales[slot]
        scaled = (values[row] - mean) / scale
        begin = time.process_time()
        made = run_slot(sessions[slot], *([noise[slot][row], scaled] if slot in photons else [scaled]))
        milliseconds[slot].append(1e3 * (time.process_time() - begin))
        return made

    for row in range(size):
        passed[row] = np.rint(answer("classifier", row)[0]) != 0
        for slot in photons if passed[row] else ():
            photons[slot][row] = photons_of(answer(slot, row), *SLOTS[slot])
            hits[slot][row] = hits_of(photons[slot][row])
        towers[row] = study_channels(photons["neutron"][row])
    side = np.where(values[:, COLUMN["pz"]] > 0, "A", "C")
    return O2Answer(passed, side, photons, hits, towers, {slot: np.array(t) for slot, t in milliseconds.items()})


def check_o2(folder: str | Path, size: int = 1000, seed: int = 0) -> tuple[O2Answer, np.ndarray, dict]:
    """Hand particles to the files of a folder as O2 does.

    Arguments:
        folder: as from `zdckeras.export.o2.export_o2`.
        size: number of particles of the reference simulation.
        seed: of particles and noise.

    Returns:
        `O2Answer`, conditions (N, 9), and noise by slot.

    Raises:
        FileNotFoundError, ValueError: as `play_o2`, and if no particle passes, or every one of at least 50 that do
            lights both calorimeters: one classifier gates both, so a generator has to answer "empty", too.
    """
    rng = np.random.default_rng([seed, 83])
    conditions = draw_primaries(size, rng)[0]
    noise = {slot: rng.standard_normal((size, NUMBERS), "float32") for slot, shape in SLOTS.items() if shape}
    found = play_o2(folder, conditions, noise)
    if not found.passed.any():
        more = "" if size >= FEWEST else f"; try at least {FEWEST} particles"
        raise ValueError(f"{folder}: expected a classifier that lets some of {size} particles pass, received one that "
                         f"lets none{more}.")
    for slot, photons in found.photons.items():
        empty = photons[found.passed].sum(axis=(1, 2)) == 0
        if len(empty) >= FEWEST and (empty.all() or not empty.any()):
            raise ValueError(f"{folder}: expected some responses of {slot} to be empty and some not, received "
                             f"{'none but' if empty.all() else 'no'} empty ones in {found.passed.sum()}.")
    return found, conditions, noise


def config_line(folder: Path) -> str:
    """The argument that tells O2 to use the files of a folder."""
    settings = ["ZDCSimParam.useZDCFastSim=true"]
    for slot, (model, scales) in PARAMETERS.items():
        settings += [f"ZDCSimParam.{model}={folder / slot}.onnx", f"ZDCSimParam.{scales}={folder / slot}_scales.txt"]
    return f'--configKeyValues "{";".join(settings)}"'


def beside_models(found: O2Answer, conditions: np.ndarray, noise: dict, models: list) -> dict[str, np.ndarray]:
    """How many photons of each response are in other cells than the generators themselves put them.

    Arguments:
        found, conditions, noise: from `check_o2`.
        models: generators (`Sampler`) that the files were made of.

    Returns:
        slot -> (n,) for the particles that passed.
    """
    from zdckeras.export.o2 import DETECTOR_OF, widened

    rows, moved = np.flatnonzero(found.passed), {}
    for slot, photons in found.photons.items():
        model, index = next((model, k) for model in models for k, detector in enumerate(model.detectors)
                            if detector.name == DETECTOR_OF[slot])
        widen, own = widened(model.noise_width), []
        for some in np.array_split(rows, -(-len(rows) // 256)):
            made = model.predict_on_batch({"noise": np.asarray(widen(noise[slot][some])),
                                           "conditions": conditions[some].astype("float32")})
            own.append(np.asarray(made[index] if isinstance(made, (tuple, list)) else made))
        moved[slot] = np.abs(np.concatenate(own) - photons[rows]).sum(axis=(1, 2)) / 2
    return moved


def report(found: O2Answer, moved: dict[str, np.ndarray] | None = None, folder: str | Path | None = None) -> str:
    """What was found, as text: particles, photons by channel and side, times, and what `beside_models` gives; and
    whether the line for O2 in the folder, where it is given, is of other files, as in one that was moved."""
    lines = [f"{found.passed.sum()} of {len(found.passed)} particles pass the classifier"]
    for slot, hits in found.hits.items():
        lit = hits.sum(axis=1) > 0
        for side in "AC":
            sums = hits[found.side == side].sum(axis=0)
            parts = ", ".join(f"{name} {n}" for name, n in zip(CHANNELS, sums.tolist(), strict=True))
            lines.append(f"{slot}, side {side}: {(lit & (found.side == side)).sum()} responses, photons: {parts}")
    for slot, times in found.milliseconds.items():
        lines.append(f"{slot}: {np.median(times):.3f} ms of processor time a call, 99 % below "
                     f"{np.percentile(times, 99):.3f} ms ({len(times)} calls)")
    for slot, photons in (moved or {}).items():
        lines.append(f"{slot}: {(photons == 0).sum()} of {len(photons)} responses are the generator's own in every "
                     f"cell, {photons.sum():g} of {found.hits[slot].sum()} photons are elsewhere")
    if folder is not None and not _told_to_o2(Path(folder)):
        lines.append(f"warning: {Path(folder) / KEYS} does not tell O2 to load the files of this folder, as after "
                     f"a copy or a move; the line would be {config_line(Path(folder).resolve())}")
    return "\n".join(lines)


def _told_to_o2(folder):
    """Whether the line for O2 in a folder names the files there."""
    try:
        return (folder / KEYS).read_text(encoding="utf-8").strip() == config_line(folder.resolve())
    except (OSError, ValueError):
        return False
