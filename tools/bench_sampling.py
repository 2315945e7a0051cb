"""Milliseconds per shower of exact flow sampling: naive and fast MAF inverse, IAF student, zuko and flowjax.

All contenders get the same weights, noise and context: affine steps with reversals between, the context entering at
the first hidden layer (as in the peers). Each runs in a process of its own, pinned to `--threads` cores. Before it is
timed, its first showers are compared with a plain NumPy float64 solution by one pass per variable; a difference
above 1e-4 ends the benchmark with an error. Reported are the first call (with compilation), the median of the
runs after it as wall and as CPU time, and the process's peak memory so far (batches in ascending order) with what it
was before the first call.

    python tools/bench_sampling.py
    python tools/bench_sampling.py --variables 368 --batches 1 64 --json bench.json
    python tools/bench_sampling.py --only "tensorflow xla, fast inverse" "zuko, inverse"
"""

import argparse
import json
import os
import resource
import sys
import tempfile
from functools import partial

import numpy as np
from bench_common import compiled, machine, pin, run_alone, timed, version, write_json

from zdckeras.command import run, whole

BOUND = -np.log(1e-3)  # of |log scale|; fixed in zuko
KEEP = 2  # showers compared with the NumPy solution
SAMPLING_ENGINES = {"tensorflow graph": "tensorflow", "tensorflow xla": "tensorflow", "jax jit": "jax"}
OUR_CONTENDERS = ("naive inverse", "fast inverse", "student")
SAMPLING_PEERS = {"zuko, inverse": "zuko", "flowjax, inverse": "flowjax"}
SAMPLING_PACKAGES = ("keras", "tensorflow", "jax", "torch", "zuko", "flowjax", "numpy")


def degrees(units, variables):
    """Degrees of sorted hidden units, one expression of its own rather than the package's."""
    levels = min(units, variables)
    return np.repeat(np.arange(levels) * variables // levels, np.diff(np.arange(levels + 1) * units // levels))


def draw_problem(settings):
    """Weights of every step as (kernel, bias, mask) per layer and the context kernel, and noise and context."""
    rng = np.random.default_rng(settings.seed)
    size, width, columns = settings.variables, settings.width, settings.context
    ladder = [np.arange(1, size + 1), *[degrees(width, size)] * settings.depth, np.repeat(np.arange(size), 2)]
    steps = []
    for _ in range(settings.steps):
        layers = []
        for low, high in zip(ladder, ladder[1:], strict=False):
            gain = 0.3 if len(layers) == settings.depth else 1.0
            kernel = gain * rng.normal(size=(len(low), len(high))) / np.sqrt(len(low))
            layers.append((kernel, 0.1 * rng.normal(size=len(high)), high[None, :] >= low[:, None]))
        steps.append((layers, rng.normal(size=(columns, width)) / np.sqrt(columns)))
    rows = max(*settings.batches, KEEP)
    return steps, rng.normal(size=(rows, size)).astype("float32"), rng.normal(size=(rows, columns)).astype("float32")


def shift_and_log_scale(step, values, context):
    """Parameters of one step in float64 NumPy."""
    layers, side = step
    for index, (kernel, bias, mask) in enumerate(layers):
        values = values / (1.0 + np.exp(-values)) if index else values
        values = values @ (kernel * mask) + bias + (0.0 if index else context @ side)
    raw = values[:, 1::2]
    return values[:, 0::2], raw / (1.0 + np.abs(raw) / BOUND)


def solution(settings, student):
    """The first showers by one pass per variable (teacher) or one pass (student), in float64."""
    steps, noise, context = draw_problem(settings)
    values, context = noise[:KEEP].astype("float64"), context[:KEEP].astype("float64")
    for index, (layers, side) in enumerate(steps):
        values = values[:, ::-1] if index else values
        masked = [(kernel * mask, bias, np.ones((1, 1))) for kernel, bias, mask in layers], side
        result = values
        for _ in range(1 if student else settings.variables):
            shift, log_scale = shift_and_log_scale(masked, result, context)
            result = shift + values * np.exp(log_scale)
        values = result
    return values


def ours(contender, settings, steps):
    """noise, context -> showers on the device, by this package."""
    engine, kind = contender.split(", ")
    os.environ["KERAS_BACKEND"] = SAMPLING_ENGINES[engine]
    from keras import ops

    from zdckeras.flows.autoregressive import Autoregressive
    from zdckeras.flows.flow import Flow
    from zdckeras.flows.univariate import Affine

    flow = (Flow.iaf if kind == "student" else Flow.maf)(
        settings.variables,
        settings.context,
        steps=settings.steps,
        hidden=(settings.width,) * settings.depth,
        univariate=Affine(BOUND),
    )
    parts = [part for part in flow.bijection.bijections if isinstance(part, Autoregressive)]
    for part, (layers, side) in zip(parts, steps, strict=True):
        for ours_layer, (kernel, bias, _) in zip(part.network.masked, layers, strict=True):
            ours_layer.set_weights([kernel, bias])
        for index, layer in enumerate(part.network.conditioned):
            layer.kernel.assign(np.zeros(layer.kernel.shape) if index else side)

    def naive(values, context):
        for part in flow.bijection.bijections:
            if isinstance(part, Autoregressive):

                def sweep(_, solved, part=part, values=values):
                    return part.univariate.transform_and_log_det(values, part.network(solved, context))[0]

                values = ops.fori_loop(0, settings.variables, sweep, values)
            else:
                values = part.transform_and_log_det(values, context)[0]
        return values

    return (
        compiled(naive if kind == "naive inverse" else flow.generate, xla="xla" in engine),
        ops.convert_to_tensor,
        ops.convert_to_numpy,
    )


def zuko(contender, settings, steps):
    """noise, context -> showers, by zuko's inverse of its masked autoregressive transform."""
    import torch
    from zuko.flows.autoregressive import MaskedAutoregressiveTransform
    from zuko.transforms import MonotonicAffineTransform

    torch.set_num_threads(settings.threads)
    lazies = []
    for layers, side in steps:
        lazy = MaskedAutoregressiveTransform(
            settings.variables,
            settings.context,
            univariate=lambda shift, raw: MonotonicAffineTransform(shift, raw).inv,
            hidden_features=(settings.width,) * settings.depth,
            activation=torch.nn.SiLU,
        )
        linears = [layer for layer in lazy.hyper if hasattr(layer, "mask")]
        for index, (linear, (kernel, bias, mask)) in enumerate(zip(linears, layers, strict=True)):
            if not index:
                kernel, mask = np.vstack([kernel, side]), np.vstack([mask, np.ones_like(side, bool)])
            linear.weight.data = torch.tensor(kernel.T, dtype=torch.float32)
            linear.bias.data = torch.tensor(bias, dtype=torch.float32)
            linear.mask = torch.tensor(mask.T.copy())
        lazies.append(lazy)

    @torch.inference_mode()
    def function(values, context):
        for index, lazy in enumerate(lazies):
            values = lazy(context).inv(torch.flip(values, (1,)) if index else values)
        return values

    return function, torch.tensor, lambda result: result.numpy()


def flowjax(contender, settings, steps):
    """noise, context -> showers, by flowjax's inverse of its masked autoregressive bijection."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    from flowjax.bijections import AbstractBijection, MaskedAutoregressive

    class SoftAffine(AbstractBijection):
        shape = ()
        cond_shape = None
        shift: jax.Array
        raw: jax.Array

        def _log_scale(self):
            return self.raw / (1.0 + jnp.abs(self.raw) / BOUND)

        def transform_and_log_det(self, x, condition=None):
            return (x - self.shift) * jnp.exp(-self._log_scale()), -self._log_scale()

        def inverse_and_log_det(self, y, condition=None):
            return self.shift + y * jnp.exp(self._log_scale()), self._log_scale()

    bijections = []
    for layers, side in steps:
        bijection = MaskedAutoregressive(
            jax.random.key(0),
            transformer=SoftAffine(jnp.zeros(()), jnp.zeros(())),
            dim=settings.variables,
            cond_dim=settings.context,
            nn_width=settings.width,
            nn_depth=settings.depth,
            nn_activation=jax.nn.silu,
        )
        weights = [kernel * mask for kernel, _, mask in layers]
        weights[0] = np.vstack([weights[0], side])
        values = [jnp.asarray(kernel.T, jnp.float32) for kernel in weights]
        values += [jnp.asarray(bias, jnp.float32) for _, bias, _ in layers]

        def weights_of(tree):
            linears = tree.masked_autoregressive_mlp.layers
            return [linear.weight for linear in linears] + [linear.bias for linear in linears]

        bijections.append(eqx.tree_at(weights_of, bijection, values))

    @jax.jit
    def function(values, context):
        for index, bijection in enumerate(bijections):
            values = jax.vmap(bijection.inverse)(values[:, ::-1] if index else values, context)
        return values

    return function, jnp.asarray, lambda result: np.asarray(result)


def peak_memory():
    """Peak resident memory of this process [MiB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(contender, settings):
    """Rows of the table of one contender; runs in a process of its own."""
    pin(settings.threads)
    steps, noise, context = draw_problem(settings)
    build = {"zuko": zuko, "flowjax": flowjax}.get(SAMPLING_PEERS.get(contender), ours)
    function, put, host = build(contender, settings, steps)
    with np.load(settings.solutions, allow_pickle=False) as solutions:
        expected = solutions["student" if "student" in contender else "teacher"]
    before, rows = peak_memory(), []
    for batch in sorted(settings.batches):
        arguments = put(noise[:batch]), put(context[:batch])
        run = partial(lambda arguments: host(function(*arguments)), arguments)
        result, first, _ = timed(run)  # compiles, warms up and is checked; host() waits for the device
        difference = float(np.abs(result[:KEEP] - expected[:batch]).max())
        if not difference < 1e-4:
            raise SystemExit(f"{contender}, batch {batch}: differs from the NumPy solution by {difference:.2g}.")
        runs = 3 if first > 10.0 else settings.repeats
        wall, cpu = np.median([timed(run)[1:] for _ in range(runs)], axis=0)
        rows.append(
            {
                "contender": contender,
                "batch": batch,
                "wall_ms": 1e3 * float(wall),
                "cpu_ms": 1e3 * float(cpu),
                "first_call_s": first,
                "peak_mib": peak_memory(),
                "before_mib": before,
                "difference": difference,
                "runs": runs,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variables", type=whole(1), default=1936)
    parser.add_argument("--context", type=whole(1), default=9)
    parser.add_argument("--steps", type=whole(1), default=1)
    parser.add_argument("--width", type=whole(1), default=256, help="units of a hidden layer")
    parser.add_argument("--depth", type=whole(1), default=2, help="hidden layers")
    parser.add_argument("--batches", type=whole(1), nargs="+", default=[1, 64, 256])
    parser.add_argument("--repeats", type=whole(1), default=7, help="runs of which the median is taken; 3 above 10 s")
    parser.add_argument("--threads", type=whole(1), default=1)
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--only", nargs="+", metavar="CONTENDER", help="run these alone")
    parser.add_argument("--json", help="also write the rows to this file")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--solutions", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.measure:
        measure(settings.measure, settings)
        return

    versions = {package: version(package) for package in SAMPLING_PACKAGES}
    contenders = {f"{engine}, {kind}": module for engine, module in SAMPLING_ENGINES.items() for kind in OUR_CONTENDERS}
    contenders |= SAMPLING_PEERS
    unknown = set(settings.only or []) - set(contenders)
    if unknown:
        parser.error(f"unknown contenders {sorted(unknown)}; there are {sorted(contenders)}")
    print(
        f"D = {settings.variables}, context {settings.context}, {settings.steps} step(s) of {settings.depth} x "
        f"{settings.width}; {machine(settings.threads)}"
    )
    print(", ".join(f"{package} {found or 'not installed'}" for package, found in versions.items()))
    header = ("ms", "ms/shower", "CPU ms")
    print(f"{'contender':34s} batch {' '.join(f'{title:>10s}' for title in header)}  first s   peak (before) MiB")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        solutions = os.path.join(folder, "solutions.npz")
        np.savez(solutions, teacher=solution(settings, student=False), student=solution(settings, student=True))
        for contender, package in contenders.items():
            if settings.only and contender not in settings.only:
                continue
            if versions[package] is None:
                print(f"{contender:34s} {package} is not installed")
                continue
            arguments = [*sys.argv[1:], "--solutions", solutions]
            found, failure = run_alone(__file__, contender, arguments, settings.threads)
            if failure:
                raise SystemExit(f"{contender} failed:\n{failure}")
            rows += found
            for row in found:
                peak = f"{row['peak_mib']:7.0f} ({row['before_mib']:.0f})"
                print(
                    f"{contender:34s} {row['batch']:5d} {row['wall_ms']:10.2f} {row['wall_ms'] / row['batch']:10.3f} "
                    f"{row['cpu_ms']:10.2f} {row['first_call_s']:8.2f} {peak}",
                    flush=True,
                )
    cpu = {(row["contender"], row["batch"]): row["cpu_ms"] for row in rows}
    for engine in SAMPLING_ENGINES:
        for batch in sorted(settings.batches):
            fast, naive, student = (
                cpu.get((f"{engine}, {kind}", batch)) for kind in ("fast inverse", OUR_CONTENDERS[0], OUR_CONTENDERS[2])
            )
            pairs = [(f"{peer} / fast inverse", cpu.get((peer, batch)), fast) for peer in SAMPLING_PEERS]
            pairs += [("naive / fast inverse", naive, fast), ("naive inverse / student", naive, student)]
            ratios = [f"{label} {slow / quick:.3g}" for label, slow, quick in pairs if slow and quick]
            if ratios:
                print(f"{engine}, batch {batch}, ratios of CPU time: {', '.join(ratios)}")
    if settings.json:
        write_json(settings.json, {"settings": vars(settings), "versions": versions, "rows": rows})


if __name__ == "__main__":
    run(main)
