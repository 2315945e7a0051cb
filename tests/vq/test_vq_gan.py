import keras
import numpy as np
import pytest
from keras import layers, ops

from zdckeras import backend
from zdckeras.gan.losses import generator_loss
from zdckeras.layers.cnn import CnnDecoder, CnnEncoder
from zdckeras.layers.photon_coding import deviance, photon_pair
from zdckeras.training.batches import Batches
from zdckeras.vq.vq_gan import PhotonVQGAN, perceptual_loss
from zdckeras.vq.vq_vae import PhotonVQVAE

numpy = ops.convert_to_numpy
ROWS = 8


def build(showers, **settings):
    pair = photon_pair(showers, CnnEncoder, CnnDecoder, width=4, light=8, channels=(3, 2, 2), seed=1)
    model = PhotonVQVAE(*pair, codebook={"codes": 8})
    return PhotonVQGAN.fit_scales(model, showers, critic=dict(hidden=(6,), channels=(2, 2, 2), code=3), seed=3,
                                  **settings)


@pytest.fixture(scope="module")
def batch(showers):
    data = {"conditions": showers.particles, "responses": showers.response}
    return Batches(data, ROWS, seed=1, normal={"z": (10,)})[0][0]


def test_perceptual_loss_by_hand():
    """One 1 x 1 convolution with two channels: the squared distance of two directions."""
    body = keras.Sequential([layers.Conv2D(2, 1), layers.LeakyReLU(0.1)])
    body.build((None, 2, 2, 1))
    body.set_weights([np.array([[[[3.0, 4.0]]]]), np.array([0.0, 1.0])])
    x, y = np.zeros((1, 2, 2, 1), "float32"), np.ones((1, 2, 2, 1), "float32")
    directions = np.array([0.0, 1.0]), np.array([3.0, 5.0]) / np.sqrt(34.0)
    found = numpy(perceptual_loss(body, ops.convert_to_tensor(x), ops.convert_to_tensor(y)))
    np.testing.assert_allclose(found, [((directions[0] - directions[1]) ** 2).sum()], rtol=1e-3)
    assert numpy(perceptual_loss(body, ops.convert_to_tensor(y), ops.convert_to_tensor(y))).tolist() == [0.0]


@pytest.mark.compiles_long
def test_terms_of_the_generator(showers, batch, evaluate):
    gan = build(showers, adversarial=0.3, perceptual=0.6)
    names = ("deviance", "codebook", "adversarial", "perceptual")

    def terms(conditions, responses, z):
        inputs = {"conditions": conditions, "responses": responses, "z": z}
        found, made = gan._generator_loss(inputs, False), gan(inputs)
        light, _, codebook = gan.model.reconstruct(responses, conditions)
        seen = perceptual_loss(gan.critic.images[0], ops.log1p(responses)[..., None], ops.log1p(made)[..., None])
        by_hand = [0.01 * ops.mean(deviance(responses, light)), ops.mean(codebook),
                   0.3 * generator_loss(gan.critic([made], conditions)), 0.6 * ops.mean(seen)]
        return ops.stack([found[n] for n in names])[None], ops.stack(by_hand)[None], made

    found, by_hand, made = evaluate(terms, *(batch[k] for k in ("conditions", "responses", "z")))
    np.testing.assert_allclose(found, by_hand, rtol=1e-4)
    assert found.min() > 0.0 and np.array_equal(made, np.rint(made))


def test_each_phase_moves_its_own_weights(showers):
    """Every weight of critic, encoder and decoder moves, codes follow their averages, the fitted spread stays; compiled
    as recipes do."""
    gan = build(showers)
    gan.compile({name: keras.optimizers.Adam(1e-3) for name in gan.phases()},
                jit_compile=backend.jit_compile())
    gan.model.scatter.dispersion.assign(0.4)
    before = {part: [numpy(w) for w in part.trainable_weights] for part in (gan.critic, gan.model)}
    codes = numpy(gan.model.codebook.table())
    data = Batches({"conditions": showers.particles, "responses": showers.response}, 16, seed=1, normal={"z": (10,)})
    logs = gan.fit(data, epochs=1, verbose=0, shuffle=False).history
    assert all(np.isfinite(values).all() for values in logs.values())
    for part, weights in before.items():
        assert all((a != numpy(b)).any() for a, b in zip(weights, part.trainable_weights, strict=True))
    assert (numpy(gan.model.codebook.table()) != codes).any()
    assert float(numpy(gan.model.scatter.dispersion)) == pytest.approx(0.4)


def test_survives_its_configuration_and_refuses_negative_weights(showers):
    gan = build(showers, adversarial=0.3)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(gan))
    assert again.get_config() == gan.get_config() and again.adversarial == 0.3
    with pytest.raises(ValueError, match="at least 0, received -1.0"):
        PhotonVQGAN(gan.model, adversarial=-1.0)
