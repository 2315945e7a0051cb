"""What a generator becomes: size, agreement and milliseconds a shower as ONNX, SavedModel and in Keras, one thread.

    python tools/bench_export.py                        # every family, untrained, of laptop size
    python tools/bench_export.py zn zp --precision float16
    python tools/bench_export.py runs/*/generator.keras --batches 1 --json export.json

Every model runs in a process of its own, on one core. "equal" is the share of 129 showers (128 at once, one alone)
that ONNX Runtime and TensorFlow answer alike in every cell, "sums" with the same total, "moved" the share of the light
that is elsewhere.
Times are medians of the processor time of one call divided by the showers in it, with noise and particles in memory;
particles are those of the reference simulation that leave light. --clock takes the time on the clock. --profile names
the operators that take ONNX Runtime longest at batch 1.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from bench_common import machine, pin, run_alone, timed, write_json
from export_families import FAMILIES, build

from zdckeras.command import run, whole

WARM, FEW, PATIENCE = 3, 2, 20.0  # calls that do not count, that must; seconds after which there are no more


def particles_of(generator, rows):
    """Particles (rows, 9) that leave light, float32."""
    from zdckeras.simulation.reference import load

    name = "+".join(detector.name for detector in generator.detectors)
    return np.resize(load(name, "test", min(rows, 256)).particles, (rows, 9)).astype("float32")


def batches_of(generator, batch, number, rng):
    """Noise and particles of `number` calls."""
    particles = particles_of(generator, number * batch).reshape(number, batch, 9)
    return [(rng.standard_normal((batch, generator.noise_width), "float32"), some) for some in particles]


def median(call, pairs, repeats, clock=False):
    """Median milliseconds of a call, going through pairs of noise and particles, after some that do not count.

    Of calls that take long there are few.
    """
    times = []
    for k in range(repeats + WARM):
        times.append(timed(lambda k=k: call(*pairs[k % len(pairs)]))[1 if clock else 2])
        if len(times) > FEW and sum(times) > PATIENCE:
            break
    return 1e3 * float(np.median(times[min(WARM, len(times) - FEW) :]))


def runners(generator, folder, threads, precision):
    """Contender -> function of noise and particles that gives photons, and the size of its file [MB]."""
    import tensorflow as tf

    from zdckeras.export.onnx import export_onnx
    from zdckeras.export.saved_model import export_saved_model
    from zdckeras.export.session import open_session

    onnx = export_onnx(generator, folder / "model.onnx", precision=precision)
    served = export_saved_model(generator, folder / "served")
    session, answer = open_session(onnx, threads), tf.saved_model.load(str(served)).signatures["serving_default"]
    size = sum(file.stat().st_size for file in served.rglob("*") if file.is_file())

    def saved(noise, condition):
        return next(iter(answer(noise=tf.constant(noise), condition=tf.constant(condition)).values())).numpy()

    return {"ONNX Runtime": (lambda noise, condition: session.run(None, {"noise": noise, "condition": condition}),
                             onnx.stat().st_size / 1e6),
            "SavedModel": (saved, size / 1e6),
            "Keras": (lambda noise, condition: generator.predict_on_batch({"noise": noise, "conditions": condition}),
                      float("nan"))}, onnx


def operators(path, pairs):
    """Operator, microseconds and calls in one run of ONNX Runtime, the longest first."""
    import onnxruntime

    with TemporaryDirectory() as scratch:
        options = onnxruntime.SessionOptions()
        options.enable_profiling, options.intra_op_num_threads = True, 1
        options.profile_file_prefix = str(Path(scratch) / "profile")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for noise, condition in pairs:
            session.run(None, {"noise": noise, "condition": condition})
        events = json.loads(Path(session.end_profiling()).read_text())
    times, calls = Counter(), Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"]] += event["dur"] / len(pairs)
            calls[event["args"]["op_name"]] += 1 / len(pairs)
    return [(name, time, calls[name]) for name, time in times.most_common(15)]


def measure(name, settings):
    """Print what is found of one model; runs in a process of its own."""
    pin(settings.threads)
    import onnx

    from zdckeras.packaged import open_generator

    generator, rng = build(name) if name in FAMILIES else open_generator(name), np.random.default_rng(settings.seed)
    with TemporaryDirectory() as scratch:
        contenders, path = runners(generator, Path(scratch), settings.threads, settings.precision)
        about = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        row = {"model": name, "kind": type(generator).__name__, "weights": generator.count_params(),
               **json.loads(about["agreement_with_tensorflow"])}
        for batch in settings.batches:
            repeats = settings.repeats if batch == 1 else max(settings.repeats // 10, 5)
            pairs = batches_of(generator, batch, min(repeats, 200) if batch == 1 else 3, rng)
            for contender, (call, size) in contenders.items():
                row[f"{contender} MB"] = size
                row[f"{contender} {batch}"] = median(call, pairs, repeats, settings.clock) / batch
        if settings.profile:
            row["operators"] = operators(path, batches_of(generator, 1, 50, rng))
        print(json.dumps(row), flush=True)


def table(rows, batches):
    """Rows as Markdown."""
    contenders = ("ONNX Runtime", "SavedModel", "Keras")
    head = ["model", "weights", "ONNX [MB]", "equal", "sums", "moved", "largest"]
    head += [f"{contender}, {batch}" for batch in batches for contender in contenders]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        name = row["model"] if row["model"] in FAMILIES else f"{row['model']} ({row['kind']})"
        lines.append([name, f"{row['weights']:,}", f"{row['ONNX Runtime MB']:.2f}",
                      f"{row['equal']:.3f}", f"{row['sums']:.3f}", f"{row['moved']:.1e}", f"{row['largest']:.3g}",
                      *(f"{row[f'{contender} {batch}']:.3g}" for batch in batches for contender in contenders)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments=None):
    """Measure and print; 0 if all went well."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=".keras files, or names of pretrained generators or families "
                                                  f"({'; '.join(FAMILIES)}); all of these by default")
    parser.add_argument("--batches", type=whole(1), nargs="+", default=[1, 256], help="showers in a call")
    parser.add_argument("--repeats", type=whole(1), default=200, help="calls at batch 1; a tenth for larger ones")
    parser.add_argument("--threads", type=whole(1), default=1)
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--precision", choices=("float32", "float16", "int8"), default="float32", help="of ONNX files")
    parser.add_argument("--clock", action="store_true", help="time on the clock, for a machine of one's own")
    parser.add_argument("--profile", action="store_true", help="also name the operators that take longest")
    parser.add_argument("--json", help="also write the rows to this file")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    settings = parser.parse_args(arguments)
    if settings.measure:
        measure(settings.measure, settings)
        return 0
    print(machine(settings.threads), flush=True)
    rows = []
    models = settings.models or list(FAMILIES)
    for model in models:
        found, failure = run_alone(__file__, model, arguments, settings.threads, KERAS_BACKEND="tensorflow")
        rows += found
        for operator, time, calls in [line for row in found for line in row.get("operators", ())]:
            print(f"{model}: {operator:24s} {time:9.1f} us in {calls:7.1f} calls", flush=True)
        if failure:
            print(f"{model}: {failure}", flush=True)
    print(f"\nms a shower at each batch, {'by the clock' if settings.clock else 'of processor time'}:\n"
          + table(rows, settings.batches))
    if settings.json:
        write_json(settings.json, {"machine": machine(settings.threads), "rows": rows})
    return int(len(rows) < len(models))


if __name__ == "__main__":
    run(main)
