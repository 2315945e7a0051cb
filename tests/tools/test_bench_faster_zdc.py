import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "bench_faster_zdc.py"


def test_a_folder_without_the_authors_code_is_refused(tmp_path):
    done = subprocess.run([sys.executable, str(TOOL), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout
    assert f"{tmp_path}: expected a clone of m-wojnar/faster_zdc, found no folder zdc" in done.stderr


@pytest.mark.parametrize(("more", "message"), [
    (["--train", "9"], "--train: expected --showers, --particles and --out beside it"),
    (["--train", "9", "--showers", "a", "--particles", "b", "--out", "c"], "a: expected a folder with the npz pair")])
def test_a_training_without_showers_is_refused(tmp_path, more, message):
    (tmp_path / "zdc").mkdir()
    done = subprocess.run([sys.executable, str(TOOL), str(tmp_path), *more], capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout and message in done.stderr


def test_the_first_call_is_not_in_the_median(monkeypatch):
    monkeypatch.syspath_prepend(TOOL.parent)
    import bench_faster_zdc

    clock = iter([0.0, 9.0, 10.0, 12.0, 20.0, 21.0, 30.0, 33.0])
    monkeypatch.setattr(bench_faster_zdc.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(bench_faster_zdc.time, "process_time", lambda: next(clock))
    calls = []
    assert bench_faster_zdc.median(lambda: calls.append(1), 3) == (2000.0, 9.0) and len(calls) == 4
