"""The stochastic mask of the published CorrVAE: which latent numbers each property sees, and the maps behind it."""

import keras
import numpy as np
from keras import layers, ops

from zdckeras.backend import Tensor
from zdckeras.layers.dense import seeds_of
from zdckeras.layers.photon_drawing import straight_through

SLOPE = 0.1  # of LeakyReLU below 0
LONGEST = 0.97  # of the weights of r_j, so that y_j never stands still
STEPS, FARTHEST = 16, 4.0  # of `MaskedProperties.steer`, and where w stops


@keras.saving.register_keras_serializable("zdckeras")
class MaskedProperties(layers.Layer):
    """Properties of what a stochastic mask lets through: w'_j = h_j(m_j w),  y_j = w'_j + s(r_j(w'_j)).

    m_jk = 1 where a_jk + ln u_jk - ln(1 - u_jk) > 0, and 0 elsewhere: for uniform u a Bernoulli draw of probability
    s(a_jk), with the gradient of s((a_jk + ln u_jk - ln(1 - u_jk)) / tau); a is learnt, and without u, m_jk = 1 where
    a_jk > 0. h_j and r_j are dense layers with LeakyReLU between, s is the sigmoid. The two weight vectors of r_j are
    scaled down to length 0.97 where they are longer, which is their spectral norm, so that y_j grows with w'_j.

    Arguments:
        properties: how many, P.
        latents: how many w, d.
        hidden: width of the dense layers of every property.
        temperature: tau.
        seed: of the weights.

    Returns:
        call((B, d) w, (B, P, d) u for a mask of each row, (1, P, d) for one of all, or None) gives y, (B, P); `share`,
        a number, is that of tau that counts.

    Raises:
        ValueError: for no properties or latents, or a temperature that is not above 0.

    Source:
        Wang et al., arXiv:2210.01796, section 4; mask: Jang et al., arXiv:1611.01144 (two classes); widths, tau and
        initial mask: karolrogozinski/cern_alice_fast_sim_corrvae.

    Example:
        >>> layer = MaskedProperties(2, 3)
        >>> y = layer(np.ones((4, 3), "float32"), np.full((4, 2, 3), 0.5, "float32"))
        >>> tuple(y.shape), float(layer.open(np.full((1, 2, 3), 0.999, "float32"))[0, 0, 0])
        ((4, 2), 1.0)
    """

    def __init__(self, properties, latents, hidden=16, temperature=0.2, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        if min(properties, latents, hidden) < 1 or not temperature > 0.0:
            raise ValueError(f"Expected at least one property, latent and hidden unit and a temperature above 0, "
                             f"received {properties}, {latents}, {hidden} and {temperature}.")
        self.settings = dict(properties=properties, latents=latents, hidden=hidden, temperature=temperature, seed=seed)
        self.temperature, rng, seeds = temperature, np.random.default_rng([seed, 43]), seeds_of([seed, 44])
        closed, opened = rng.normal(size=(2, properties, latents))
        start = np.exp(opened) - np.exp(closed)  # the code takes these numbers for logarithms of their shares
        self.mask_logits = self.add_weight(shape=start.shape, name="mask",
                                           initializer=keras.initializers.Constant(start.tolist()))

        def weight(name, *shape):
            normal = keras.initializers.RandomNormal(0.0, np.sqrt(2.0 / shape[0]), next(seeds))
            return self.add_weight(shape=(properties, *shape), name=name,
                                   initializer="zeros" if name.endswith("bias") else normal)

        self.pool, self.pool_bias = weight("pool", latents, hidden), weight("pool_bias", hidden)
        self.gather, self.gather_bias = weight("gather", hidden), weight("gather_bias", 1)
        self.widen, self.widen_bias = weight("widen", hidden), weight("widen_bias", hidden)
        self.narrow, self.narrow_bias = weight("narrow", hidden), weight("narrow_bias", 1)
        self.built = True

    def probabilities(self) -> Tensor:
        """s(a), (P, d): how often each property sees each latent number."""
        return ops.sigmoid(self.mask_logits)

    def open(self, uniform: Tensor | None = None, share: Tensor | float = 1.0) -> Tensor:
        """The mask m, (B, P, d) for uniform numbers of that shape, (1, P, d) without; `share` of tau counts."""
        if uniform is None:
            return ops.cast(self.mask_logits > 0.0, "float32")[None]
        u = ops.clip(ops.cast(uniform, "float32"), 1e-6, 1.0 - 1e-6)
        raised = self.mask_logits + ops.log(u) - ops.log(1.0 - u)
        return straight_through(ops.sigmoid(raised / (share * self.temperature)), ops.cast(raised > 0.0, "float32"))

    def call(self, latents, uniform=None, share=1.0):
        return self._states(ops.convert_to_tensor(latents), self.open(uniform, share))[0]

    def _states(self, latents, mask):
        """y (B, P), and its slopes by w, (B, P, d)."""
        inner = ops.einsum("bpd,pdh->bph", mask * latents[:, None], self.pool) + self.pool_bias
        pooled = ops.sum(ops.leaky_relu(inner, SLOPE) * self.gather, axis=-1) + self.gather_bias[:, 0]
        widen, narrow = (v * ops.minimum(LONGEST * ops.rsqrt(1e-12 + ops.sum(ops.square(v), axis=1, keepdims=True)),
                                         1.0) for v in (self.widen, self.narrow))
        outer = pooled[..., None] * widen + self.widen_bias
        bent = ops.sigmoid(ops.sum(ops.leaky_relu(outer, SLOPE) * narrow, axis=-1) + self.narrow_bias[:, 0])
        steep = ops.sum(ops.where(outer > 0.0, 1.0, SLOPE) * widen * narrow, axis=-1)
        steep = 1.0 + bent * (1.0 - bent) * steep
        through = ops.einsum("bph,pdh->bpd", ops.where(inner > 0.0, 1.0, SLOPE) * self.gather, self.pool) * mask
        return pooled + bent, steep[..., None] * through

    def steer(self, latents: Tensor, asked: Tensor) -> Tensor:
        """w (B, d) with the properties asked for (B, P), from w (B, d), which decides what is left open.

        16 steps along the gradients g_j of the properties, w += 1/P sum_j (asked_j - y_j) g_j / |g_j|^2, within +-4
        (the study: 100 steps of gradient descent); a property that sees no latent number stays what it is.

        Source:
            Cimmino, Ric. Sci. 1 (1938) 326: averaged projections.
        """
        latents, asked = ops.convert_to_tensor(latents), ops.convert_to_tensor(asked)
        for _ in range(STEPS):
            found, slopes = self._states(latents, self.open())
            lengths = ops.sum(ops.square(slopes), axis=-1) + 1e-6
            step = ops.mean(((asked - found) / lengths)[..., None] * slopes, axis=1)
            latents = ops.clip(latents + step, -FARTHEST, FARTHEST)
        return latents

    def get_config(self):
        return {**super().get_config(), **self.settings}
