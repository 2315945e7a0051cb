import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import optuna
import pytest
from optuna.trial import TrialState, create_trial

TOOL = Path(__file__).parents[2] / "tools" / "sweep.py"
POINTS = [{"diversity": 0.1, "intensity": 1e-3, "auxiliary": a} for a in (1e-3, 1e-2, 1e-1, 1.0)]


@pytest.fixture
def sweep(monkeypatch):
    """The tool as a module."""
    monkeypatch.syspath_prepend(TOOL.parent)
    import sweep

    return sweep


def study_of(folder, name=None):
    """The study in a folder, a new one if it is named."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "sweep.journal")))
    if name:
        return optuna.create_study(storage=storage, study_name=name)
    (summary,) = optuna.get_all_study_summaries(storage)
    return optuna.load_study(storage=storage, study_name=summary.study_name)


def test_unfinished_points_are_queued_again(sweep, tmp_path):
    """One point finished, one diverged, one was left running by a killed run, one never began."""
    study, space = study_of(tmp_path, "s"), dict.fromkeys(POINTS[0], optuna.distributions.FloatDistribution(0.0, 1e9))
    study.add_trial(create_trial(params=POINTS[0], distributions=space, value=1.0, user_attrs={"ws": [1.0]}))
    study.add_trial(create_trial(params=POINTS[1], distributions=space, state=TrialState.FAIL,
                                 user_attrs={"diverged": "NaN"}))
    study.enqueue_trial(POINTS[2])
    assert study.ask(space).params == POINTS[2]
    for _ in range(2):  # a second look changes nothing
        sweep.take_up(study, POINTS)
        states = [trial.state.name for trial in study.get_trials()]
        assert states == ["COMPLETE", "FAIL", "FAIL", "WAITING", "WAITING"]
    assert [study.ask(space).params for _ in range(2)] == POINTS[2:]


def test_best_point_comes_first_and_diverged_ones_last(sweep, tmp_path):
    study, space = study_of(tmp_path, "s"), dict.fromkeys(POINTS[0], optuna.distributions.FloatDistribution(0.0, 1e9))
    for point, scores in zip(POINTS, ([3.0, 5.0], [1.0, 2.0], None, [2.5, 2.5]), strict=True):
        result = dict(value=sum(scores) / 2, user_attrs={"ws": scores}) if scores else dict(
            state=TrialState.FAIL, user_attrs={"diverged": "NaN"})
        study.add_trial(create_trial(params=point, distributions=space, **result))
    rows = sweep.results(study)
    words = [line.split() for line in sweep.table(rows).splitlines()]
    assert [line[2:] for line in words[1:]] == [["0.01", "1.500", "0.707", "2"], ["1", "2.500", "0.000", "2"],
                                               ["0.001", "4.000", "1.414", "2"], ["0.1", "diverged", "-", "0"]]
    panels = sweep.picture(rows).axes
    assert [ax.get_xscale() for ax in panels] == ["log"] * 3
    assert panels[0].lines[-1].get_label() != "" and len(panels[2].lines) >= 3


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="compiling takes most of the time elsewhere")
def test_killed_search_goes_on(tmp_path):
    """Killed in its second point: the first keeps its result, its workers end, and the second is trained."""
    command = [sys.executable, str(TOOL), "--preset", "smoke", "--seeds", "1", "--out", str(tmp_path),
               "--diversity", "0", "--intensity", "1e-3", "1", "--auxiliary", "0"]  # what takes least to trace
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    killed = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    first = killed.stdout.readline()
    while not any(trial.state == TrialState.RUNNING for trial in study_of(tmp_path).get_trials()):
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert killed.stdout.read() == ""  # ends when its worker, too, is gone
    killed.stdout.close()
    done = [trial for trial in study_of(tmp_path).get_trials() if trial.state == TrialState.COMPLETE]
    assert len(done) == 1 and f"WS {done[0].value:.3f}; 1 to go" in first
    starts = {path: path.stat().st_mtime_ns for path in tmp_path.glob("states/*/seed0/s*.npz")}
    assert len(starts) == 2

    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    trials = study_of(tmp_path).get_trials()
    assert [trial.state.name for trial in trials].count("COMPLETE") == 2
    assert [trial.state.name for trial in trials].count("FAIL") == 1
    assert trials[done[0].number].value == done[0].value
    assert {path: path.stat().st_mtime_ns for path in starts} == starts
    rows = json.loads((tmp_path / "sweep.json").read_text())
    assert sorted(row["intensity"] for row in rows) == [1e-3, 1.0] and rows[0]["ws"] <= rows[1]["ws"]
    assert (tmp_path / "sweep.txt").read_text() in again.stdout
    assert (tmp_path / "sweep.png").read_bytes()[:4] == b"\x89PNG"


def test_bad_weights_are_refused(sweep, tmp_path, capsys):
    with pytest.raises(SystemExit):
        sweep.main(["--out", str(tmp_path), "--diversity", "-1"])
    assert "expected weights of at least 0 and below 1e9, received [-1.0]" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="compiling takes most of the time elsewhere")
def test_published_networks_are_searched_on_the_studys_grid(sweep, tmp_path, capsys):
    with pytest.raises(SystemExit):
        sweep.main(["--out", str(tmp_path), "--published", "--detector", "zn"])
    assert "--published: expected the detector of the study, zp, received zn" in capsys.readouterr().err
    command = [sys.executable, str(TOOL), "--published", "--preset", "smoke", "--seeds", "1", "--out", str(tmp_path),
               "--rows", "64", "--diversity", "0", "--intensity", "1e-3", "--auxiliary", "0"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "sweep.json").read_text())
    assert row["intensity"] == 1e-3 and len(row["ws"]) == 1 and 0.0 < row["ws"][0] < 1e4
    assert not list(tmp_path.glob("states/*/seed0/s*.npz"))  # no start without a critic
