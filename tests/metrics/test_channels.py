import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from zdckeras.data.detectors import channel_sums
from zdckeras.data.particles import SPECIES
from zdckeras.metrics.channels import (
    Residuals,
    channel_metrics,
    mae,
    mae_weighted,
    over_runs,
    rmse,
    species_rows,
    wasserstein,
    ws,
)


def responses(seed, rows=300, shape=(6, 4), mean=3.0):
    rng = np.random.default_rng(seed)
    return rng.poisson(mean * rng.gamma(1.0, size=(rows, 1, 1)), (rows, *shape)).astype("uint16")


# Two 2 x 2 images: with the papers' masks channel 1 is cell (0, 0), channel 4 is (1, 1), channel 5 the other two.
REAL = np.array([[[4, 1], [1, 2]], [[0, 0], [3, 8]]], "uint16")
MADE = np.array([[[0, 0], [3, 9]], [[5, 1], [1, 2]]], "uint16")


@pytest.mark.parametrize("rows", [300, 251])
def test_wasserstein_equals_scipy(rows):
    real, generated = channel_sums(responses(0)), channel_sums(responses(1, rows))
    expected = [wasserstein_distance(real[:, k], generated[:, k]) for k in range(5)]
    np.testing.assert_allclose(wasserstein(real, generated), expected, rtol=1e-12)
    np.testing.assert_allclose(wasserstein(generated, real), expected, rtol=1e-12)


def test_by_hand():
    residuals = Residuals.between(REAL, MADE)
    assert residuals.real.tolist() == [[4, 0, 0, 2, 2], [0, 0, 0, 8, 3]]
    assert residuals.generated.tolist() == [[0, 0, 0, 9, 3], [5, 0, 0, 2, 2]]
    assert residuals.absolute.tolist() == [(4 + 7 + 1) / 5, (5 + 6 + 1) / 5]
    assert residuals.squared.tolist() == [16 + 1 + 4 + 49, 25 + 1 + 4 + 36]
    assert wasserstein(residuals.real, residuals.generated).tolist() == [0.5, 0, 0, 0.5, 0]
    assert ws(residuals) == pytest.approx(0.2)
    assert mae(residuals) == pytest.approx(2.4)
    assert mae(residuals, "faster-zdc") == pytest.approx(0.48)
    assert rmse(residuals) == pytest.approx(np.sqrt(68))
    assert rmse(residuals, "faster-zdc") == pytest.approx(np.sqrt(68 / 4))


@pytest.mark.parametrize("channels", ["papers", "proton-paper", "o2"])
def test_channel_convention_is_passed_on(channels):
    residuals = Residuals.between(responses(0), responses(1), channels)
    np.testing.assert_array_equal(residuals.real, channel_sums(responses(0), channels))
    np.testing.assert_array_equal(residuals.generated, channel_sums(responses(1), channels))


def test_blocks_do_not_show():
    real, generated = responses(0, 5000, (2, 2)), responses(1, 5000, (2, 2))
    residuals = Residuals.between(real, generated)
    difference = real.astype(float) - generated
    np.testing.assert_allclose(residuals.squared, (difference**2).sum(axis=(1, 2)))
    np.testing.assert_array_equal(residuals.generated, channel_sums(generated))


def test_equal_responses_have_no_distance():
    residuals = Residuals.between(REAL, REAL)
    assert (ws(residuals), mae(residuals), rmse(residuals)) == (0, 0, 0)


def test_order_matters_to_mae_and_rmse_only():
    """Shuffling the generated samples keeps the distribution but breaks the pairs."""
    real = responses(0)
    shuffled = Residuals.between(real, real[np.random.default_rng(0).permutation(len(real))])
    assert ws(shuffled) == 0
    assert mae(shuffled) > 1
    assert rmse(shuffled) > 1


def test_scale():
    """Photon units: ten times the photons, ten times every distance."""
    one, ten = (Residuals.between(f * responses(0), f * responses(1)) for f in (1, 10))
    for metric in (ws, mae, rmse):
        assert metric(ten) == pytest.approx(10 * metric(one), rel=1e-12)


def test_weights():
    residuals = Residuals.between(responses(0), responses(1))
    rng = np.random.default_rng(0)
    diversity = rng.uniform(size=300)
    expected = np.average(residuals.absolute, weights=1 - diversity)
    assert mae_weighted(residuals, diversity) == pytest.approx(expected, rel=1e-12)
    assert mae_weighted(residuals, np.full(300, 0.7)) == pytest.approx(mae(residuals), rel=1e-12)
    assert np.isnan(mae_weighted(residuals, np.ones(300)))
    only = np.ones(300)
    only[17] = 0.5
    assert mae_weighted(residuals, only) == pytest.approx(residuals.absolute[17])


def test_species_are_separated():
    pdg = np.array([2112, 3122, 310, 3222, 22, 2112] * 50)
    real, generated = responses(0), responses(1)
    diversity = np.linspace(0, 1, 300)
    found = channel_metrics(Residuals.between(real, generated), pdg, diversity, "faster-zdc")
    assert list(found) == [*SPECIES, "all"] and np.isnan(found["p"]["WS"])  # no proton among them
    for name, code in {"gamma": 22, "n": 2112, "Lambda": 3122, "K0S": 310, "Sigma+": 3222, "all": None}.items():
        rows = np.ones(300, bool) if code is None else pdg == code
        part = Residuals.between(real[rows], generated[rows])
        expected = {
            "WS": ws(part),
            "MAE": mae(part, "faster-zdc"),
            "RMSE": rmse(part, "faster-zdc"),
            "MAE_w": mae_weighted(part, diversity[rows]),
        } | {f"WS{k + 1}": d for k, d in enumerate(wasserstein(part.real, part.generated))}
        assert found[name] == pytest.approx(expected, rel=1e-12)


def test_missing_species_is_nan():
    found = channel_metrics(Residuals.between(REAL, MADE), np.array([22, 22]), np.zeros(2))
    assert np.isnan(list(found["Lambda"].values())).all()
    assert found["all"]["WS"] == pytest.approx(0.2)
    assert len(np.arange(2)[species_rows(np.array([22, 22]))["n"]]) == 0


def test_over_runs():
    runs = [{"n": {"WS": w, "MAE": 2 * w}} for w in (1.0, 2.0, 6.0)]
    assert over_runs(runs) == {"n": {"WS": (3.0, pytest.approx(7**0.5)), "MAE": (6.0, pytest.approx(28**0.5))}}
    assert over_runs(runs[:1]) == {"n": {"WS": (1.0, 0.0), "MAE": (2.0, 0.0)}}
    with pytest.raises(ValueError, match="at least one generation"):
        over_runs([])


NAN = np.where(np.arange(2)[:, None, None] == 1, np.nan, REAL)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: Residuals.between(REAL, MADE[:1]), r"\(2, 2, 2\) and \(1, 2, 2\)"),
        (lambda: Residuals.between(REAL[0], MADE[0]), r"one shape \(N, nx, ny\)"),
        (lambda: Residuals.between(REAL[:0], MADE[:0]), r"received \(0, 2, 2\)"),
        (lambda: Residuals.between(REAL, NAN), "received NaN or infinity from row 0 on"),
        (lambda: Residuals.between(REAL, np.full(REAL.shape, np.inf)), "received NaN or infinity"),
        (lambda: Residuals.between(REAL, MADE, "nobody"), "Unknown channel convention"),
        (lambda: mae(Residuals.between(REAL, MADE), "nobody"), "Unknown convention 'nobody'; expected one of zdc"),
        (lambda: rmse(Residuals.between(REAL, MADE), "nobody"), "Unknown convention"),
        (lambda: mae_weighted(Residuals.between(REAL, MADE), np.zeros(3)), r"shape \(2,\), received \(3,\)"),
        (lambda: mae_weighted(Residuals.between(REAL, MADE), np.array([0, 1.5])), r"in \[0, 1\], received 0.0 to 1.5"),
        (lambda: mae_weighted(Residuals.between(REAL, MADE), np.array([0, np.nan])), r"Expected diversity in \[0, 1\]"),
        (lambda: channel_metrics(Residuals.between(REAL, MADE), np.zeros(3), np.zeros(2)), r"received \(3,\) and"),
        (lambda: wasserstein(np.zeros((2, 3)), np.zeros((2, 4))), r"received \(2, 3\) and \(2, 4\)"),
        (lambda: wasserstein(np.zeros((0, 3)), np.zeros((2, 3))), r"received \(0, 3\)"),
        (lambda: wasserstein(np.full((2, 3), np.nan), np.zeros((2, 3))), "Expected finite values"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
