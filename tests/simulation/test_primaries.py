import json
import platform
import runpy
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from zdckeras.data.detectors import DETECTORS
from zdckeras.data.particles import COLUMN
from zdckeras.simulation.primaries import TABLE, draw_generated, draw_primaries, draw_spectators, load_table
from zdckeras.simulation.transport import transport

TOOL = Path(__file__).parents[2] / "tools" / "make_primaries.py"


@pytest.fixture(scope="module")
def sample():
    return draw_primaries(60_000, 1, repeated=0.0)


@pytest.fixture(scope="module")
def in_zn(sample):
    """Rows that bring at least 40 GeV to ZN."""
    arrivals = transport(*sample, 2)["zn"]
    return np.bincount(arrivals.primary, arrivals.energy, minlength=len(sample[1])) > 40


def test_packaged_table():
    table = load_table()
    assert 30_000 < len(table.pdg) < 70_000
    assert TABLE.stat().st_size < 600_000
    assert len(set(table.pdg.tolist())) >= 21
    assert table.metadata["generator"] == "Pythia"
    assert table.metadata["events"] == 100_000
    assert (table.pt / table.pz).max() < 7.01e-4
    assert table.cumulative[-1] == 1
    assert (np.diff(table.cumulative) > 0).all()
    assert {310, 3122, 3222} <= set(table.pdg.tolist())  # kept for the transport
    assert not {111, 221, 3212, 12, 13, 14} & set(np.abs(table.pdg).tolist())  # decayed there, or never seen


def test_conditions_are_on_shell_and_charged_as_their_species(sample):
    conditions, pdg = sample
    assert (conditions.shape, conditions.dtype, pdg.dtype) == ((60_000, 9), np.dtype("float64"), np.dtype("int32"))
    energy, mass = conditions[:, 0], conditions[:, COLUMN["mass"]] / 1000
    np.testing.assert_allclose(energy**2, (conditions[:, 4:7] ** 2).sum(axis=1) + mass**2, rtol=1e-12)
    assert set(conditions[pdg == 2212, COLUMN["charge"]].tolist()) == {1.0}
    assert set(conditions[pdg == 3122, COLUMN["mass"]].tolist()) == {1115.683}


def test_both_sides_and_all_azimuths(sample):
    conditions, pdg = sample
    size = len(pdg)
    assert (conditions[:, 6] > 0).sum() == pytest.approx(size / 2, abs=4 * np.sqrt(size / 4))
    azimuth = np.arctan2(conditions[:, 5], conditions[:, 4])
    for harmonic in (1, 2):
        assert abs(np.exp(1j * harmonic * azimuth).mean()) < 4 / np.sqrt(size)
    assert conditions[:, 1:4].std(axis=0).tolist() == pytest.approx([4.15e-6, 4.42e-6, 0.0245], rel=0.02)
    assert (np.abs(conditions[:, 1:4].mean(axis=0)) < 4 * conditions[:, 1:4].std(axis=0) / np.sqrt(size)).all()


def test_what_zn_sees_resembles_the_real_training_set(sample, in_zn):
    conditions, pdg = sample[0][in_zn], sample[1][in_zn]
    assert conditions[:, 0].mean() == pytest.approx(1367, rel=0.2)
    assert conditions[:, 0].std() == pytest.approx(1260, rel=0.35)
    assert conditions[:, 6].std() == pytest.approx(1858, rel=0.25)
    assert conditions[:, 4:6].std(axis=0).tolist() == pytest.approx([0.235, 0.258], rel=0.4)
    assert conditions[:, 7].mean() == pytest.approx(354, abs=70)
    assert conditions[:, 7].std() == pytest.approx(455, rel=0.1)
    assert conditions[:, 8].mean() == pytest.approx(0.063, abs=0.04)
    order = [code for code, _ in Counter(pdg.tolist()).most_common(6)]
    assert order[:4] == [22, 2112, 3122, 310]
    assert set(order[4:]) == {130, 3222}
    assert in_zn.mean() > 0.25


def test_draws_follow_the_weights_of_the_table():
    table = load_table()
    _, pdg = draw_generated(40_000, np.random.default_rng(4))
    weight = np.diff(table.cumulative, prepend=0)
    for code in (22, 2112, 2212, 310):
        expected = weight[table.pdg == code].sum()
        assert (pdg == code).mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / 40_000))


def test_spectators_have_the_fermi_motion_of_lead():
    size = 50_000
    momentum, pdg = draw_spectators(size, np.random.default_rng(0))
    assert (pdg == 2212).mean() == pytest.approx(82 / 208, abs=4 * np.sqrt(0.24 / size))
    pt = np.hypot(momentum[:, 0], momentum[:, 1])
    assert pt.max() < 0.265
    assert momentum[:, 0].std() == pytest.approx(0.265 / np.sqrt(5), rel=0.02)
    mass = np.where(pdg == 2212, 0.938272, 0.939565)
    energy = np.sqrt((momentum**2).sum(axis=1) + mass**2)
    assert energy.mean() == pytest.approx(2680, rel=4 * 0.13 / np.sqrt(size))
    assert energy.max() / 2680 == pytest.approx(1.31, abs=0.03)
    assert momentum[:, 2].std() / 2680 == pytest.approx(0.265 / np.sqrt(5) / 0.9614, rel=0.02)  # <E*> = 0.9614 GeV


def test_spectators_arrive_where_they_are_looked_for():
    conditions, pdg = draw_primaries(4000, 3, repeated=0.0, spectators=1.0)
    arrivals = transport(conditions, pdg, 0)
    neutrons = (pdg == 2112).sum()
    assert len(arrivals["zn"]) == neutrons
    assert len(arrivals["zp"]) / (len(pdg) - neutrons) > 0.95
    half = DETECTORS["zp"].half_size[0]
    assert np.abs(arrivals["zp"].x).mean() < half / 2


@pytest.mark.parametrize(("size", "repeated"), [(5000, 0.5), (5000, 1.0), (5000, 0.0), (7, 0.5), (1, 1.0), (0, 0.5)])
def test_repeated_conditions(size, repeated):
    conditions, pdg = draw_primaries(size, 2, repeated=repeated)
    assert len(conditions) == len(pdg) == size
    _, counts = np.unique(conditions, axis=0, return_counts=True)
    many = counts[counts > 1] if size > 10 else counts
    if size == 5000:
        assert counts[counts > 1].sum() == pytest.approx(size * repeated, abs=1)
        assert counts.max() <= (60 if repeated else 1)
        assert (many < 20).sum() <= 1
        assert len(counts) == pytest.approx(size * (1 - repeated) + size * repeated / 40, rel=0.1)
    assert counts.sum() == size


def test_copies_are_shuffled_in():
    conditions, _ = draw_primaries(5000, 2, repeated=1.0)
    same = (conditions[1:] == conditions[:-1]).all(axis=1)
    assert same.mean() < 0.05


def test_repeated_and_single_conditions_are_alike():
    conditions, pdg = draw_primaries(200_000, 8, spectators=0.3)
    _, index, counts = np.unique(conditions, axis=0, return_index=True, return_counts=True)
    once, often = pdg[index[counts == 1]], pdg[index[counts > 1]]
    for code in (22, 2112):
        p = (once == code).mean()
        assert (often == code).mean() == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / len(often)))


def test_seeds_repeat_and_differ():
    first, again, other = (draw_primaries(500, seed)[0] for seed in (1, np.random.default_rng(1), 2))
    np.testing.assert_array_equal(first, again)
    assert not np.isin(first[:, 4], other[:, 4]).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": -1}, "at least 0, received -1"),
        ({"size": 1.5}, "received 1.5"),
        ({"size": 5, "repeated": 1.2}, r"`repeated` in \[0, 1\], received 1.2"),
        ({"size": 5, "spectators": -0.1}, r"`spectators` in \[0, 1\], received -0.1"),
        ({"size": 5, "repeated": float("nan")}, "received nan"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_primaries(rng=0, **arguments)


def test_bad_tables(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_table(tmp_path / "none.npz")
    truncated = tmp_path / "truncated.npz"
    truncated.write_bytes(TABLE.read_bytes()[:5000])
    with pytest.raises(ValueError, match="not a readable table"):
        load_table(truncated)
    columns = {"pt": np.ones(2), "pz": np.ones(2), "pdg": np.array([22, 22])}
    lacking = tmp_path / "lacking.npz"
    np.savez(lacking, **columns)
    with pytest.raises(ValueError, match="metadata"):
        load_table(lacking)
    uneven = tmp_path / "uneven.npz"
    np.savez(uneven, **(columns | {"pt": np.ones(3)}), metadata=np.array(json.dumps({"kept": {}})))
    with pytest.raises(ValueError, match="equally long"):
        load_table(uneven)
    strange = tmp_path / "strange.npz"
    np.savez(strange, **(columns | {"pdg": np.array([22, 5554])}), metadata=np.array(json.dumps({"kept": {}})))
    with pytest.raises(ValueError, match="5554"):
        load_table(strange)


def test_tool_makes_a_table_that_can_be_drawn_from(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pythia8mc")
    path = tmp_path / "table.npz"
    monkeypatch.setattr(sys, "argv", [str(TOOL), "--events", "60", "--seed", "1", "--output", str(path)])
    runpy.run_path(str(TOOL), run_name="__main__")
    assert list(tmp_path.iterdir()) == [path]
    assert f"{path}: " in capsys.readouterr().out
    made, packaged = load_table(path), load_table()
    assert made.metadata == packaged.metadata | {"events": 60, "version": made.metadata["version"]}
    assert (made.pt < 7.01e-4 * made.pz).all()
    conditions, pdg = draw_primaries(50, 1, spectators=0.0, path=path)
    assert set(pdg.tolist()) <= set(made.pdg.tolist())
    assert np.isin(np.abs(conditions[:, 6]), made.pz).all()
    if made.metadata["version"] == packaged.metadata["version"] and platform.machine() == "x86_64":
        np.testing.assert_array_equal(made.pdg, packaged.pdg[: len(made.pdg)])  # the same seed, the same collisions
        np.testing.assert_allclose(made.pz, packaged.pz[: len(made.pz)], rtol=1e-6)
