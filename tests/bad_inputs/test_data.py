"""Bad particles, responses and files: refused with one line by whatever reads or holds them."""

import pickle
import zipfile

import numpy as np
import pytest
import uproot

import zdckeras as zdc
from zdckeras.data import detectors, repeats, responses
from zdckeras.data.files import open_particles, open_showers, read_npz, read_root, write_showers
from zdckeras.data.particles import CONDITIONS
from zdckeras.data.showers import Showers, concatenate
from zdckeras.simulation.reference import draws

BEYOND = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "1e300": 1e300}


def at(column, value, rows=2):
    """Change of a table (N, 10): one value in one column."""
    def change(table):
        table[rows, column] = value
        return table
    return change


def scaled(columns, factor):
    def change(table):
        table[:, columns] *= factor
        return table
    return change


def ordered(*order):
    return lambda table: table[:, list(order)]


PARTICLES = {f"{name} {label}": at(k, value) for k, name in enumerate(CONDITIONS) for label, value in BEYOND.items()}
IDS = (0, 0.5, -0.5, np.nan, np.inf, 2**31, -1e12, 9999999, 1, 21, 12345)
PARTICLES |= {f"id {value}": at(9, value) for value in IDS}
PARTICLES |= {
    "energy -1": at(0, -1.0), "energy 0": at(0, 0.0), "all energies 0": at(0, 0.0, slice(None)),
    "energies in MeV": scaled([0], 1e3), "all in MeV": scaled([0, 4, 5, 6], 1e3),
    "momenta in MeV": scaled([4, 5, 6], 1e3), "energies in TeV": scaled([0], 1e-3),
    "momenta in TeV": scaled([4, 5, 6], 1e-3), "masses in GeV": scaled([7], 1e-3), "mass -1": at(7, -1.0),
    "mass of another": at(7, 500.0), "negative masses": scaled([7], -1.0), "charge 7": at(8, 7.0),
    "charge 0.5": at(8, 0.5), "charges turned": scaled([8], -1.0), "id first": ordered(9, *range(9)),
    "energy and pz swapped": ordered(6, 1, 2, 3, 4, 5, 0, 7, 8, 9),
    "mass and charge swapped": ordered(*range(7), 8, 7, 9),
    "vertex and momentum swapped": ordered(0, 4, 5, 6, 1, 2, 3, 7, 8, 9), "no momentum": scaled([4, 5, 6], 0.0),
    "pz lost": scaled([6], 0.0), "ids turned": scaled([9], -1.0), "ids doubled": scaled([9], 2.0),
}
SHAPES = {"one column less": lambda t: t[:, :-1], "one more": lambda t: np.column_stack([t, t[:, 0]]),
          "one row less": lambda t: t[:-1], "no rows": lambda t: t[:0], "flat": lambda t: t.ravel(),
          "three axes": lambda t: t[None], "words": lambda t: t.astype(str), "complex": lambda t: t.astype(complex),
          "turned": lambda t: t.T, "objects": lambda t: t.astype(object)}


def cell(value, kind="float64"):
    def change(counts):
        counts = counts.astype(kind)
        counts[1, 2, 3] = value
        return counts
    return change


COUNTS = {f"count {value} {kind}": cell(value, kind) for value, kind in (
    (np.nan, "float64"), (np.inf, "float32"), (-np.inf, "float64"), (np.inf, "float16"), (-1, "float64"), (-1, "int16"),
    (0.5, "float32"), (0.01, "float64"), (70000, "float32"), (70000, "int64"), (65536, "int32"), (1e30, "float64"))}
COUNTS |= {
    "words": lambda n: n.astype(str), "complex": lambda n: n.astype(complex), "dates": lambda n: n.astype("M8[s]"),
    "a column less": lambda n: n[:, :, :-1], "a row less": lambda n: n[:-1],
    "twice the rows": lambda n: np.repeat(n, 2, axis=0), "no rows": lambda n: n[:0],
    "two axes": lambda n: n[0], "another size": lambda n: np.zeros((len(n), 45, 44)),
    "half of the cells": lambda n: n.reshape(len(n), -1)[:, :900], "two colours": lambda n: np.stack([n, n], axis=-1),
    "fractions": lambda n: n / 3, "all negative": lambda n: -1.0 - n, "flat over rows": lambda n: n.ravel(),
}


@pytest.fixture
def table(check):
    """Conditions and ids (N, 10), and responses."""
    showers = check.make()
    return np.column_stack([showers.particles, showers.pdg]), showers.response


def test_showers(check, table):
    particles, counts = table
    calls = {label: lambda change=change: Showers((t := change(particles.copy()))[:, :9], t[:, 9], {"zn": counts})
             for label, change in PARTICLES.items()}
    calls |= {label: lambda change=change: Showers(particles[:, :9], particles[:, 9], {"zn": change(counts)})
              for label, change in COUNTS.items()}
    calls |= {f"detector {name!r}": lambda name=name: Showers(particles[:, :9], particles[:, 9], {name: counts})
              for name in ("zp", "zdc", "", None, 3, "zn+zp", ("zn",))}
    calls |= {f"responses {kind.__name__}": lambda kind=kind: Showers(particles[:, :9], particles[:, 9], kind())
              for kind in (dict, list, str, float)}
    calls |= {
        "twice": lambda: Showers(particles[:, :9], particles[:, 9], {"zn": counts, "ZN": counts}),
        "ids of another length": lambda: Showers(particles[:, :9], particles[1:, 9], {"zn": counts}),
        "no ids": lambda: Showers(particles[:, :9], None, {"zn": counts}),
        "ids as words": lambda: Showers(particles[:, :9], ["n"] * len(counts), {"zn": counts}),
        "no particles": lambda: Showers(None, particles[:, 9], {"zn": counts}),
    }
    check.all(calls)


@pytest.mark.filterwarnings("ignore:PDG ids that the table")
def test_npz_files(check, table, tmp_path):
    particles, counts = table
    good = zdc.write_npz(check.make(), tmp_path / "good")

    def read(name, label, change, reader=open_showers):
        folder = tmp_path / reader.__name__ / name / "".join(c for c in label if c.isalnum())
        folder.mkdir(parents=True)
        files = {"particles": particles, "responses": counts}
        files[name] = change(files[name].copy())
        for key, values in files.items():
            np.savez(folder / f"data_nonrandom_{key}.npz", values)
        return reader(folder)

    calls = {label: lambda c=c, n=label: read("particles", n, c) for label, c in (PARTICLES | SHAPES).items()}
    calls |= {f"list, {label}": lambda c=c, n=label: read("particles", n, c, open_particles)
              for label, c in (PARTICLES | SHAPES).items() if label not in ("one column less", "one row less")}
    calls |= {label: lambda c=c, n=label: read("responses", n, c) for label, c in COUNTS.items()}
    whole = (good / "data_nonrandom_responses.npz").read_bytes()
    damaged = {f"cut at {k} of 8": whole[: k * len(whole) // 8] for k in range(8)}
    damaged |= {"pickle": pickle.dumps(counts), "text": b"counts", "zeros": bytes(1000), "npy": whole[100:],
                "magic lost": b"\x80\x04N." + whole[4:]}
    for label, content in damaged.items():
        folder = tmp_path / "damaged" / label.replace(" ", "")
        zdc.write_npz(check.make(), folder)
        (folder / "data_nonrandom_responses.npz").write_bytes(content)
        calls |= {f"file {label}": lambda folder=folder: open_showers(folder)}
    with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
        pass
    calls |= {"no array": lambda: read_npz(tmp_path / "empty.npz", good / "data_nonrandom_particles.npz"),
              "files swapped": lambda: read_npz(*sorted(good.glob("*.npz"))),
              "other detector": lambda: read_npz(*sorted(good.glob("*.npz"), reverse=True), "zp")}
    check.all(calls)


@pytest.mark.filterwarnings("ignore:PDG ids that the table")
def test_root_files(check, table, tmp_path):
    particles, counts = table

    def write(path, values, name="showers"):
        with uproot.recreate(path) as file:
            file.mktree(name, {key: np.dtype((one.dtype, one.shape[1:])) for key, one in values.items()})
            if len(next(iter(values.values()))):
                file[name].extend(values)
        return path

    def columns(table=particles, counts=counts):
        return dict(zip(CONDITIONS, table.T, strict=False)) | {"pdg": table[:, 9], "response_zn": counts}

    def read(number, values):
        return read_root(write(tmp_path / f"{number}.root", values))

    calls = {}
    for label, change in list(PARTICLES.items())[::2]:
        calls[label] = lambda c=change, n=label: read(n, columns(c(particles.copy())))
    for label in ("count nan float64", "count -1 int16", "count 0.5 float32", "count 70000 int64", "a column less",
                  "another size", "half of the cells", "two colours", "fractions"):
        calls[label] = lambda n=label: read(n, columns(counts=COUNTS[n](counts)))
    for name in (*CONDITIONS, "pdg", "response_zn"):
        calls[f"without {name}"] = lambda n=name: read(f"no{n}", {k: v for k, v in columns().items() if k != n})
    for name in ("energy", "pdg"):
        calls[f"two {name}"] = lambda n=name: read(f"two{n}", columns() | {n: np.ones((len(counts), 2))})
    calls["no rows"] = lambda: read("empty", {name: values[:0] for name, values in columns().items()})
    good = write(tmp_path / "good.root", columns())
    calls |= {f"tree {name!r}": lambda n=name: read_root(good, n) for name in ("shower", "", "a/b", "showers/energy")}
    calls["tree by name"] = lambda: open_showers(f"{good}:other")
    whole = good.read_bytes()
    for k, content in enumerate([b"", b"root", whole[:100], whole[:3000], bytes(2000), b"root" + bytes(2000), b"text"]):
        (tmp_path / f"damaged{k}.root").write_bytes(content)
        calls[f"damaged {k}"] = lambda k=k: open_showers(tmp_path / f"damaged{k}.root")
        calls[f"damaged list {k}"] = lambda k=k: open_particles(tmp_path / f"damaged{k}.root")
    check.all(calls)


def test_names(check, tmp_path):
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "folder.root").mkdir()
    names = ["", " ", ".", "no.root", "no/", "no*.root", "a\0b", "http", None, 3, 2.5, [], [""], [None], {}, (1,),
             b"a.root", tmp_path, tmp_path / "notes.txt", tmp_path / "folder.root", str(tmp_path / "*.txt"), ":tree",
             "no.root:tree", "root://", "nonsense://a.root", "file:///no/a.root", [tmp_path / "no.root"],
             tmp_path / "notes.txt" / "a.root"]
    check.all({f"{reader.__name__} {name!r}": lambda r=reader, n=name: r(n)
               for reader in (open_showers, open_particles) for name in names})


def test_calls(check, tmp_path, monkeypatch):
    monkeypatch.setattr("zdckeras.simulation.reference.PRIMARIES_AT_ONCE", 300)
    showers, both = check.make(), check.make(detectors=("zn", "zp"))
    single = showers[:1]
    (tmp_path / "file").write_text("in the way")
    calls = {f"load {arguments}": lambda a=arguments: zdc.load(*a) for arguments in (
        ("zdc",), ("",), (None,), (3,), ("zn+zn",), ("zn+ecal",), ("zn+",), ("zn", "training"), ("zn", None),
        *(("zn", "test", size) for size in (0, -5, 2.5, np.nan, "many", None, np.inf)),
        *(("zn", "test", 5, seed) for seed in (-1, 0.5, "a", None, np.nan)))}
    calls |= {f"draws {size}": lambda n=size: next(draws("zn", size=n)) for size in (0, -1, 1.5, "1", None)}
    calls |= {f"resimulate {seed}": lambda s=seed: zdc.resimulate(showers, s) for seed in (-1, 0.5, "a", None)}
    calls |= {f"detector {name!r}": lambda n=name: zdc.detector(n) for name in ("", "zdc", None, 3, "zn+zp", ["zn"])}
    calls |= {f"only {names}": lambda n=names: both.only(*n)
              for names in ((), ("ecal",), ("zn", "zn"), ("zn", "ZN"), (None,))}
    calls |= {f"at_least {photons}": lambda p=photons: showers.at_least(p)
              for photons in (-1, np.nan, np.inf, "a", 10**9)}
    calls |= {f"rows {rows!r}": lambda r=rows: showers[r] for rows in (
        [], slice(0, 0), 6, -7, "a", 1.5, None, np.zeros(6, bool), np.zeros(5, bool), [0, 99], np.zeros((2, 2), int))}
    calls |= {f"concatenate {k}": lambda p=parts: concatenate(p) for k, parts in enumerate((
        [], [showers, both], [None], 3, [showers, check.make(detectors=("zp",))]))}
    calls |= {f"masks {a}": lambda a=a: detectors.channel_masks(*a) for a in (
        ((44, 44), "paper"), ((44,),), (44,), ((44, 44, 2),), ((0, 0),), ((-4, 4),), ((4.5, 4),))}
    calls |= {f"sums {k}": lambda r=r: detectors.channel_sums(r)
              for k, r in enumerate((np.ones((4, 4)), 3, [], "a", None))}
    calls |= {f"counts {k}": lambda v=v: responses.photon_counts(v) for k, v in enumerate((
        [[[np.nan]]], [[[-1]]], [[[0.5]]], [[["a"]]], [[[1e9]]], 3, [1], None, [[[1j]]]))}
    calls |= {f"energies {k}": lambda v=v: responses.energies(v) for k, v in enumerate((
        [[[np.nan]]], [[[-1.0]]], [[[np.inf]]], [[["a"]]], [[[1e60]]], 3, None))}
    calls |= {
        "split of one": lambda: single.split(), "split by one condition": lambda: single.split(True),
        "two detectors, none named": lambda: both.response, "cut in another": lambda: showers.at_least(1, "zp"),
        "cut of energies": lambda: check.make(detectors=("ecal",)).at_least(),
        "pairs of singles": lambda: repeats.repeated_pairs(showers),
        "seed of pairs": lambda: repeats.repeated_pairs(both, -1),
        "diversity of singles": lambda: repeats.condition_statistics(showers),
        "no parts": lambda: zdc.write_root([], tmp_path / "a.root"),
        "other parts": lambda: zdc.write_root([showers, both], tmp_path / "a.root"),
        "parts of words": lambda: zdc.write_root(["a"], tmp_path / "a.root"),
        "no showers": lambda: zdc.write_root(None, tmp_path / "a.root"),
        "npz of None": lambda: zdc.write_npz(None, tmp_path),
        "npz into a file": lambda: zdc.write_npz(showers, tmp_path / "file"),
        "root into a file": lambda: zdc.write_root(showers, tmp_path / "file" / "a.root"),
        "too few": lambda: write_showers([showers], 9, tmp_path / "few"),
        "too many": lambda: write_showers([showers], 2, tmp_path),
        "no blocks": lambda: write_showers([], 0, tmp_path / "none"),
        "folder in a file": lambda: write_showers([showers], 6, tmp_path / "file" / "b"),
    }
    check.all(calls)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
