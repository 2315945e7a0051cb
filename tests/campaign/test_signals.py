"""A campaign that is interrupted, told to end or killed: what is done counts, and no worker stays behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.campaign.conftest import write_particles
from zdckeras.campaign import run
from zdckeras.campaign.shards import MANIFEST, Manifest, checksum
from zdckeras.command import ended_by_sigterm

pytestmark = pytest.mark.neutral
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Particles of 1,200 shards: more than are made before they are interrupted."""
    return write_particles(tmp_path_factory.mktemp("particles"), 256, 1200)


def alive(pid):
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def begun(small_onnx, many, tmp_path):
    """A campaign of two workers with some shards done: process, numbers of its workers, folder."""
    words = ["generate", str(small_onnx()), str(many), str(tmp_path / "out"), "--shards", "256", "--workers", "2"]
    started = subprocess.Popen([sys.executable, "-m", "zdckeras.cli", *words], cwd=tmp_path, start_new_session=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
                               stdout=subprocess.DEVNULL,  # shells have what runs in the background ignore Ctrl-C
                               preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL))
    children, deadline = Path(f"/proc/{started.pid}/task/{started.pid}/children"), time.monotonic() + 300
    while not (tmp_path / "out" / "shard-000003.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    found = [int(pid) for pid in children.read_text().split()]
    workers = [pid for pid in found if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(workers) == 2 and all(map(alive, workers))
    yield started, workers, tmp_path / "out"
    for pid in (started.pid, *workers):
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    started.communicate()


def gone(workers, seconds=20):
    deadline = time.monotonic() + seconds
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, workers))


@pytest.mark.parametrize("whole_group", [False, True])
def test_interrupted_all_that_is_done_counts(begun, whole_group):
    """By SIGTERM, which one process gets, or by Ctrl-C, which workers get, too."""
    started, workers, folder = begun
    if whole_group:
        os.killpg(started.pid, signal.SIGINT)
    else:
        os.kill(started.pid, signal.SIGTERM)
    said = started.communicate(timeout=120)[1]
    assert started.returncode == 1 and "Traceback" not in said
    assert said.splitlines()[-1].startswith("zdckeras generate: interrupted; shards that are done stay")
    assert gone(workers)
    listed = json.loads((folder / MANIFEST).read_text())["shards"]
    assert {path.name for path in folder.iterdir()} == {MANIFEST, *listed} and 4 <= len(listed) < 1200
    assert all(checksum(folder / name) == entry["sha256"] for name, entry in listed.items())


def test_workers_end_with_a_parent_that_is_killed(begun):
    started, workers, _ = begun
    started.kill()
    started.wait()
    assert gone(workers)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_that_end_are_as_before_afterwards_and_in_other_threads(number):
    before, within = signal.signal(number, signal.SIG_DFL), []

    def other():
        with ended_by_sigterm():
            within.append(signal.getsignal(number))

    try:
        with pytest.raises(KeyboardInterrupt), ended_by_sigterm():
            os.kill(os.getpid(), number)
            time.sleep(5)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert signal.getsignal(number) == signal.SIG_DFL == within[0]
    finally:
        signal.signal(number, before)


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_sigterm():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


def futures_of(*states):
    """One future for each state: its result, an error, True for one that runs, or False for one that waits."""
    made = [Future() for _ in states]
    for future, state in zip(made, states, strict=True):
        if state is True:
            future.set_running_or_notify_cancel()
        elif isinstance(state, Exception):
            future.set_exception(state)
        elif state is not False:
            future.set_result(state)
    return made


@pytest.mark.parametrize("where", ["wait", "consumer"])
def test_what_runs_is_waited_for_and_what_waits_is_cancelled(tmp_path, monkeypatch, where):
    """Two are done at once, one runs, one waits; the interrupt comes while they are waited for, or counted."""
    for k in range(4):
        (tmp_path / f"shard-{k:06d}.npz").touch()
    results = [(f"shard-{k:06d}.npz", 1, "0" * 64) for k in range(4)]
    first, second, runs, waits = futures_of(results[0], results[1], True, False)
    queue, calls, saves = iter([first, second, runs, waits]), [], []

    def wait_for(some):
        calls.append(len(some))
        if where == "wait" and len(calls) == 1:
            raise KeyboardInterrupt
        if not any(future.done() for future in some):
            runs.set_result(results[2])
        return SimpleNamespace(done={future for future in some if future.done()})

    def save(manifest):
        saves.append(len(manifest.shards))
        if where == "consumer" and len(saves) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Manifest, "save", save)
    manifest = Manifest(tmp_path, {}, {})
    made = run._as_done([(k,) for k in range(4)], lambda *job: next(queue), 4, wait_for)
    with pytest.raises(KeyboardInterrupt):
        run._collect(made, manifest, 4, progress=False)
    assert set(manifest.shards) == {name for name, *_ in results[:3]} and waits.cancelled() and saves[-1] == 3


def test_what_runs_beside_an_error_counts_too():
    broken, runs = futures_of(ValueError("broken"), True)
    queue, found = iter([broken, runs]), []

    def wait_for(some):
        if some == [runs]:
            runs.set_result("made")
        return SimpleNamespace(done={future for future in some if future.done()})

    with pytest.raises(ValueError, match="broken"):
        for one in run._as_done([("a",), ("b",)], lambda *job: next(queue), 2, wait_for):
            found.append(one)
    assert found == ["made"]
