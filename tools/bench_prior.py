"""Seconds to sample tokens of a batch of responses: from a cache, and with the whole sequence recomputed each step.

Both run in one compiled graph (TensorFlow's graph, XLA if told, JAX's jit; torch eager), give the same tokens and are
timed as median processor time after one call that compiles. Set KERAS_BACKEND for the backend.

    KERAS_BACKEND=tensorflow OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 python tools/bench_prior.py
    KERAS_BACKEND=jax XLA_FLAGS=--xla_cpu_multi_thread_eigen=false python tools/bench_prior.py
"""

import argparse
import statistics

import keras
import numpy as np
from bench_common import compiled, machine, pin, timed
from keras import ops

from zdckeras.command import positive, run, whole
from zdckeras.data.particles import CONDITION_COUNT
from zdckeras.vq.prior import TokenPrior, draw


def recomputed(prior, conditions, uniform, temperature):
    """What `TokenPrior.sample` gives, from the logits of the whole sequence at every step."""
    places, noise = ops.arange(prior.tokens), ops.transpose(uniform)

    def grow(index, tokens):
        logits = ops.take(prior.logits(tokens, conditions), index, axis=1)
        token = draw(logits, ops.take(noise, index, axis=0), temperature)
        return ops.where(places == index, token[:, None], tokens)

    return ops.fori_loop(0, prior.tokens, grow, ops.zeros((ops.shape(uniform)[0], prior.tokens), "int32"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"codes": 256, "tokens": 36, "width": 256, "heads": 4, "depth": 5, "batch": 256}.items():
        parser.add_argument(f"--{name}", type=whole(1), default=value)
    parser.add_argument("--temperature", type=positive, default=1.4)
    parser.add_argument("--repeats", type=whole(1), default=3)
    parser.add_argument("--xla", action="store_true")
    parser.add_argument("--threads", type=whole(1), default=1, help="cores to stay on")
    settings = parser.parse_args()
    pin(settings.threads)
    scaler = {"mean": [0.0] * CONDITION_COUNT, "scale": [1.0] * CONDITION_COUNT}
    prior = TokenPrior("zn", scaler, settings.codes, settings.tokens, settings.width, settings.heads, settings.depth)
    rng = np.random.default_rng(0)
    conditions = ops.convert_to_tensor(rng.normal(size=(settings.batch, CONDITION_COUNT)).astype("float32"))
    uniform = ops.convert_to_tensor(rng.random((settings.batch, settings.tokens), "float32"))
    print(f"{keras.config.backend()}{' xla' if settings.xla else ''}, {machine(settings.threads)}; {vars(settings)}")
    results = {}
    for name, function in {
        "cached": lambda c, u: prior.sample(c, u, settings.temperature),
        "recomputed": lambda c, u: recomputed(prior, c, u, settings.temperature),
    }.items():
        run = compiled(function, settings.xla)
        tokens, wall, _ = timed(lambda run=run: ops.convert_to_numpy(run(conditions, uniform)))
        times = [timed(lambda run=run: ops.convert_to_numpy(run(conditions, uniform)))[2]
                 for _ in range(settings.repeats)]
        results[name] = tokens, statistics.median(times)
        print(f"{name:>10}: first call {wall:.2f} s, then {results[name][1]:.3f} s of processor time", flush=True)
    (first, fast), (second, slow) = results["cached"], results["recomputed"]
    print(f"{slow / fast:.1f} times faster; {(first == second).mean():.2%} of the tokens are the same")


if __name__ == "__main__":
    run(main)
