"""The shipped generator of vector quantisation: noise and a particle to tokens, to light, to whole photons."""

import math

import keras
from keras import ops
from numpy.typing import ArrayLike

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.data.detectors import CHANNEL_COUNT
from zdckeras.flow_distill.sums import PhotonSums
from zdckeras.generators import RangedSampler
from zdckeras.layers.nested import WithParts
from zdckeras.vq.prior import TokenPrior
from zdckeras.vq.vq_vae import PhotonVQVAE


@keras.saving.register_keras_serializable("zdckeras")
class TokenGenerator(WithParts, RangedSampler):
    """Tokens from the prior, light from the decoder, photons by `PhotonScatter`; channel sums first, if they are known.

    k ~ p(k | c),  n = scatter(decoder(k, c))      or      S ~ p(S | c),  k ~ p(k | c, S),  n with these channel sums.

    Arguments:
        model: trained `PhotonVQVAE`.
        prior: trained `TokenPrior` of its tokens.
        low, high: see `RangedSampler`.
        sums: trained `PhotonSums` of the five channels, if the prior knows sums.
        temperature, top_k, top_p: as in `draw`; fixed when the graph is compiled.

    Returns:
        call({"conditions": (B, 9), "noise": (B, noise_width)}) gives (B, nx, ny) photon counts as float32.

    Raises:
        ValueError: if the prior is made for other tokens or codes, or just one of the two knows channel sums.
    """

    PARTS = ("model", "prior", "sums")

    def __init__(self, model: PhotonVQVAE, prior: TokenPrior, low: ArrayLike, high: ArrayLike,
                 sums: PhotonSums | None = None, temperature: float = 1.0, top_k: int | None = None,
                 top_p: float = 1.0, **kwargs):
        super().__init__(low, high, **kwargs)
        if (prior.tokens, prior.codes) != (model.tokens, model.codebook.codes):
            raise ValueError(f"Expected a prior of {model.tokens} tokens of {model.codebook.codes} codes, received one "
                             f"of {prior.tokens} of {prior.codes}.")
        if (sums is not None) != bool(prior.sums):
            raise ValueError(f"Expected {'no model' if sums is not None else 'a model'} of channel sums beside a prior "
                             f"that {'knows' if prior.sums else 'does not know'} them.")
        self.model, self.prior, self.sums, self.detectors = model, prior, sums, [model.detector]
        self.draw = dict(temperature=temperature, top_k=top_k, top_p=top_p)
        self.given = CHANNEL_COUNT if sums is not None else 0
        self.noise_width = self.given + prior.tokens + model.scatter.latent
        self.jit_compile = backend.name() != "torch"  # Keras would leave XLA out on a CPU, where loops need it most
        self.built = True

    def generate(self, noise: Tensor, conditions: Tensor) -> Tensor:
        """Photon counts (B, nx, ny) from standard normal noise (B, noise_width) and physical conditions (B, 9)."""
        sums = self.sums.generate(noise[:, : self.given], conditions) if self.given else None
        rest = noise[:, self.given :]
        uniform = 0.5 + 0.5 * ops.erf(rest[:, : self.prior.tokens] / math.sqrt(2.0))
        tokens = self.prior.sample(conditions, uniform, **self.draw, sums=sums)
        light = self.model.light(tokens, conditions)
        return self.model.scatter(light, rest[:, self.prior.tokens :], sums)

    def get_config(self):
        return {**super().get_config(), **self.parts_config(), **self.draw}
