import keras
import numpy as np
import pytest
from keras import ops

from zdckeras import load_model
from zdckeras.flow_distill.distiller import Distiller, channel_loss, path_loss, variability_weight

ROWS = 8
numpy = ops.convert_to_numpy


def batch_of(showers, weight=1.0, channels=0.0, rows=ROWS):
    rng = np.random.default_rng(0)
    return {"conditions": showers.particles[:rows].astype("float32"),
            "responses": showers.response[:rows].astype("float32"),
            "u_cells": rng.random((rows, 900), "float32"),
            "z": rng.standard_normal((rows, 900)).astype("float32"),
            "weight": np.broadcast_to(np.asarray(weight, "float32"), rows),
            "channels": np.full(rows, channels, "float32")}


def loss_of(distiller, batch):
    return float(numpy(distiller.compute_loss(x=batch, y_pred=ops.convert_to_tensor(numpy(distiller(batch))))))


def snapshot(model):
    return [np.array(numpy(w.value)) for w in model.weights]


def test_path_loss_by_hand():
    """States differ by 2 at one of two compared places, network outputs by 3 everywhere."""
    zero = np.zeros((2, 4), "float32")
    theta = np.zeros((2, 4, 2), "float32")
    loss = path_loss([zero, zero + 2, zero], [theta, theta], [zero, zero, zero], [theta + 3, theta + 3], [1, 2])
    np.testing.assert_allclose(numpy(loss), [2.0 + 9.0] * 2)


def test_channel_loss_by_hand():
    made = np.array([[5.0, 0, 1, 1, 3], [1, 0, 0, 0, 0]], "float32")
    real = np.array([[4.0, 2, 1, 1, 2], [0, 0, 0, 0, 0]], "float32")
    loss = channel_loss(made, real, real.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(numpy(loss), [0.4, 1.0], rtol=1e-6)


def test_variability_weight():
    diversity = np.array([0.0, 0.1, 0.2, 0.9])
    weight = variability_weight(diversity)
    assert weight.mean() == pytest.approx(1.0) and (np.diff(weight) < 0).all()
    assert weight[0] / weight[3] == pytest.approx(1 + 0.9 / 0.3)
    np.testing.assert_allclose(variability_weight(np.zeros(3)), 1.0)
    for wrong in ([-0.1, 0.5], [0.5, 1.1], [np.nan]):
        with pytest.raises(ValueError, match=r"diversities in \[0, 1\]"):
            variability_weight(wrong)


def test_perfect_student_has_no_loss(teacher, showers):
    """With all network outputs zero, MAF and IAF are the same map: nothing is left to learn."""
    student = teacher.student()
    for flow in (teacher.flow, student.flow):
        for weight in flow.weights:
            weight.assign(np.zeros(weight.shape, "float32"))
    assert loss_of(Distiller(teacher, student), batch_of(showers)) == pytest.approx(0.0, abs=1e-6)


def test_the_four_losses(teacher, showers):
    distiller, weight = Distiller(teacher, teacher.student()), variability_weight(np.linspace(0.0, 1.0, ROWS))
    losses = {(channels, div): loss_of(distiller, batch_of(showers, weight if div else 1.0, channels))
              for channels in (0.0, 1.0) for div in (False, True)}
    assert all(np.isfinite(loss) and loss > 0 for loss in losses.values())
    assert len({round(loss, 6) for loss in losses.values()}) == 4
    assert losses[1.0, False] > losses[0.0, False] and losses[1.0, True] > losses[0.0, True]


def test_weights_scale_single_samples(teacher, showers):
    distiller = Distiller(teacher, teacher.student())
    batch = batch_of(showers, channels=1.0)
    each = numpy(distiller(batch))
    assert each.shape == (ROWS,)
    weight = np.arange(ROWS, dtype="float32")
    assert loss_of(distiller, batch | {"weight": weight}) == pytest.approx(2 * (weight * each).mean(), rel=1e-5)


def test_both_directions_are_learnt(teacher, showers):
    """The first half of a batch uses the response, the second the noise."""
    distiller, batch = Distiller(teacher, teacher.student()), batch_of(showers)
    before = numpy(distiller(batch))
    by_noise = numpy(distiller(batch | {"z": batch["z"][::-1].copy()})) != before
    by_cells = numpy(distiller(batch | {"u_cells": batch["u_cells"][::-1].copy()})) != before
    half = np.arange(ROWS) < ROWS // 2
    assert np.array_equal(by_noise, ~half) and np.array_equal(by_cells, half)


def test_every_student_weight_learns_and_the_teacher_stays(teacher, showers):
    student = teacher.student()
    rng = np.random.default_rng(1)
    for weight in student.flow.weights:  # a fresh student's last layer is zero, which hides the others for a step
        weight.assign(numpy(weight.value) + 0.05 * rng.normal(size=weight.shape))
    distiller, batch = Distiller(teacher, student), batch_of(showers, channels=0.1)
    assert {id(w) for w in distiller.trainable_variables} <= {id(w) for w in student.weights}
    distiller.compile(keras.optimizers.Adam(1e-2))
    before, teacher_before = snapshot(student), snapshot(teacher)
    losses = [float(np.ravel(distiller.train_on_batch(batch))[0])]
    moved = {w.path for w, old in zip(student.weights, before, strict=True) if not np.array_equal(numpy(w.value), old)}
    assert moved == {w.path for w in distiller.trainable_variables}
    assert len(moved) == len(student.flow.trainable_weights)
    losses += [float(np.ravel(distiller.train_on_batch(batch))[0]) for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]
    for now, old in zip(snapshot(teacher), teacher_before, strict=True):
        assert np.array_equal(now, old)
    assert len(teacher.trainable_weights) > len(teacher.flow.weights) // 2  # elsewhere


def test_training_goes_on_after_loading(teacher, showers, tmp_path):
    """With the same optimizer, and in the impact frame of the teacher."""
    distiller, batch = Distiller(teacher, teacher.student(seed=5)), batch_of(showers, channels=0.1)
    distiller.compile(keras.optimizers.Adam(1e-2))
    distiller.train_on_batch(batch)
    distiller.save(tmp_path / "distiller.keras")
    again = load_model(tmp_path / "distiller.keras")
    assert [w.shape for w in again.trainable_weights] == [w.shape for w in distiller.trainable_weights]
    for _ in range(2):
        second, found = (float(np.ravel(one.train_on_batch(batch))[0]) for one in (distiller, again))
    assert found == pytest.approx(second, rel=1e-5)
    conditions, sums = batch["conditions"], teacher.sums(batch["responses"])
    frames = [numpy(ops.stack(flow.frame(conditions, ops.sum(sums, axis=1, keepdims=True),
                                         flow.context(conditions, sums)))) for flow in (teacher, again.student)]
    assert np.array_equal(*frames) and np.ptp(frames[0][0], axis=0).max() > 0


def test_a_distiller_is_saved(teacher, showers, tmp_path):
    distiller = Distiller(teacher, teacher.student())
    distiller.save(tmp_path / "distiller.keras")
    again = load_model(tmp_path / "distiller.keras")
    assert {id(w) for w in again.trainable_weights}.isdisjoint(id(w) for w in again.teacher.weights)
    batch = batch_of(showers)
    np.testing.assert_array_equal(ops.convert_to_numpy(again(batch)), ops.convert_to_numpy(distiller(batch)))
