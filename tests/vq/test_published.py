"""The study's VQ-GAN: its loss by hand, its critic of patches, a training, and its file."""

import numpy as np
import pytest
from keras import ops

from zdckeras.loading import load_model
from zdckeras.training.adversarial import train_adversarially
from zdckeras.vq.published import ImageVQGAN
from zdckeras.vq.vq_vae import PhotonVQVAE

numpy = ops.convert_to_numpy
SIZES = dict(hidden=8, heads=2, depth=1)


@pytest.fixture
def gan(showers):
    model = PhotonVQVAE.published(showers, width=8, codes=6, patch=15, averaged=True, **SIZES)
    return ImageVQGAN.of(model, showers, **SIZES)


def batch_of(showers, rows=8):
    return {"conditions": showers.particles[:rows].astype("float32"),
            "responses": showers.response[:rows].astype("float32")}


def test_losses_are_the_studys(gan, showers):
    batch = batch_of(showers)
    image, tokens, codebook = (numpy(x) for x in gan.model.reconstruct(batch["responses"], batch["conditions"]))
    logits = numpy(gan.critic(image, batch["conditions"]))
    assert logits.shape == tokens.shape == (8, 4)
    found = {name: float(value) for name, value in gan.phases()["generator"].loss(batch, False).items()}
    expected = {"pixels": 0.55 * ((np.log1p(batch["responses"]) - image) ** 2).sum(axis=(1, 2)).mean(),
                "codebook": codebook.sum() / 8 * 4, "adversarial": 0.96 * np.log1p(np.exp(-logits)).sum(axis=1).mean()}
    assert found == pytest.approx(expected, rel=1e-3)
    real = numpy(gan.critic(np.log1p(batch["responses"]), batch["conditions"]))
    told = {name: float(value) for name, value in gan.phases()["critic"].loss(batch, False).items()}
    assert told == pytest.approx({
        "adversarial": 0.028 * 4 * (np.log1p(np.exp(-real)).mean() + np.log1p(np.exp(logits)).mean()),
        "accuracy": 0.5 * ((real > 0).mean() + (logits < 0).mean())}, rel=1e-3)


def test_critic_sees_patches_and_the_particle(gan, showers):
    batch = batch_of(showers)
    image = np.log1p(batch["responses"])
    before = numpy(gan.critic(image, batch["conditions"]))
    assert (numpy(gan.critic(image, batch["conditions"][::-1].copy())) != before).any()
    assert (numpy(gan.critic(image[::-1].copy(), batch["conditions"])) != before).any()


def test_training_moves_both_and_keeps_a_file(gan, showers, tmp_path):
    data = {"conditions": showers.particles, "responses": showers.response}
    before = [numpy(w) for w in gan.trainable_weights]
    history = train_adversarially(gan, data, tmp_path / "state.npz", 2, 16, 1e-3, 1e-3)
    assert {"critic_accuracy", "generator_pixels"} <= set(history) or {"accuracy", "pixels"} <= set(history)
    assert all((a != numpy(b)).any() for a, b in zip(before, gan.trainable_weights, strict=True) if a.size > 8)
    gan.save(tmp_path / "gan.keras")
    again, batch = load_model(tmp_path / "gan.keras"), batch_of(showers)
    np.testing.assert_allclose(numpy(again(batch)), numpy(gan(batch)), rtol=1e-5, atol=1e-5)


def test_wrong_weights(gan, showers):
    with pytest.raises(ValueError, match="at least 0 for pixels, codebook, adversarial"):
        ImageVQGAN.of(gan.model, showers, weights={"perceptual": 1.0}, **SIZES)
