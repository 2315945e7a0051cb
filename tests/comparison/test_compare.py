import json
from pathlib import Path

import numpy as np
import pytest

import zdckeras as zdc
from tests.comparison.conftest import Rolled
from zdckeras.comparison.compare import _with_floor
from zdckeras.data.particles import conditions_of
from zdckeras.data.repeats import condition_statistics, repeated_pairs
from zdckeras.data.showers import concatenate
from zdckeras.metrics.report import score, without_nan
from zdckeras.provenance import save_model, sketch_of
from zdckeras.simulation import reference

SIZE = 60
OLD = Path(__file__).parents[1] / "data" / "old" / "gan.keras"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(reference, "PRIMARIES_AT_ONCE", 800)


@pytest.fixture(scope="module")
def real():
    """Repeated particles with few photons in ZN."""
    rng = np.random.default_rng(0)
    pdg = np.repeat([2112, 22], 20)
    momentum = np.column_stack([np.zeros((40, 2)), rng.uniform(100.0, 2600.0, 40)])
    conditions = np.repeat(conditions_of(pdg, momentum), 2, axis=0)
    return zdc.Showers(conditions, np.repeat(pdg, 2), {"zn": rng.poisson(0.5, (80, 44, 44)).astype("uint16")})


def test_embedded_test_set_of_the_detector():
    test = zdc.load("zn", "test", size=SIZE)
    table = zdc.compare(Rolled(test), size=SIZE, runs=2, seed=3)
    assert list(table.scores) == ["floor", "other library", "rolled"]
    diversity = condition_statistics(test).diversity if len(np.unique(test.particles, axis=0)) < SIZE else np.ones(SIZE)
    again = [zdc.resimulate(test, k).response for k in (2, 3, 1)]
    assert table.scores["floor"]["metrics"]["all"]["WS"] == score(test, again, diversity)["metrics"]["all"]["WS"]
    made = [Rolled(test).sample(test.particles, seed=[3, run]) for run in range(2)]
    assert table.scores["rolled"]["auc"] == score(test, made, diversity, seed=3)["auc"]
    assert table.scores["rolled"]["detector"] == "zn" and table.scores["rolled"]["runs"] == 2


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 9])
def test_showers_simulated_anew_are_not_their_own_floor(seed):
    test = zdc.resimulate(zdc.load("zn", "test", size=20), seed)
    _, floor = _with_floor(test, 0)
    assert len(floor) == 3 and not any(np.array_equal(second.response, test.response) for second in floor)


def test_repeated_conditions_of_other_data_are_their_floor(real, tmp_path):
    expected, second = repeated_pairs(real, 5)
    path = zdc.write_root(real, tmp_path / "real.root")
    for showers in (real, path, str(path)):
        table = zdc.compare({"a": Rolled(real), "b": Rolled(real, shift=2)}, showers, runs=1, seed=5)
        assert list(table.scores) == ["floor", "a", "b"]
        diversity = condition_statistics(concatenate([expected, second])).diversity[: len(expected)]
        floor = score(expected, [second.response], diversity, seed=5)
        assert table.scores["floor"]["metrics"]["all"]["MAE_w"] == floor["metrics"]["all"]["MAE_w"]


def test_channels_of_the_proton_paper(real):
    table = zdc.compare(Rolled(real), real, runs=1, channels="proton-paper")
    assert {one["channels"] for one in table.scores.values()} == {"proton-paper"} == {table.provenance["channels"]}
    first = zdc.compare(Rolled(real), real, runs=1).scores["rolled"]
    assert table.scores["rolled"]["metrics"]["all"]["WS"] != first["metrics"]["all"]["WS"]
    assert table.scores["rolled"]["metrics"]["all"]["RMSE"] == first["metrics"]["all"]["RMSE"]
    with pytest.raises(ValueError, match="Unknown channel convention 'mine'; expected one of papers, proton-paper, o2"):
        zdc.compare("no such model", channels="mine")


def test_without_repeated_conditions_there_is_no_floor(real):
    table = zdc.compare(Rolled(real), real[::2], runs=1)
    assert list(table.scores) == ["rolled"] and table.scores["rolled"]["showers"] == 40
    assert np.isnan(table.scores["rolled"]["metrics"]["all"]["MAE_w"][0]) and "MAE_w" in table.text()


def test_showers_below_the_cut_are_not_resimulated():
    """Resimulated showers pass the photon cut; those of a test set with all of them need not."""
    (everything,) = reference.draws("zn", size=50, keep_all=True)
    assert list(zdc.compare(Rolled(everything), everything, runs=1).scores)[-1] == "rolled"


def test_energies_are_compared_too():
    test = zdc.load("ecal", "test", size=30)
    table = zdc.compare(Rolled(test), size=30, runs=1)
    assert list(table.scores) == ["floor", "other library", "rolled"]
    assert "in MeV (detector ecal, showers 30" in table.markdown()


def test_a_table_is_the_same_when_made_again(real):
    first, again, other = (zdc.compare({"old": OLD}, real, runs=2, seed=seed, pixels=16).scores for seed in (3, 3, 4))
    assert json.dumps(without_nan(first)) == json.dumps(without_nan(again))
    assert first["old"]["metrics"]["all"]["WS"] != other["old"]["metrics"]["all"]["WS"]


def test_one_of_several_detectors():
    both = zdc.load("zn+zp", "test", size=SIZE)
    table = zdc.compare(Rolled(both), size=SIZE, runs=1, detector="zp")
    expected = score(both, [np.roll(both.response_of("zp"), 1, axis=0)], np.ones(SIZE), "zp")
    assert table.scores["rolled"]["detector"] == "zp" and table.scores["rolled"]["shapes"] == expected["shapes"]
    with pytest.raises(ValueError, match="These showers have several detectors, zn, zp: name one"):
        zdc.compare(Rolled(both), size=SIZE, runs=1)


def test_showers_of_both_judge_a_generator_of_one():
    """By those that pass its own detector's cut; beside a generator of both by all of them."""
    both, old = zdc.load("zn+zp", "test", size=SIZE), zdc.load_model(OLD)
    lit = both.only("zn").at_least()
    table = zdc.compare({"old": old}, both, runs=1, seed=3)
    assert table.provenance["detector"] == "zn" and table.provenance["showers"] == len(lit) < SIZE
    made = old.sample(lit.particles, seed=[3, 0], at_least={"zn": 10})
    assert table.scores["old"]["shapes"] == score(lit, [made], np.ones(len(lit)), "zn", seed=3)["shapes"]
    table = zdc.compare({"old": old, "rolled": Rolled(both)}, both, runs=1, detector="zn")
    assert table.provenance["showers"] == SIZE and {"old", "rolled"} <= set(table.scores)


def test_a_model_that_fails_does_not_stop_the_others(real):
    class Broken(Rolled):
        def predict_on_batch(self, x):
            return super().predict_on_batch(x) - 1.0

    table = zdc.compare({"a": Rolled(real), "b": Broken(real), "c": "gone.keras"}, real, runs=1)
    assert list(table.scores) == ["floor", "a"] and list(table.looks) == ["real", "floor", "a"]
    assert table.failures["c"] == "No such file: gone.keras" and "whole photons from 0" in table.failures["b"]
    with pytest.raises(ValueError, match="whole photons from 0"):
        zdc.compare(Broken(real), real, runs=1)


def test_showers_of_the_training_are_refused(real, tmp_path):
    generator, name = zdc.load_model(OLD), tmp_path / "gan.keras"
    light = zdc.load("zn", "test", size=40)
    save_model(generator, name, {}, sketch_of([light[:30]]))
    with pytest.raises(ValueError, match="not trained on, received 40 of which at least 30 are training rows"):
        zdc.compare(name, light, runs=1)
    forced = zdc.compare({"gan": name}, light, runs=1, force=True)
    assert forced.costs["gan"]["overlap"] == "30 of 40" and forced.costs["gan"]["kind"] == "GanGenerator"
    assert zdc.compare({"gan": name}, light[30:], runs=1).costs["gan"]["overlap"] == "0 of 10"


def test_own_test_part_is_what_recipes_leave(real, tmp_path):
    """All of the file is refused, its test part is not, and has the rows of the papers' split."""
    name, path = tmp_path / "gan.keras", tmp_path / "own.root"
    own = zdc.load("zn", "test", size=200)
    zdc.write_root(zdc.Showers(np.tile(own.particles[:1], (200, 1)), np.full(200, own.pdg[0]), own.responses), path)
    training, validation, test = zdc.open_showers(path).at_least().split()
    save_model(zdc.load_model(OLD), name, {}, sketch_of([training, validation]))
    with pytest.raises(ValueError, match="received 200 of which at least 160 are .*; --part test .part='test'. takes"):
        zdc.compare(name, path, runs=1)
    table = zdc.compare({"gan": name}, path, runs=1, part="test")
    assert table.costs["gan"]["overlap"] == "0 of 40" and table.provenance["part"] == "test"
    assert table.provenance["judged"] == 20 and table.provenance["showers"] == 40  # the other half is the floor
    expected, _ = repeated_pairs(test, 0)
    assert np.array_equal(table.looks["real"].response, expected.response)
    with pytest.raises(ValueError, match="part: expected all or test, received 'training'"):
        zdc.compare(name, path, part="training")


def test_what_does_not_belong_together(real):
    zp = zdc.load("zp", "test", size=4)
    for arguments, message in (
            (([],), "at least one model, each with a name of its own, received \\[\\]"),
            (([Rolled(real), Rolled(real)],), "received \\['rolled', 'rolled'\\]; give a dictionary"),
            (([Rolled(real), Rolled(zp, name="b")],), "same detectors, or .*; received generators of zn, zp"),
            ((Rolled(zp), real), "These showers have no detector 'zp', only zn"),
            ((Rolled(zp), "zn"), "Expected showers of zp to judge by, received those of zn"),
            (([Rolled(real), Rolled(zp, name="b")], real), "b: expected a generator of zn, received one of zp"),
            (({"a": 3},), "3: expected a generator .Sampler., received int")):
        with pytest.raises(ValueError, match=message):
            zdc.compare(*arguments)
    with pytest.raises(FileNotFoundError, match="No such file: a.keras"):
        zdc.compare("a.keras")


@pytest.mark.parametrize("name", ["real", "floor", "other library", "Geant4"])
def test_names_of_other_rows_are_refused(name):
    with pytest.raises(ValueError, match=f"a name of its own for every model, received {name!r}"):
        zdc.compare({"zn": "zn", name: "zn"})
