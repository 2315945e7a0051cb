import keras
import numpy as np
import pytest
from keras import ops

from tests.diffusion.conftest import randomise
from zdckeras import load_model
from zdckeras.diffusion.adversarial import CodeGAN, CodeScore, fit_code_gan

numpy = ops.convert_to_numpy


@pytest.fixture
def gan(prior):
    return randomise(CodeGAN(prior, hidden=8, depth=1, energy=2.0, penalty=0.5, momentum=0.5, seed=1), seed=5)


@pytest.fixture
def some(codes):
    rng, rows, latent = np.random.default_rng(7), slice(0, 16), codes["code_mean"].shape[1]
    noise = {name: rng.standard_normal((16, latent), "float32") for name in ("z", "z2")}
    return {"code": codes["code_mean"][rows], "features": codes["features"][rows], **noise}


def test_terms_by_hand(gan, some, evaluate):
    """The energy score of three codes, the two logistic losses, and the penalty from finite differences."""
    names, network, width = list(some), gan.generator, some["code"].shape[1]

    def parts(*values):
        batch = dict(zip(names, values, strict=True))
        made = [network.generate(batch[z], batch["features"]) for z in ("z", "z2")]
        x, context = (batch["code"] - network.mean) / network.scale, gan.embed(batch["features"])
        steps = 0.01 * np.eye(width, dtype="float32")
        slopes = [(gan.logit(x + step, context) - gan.logit(x - step, context))[:, 0] / 0.02 for step in steps]
        y = (made[0] - network.mean) / network.scale
        return (CodeScore(gan)(batch), *made, gan.logit(x, context), gan.logit(y, context), ops.stack(slopes, axis=1),
                gan._critic_loss(batch, True), gan._generator_loss(batch, True))

    score, first, second, real, generated, slopes, critic, generator = evaluate(parts, *some.values())
    x, a, b = ((code - numpy(network.mean)) / numpy(network.scale) for code in (some["code"], first, second))
    apart = [np.linalg.norm(p - q, axis=1) for p, q in ((x, a), (x, b), (a, b))]
    np.testing.assert_allclose(score, 0.5 * (apart[0] + apart[1] - apart[2]), rtol=1e-3, atol=1e-3)
    assert float(generator["energy"]) == pytest.approx(2.0 * score.mean(), rel=1e-4)
    assert float(generator["adversarial"]) == pytest.approx(np.logaddexp(0.0, -generated).mean(), rel=1e-4)
    assert float(critic["adversarial"]) == pytest.approx(
        np.logaddexp(0.0, -real).mean() + np.logaddexp(0.0, generated).mean(), rel=1e-4)
    assert float(critic["penalty"]) == pytest.approx(0.5 * np.square(slopes).sum(axis=1).mean(), rel=0.02)


def test_a_step_moves_both_and_the_average_follows(gan, some, eager):
    before = {name: [numpy(w).copy() for w in part.trainable_weights]
              for name, part in (("generator", gan.generator), ("critic", gan.judge))}
    average = gan.average.get_weights()
    gan.compile({name: keras.optimizers.Adam(1e-2) for name in gan.phases()}, run_eagerly=eager)
    gan.train_on_batch(some)
    for name, part in (("generator", gan.generator), ("critic", gan.judge)):
        assert all((numpy(w) != b).any() for w, b in zip(part.trainable_weights, before[name], strict=True))
    for now, then, ours in zip(gan.average.get_weights(), average, gan.generator.get_weights(), strict=True):
        np.testing.assert_allclose(now, (2 * then + 9 * ours) / 11, atol=1e-5)  # momentum 2 / 11 in the first step
    made = gan.predict_on_batch({name: some[name] for name in ("z", "features")})
    assert np.isfinite(made).all() and np.ptp(made, axis=0).min() > 0


def test_priors_are_learnt_without_a_teacher(prior, codes, tmp_path):
    """Codes two deviations from where the generator begins."""
    codes = codes | {"code_mean": codes["code_mean"] + 2.0 * numpy(prior.scale)}
    settings = dict(score=dict(epochs=8, batch=32, rate=1e-2), hidden=8, depth=1,
                    adversarial=dict(epochs=2, batch=32, generator=1e-3, critic=1e-3))
    made, histories = fit_code_gan(prior, codes, tmp_path, **settings)
    assert histories["energy score"]["loss"][-1] < 0.7 * histories["energy score"]["loss"][0]
    assert set(histories["GAN"]) > {"critic_adversarial", "critic_accuracy", "critic_penalty", "generator_energy"}
    again, _ = fit_code_gan(prior, codes, tmp_path, **settings)
    for name, one in made.items():
        assert one.evaluations == 1
        assert all(np.array_equal(*map(numpy, pair)) for pair in zip(one.weights, again[name].weights, strict=True))
    pairs = zip(made["GAN"].weights, made["energy score"].weights, strict=True)
    assert any((numpy(a) != numpy(b)).any() for a, b in pairs)


def test_the_generator_begins_with_an_embedding_of_its_own(prior):
    """And its average with the same."""
    gan = CodeGAN(randomise(prior, seed=3), hidden=8, depth=1, seed=1)
    own, average, lent = (part.embed.get_weights() for part in (gan.generator, gan.average, prior))
    assert all((a != b).any() for a, b in zip(own, lent, strict=True) if a.ndim > 1)
    assert all(np.array_equal(a, b) for a, b in zip(own, average, strict=True))


@pytest.mark.parametrize(("wrong", "message"), [
    ({"hidden": 0}, "hidden: expected a whole number of at least 1, received 0"),
    ({"depth": 1.5}, "depth: expected a whole number of at least 1, received 1.5"),
    ({"energy": -1.0}, "energy: expected a finite number of at least 0, received -1.0"),
    ({"penalty": np.nan}, "penalty: expected a finite number of at least 0, received nan"),
])
def test_sizes_and_weights_are_checked(prior, wrong, message):
    with pytest.raises(ValueError, match=message):
        CodeGAN(prior, **wrong)


def test_other_kinds_of_models_are_refused(gan, codes, tmp_path):
    with pytest.raises(ValueError, match="like: expected DiffusionPrior, received Sequential"):
        fit_code_gan(gan.embed, codes, tmp_path, {}, {})
    with pytest.raises(ValueError, match="gan: expected CodeGAN, received MeanFlowPrior"):
        CodeScore(gan.generator)


def test_a_gan_of_codes_is_saved(gan, some, tmp_path):
    gan.save(tmp_path / "gan.keras")
    again, inputs = load_model(tmp_path / "gan.keras"), {name: some[name] for name in ("z", "features")}
    assert again.settings == gan.settings and again.momentum == gan.momentum
    assert np.array_equal(numpy(again(inputs)), numpy(gan(inputs)))
    assert all(map(np.array_equal, again.get_weights(), gan.get_weights()))
