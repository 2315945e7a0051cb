import keras
import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.training.batches import Batches
from zdckeras.training.loop import train
from zdckeras.training.phases import Phase, PhasedModel


class Images(PhasedModel):
    """A convolution, dense layers and a penalty on the gradient by the inputs, in the global precision."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.image = keras.Sequential([keras.layers.Conv2D(2, 3, 2), keras.layers.Flatten(), keras.layers.Dense(1)])
        self.image.build((None, 6, 6, 1))
        self.dense = keras.layers.Dense(1)
        self.dense.build((None, 36))
        self.built = True

    def phases(self):
        return {"image": Phase(self._image, (self.image,), ("fit", "penalty")),
                "dense": Phase(self._dense, (self.dense,), ("fit",))}

    def _image(self, batch, training):
        gradient = backend.steps().grad(lambda x: ops.cast(self.image(x), "float32"), batch["x"])
        return {"fit": ops.mean(ops.square(ops.cast(self.image(batch["x"]), "float32") - batch["y"])),
                "penalty": ops.mean(ops.square(gradient))}

    def _dense(self, batch, training):
        out = self.dense(ops.reshape(batch["x"], (-1, 36)))
        return {"fit": ops.mean(ops.square(ops.cast(out, "float32") - batch["y"]))}


@pytest.fixture
def precision(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"], indirect=True)
def test_mixed_precision(precision, tmp_path):
    """Half-precision layers learn; float16 with a loss scale for each phase, halved where a gradient overflows."""
    def optimizer():
        inner = keras.optimizers.Adam(0.01)
        return keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**20) if "_float16" in precision else inner

    keras.utils.set_random_seed(0)
    model = Images()
    assert model.image.layers[0].compute_dtype == precision.removeprefix("mixed_")
    model.compile({"image": optimizer(), "dense": optimizer()}, jit_compile=backend.jit_compile())
    rng = np.random.default_rng(0)
    data = Batches({"x": rng.normal(size=(16, 6, 6, 1)), "y": np.ones((16, 1))}, 8)
    history = train(model, data, 12, tmp_path / "state.npz", verbose=0)
    assert all(np.isfinite(values).all() for values in history.values())
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    if "_float16" in precision:
        scales = [float(o.dynamic_scale) for o in model.optimizer.by_phase.values()]
        assert min(scales) < 2.0**20 and int(model.optimizer.iterations) < 24
