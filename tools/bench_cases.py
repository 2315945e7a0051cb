"""What `bench_families.py` and `bench_published.py` share: sizes of models, and what is timed of one."""

from dataclasses import dataclass, field

import numpy as np

SIZES = {  # those of the recipes, and small ones
    "laptop": dict(
        sums={}, shape=dict(steps=3, hidden=(128, 128), embedding=(128, 64)), gan={},
        wgan=dict(channels=(64, 32, 16, 8), latent=512), body=dict(channels=(48, 24, 12, 8)), vq="0.25M",
        prior=dict(width=96, heads=4, depth=3), corr={}, arrivals=dict(decoder=dict(rank=128)), levels=3, latent={},
        unet=dict(), study=dict(channels=16, multipliers=(1, 2, 4, 8), heads=4, attention=(2,)), patches=dict(),
        divide=4, flow=dict(steps=3, hidden=(64, 64), bins=4), hits=dict(), vit=dict(width=32, hidden=40),
        tokens=dict(hidden=60, depth=2, width=32, projection=8), vit_gan=dict(hidden=32, depth=2)),
    "smoke": dict(
        sums=dict(steps=1, hidden=(8,), bins=4, embedding=(8,)),
        shape=dict(steps=1, hidden=(8,), embedding=(8,), maps=2),
        gan=dict(generator=dict(hidden=8, widths=(8,), channels=(4, 4, 2), spots=2),
                 critic=dict(hidden=(8,), channels=(2, 2, 4), code=4)),
        wgan=dict(channels=(8, 4, 4, 2), latent=16), body=dict(channels=(4, 4, 2, 2)), vq="0.25M",
        prior=dict(width=8, heads=2, depth=1), corr=dict(channels=(4, 4, 2, 2), width=2, hidden=8),
        arrivals=dict(latent=4, encoder=dict(hidden=(16, 8)), decoder=dict(hidden=(8, 8), known=8, rim=4),
                      prior=dict(steps=2, hidden=(8,), context=8)), levels=1,
        latent=dict(hidden=16, depth=2, context=8),
        unet=dict(channels=2, multipliers=(1, 2), blocks=1, heads=1),
        study=dict(channels=2, multipliers=(1, 2), blocks=1, heads=1), vit=dict(width=4, patch=11, hidden=8, depth=1),
        tokens=dict(hidden=8, heads=2, depth=1, width=8, projection=4),
        patches=dict(patch=11, hidden=8, depth=1, across=4), divide=16, flow=dict(steps=1, hidden=(8,), bins=2),
        hits=dict(hidden=(8,)), vit_gan=dict(hidden=8, heads=2, depth=1)),
}
SIZES["paper"] = SIZES["laptop"] | dict(divide=1, flow={}, vit={}, tokens={}, vit_gan={})  # published as published


@dataclass
class Case:
    """A model to train and the function that samples.

    Arguments:
        model: Keras model.
        optimizer: for `compile`; of several phases name -> optimizer.
        arrays: name -> (N, ...), what a training step takes.
        noise: of `Batches`: "uniform" and "normal", name -> shape.
        generate: function of noise (B, width) and of columns (B, ...).
        width: numbers of noise.
        columns: what stands beside the noise, (N, ...) each.
        constant: name -> number that every row of a training step has.
        operations: multiplications with a weight for one sample; 0 if they are not counted.
    """

    model: object
    optimizer: object
    arrays: dict
    noise: dict
    generate: object
    width: int
    columns: tuple
    constant: dict = field(default_factory=dict)
    operations: int = 0


def adam():
    import keras

    return keras.optimizers.Adam(1e-4, clipnorm=1.0)


def reach(showers):
    return showers.particles.min(axis=0), showers.particles.max(axis=0)


def rows(showers):
    """What most families are trained on."""
    return {"conditions": showers.particles, "responses": showers.response}


def shipped(model, arrays, noise, generator, showers, optimizer=None, **more):
    """A `Case` of a family whose generator takes noise and conditions."""
    return Case(model, optimizer or adam(), arrays, noise, generator.generate, generator.noise_width,
                (showers.particles,), operations=generator.operations() if hasattr(generator, "operations") else 0,
                **more)


def light_of_tokens(model, showers):
    """How a VQ-VAE makes photons of tokens and noise, width of the noise, and the columns: any tokens will do."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, model.codebook.codes, (len(showers), model.tokens)).astype("float32")

    def light(noise, tokens, conditions):
        import keras

        return model.scatter(model.light(keras.ops.cast(tokens, "int32"), conditions), noise)

    return light, model.scatter.latent, (tokens, showers.particles)
