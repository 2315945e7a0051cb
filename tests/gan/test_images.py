"""GANs over images: the losses of the papers on any networks, saved, loaded, shipped."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import zdckeras as zdc
from zdckeras import backend
from zdckeras.data.particles import Scaler
from zdckeras.gan import losses
from zdckeras.gan.images import ImageGAN, ImageGanGenerator, as_list, check_networks, photons_of
from zdckeras.gan.model import training_arrays
from zdckeras.gan.published import published_critic, published_generator
from zdckeras.gan.published_vit import published_vit_critic, published_vit_generator
from zdckeras.training.batches import Batches
from zdckeras.training.loop import train

WEIGHTS = {"diversity": 0.1, "intensity": 1e-3, "auxiliary": 1e-3, "l2": 2.0}
LATENT, SHAPE = 4, (30, 30)
KINDS = ("own", "transformers")  # the second's critic gives embeddings
VIT = dict(detector="ecal", hidden=8, heads=2, depth=1)
EAGER = backend.name() != "jax"
numpy = ops.convert_to_numpy


def networks(kind="own", seed=0, dropout=0.2):
    """A user's own generator, critic and regressor, with all that trains differently from how it answers; or the
    vision transformers of the neutron study, with the same regressor."""
    z, c, image = keras.Input((LATENT,)), keras.Input((9,)), keras.Input(SHAPE)
    dense = [layers.Dense(n, kernel_initializer=keras.initializers.GlorotUniform(seed + k))
             for k, n in enumerate((8, 900, 6, 1, 2))]
    x = layers.BatchNormalization()(dense[0](layers.Concatenate()([z, c])))
    x = layers.LeakyReLU(0.1)(layers.Dropout(dropout, seed=seed)(x))
    generator = keras.Model([z, c], layers.Reshape(SHAPE)(layers.ReLU()(dense[1](x))))
    code = layers.AveragePooling2D(5)(layers.Reshape((*SHAPE, 1))(image))
    x = layers.BatchNormalization()(dense[2](layers.Concatenate()([layers.Flatten()(code), c])))
    critic = keras.Model([image, c], dense[3](layers.LeakyReLU(0.1)(layers.Dropout(dropout, seed=seed)(x))))
    if kind == "transformers":
        generator = published_vit_generator(**VIT, dropout=dropout, latent=LATENT, seed=seed)
        critic = published_vit_critic(**VIT, dropout=dropout, seed=seed)
    return generator, critic, keras.Model(image, dense[4](layers.Flatten()(code)))


def build(showers, weights=WEIGHTS, **settings):
    generator, critic, regressor = networks(**settings)
    return ImageGAN(generator, critic, "ecal", Scaler.fit(showers.particles).get_config(), weights, [regressor], LATENT)


def compiled(gan, rate=1e-3):
    gan.compile({name: keras.optimizers.Adam(rate) for name in gan.phases()}, run_eagerly=EAGER, jit_compile=not EAGER)
    return gan


@pytest.fixture(scope="module")
def repeated(showers):
    """Each particle twice, with responses of its own."""
    return type(showers)(showers.particles[np.repeat(np.arange(8), 2)], showers.pdg[np.repeat(np.arange(8), 2)],
                         {"ecal": showers.response[:16]})


@pytest.fixture(scope="module")
def batch(repeated):
    rng = np.random.default_rng(0)
    noise = {name: rng.standard_normal((16, LATENT), "float32") for name in ("z", "z2")}
    return {**{name: np.asarray(a, "float32") for name, a in training_arrays(repeated).items()}, **noise}


@pytest.fixture(scope="module", params=KINDS)
def model(repeated, request):
    """One compiled model of each kind; tests leave its weights alone."""
    return compiled(build(repeated, kind=request.param, dropout=0.0))


def test_terms_are_the_equations_of_their_images(model, batch):
    """Every term of the generator from the images that the model gives, by NumPy."""
    batch = {key: ops.convert_to_tensor(value) for key, value in batch.items()}
    found = {name: float(value) for name, value in model._generator_loss(batch, False).items()}
    known = model.scaled(batch["conditions"])
    first, second = (numpy(model.generator([batch[z], known], training=False)) for z in ("z", "z2"))
    real, photons = np.log1p(numpy(batch["responses_ecal"])), np.expm1(first)
    (logit, *one), (_, *other), (true, *_) = (
        [numpy(found) for found in as_list(model.critic([ops.convert_to_tensor(x), known], training=False))]
        for x in (first, second, real))
    assert len(one) == model.embeddings
    away = np.abs(one[0] - other[0]) if one else np.abs(first - second)
    ratio = away.reshape(16, -1).mean(axis=1) / np.abs(numpy(batch["z"]) - numpy(batch["z2"])).mean(axis=1)
    away = numpy(model.regressors[0](first, training=False)) - numpy(batch["peak_ecal"])
    expected = {
        "adversarial": np.log1p(np.exp(-logit)).mean(),
        "diversity": 0.1 * (numpy(batch["diversity_ecal"]) / (ratio + 1e-5)).mean(),
        "intensity": 1e-3 * np.abs(photons.sum(axis=(1, 2)) - numpy(batch["responses_ecal"]).sum(axis=(1, 2))).mean(),
        "auxiliary": 1e-3 * (away**2).sum(axis=1).mean(), "l2": 2.0 * ((real - first) ** 2).mean()}
    assert found == pytest.approx(expected, rel=1e-4)
    seen = {name: float(value) for name, value in model._critic_loss(batch, False).items()}
    assert seen["adversarial"] == pytest.approx((np.log1p(np.exp(-true)) + np.log1p(np.exp(logit))).mean(), rel=1e-4)
    assert seen["accuracy"] == pytest.approx(0.5 * ((true > 0).mean() + (logit < 0).mean()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_moves_each_network_by_its_own_loss_and_accuracy_is_only_watched(repeated, batch, kind):
    gan = compiled(build(repeated, kind=kind))
    before = [part.get_weights() for part in (gan.generator, gan.critic, gan.regressors[0])]
    logs = gan.train_on_batch(batch, return_dict=True)
    assert set(logs) == {"loss", "critic_adversarial", "critic_accuracy", "regressor_auxiliary",
                         "generator_adversarial", *(f"generator_{name}" for name in WEIGHTS)}
    parts = sum(value for name, value in logs.items() if name not in ("loss", "critic_accuracy"))
    assert float(logs["loss"]) == pytest.approx(float(parts), rel=1e-4) and 0.0 <= logs["critic_accuracy"] <= 1.0
    for part, values in zip((gan.generator, gan.critic, gan.regressors[0]), before, strict=True):
        assert all((a != b).any() for a, b in zip(part.get_weights(), values, strict=True) if a.ndim > 1)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_acts_in_training_alone(repeated, batch, kind):
    gan, known = build(repeated, kind=kind), np.zeros((16, 9), "float32")
    drawn, again, *still = (numpy(gan.generator([batch["z"], known], training=how))
                            for how in (True, True, False, None))
    assert (drawn != again).any() and np.array_equal(*still)
    generator = ImageGanGenerator.of(gan)
    assert np.array_equal(*(generator.sample(repeated.particles, seed=3) for _ in range(2)))


def test_terms_without_weight_cost_nothing(repeated):
    gan = build(repeated, {})
    assert gan.regressors == [] and list(gan.phases()) == ["critic", "generator"]
    assert gan.phases()["generator"].terms == ("adversarial",)


def test_interrupted_training_goes_on_exactly_with_its_dropout(repeated, tmp_path):
    arrays = training_arrays(repeated)

    def run(path, *epochs):
        for until in epochs:
            gan = compiled(build(repeated))
            train(gan, Batches(arrays, 8, seed=1, normal={"z": (LATENT,), "z2": (LATENT,)}), until, path, verbose=0)
        return gan.get_weights()

    whole, halves = run(tmp_path / "a.npz", 2), run(tmp_path / "b.npz", 1, 2)
    assert all(np.array_equal(a, b) for a, b in zip(whole, halves, strict=True))


def test_saved_model_and_generator_give_the_same(model, batch, repeated, tmp_path):
    model.save(tmp_path / "gan.keras")
    again = zdc.load_model(tmp_path / "gan.keras")
    inputs = {"z": batch["z"], "conditions": batch["conditions"]}
    assert np.array_equal(again.predict_on_batch(inputs), model.predict_on_batch(inputs))
    assert again.weights_of == model.weights_of and len(again.regressors) == 1
    generator = ImageGanGenerator.of(model)
    generator.factors = 30.0
    first = generator.sample(repeated.particles, seed=3, batch_size=8)
    assert first.shape == (16, *SHAPE) and first.max() > 0
    generator.save(tmp_path / "generator.keras")
    loaded = zdc.load_model(tmp_path / "generator.keras")
    assert np.array_equal(loaded.sample(repeated.particles, seed=3, batch_size=8), first)
    assert loaded.factors == [30.0] and np.array_equal(loaded.low, repeated.particles.min(axis=0))
    with pytest.warns(UserWarning, match="outside the trained range: energy"):
        loaded.sample(repeated.particles[:1] * 50.0)


def test_whole_photons_of_the_images_times_the_factor(model, batch):
    generator = ImageGanGenerator.of(model)
    images = model.predict_on_batch({"z": batch["z"], "conditions": batch["conditions"]})
    for factor in (1.0, 2.5):
        generator.factors = factor
        made = generator.predict_on_batch({"noise": batch["z"], "conditions": batch["conditions"]})
        away = np.abs(made - factor * np.expm1(images))
        assert away.max() <= 0.5 + 1e-4 and np.array_equal(made, np.rint(made))
    assert numpy(photons_of(np.array([-1.0, 0.0, 99.0], "float32"))).tolist() == pytest.approx([0.0, 0.0, 60_000.0])


def test_networks_that_do_not_fit_are_refused_in_one_line():
    generator, critic, regressor = networks()
    scaler = {"mean": [0.0] * 9, "scale": [1.0] * 9}
    with pytest.raises(ValueError, match=r"generator: expected outputs of shapes .*44, 44.*, received .*30, 30"):
        ImageGAN(generator, critic, "zn", scaler, latent=LATENT)
    with pytest.raises(ValueError, match="critic: expected a Keras model, received str"):
        ImageGAN(generator, "critic", "ecal", scaler, latent=LATENT)
    many = keras.Model(critic.inputs, [critic.output] * 3)
    with pytest.raises(ValueError, match=r"critic: expected outputs of shapes .*None, 1.*, received .*, .*, "):
        ImageGAN(generator, many, "ecal", scaler, latent=LATENT)
    with pytest.raises(ValueError, match="generator: expected a model of arrays .*10.* received one that fails"):
        check_networks(["ecal"], 10, generator)
    with pytest.raises(ValueError, match="auxiliary: expected a regressor for each of ecal, received 0"):
        ImageGAN(generator, critic, "ecal", scaler, {"auxiliary": 1.0}, latent=LATENT)
    with pytest.raises(ValueError, match="Expected weights of at least 0 for diversity, intensity, auxiliary, l2; "):
        ImageGAN(generator, critic, "ecal", scaler, {"energy": 1.0}, latent=LATENT)
    with pytest.raises(ValueError, match="one positive factor for each of 1 detectors"):
        ImageGanGenerator(generator, "ecal", scaler, LATENT, factors=[1.0, -1.0])


def test_batches_of_something_else_are_refused(model, batch):
    with pytest.raises(ValueError, match="Expected the columns responses_ecal"):
        model._critic_loss({"conditions": batch["conditions"]}, False)
    with pytest.raises(ValueError, match=r"responses_ecal: expected shape \(B, 30, 30\), received"):
        model._critic_loss({**batch, "responses_ecal": batch["responses_ecal"][:, :20]}, False)


def test_accuracy_counts_both_sides():
    real, made = np.array([[1.0], [-1.0]]), np.array([[-2.0], [-3.0]])
    assert float(losses.accuracy(*(ops.convert_to_tensor(x, "float32") for x in (real, made)))) == 0.75
    assert as_list(real)[0] is real and as_list((real, made)) == [real, made]


def test_published_networks_leak_a_tenth_below_zero():
    networks = (published_generator(["zn"], divide=32), published_critic(["zn"], divide=32))
    slopes = [[layer.negative_slope for layer in network.layers if isinstance(layer, layers.LeakyReLU)]
              for network in networks]
    assert all(slopes) and {slope for some in slopes for slope in some} == {0.1}
