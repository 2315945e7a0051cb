import keras
import numpy as np
import pytest
from keras import ops

from tests.diffusion.conftest import randomise
from zdckeras.diffusion.networks import DenseField, PatchField
from zdckeras.diffusion.unet import PUBLISHED, STUDY, ParticleAttention, UNet, falling_waves

SMALL = dict(channels=2, multipliers=(1, 2, 2), blocks=1, heads=2, attention=(1,))
FIELDS = {"dense": lambda: DenseField(6, 12, hidden=8, depth=3),
          "patches": lambda: PatchField("zn", 12, 10, patch=11, hidden=8, depth=1, across=4),
          "patches that do not fit": lambda: PatchField("zp", 12, 10, patch=8, hidden=8, depth=1, across=4),
          "unet": lambda: UNet(12, **SMALL)}
SHAPES = {"dense": (6,), "patches": (44, 44), "patches that do not fit": (56, 30), "unet": (9, 6)}
numpy = ops.convert_to_numpy


def inputs(name, rows=3, times=1, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, *SHAPES[name]), "float32"), rng.random((rows, times), "float32"),
            0.5 * rng.standard_normal((rows, 12), "float32"))


@pytest.mark.parametrize("name", FIELDS)
def test_answers_have_the_shape_of_what_is_seen_and_use_every_weight(name, evaluate, eager):
    field, given = randomise(FIELDS[name]()), inputs(name)
    answer = evaluate(field, *given)
    assert answer.shape == given[0].shape and np.isfinite(answer).all()
    for k in range(3):  # image, time, particle
        changed = [value + 0.3 * (i == k) for i, value in enumerate(given)]
        assert np.abs(evaluate(field, *changed) - answer).max() > 1e-5
    alone = evaluate(field, *(value[1:2] for value in given))
    np.testing.assert_allclose(alone[0], answer[1], rtol=1e-4, atol=1e-5)

    class Loss(keras.Model):
        def __init__(self):
            super().__init__()
            self.field, self.built = field, True

        def call(self, values):
            return self.field(values["x"], values["t"], values["c"])

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ops.mean(ops.square(ops.subtract(y_pred, x["x"])))

    model = Loss()
    model.compile(keras.optimizers.SGD(1e-2), run_eagerly=eager)
    before = [numpy(w).copy() for w in field.trainable_weights]
    model.train_on_batch(dict(zip("xtc", given, strict=True)))
    still = [w.path for w, b in zip(field.trainable_weights, before, strict=True) if np.array_equal(numpy(w), b)]
    hidden = 1 if "patches" in name else 0  # what a token adds to all its numbers, the next norm takes away
    assert len(still) == hidden and all("bias" in path for path in still)


@pytest.mark.parametrize("name", FIELDS)
def test_fields_come_back_from_their_configuration(name):
    field = FIELDS[name]()
    again = type(field).from_config(field.get_config())
    assert [tuple(w.shape) for w in again.weights] == [tuple(w.shape) for w in field.weights]
    assert all(np.array_equal(numpy(a), numpy(b)) for a, b in zip(field.weights, again.weights, strict=True))


def test_published_sizes():
    """77,372 weights; that of the diffusion study has 16 to 128 channels on four levels and 3.5 million."""
    published, study = UNet(context=9, **PUBLISHED), UNet(context=9, **STUDY)
    assert published.count_params() == 77_372
    assert study.count_params() == 3_514_272
    assert published.operations((44, 44)) == 53_582_672
    # two heads; four times among the 22 x 22 cells and a particle of level 1, twice among the 11 x 11 at the bottom
    assert published.scores((44, 44)) == 2 * (4 * 485**2 + 2 * 122**2)


def test_published_clocks_tell_cosines_and_sines(evaluate):
    """Flow matching: of 1 - t, frequencies 1, 0.1, 0.01, 0.001; diffusion: of the levels 0 to 999, from 1 by 10^(-1/2).

    A network without a clock is told cos(k pi t), as files from before say."""
    t = np.array([[0.3], [1.0]], "float32")
    for sizes, told, waves in ((PUBLISHED, 1.0 - t, 8), (STUDY, 1000.0 * t - 1.0, 16)):
        field = UNet(context=9, **sizes)
        angles = told * 10.0 ** (-4.0 * np.arange(waves // 2) / (waves // 2))
        found = evaluate(lambda t, f=field: falling_waves(f.clock[0] * t + f.clock[1], f.waves), t)
        np.testing.assert_allclose(found, np.concatenate([np.cos(angles), np.sin(angles)], axis=1), atol=1e-3)
        assert field.get_config()["clock"] == sizes["clock"] and UNet(9).clock is None
    with pytest.raises(ValueError, match="one time and an even number of waves beside a clock, received 2 and 8"):
        UNet(9, times=2, clock=(1.0, 0.0))


def test_operations_by_hand():
    """Of one level without attention on 3 x 5 cells: first and last convolution, and blocks of 2 channels."""
    field = UNet(4, channels=2, multipliers=(1,), blocks=1, heads=1, attention=())
    block, attention = 2 * 9 * 2 * 2, 4 * 2 * 2
    up = 9 * 4 * 2 + 9 * 2 * 2 + 4 * 2
    assert field.operations((3, 5)) == 15 * (9 * 2 + 3 * block + attention + up + 2) + 2 * 15**2 * 2
    assert DenseField(6, 12, hidden=8, depth=3).operations() == (6 + 20) * 8 + 2 * (8 + 20) * 8 + 8 * 6


def test_attention_by_hand(evaluate):
    """softmax(q k' / sqrt(w)) v of cells and the particle's token, one head, added to what came in."""
    layer = randomise(ParticleAttention(3, 2, 1, 4, iter(range(9))))
    rng = np.random.default_rng(5)
    x, particle = rng.standard_normal((1, 2, 2, 3), "float32"), rng.standard_normal((1, 4), "float32")
    token, gain, bias, *look, mix = (numpy(w).astype("float64") for w in layer.weights)
    tokens = np.concatenate([particle @ token, x.reshape(4, 3)])
    normal = (tokens - tokens.mean(1, keepdims=True)) / np.sqrt(tokens.var(1, keepdims=True) + 1e-6) * gain + bias
    query, key, value = (normal @ w for w in look)
    scores = np.exp(query @ key.T / np.sqrt(2))
    expected = tokens + scores / scores.sum(1, keepdims=True) @ value @ mix
    np.testing.assert_allclose(evaluate(layer, x, particle).reshape(4, 3), expected[1:], rtol=1e-4, atol=1e-5)


def test_patches_are_told_where_the_impact_is(evaluate):
    """Where nothing else knows of it, an impact one patch further moves the answer by one patch."""
    field = randomise(PatchField("zn", 12, 10, patch=4, hidden=8, depth=0, across=4))
    kernel = numpy(field.known.layers[0].kernel).copy()
    kernel[8 + 10 :] = 0.0  # behind the 8 cosines of the time
    field.known.layers[0].kernel.assign(kernel)
    context = np.full((2, 12), 0.3, "float32")
    context[1, 10] += 4 / 22  # of half-sizes
    first, moved = evaluate(field, np.zeros((2, 44, 44), "float32"), np.full((2, 1), 0.5, "float32"), context)
    np.testing.assert_allclose(moved[4:], first[:-4], atol=1e-5)
    assert np.abs(moved - first).max() > 0.01


def test_heads_that_divide_no_width_are_refused():
    """5 heads on 8 numbers mixed rows for some sizes of a batch once."""
    with pytest.raises(ValueError, match="heads that divide the 8 numbers of an attention, received 5"):
        UNet(2, channels=4, multipliers=(1, 2, 3), heads=5)
