import numpy as np
from keras import ops

from tests.modular.conftest import LATENT, SMALL
from zdckeras.modular.model import ArrivalVAE
from zdckeras.modular.training import PriorDistiller, distil, fit_vae, pair_diversity


def test_physics_loss_is_the_distance_of_channel_sums(batches, evaluate):
    """With "channels" at 2 the loss is that at 0 plus twice the relative L1 distance of the five sums."""
    (batch,) = batches[0]
    vae = ArrivalVAE("zn", **SMALL)
    student = vae.prior.student(seed=7)
    for k, weight in enumerate([*vae.prior.flow.weights, *student.flow.weights]):
        weight.assign(0.2 * np.random.default_rng(k).standard_normal(weight.shape))
    distiller = PriorDistiller(vae, student)
    batch = {**batch, "u": batch["z"][::-1].copy(), "weight": np.ones(len(batch["z"]), "float32"),
             "channels": np.zeros(len(batch["z"]), "float32")}
    names = list(batch)

    def parts(*values):
        inputs = dict(zip(names, values, strict=True))
        code, _, features, cell = vae.encode(inputs)
        base = vae.prior.flow.encode(code, vae.prior.embed(features))[0]
        log_mean, _ = vae.decoder(student.generate(base, features), features, cell)
        light = ops.matmul(ops.exp(log_mean), distiller.masks)
        return distiller(inputs), distiller({**inputs, "channels": inputs["channels"] + 2.0}), light

    plain, physics, light = evaluate(parts, *batch.values())
    real = batch["responses"].reshape(len(light), -1) @ distiller.masks
    distance = np.abs(light - real).sum(axis=1) / np.maximum(real.sum(axis=1), 1.0)
    np.testing.assert_allclose(physics - plain, 2.0 * distance, rtol=2e-3, atol=1e-3)
    assert (plain > 0).all()


def test_training_and_distillation_resume_and_leave_the_teacher_alone(tmp_path):
    settings = dict(rows=64, batch=32, rate=1e-2, seed=1)
    vae, history = fit_vae("zn", tmp_path / "vae.npz", epochs=2, **settings, **SMALL)
    again, same = fit_vae("zn", tmp_path / "vae.npz", epochs=2, **settings, **SMALL)
    assert history == same and len(history["loss"]) == 2
    for a, b in zip(vae.weights, again.weights, strict=True):
        assert np.array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))
    before = [ops.convert_to_numpy(w) for w in vae.weights]
    student, losses = distil(vae, tmp_path / "student.npz", epochs=3, **settings)
    assert losses["loss"][-1] < losses["loss"][0]
    assert all(np.array_equal(ops.convert_to_numpy(w), b) for w, b in zip(vae.weights, before, strict=True))
    code = student.generate(*(np.zeros((2, width), "float32") for width in (LATENT, vae.features.width)))
    assert tuple(code.shape) == (2, LATENT) and np.isfinite(ops.convert_to_numpy(code)).all()


def test_diversity_of_pairs_is_between_zero_and_one():
    rng = np.random.default_rng(0)
    first, second = rng.poisson(3.0, (2, 20, 4, 4))
    diversity = pair_diversity(first, second)
    assert diversity.max() == 1.0 and diversity.min() >= 0.0
    assert np.array_equal(diversity, pair_diversity(second, first))
