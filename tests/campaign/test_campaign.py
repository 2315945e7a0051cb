import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import zdckeras as zdc
from tests.campaign.conftest import write_particles
from zdckeras.campaign import answers
from zdckeras.campaign.answers import Answer, digest_of, is_exported, open_answer, reach_of
from zdckeras.campaign.run import make_shard, merge_shards, run_campaign
from zdckeras.campaign.shards import MANIFEST, Manifest, checksum, read_shard, write_shard
from zdckeras.cli import main
from zdckeras.comparison.contenders import open_contender
from zdckeras.data.files import open_showers
from zdckeras.data.particles import Scaler, conditions_of
from zdckeras.data.showers import Showers
from zdckeras.gan.networks import ResponseNetwork
from zdckeras.packaged import model_file

ROOT = Path(__file__).parents[2]
ROWS, SHARD = 1100, 256


@pytest.fixture(scope="module")
def particles(tmp_path_factory):
    """1,100 particles: five shards, the last one short."""
    return write_particles(tmp_path_factory.mktemp("particles"), 220, 5)


@pytest.fixture(scope="module")
def generator(particles):
    with np.load(particles) as archive:
        scaler = Scaler.fit(archive["arr_0"][:, :9]).get_config()
    return zdc.GanGenerator(ResponseNetwork("zn", scaler, 10, 8, (8,), (4, 4, 2), 2, seed=3))


@pytest.fixture(scope="module")
def model(generator, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "gan.keras"
    generator.save(path)
    return path


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(folder).iterdir())}


@pytest.fixture(scope="module")
def finished(model, particles, tmp_path_factory):
    """A campaign of one worker."""
    return run_campaign(str(model), particles, tmp_path_factory.mktemp("one"), 7, SHARD, progress=False)


def command(model, particles, folder, *more):
    return [sys.executable, "-m", "zdckeras.cli", "generate", str(model), str(particles), str(folder), "--seed", "7",
            "--shards", str(SHARD), *more]


def test_shards_hold_what_sample_gives(finished, generator, particles, tmp_path):
    names = ["manifest.json", *(f"shard-{k:06d}.npz" for k in range(5))]
    assert sorted(path.name for path in finished.iterdir()) == names
    merge_shards(finished, tmp_path / "merged.root")
    merged = open_showers(tmp_path / "merged.root")
    with np.load(particles) as archive:
        asked = archive["arr_0"]
    assert np.array_equal(merged.particles, asked[:, :9]) and np.array_equal(merged.pdg, asked[:, 9])
    expected = generator.sample(asked[:, :9], seed=7)
    assert (merged.response != expected).mean() < 1e-4 and merged.response.sum() > 0
    assert len(read_shard(finished / names[-1])) == ROWS - 4 * SHARD


@pytest.mark.neutral
def test_killed_and_resumed_by_other_workers_the_bytes_are_the_same(finished, model, particles, tmp_path):
    """Killed when the first shards are there, then done by two workers."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = subprocess.Popen(command(model, particles, tmp_path / "two"), env=environment, start_new_session=True,
                               stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while not (tmp_path / "two" / "shard-000001.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    done = json.loads((tmp_path / "two" / MANIFEST).read_text())["shards"]
    assert 1 <= len(done) <= 5
    again = subprocess.run(command(model, particles, tmp_path / "two", "--workers", "2"), env=environment,
                           capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "the shards are in" in again.stdout and "1100/1100" in again.stderr
    kept = {name: digest for name, digest in digests(tmp_path / "two").items() if not name.startswith(".")}
    assert kept == digests(finished)


@pytest.mark.neutral
def test_a_worker_that_dies_is_told_and_the_rest_goes_on(finished, model, particles, tmp_path):
    """Its process is killed; what it had done stays, and the same command finishes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = command(model, particles, tmp_path / "dying", "--workers", "1")
    started = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    children, deadline = Path(f"/proc/{started.pid}/task/{started.pid}/children"), time.monotonic() + 600

    def workers():
        found = [int(pid) for pid in children.read_text().split()]
        return [pid for pid in found if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]

    while not (tmp_path / "dying" / "shard-000000.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in workers():
        os.kill(pid, signal.SIGKILL)
    said = started.communicate()[1]
    assert started.returncode == 1 and "A worker died" in said and "Traceback" not in said
    assert main(["generate", *words[4:], "--workers", "1"]) == 0
    assert digests(tmp_path / "dying") == digests(finished)


def test_a_share_of_unknown_ids_goes_through(model, particles, tmp_path):
    """Up to 1 % of all particles, wherever they stand, are kept by every part and by what joins them."""
    with np.load(particles) as archive:
        rows = archive["arr_0"]
    rows[1099, 9] = 9900210  # in the last shard one of 76
    np.savez(tmp_path / "p.npz", rows)
    with pytest.warns(UserWarning, match="kept as species of their own: 9900210"):
        run_campaign(str(model), tmp_path / "p.npz", tmp_path / "shards", 7, SHARD, progress=False)
    assert merge_shards(tmp_path / "shards", tmp_path / "a.root").is_file()
    with pytest.warns(UserWarning, match="9900210"):
        assert open_showers(tmp_path / "a.root").pdg[1099] == 9900210
        main(["generate", str(model), str(tmp_path / "p.npz"), str(tmp_path / "b.root"), "--seed", "7"])


def test_particles_outside_the_trained_range_are_told(model, tmp_path):
    far = conditions_of(np.array([2112]), np.array([[0.0, 0.0, 9000.0]]))
    np.savez(tmp_path / "p.npz", np.column_stack([far, [2112]]))
    for name in ("zn", model):
        reach = reach_of(name)
        assert reach["low"].shape == reach["high"].shape == (9,) and (reach["low"] <= reach["high"]).all()
    with pytest.warns(UserWarning, match=r"outside the trained range: energy \(1 of 1 outside"):
        run_campaign("zn", tmp_path / "p.npz", tmp_path / "shards", 7, SHARD, progress=False)


def test_a_folder_with_the_name_of_a_pretrained_generator_is_not_meant(monkeypatch, tmp_path):
    (tmp_path / "zn").mkdir()
    digest = digest_of("zn")
    monkeypatch.chdir(tmp_path)
    assert digest_of("zn") == digest and not is_exported("zn") and model_file("zn").name == "zn.keras"
    assert is_exported("./zn") and is_exported(tmp_path / "zn")


def test_a_scheduler_that_does_not_answer(model, particles, tmp_path, capsys):
    distributed = pytest.importorskip("distributed")
    import dask

    assert distributed.__version__
    with dask.config.set({"distributed.comm.timeouts.connect": "0.5s"}), pytest.raises(SystemExit, match="1"):
        main(["generate", str(model), str(particles), str(tmp_path / "out"), "--scheduler", "tcp://127.0.0.1:1"])
    said = capsys.readouterr().err
    assert "No scheduler of a Dask cluster answers at tcp://127.0.0.1:1" in said


@pytest.mark.neutral
def test_damaged_shards_are_made_again(finished, model, particles, tmp_path, capsys):
    before, shard = digests(finished), finished / "shard-000002.npz"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:1000])
    with pytest.raises(ValueError, match="received shard-000002.npz missing or changed"):
        merge_shards(finished, tmp_path / "merged.root")
    run_campaign(str(model), particles, finished, 7, SHARD, progress=False)
    assert "shard-000002.npz is missing or was changed, and is made again" in capsys.readouterr().err
    assert digests(finished) == before and not (tmp_path / "merged.root").exists()


def test_other_settings_do_not_mix(finished, model, particles):
    for changes, names in (({"seed": 8}, "seed"), ({"shard_rows": 512}, "shard_rows")):
        settings = {"seed": 7, "shard_rows": SHARD, **changes}
        with pytest.raises(ValueError, match=f"received one with another {names}: choose another folder"):
            run_campaign(str(model), particles, finished, progress=False, **settings)


def test_manifests_that_are_damaged_or_not_whole(finished, tmp_path):
    text = (finished / MANIFEST).read_text()
    for spoilt, message in ((text[:50], "manifest of a campaign, received one that cannot be read"),
                            ("[]", "cannot be read"),
                            (text.replace("shard-000001.npz", "../keys.npz"), "cannot be read"),
                            (text.replace('"sha256"', '"md5"', 1), "cannot be read"),
                            (text.replace('"rows": 256', '"rows": "many"', 1), "cannot be read"),
                            (text.replace('"seed"', '"salt"', 1), "cannot be read: ValueError settings without seed"),
                            (text.replace('"rows": 1100', '"rows": 1101'), "expected a finished campaign of 1101")):
        (tmp_path / MANIFEST).write_text(spoilt)
        with pytest.raises(ValueError, match=message):
            merge_shards(tmp_path, tmp_path / "merged.root")
    with pytest.raises(FileNotFoundError, match="No such file: .*manifest.json"):
        Manifest.open(tmp_path / "nothing")


@pytest.mark.parametrize(("words", "message"), [
    (["--seed", "-1"], "at least 0, received -1"), (["--shards", "300"], "shards of a multiple of 256 rows"),
    (["--workers", "0"], "at least 1, received 0")])
def test_wrong_numbers(model, particles, tmp_path, capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        main(["generate", str(model), str(particles), str(tmp_path / "out"), "--shards", "256", *words])
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_wrong_models_are_told_before_anything_is_written(particles, tmp_path):
    (tmp_path / "text.onnx").write_text("no model")
    for name, error in (("none.keras", FileNotFoundError), ("none.onnx", (FileNotFoundError, ValueError))):
        with pytest.raises(error, match=r"No such file: none|one of .* received"):
            run_campaign(name, particles, tmp_path / "out")
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match="one that ONNX Runtime refuses"):
        open_answer(tmp_path / "text.onnx")
    with pytest.raises(ValueError, match="expected a folder with saved_model.pb"):
        open_answer(tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="files are written by TensorFlow")
def test_onnx_and_saved_models_answer_alike(generator, particles, tmp_path, monkeypatch):
    pytest.importorskip("tf2onnx")
    with np.load(particles) as archive:
        rows = archive["arr_0"][:200]
    served = zdc.export_saved_model(generator, tmp_path / "served")
    sources = [zdc.export_onnx(generator, tmp_path / "gan.onnx"), served]
    expected = generator.sample(rows[:, :9], seed=3)
    np.testing.assert_allclose(list(reach_of(sources[0]).values()), [generator.low, generator.high], rtol=1e-6)
    assert reach_of(served) == {}
    for source in sources:
        answer = open_answer(source)
        made = answer.block(rows[:, :9], rows[:, 9], 3, 0)["zn"]
        assert answer.width == 10 and made.dtype == np.uint16 and made.shape == expected.shape
        assert (made != expected).mean() < 1e-3
        main(["generate", str(source), str(particles), str(tmp_path / "made.root"), "--seed", "3", "--overwrite"])
        written = open_showers(tmp_path / "made.root")
        assert len(written) == ROWS and np.array_equal(written.response[:200], made)
    sessions, real = [], answers.open_session
    monkeypatch.setattr(answers, "open_session", lambda path: sessions.append(path) or real(path))
    found = open_contender(sources[0])
    assert len(sessions) == 1 and found.provenance["name"] == generator.name
    np.testing.assert_allclose(found.generator.low, generator.low, rtol=1e-6)


class Echo:
    """Photons that tell the block's noise and the particle."""

    def __init__(self):
        self.answer = Answer("echo", ("zn",), 2, self.call)

    def call(self, noise, conditions, pdg):
        made = np.zeros((len(noise), 44, 44))
        made[:, 0, 0], made[:, 1, 1] = np.rint(conditions[:, 0]), pdg
        made[:, 2, 2] = noise[:, 0] > 0
        return [made]


def test_blocks_are_those_of_seed_and_number():
    answer, conditions = Echo().answer, np.ones((5, 9)) * np.arange(5)[:, None]
    made = answer.block(conditions, np.arange(5), 4, 9)["zn"]
    noise = np.random.default_rng([4, 9]).standard_normal((256, 2), "float32")
    assert made.shape == (5, 44, 44) and made[:, 0, 0].tolist() == made[:, 1, 1].tolist() == [0, 1, 2, 3, 4]
    assert np.array_equal(made[:, 2, 2], noise[:5, 0] > 0)


def test_bytes_of_a_shard_do_not_depend_on_when_it_is_written(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    photons = conditions_of(np.full(3, 22), rng.random((3, 3)))
    showers = Showers(photons, np.full(3, 22), {"zn": rng.poisson(0.1, (3, 44, 44)).astype("uint16")}, {})
    blocks = [{"zn": showers.response[:2]}, {"zn": showers.response[2:]}]
    first = write_shard(tmp_path / "a.npz", photons, showers.pdg, blocks)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert write_shard(tmp_path / "b.npz", photons, showers.pdg, blocks) == first == checksum(tmp_path / "a.npz")
    again = read_shard(tmp_path / "a.npz", {"seed": 1})
    assert np.array_equal(again.response, showers.response) and again.metadata == {"seed": 1}
    for wrong in (np.nan, -1.0, 0.5):
        blocks[1]["zn"] = np.where(showers.response[2:] > 0, wrong, 0.0)
        with pytest.raises(ValueError, match="expected whole, non-negative photon counts"):
            write_shard(tmp_path / "d.npz", photons, showers.pdg, blocks)
        assert not (tmp_path / "d.npz").exists()
    (tmp_path / "c.npz").write_text("text")
    with pytest.raises(ValueError, match="expected a shard of a campaign"):
        read_shard(tmp_path / "c.npz")


def test_full_disk_leaves_no_half_shard(model, particles, tmp_path):
    import resource

    with np.load(particles) as archive:
        rows = archive["arr_0"][:256]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            make_shard(str(model), tmp_path / "shard-000000.npz", rows[:, :9], rows[:, 9].astype("int32"), 1, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.neutral
def test_a_dask_cluster_gives_the_same_bytes(finished, model, particles, tmp_path, monkeypatch):
    """Two threads of a worker that began in another folder than the one that names are relative to."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:
        monkeypatch.chdir(tmp_path)
        folder = run_campaign(os.path.relpath(model), particles, "dask", 7, SHARD, progress=False,
                              scheduler=cluster.scheduler_address)
        assert digests(tmp_path / folder) == digests(finished)
