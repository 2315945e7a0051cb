"""Training the regressor that makes the WGAN-GP conditional, with a perceptual loss or the mean squared error."""

import keras
import numpy as np
from keras import ops

from zdckeras.arguments import of_kind
from zdckeras.backend import Tensor
from zdckeras.data.transforms import BoxCox
from zdckeras.training.loop import SampleLoss, hand_on
from zdckeras.wgan_gp.published import ImageRegressor
from zdckeras.wgan_gp.regressor import Emulator, ParameterRegressor

REGRESSORS = (ParameterRegressor, ImageRegressor)


class EmulatorFit(SampleLoss):
    """Trains an `Emulator`: mean squared error of the blocks of real responses, L = E |b(y) - phi(t)|^2.

    Arguments:
        emulator: `Emulator`.
        regressor: `ParameterRegressor` or `ImageRegressor`, which know the parameters' standardisation.
        boxcox: {"power", "shift"} of the network space.

    Returns:
        call({"conditions": (B, 9), "responses": (B, nx, ny)}) gives the per-sample loss (B,).
    """

    def __init__(self, emulator, regressor, boxcox, **kwargs):
        super().__init__(**kwargs)
        of_kind(emulator, Emulator, "emulator")
        of_kind(regressor, REGRESSORS, "regressor")
        self.emulator, self.truth, self.boxcox = emulator, regressor.truth, BoxCox(**boxcox)
        self.built = True

    def call(self, inputs):
        blocks = self.emulator.blocks(self.boxcox.forward(inputs["responses"]))
        return ops.mean(ops.square(blocks - self.emulator(self.truth(inputs["conditions"]))[-1]), axis=-1)


def emulated_response_loss(emulator: Emulator, predicted: Tensor, true: Tensor) -> Tensor:
    """Distance of the responses that two sets of parameters would leave: sum_l mean |phi_l(t') - phi_l(t)|^2 / s_l.

    phi_l are the layers of an `Emulator`, hidden ones and the mean response: an error counts by how much the response
    changes, and is amplified where the response is sensitive. s_l is the mean square of the layer.

    Arguments:
        emulator: trained `Emulator`, not moved.
        predicted, true: (B, 5) standardised parameters.

    Returns:
        (B,).

    Source:
        Johnson, Alahi, Fei-Fei, arXiv:1603.08155, eq. 2, with the responses of parameters in place of images; the
        LHCb study (arXiv:1812.01319, section 3.3) names a perceptual loss without its formula.
    """
    loss = 0.0
    for made, right in zip(emulator(predicted), emulator(true), strict=True):
        size = ops.stop_gradient(ops.mean(ops.square(right))) + 1e-6
        loss = loss + ops.mean(ops.square(made - right), axis=-1) / size
    return loss


class RegressorFit(SampleLoss):
    """Trains a `ParameterRegressor` or an `ImageRegressor` on real responses.

    Arguments:
        regressor: `ParameterRegressor` or `ImageRegressor`.
        boxcox: {"power", "shift"} of the network space.
        emulator: trained `Emulator` for `emulated_response_loss`; without one the loss is the mean squared error.

    Returns:
        call({"conditions": (B, 9), "responses": (B, nx, ny)}) gives the per-sample loss (B,).
    """

    def __init__(self, regressor, boxcox, emulator=None, **kwargs):
        super().__init__(**kwargs)
        of_kind(regressor, REGRESSORS, "regressor")
        of_kind(emulator, (Emulator, type(None)), "emulator")
        self.regressor, self.boxcox, self.emulator = regressor, BoxCox(**boxcox), emulator
        self.built = True

    @property
    def constants(self) -> tuple[keras.Layer, ...]:
        """Layers whose weights stay as they are."""
        return () if self.emulator is None else (self.emulator,)

    def call(self, inputs, training=False):
        return hand_on(self._each, inputs, training)

    def _each(self, inputs):
        predicted = self.regressor(self.boxcox.forward(inputs["responses"]))
        true = self.regressor.truth(inputs["conditions"])
        if self.emulator is None:
            return ops.mean(ops.square(predicted - true), axis=-1)
        return emulated_response_loss(self.emulator, predicted, true)


def parameter_errors(regressor: ParameterRegressor | ImageRegressor, boxcox: dict, responses: np.ndarray,
                     conditions: np.ndarray, batch: int = 1000) -> list[float]:
    """Resolution of each parameter as a regressor reads it from responses: half the width of the central 68.3 %.

    Arguments:
        regressor: trained `ParameterRegressor` or `ImageRegressor`.
        boxcox: {"power", "shift"} of its network space.
        responses: (N, nx, ny) energies [MeV], real or generated.
        conditions: (N, 9) of the same particles.
        batch: rows at once.

    Returns:
        List of 5, in the order and units of the regressor's parameters: `zdckeras.wgan_gp.regressor.PARAMETERS` (ln p:
        relative momentum), or `zdckeras.wgan_gp.published.PARAMETERS`.
    """
    transform, wrong = BoxCox(**boxcox), []
    for start in range(0, len(responses), batch):
        image = ops.convert_to_tensor(np.asarray(responses[start : start + batch], "float32"))
        known = ops.convert_to_tensor(np.asarray(conditions[start : start + batch], "float32"))
        wrong.append(ops.convert_to_numpy(regressor(transform.forward(image)) - regressor.truth(known)))
    low, high = np.quantile(np.concatenate(wrong) * regressor.scale, (0.1585, 0.8415), axis=0)
    return ((high - low) / 2).tolist()
