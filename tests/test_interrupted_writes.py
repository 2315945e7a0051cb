import resource
import subprocess
import sys

import numpy as np
import pytest

from zdckeras.data.files import open_showers, write_npz, write_root
from zdckeras.data.particles import conditions_of
from zdckeras.data.showers import Showers


def make(rows=7, seed=0):
    rng = np.random.default_rng(seed)
    pdg, energies = rng.choice([11, 22], rows), rng.exponential(5.0, (rows, 30, 30)).astype("float32")
    return Showers(conditions_of(pdg, rng.normal(0, 10, (rows, 3))), pdg, {"ecal": energies}, {"seed": seed})


def assert_same(a, b):
    assert np.array_equal(a.particles, b.particles) and np.array_equal(a.response, b.response)
    assert a.metadata == b.metadata


FULL_DISK = """
import resource, sys
from zdckeras.data.files import open_showers, write_npz, write_root
showers = open_showers(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    (write_npz if sys.argv[3] == "npz" else write_root)(showers, sys.argv[2])
except OSError as error:
    print("refused", type(error).__name__)
"""


@pytest.mark.parametrize("kind", ["npz", "root"])
def test_full_disk_leaves_the_old_file(tmp_path, kind):
    """The second write stops at 20 kB; the first one's file must still be there, whole, and nothing else."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20_000
    write_npz(make(rows=200, seed=1), tmp_path / "source")
    old = make(seed=2)
    target = tmp_path / "target" if kind == "npz" else tmp_path / "target" / "a.root"
    (write_npz if kind == "npz" else write_root)(old, target)
    before = sorted((tmp_path / "target").rglob("*"))
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "source"), str(target), kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("refused"), done.stderr
    assert sorted((tmp_path / "target").rglob("*")) == before
    assert_same(open_showers(target), old)


def test_interrupted_npz_pair_keeps_both_old_files(tmp_path, monkeypatch):
    old = make(seed=2)
    write_npz(old, tmp_path)
    write = np.savez_compressed
    calls = []

    def fail_second(file, **arrays):
        calls.append(file)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        write(file, **arrays)

    monkeypatch.setattr(np, "savez_compressed", fail_second)
    with pytest.raises(OSError, match="No space left"):
        write_npz(make(seed=3), tmp_path)
    assert len(calls) == 2
    assert len(list(tmp_path.iterdir())) == 3
    assert_same(open_showers(tmp_path), old)
