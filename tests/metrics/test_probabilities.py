import numpy as np
import pytest

from zdckeras.metrics.probabilities import calibration, probability_scores, threshold_for, threshold_scores


@pytest.fixture(scope="module")
def honest():
    """Probabilities that are right, what happened, and photons where it did."""
    rng = np.random.default_rng(0)
    p = rng.beta(0.4, 0.8, 40_000)
    lit = rng.random(len(p)) < p
    return p, lit, np.where(lit, rng.poisson(50.0 * p) + 1, 0)


def test_right_probabilities_are_calibrated(honest):
    p, lit, _ = honest
    scores, wrong = probability_scores(p, lit), probability_scores(p**2, lit)
    assert scores["calibration"] < 0.01 < wrong["calibration"] and scores["loss"] < wrong["loss"]
    entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p))
    assert scores["loss"] == pytest.approx(entropy.mean(), rel=0.02)
    assert scores["AUC"] == pytest.approx(wrong["AUC"], abs=1e-4) and 0.7 < scores["AUC"] < 1.0


def test_bins_hold_all_rows(honest):
    p, lit, _ = honest
    stated, found, rows = calibration(p, lit, 10)
    assert rows.sum() == len(p) and (np.diff(stated) > 0).all()
    assert (stated * rows).sum() == pytest.approx(p.sum()) and (found * rows).sum() == pytest.approx(lit.sum())


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_threshold_keeps_the_share_and_hardly_more(honest, share):
    p, lit, photons = honest
    threshold = threshold_for(p, photons, share)
    kept = threshold_scores(p, lit, threshold, photons)
    assert share <= kept["light"] < share + 0.001
    assert kept["kept"] == pytest.approx((p > threshold).mean()) and kept["purity"] > lit.mean()


def test_scores_of_nothing():
    scores = threshold_scores(np.array([0.1, 0.2]), np.array([0, 0]), 0.5, np.array([0, 0]))
    assert scores["kept"] == 0.0 and all(np.isnan(scores[name]) for name in ("efficiency", "purity", "light"))
    assert np.isnan(probability_scores(np.array([0.1, 0.2]), np.array([0, 0]))["AUC"])
    with pytest.raises(ValueError, match="Expected particles with some light"):
        threshold_for(np.array([0.1]), np.array([0.0]), 0.9)


@pytest.mark.parametrize(("probability", "photons", "share"), [
    ([1.0, np.nextafter(1, 0, dtype="float32"), 0.5], [1, 1, 0], 0.5),  # neighbours
    ([0.9, 0.5, 0.0, 0.0], [1, 1, 0, 5], 1.0), ([0.0, 0.0], [1, 0], 0.5),  # a probability of 0
    ([0.9, 0.4, 0.1], [1, 1, 1], 0.0), ([1e-45, 1e-45], [1, 1], 1.0)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_threshold_keeps_the_share_in_any_precision(probability, photons, share, dtype):
    p, photons = np.array(probability, dtype), np.array(photons)
    threshold = threshold_for(p, photons, share)
    assert threshold_scores(p, photons > 0, threshold, photons)["light"] >= share
    assert isinstance(threshold, float) and ((p > threshold) * photons).sum() >= share * photons.sum()


def test_what_are_no_probabilities():
    lit, some = np.array([1, 0]), np.array([0.5, 0.1])
    for wrong in ([np.nan, 0.5], [5.0, 0.5], [-0.1, 0.5], [0.5], [], [[0.5, 0.1]]):
        for judged in (probability_scores, calibration, lambda p, lit: threshold_scores(p, lit, 0.5),
                       lambda p, lit: threshold_for(p, lit, 0.5)):
            with pytest.raises(ValueError, match="Expected .* probabilities from 0 to 1"):
                judged(np.array(wrong), lit)
    for weight in ([-1.0, 3.0], [np.nan, 1.0], [np.inf, 1.0]):
        with pytest.raises(ValueError, match="Expected particles with some light"):
            threshold_for(some, np.array(weight), 0.5)
    with pytest.raises(ValueError, match="Expected a share from 0 to 1, received 1.5"):
        threshold_for(some, lit, 1.5)
