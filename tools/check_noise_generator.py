"""How many codes of the published autoencoder with a noise generator stay above 0, in its authors' own code.

Its codes end in ReLU. Where one is 0 for all showers no gradient reaches it, and where all are, the model is one fixed
image. It runs in an environment of its own, for it wants an older JAX; none of this package is used:

    git clone https://github.com/m-wojnar/zdc
    python3 -m venv peer && peer/bin/pip install jax==0.4.34 flax==0.9.0 optax==0.2.4 scikit-learn
    zdckeras simulate showers/ --detector zn --size 12000 --part train
    peer/bin/python tools/check_noise_generator.py zdc/ --showers showers/

Network, loss (squared errors), optimizer and training step are those of zdc.models.autoencoder.noise_generator_mse;
packages of theirs that only record, plot or store are left out.
"""

import argparse
import os
from functools import partial

from bench_faster_zdc import authors_code, pair

SHOWN = 256  # showers whose codes are counted


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="clone of m-wojnar/zdc")
    parser.add_argument("--showers", required=True, metavar="FOLDER", help="of the npz pair to train on")
    parser.add_argument("--batch", type=int, default=64, help="of a training step (the authors': 256)")
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 4, 8, 16, 30, 80, 150, 300],
                        help="after which it counts")
    parser.add_argument("--seed", type=int, default=42)
    settings = parser.parse_args()
    for path, what in ((settings.folder, "zdc/models"), (settings.showers, "data_nonrandom_particles.npz")):
        if not os.path.exists(os.path.join(path, what)):
            parser.error(f"{path}: expected a folder with {what}, found none")
    authors_code(settings.folder)
    import jax
    import numpy as np
    from sklearn.preprocessing import StandardScaler
    from zdc.models.autoencoder import noise_generator_mse as published
    from zdc.utils import nn

    images, particles = pair(settings.showers)
    known = StandardScaler().fit_transform(particles[:, :9])
    begin, key = jax.random.split(jax.random.PRNGKey(settings.seed))
    model = published.AutoencoderNG(published.Encoder, published.Decoder)
    params, state = nn.init(model, begin, images[:5], known[:5])
    opt_state = published.optimizer.init(params)
    step = jax.jit(partial(nn.gradient_step, optimizer=published.optimizer,
                           loss_fn=partial(published.loss_fn, model=model)))
    codes = jax.jit(lambda params, key: nn.forward(model, params, state, key, images[:SHOWN], known[:SHOWN])[0][1:])
    rng, losses = np.random.default_rng(settings.seed), (np.nan,)
    for count in range(max(settings.steps) + 1):
        if count in settings.steps:
            above = [(np.asarray(one) > 0).mean() for one in codes(params, key)]
            print(f"step {count:4}: above 0 are {above[0]:.3f} of the codes read, {above[1]:.3f} of those made of "
                  f"noise; loss {float(losses[0]):.0f}", flush=True)
        key, now = jax.random.split(key)
        some = rng.integers(0, len(images), settings.batch)
        params, opt_state, (state, *losses) = step(params, (state, now, images[some], known[some]), opt_state)


if __name__ == "__main__":
    main()
