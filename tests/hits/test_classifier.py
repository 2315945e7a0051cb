import numpy as np
import pytest
from keras import ops

from zdckeras.hits.classifier import HitClassifier, fit_hits
from zdckeras.loading import load_model
from zdckeras.packaged import open_hits
from zdckeras.simulation.primaries import draw_primaries

SCALER = {"mean": [0.0] * 9, "scale": [1.0] * 9}


@pytest.fixture(scope="module")
def particles():
    return draw_primaries(2000, np.random.default_rng(0))[0]


def test_loss_is_that_of_its_probability(particles, evaluate):
    model = HitClassifier.fit_scales(["zn"], particles, hidden=(8,), seed=1)
    lit = (particles[:, 7] > 900.0).astype("float32")[:50]
    loss = evaluate(lambda c, y: model({"conditions": c, "lit": y}), particles[:50], lit)
    p = model.probability(particles[:50]).astype("float64")
    np.testing.assert_allclose(loss, -np.where(lit > 0, np.log(p), np.log1p(-p)), rtol=1e-3, atol=1e-5)
    assert np.array_equal(model.passes(particles[:50]), p > model.threshold)


def test_training_learns_what_hits(particles, tmp_path):
    """Light where the expected impact is within the detector: charged particles are bent away."""
    lit = (particles[:, 8] == 0) & (np.hypot(particles[:, 4], particles[:, 5]) / np.abs(particles[:, 6]) < 2e-4)
    model, history = fit_hits(["zn", "zp"], particles, lit, tmp_path / "hits.npz", epochs=6, batch=100, rate=5e-3,
                              hidden=(16,))
    p = model.probability(particles)
    assert history["loss"][-1] < 0.5 * history["loss"][0] and p[lit].mean() > p[~lit].mean() + 0.3
    model.threshold = 0.25
    model.save(tmp_path / "hits.keras")
    again = load_model(tmp_path / "hits.keras")
    assert again.threshold == 0.25 and np.array_equal(again.probability(particles), p)
    assert np.array_equal(open_hits(tmp_path / "hits.keras").passes(particles), p > 0.25)


def test_wrong_settings_and_particles():
    for detectors, threshold in (([], 0.5), (["zn"], 0.0), (["zn"], 1.0)):
        with pytest.raises(ValueError, match="at least one detector and a threshold between 0 and 1"):
            HitClassifier(detectors, SCALER, threshold=threshold)
    model = HitClassifier(["zn"], SCALER, hidden=(4,))
    for wrong in (np.ones((2, 8)), np.full((2, 9), np.nan)):
        with pytest.raises(ValueError, match=r"Expected finite conditions of shape \(N, 9\)"):
            model.probability(wrong)
    assert model.probability(np.ones((0, 9))).shape == (0,)


def test_broken_weights_say_nothing():
    model = HitClassifier(["zn"], SCALER, hidden=(4,))
    model.check_weights()
    model.read.bias.assign([np.nan])
    for call in (model.probability, model.passes):
        with pytest.raises(ValueError, match="expected finite probabilities, made 3 of 3 that are not"):
            call(np.ones((3, 9)))
    with pytest.raises(ValueError, match="expected finite weights, received 1 of"):
        model.check_weights()


def test_the_one_that_comes_with_the_package():
    """Neutrons that fly straight into ZN and protons of beam energy light; slow particles to the side do not."""
    model = open_hits()
    hits = np.array([[2000, 0, 0, 0, 0.01, 0, 2000, 939.57, 0], [2680, 0, 0, 0, 0, 0, -2680, 938.27, 1]], "float32")
    beside = np.array([[50, 0, 0, 0, 5.0, 0, 50, 0, 0], [20, 0, 0, 0, 0, 3.0, 20, 139.57, 1]], "float32")
    assert model.probability(hits).min() > 0.9 and not model.passes(beside).any()
    assert [detector.name for detector in model.detectors] == ["zn", "zp"]
    assert float(ops.sum(model.read.kernel**2)) > 0


def test_another_model_is_no_classifier(generator, tmp_path):
    generator.save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="expected a HitClassifier, received ShowerGenerator"):
        open_hits(tmp_path / "other.keras")
