"""Milliseconds of a training step and of sampling, for every model family on every engine, from one source.

Each engine runs in a process of its own, pinned to `--threads` cores, and is chosen by KERAS_BACKEND alone (and
jit_compile, which tells TensorFlow's graph from XLA). Data are in memory. A training step is the time of `fit` over
prepared batches, `--steps` of them in turns for at least a second, less that of `fit` over one, divided by the steps
between: each `fit` has some 60 ms of its own on TensorFlow. Sampling goes from noise and conditions in memory to what
the model generates, the device waited for. Reported are medians over `--repeats` ± half the distance between the
extreme readings, of processor time on one thread of a CPU, which others may be using, and of the clock otherwise; in
brackets the first call with compilation and, where a model counts its operations, the share that sampling reaches of
the rate at which NumPy multiplies matrices in the same process, or on a GPU the backend itself. ONNX Runtime runs what
tf2onnx makes of the same function, in one session; the JSON file also has its mean difference to TensorFlow, relative
to the mean. Several of these commands at once, for other models, take turns with their readings if they name one
--lock: compiling, which takes longer, goes on side by side.

The rows "by hand" set `fit` of the SDI-GAN against a step written by hand for it, see `bench_peers.py`. Its losses
over three steps must agree to 1e-4; then blocks of both alternate in one process, and the ratio is that of their
medians, of the time on the clock and of processor time, which is the one to trust on a CPU that others use, too.

    python tools/bench_backends.py
    python tools/bench_backends.py --only "SDI-GAN" --engines "JAX jit" --batch 128 --json bench.json
"""

import argparse
import json
import sys
from functools import partial

import numpy as np
from bench_cases import SIZES
from bench_common import (
    compiled,
    device,
    device_rate,
    machine,
    matrix_rate,
    pin,
    run_alone,
    timed,
    turn,
    version,
    write_json,
)
from bench_families import FAMILIES
from bench_peers import PEERS

from zdckeras.command import run, whole

ENGINES = {"TF graph": ("tensorflow",), "TF XLA": ("tensorflow",), "JAX jit": ("jax",), "torch eager": ("torch",),
           "ONNX Runtime": ("tensorflow", "tf2onnx", "onnxruntime")}
PACKAGES = ("keras", "tensorflow", "jax", "torch", "tf2onnx", "onnxruntime", "numpy")
SLOW = 10.0  # seconds of a first call after which three repeats must do
LONG, MOST = 1.0, 1000  # seconds of a `fit` whose steps are timed, at least, and steps of it, at most


def trainer(case, settings, jit_compile):
    """Compiled `fit` on lists of batches, which returns the last losses, and as many ready batches as asked for."""
    import keras

    from zdckeras.training.batches import Batches

    class Ready(keras.utils.PyDataset):
        def __init__(self, batches):
            super().__init__()
            self.batches = batches

        def __len__(self):
            return len(self.batches)

        def __getitem__(self, index):
            return (self.batches[index],)

    def fit(batches):
        history = case.model.fit(Ready(batches), verbose=0, shuffle=False).history
        keras.ops.convert_to_numpy(case.model.trainable_variables[0])  # waits for the device
        return {name: values[0] for name, values in history.items()}

    case.model.compile(case.optimizer, jit_compile=jit_compile)
    batches = Batches(case.arrays, settings.batch, settings.seed, **case.noise)
    constant = {name: np.full(settings.batch, value, "float32") for name, value in case.constant.items()}
    return fit, [{**batches[k % len(batches)][0], **constant} for k in range(settings.steps)]


def reading(times):
    """Medians [ms] of readings (n, 2) [s], on the clock and of processor time; half the distance of the extremes."""
    wall, cpu = 1e3 * np.median(times, axis=0)
    spread, cpu_spread = 1e3 * np.ptp(times, axis=0) / 2
    return {"ms": float(wall), "spread": float(spread), "cpu_ms": float(cpu), "cpu_spread": float(cpu_spread)}


def train(case, twin, settings, engine):
    """Rows of a training step: of `fit` and, with a twin of the model to work on, of the step by hand in turns."""
    jit_compile = engine in ("TF XLA", "JAX jit")
    fit, batches = trainer(case, settings, jit_compile)
    runs = {"training step": fit}
    if twin:
        runs["by hand"] = PEERS[ENGINES[engine][0]](twin.model, jit_compile)
    first = {what: timed(partial(run, batches[:1])) for what, run in runs.items()}
    losses = [[first[what][0] for what in runs]]
    losses += [[run(batches[k % len(batches) :][:1]) for run in runs.values()] for k in (1, 2)]
    with turn(settings.lock):
        short, long = (timed(partial(fit, batches[:count]))[2] for count in (1, len(batches)))
        more = max(len(batches), min(MOST, int(LONG / max((long - short) / (len(batches) - 1), 1e-6)))) - 1
        batches = [batches[k % len(batches)] for k in range(1 + more)]
        times = np.array([[[timed(partial(run, part))[1:] for part in (batches[:1], batches)] for run in runs.values()]
                          for _ in range(settings.repeats + 1)])
    steps = (times[1:, :, 1] - times[1:, :, 0]) / more
    rows = {what: {**reading(steps[:, k]), "first_s": first[what][1]} for k, what in enumerate(runs)}
    if twin:
        wall, cpu = (rows["training step"][unit] / rows["by hand"][unit] for unit in ("ms", "cpu_ms"))
        apart = max(abs(ours[name] - value) / max(abs(value), 1.0) for ours, by_hand in losses
                    for name, value in by_hand.items())
        rows["by hand"] |= {"ratio": wall, "cpu_ratio": cpu, "difference": apart}
        if not apart < 1e-4:
            rows["by hand"]["failed"] = f"the losses of three steps differ by {apart:.2g}"
    return rows


def onnx_session(case, settings):
    """The sampling function of NumPy arrays in ONNX Runtime, through tf2onnx."""
    import keras

    from zdckeras.backend.tensorflow_onnx import to_onnx
    from zdckeras.export.onnx import OPSET
    from zdckeras.export.session import open_session

    def answer(*columns):
        return {f"output_{k}": part for k, part in enumerate(keras.tree.flatten(case.generate(*columns)))}

    noise = np.zeros((1, case.width), "float32")
    inputs = {f"input_{k}": values for k, values in enumerate((noise, *(c.astype("float32") for c in case.columns)))}
    model, _ = to_onnx(answer, inputs, OPSET)
    session = open_session(model.SerializeToString(), settings.threads)
    return lambda *arrays: session.run(None, dict(zip(inputs, arrays, strict=True)))


def sample(case, settings, engine):
    """Rows of sampling, one for each batch size; what ONNX Runtime gives is set against TensorFlow's graph."""
    import keras

    reference, rng, rows = compiled(case.generate, engine == "TF XLA"), np.random.default_rng(settings.seed), {}
    function, put, seconds = reference, keras.ops.convert_to_tensor, 0.0
    if engine == "ONNX Runtime":
        (function, seconds, _), put = timed(partial(onnx_session, case, settings)), np.asarray
    for batch in settings.batches:
        arrays = [rng.standard_normal((batch, case.width), "float32"),
                  *(np.resize(column, (batch, column.shape[1])).astype("float32") for column in case.columns)]

        arrays = [put(array) for array in arrays]

        def run(function=function, arrays=arrays):
            return [keras.ops.convert_to_numpy(part) for part in keras.tree.flatten(function(*arrays))]

        made, first, _ = timed(run)
        repeats = 3 if first > SLOW else settings.repeats
        with turn(settings.lock):
            times = np.array([timed(run)[1:] for _ in range(repeats)])
        row = rows[f"sampling, batch {batch}"] = {**reading(times), "first_s": first + seconds}
        if case.operations:
            row["share"] = 2 * batch * case.operations / (1e-3 * row[settings.clock]) / settings.rate
        if engine == "ONNX Runtime":
            expected = run(reference)
            row["difference"] = max(
                float(np.abs(a - b).mean() / np.abs(b).mean()) for a, b in zip(made, expected, strict=True))
    return rows


def measure(engine, settings):
    """Print the rows of one engine; runs in a process of its own."""
    pin(settings.threads)
    settings.rate, settings.clock = matrix_rate(), "cpu_ms"
    import keras

    where = "cpu" if engine == "ONNX Runtime" else device()  # whose session has one provider
    if where != "cpu":
        settings.rate, settings.clock = device_rate(), "ms"

    from zdckeras.simulation.reference import load

    keras.utils.set_random_seed(settings.seed)
    for family in settings.only:
        detectors, build = FAMILIES[family]
        make = partial(build, SIZES[settings.preset], load(detectors, "train", settings.rows, settings.seed))
        peer = family == "SDI-GAN" and ENGINES[engine][0] in PEERS
        jobs = {"training step": lambda make, twin: train(make(), make() if twin else None, settings, engine),
                "sampling": lambda make, twin: sample(make(), settings, engine)}
        jobs = jobs if settings.batches else {"training step": jobs["training step"]}
        for what in ("sampling",) if engine == "ONNX Runtime" else jobs:
            try:
                rows = jobs[what](make, peer)
            except Exception as error:  # whatever an exporter or a compiler does not support goes into the table
                names = [what] if what != "sampling" else [f"sampling, batch {batch}" for batch in settings.batches]
                rows = {name: {"failed": f"{type(error).__name__}: {error}"} for name in names}
            for name, row in rows.items():
                told = {"engine": engine, "device": where, "family": family, "what": name, "matrices": settings.rate,
                        "by": "cpu_" if where == "cpu" and settings.threads == 1 else ""}
                print(json.dumps({**told, **row}), flush=True)


def cell(row, width=None):
    """What the table says of one measurement, a failure cut to a width."""
    if row is None:
        return "-"
    if "failed" in row:
        return " ".join(row["failed"].replace("|", "/").split())[:width]
    ratio = f"; ratio {row['ratio']:.3f}, CPU {row['cpu_ratio']:.3f}" if "ratio" in row else ""
    share = f"; {row['share']:.0%}" if "share" in row else ""
    median, spread = (row[f"{row['by']}{what}"] for what in ("ms", "spread"))
    return f"{median:.3g} ± {spread:.2g} ({row['first_s']:.1f} s{ratio}{share})"


def table(rows):
    """Rows as a Markdown table, one line for each model and task, one column for each engine."""
    found = {(row["family"], row["what"], row["engine"]): row for row in rows}
    engines = [engine for engine in ENGINES if any(key[2] == engine for key in found)]
    lines = [["model", "ms (first call)", *engines], ["---"] * (2 + len(engines))]
    lines += [[family, what, *(cell(found.get((family, what, engine)), 60) for engine in engines)]
              for family, what in dict.fromkeys((row["family"], row["what"]) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments=None):
    """Measure and print; 0 if all went well."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES), metavar="MODEL")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), metavar="ENGINE")
    parser.add_argument("--preset", choices=SIZES, default="laptop", help="sizes of the models")
    parser.add_argument("--batch", type=whole(1), default=64, help="rows of a training step")
    parser.add_argument("--batches", type=whole(1), nargs="*", default=[256, 1], help="rows of sampling; none: none")
    parser.add_argument("--steps", type=whole(2), default=16, help="prepared batches for training steps")
    parser.add_argument("--repeats", type=whole(1), default=4, help="readings of which the median is taken")
    parser.add_argument("--rows", type=whole(1), default=1024, help="showers of the embedded data")
    parser.add_argument("--threads", type=whole(1), default=1)
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--lock", help="file of which several commands make their readings one after the other")
    parser.add_argument("--json", help="also write the rows to this file")
    parser.add_argument("--measure", choices=ENGINES, help=argparse.SUPPRESS)
    settings = parser.parse_args(arguments)
    if settings.measure:
        measure(settings.measure, settings)
        return 0

    versions, rows = {package: version(package) for package in PACKAGES}, []
    print(machine(settings.threads))
    print(", ".join(f"{package} {found or 'not installed'}" for package, found in versions.items()), flush=True)
    for engine in settings.engines:
        missing = [package for package in ENGINES[engine] if versions[package] is None]
        found, failure = [], f"{', '.join(missing)} not installed"
        if not missing:
            found, failure = run_alone(__file__, engine, arguments, settings.threads, KERAS_BACKEND=ENGINES[engine][0])
        rows += found
        for row in found:
            print(f"{engine:13s} {row['family']:12s} {row['what']:20s} {cell(row)}", flush=True)
        if failure:
            print(f"{engine}: {failure}", flush=True)
            measured = {row["family"] for row in found}
            rows += [{"engine": engine, "family": family, "what": f"sampling, batch {batch}",
                      "failed": failure.splitlines()[-1]}
                     for family in settings.only if family not in measured for batch in settings.batches]
    print(f"\n{table(rows)}")
    if settings.json:
        write_json(settings.json, {"settings": vars(settings), "machine": machine(settings.threads),
                                   "versions": versions, "rows": rows})
    return 0


if __name__ == "__main__":
    run(main)
