"""Detectors that read out deposited energies [MeV]: in memory, in npz and in ROOT."""

import numpy as np
import pytest
import uproot

from zdckeras.data.detectors import DETECTORS
from zdckeras.data.files import open_showers, read_npz, read_root, write_npz, write_root
from zdckeras.data.particles import CONDITIONS, conditions_of
from zdckeras.data.showers import Showers, concatenate

LOWEST, HIGHEST = (float(f([np.finfo("float32").tiny, np.finfo("float32").max])) for f in (min, max))


def make(rows=7, detectors=("ecal",), seed=0):
    """Showers with energies that no shorter number can hold; the first one with the ends of float32."""
    rng = np.random.default_rng(seed)
    pdg = rng.choice([11, 211, 2212], rows)
    responses = {}
    for name in detectors:
        shape = (rows, *DETECTORS[name].shape)
        if DETECTORS[name].unit == "photons":
            responses[name] = rng.poisson(0.3, shape).astype("uint16")
        else:
            responses[name] = (rng.exponential(5.0, shape) * (rng.random(shape) < 0.2)).astype("float32")
            responses[name][0, 0, :2] = LOWEST, HIGHEST
    return Showers(conditions_of(pdg, rng.normal(0, 10, (rows, 3))), pdg, responses, {"source": "a test"})


def assert_same(a, b):
    assert sorted(a.responses) == sorted(b.responses) and a.metadata == b.metadata
    for x, y in ((a.particles, b.particles), (a.pdg, b.pdg), *((a.responses[n], b.responses[n]) for n in a.responses)):
        assert x.dtype == y.dtype and np.array_equal(x, y)


def with_value(value, index=(2, 3, 4), dtype="float64"):
    values = make().response.clip(0, 100).astype(dtype)
    values[index] = value
    return values


BAD = [(np.nan, "= nan"), (np.inf, "= inf"), (-np.inf, "= -inf"), (-0.25, r"= -0\.25")]


@pytest.mark.parametrize("value, message", BAD)
def test_impossible_energies_are_refused(value, message):
    showers = make()
    with pytest.raises(ValueError, match=rf"responses\['ecal'\]\[2, 3, 4\] {message}.*non-negative energies in MeV"):
        Showers(showers.particles, showers.pdg, {"ecal": with_value(value)})


def test_energies_of_the_right_type_are_not_copied():
    showers = make(3)
    assert Showers(showers.particles, showers.pdg, {"ecal": showers.response}).response is showers.response


@pytest.mark.parametrize("shape", [(7, 30, 36), (6, 36, 36), (7, 36, 36, 1)])
def test_wrong_shapes(shape):
    showers = make()
    with pytest.raises(ValueError, match=r"responses\['focalh'\]: expected shape \(7, 36, 36\), received"):
        Showers(showers.particles, showers.pdg, {"focalh": np.zeros(shape)})


def test_sums_of_energies_are_in_double_precision():
    showers = make(1)
    response = np.full((1, 30, 30), 1e-4, "float32")
    response[0, 0, 0] = 1e6
    total = Showers(showers.particles, showers.pdg, {"ecal": response}).photon_sums()
    assert total.dtype == np.float64 and total[0] == pytest.approx(1e6 + 899e-4, rel=1e-12)


def test_rows_cuts_and_parts():
    showers = make(40, ("ecal", "focalh"))
    sums = showers.photon_sums("focalh")
    kept = showers.at_least(np.median(sums) + 0.125, "focalh")
    assert np.array_equal(kept.photon_sums("focalh"), sums[sums >= np.median(sums) + 0.125]) and 0 < len(kept) < 40
    both = concatenate([showers[:15], showers[15:]])
    assert_same(both, showers)
    with pytest.raises(ValueError, match="no photon cut for 'ecal': say how many"):
        showers.only("ecal").at_least()


@pytest.mark.parametrize("detectors", [("ecal",), ("focalh",), ("ecal", "focalh"), ("zn", "ecal")])
@pytest.mark.parametrize("write, name", [(write_npz, "folder"), (write_root, "a.root")])
def test_round_trip_is_bit_for_bit(tmp_path, detectors, write, name):
    showers = make(detectors=detectors)
    assert_same(open_showers(write(showers, tmp_path / name)), showers)


def test_root_in_many_chunks(tmp_path):
    """2300 rows, written from two parts and read in three chunks."""
    first, second = make(1400), make(900, seed=1)
    read = read_root(write_root(iter([first, second]), tmp_path / "a.root"))
    assert_same(read, concatenate([first, second]))


def test_root_branches_are_floats_and_unsigned_shorts(tmp_path):
    with uproot.open(write_root(make(detectors=("zp", "focalh")), tmp_path / "a.root")) as file:
        types = {name: branch.typename for name, branch in file["showers"].items() if name.startswith("response")}
    assert types == {"response_zp": "uint16_t[56][30]", "response_focalh": "float[36][36]"}


def test_npz_holds_float32(tmp_path):
    showers = make(detectors=("focalh",))
    write_npz(showers, tmp_path)
    with np.load(tmp_path / "data_nonrandom_responses.npz") as archive:
        assert archive["arr_0"].dtype == np.float32 and np.array_equal(archive["arr_0"], showers.response)


def root_file(path, values, name="response_ecal"):
    """A ROOT file with energies of a foreign type."""
    showers = make()
    columns = {c: showers.particles[:, k] for k, c in enumerate(CONDITIONS)} | {"pdg": showers.pdg, name: values}
    with uproot.recreate(path) as file:
        file.mktree("showers", {key: np.dtype((v.dtype, v.shape[1:])) for key, v in columns.items()})
        file["showers"].extend(columns)
    return path


@pytest.mark.parametrize("dtype", ["float64", "int32", "uint16"])
def test_foreign_files_are_read(tmp_path, dtype):
    values = (make().response.clip(0, 100) * 3).astype(dtype)
    read = read_root(root_file(tmp_path / "a.root", values))
    assert read.response.dtype == np.float32 and np.array_equal(read.response, values.astype("float32"))
    write_npz(make(), tmp_path / "b")
    np.savez(tmp_path / "b" / "data_nonrandom_responses.npz", values)
    assert_same(open_showers(tmp_path / "b").only("ecal"), Showers(read.particles, read.pdg, {"ecal": values},
                                                                   make().metadata))


@pytest.mark.parametrize("value, message", BAD)
def test_impossible_energies_in_files(tmp_path, value, message):
    with pytest.raises(ValueError, match=rf"a.root: .*response_ecal.*\[2, 3, 4\] {message}.*energies in MeV"):
        read_root(root_file(tmp_path / "a.root", with_value(value)))
    write_npz(make(), tmp_path)
    responses, particles = (tmp_path / f"data_nonrandom_{what}.npz" for what in ("responses", "particles"))
    np.savez(responses, with_value(value))
    with pytest.raises(ValueError, match=rf"data_nonrandom_responses.npz: .*\[2, 3, 4\] {message}.*energies in MeV"):
        read_npz(responses, particles)


def test_wrong_shapes_in_files(tmp_path):
    path = root_file(tmp_path / "a.root", np.zeros((7, 36, 30), "float32"), "response_focalh")
    with pytest.raises(ValueError, match=r"a.root: .*expected shape \(36, 36\) per row, received float\[36\]\[30\]"):
        read_root(path)
    write_npz(make(), tmp_path)
    responses, particles = (tmp_path / f"data_nonrandom_{what}.npz" for what in ("responses", "particles"))
    np.savez(responses, np.zeros((7, 36, 30)))
    with pytest.raises(ValueError, match=r"\(7, 36, 30\) fit no known detector .*focalh \(36, 36\)"):
        read_npz(responses, particles)
    with pytest.raises(ValueError, match=r"responses\['ecal'\]: expected shape \(7, 30, 30\), received \(7, 36, 30\)"):
        read_npz(responses, particles, "ecal")
