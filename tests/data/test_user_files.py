"""Files as users have them: other forms of responses, many files, addresses, and particles that cannot be."""

import sys
import warnings
from itertools import pairwise

import awkward as ak
import numpy as np
import pytest
import uproot

from zdckeras.data import formats
from zdckeras.data.files import (
    open_particles,
    open_showers,
    read_npz,
    read_root,
    write_npz,
    write_root,
    write_showers,
)
from zdckeras.data.formats import METADATA_FILE, written_together
from zdckeras.data.particles import CONDITIONS, conditions_of
from zdckeras.data.showers import Showers

SHAPES = {"zn": (44, 44), "zp": (56, 30)}


def make(rows=7, detectors=("zn",), seed=0):
    rng = np.random.default_rng(seed)
    pdg = rng.choice([22, 2112, 310, -211], rows)
    particles = conditions_of(pdg, rng.normal(0, 1, (rows, 3)) * [0.2, 0.2, 1500])
    return Showers(particles, pdg, {d: rng.poisson(0.3, (rows, *SHAPES[d])) for d in detectors}, {"seed": seed})


@pytest.fixture
def pair(tmp_path):
    """Paths of a good npz pair."""
    write_npz(make(), tmp_path)
    return tmp_path / "data_nonrandom_responses.npz", tmp_path / "data_nonrandom_particles.npz"


def columns(**changes):
    """Branch name -> values."""
    showers = make()
    named = dict(zip(CONDITIONS, showers.particles.T, strict=True))
    return named | {"pdg": showers.pdg, "response_zn": showers.response} | changes


def root_file(path, **changes):
    """A ROOT file with a TTree."""
    values = columns(**changes)
    with uproot.recreate(path) as file:
        file.mktree("showers", {name: np.dtype((one.dtype, one.shape[1:])) for name, one in values.items()})
        file["showers"].extend(values)
    return path


def assigned(path, name="showers", more=(), **changes):
    """A ROOT file of columns written by plain assignment, which makes an RNTuple."""
    with uproot.recreate(path) as file:
        file[name] = columns(**changes)
        for key, value in dict(more).items():
            file[key] = value
    return path



FORMS = {"[1936]": (7, 1936), "[44][44][1]": (7, 44, 44, 1), "[1][44][44]": (7, 1, 44, 44)}


@pytest.mark.parametrize("shape", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("kind", ["npz", "root", "rntuple"])
def test_flat_responses_and_axes_of_length_one(pair, tmp_path, shape, kind):
    showers = make()
    counts = showers.response.reshape(shape)
    if kind == "npz":
        np.savez(pair[0], counts)
        found = read_npz(*pair)
    else:
        found = read_root((root_file if kind == "root" else assigned)(tmp_path / "a.root", response_zn=counts))
    np.testing.assert_array_equal(found.response, showers.response)


def test_files_as_users_have_them(tmp_path):
    """RNTuples, another name, a folder in the file, .ROOT, other objects: a tree, notes, a string called metadata."""
    expected = make()
    cases = [assigned(tmp_path / "a.root"), assigned(tmp_path / "b.ROOT", "events/zdc"),
             assigned(tmp_path / "c.root", "run/showers", {"metadata": "made on Monday", "other": {"x": np.arange(3)}})]
    for path in (*cases, f"{cases[1]}:events/zdc", f"{cases[2]}:run/showers"):
        found = open_showers(path)
        np.testing.assert_array_equal(found.response, expected.response)
        np.testing.assert_array_equal(found.particles, expected.particles)
        assert str(found.metadata["source"]) in str(path)
    with pytest.raises(ValueError, match="expected a TTree 'showers', found {'showers_a'"):
        open_showers(assigned(tmp_path / "d.root", "showers_a", {"showers_b": columns()}))
    assert len(open_showers(f"{tmp_path / 'd.root'}:showers_b")) == 7
    generated = {name: values for name, values in columns().items() if not name.startswith("response_")}
    assert len(open_showers(assigned(tmp_path / "e.root", "reco", {"gen": generated}))) == 7  # the one with responses
    with pytest.raises(ValueError, match="expected a TTree 'showers_c', found.* given as file.root:tree"):
        open_showers(f"{tmp_path / 'd.root'}:showers_c")


def test_what_is_named_twice_or_lies_beside_is_refused(tmp_path):
    """Rows twice would be on both sides of a split."""
    path = write_root(make(), tmp_path / "a.root")
    for names in ([path, path], [f"{tmp_path}/*.root", f"{tmp_path}/./a.root"], [path, tmp_path]):
        with pytest.raises(ValueError, match="a.root: expected every file or folder once, received it twice"):
            open_showers(names)
    write_npz(make(), tmp_path)
    with pytest.raises(ValueError, match="found a.root and npz files: name one of them"):
        open_showers(tmp_path)


@pytest.mark.parametrize("name", ["made.npz", "made.HDF5", "a.csv"])
def test_names_of_other_files_do_not_become_folders(tmp_path, name):
    with pytest.raises(ValueError, match="expected a name that ends in .root or a folder for npz files"):
        write_showers([make()], len(make()), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_vectors_are_read_if_all_are_of_one_length(tmp_path):
    showers = make()
    flat = showers.response.reshape(7, -1)
    path = assigned(tmp_path / "a.root", response_zn=ak.from_iter(flat.tolist()))
    np.testing.assert_array_equal(read_root(path).response, showers.response)
    ragged = ak.Array([*flat[:6].tolist(), flat[6, :-1].tolist()])
    with pytest.raises(ValueError, match="'response_zn': expected as many numbers in every row"):
        read_root(assigned(tmp_path / "b.root", response_zn=ragged))


def test_several_files(tmp_path):
    parts = [make(seed=k) for k in range(3)]
    for k, part in enumerate(parts):
        write_root(part, tmp_path / "in" / f"run{k}.root")
    whole = np.concatenate([part.response for part in parts])
    names = [tmp_path / "in" / f"run{k}.root" for k in range(3)]
    for path in (tmp_path / "in", tmp_path / "in" / "*.root", str(tmp_path / "*" / "run?.root"), names, map(str, names),
                 str(tmp_path / "in" / "*.root") + ":showers"):
        np.testing.assert_array_equal(open_showers(path).response, whole)
    np.testing.assert_array_equal(open_particles(tmp_path / "in")[0], np.concatenate([p.particles for p in parts]))
    with pytest.raises(FileNotFoundError, match=r"No file or folder matches .*run9\*"):
        open_showers(tmp_path / "in" / "run9*")
    with pytest.raises(FileNotFoundError, match="run7"):
        open_showers([names[0], tmp_path / "in" / "run7.root"])
    write_root(make(detectors=("zp",)), tmp_path / "in" / "run3.root")
    with pytest.raises(ValueError, match="run3.root: expected showers of zn, as in the first file, received zp"):
        open_showers(tmp_path / "in")


def test_addresses_are_read_through_fsspec(tmp_path, monkeypatch):
    """What xrootd needs is an extra; without it the message says so. Here a file of this machine, by its address."""
    path = write_root(make(), tmp_path / "a.root")
    np.testing.assert_array_equal(open_showers(f"local://{path}").response, make().response)
    monkeypatch.setitem(sys.modules, "fsspec_xrootd", None)
    monkeypatch.setitem(sys.modules, "XRootD", None)
    with pytest.raises(ImportError, match=r"root://host//a.root: reading from there needs .*pip install 'zdckeras"):
        open_showers("root://host//a.root")


def test_whole_numbers_may_be_off_by_rounding(pair):
    counts = make().response.astype("float32")
    counts[1, 2, 3] = 1000.0
    np.savez(pair[0], counts * np.float32(1.0 - 2e-7) + np.float32(1e-6))
    np.testing.assert_array_equal(read_npz(*pair).response, counts)


def test_empty_root_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="a.root: expected showers to write, received none"):
        write_root([], tmp_path / "a.root")
    with pytest.raises(ValueError, match="expected showers with the branches of the first.*response_zp"):
        write_root([make(), make(detectors=("zp",))], tmp_path / "a.root")
    with pytest.raises(ValueError, match="expected 8 showers, received 7"):
        write_showers([make()], 8, tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["npz", "root"])
def test_particles_in_mev_are_refused(tmp_path, kind):
    path = write_npz(make(), tmp_path) if kind == "npz" else write_root(make(), tmp_path / "a.root")
    particles = make().particles * [1e3, 1, 1, 1, 1e3, 1e3, 1e3, 1, 1]
    if kind == "npz":
        np.savez(tmp_path / "data_nonrandom_particles.npz", np.column_stack([particles, make().pdg]))
    else:
        root_file(path, **dict(zip(CONDITIONS, particles.T, strict=True)))
    for read in (open_showers, open_particles):
        with pytest.raises(ValueError, match="energies and momenta look like MeV, expected GeV"):
            read(path)


def test_unknown_nuclei_do_not_refuse_a_file(pair):
    table = np.column_stack([make().particles, make().pdg])
    table[0, 7:] = 193_700.0, 82.0, 1000822081
    table[0, 0] = np.sqrt((table[0, 4:7] ** 2).sum() + 193.7**2)
    np.savez(pair[1], table)
    with pytest.warns(UserWarning, match="kept as species of their own: 1000822081"):
        found = read_npz(*pair)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(found[found.species(1000822081)]) == 1


def test_bad_names_of_detectors_written_together(tmp_path):
    (tmp_path / METADATA_FILE).write_text('{"zdckeras_detectors": 5}')
    with pytest.raises(ValueError, match="metadata.json: expected names of detectors as .*, received 5"):
        written_together(tmp_path)


@pytest.mark.parametrize(("sizes", "spans"), [
    ([2500], [(0, 2500)]), ([300, 600, 300, 1300, 200], [(0, 900), (900, 1200), (1200, 2500), (2500, 2700)])])
def test_no_basket_is_decompressed_twice(tmp_path, monkeypatch, sizes, spans):
    showers, read, block = make(sum(sizes)), [], formats._block
    columns = {name: showers.particles[:, index] for index, name in enumerate(CONDITIONS)}
    columns |= {"pdg": showers.pdg, "response_zn": showers.response}
    with uproot.recreate(tmp_path / "a.root") as file:
        tree = file.mktree("showers", {name: np.dtype((v.dtype, v.shape[1:])) for name, v in columns.items()})
        for start, end in pairwise(np.cumsum([0, *sizes]).tolist()):
            tree.extend({name: values[start:end] for name, values in columns.items()})
    monkeypatch.setattr(formats, "_block", lambda *a: read.extend([a[2:]] * (len(a) > 2)) or block(*a))
    again = read_root(tmp_path / "a.root")
    assert np.array_equal(again.response, showers.response) and read == spans
