import keras
import numpy as np
import pytest
from keras import ops

from tests.diffusion.conftest import SIZES, randomise
from zdckeras.data.detectors import channel_sums
from zdckeras.diffusion.latent import DiffusionPrior
from zdckeras.diffusion.one_step import (
    MeanFlowPrior,
    MeanFlowTrainer,
    PairDistiller,
    drawn_codes,
    fit_mean_flow,
    fit_pairs,
    fresh_student,
)

numpy = ops.convert_to_numpy


@pytest.fixture
def student(prior):
    return randomise(fresh_student(prior, seed=1), seed=5)


def test_one_step_and_two_by_hand(student, codes, evaluate):
    features = codes["features"][:8]
    noise = np.random.default_rng(0).standard_normal((8, student.settings["latent"]), "float32")
    context, ones = student.embed(features), np.ones(8, "float32")
    u = lambda x, s, t: numpy(student.average_velocity(x, s * ones, t * ones, context))  # noqa: E731
    one, two = evaluate(student.generate, noise, features), evaluate(student.sampled_by("euler", 2).generate, noise,
                                                                     features)
    half = noise - 0.5 * u(noise, 0.5, 1.0)
    for found, x in ((one, noise - u(noise, 0.0, 1.0)), (two, half - 0.5 * u(half, 0.0, 0.5))):
        np.testing.assert_allclose(found, x * numpy(student.scale) + numpy(student.mean), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("taught", [False, True])
def test_identity_against_finite_differences(prior, student, batch, evaluate, taught):
    """v - (t - s) du/dt along the path, the derivative from u a little earlier and later."""
    trainer, names, h = MeanFlowTrainer(student, prior if taught else None), list(batch), 1e-2

    def parts(*values):
        inputs = dict(zip(names, values, strict=True))
        data, noise = student.code(inputs), inputs["noise"]
        one, other = (ops.sigmoid(np.sqrt(2.0) * ops.erfinv(2.0 * inputs[k] - 1.0)) for k in ("t", "s"))
        t, s = ops.maximum(one, other), ops.minimum(one, other)
        s = ops.where(inputs["same"] < 0.5, t, s)
        x, context = (1.0 - t[:, None]) * data + t[:, None] * noise, student.embed(inputs["features"])
        v = noise - data
        if taught:
            v = prior.field(x, t[:, None], prior.embed(inputs["features"]))
        later, earlier = (student.average_velocity(x + k * h * v, s, t + k * h, context) for k in (1.0, -1.0))
        return (*trainer.identity(inputs), student.average_velocity(x, s, t, context),
                v - (t - s)[:, None] * (later - earlier) / (2.0 * h), trainer(inputs))

    mine, wanted, value, expected, loss = evaluate(parts, *batch.values())
    np.testing.assert_allclose(mine, value, atol=1e-5)
    np.testing.assert_allclose(wanted, expected, atol=2e-2)
    error = np.square(mine - wanted).mean(axis=1)
    np.testing.assert_allclose(loss, error * (error + 1e-3) ** -0.5, rtol=1e-3)
    assert np.abs(wanted - numpy(batch["noise"])).max() > 0.1


def test_teacher_on_a_bent_path_is_refused(vae, student):
    bent = DiffusionPrior(vae.features.width, vae.latent, schedule="cosine", **SIZES)
    with pytest.raises(ValueError, match="teacher: expected DiffusionPrior, received Dense"):
        fresh_student(keras.layers.Dense(1))
    with pytest.raises(ValueError, match="student: expected MeanFlowPrior, received Dense"):
        MeanFlowTrainer(keras.layers.Dense(1))
    with pytest.raises(ValueError, match="teacher on a straight path, received a cosine schedule"):
        MeanFlowTrainer(student, bent)


def test_physics_loss_is_the_distance_of_channel_sums(vae, prior, student, codes, evaluate):
    noise = np.random.default_rng(2).standard_normal((16, vae.latent), "float32")
    batch = {"noise": noise, "code": drawn_codes(prior, noise, codes["features"][:16]),
             "features": codes["features"][:16], "cell": codes["cell"][:16]}
    plain, physics = PairDistiller(student), PairDistiller(student, vae.decoder, 2.0)

    def parts(*values):
        inputs = dict(zip(batch, values, strict=True))
        made, cell = student.generate(inputs["noise"], inputs["features"]), ops.cast(inputs["cell"], "int32")
        lights = [ops.exp(vae.decoder(code, inputs["features"], cell)[0]) for code in (made, inputs["code"])]
        return plain(inputs), physics(inputs), made, *lights

    without, with_sums, made, *lights = evaluate(parts, *batch.values())
    mine, real = (channel_sums(light.reshape(-1, 44, 44)) for light in lights)
    away = (made - batch["code"]) / numpy(student.scale)
    np.testing.assert_allclose(without, np.square(away).mean(axis=1), rtol=1e-3)
    distance = np.abs(mine - real).sum(axis=1) / np.maximum(real.sum(axis=1), 1.0)
    np.testing.assert_allclose(with_sums - without, 2.0 * distance, rtol=1e-2, atol=1e-3)


def test_students_learn_and_leave_the_teacher_alone(vae, prior, codes, tmp_path):
    before = [numpy(w).copy() for w in prior.weights]
    settings = dict(epochs=12, batch=32, rate=1e-2)
    pairs, history = fit_pairs(prior, vae, codes, tmp_path / "pairs.npz", **settings)
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    (more, physics), (_, plain) = (fit_pairs(prior, vae, codes, tmp_path / f"{ch}.npz", channels=ch, start=pairs,
                                             epochs=1, batch=32, rate=1e-4) for ch in (1.0, 0.0))
    assert physics["loss"][0] > plain["loss"][0]  # by what channel sums add
    assert max(np.abs(numpy(a) - numpy(b)).max() for a, b in zip(pairs.weights, more.weights, strict=True)) < 0.05
    made, losses = fit_mean_flow(prior, codes, tmp_path / "mean.npz", **settings)
    first, *_, last = np.reshape(losses["loss"], (3, 4)).mean(axis=1)
    assert last < first
    assert made.evaluations == 1 and made.operations() < 1.2 * prior.sampled_by("euler", 1).operations()
    assert all(np.array_equal(numpy(w), b) for w, b in zip(prior.weights, before, strict=True))
    assert prior.field.trainable_weights and vae.decoder.trainable_weights  # elsewhere


def test_only_what_a_teacher_teaches_begins_with_its_embedding(prior):
    taught, alone = (fresh_student(prior, seed=7, embedded=embedded) for embedded in (True, False))
    same = [all(np.array_equal(numpy(a), numpy(b)) for a, b in zip(one.embed.weights, prior.embed.weights, strict=True))
            for one in (taught, alone)]
    assert same == [True, False]
    for own, lent in ((alone.scale, prior.scale), (alone.mean, prior.mean)):
        assert np.array_equal(numpy(own), numpy(lent))


def test_other_samplers_of_average_velocities_are_refused(student):
    with pytest.raises(ValueError, match="the sampler euler for average velocities, received 'heun'"):
        student.sampled_by("heun", 4)


@pytest.mark.parametrize("settings", [dict(schedule="cosine"), dict(schedule="linear", target="noise"),
                                      dict(target="data"), dict(limit=1.0)])
def test_average_velocities_are_those_of_a_straight_path_without_limit(settings):
    with pytest.raises(ValueError, match="Expected a straight path, the velocity and no limit"):
        MeanFlowPrior(5, 2, hidden=4, depth=1, **settings)
