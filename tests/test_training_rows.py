import numpy as np

from zdckeras import provenance
from zdckeras.data.files import open_showers, write_npz, write_root
from zdckeras.data.particles import conditions_of
from zdckeras.data.showers import Showers
from zdckeras.provenance import overlap, row_hashes, sketch_of
from zdckeras.simulation.reference import load


def draw(rows, seed, detectors=("zn",), light=1.0):
    """Equal particles whose responses differ."""
    rng, pdg = np.random.default_rng(seed), np.full(rows, 2112)
    shapes = {"zn": (44, 44), "zp": (56, 30), "ecal": (30, 30)}
    return Showers(conditions_of(pdg, np.tile([0.0, 0.0, 2500.0], (rows, 1))), pdg,
                   {name: rng.poisson(light, (rows, *shapes[name])) for name in detectors})


def test_common_rows_are_counted_in_any_order_and_after_a_file(tmp_path):
    train, other = draw(30, 0), draw(20, 1)
    sketch = sketch_of([train[:10], train[10:]])
    assert overlap(sketch, other) == 0 and overlap(sketch, train[::-1]) == 30 and overlap(sketch, train[5:12]) == 7
    write_npz(train, tmp_path / "folder")
    for path in (write_root(train, tmp_path / "train.root"), tmp_path / "folder"):
        assert overlap(sketch, open_showers(path)) == 30


def test_each_detector_has_its_own():
    both, alone = draw(8, 2, ("zn", "zp")), draw(8, 3, ("zp",))
    sketch = sketch_of([both])
    assert overlap(sketch, both.only("zp")) == 8 and overlap(sketch, alone) == 0
    assert overlap(sketch, draw(3, 0, ("ecal",))) is None


def test_dim_rows_prove_nothing():
    """Two responses of one photon to one particle are often equal."""
    dim = draw(20, 4, light=1e-3)
    assert len(row_hashes(dim)) == 0 and overlap(sketch_of([dim]), dim) == 0


def test_a_sketch_is_a_fair_sample(monkeypatch):
    monkeypatch.setattr(provenance, "KEPT", 100)
    train = draw(400, 5)
    sketch = sketch_of([train[:150], train[150:]])
    assert len(sketch["zn"]) == 100 and np.array_equal(sketch["zn"], row_hashes(train)[:100])
    assert 25 < overlap(sketch, train[:200]) < 75 and overlap(sketch, draw(200, 6)) == 0


def test_embedded_training_and_test_showers_have_nothing_in_common():
    sketch = sketch_of([load("zn", "train", 200)])
    assert overlap(sketch, load("zn", "test", 200)) == 0 and overlap(sketch, load("zn", "train", 50)) == 50
