import json

import keras
import numpy as np
import pytest
from keras import ops

from zdckeras.data.detectors import channel_sums
from zdckeras.flow_distill.shape import ShapeFlow

numpy = ops.convert_to_numpy


def batch_of(showers, rows=8, seed=0):
    rng = np.random.default_rng(seed)
    return {"conditions": showers.particles[:rows].astype("float32"),
            "responses": showers.response[:rows].astype("float32"),
            "u_cells": rng.random((rows, 900), "float32")}


def photons_of(batch):
    return batch["responses"].sum(axis=(1, 2))[:, None]


@pytest.mark.parametrize("convention", ["papers", "proton-paper", "o2"])
def test_sums_are_the_channel_sums(showers, convention):
    model = ShapeFlow.fit_scales("ecal", showers.particles, showers.response, steps=1, hidden=(4,), embedding=(4,),
                                 maps=1, convention=convention)
    found = numpy(model.sums(showers.response.astype("float32")))
    assert np.array_equal(found, channel_sums(showers.response, convention))


def test_encode_and_decode_are_inverse(teacher, showers):
    batch = batch_of(showers)
    context = teacher.context(batch["conditions"], teacher.sums(batch["responses"]))
    residuals, _ = teacher.encode(batch["responses"], batch["u_cells"], batch["conditions"], context)
    y = teacher.decode(residuals, batch["conditions"], photons_of(batch), context)
    expected = teacher.code.encode(batch["responses"].reshape(8, -1), batch["u_cells"])
    np.testing.assert_allclose(numpy(y), numpy(expected), atol=1e-4)
    counts = teacher.code.decode(y, teacher.sums(batch["responses"]), teacher.masks)
    assert np.array_equal(numpy(counts).reshape(-1, 30, 30), batch["responses"])


def test_log_probability_is_the_flow_s_and_the_frame_s(teacher, showers):
    """log p(y) = log p(r) + log |dr/dy| with |dr/dy| = exp(-sum s), s from the frame."""
    batch = batch_of(showers)
    context = teacher.context(batch["conditions"], teacher.sums(batch["responses"]))
    residuals, log_det = teacher.encode(batch["responses"], batch["u_cells"], batch["conditions"], context)
    _, log_scale = teacher.frame(batch["conditions"], photons_of(batch), context)
    np.testing.assert_allclose(numpy(log_det), -numpy(log_scale).sum(axis=1), rtol=1e-4, atol=1e-3)
    assert np.abs(numpy(log_det)).min() > 0
    expected = numpy(teacher.flow.log_prob(residuals, context)) + numpy(log_det)
    log_p = numpy(teacher(batch))
    np.testing.assert_allclose(log_p, expected, rtol=1e-4)
    assert float(teacher.compute_loss(y_pred=log_p)) == pytest.approx(-log_p.mean() / 900, rel=1e-5)


def test_generated_code_has_the_noise_it_came_from(teacher, showers, evaluate):
    """Noise to code by the slow direction of a MAF, and back to the noise by its fast one."""
    sums = channel_sums(showers.response[:4])
    noise = np.random.default_rng(1).standard_normal((4, 900)).astype("float32")

    def there_and_back(noise, conditions, sums):
        y = teacher.generate(noise, conditions, sums)
        context = teacher.context(conditions, sums)
        photons = ops.sum(sums, axis=-1, keepdims=True)
        shift, log_scale = teacher.frame(conditions, photons, context)
        return teacher.flow.encode((y - shift) * ops.exp(-log_scale), context)[0]

    np.testing.assert_allclose(evaluate(there_and_back, noise, showers.particles[:4], sums), noise, atol=2e-3)


def test_shape_of_the_code_and_dependence_on_the_sums(teacher, showers, evaluate):
    sums = channel_sums(showers.response[:4])
    noise = np.zeros((4, 900), "float32")
    y = evaluate(teacher.generate, noise, showers.particles[:4], np.concatenate([sums[:2], 10 * sums[2:]]))
    assert y.shape == (4, 900) and np.isfinite(y).all()
    other = evaluate(teacher.student().generate, noise, showers.particles[:4], sums)
    assert other.shape == y.shape


def test_student_is_a_twin_with_the_same_context_and_frame(teacher, showers):
    student, batch = teacher.student(), batch_of(showers)
    sums = teacher.sums(batch["responses"])
    context = numpy(teacher.context(batch["conditions"], sums))
    assert np.array_equal(numpy(student.context(batch["conditions"], sums)), context)
    mine, its = (model.frame(batch["conditions"], photons_of(batch), context) for model in (student, teacher))
    for a, b in zip(mine, its, strict=True):
        assert np.array_equal(numpy(a), numpy(b))
    assert student.get_config()["inverse"] is True and teacher.get_config()["inverse"] is False
    with pytest.raises(TypeError, match="InverseAutoregressive"):
        teacher.flow.transform_path(np.zeros((1, 900), "float32"), context[:1])


def test_steps_see_neighbours_in_random_orders(showers):
    """The same ones in teacher, student and file; files of earlier versions, without them, keep their reversals."""
    small = dict(steps=3, hidden=(4,), embedding=(4,), maps=1)
    teacher = ShapeFlow.fit_scales("ecal", showers.particles, showers.response, **small)
    copies = [teacher, teacher.student(), ShapeFlow.from_config(teacher.get_config())]
    orders = [[part.order for part in model.flow.bijection.bijections[1::2]] for model in copies]
    assert np.array_equal(orders[0], orders[1]) and np.array_equal(orders[0], orders[2])
    assert (orders[0][0] != orders[0][1]).any() and np.abs(np.diff(orders[0][0])).mean() > 100
    old = {key: value for key, value in teacher.get_config().items() if key != "permutation_seed"}
    assert ShapeFlow.from_config(old).flow.bijection.bijections[1].order.tolist() == list(range(900))[::-1]


def test_paths_of_teacher_and_student_compare_entry_by_entry(teacher, showers):
    student = teacher.student()
    context = np.random.default_rng(2).normal(size=(3, 8)).astype("float32")
    values = np.random.default_rng(3).normal(size=(3, 900)).astype("float32")
    states, parameters = teacher.flow.inverse_path(values, context)
    mine, my_parameters = student.flow.transform_path(states[0], context)
    assert [tuple(a.shape) for a in mine] == [tuple(a.shape) for a in states]
    assert [tuple(a.shape) for a in my_parameters] == [tuple(a.shape) for a in parameters]
    assert len(states) == len(parameters) + 1 == 3
    assert np.array_equal(numpy(states[-1]), values) and np.array_equal(numpy(mine[0]), numpy(states[0]))


@pytest.mark.parametrize("inverse", [False, True])
def test_saved_model_gives_the_same(teacher, tmp_path, inverse):
    model = teacher.student() if inverse else teacher
    model.save(tmp_path / "shape.keras")
    again = keras.saving.load_model(tmp_path / "shape.keras")
    assert json.dumps(again.get_config()) == json.dumps(model.get_config())
    context = np.random.default_rng(4).normal(size=(2, 8)).astype("float32")
    values = np.random.default_rng(5).normal(size=(2, 900)).astype("float32")
    fast = (lambda m: m.flow.transform_path) if inverse else (lambda m: m.flow.inverse_path)
    for a, b in zip(fast(model)(values, context)[0], fast(again)(values, context)[0], strict=True):
        assert np.array_equal(numpy(a), numpy(b))
    for a, b in zip(model.weights, again.weights, strict=True):
        assert np.array_equal(numpy(a.value), numpy(b.value))


def test_training_lowers_the_loss(showers, eager):
    model = ShapeFlow.fit_scales("ecal", showers.particles, showers.response, steps=1, hidden=(16,), embedding=(8,),
                                 maps=2)
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=eager)
    losses = [float(np.ravel(model.train_on_batch(batch_of(showers, 48)))[0]) for _ in range(15)]
    assert losses[-1] < losses[0] - 0.02
