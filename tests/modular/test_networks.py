import numpy as np
import pytest
from keras import ops

from zdckeras.modular.networks import ArrivalFeatures, LightDecoder, ResponseEncoder, StruckFrame


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


def arrivals(rows=6, seed=0):
    rng = np.random.default_rng(seed)
    return {"kind": rng.integers(0, 6, rows), "energy": rng.uniform(5.0, 2500.0, rows),
            "x": rng.uniform(-3.5, 3.5, rows), "y": rng.uniform(-3.5, 3.5, rows)}


def seen(detector, rows=6):
    features = ArrivalFeatures(detector)
    return features(*(v.astype("float32") for v in arrivals(rows).values()))


def test_features_say_kind_energy_and_place():
    features = ArrivalFeatures("zn")
    found, cell = features(*np.array([[0, 1], [330.0, 330.0], [0.08, 0.08], [0.0, 0.16 + 0.08]], "float32"))
    found = ops.convert_to_numpy(found)
    assert found.shape == (2, features.width) and ops.convert_to_numpy(cell).tolist() == [[22, 22], [22, 23]]
    assert found[0, :6].tolist() == [1, 0, 0, 0, 0, 0] and found[1, :6].tolist() == [0, 1, 0, 0, 0, 0]
    np.testing.assert_allclose(found[:, 6], np.log(330.0) - 5.8, atol=1e-6)
    np.testing.assert_allclose(found[0, 14:16], [0.0, -0.5], atol=1e-5)  # place in the cell
    periodic = (found.shape[1] - 16) // 2
    assert np.abs(found[0, 16 + periodic :]).max() > 0.5 and (found[1, 16 + periodic :] == 0).all()  # photons only


@pytest.mark.parametrize(("rank", "operations"), [(None, 16 * 1936), (5, 16 * 5 + 5 * 1936)])
def test_a_narrow_layer_saves_operations_of_the_inner_map(rank, operations):
    """75 x 8 + 83 x 8 + 72 x 8 of hidden layers, 16 x 4 + 4 x 5808 of the rim, 16 x 2 + 72 x 64 + 64 x 1936 of r."""
    decoder = LightDecoder("zn", latent=3, hidden=(8, 8), known=8, rim=4, rank=rank)
    rest = 75 * 8 + 83 * 8 + 72 * 8 + 16 * 4 + 4 * 5808 + 16 * 2 + 72 * 64 + 64 * 1936
    assert decoder.operations() == operations + rest


@pytest.mark.parametrize("rank", [None, 5])
def test_decoder_begins_with_the_mean_map_around_the_struck_cell(rank):
    decoder = LightDecoder("zn", latent=3, hidden=(8, 8), known=8, rim=4, rank=rank)
    images = np.zeros((2, 44, 44))
    images[0, 10:13, 20], images[1, 30:33, 5] = 7.0, 9.0
    decoder.fit_mean(images, seen("zn", 2)[0], np.array([[11, 20], [31, 5]]))
    for layer in (decoder.inner, decoder.outer):
        layer.kernel.assign(np.zeros(layer.kernel.shape))
    features, _ = seen("zn", 1)
    log_mean, log_shape = decoder(np.zeros((1, 3), "float32"), features, np.array([[40, 3]], "int32"))
    light = np.exp(ops.convert_to_numpy(log_mean)).reshape(44, 44)
    np.testing.assert_allclose(light[39:42, 3], 8.001, rtol=1e-4)
    assert light.sum() == pytest.approx(3 * 8.0 + 1936 * 1e-3, rel=1e-3)
    assert ops.convert_to_numpy(log_shape).min() >= -4.0 and ops.convert_to_numpy(log_shape).max() <= 8.0


def test_encoder_sees_the_shower_wherever_it_strikes():
    """The same response moved with its struck cell, far from the edges, has the same code."""
    encoder = ResponseEncoder("zn", latent=3, hidden=(8, 8))
    images, cells = np.zeros((2, 44, 44), "float32"), np.array([[20, 22], [26, 17]], "int32")
    for image, (i, j) in zip(images, cells, strict=True):
        image[i - 1 : i + 2, j - 2 : j + 1] = np.arange(9).reshape(3, 3)
    features = ops.concatenate([seen("zn", 1)[0]] * 2)
    mean, deviation = (ops.convert_to_numpy(v) for v in encoder(images, features, cells))
    np.testing.assert_allclose(mean[0], mean[1], rtol=1e-5, atol=1e-6)
    other = ops.convert_to_numpy(encoder(2 * images, features, cells)[0])
    assert np.abs(other - mean).max() > 1e-3 and (deviation >= -6).all() and (deviation <= 1).all()


def test_codes_far_out_make_no_more_light_than_those_that_decoders_know():
    """A prior's tail has no end, and what a network extrapolates there is exp of it: the light is that at +-8."""
    decoder, (features, cell) = LightDecoder("zn", latent=3, hidden=(8, 8), known=8, rim=4), seen("zn", 1)
    decoder.inner.kernel.assign(40.0 * ops.convert_to_numpy(decoder.inner.kernel))
    edge, far, near = (ops.convert_to_numpy(decoder(np.array([code], "float32"), features, cell)[0]) for code in
                       ([8.0, -8.0, 1.0], [900.0, -30.0, 1.0], [7.0, -7.0, 1.0]))
    assert np.array_equal(edge, far) and np.abs(edge - near).max() > 1e-3


def test_encoders_means_are_where_decoders_know_them():
    encoder, (features, cell) = ResponseEncoder("zn", latent=3, hidden=(8, 8)), seen("zn", 1)
    images = np.ones((1, 44, 44), "float32")
    for factor, low, high in ((1.0, 0.0, 1.0), (1e6, 7.9, 8.0)):
        encoder.read.kernel.assign(factor * ops.convert_to_numpy(encoder.read.kernel))
        assert low < np.abs(ops.convert_to_numpy(encoder(images, features, cell)[0])).max() <= high


@pytest.mark.parametrize("kind", [LightDecoder, ResponseEncoder])
def test_layers_come_back_from_their_configuration(kind):
    layer = kind("zp", latent=3, hidden=(8, 8), seed=4)
    again = kind.from_config(layer.get_config())
    for a, b in zip(layer.weights, again.weights, strict=True):
        assert np.array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))
