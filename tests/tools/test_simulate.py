import resource
import runpy
from pathlib import Path

import numpy as np
import pytest

from zdckeras.data.files import open_showers
from zdckeras.simulation import reference

TOOL = Path(__file__).parents[2] / "tools" / "simulate.py"


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(TOOL))["main"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(reference, "PRIMARIES_AT_ONCE", 800)


@pytest.mark.parametrize("output", ["out", "out.root"])
@pytest.mark.parametrize("name", ["zn", "zn+zp", "ecal"])
def test_file_holds_the_reference_draw(main, tmp_path, capsys, output, name):
    """700 showers: several blocks, the last one cut short."""
    assert main([str(tmp_path / output), "--detector", name, "--size", "700", "--seed", "4", "--part", "test"]) == 0
    written, expected = open_showers(tmp_path / output), reference.load(name, "test", 700, 4)
    assert np.array_equal(written.particles, expected.particles) and np.array_equal(written.pdg, expected.pdg)
    assert list(written.responses) == list(expected.responses)
    assert all(np.array_equal(r, written.responses[one]) for one, r in expected.responses.items())
    assert written.metadata == expected.metadata
    assert f"simulating {name} test" in capsys.readouterr().err


def test_all_responses_can_be_kept(main, tmp_path):
    main([str(tmp_path / "all.root"), "--size", "500", "--keep-all"])
    written = open_showers(tmp_path / "all.root")
    assert len(written) == 500 and (written.photon_sums() == 0).mean() > 0.3
    assert written.metadata["photons"] == "any"


@pytest.mark.parametrize("output", ["out", "out.root"])
def test_existing_output_is_kept_unless_told_otherwise(main, tmp_path, capsys, output):
    path = str(tmp_path / output)
    main([path, "--size", "5"])
    before = open_showers(path)
    with pytest.raises(SystemExit) as stop:
        main([path, "--size", "6", "--seed", "1"])
    assert stop.value.code == 2 and "exists: choose another name, or --overwrite" in capsys.readouterr().err
    assert np.array_equal(open_showers(path).particles, before.particles)
    main([path, "--size", "6", "--seed", "1", "--overwrite"])
    assert len(open_showers(path)) == 6


def test_other_detectors_replace_the_old_ones(main, tmp_path):
    main([str(tmp_path), "--size", "5", "--detector", "zn"])
    main([str(tmp_path), "--size", "6", "--detector", "zn+zp", "--overwrite"])
    assert list(open_showers(tmp_path).responses) == ["zn", "zp"]
    main([str(tmp_path), "--size", "7", "--detector", "zp", "--overwrite"])
    assert list(open_showers(tmp_path).responses) == ["zp"] and len(open_showers(tmp_path)) == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--detector", "zdc"], "Unknown detector 'zdc'"),
        (["--detector", "zn+ecal"], "'zn+ecal': expected one detector, or zn+zp"),
        (["--size", "0"], "at least 1 as size, received 0"),
        (["--size", "many"], "invalid int value: 'many'"),
        (["--seed", "-1"], "at least 0 as seed, received -1"),
        (["--part", "training"], "invalid choice: 'training'"),
    ],
)
def test_wrong_arguments(main, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / "out.root"), *arguments])
    assert stop.value.code == 2 and message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_root_file_and_a_file_no_folder(main, tmp_path, capsys):
    (tmp_path / "a.root").mkdir()
    (tmp_path / "b").write_text("notes")
    for name, message in (("a.root", "is a folder"), ("b", "is a file")):
        with pytest.raises(SystemExit):
            main([str(tmp_path / name), "--size", "5"])
        assert message in capsys.readouterr().err
    assert (tmp_path / "b").read_text() == "notes"


def test_more_than_memory_holds(main, tmp_path):
    with pytest.raises(SystemExit, match="do not fit into memory: write a .root file"):
        main([str(tmp_path / "out"), "--size", str(10**14)])


@pytest.mark.parametrize("output", ["out", "out.root"])
def test_full_disk_leaves_nothing_behind(main, tmp_path, output):
    """Files of this process may not grow over 20 kB for a while, which fails as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(SystemExit, match="cannot write .*out.*: File too large; nothing new was left there"):
            main([str(tmp_path / output), "--size", "2000"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_interruption_leaves_nothing_behind(main, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(reference, "respond", interrupted)
    with pytest.raises(SystemExit, match="interrupted; nothing new was left there"):
        main([str(tmp_path / "out.root"), "--size", "5"])
    assert list(tmp_path.iterdir()) == []
