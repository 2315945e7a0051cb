"""The shipped generator of responses in energy."""

import keras
from numpy.typing import ArrayLike

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.generators import RangedSampler
from zdckeras.layers.nested import WithParts
from zdckeras.wgan_gp.networks import EnergyNetwork


@keras.saving.register_keras_serializable("zdckeras")
class EnergyGenerator(WithParts, RangedSampler):
    """The shipped generator of responses in energy: normal numbers and a particle to MeV in cells.

    Arguments:
        network: trained `EnergyNetwork` (of a `ResponseWGAN`, its `average`).
        low, high: see `RangedSampler`.
    """

    PARTS = ("network",)

    def __init__(self, network: EnergyNetwork, low: ArrayLike, high: ArrayLike, **kwargs):
        super().__init__(low, high, **kwargs)
        self.network, self.detectors = network, [network.detector]
        self.noise_width = network.latent
        self.jit_compile = backend.jit_compile()
        self.built = True

    def generate(self, noise: Tensor, conditions: Tensor) -> Tensor:
        return self.network(noise, conditions)

    def get_config(self):
        return {**super().get_config(), **self.parts_config()}
