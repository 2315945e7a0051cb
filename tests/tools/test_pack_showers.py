import numpy as np
import pytest

from zdckeras.simulation.library import load_library, read_geant4


@pytest.fixture(scope="module")
def main(load_tool):
    return load_tool("pack_showers").main


def raw(path, energies, seed=0, size=88):
    """A file as tools/geant4_showers.py writes it: photons and neutrons on a ZN block."""
    rng, count = np.random.default_rng(seed), len(energies)
    light = rng.exponential(5.0, (count, size, size)) * (rng.random((count, size, size)) < 0.05)
    primaries = np.column_stack([rng.choice([22, 2112], count), energies, rng.uniform(-1.6, 1.6, (count, 2)),
                                 rng.normal(0, 2e-4, (count, 2))])
    np.savez(path, expected=light.astype("float16"), primaries=primaries, seconds=np.ones(count),
             settings=np.array("{}"))
    return path


def test_files_become_one_library_and_more_are_added(main, tmp_path, capsys):
    """Sorted by kind and energy; sums are kept, cells within a few per cent; a shower that is there is not added."""
    output = tmp_path / "new" / "all.npz"
    paths = [raw(tmp_path / "a.npz", [30.0, 500.0, 100.0]), raw(tmp_path / "b.npz", [20.0, 40.0], seed=1)]
    main(["zn", str(paths[0]), "--output", str(output), "--source", "a test"])
    main(["zn", *map(str, paths), "--add", "--output", str(output)])
    packed, parts = load_library(output), [read_geant4(path, "zn") for path in paths]
    assert packed.metadata["source"] == "a test" and len(packed) == 5
    wanted = np.concatenate([part.light for part in parts])[np.lexsort((
        np.concatenate([part.energy for part in parts]), np.concatenate([part.pdg for part in parts])))]
    np.testing.assert_allclose(packed.light.sum(axis=(1, 2)), wanted.sum(axis=(1, 2)), rtol=1e-3)
    np.testing.assert_allclose(packed.light[wanted > 1], wanted[wanted > 1], rtol=0.06)
    said = capsys.readouterr().out.splitlines()[-1]
    photons = int((packed.pdg == 22).sum())
    assert f"all.npz: 5 showers, {output.stat().st_size / 1e6:.2f} MB ({photons} of 22, {5 - photons} of 2112)" in said
    assert "energies 20 to 500 GeV; rounding moved sums by at most" in said


def test_blocks_do_not_mix(main, tmp_path):
    paths = [raw(tmp_path / "a.npz", [30.0]), raw(tmp_path / "b.npz", [30.0], size=44)]
    with pytest.raises(ValueError, match="Expected libraries of one detector and block"):
        main(["zn", *map(str, paths), "--output", str(tmp_path / "all.npz")])
    assert not (tmp_path / "all.npz").exists()
