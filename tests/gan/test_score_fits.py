import keras
import numpy as np
import pytest

from zdckeras.data.detectors import channel_sums
from zdckeras.gan.model import ResponseGAN, ShapeScoreFit, SumsScoreFit, training_arrays
from zdckeras.training.batches import Batches

NOISE = {"normal": {"z": (4,), "z2": (4,)}}


@pytest.fixture(scope="module")
def gan(showers):
    small = {"latent": 4, "hidden": 8, "widths": (8,), "channels": (4, 4, 2), "spots": 2}
    return ResponseGAN.fit_scales(showers, generator=small, critic={"hidden": (8,), "channels": (2, 2, 4), "code": 4})


def warm_start(kind, gan, showers):
    if kind is SumsScoreFit:
        sums = channel_sums(showers.response)
        return SumsScoreFit(gan), Batches({"conditions": showers.particles, "sums": sums}, 48, **NOISE)
    return ShapeScoreFit(gan), Batches(training_arrays(showers, diversity=False), 48, **NOISE)


@pytest.mark.parametrize(("kind", "part"), [(SumsScoreFit, "sums"), (ShapeScoreFit, "shape")])
def test_a_warm_start_trains_its_part_of_the_generator(kind, part, gan, showers, eager):
    gan.generator.set_weights(gan.average.get_weights())
    other = gan.generator.shape if part == "sums" else gan.generator.sums
    model, batches = warm_start(kind, gan, showers)
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=eager)
    before, kept, critic = getattr(gan.generator, part).get_weights(), other.get_weights(), gan.critic.get_weights()
    names = [v.path for v in getattr(gan.generator, part).trainable_variables]
    history = model.fit(batches, epochs=8, verbose=0, shuffle=False).history["loss"]
    assert np.isfinite(history).all() and history[-1] < history[0]
    trainable = {v.path: v for v in model.trainable_variables}
    assert set(names) == set(trainable)
    moved = [(a != b).any() for a, b in zip(before, getattr(gan.generator, part).get_weights(), strict=True)]
    assert sum(moved) == len(names)
    for first, second in ((kept, other.get_weights()), (critic, gan.critic.get_weights())):
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_loss_of_the_sums_by_hand(gan, showers, evaluate):
    """Energy score of sums and their total, as they are and as logarithms, in units of their spread over real ones."""
    gan.generator.set_weights(gan.average.get_weights())
    model, batches = warm_start(SumsScoreFit, gan, showers)
    (batch,) = batches[0]
    keys = ("conditions", "sums", "z", "z2")
    found, first, second = evaluate(lambda *x: (model(dict(zip(keys, x, strict=True))), *(
        gan.generator.sums(z, x[0])[0] for z in x[2:])), *(batch[key] for key in keys))

    def features(sums):
        sums = np.column_stack([sums, sums.sum(axis=1)])
        return np.column_stack([np.log1p(sums), sums])

    real = features(channel_sums(showers.response))

    def standard(sums):
        return (features(sums) - real.mean(axis=0)) / (real.std(axis=0) + 0.05)

    x, a, b = map(standard, (batch["sums"], first, second))
    distance = lambda a, b: np.linalg.norm(a - b, axis=1)  # noqa: E731
    expected = 0.5 * (distance(x, a) + distance(x, b) - distance(a, b))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
