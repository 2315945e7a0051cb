"""Milliseconds that the published flow matching (arXiv:2507.18811) takes, in its authors' own code, on one thread.

It runs in an environment of its own, for it wants an older JAX; none of this package is used:

    git clone https://github.com/m-wojnar/faster_zdc
    python3 -m venv peer && peer/bin/pip install jax==0.4.34 flax==0.9.0 optax==0.2.4 scikit-learn
    peer/bin/python tools/bench_faster_zdc.py faster_zdc/
    peer/bin/python tools/bench_faster_zdc.py faster_zdc/ --float32

Ours, to set beside it: python tools/bench_backends.py --only U-Net --batch 64 --batches 1 64

A training step is `zdc.utils.nn.gradient_step` with the authors' loss, network and optimizer, sampling their `gen_zdc`
in 11 steps; packages of theirs that only record, plot or train other models are left out. Processor time, medians.

With --train it trains for so many seconds of processor time in place of being timed, and leaves showers to judge:

    zdckeras simulate showers/ --detector zn --size 20000 --seed 1
    zdckeras simulate test/ --detector zn --size 1000 --seed 2
    peer/bin/python tools/bench_faster_zdc.py faster_zdc/ --train 350 --showers showers/ --particles test/ --out theirs/
"""

import argparse
import json
import os
import statistics
import sys
import time
from functools import partial
from unittest.mock import MagicMock

LEFT_OUT = ("wandb", "lpips_j", "lpips_j.lpips", "flaxmodels", "flaxmodels.vgg", "matplotlib", "matplotlib.pyplot",
            "lz4", "lz4.frame", "cloudpickle", "tqdm", "clu", "clu.parameter_overview")


def median(call, repeats):
    """Milliseconds of processor time of a call after the first, and seconds of the first on the clock."""
    begin = time.perf_counter()
    call()
    first, times = time.perf_counter() - begin, []
    for _ in range(repeats):
        begin = time.process_time()
        call()
        times.append(1e3 * (time.process_time() - begin))
    return statistics.median(times), first


def authors_code(folder):
    """Let the authors' packages be imported from a clone, without what only records, plots or stores."""
    sys.path.insert(0, folder)
    sys.modules.update({name: MagicMock() for name in LEFT_OUT})


def pair(folder):
    """Images ln(1 + n) (N, nx, ny, 1) and particles (N, 10) of the npz pair in a folder."""
    import numpy as np

    responses, particles = (np.load(os.path.join(folder, f"data_nonrandom_{name}.npz"))["arr_0"].astype("float32")
                            for name in ("responses", "particles"))
    return np.log1p(responses)[..., None], particles


def published(folder, float32):
    """The authors' modules of flow matching and of training, for the neutron calorimeter."""
    import jax.numpy as jnp

    authors_code(folder)
    if float32:
        jnp.bfloat16 = jnp.float32  # what every layer of theirs is told to compute in
    import zdc.models

    zdc.models.PARTICLE_TYPE = zdc.models.ParticleType.NEUTRON
    zdc.models.RESPONSE_SHAPE = zdc.models.NEUTRON_RESPONSE_SHAPE
    from zdc.models.flow_matching import flow_matching
    from zdc.utils import nn

    return flow_matching, nn


def train_and_generate(settings, model, params, state, opt_state, step, nn):
    """Train on showers for a while, on batches in a new order every epoch, and write showers of other particles."""
    import jax
    import numpy as np
    from sklearn.preprocessing import StandardScaler

    (images, rows), (_, asked) = pair(settings.showers), pair(settings.particles)
    scaler, rng, key = StandardScaler().fit(rows[:, :9]), np.random.default_rng(0), jax.random.PRNGKey(1)
    known, begin, samples, order = scaler.transform(rows[:, :9]), time.process_time(), 0, []
    while time.process_time() - begin < settings.train:
        order = order if len(order) >= settings.batch else rng.permutation(len(images))
        some, order = order[: settings.batch], order[settings.batch :]
        key, now = jax.random.split(key)
        params, opt_state, _, (state, loss, *_) = step(params, (state, now, images[some], known[some]), opt_state)
        loss.block_until_ready()
        samples += settings.batch
    took, made = time.process_time() - begin, []
    generate = jax.jit(lambda key, x: nn.forward(model, params, state, key, x, method="gen_zdc")[0])
    condition = scaler.transform(asked[:, :9])
    for k, first in enumerate(range(0, len(asked), settings.batches[-1])):
        some = condition[first : first + settings.batches[-1]]
        made.append(np.expm1(np.asarray(generate(jax.random.fold_in(key, k), some), "float32"))[..., 0])
    os.makedirs(settings.out, exist_ok=True)
    photons = np.rint(np.minimum(np.concatenate(made), 65535.0)).astype("uint16")
    for name, values in (("responses", photons), ("particles", asked)):
        np.savez_compressed(os.path.join(settings.out, f"data_nonrandom_{name}.npz"), values)
    return f"{samples} samples, compiling included, in {took:.0f} s; the last loss is {float(loss):.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="clone of m-wojnar/faster_zdc")
    parser.add_argument("--float32", action="store_true", help="in place of bfloat16, which few CPUs multiply")
    parser.add_argument("--batch", type=int, default=64, help="of a training step")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64], help="of sampling")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--train", type=float, metavar="S", help="seconds of processor time of a training")
    for name, what in (("showers", "to train on"), ("particles", "to generate for"), ("out", "where to")):
        parser.add_argument(f"--{name}", metavar="FOLDER", help=f"of the npz pair {what}, with --train")
    settings = parser.parse_args()
    if not os.path.isdir(os.path.join(settings.folder, "zdc")):
        parser.error(f"{settings.folder}: expected a clone of m-wojnar/faster_zdc, found no folder zdc")
    if settings.train and not (settings.showers and settings.particles and settings.out):
        parser.error("--train: expected --showers, --particles and --out beside it")
    for folder in (settings.showers, settings.particles) if settings.train else ():
        if not os.path.isfile(os.path.join(folder, "data_nonrandom_particles.npz")):
            parser.error(f"{folder}: expected a folder with the npz pair, found no data_nonrandom_particles.npz")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    os.environ.update(OMP_NUM_THREADS="1", XLA_FLAGS="--xla_cpu_multi_thread_eigen=false", JAX_PLATFORMS="cpu")
    import jax
    import jax.numpy as jnp

    flow_matching, nn = published(settings.folder, settings.float32)
    key, model = jax.random.PRNGKey(0), flow_matching.FMUnet(out_shape=(44, 44, 1))
    images = jax.random.exponential(key, (settings.batch, 44, 44, 1))
    particles = jax.random.normal(key, (max(settings.batch, *settings.batches), 9))
    params, state = nn.init(model, key, images[:1], particles[:1], jnp.zeros(1))
    weights = sum(leaf.size for leaf in jax.tree.leaves(params))
    print(f"jax {jax.__version__}, {'float32' if settings.float32 else 'bfloat16'}, {weights:,} weights", flush=True)

    step = jax.jit(partial(nn.gradient_step, optimizer=flow_matching.optimizer,
                           loss_fn=partial(flow_matching.loss_fn, model=model)))
    if settings.train:
        print(train_and_generate(settings, model, params, state, flow_matching.optimizer.init(params), step, nn))
        return
    opt_state, seen = flow_matching.optimizer.init(params), particles[: settings.batch]
    took, first = median(lambda: jax.block_until_ready(step(params, (state, key, images, seen), opt_state)),
                         settings.repeats)
    rows = {"training step, ms": took, "training, ms a sample": took / settings.batch, "compiled in, s": first}
    generate = jax.jit(lambda x: nn.forward(model, params, state, key, x, method="gen_zdc")[0])
    for batch in settings.batches:
        some = particles[:batch]
        took, _ = median(lambda some=some: generate(some).block_until_ready(), settings.repeats)
        rows[f"sampling {batch}, ms a shower"] = took / batch
    print(json.dumps({name: round(value, 2) for name, value in rows.items()}))


if __name__ == "__main__":
    main()
