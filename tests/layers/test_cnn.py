import numpy as np
import pytest
from keras import ops

from zdckeras.layers.cnn import GridDecoder, convolve, downscale, fold, mirrored, unfold
from zdckeras.layers.dense import seeds_of

# What these layers give is compared with that of JAX in test_backends.py.
pytestmark = pytest.mark.compiles_long
numpy = ops.convert_to_numpy
SHAPES = [(30, 30), (36, 36), (56, 30)]


def test_unfold_by_hand():
    """Channels of a cell, row by row, become its sub-cells; the last index counts what is left of the channels."""
    grid = np.arange(2 * 1 * 2 * 8, dtype="float32").reshape(2, 1, 2, 8)
    found = numpy(unfold(ops.convert_to_tensor(grid), 2))
    assert found.shape == (2, 2, 4, 2)
    for row in range(2):
        for column in range(2):
            for sub in range(2):
                for across in range(2):
                    expected = grid[row, 0, column, 4 * sub + 2 * across :][:2]
                    assert np.array_equal(found[row, sub, 2 * column + across], expected)


@pytest.mark.parametrize("before", [(0, 0), (1, 2)])
def test_fold_is_the_other_way_round(before):
    """Of 4 x 7 cells, patches of 3 x 3 make a grid of 2 x 3; what the image does not fill is 0."""
    image, (x, y) = np.random.default_rng(0).normal(size=(2, 4, 7)).astype("float32"), before
    patches = numpy(fold(ops.convert_to_tensor(image), (2, 3), 3, before))
    assert patches.shape == (2, 6, 9)
    again = numpy(unfold(ops.reshape(patches, (2, 2, 3, 9)), 3))[..., 0]
    assert np.array_equal(again[:, x : x + 4, y : y + 7], image)
    assert np.count_nonzero(again) == image.size


@pytest.mark.parametrize("shape", SHAPES)
def test_mirrored_is_the_decoder_the_other_way_round(shape, evaluate):
    channels = (6, 5, 4, 3)
    body, width = mirrored(channels, shape, seeds_of(0))
    decoder = GridDecoder(7, shape, channels, seeds_of(0))
    assert body.output_shape == (None, width) and width == 6 * np.prod(decoder.grid)
    kernels = [layer.kernel.shape for layer in body.layers if hasattr(layer, "kernel")]
    assert kernels == [(3, 3, 1, 3), (4, 4, 3, 4), (4, 4, 4, 5), (4, 4, 5, 6)]
    if shape == (30, 30):
        assert decoder.grid == (4, 4) and evaluate(body, np.ones((2, *shape, 1))).shape == (2, width)


def test_downscale_without_a_first_convolution():
    body = downscale((3, 5), (10, 7), seeds_of(0))
    assert [layer.kernel.shape for layer in body.layers[:-1:2]] == [(4, 4, 1, 3), (4, 4, 3, 5)]
    assert body.output_shape == (None, 3 * 2 * 5)


@pytest.mark.parametrize(("shape", "grid"), [((30, 30), (8, 8)), ((36, 36), (9, 9)), ((9, 5), (3, 2))])
def test_decoder_shapes_and_operations(shape, grid, evaluate):
    decoder = GridDecoder(5, shape, (4, 3, 2), seeds_of(1))
    vector = np.random.default_rng(0).normal(size=(3, 5))
    image = evaluate(decoder, vector) if shape == (9, 5) else numpy(decoder(vector.astype("float32")))
    assert image.shape == (3, *shape) and decoder.grid == grid
    assert np.abs(image[0] - image[1]).max() > 1e-3
    spread, first, second, last = (np.prod(w.shape) for w in decoder.weights if len(w.shape) > 1)
    cells = np.prod(grid)
    assert decoder.operations() == spread + first * cells + second * 4 * cells + last * 16 * cells


def test_decoder_puts_the_grid_where_it_belongs():
    """With steps that copy, a bright coarse cell is a bright block of 4 x 4 fine cells."""
    decoder = GridDecoder(1, (16, 12), (1, 1, 1), seeds_of(2))
    for step, size in zip([*decoder.steps, decoder.last], (4, 4, 1), strict=True):
        kernel = np.zeros((3, 3, 1, size), "float32")
        kernel[1, 1] = 1.0
        step.kernel.assign(kernel)
    spread = np.zeros((1, 12), "float32")
    spread[0, 3 * 2 + 1] = 5.0  # third row, second column of 4 x 3
    decoder.spread.layers[0].kernel.assign(spread)
    image = numpy(decoder(np.ones((1, 1), "float32")))[0]
    expected = np.zeros((16, 12))
    expected[8:12, 4:8] = 5.0
    assert np.array_equal(image, expected)


def test_weights_depend_on_seeds_only():
    first, again, other = (GridDecoder(2, (4, 4), (2, 1), seeds_of(s)).get_weights() for s in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_a_convolution_keeps_its_grid():
    layer = convolve(3, 5, (6, 4, 2), seeds_of(0))
    assert layer.built and layer.kernel.shape == (5, 5, 2, 3)
    assert layer.compute_output_shape((None, 6, 4, 2)) == (None, 6, 4, 3)
