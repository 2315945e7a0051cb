import keras
import numpy as np
import pytest
from keras import ops

from zdckeras.layers.dense import linear
from zdckeras.training.batches import Batches
from zdckeras.training.loop import SampleLoss, fit_adam

ARRAYS = {"x": np.arange(16.0).reshape(8, 2) / 16.0}


class Taught(SampleLoss):
    """(teacher(x) - student(x))^2, or a teacher alone against 1."""

    def __init__(self, teacher, student=None):
        super().__init__()
        self.teacher, self.student, self.built = teacher, student, True

    @property
    def constants(self):
        return () if self.student is None else (self.teacher,)

    def call(self, inputs):
        other = 1.0 if self.student is None else self.student(inputs["x"])
        return ops.square(self.teacher(inputs["x"]) - other)[:, 0]


@pytest.mark.parametrize("device_noise", [False, True])
def test_constants_stay_in_one_training_and_learn_in_another(tmp_path, device_noise):
    teacher, student = (linear(2, 1, iter([seed])) for seed in (1, 2))
    parts = (teacher, student)

    def fitted(model, name):
        before = [part.get_weights() for part in parts]
        fit_adam(model, Batches(ARRAYS, 4), tmp_path / name, 1, 0.1, device_noise=device_noise)
        return [any((old != new).any() for old, new in zip(was, part.get_weights(), strict=True))
                for was, part in zip(before, parts, strict=True)]

    model = Taught(*parts)
    assert [id(v) for v in model.trainable_weights] == [id(v) for v in model.trainable_variables]
    assert {id(v) for v in model.trainable_variables} == {id(v) for v in student.variables}
    assert {id(v) for v in model.non_trainable_variables} >= {id(v) for v in teacher.variables}
    assert fitted(model, "a.npz") == [False, True] and fitted(Taught(teacher), "b.npz") == [True, False]
    assert [id(v) for v in keras.Sequential([teacher, student]).trainable_weights] == [
        id(v) for part in parts for v in part.variables]
