"""Which operations of TensorFlow's graph take the time of a training step or of sampling, and in which layer they are.

The profiler of TensorFlow writes what every operation took, its own time without that of others inside it; printed are
the kinds of operation that took most, and the single ones, with the layer that they belong to, in milliseconds a step
and as a share of all. On one thread these are nearly processor time; what shares the core is in them.

    python tools/bench_profile.py modular
    python tools/bench_profile.py "SDI-GAN" VAE --sampling --batch 256 --lines 5
"""

import argparse
import os
import re
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

from bench_backends import trainer
from bench_cases import SIZES
from bench_common import compiled, pin
from bench_families import FAMILIES

from zdckeras.command import run, whole

OPERATION = re.compile(r"([^:]+):(\w+)")  # what the profiler calls one: its path in the graph, and its kind
OUTER = re.compile(r"^(StatefulPartitionedCall|gradient_tape|functional_\d+|PartitionedCall)/")


def own_times(space):
    """(path, kind) of an operation -> picoseconds that were its own, of a profile as TensorFlow writes it."""
    found = Counter()
    for plane in space.planes:
        names = {key: OPERATION.fullmatch(one.name) for key, one in plane.event_metadata.items()}
        for line in plane.lines:
            open_ = []  # (end, operation) of those around this one
            for event in sorted(line.events, key=lambda e: (e.offset_ps, -e.duration_ps)):
                if names[event.metadata_id] is None:
                    continue
                while open_ and open_[-1][0] <= event.offset_ps:
                    open_.pop()
                if open_:
                    found[open_[-1][1]] -= event.duration_ps
                operation = names[event.metadata_id].groups()
                found[operation] += event.duration_ps
                open_.append((event.offset_ps + event.duration_ps, operation))
    return found


def profiled(function):
    """What a call of a function takes, by operation, as `own_times`."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            function()
        (path,) = Path(folder).rglob("*.xplane.pb")
        return own_times(XSpace.FromString(path.read_bytes()))


def layer(path):
    """Path of an operation without what all have in common, and without the numbers that tell copies apart."""
    while OUTER.match(path):
        path = OUTER.sub("", path)
    return re.sub(r"_\d+(?=/|$)", "", path)


def report(found, steps, lines):
    """Tables of kinds and of single operations, the slowest first."""
    total, kinds, places = sum(found.values()), Counter(), Counter()
    for (path, kind), taken in found.items():
        kinds[kind] += taken
        places[f"{kind} in {layer(path)}"] += taken
    rows = [f"{1e-9 * total / steps:8.2f} ms in all"]
    for table in (kinds, places):
        rows += ["", *(f"{1e-9 * taken / steps:8.2f} ms {taken / total:5.0%}  {name}"
                       for name, taken in table.most_common(lines))]
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=FAMILIES, metavar="MODEL", help=", ".join(FAMILIES))
    parser.add_argument("--sampling", action="store_true", help="sampling, in place of a training step")
    parser.add_argument("--batch", type=whole(1), default=64)
    parser.add_argument("--steps", type=whole(1), default=8)
    parser.add_argument("--lines", type=whole(1), default=12, help="of each table")
    parser.add_argument("--seed", type=whole(0), default=0)
    args = parser.parse_args()
    if (backend := os.environ.get("KERAS_BACKEND", "tensorflow")) != "tensorflow":
        parser.error(f"expected KERAS_BACKEND=tensorflow, whose profiler this is, received {backend}")
    pin(1)
    import keras
    import numpy as np

    from zdckeras.simulation.reference import load

    for name in args.models:
        keras.utils.set_random_seed(args.seed)
        detectors, build = FAMILIES[name]
        case = build(SIZES["laptop"], load(detectors, "train", 1024, args.seed))
        if args.sampling:
            rng, generate = np.random.default_rng(args.seed), compiled(case.generate, False)
            arrays = [rng.standard_normal((args.batch, case.width), "float32"), *(
                np.resize(column, (args.batch, column.shape[1])).astype("float32") for column in case.columns)]
            arrays = [keras.ops.convert_to_tensor(array) for array in arrays]

            def call(generate=generate, arrays=arrays):
                for _ in range(args.steps):
                    keras.tree.map_structure(keras.ops.convert_to_numpy, generate(*arrays))
        else:
            fit, batches = trainer(case, SimpleNamespace(batch=args.batch, seed=args.seed, steps=args.steps), False)

            def call(fit=fit, batches=batches):
                fit(batches)
        call()  # compiles
        print(f"\n{name}, {'sampling' if args.sampling else 'a training step'}, batch {args.batch}\n"
              f"{report(profiled(call), args.steps, args.lines)}", flush=True)


if __name__ == "__main__":
    run(main)
