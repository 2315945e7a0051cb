import numpy as np
import pytest
import uproot

from zdckeras.data.detectors import get_detector
from zdckeras.data.files import PARTICLES_FILE, RESPONSES_FILE, open_particles, write_npz, write_root
from zdckeras.data.particles import CONDITIONS, conditions_of, pdg_of
from zdckeras.data.showers import Showers

PDG = np.array([22, 2112, -2112, 130, 310, 3222, -3222, 2212, -211])
PARTICLES = conditions_of(PDG, np.random.default_rng(0).normal(0.0, 100.0, (len(PDG), 3)))
GUESSED = [22, 2112, 2112, 310, 310, 3222, -3222, 2212, -211]  # a neutron for its antiparticle, K0S for any kaon
UNTOLD = [0 if code == 310 else code for code in GUESSED]


def showers(*names):
    return Showers(PARTICLES, PDG, {name: np.ones((len(PDG), *get_detector(name).shape), "uint16") for name in names})


def test_particles_of_shower_files(tmp_path):
    """Of ROOT, and of folders of one and of several detectors; the responses may even be missing."""
    places = [write_root(showers("zn"), tmp_path / "a.root"), write_npz(showers("zn"), tmp_path / "one"),
              write_npz(showers("zn", "zp"), tmp_path / "two")]
    (tmp_path / "one" / RESPONSES_FILE).unlink()
    for place in [*places, str(places[1] / PARTICLES_FILE)]:
        particles, pdg = open_particles(place)
        assert np.array_equal(particles, PARTICLES) and np.array_equal(pdg, PDG) and pdg.dtype == np.int32


def test_particles_of_detectors_that_are_not_the_same_are_refused(tmp_path):
    """As those of two sets that lie beside each other: none stands for both."""
    write_npz(showers("zn"), tmp_path / "zn")
    write_npz(showers("zp")[1:], tmp_path / "zp")
    with pytest.raises(ValueError, match=f"zp.{PARTICLES_FILE}: not the same particles as in .*zn"):
        open_particles(tmp_path)
    assert len(open_particles(tmp_path / "zp")[0]) == len(PDG) - 1


def test_bare_lists(tmp_path):
    np.savez(tmp_path / "nine.npz", conditions=PARTICLES.astype("float32"))
    np.savez(tmp_path / "ten.npz", np.column_stack([PARTICLES, PDG]))
    with pytest.warns(UserWarning, match="K0S from K0L: 2 of 9 rows get id 0"):
        particles, pdg = open_particles(tmp_path / "nine.npz")
    assert np.array_equal(particles, PARTICLES.astype("float32")) and particles.dtype == np.float64
    assert pdg.tolist() == UNTOLD and open_particles(tmp_path / "ten.npz")[1].tolist() == PDG.tolist()
    with uproot.recreate(tmp_path / "b.root") as file:
        file["showers"] = {**dict(zip(CONDITIONS, PARTICLES.T, strict=True)), "pdg": PDG.astype("int32")}
    assert np.array_equal(open_particles(tmp_path / "b.root")[0], PARTICLES)


@pytest.mark.parametrize(("arrays", "message"), [
    ({"a": np.ones((3, 8))}, r"shape \(N, 9\), or \(N, 10\) with PDG ids, received shape \(3, 8\)"),
    ({"a": np.ones(9)}, r"received shape \(9,\)"),
    ({"a": np.ones((0, 9))}, r"received shape \(0, 9\)"),
    ({"a": np.full((1, 9), np.nan)}, "expected finite numbers, received float64 values that are not all finite"),
    ({"a": np.full((1, 9), "x")}, "expected finite numbers, received <U1"),
    ({"a": np.ones((1, 9)), "b": np.ones(1)}, "expected one array, found a, b"),
    ({"a": np.full((1, 9), {}, dtype=object)}, "cannot be read as particles: Object arrays cannot be loaded"),
    ({"a": np.full((1, 9), 2.0)}, "mass and charge of a known particle, received 2 MeV and charge 2"),
    ({"a": np.zeros((1, 10))}, "Unknown PDG id"),
])
def test_other_arrays_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        open_particles(tmp_path / "a.npz")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no particles")
    (tmp_path / "text.root").write_text("no particles")
    with uproot.recreate(tmp_path / "tree.root") as file:
        file["showers"] = {"energy": np.ones(3)}
    for name, message in (("text.npz", "npz archive, .* folder, a .csv table or a HepMC"), ("text.root", "text.root"),
                          ("tree.root", "vx"), (".", "text.root: .*not a ROOT file")):
        with pytest.raises(ValueError, match=message) as caught:
            open_particles(tmp_path / name)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400 + len(str(tmp_path))


def test_ids_from_mass_and_charge():
    assert pdg_of(PARTICLES).tolist() == GUESSED


def test_kaons_of_unknown_kind_are_kept_and_others_without_ids_are_not(tmp_path):
    """What is generated for them is written, and read again, with id 0; nothing else may have it."""
    kaons = conditions_of(np.full(3, 130), np.full((3, 3), 50.0))
    made = Showers(kaons, np.zeros(3), {"zn": np.ones((3, 44, 44), "uint16")})
    assert open_particles(write_root(made, tmp_path / "kaons.root"))[1].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=r"Unknown PDG id\(s\) \[0\] in 1 of 1"):
        Showers(PARTICLES[:1], np.zeros(1), {"zn": np.ones((1, 44, 44), "uint16")})
