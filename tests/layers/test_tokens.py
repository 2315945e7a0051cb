import keras
import numpy as np
import pytest
from keras import ops

from zdckeras.layers.cnn import CnnDecoder, CnnEncoder, PublishedCnnDecoder, PublishedCnnEncoder
from zdckeras.layers.patches import (
    Mixer,
    MixerDecoder,
    MixerEncoder,
    PublishedMixerDecoder,
    PublishedMixerEncoder,
    PublishedVitDecoder,
    PublishedVitEncoder,
    VitDecoder,
    VitEncoder,
)
from zdckeras.layers.tokens import TokensToVector, VectorToTokens, tile

SHAPES = {(44, 44): (6, 6), (56, 30): (7, 4), (30, 30): (4, 4)}
BODIES = {"cnn": (CnnEncoder, CnnDecoder, dict(channels=(4, 4, 4, 4))),
          "vit": (VitEncoder, VitDecoder, dict(hidden=8, heads=2, depth=1)),
          "mixer": (MixerEncoder, MixerDecoder, dict(hidden=8, across=5, depth=1))}  # equal sizes: JAX compiles once
PUBLISHED = {"cnn": (PublishedCnnEncoder, PublishedCnnDecoder, dict(channels=(8, 4, 4)), (3, 3), (5, 5)),
             "vit": (PublishedVitEncoder, PublishedVitDecoder, dict(hidden=8, heads=2, depth=1), (4, 4), (4, 4)),
             "mixer": (PublishedMixerEncoder, PublishedMixerDecoder, dict(hidden=8, across=5, depth=1), (4, 4), (4, 4))}
ONES = [pytest.param(name, marks=[pytest.mark.compiles_long] * (name != "mixer")) for name in PUBLISHED]
CONTEXT = 3


def bodies(name, shape, width=4, context=CONTEXT, seed=0):
    encoder, decoder, sizes = BODIES[name]
    return tuple(body(shape, width, context, seed=seed, **sizes) for body in (encoder, decoder))


def images(shape, rows=2, context=CONTEXT):
    rng = np.random.default_rng(0)
    return rng.random((rows, *shape), "float32"), rng.normal(size=(rows, context)).astype("float32")


@pytest.mark.parametrize(("name", "shape", "known"), [("cnn", (56, 30), 0), ("vit", (44, 44), 3),
                                                      ("mixer", (30, 30), 3)])
def test_images_become_grids_of_tokens_and_come_back(evaluate, name, shape, known):
    encoder, decoder = bodies(name, shape, context=known)
    image, context = images(shape, context=known)
    tokens, back = evaluate(lambda x, c: (encoder(x, c), decoder(encoder(x, c), c)), image, context)
    assert encoder.grid == decoder.grid == SHAPES[shape]
    assert tokens.shape == (2, encoder.tokens, 4) and back.shape == image.shape
    assert np.ptp(tokens, axis=1).min() > 0 and np.ptp(back, axis=(1, 2)).min() > 0


@pytest.mark.parametrize("name", BODIES)
def test_every_weight_learns(name, eager):
    """A round trip through a vector, one step; what reads the particle included."""
    encoder, decoder = bodies(name, (30, 30))
    heads = TokensToVector(16, 4, CONTEXT, 5, 8), VectorToTokens(16, 4, CONTEXT, 5, 8)

    class Whole(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts, self.built = [encoder, decoder, *heads], True

        def call(self, inputs):
            context = inputs["c"]
            vector = heads[0](encoder(inputs["x"], context), context)
            return decoder(heads[1](vector, context), context)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ops.mean(ops.square(y_pred - ops.convert_to_tensor(x["x"])))

    model, (image, context) = Whole(), images((30, 30), rows=6)
    model.compile(keras.optimizers.Adam(1e-3), run_eagerly=eager)
    before = {weight.path: ops.convert_to_numpy(weight).copy() for weight in model.trainable_weights}
    model.train_on_batch({"x": image, "c": context})
    still = [weight.path for weight in model.trainable_weights
             if np.array_equal(before[weight.path], ops.convert_to_numpy(weight))]
    assert len(before) > 20 and still == []


@pytest.mark.parametrize("name", ["vit", "mixer"])
def test_tokens_belong_to_their_patches(evaluate, name):
    """With cores that mix nothing, a cell changes the token of its patch only, and a token its patch only."""
    encoder, decoder = bodies(name, (56, 30), context=0)
    for core in (encoder.core, decoder.core):
        last = ([part for block in core.blocks for part in (block.mix, block.narrow)] if name == "vit" else
                [body.layers[-1] for body in (*core.over_tokens, *core.over_width)])
        for layer in last:
            layer.kernel.assign(np.zeros(layer.kernel.shape, "float32"))
    (image, context), patch = images((56, 30), rows=1, context=0), (slice(40, 48), slice(24, 30))
    changed = image.copy()
    changed[0, 45, 26] += 1.0
    context = np.repeat(context, 2, axis=0)
    tokens, back = evaluate(lambda x, c: (encoder(x, c), decoder(encoder(x, c), c)),
                            np.concatenate([image, changed]), context)
    assert np.flatnonzero(np.abs(tokens[1] - tokens[0]).max(axis=-1) > 1e-5).tolist() == [5 * 4 + 3]
    different = np.abs(back[1] - back[0]) > 1e-6
    assert different[patch].mean() > 0.9 and different.sum() == different[patch].sum()


@pytest.mark.parametrize("name", BODIES)
def test_config_and_seed_make_the_weights(name):
    for body, other in zip(bodies(name, (30, 30), seed=5), bodies(name, (30, 30), seed=6), strict=True):
        twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(body))
        assert twin.get_config() == body.get_config()
        for ours, same, different in zip(*(b.get_weights() for b in (body, twin, other)), strict=True):
            assert np.array_equal(ours, same)
            assert ours.ndim == 1 or not np.array_equal(ours, different)


def test_multiplications_are_counted():
    """By hand, for 30 x 30 cells: 16 patches of 64, tokens of 4, 3 numbers known of the particle."""
    found = {name: [body.operations() for body in bodies(name, (30, 30))] for name in BODIES}
    around = 16 * (64 * 8 + 8 * 4) + 3 * 8
    assert found["vit"] == [around + 16 * 12 * 64 + 2 * 16**2 * 8] * 2
    assert found["mixer"] == [around + 8 * 2 * 16 * 5 + 16 * 2 * 8 * 32] * 2
    down = 9 * 1 * 4 * 900 + 16 * 4 * 4 * (225 + 64 + 16)
    assert found["cnn"][0] == down + 16 * (9 * 4 * 4 + 4 * 4) + 3 * 4
    assert found["cnn"][1] == 9 * (4 * 4 * 16 + 4 * 16 * (16 + 64 + 256) + 4 * 1024) + 3 * 4
    assert TokensToVector(16, 4, 3, 5, 8).operations() == 67 * 8 + 8 * 5
    assert VectorToTokens(16, 4, 3, 5, 8).operations() == 8 * 8 + 8 * 64
    assert Mixer(6, 8, 2, 5).operations() == 2 * (8 * 2 * 6 * 5 + 6 * 2 * 8 * 32)


@pytest.mark.parametrize(("body", "settings", "numbers"), [
    (CnnEncoder, dict(channels=(2,) * 7), "1 to 30 pixels for an image of 56 x 30; received one of 64 x 64"),
    (CnnDecoder, dict(channels=(2,) * 7), "received one of 64 x 64"), (VitEncoder, dict(patch=31), "31 x 31"),
    (VitDecoder, dict(patch=0), "0 x 0"), (MixerEncoder, dict(patch=40), "40 x 40")])
def test_what_cannot_tile_an_image_is_named(body, settings, numbers):
    with pytest.raises(ValueError, match=numbers):
        body((56, 30), **settings)


@pytest.mark.parametrize("name", BODIES)
def test_wrong_input_is_refused(name):
    encoder, decoder = bodies(name, (30, 30))
    image, context = images((30, 30))
    with pytest.raises(ValueError, match=r"images of shape \(B, 30, 30\), received \(2, 30, 29\)"):
        encoder(image[:, :, :29], context)
    with pytest.raises(ValueError, match="context of width 3, received 2"):
        encoder(image, context[:, :2])
    with pytest.raises(ValueError, match=r"tokens of shape \(B, 16, 4\), received \(2, 16, 5\)"):
        decoder(np.zeros((2, 16, 5), "float32"), context)
    with pytest.raises(ValueError, match="tokens of width 1 at least"):
        bodies(name, (30, 30), width=0)
    assert tile((30, 30), 7) == (5, 5)


@pytest.mark.parametrize("name", ONES)
def test_published_bodies_have_their_grids_and_learn(name, eager):
    """Tokens as wide as the body where no width is asked for."""
    encoder, decoder, sizes, there, back = PUBLISHED[name]
    image, context = images((30, 30), rows=6)
    plain = encoder((30, 30), context=CONTEXT, **sizes)
    assert plain.grid == there and plain.width == (8 + CONTEXT if name == "cnn" else 8)
    body, other = encoder((30, 30), 4, CONTEXT, **sizes), decoder((30, 30), 4, 0, **sizes)
    assert other.grid == back
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(plain))
    assert twin.get_config() == plain.get_config() and twin.width == plain.width
    tokens = ops.convert_to_numpy(body(image, context))
    assert tokens.shape == (6, there[0] * there[1], 4)
    assert (ops.convert_to_numpy(body(image, context + 1.0)) != tokens).any(axis=(1, 2)).all()

    class Whole(keras.Model):
        def __init__(self):
            super().__init__()
            self.body, self.other, self.built = body, other, True

        def call(self, inputs, training=False):
            tokens = ops.mean(self.body(inputs["x"], inputs["c"]), axis=1, keepdims=True)
            return self.other(ops.repeat(tokens, self.other.tokens, axis=1), inputs["c"][:, :0])

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ops.mean(ops.square(y_pred - ops.convert_to_tensor(x["x"])))

    model = Whole()
    model.compile(keras.optimizers.Adam(1e-3), run_eagerly=eager)
    before = [ops.convert_to_numpy(weight).copy() for weight in model.trainable_weights]
    model.train_on_batch({"x": image, "c": context})
    still = [weight.path for weight, old in zip(model.trainable_weights, before, strict=True)
             if np.array_equal(old, ops.convert_to_numpy(weight))]
    assert len(before) > 20 and still == []


@pytest.mark.parametrize("name", ONES)
def test_published_decoders_add_one_half(name):
    """To what the last layer gives, in every pixel, and its one bias: with a kernel of zeros that is all there is."""
    _, kind, sizes, *_ = PUBLISHED[name]
    decoder, (_, context) = kind((30, 30), 4, 0, **sizes), images((30, 30), context=0)
    last = decoder.network.layers[-1] if name == "cnn" else decoder.read
    bias = last.bias if name == "cnn" else decoder.bias
    last.kernel.assign(np.zeros(last.kernel.shape, "float32"))
    tokens = np.random.default_rng(1).normal(size=(2, decoder.tokens, 4)).astype("float32")
    for shift in (0.0, 0.25):
        bias.assign(np.full(bias.shape, shift, "float32"))
        made = ops.convert_to_numpy(decoder(tokens, context))
        assert made.shape == (2, 30, 30) and (made == 0.5 + shift).all()


def test_dropout_is_for_training_alone():
    body = PublishedVitEncoder((30, 30), hidden=8, heads=2, depth=1, dropout=0.5)
    image, context = images((30, 30), context=0)

    class Around(keras.layers.Layer):
        def call(self, image, context, training=False):
            return body(image, context)

    around = Around()
    still, one, two = (ops.convert_to_numpy(around(image, context, training=training))
                       for training in (False, True, True))
    assert np.array_equal(still, ops.convert_to_numpy(body(image, context)))
    assert (one != still).any() and (one != two).any()
