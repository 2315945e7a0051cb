import json
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import uproot

from zdckeras.data.files import open_showers, read_npz, read_root, write_npz, write_root
from zdckeras.data.formats import written_together
from zdckeras.data.particles import CONDITIONS, conditions_of
from zdckeras.data.showers import Showers

SHAPES = {"zn": (44, 44), "zp": (56, 30)}


def make(rows=7, detectors=("zn",), seed=0):
    rng = np.random.default_rng(seed)
    pdg = rng.choice([22, 2112, 310, -211], rows)
    momentum = rng.normal(0, 1, (rows, 3)) * [0.2, 0.2, 1500]
    responses = {d: rng.poisson(0.3, (rows, *SHAPES[d])).astype("uint16") for d in detectors}
    for counts in responses.values():
        counts[0, 0, 1] = 65535
    return Showers(
        conditions_of(pdg, momentum, rng.normal(size=(rows, 3))), pdg, responses, {"source": "a test", "seed": seed}
    )


def assert_same(a, b):
    np.testing.assert_array_equal(a.particles, b.particles)
    np.testing.assert_array_equal(a.pdg, b.pdg)
    assert sorted(a.responses) == sorted(b.responses)
    for name in a.responses:
        np.testing.assert_array_equal(a.responses[name], b.responses[name])
    assert a.metadata == b.metadata


@pytest.fixture
def pair(tmp_path):
    """A folder with a good npz pair, and the two paths."""
    write_npz(make(), tmp_path)
    return tmp_path / "data_nonrandom_responses.npz", tmp_path / "data_nonrandom_particles.npz"


@pytest.mark.parametrize("detectors", [("zn",), ("zp",), ("zn", "zp")])
@pytest.mark.parametrize("write, name", [(write_npz, "folder"), (write_root, "a:b.root")])
def test_round_trip_is_bit_for_bit(tmp_path, detectors, write, name):
    showers = make(detectors=detectors)
    path = write(showers, tmp_path / "new" / name)
    assert path == tmp_path / "new" / name
    assert_same(open_showers(path), showers)
    left = [entry.name for entry in tmp_path.rglob(".*")]
    assert left == []


def test_npz_layout_is_the_published_one(pair):
    showers = make()
    with np.load(pair[0]) as responses, np.load(pair[1]) as particles:
        assert responses.files == particles.files == ["arr_0"]
        np.testing.assert_array_equal(responses["arr_0"], showers.response)
        np.testing.assert_array_equal(particles["arr_0"], np.column_stack([showers.particles, showers.pdg]))


def test_npz_without_metadata_and_as_floating_point(tmp_path):
    """As the published sets are: two files, counts possibly stored as floating point."""
    showers = make(detectors=("zp",))
    np.savez(tmp_path / "data_nonrandom_responses.npz", showers.response.astype("float32"))
    np.savez(tmp_path / "data_nonrandom_particles.npz", np.column_stack([showers.particles, showers.pdg]))
    read = open_showers(tmp_path)
    np.testing.assert_array_equal(read.response, showers.response)
    assert list(read.responses) == ["zp"]
    assert read.metadata == {"source": str(tmp_path / "data_nonrandom_responses.npz")}


def test_root_layout_is_a_flat_ttree(tmp_path):
    showers = make(detectors=("zn", "zp"))
    with uproot.open(write_root(showers, tmp_path / "a.root")) as file:
        assert file.classnames(cycle=False) == {"metadata": "TObjString", "showers": "TTree"}
        tree = file["showers"]
        types = {name: branch.typename for name, branch in tree.items()}
        expected = dict.fromkeys(CONDITIONS, "double") | {"pdg": "int32_t"}
        assert types == expected | {"response_zn": "uint16_t[44][44]", "response_zp": "uint16_t[56][30]"}
        np.testing.assert_array_equal(tree["pz"].array(library="np"), showers.particles[:, 6])
        assert json.loads(str(file["metadata"])) == showers.metadata


def test_metadata_of_numpy_values_become_plain(tmp_path):
    showers = make()
    showers.metadata.update(seed=np.int64(3), edges=np.arange(3))
    write_npz(showers, tmp_path)
    assert open_showers(tmp_path).metadata == {"source": "a test", "seed": 3, "edges": [0, 1, 2]}
    showers.metadata["function"] = print
    with pytest.raises(TypeError, match="JSON can hold, received builtin_function"):
        write_npz(showers, tmp_path)


class Bomb:
    """Makes a folder when unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def bomb_array(path):
    array = np.empty(1, dtype=object)
    array[0] = Bomb(path)
    return array


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("how", ["pickle", "object array"])
def test_pickles_are_refused_and_never_run(pair, tmp_path, which, how):
    mark = tmp_path / "ran"
    if how == "pickle":
        pair[which].write_bytes(pickle.dumps(Bomb(mark)))
    else:
        np.savez(pair[which], bomb_array(mark))
    with pytest.raises(ValueError, match="not an npz archive|Object arrays cannot be loaded"):
        read_npz(*pair)
    assert not mark.exists()


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("keep", [0, 0.3, 0.9])
def test_truncated_or_empty_npz(pair, which, keep):
    data = pair[which].read_bytes()
    pair[which].write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ValueError, match=f"{pair[which].name}: not an npz archive"):
        read_npz(*pair)


def test_corrupt_member_of_npz(pair):
    data = bytearray(pair[0].read_bytes())
    data[400:500] = bytes(100)
    pair[0].write_bytes(data)
    with pytest.raises(ValueError, match=f"{pair[0].name}: cannot be read as showers"):
        read_npz(*pair)


def test_npz_without_the_array(pair):
    np.savez(pair[0], images=np.zeros(3), other=np.zeros(2))
    with pytest.raises(ValueError, match="expected an array 'arr_0', found images, other"):
        read_npz(*pair)
    with zipfile.ZipFile(pair[0], "w"):
        pass
    with pytest.raises(ValueError, match="found none"):
        read_npz(*pair)


def bad_counts(value):
    counts = make().response.astype("float64")
    counts[2, 3, 4] = value
    return counts


BAD_COUNTS = [(np.nan, "= nan"), (-1, r"= -1\.0"), (0.5, r"= 0\.5"), (70000, r"= 70000")]


@pytest.mark.parametrize("value, message", BAD_COUNTS)
def test_bad_counts_in_npz(pair, value, message):
    np.savez(pair[0], bad_counts(value))
    with pytest.raises(ValueError, match=rf"{pair[0].name}.*\[2, 3, 4\] {message}.*non-negative photon counts"):
        read_npz(*pair)


@pytest.mark.parametrize(
    "responses, message",
    [
        (np.zeros((7, 44, 43)), r"shape \(7, 44, 43\) fit no known detector \(zn \(44, 44\), zp"),
        (np.zeros((7, 1935)), r"expected \(N, nx, ny\)"),
        (np.zeros((6, 44, 44)), r"expected shape \(7, 44, 44\), received \(6, 44, 44\)"),
        (np.zeros((0, 44, 44)), r"received \(0, 44, 44\)"),
    ],
)
def test_wrong_shape_of_responses(pair, responses, message):
    np.savez(pair[0], responses)
    with pytest.raises(ValueError, match=message):
        read_npz(*pair)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda p: p[:, :9], r"expected shape \(N, 10\).*received \(7, 9\)"),
        (lambda p: p[:0], "Empty selection"),
        (lambda p: np.where(np.arange(10) == 6, np.nan, p), r"\(pz\) = nan"),
        (lambda p: np.where(np.arange(10) == 9, 1e7 - 1, p), r"Unknown PDG id\(s\) \[9999999\]"),
        (lambda p: np.where(np.arange(10) == 9, 22.5, p), "pdg: expected whole numbers"),
    ],
)
def test_bad_particles_in_npz(pair, change, message):
    showers = make()
    np.savez(pair[1], change(np.column_stack([showers.particles, showers.pdg])))
    with pytest.raises(ValueError, match=message):
        read_npz(*pair)


def test_missing_files(pair, tmp_path):
    pair[1].unlink()
    with pytest.raises(FileNotFoundError, match="data_nonrandom_particles.npz"):
        open_showers(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_showers(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere.root"):
        read_root(tmp_path / "nowhere.root")


def test_folders_that_are_not_showers(tmp_path):
    with pytest.raises(ValueError, match="found none of these"):
        open_showers(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="expected a .root file, a folder with .*found a file that ends in '.txt'"):
        open_showers(tmp_path / "notes.txt")
    for empty in ("", " ", [], [""], None, 3):
        with pytest.raises(ValueError, match="Expected the name of a file or folder"):
            open_showers(empty)


@pytest.mark.parametrize("first, second", [(("zn",), ("zn", "zp")), (("zn", "zp"), ("zn",)), (("zn", "zp"), ("zp",))])
def test_other_layouts_do_not_meet_in_a_folder(tmp_path, first, second):
    old, new = make(detectors=first), make(detectors=second, seed=1)
    write_npz(old, tmp_path)
    with pytest.raises(FileExistsError, match="belongs to showers of other detectors"):
        write_npz(new, tmp_path)
    assert_same(open_showers(tmp_path), old)
    write_npz(new, tmp_path, overwrite=True)
    assert_same(open_showers(tmp_path), new)


def test_two_layouts_in_a_folder_and_a_lost_half_are_refused(tmp_path):
    write_npz(make(detectors=("zn", "zp")), tmp_path / "both")
    write_npz(make(), tmp_path / "one")
    for file in (tmp_path / "one").iterdir():
        file.rename(tmp_path / "both" / file.name)
    with pytest.raises(ValueError, match="found both of the last two"):
        open_showers(tmp_path / "both")
    write_npz(make(detectors=("zn", "zp")), tmp_path / "half")
    (tmp_path / "half" / "zp" / "data_nonrandom_responses.npz").unlink()
    with pytest.raises(FileNotFoundError, match="zp.data_nonrandom_responses.npz"):
        open_showers(tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "zp")
    with pytest.raises(ValueError, match="expected the folder zp too, which was written together with zn"):
        open_showers(tmp_path / "half")


def test_detectors_of_other_particles_are_not_mixed(tmp_path):
    write_npz(make(detectors=("zn", "zp")), tmp_path)
    write_npz(make(detectors=("zp",), seed=1), tmp_path / "zp")
    with pytest.raises(ValueError, match="zp.*not the same particles as in.*zn"):
        open_showers(tmp_path)


@pytest.mark.parametrize("content, message", [
    (b"{", "expected JSON"), (b"[1]", "expected a JSON object, received list"), (b"[" * 100_000, "expected JSON, "),
    (b'{"a": "\xff"}', "expected JSON, 'utf-8' codec can't decode byte 0xff in position 7")])
def test_bad_metadata(pair, tmp_path, content, message):
    (tmp_path / "data_nonrandom_metadata.json").write_bytes(content)
    for read in (lambda: read_npz(*pair), lambda: written_together(tmp_path)):
        with pytest.raises(ValueError, match=f"metadata.json: {message}"):
            read()


def root_file(path, tree="showers", **changes):
    """A ROOT file of good columns with changes; None leaves a column out."""
    showers = make()
    columns = {name: showers.particles[:, index] for index, name in enumerate(CONDITIONS)}
    columns |= {"pdg": showers.pdg, "response_zn": showers.response} | changes
    columns = {name: values for name, values in columns.items() if values is not None}
    with uproot.recreate(path) as file:
        file.mktree(tree, {name: np.dtype((values.dtype, values.shape[1:])) for name, values in columns.items()})
        if len(columns["energy"]):
            file[tree].extend(columns)
    return path


def test_foreign_root_file_is_read(tmp_path):
    """Float conditions, signed or floating-point counts, another tree name, no metadata."""
    showers = make()
    path = root_file(
        tmp_path / "a.root",
        "events",
        px=showers.particles[:, 4].astype("float32"),
        pdg=showers.pdg.astype("int64"),
        response_zn=showers.response.astype("float64"),
    )
    read = read_root(path, "events")
    np.testing.assert_array_equal(read.response, showers.response)
    np.testing.assert_array_equal(read.pdg, showers.pdg)
    assert read.metadata == {"source": str(path)}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"tree": "other", "mass": None}, "expected a TTree 'showers', found {'other': 'TTree'}"),
        ({"mass": None}, "no branch mass; found energy, vx, vy, vz, px, py, pz, charge, pdg, response_zn"),
        ({"pdg": None, "vz": None}, "no branch vz, pdg; found"),
        ({"response_zn": None}, "no branch response_zn or response_zp or response_ecal or response_focalh; found"),
        ({"response_zn": np.zeros((7, 44, 30), "uint16")}, r"expected shape \(44, 44\) per row, received uint16_t"),
        ({"response_zn": np.zeros((7, 1935), "uint16")}, r"expected shape \(44, 44\) per row, received uint16_t"),
        ({"energy": np.ones((7, 2))}, r"'energy': expected one number per row, received type double\[2\]"),
        ({"energy": np.full(7, np.nan)}, r"particles\[0, 0\] \(energy\) = nan"),
        ({"pdg": np.full(7, 9999999)}, r"Unknown PDG id\(s\) \[9999999\]"),
    ]
    + [({"response_zn": bad_counts(value)}, rf"response_zn.*\[2, 3, 4\] {text}") for value, text in BAD_COUNTS],
)
def test_bad_root_content(tmp_path, changes, message):
    path = root_file(tmp_path / "a.root", **changes)
    with pytest.raises(ValueError, match=rf"a.root: cannot be read as showers: .*{message}"):
        read_root(path)


def test_root_tree_without_rows(tmp_path):
    showers = make()
    empty = {name: np.zeros(0) for name in CONDITIONS}
    path = root_file(tmp_path / "a.root", **empty, pdg=showers.pdg[:0], response_zn=showers.response[:0])
    with pytest.raises(ValueError, match="Empty selection"):
        read_root(path)


@pytest.mark.parametrize("keep", [0, 0.01, 0.5, 0.95])
def test_truncated_or_empty_root(tmp_path, keep):
    path = write_root(make(), tmp_path / "a.root")
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ValueError, match="a.root: cannot be read as showers"):
        read_root(path)


def test_damaged_root_never_escapes_as_another_error(tmp_path):
    path = write_root(make(2), tmp_path / "a.root")
    data, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(40):
        damaged = bytearray(data)
        damaged[rng.integers(0, 2000)] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            assert len(read_root(path)) > 0
        except ValueError as error:
            refused += "a.root" in str(error)
    assert refused > 0
