import numpy as np
import pytest
from scipy.stats import ks_2samp

from zdckeras.data.particles import conditions_of
from zdckeras.data.showers import Showers
from zdckeras.modular import arrivals as arrivals_module
from zdckeras.modular.arrivals import (
    ArrivalBatches,
    draw_arrivals,
    respond,
    simulated_arrivals,
    single_arrivals,
    single_scores,
)
from zdckeras.simulation.reference import half_libraries, load
from zdckeras.simulation.response_fit import FITTED_KINDS


@pytest.mark.parametrize(("detector", "half"), [("zn", (3.52, 3.52)), ("zp", (11.2, 6.0))])
def test_arrivals_are_those_asked_for(detector, half):
    arrivals = draw_arrivals(detector, 20_000, 1)
    assert all(np.abs(arrivals[name]).max() <= h for name, h in zip("xy", half, strict=True))
    assert arrivals["x"].std() == pytest.approx(half[0] / np.sqrt(3), rel=0.02)
    nucleon = np.isin(arrivals["kind"], [1, 2])
    assert ((arrivals["energy"] > 2300) & nucleon).sum() > 0.25 * nucleon.sum()
    assert set(arrivals["kind"]) == set(range(len(FITTED_KINDS)))
    with pytest.raises(ValueError, match="zn, zp, ecal, focalh; received 'em'"):
        draw_arrivals("em", 5, 1)


@pytest.mark.parametrize("size", [-1, 1.5, None])
@pytest.mark.parametrize("draw", [draw_arrivals, simulated_arrivals])
def test_numbers_of_arrivals_are_whole(draw, size):
    for detector in ("zn", "ecal"):
        with pytest.raises(ValueError, match="^size: expected a whole number of at least"):
            draw(detector, size, 1)


@pytest.mark.parametrize(("detector", "beam"), [("zn", 2112), ("zp", 2212)])
def test_simulated_arrivals_are_those_of_the_primaries(detector, beam):
    """As many of each kind, at such energies and places, as transported primaries of another seed have."""
    arrivals, other = simulated_arrivals(detector, 4000, 3), simulated_arrivals(detector, 6000, 4)
    for name in ("energy", "x", "y"):
        assert ks_2samp(arrivals[name], other[name]).pvalue > 1e-3
    near = (arrivals["kind"] == FITTED_KINDS.index(beam)) & (arrivals["energy"] > 2000)
    broad = draw_arrivals(detector, 4000, 3)
    assert near.mean() > 0.15
    assert arrivals["y"][near].std() < 0.5 * broad["y"].std()  # the beam's spot


@pytest.mark.parametrize("detector, share", [("zn", 0.5), ("zp", 0.0)])
def test_trainings_see_beam_energies_as_often_as_is_good_for_them(detector, share):
    def high(arrivals):
        return (arrivals["energy"] > 2000).mean()

    expected = (1.0 - share) * high(draw_arrivals(detector, 2000, 5)) + share * high(
        simulated_arrivals(detector, 2000, 5))
    assert high(ArrivalBatches(detector, 2000, 1, 100, seed=1).arrays) == pytest.approx(expected, abs=0.04)


def test_epochs_are_fresh_draws_that_repeat():
    one, other = (ArrivalBatches("zn", 40, 4, 20, seed=2, latent=3) for _ in range(2))
    first = one[0][0]
    one.start_epoch(1)
    second = one[0][0]
    other.start_epoch(1)
    assert all(np.array_equal(second[name], other[0][0][name]) for name in second)
    assert not np.array_equal(np.sort(first["energy"]), np.sort(second["energy"]))
    assert first["beta"][0] == pytest.approx(0.03) and second["z"].shape == (20, 3)
    one.start_epoch(3)
    assert one[1][0]["beta"][0] == 1.0


@pytest.mark.parametrize("detector", ["zn", "ecal"])
def test_responses_are_those_of_the_library_given(detector):
    arrivals, (first, second) = draw_arrivals(detector, 20, 1), half_libraries(detector)
    made = [respond(detector, arrivals, 5, showers) for showers in (None, first, second, first)]
    assert (made[1] == made[3]).all() and all((made[a] != made[b]).any() for a, b in ((0, 1), (0, 2), (1, 2)))


def test_nucleons_arrive_with_their_mass_besides_what_they_put_into_a_shower():
    class Told:
        def respond(self, primary, pdg, energy, x, y, size, rng):
            return primary, pdg, energy, x, y, size, rng

    arrivals = {"kind": np.arange(6), "energy": np.linspace(5.0, 55.0, 6), "x": np.arange(6.0), "y": -np.arange(6.0)}
    primary, pdg, energy, x, y, *rest = respond("zn", arrivals, 7, Told())
    assert pdg.tolist() == [22, 2112, 2212, 130, 211, -211] and primary.tolist() == list(range(6)) and rest == [6, 7]
    np.testing.assert_allclose(energy - arrivals["energy"], [0.0, 0.93957, 0.93827, 0.0, 0.0, 0.0], atol=1e-5)
    np.testing.assert_array_equal([x, y], [arrivals["x"], arrivals["y"]])


def test_own_particles_that_arrive_as_they_started():
    showers = load("zn", "train", 300)
    arrivals, responses = single_arrivals(showers)
    stable = np.isin(showers.pdg, [22, 2112, 130])
    assert len(responses) == len(arrivals["kind"]) and len(responses) == pytest.approx(stable.sum(), abs=10)
    light = responses.sum(axis=(1, 2))[arrivals["kind"] == 0] / arrivals["energy"][arrivals["kind"] == 0]
    assert np.median(light) == pytest.approx(0.8, abs=0.15)  # photons a GeV
    particles, pdg = showers.particles.copy(), showers.pdg.copy()
    particles[0, 7:], pdg[0] = (193_729.0, 82.0), 1000822080  # lead, which no library shower stands for
    particles[0, 0] = np.sqrt((particles[0, 4:7] ** 2).sum() + 193.729**2)
    with_lead = single_arrivals(Showers(particles, pdg, showers.responses))[1]
    assert len(responses) - len(with_lead) == np.isin(showers.pdg[0], [22, 2112, 130])
    lambdas = Showers(conditions_of(np.array([3122]), np.array([[0, 0, 900.0]])), np.array([3122]),
                      {"zn": np.ones((1, 44, 44), "uint16")})
    with pytest.raises(ValueError, match="arrive in zn as they started, received none in 1"):
        single_arrivals(lambdas)
    assert len(single_arrivals(showers, len(responses))[1]) == len(responses)
    with pytest.raises(ValueError, match=f"at least {len(responses) + 1} particles that arrive in zn as they started, "
                                         f"received {len(responses)} in {len(showers)}"):
        single_arrivals(showers, len(responses) + 1)


@pytest.mark.parametrize("detector", ["zn", "ecal"])
def test_of_responses_on_disk_only_the_rows_that_are_needed_are_read(detector, monkeypatch):
    showers, asked = load(detector, "train", 60), []
    expected = single_arrivals(showers)[1]
    monkeypatch.setattr(arrivals_module, "selected", lambda values, rows: asked.append((values, rows)) or values[rows])
    found = single_arrivals(showers)[1]
    ((values, rows),) = asked
    assert values is showers.response and np.array_equal(expected, found) and np.array_equal(values[rows], found)


def test_scores_of_equal_and_of_other_responses():
    arrivals = draw_arrivals("zn", 240, 5)
    first, second = (respond("zn", arrivals, seed) for seed in (1, 2))
    same, other = single_scores(arrivals, first, second, pairs=64), single_scores(arrivals, first, 2 * second, pairs=64)
    assert abs(same["AUC"] - 0.5) < 0.15 < other["AUC"] - 0.5 and other["WS"] > 5 * same["WS"]
