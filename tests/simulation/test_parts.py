import numpy as np
import pytest

from zdckeras.data.files import write_npz, write_root
from zdckeras.data.particles import conditions_of
from zdckeras.data.showers import PAPER_PHOTONS, Showers
from zdckeras.simulation import reference
from zdckeras.simulation.parts import apart, showers_for

SIZES = dict(train=30, validation=12, test=9, epochs=7)
pytestmark = pytest.mark.usefixtures("small_blocks")


def same(a, b):
    return (np.array_equal(a.particles, b.particles) and np.array_equal(a.pdg, b.pdg)
            and all(np.array_equal(r, b.responses[name]) for name, r in a.responses.items()))


def own(detector="zn", shape=(44, 44), conditions=40, repeats=5, dim=20):
    """Showers of neutrons with repeated conditions, the first `dim` of them with nine photons."""
    rng = np.random.default_rng(0)
    momentum = np.column_stack([rng.normal(0.0, 0.3, (conditions, 2)), rng.uniform(100.0, 2600.0, conditions)])
    pdg = np.full(conditions * repeats, 2112)
    counts = rng.poisson(0.3, (len(pdg), *shape)).astype("uint16")
    counts[:dim] = 0
    counts[:dim, 1, :9] = 1
    return Showers(conditions_of(pdg, np.repeat(momentum, repeats, axis=0)), pdg, {detector: counts})


def test_embedded_showers():
    """Independent parts of the asked sizes, and a floor of further responses to the very particles of the test."""
    training, validation, test, floor = showers_for("zn", None, SIZES, (1, 2))
    assert [len(part) for part in (training, validation, test)] == [30, 12, 9]
    assert same(training, reference.load("zn", "train", 30)) and same(test, reference.load("zn", "test", 9))
    assert len(floor) == 2
    for second in floor:
        assert np.array_equal(second.particles, test.particles) and np.array_equal(second.pdg, test.pdg)
        assert (second.response != test.response).any(axis=(1, 2)).mean() > 0.8
        assert second.photon_sums().min() >= PAPER_PHOTONS["zn"]
    assert (floor[0].response != floor[1].response).any()


def test_parts_without_a_size_have_one_shower_and_seeds_differ():
    training, validation, test, floor = showers_for("zn", None, dict(train=5), seed=1)
    assert [len(part) for part in (training, validation, test, *floor)] == [5, 1, 1, 1]
    assert same(training, reference.load("zn", "train", 5, 1)) and not same(training, reference.load("zn", "train", 5))


def test_parts_of_two_libraries():
    """Training and validation answer as the first half of the library does, test and floor as the other half."""
    parts = showers_for("zn", None, SIZES, (1, 2))
    training, validation, test, floor, other = apart(*parts[:3], (1, 2))
    first, second = ({"zn": half} for half in reference.half_libraries("zn"))
    assert same(training, reference.resimulate(parts[0], 1_000_000, first))
    assert same(validation, reference.resimulate(parts[1], 1_000_001, first))
    assert same(test, reference.resimulate(parts[2], 1_000_002, second))
    assert [len(floor), len(other)] == [2, 3]
    assert same(floor[1], reference.resimulate(parts[2], 2, second))
    assert same(other[2], reference.resimulate(parts[2], 1_000_005, first))
    assert len({responses.response.sum() for responses in (test, *floor, *other)}) == 6  # no two have one seed


@pytest.mark.parametrize(("write", "name"), [(write_npz, "folder"), (write_root, "own.root")])
def test_own_showers(tmp_path, write, name):
    """Cut and split as the papers do, whatever sizes and draws are asked; repeated conditions are the floor."""
    showers = own()
    path = write(showers, tmp_path / name)
    training, validation, test, floor = showers_for("zn", str(path), SIZES, (1, 2, 3), seed=2)
    expected = showers[20:].split()
    assert same(training, expected[0]) and same(validation, expected[1])
    assert len(training) == 126 and len(validation) == 18 and list(test.responses) == ["zn"]
    (second,) = floor
    assert 5 < len(test) <= 18 and np.array_equal(second.particles, test.particles)
    assert (second.response != test.response).any(axis=(1, 2)).all()
    whole = {row.tobytes() for row in expected[2].response}
    used = [{row.tobytes() for row in part.response} for part in (test, second)]
    assert used[0] | used[1] <= whole and not used[0] & used[1]
    other = showers_for("zn", str(path), SIZES, seed=3)[3][0]
    assert len(other) == len(second) and not same(other, second)


def test_own_energies_are_not_cut(tmp_path):
    showers = own("ecal", (30, 30))
    training, validation, test, _ = showers_for("ecal", write_root(showers, tmp_path / "own.root"), {})
    assert len(training) == 140 and len(validation) == 20 and test.response.dtype == np.float32
    assert min(part.photon_sums().min() for part in (training, validation, test)) == 9.0


def test_own_showers_that_cannot_serve_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="No such file or folder"):
        showers_for("zn", tmp_path / "nothing.root", SIZES)
    with pytest.raises(ValueError, match="none of 10 showers has at least 10 photons"):
        showers_for("zn", write_npz(own(conditions=5, repeats=2), tmp_path / "dim"), SIZES)
    for detector in ("zp", "ecal", "zn+zp"):
        with pytest.raises(ValueError, match="These showers have no detector '(zp|ecal)', only zn"):
            showers_for(detector, tmp_path / "dim", SIZES)


def test_own_showers_of_both_detectors_are_cut_in_either(tmp_path):
    first = own(conditions=60, repeats=1, dim=30)
    counts = np.zeros((60, 56, 30), "uint16")
    counts[10:25, 3, 3] = 1
    both = Showers(first.particles, first.pdg, {**first.responses, "zp": counts})
    path = write_root(both, tmp_path / "own.root")
    assert sum(len(part) for part in showers_for("zn+zp", path, SIZES)[:3]) == 45
    assert sum(len(part) for part in showers_for("zp", path, SIZES)[:3]) == 15
