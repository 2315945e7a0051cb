"""Warm start of the generator of responses in energy: its proper score, without a critic."""

from keras import ops

from zdckeras.training.loop import SampleLoss
from zdckeras.wgan_gp.losses import centre_loss


class EnergyScoreFit(SampleLoss):
    """Trains a generator of energies on its proper score alone: no critic, no balance to keep.

    Arguments:
        gan: `ResponseWGAN`, whose generator is trained on E `proper_score`, plus its "centre" term if
            that has a weight.

    Returns:
        call of a batch with codes "z" and "z2" gives the per-sample loss (B,).
    """

    def __init__(self, gan, **kwargs):
        super().__init__(**kwargs)
        self.network, self.score, self.expected = gan.generator, gan.proper_score, gan.expected
        self.weight = gan.weights_of["centre"]
        self.built = True

    def call(self, inputs):
        conditions = ops.cast(inputs["conditions"], "float32")
        first, second = ops.split(self.network(ops.concatenate([inputs["z"], inputs["z2"]]),
                                               ops.concatenate([conditions, conditions])), 2)
        loss = self.score(conditions, ops.cast(inputs["responses"], "float32"), first, second)
        if self.weight:
            loss = loss + self.weight * centre_loss(first, self.expected(conditions))
        return loss
