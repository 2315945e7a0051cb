"""Students of one teacher: what each trains on, from where it goes on, and what is kept of it."""

import numpy as np
import pytest

from zdckeras.data.showers import Showers
from zdckeras.flow_distill import students
from zdckeras.flow_distill.students import distil_students

CHANNELS = {"common": 0.0, "bs": 0.0, "bs+div": 0.0, "bs+ch": 1.0, "bs+ch+div": 1.0}
SCALED = ("bs+div", "bs+ch+div")
SIZES = dict(epochs=5, common=2, batch=6, rate=1e-3)


@pytest.fixture
def trained(monkeypatch):
    """What was handed to each training, by the name of its student; the k-th makes all weights of the student k."""
    seen = {}

    def record(distiller, batches, path, **settings):
        seen[path.stem.replace("_", "+")] = batches, {"path": path, **settings}
        for weight in distiller.student.weights:
            weight.assign(np.full(weight.shape, len(seen), "float32"))
        return {"loss": [float(len(seen))]}

    monkeypatch.setattr(students, "fit_adam", record)
    return seen


@pytest.fixture(scope="module")
def pairs(showers):
    """Three particles twice, whose responses are the same, or differ by 2 or by 4 photons: diversities 0, 1/2 and 1."""
    rows = np.repeat(np.arange(3), 2)
    responses = showers.response[rows].astype("float32")
    responses[3, 15, 15] += 2.0
    responses[5, 15, 15] += 4.0
    return Showers(showers.particles[rows], showers.pdg[rows], {"ecal": responses})


def test_students_train_on_their_own_losses_from_one_beginning(teacher, pairs, trained, tmp_path):
    """Weights 1 / (1 + d / <d>) of mean 1 where a student is scaled: 1, 1/2 and 1/3 over 11/18."""
    before = teacher.get_weights()
    student, weights, histories = distil_students(teacher, pairs, tmp_path, seed=3, **SIZES)
    assert list(trained) == list(histories) == list(CHANNELS) and list(weights) == list(CHANNELS)[1:]
    variable = np.repeat([18 / 11, 9 / 11, 6 / 11], 2)
    for name, (batches, settings) in trained.items():
        first = name == "common"
        assert settings == {"path": tmp_path / f"{name.replace('+', '_')}.npz", "epochs": 5, "rate": 1e-3,
                            "until": 2 if first else None, "start": None if first else tmp_path / "common.npz"}
        np.testing.assert_allclose(batches.arrays["weight"], variable if name in SCALED else np.ones(6), rtol=1e-5)
        assert batches.arrays["channels"].tolist() == [CHANNELS[name]] * 6
        assert np.array_equal(batches.arrays["responses"], pairs.response)
        assert (batches.batch_size, batches.seed) == (6, 3)
        assert batches.uniform == {"u_cells": (900,)} and batches.normal == {"z": (900,)}
    assert [history["loss"] for history in histories.values()] == [[1.0], [2.0], [3.0], [4.0], [5.0]]
    assert [{float(w.flat[0]) for w in values} for values in weights.values()] == [{2.0}, {3.0}, {4.0}, {5.0}]
    assert student.settings["inverse"] and student.settings["seed"] == 4
    assert all(np.array_equal(a, b) for a, b in zip(before, teacher.get_weights(), strict=True))


def test_no_student_is_scaled_where_no_particle_occurs_twice(teacher, showers, trained, tmp_path):
    _, weights, histories = distil_students(teacher, showers[:6], tmp_path, **SIZES)
    assert list(weights) == ["bs", "bs+ch"] and list(histories) == list(trained) == ["common", "bs", "bs+ch"]
    for name, (batches, _) in trained.items():
        assert batches.arrays["weight"].tolist() == [1.0] * 6
        assert batches.arrays["channels"].tolist() == [CHANNELS[name]] * 6


def test_students_that_are_asked_for_are_trained(teacher, pairs, trained, tmp_path):
    _, weights, _ = distil_students(teacher, pairs, tmp_path, **SIZES, names=("bs+ch+div",))
    assert list(weights) == ["bs+ch+div"] and list(trained) == ["common", "bs+ch+div"]
