"""Size, time and memory of generators and of the simulation they stand for, each alone in a process on one thread."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from zdckeras.data.showers import Showers

if TYPE_CHECKING:
    from zdckeras.generators import Sampler

BATCHES = (1, 256)
GEANT4 = {"kind": "Geant4 11.4", "ms_1": 9400.0, "note": "one neutron of 1 TeV in ZN, processor time; given, not "
          "measured here, which tools/geant4_fast.py does"}
READINGS = {1: 50, 256: 7}  # calls of which the median is taken, after two that do not count
LONGEST = 20.0  # seconds after which three must do
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1",
              "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def costs_of(model: str | Path, showers: Showers) -> dict[str, float | str]:
    """What a saved model costs: it is opened and called in a fresh process, pinned to one thread of one core.

    Arguments:
        model: a .keras file, the name of a pretrained generator, a .onnx file or a SavedModel's folder.
        showers: `Showers` whose particles are asked for.

    Returns:
        "wall_1" and "wall_256", the median milliseconds a shower in calls of 1 and of 256, noise and particles in
        memory, the device waited for; "cpu_1", "cpu_256", the same in processor time, which other programs on the
        machine hardly change; "ms_1", "ms_256": processor time, or with an accelerator time on the clock; "first_s",
        seconds of the first call; "MiB", the process's largest memory; "device".

    Raises:
        RuntimeError: with the last line of what the process said, if it failed.
    """
    return _in_a_process("model", str(model), showers)


def simulation_costs(detector: str, showers: Showers) -> dict[str, float | str]:
    """As `costs_of`, of the reference simulation of a detector."""
    return _in_a_process("simulation", detector, showers)


def timed(call: Callable[[np.ndarray], object], particles: np.ndarray, accelerator: bool = False) -> dict[str, float]:
    """Median times of a function of rows of particles that waits for its result.

    Arguments:
        call: takes the numbers of the rows of a batch.
        particles: (N, 9); batches go through them in turns.
        accelerator: whether another device than the processor does the work.

    Returns:
        As `costs_of`, the times.
    """
    found = {}
    for batch in BATCHES:
        times = []
        for reading in range(READINGS[batch] + 2):
            rows = np.arange(reading * batch, (reading + 1) * batch) % len(particles)
            wall, cpu = time.perf_counter(), time.process_time()
            call(rows)
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
            if reading >= 4 and sum(wall for wall, _ in times) > LONGEST:
                break
        found.setdefault("first_s", times[0][0])
        wall, cpu = 1e3 * np.median(times[2:], axis=0) / batch
        found |= {f"wall_{batch}": float(wall), f"cpu_{batch}": float(cpu)}
        found[f"ms_{batch}"] = found[f"wall_{batch}" if accelerator else f"cpu_{batch}"]
    return found


def responder(generator: "Sampler", particles: np.ndarray, pdg: np.ndarray) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A function of rows that gives a generator's responses in this process's memory, so that the device is waited for.

    Arguments:
        generator: `Sampler`.
        particles: (N, 9) float32.
        pdg: (N,) PDG ids, for generators that take them.
    """
    noise = np.random.default_rng(0).standard_normal((len(particles), generator.noise_width), "float32")
    inputs = {"noise": noise, "conditions": particles, **generator.beside(pdg)}

    def call(rows):
        made = generator.predict_on_batch({name: values[rows] for name, values in inputs.items()})
        return [np.array(part) for part in (made if isinstance(made, (tuple, list)) else (made,))]

    return call


def peak_memory() -> float:
    """Largest memory this process has had [MiB]; that of its parent, which `getrusage` would inherit, is not in it."""
    status = Path("/proc/self/status")
    if status.exists():
        kilobytes = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(kilobytes) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def _in_a_process(what, name, showers):
    """Run this module on its own and read the one line it prints."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    with TemporaryDirectory() as folder:
        particles = Path(folder) / "particles.npz"
        np.savez(particles, particles=showers.particles, pdg=showers.pdg)
        done = subprocess.run([sys.executable, "-m", "zdckeras.comparison.costs", what, name, str(particles)],
                              env={**os.environ, **ONE_THREAD, "XLA_FLAGS": flags}, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no answer"]
        errors = [line for line in said if re.match(r"[\w.]*(Error|Exception)\b", line)]
        raise RuntimeError(f"{name}: {(errors or said)[-1][:200]}")
    return json.loads(lines[-1])


def _model(name, particles, pdg):
    """A function of rows that gives a model's responses to them, and the device it runs on."""
    import keras

    from zdckeras import backend
    from zdckeras.comparison.contenders import open_contender

    contender = open_contender(name)
    call = responder(contender.generator, particles, pdg)
    if contender.kind == "ONNX":
        return call, "ONNX Runtime, cpu"
    devices = sorted({device.partition(":")[0].lower() for device in keras.distribution.list_devices()})
    return call, f"{'tensorflow' if contender.kind == 'SavedModel' else backend.name()}, {devices[-1]}"


def _simulation(name, particles, pdg):
    """A function of rows that simulates them."""
    from zdckeras.simulation.reference import respond

    rng, particles = np.random.default_rng(0), particles.astype("float64")
    return lambda rows: respond(particles[rows], pdg[rows], [name], rng), "NumPy, cpu"


def _pin():
    """Keep this process on the core it is on, where the system lets it."""
    status = Path("/proc/self/stat")
    if hasattr(os, "sched_setaffinity") and status.exists():
        os.sched_setaffinity(0, {int(status.read_text().rpartition(")")[2].split()[36])})


def main() -> None:
    """Measure what the command line names and print it as JSON."""
    what, name, path = sys.argv[1:]
    _pin()
    with np.load(path) as arrays:
        particles, pdg = arrays["particles"].astype("float32"), arrays["pdg"]
    call, device = {"model": _model, "simulation": _simulation}[what](name, particles, pdg)
    print(json.dumps({**timed(call, particles, not device.endswith("cpu")), "MiB": peak_memory(), "device": device}))


if __name__ == "__main__":
    main()
