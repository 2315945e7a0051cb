"""The networks of the neutron study's GANs: vision transformers over images x = ln(1 + n), generator and critic.

Sizes are those of the authors' code at its end, m-wojnar/zdc, `zdc/models/gan/gan.py` and `sdi_gan.py`; bodies are the
study's, `PublishedVitEncoder` and `PublishedVitDecoder`. An `ImageGAN` of the two differs from that code in this: a
generated image is of the same particle as the real one beside it (there particles are shuffled), the generator meets
the critic that this step has moved, the ratio of distances in eq. 3 has 1e-5 added, weights begin as in our other
networks and not as Flax has them, and layer normalisation has epsilon 1e-5 and not 1e-6. The diversity that it is to be
trained with is `zdckeras.data.repeats.log_diversity`.
"""

import keras
from keras import layers, ops

from zdckeras.arguments import whole_number
from zdckeras.data.detectors import get_detector
from zdckeras.data.particles import CONDITION_COUNT
from zdckeras.layers.dense import linear, seeds_of
from zdckeras.layers.patches import PublishedVitDecoder, PublishedVitEncoder
from zdckeras.policy import made_in

LATENT = 10  # numbers of noise


@made_in("float32")
def published_vit_generator(detector: str = "zn", hidden: int = 128, heads: int = 4, depth: int = 4,
                            dropout: float = 0.1, latent: int = LATENT, seed: int = 0) -> keras.Model:
    """Vision transformer from noise and scaled conditions to an image ln(1 + n).

    x = ReLU(decoder(t, c)),  t = A [z, c] + a in T tokens of h numbers, h = `hidden`

    The decoder sees the conditions c twice, in every token and as a token of their own; its image has a bias of 1/2.
    Dropout acts in training alone.

    Arguments:
        detector: name; the study's is zn, with T = 36 patches of 8 x 8 cells.
        hidden, heads, depth: of the transformer.
        dropout: share left out of the dense layers of a block.
        latent: numbers of noise.
        seed: of weights and dropout.

    Returns:
        `keras.Model`: [(B, latent) noise, (B, 9) scaled conditions] to (B, nx, ny).

    Raises:
        ValueError: for an unknown detector, no noise, or heads that do not divide `hidden`.

    Source:
        neutron ZDC study; m-wojnar/zdc, models/gan/gan.py and architectures/vit.py.

    Example:
        >>> g = published_vit_generator()
        >>> g.output.shape, g.count_params()
        ((None, 44, 44), 915841)
    """
    whole_number(latent, "latent")
    inputs, shape = [keras.Input((latent,), name="noise"), _conditions()], get_detector(detector).shape
    decoder = PublishedVitDecoder(shape, width=hidden, context=CONDITION_COUNT, hidden=hidden, heads=heads, depth=depth,
                                  dropout=dropout, seed=seed)
    dense = linear(latent + CONDITION_COUNT, decoder.tokens * hidden, seeds_of([seed, 78]))
    tokens = layers.Reshape((decoder.tokens, hidden))(dense(layers.Concatenate()(inputs)))
    return keras.Model(inputs, layers.ReLU()(decoder(tokens, inputs[1])), name="generator")


@made_in("float32")
def published_vit_critic(detector: str = "zn", hidden: int = 128, heads: int = 4, depth: int = 4, dropout: float = 0.1,
                         seed: int = 0) -> keras.Model:
    """Vision transformer from an image ln(1 + n) and scaled conditions to a logit and the embedding before it.

    e = flatten(B encoder(x, c) + b),  logit = dense layers of h and h / 2 with GELU and one of 1 on e, h = `hidden`

    The SDI-GAN's term compares the embeddings e of two images. There is no batch normalisation: real and generated
    images pass alike. The sigmoid behind the logit is in the loss.

    Arguments:
        detector, hidden, heads, depth, dropout, seed: as in `published_vit_generator`.

    Returns:
        `keras.Model`: [(B, nx, ny), (B, 9) scaled conditions] to (B, 1) logits and (B, T h) embeddings.

    Raises:
        ValueError: as `published_vit_generator`.

    Source:
        neutron ZDC study; m-wojnar/zdc, models/gan/sdi_gan.py and architectures/vit.py.

    Example:
        >>> critic = published_vit_critic()
        >>> [output.shape for output in critic.outputs], critic.count_params()
        ([(None, 1), (None, 4608)], 1422337)
    """
    shape, seeds = get_detector(detector).shape, seeds_of([seed, 79])
    image, conditions = keras.Input(shape, name="image"), _conditions()
    encoder = PublishedVitEncoder(shape, context=CONDITION_COUNT, hidden=hidden, heads=heads, depth=depth,
                                  dropout=dropout, seed=seed)
    embedding = layers.Flatten()(linear(hidden, hidden, seeds)(encoder(image, conditions)))
    x = ops.gelu(linear(encoder.tokens * hidden, hidden, seeds)(embedding))
    x = ops.gelu(linear(hidden, hidden // 2, seeds)(x))
    return keras.Model([image, conditions], [linear(hidden // 2, 1, seeds)(x), embedding], name="critic")


def _conditions():
    return keras.Input((CONDITION_COUNT,), name="conditions")
