import numpy as np
import pytest
from keras import ops

from zdckeras.modular.networks import StruckFrame


@pytest.mark.parametrize("detector", ["zn", "zp"])
def test_maps_are_read_around_the_struck_cell(detector):
    """A map of the distance from the struck cell, read on the detector, is the distance there."""
    frame = StruckFrame(detector)
    nx, ny = frame.detector.shape
    cells = np.array([[0, 0], [nx - 1, ny - 1], [7, 12]], "int32")
    distance = np.hypot(*frame.offset.T)[frame.order].astype("float32")
    read = StruckFrame.crop(ops.convert_to_tensor(np.tile(distance, (3, 1))), frame.stored_index(cells))
    x, y = np.indices((nx, ny)).reshape(2, 1, -1)
    np.testing.assert_allclose(ops.convert_to_numpy(read), np.hypot(x - cells[:, :1], y - cells[:, 1:]), rtol=1e-6)


@pytest.mark.parametrize("detector", ["zn", "zp"])
def test_responses_are_spread_and_read_back(detector):
    frame, rng = StruckFrame(detector, inner=(12, 10)), np.random.default_rng(0)
    nx, ny = frame.detector.shape
    images = rng.poisson(2.0, (4, nx, ny)).astype("float32")
    cells = np.stack([rng.integers(0, nx, 4), rng.integers(0, ny, 4)], axis=1).astype("int32")
    spread = ops.reshape(frame.spread(images, cells), (4, -1))
    assert float(ops.sum(spread)) == images.sum()
    stored = ops.take(spread, frame.order, axis=1)
    back = ops.convert_to_numpy(StruckFrame.crop(stored, frame.stored_index(cells)))
    assert np.array_equal(back.reshape(images.shape), images)


def test_parts_of_the_frame_and_a_wrong_one():
    frame = StruckFrame("zp", inner=(4, 6))
    assert frame.inner_cells == 24 and frame.inner_cells + frame.rim_cells == 4 * 56 * 30
    assert np.abs(frame.offset[frame.order[:24]]).max() <= 3
    with pytest.raises(ValueError, match="1 x 1 to 44 x 44 cells, received"):
        StruckFrame("zn", inner=(45, 4))
