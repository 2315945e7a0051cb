"""What goes on around the shards of a campaign: threads, folders, locks, and what is told when."""

import os
import subprocess
import sys
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import zdckeras as zdc
from zdckeras.campaign import run, shards
from zdckeras.campaign.answers import open_answer, place_of
from zdckeras.campaign.run import merge_shards, run_campaign
from zdckeras.campaign.shards import MANIFEST, Manifest, write_shard
from zdckeras.cli import main
from zdckeras.data.atomic import HOST, alone_in

OLD = str(Path(__file__).parents[1] / "data" / "old" / "gan.keras")


@pytest.fixture(scope="module")
def particles(tmp_path_factory):
    """Two shards, the second of one particle."""
    showers = zdc.load("zn", "test", 257)
    path = tmp_path_factory.mktemp("particles") / "particles.npz"
    np.savez(path, np.column_stack([showers.particles, showers.pdg]))
    return path


def worked(monkeypatch, *results):
    """Workers that give these results, or raise them."""
    def by_processes(jobs, workers):
        for result in results:
            if isinstance(result, Exception):
                raise result
            yield result

    monkeypatch.setattr(run, "_by_processes", by_processes)


def test_threads_of_a_worker_answer_as_one(particles):
    with np.load(particles) as archive:
        rows = archive["arr_0"][:256]
    answer, alone = open_answer(OLD), open_answer(OLD)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda block: answer.block(rows[:, :9], rows[:, 9], 1, block)["zn"], range(12)))
    expected = [alone.block(rows[:, :9], rows[:, 9], 1, block)["zn"] for block in range(12)]
    assert np.array_equal(made, expected)


def test_threads_of_a_worker_load_a_model_once(monkeypatch):
    loaded = []
    monkeypatch.setattr(run, "open_answer", lambda model: time.sleep(0.05) or loaded.append(model) or object())
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(run._loaded, ["some model"] * 4))) == 1
    assert loaded == ["some model"]


def test_workers_that_outlive_a_campaign_answer_with_the_model_of_the_next(monkeypatch, particles, tmp_path):
    """As those of a cluster do, after a training that wrote its model under the same name."""
    model, opened = tmp_path / "model.onnx", []
    monkeypatch.setattr(run, "reach_of", lambda model: {})
    monkeypatch.setattr(run, "about_exported", lambda model: {})
    monkeypatch.setattr(run, "knows_ids", lambda model: False)
    monkeypatch.setattr(run, "open_answer", lambda path: opened.append(Path(path).read_text()) or Zeros([]))
    monkeypatch.setattr(run, "_by_processes", lambda jobs, workers: (run.make_shard(*job) for job in jobs))
    for text in ("first", "second"):
        model.write_text(text)
        run_campaign(str(model), particles, tmp_path / text, 0, 256, progress=False)
    assert opened == ["first", "second"]

    def written_meanwhile(jobs, workers):
        model.write_text("fourth")
        yield from (run.make_shard(*job) for job in jobs)

    monkeypatch.setattr(run, "_by_processes", written_meanwhile)
    model.write_text("third")
    with pytest.raises(RuntimeError, match="model.onnx is another file than that with which the campaign began"):
        run_campaign(str(model), particles, tmp_path / "third", 0, 256, progress=False)
    assert not (tmp_path / "third").exists()


def test_flags_for_xla_are_kept(monkeypatch):
    for name in run.ONE_THREAD:
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("XLA_FLAGS", "--xla_of_the_user")
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setattr(run, "open_answer", str)
    run._loaded("another model")
    assert os.environ["XLA_FLAGS"] == f"--xla_of_the_user {run.ONE_XLA_THREAD}"
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_threads_of_a_cluster_are_counted(monkeypatch):
    distributed = pytest.importorskip("distributed")

    class Client:
        def __init__(self, address):
            """Nothing is there."""

        def __enter__(self):
            return SimpleNamespace(nthreads=lambda: {"a": 3, "b": 4})

        def __exit__(self, *error):
            """Nothing."""

    monkeypatch.setattr(distributed, "Client", Client)
    monkeypatch.setattr(run, "_as_done", lambda jobs, submit, ahead, *_: iter([ahead]))
    assert list(run._by_dask([], "tcp://x")) == [7 * run.AHEAD]


def test_workers_get_whole_paths(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert place_of("zn") == "zn" and place_of(Path("zn")) == str(tmp_path / "zn")
    assert place_of("a/b.keras") == str(tmp_path / "a" / "b.keras")


def test_shards_that_are_not_there_are_not_listed(monkeypatch, particles, tmp_path):
    worked(monkeypatch, ("shard-000000.npz", 256, "0" * 64))
    with pytest.raises(RuntimeError, match="shard-000000.npz, which is not in .*: expected workers that see the same"):
        run_campaign(OLD, particles, tmp_path / "out", 0, 256, progress=False)
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_none_does_not_block_the_folder(monkeypatch, particles, tmp_path):
    worked(monkeypatch, ValueError("expected a generator (Sampler), received HitClassifier"))
    with pytest.raises(ValueError, match="received HitClassifier"):
        run_campaign(OLD, particles, tmp_path / "out", 0, 256, progress=False)
    assert not (tmp_path / "out").exists()


def test_what_is_done_beside_an_error_counts():
    futures = [Future() for _ in range(3)]
    futures[0].set_exception(ValueError("broken"))
    futures[1].set_result("one")
    futures[2].set_result("two")
    waiting, found = iter(futures), []
    done = run._as_done([("a",), ("b",), ("c",)], lambda *job: next(waiting), 3,
                        lambda some: SimpleNamespace(done=set(some)))
    with pytest.raises(ValueError, match="broken"):
        for one in done:
            found.append(one)
    assert sorted(found) == ["one", "two"]


def test_the_manifest_is_not_written_for_every_shard(monkeypatch, tmp_path):
    """A fiftieth of the time at most; whatever ends it, what is done is in."""
    names, saved = [f"shard-{k:06d}.npz" for k in range(40)], []
    for name in names:
        (tmp_path / name).touch()
    monkeypatch.setattr(Manifest, "save", lambda self: time.sleep(0.01) or saved.append(len(self.shards)))

    def results():
        yield from ((name, 1, "0" * 64) for name in names)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run._collect(results(), Manifest(tmp_path, {}, {}), 40, progress=False)
    assert saved[0] == 1 and saved[-1] == 40 and len(saved) < 10


def test_one_process_a_folder(monkeypatch, particles, tmp_path):
    with alone_in(tmp_path / "out"), pytest.raises(RuntimeError, match="Another process works in .*out: wait for it"):
        run_campaign(OLD, particles, tmp_path / "out", 0, 256, progress=False)
    assert not (tmp_path / "out").exists()


def test_outputs_are_looked_at_first(monkeypatch, tmp_path, capsys):
    """Before particles, which are not there, are read; and before checksums of all shards."""
    (tmp_path / "made").write_text("notes")
    with pytest.raises(SystemExit, match="2"):
        main(["generate", OLD, "none.npz", str(tmp_path / "made"), "--workers", "1"])
    said = capsys.readouterr().err
    assert "made is a file: expected a folder for shards" in said and said.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        main(["generate", OLD, "none.npz", str(tmp_path / "made" / "out"), "--workers", "1"])
    assert "cannot write" in capsys.readouterr().err

    def begun(path):
        raise AssertionError("begun")

    monkeypatch.setattr(shards, "checksum", begun)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "shard-000000.npz").touch()
    Manifest(tmp_path / "folder", {"model_sha256": "0" * 64, "seed": 0, "rows": 3},
             {"shard-000000.npz": {"rows": 3, "sha256": "0" * 64}}).save()
    (tmp_path / "old.root").touch()
    with pytest.raises(FileExistsError, match="old.root exists"):
        merge_shards(tmp_path / "folder", tmp_path / "old.root")
    assert (tmp_path / "folder" / MANIFEST).is_file()


@pytest.mark.parametrize("value", [np.nan, -1.0, 0.5])
def test_impossible_counts_are_told_with_particle_and_cell(tmp_path, value):
    blocks = np.zeros((2, 3, 44, 44))
    blocks[0, 1, 2, 3], blocks[1, 2, 40, 7], blocks[1, 2, 41, 7] = 4.0, value, 5.0
    with pytest.raises(ValueError, match=rf"a.npz, zn: expected whole, non-negative photon counts up to 65535, "
                                         rf"received {value:g} for particle 517, cell \(40, 7\)"):
        write_shard(tmp_path / "a.npz", np.ones((6, 9)), np.full(6, 22), [{"zn": block} for block in blocks], first=512)


def test_leftovers_are_looked_for_once_a_campaign(monkeypatch, particles, tmp_path):
    """By whoever begins it: a shard does not read the names of the whole folder."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "out").mkdir()
    own, other = (".shard-000007-{}.npz", ".manifest-{}.json"), ".notes-{}.npz"
    *own, other = (name.format(f"{HOST}-{dead.pid}-0123456789ab") for name in (*own, other))
    for name in (*own, other):
        (tmp_path / "out" / name).touch()
    looks, scan, answer = [], os.scandir, Zeros([])
    monkeypatch.setattr(os, "scandir", lambda folder: looks.append(folder) or scan(folder))
    monkeypatch.setattr(run, "_loaded", lambda *model: answer)
    monkeypatch.setattr(run, "_by_processes", lambda jobs, workers: (run.make_shard(*job) for job in jobs))
    run_campaign(OLD, particles, tmp_path / "out", 0, 256, progress=False)
    names = ["manifest.json", "shard-000000.npz", "shard-000001.npz"]
    assert sorted(os.listdir(tmp_path / "out")) == [other, *names] and looks.count(tmp_path / "out") == 1


class Zeros:
    """Answers without light, of which it counts those that are still held when the next one is made."""

    def __init__(self, held):
        self.held, self.made = held, []

    def unchecked(self, conditions, pdg, seed, block):
        response = np.zeros((len(conditions), 44, 44), "float32")
        self.held.append(sum(one() is not None for one in self.made))
        self.made.append(weakref.ref(response))
        return {"zn": response}


def test_of_a_large_shard_one_dense_block_at_a_time_is_held(monkeypatch, tmp_path):
    answer = Zeros([])
    monkeypatch.setattr(run, "_loaded", lambda *model: answer)
    run.make_shard(OLD, tmp_path / "shard-000000.npz", np.ones((20 * 256, 9)), np.full(20 * 256, 22), 0, 0)
    assert len(answer.held) == 20 and max(answer.held) <= 1
    assert len(shards.read_shard(tmp_path / "shard-000000.npz")) == 20 * 256
