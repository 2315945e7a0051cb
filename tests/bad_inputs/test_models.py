"""Nonsense handed to samplers, models, losses and trainings: told in one line, hardly ever taken without a word."""

from functools import partial

import keras
import numpy as np
import pytest

from zdckeras.corr_vae.properties import MaskPooling, ResponseProperties
from zdckeras.data.detectors import channel_masks, channel_sums, get_detector
from zdckeras.data.particles import Scaler, conditions_of, pdg_of, species
from zdckeras.data.transforms import BoxCox, Dequantise, Logit, ShapeCode
from zdckeras.flow_distill.distiller import Distiller, variability_weight
from zdckeras.flow_distill.generator import ShowerGenerator
from zdckeras.flow_distill.shape import ShapeFlow
from zdckeras.flow_distill.sums import PhotonSums
from zdckeras.flows.bijections import Chain, Permutation
from zdckeras.flows.flow import Flow
from zdckeras.flows.univariate import Affine, RationalQuadraticSpline
from zdckeras.gan.generator import GanGenerator, fit_factor
from zdckeras.gan.images import ImageGAN
from zdckeras.gan.model import ResponseGAN, ShapeScoreFit, SumsScoreFit
from zdckeras.gan.networks import ResponseNetwork
from zdckeras.gan.published import published_critic, published_generator, published_regressor
from zdckeras.gan.published_vit import published_vit_generator
from zdckeras.layers.particle_features import ParticleFeatures
from zdckeras.layers.photon_drawing import PhotonDraw
from zdckeras.layers.response_features import SummaryFeatures
from zdckeras.layers.transformer import Transformer
from zdckeras.training.adversarial import term_weights
from zdckeras.training.batches import Batches
from zdckeras.training.loop import SampleLoss, fit_adam, fit_arrays, train
from zdckeras.training.options import set_options
from zdckeras.training.phases import PhaseOptimizers
from zdckeras.vae.sinkhorn import sinkhorn_divergence
from zdckeras.vq.codebook import Codebook
from zdckeras.vq.prior import TokenPrior, draw
from zdckeras.vq.published import ImageVQGAN, PatchCritic
from zdckeras.vq.vq_gan import PhotonVQGAN
from zdckeras.wgan_gp import published as wgan
from zdckeras.wgan_gp.regression import EmulatorFit, RegressorFit

pytestmark = pytest.mark.filterwarnings("ignore:Particles outside the trained range")
NAN, INF = float("nan"), float("inf")
SCALER = {"mean": [0.0] * 9, "scale": [1.0] * 9}
NETWORK = dict(latent=4, hidden=8, widths=(8,), channels=(4, 4, 2), spots=2)


class Line(SampleLoss):
    def __init__(self):
        super().__init__()
        self.slope = self.add_weight(shape=(), initializer="ones")
        self.built = True

    def call(self, inputs):
        return (self.slope - inputs["x"][:, 0]) ** 2


@pytest.fixture(scope="module")
def samplers(generator):
    """A flow, and a GAN with its trained range, of one calorimeter."""
    scaler = Scaler.fit(np.arange(18.0).reshape(2, 9) + 1.0).get_config()
    return {"flow": generator, "gan": GanGenerator(ResponseNetwork("ecal", scaler, **NETWORK))}


def sampled(sampler):
    """Wrong calls of one sampler: name -> function."""
    good = np.ones((2, 9))
    wrong = {"none": None, "a word": "zn", "a number": 3.0, "a dictionary": {}, "words": [["a"] * 9],
             "ragged": [[1], []], "a row": np.ones(9), "8 columns": np.ones((2, 8)), "10 columns": np.ones((2, 10)),
             "cubes": np.ones((2, 9, 1)), "complex": good + 1j, "truth": good > 0, "objects": good.astype(object),
             "dates": good.astype("M8[s]"),
             "NaN": good * NAN, "inf": good * INF, "-inf": -good * INF, "1e39": good * 1e39,
             "E = 0": good * [0] + [0] * 9,
             "E < 0": good * -1, "one E < 0": good * [[1], [-1]], "one NaN": np.where(np.eye(2, 9) > 0, NAN, good)}
    calls = {f"conditions {name}": partial(sampler.sample, value) for name, value in wrong.items()}
    for name, value in {"[]": [], "-1": -1, "1.5": 1.5, "word": "1", "none": None, "2-D": [[1]], "truth": True,
                        "NaN": NAN, "[1, -1]": [1, -1], "array 2-D": np.ones((1, 1), int),
                        "dictionary": {1: 2}}.items():
        calls |= {f"seed {name}": partial(sampler.sample, good, value),
                  f"blocks, seed {name}": partial(sampler.blocks, good, value)}
    for value in (0, -5, 1.5, "4", None, True, NAN, [4]):
        calls |= {f"batch_size {value}": partial(sampler.sample, good, batch_size=value),
                  f"blocks, batch_size {value}": partial(sampler.blocks, good, batch_size=value)}
    for value in ({"noise": np.zeros((2, 4))}, {"conditions": good}, {"pdg": [22, 22]}, {"x": 1}):
        calls[f"beside {list(value)}"] = partial(sampler.sample, good, beside=value)
    for value in (-1, NAN, INF, "1", True, {"zm": 1}, {"ecal": -1}, {"ecal": "x"}, None, [1]):
        calls[f"at_least {value}"] = partial(sampler.sample, good, at_least=value)
    for value in ([22], [22] * 3, 22, None):
        calls[f"showers, pdg {value}"] = partial(sampler.showers, good, value)
    return calls


def models():
    """Wrong models, layers and transforms: name -> function."""
    flow = partial(Flow.maf, hidden=(4,), steps=1)
    sums = partial(PhotonSums, {"detector": "zn", **SCALER}, hidden=(4,), embedding=(4,), steps=1)
    network, prior = partial(ResponseNetwork, **NETWORK), partial(TokenPrior, "zn", SCALER, width=4, heads=1, depth=1)
    gan = partial(ResponseGAN, "zn", SCALER, generator=NETWORK, critic=dict(hidden=(4,), channels=(2, 2, 2), code=2))
    x, one = np.ones((3, 2), "float32"), flow(variables=2)
    many = {
        "flow of 0": partial(flow, 0), "flow of -1": partial(flow, -1),
        "flow, context -1": partial(flow, 2, context=-1),
        "flow, 0 steps": partial(flow, 2, steps=0), "flow, no hidden": partial(flow, 2, hidden=()),
        "flow, hidden 0": partial(flow, 2, hidden=(0,)), "flow, half": partial(flow, 2, dtype="float16"),
        "flow of 3": partial(one.log_prob, np.ones((3, 3))), "flow of a row": partial(one.log_prob, np.ones(2)),
        "flow told": partial(one.log_prob, x, x), "generate 3": partial(one.generate, np.ones((3, 3))),
        "flow untold": partial(flow(2, context=1).log_prob, x),
        "context of 2": partial(flow(2, context=1).log_prob, x, x),
        "context of 2 rows": partial(flow(2, context=1).log_prob, x, x[:2, :1]),
        "maf as iaf": partial(one.transform_path, x), "order": partial(Permutation, 3, [0, 0, 1]),
        "order and seed": partial(Permutation, 3, [0, 1, 2], 1), "empty chain": partial(Chain, []),
        "chain of two sizes": partial(Chain, [Permutation(2), Permutation(3)]),
        "bound 0": partial(Affine, 0), "bound NaN": partial(Affine, NAN), "1 bin": partial(RationalQuadraticSpline, 1),
        "bound -1": partial(RationalQuadraticSpline, 8, -1), "share 1": partial(RationalQuadraticSpline, 8, 5, 1),
        "slope 0": partial(RationalQuadraticSpline, 8, 5, 1e-3, 0),
        "5 means, 4 scales": partial(sums, [0.0] * 5, [1.0] * 4), "scale 0": partial(sums, [0.0] * 5, [0.0] * 5),
        "scale NaN": partial(sums, [0.0] * 5, [NAN] * 5), "mean 2-D": partial(sums, [[0.0]], [[1.0]]),
        "sums of cpv": partial(PhotonSums, {"detector": "cpv", **SCALER}, [0.0], [1.0]),
        "scaler of 8": partial(ParticleFeatures, "zn", [0.0] * 8, [1.0] * 8),
        "scaler of nothing": partial(Scaler.fit, np.empty((0, 9))), "scaler of a row": partial(Scaler.fit, np.ones(9)),
        "impose": partial(ShowerGenerator, sums([0.0] * 5, [1.0] * 5), None, impose="x"),
        "network of cpv": partial(network, "cpv", SCALER), "network without scaler": partial(network, "zn", {}),
        "gan of cpv": partial(ResponseGAN, "cpv", SCALER), "weight": partial(gan, weights={"x": 1}),
        "weight -1": partial(gan, weights={"energy": -1}), "weight NaN": partial(gan, weights={"energy": NAN}),
        "terms": partial(term_weights, {"b": 1}, {"a": 0}), "term -1": partial(term_weights, {"a": -1}, {"a": 0}),
        "prior of 0 codes": partial(prior, 0), "prior, 3 heads": partial(prior, 4, width=4, heads=3),
        "0 tokens": partial(prior, 4, 0), "0 blocks": partial(Transformer, 4, 4, 1, 0),
        "0 codes": partial(Codebook, 0), "width 0": partial(Codebook, 4, 0), "decay 1": partial(Codebook, 4, decay=1.0),
        "threshold 1": partial(Codebook, 4, threshold=1.0), "commitment": partial(Codebook, 4, commitment=-1.0),
        "vectors of 3": partial(Codebook(4, 2), np.ones((1, 2, 3), "float32")),
        "pool": partial(MaskPooling, 3, 2), "pool of 0": partial(MaskPooling, 0, 2),
        "summary": partial(SummaryFeatures, "zn", [0.0], [1.0]), "summary of cpv": partial(SummaryFeatures, "cpv"),
        "properties": partial(ResponseProperties, "zn", [0.0] * 3, [1.0] * 3),
        "convention": partial(PhotonDraw, "zn", "x"), "mask": partial(channel_masks, (4, 4), "x"),
        "sums of a row": partial(channel_sums, np.ones(4)), "detector": partial(get_detector, "zm"),
        "detector none": partial(get_detector, None), "unknown id": partial(species, 99),
        "id NaN": partial(species, NAN),
        "conditions of 99": partial(conditions_of, [99], np.ones((1, 3))),
        "id of 1 MeV": partial(pdg_of, np.ones((1, 9))),
        "dequantise 0": partial(Dequantise, 0.0), "dequantise 2": partial(Dequantise, 2.0),
        "bell": partial(Dequantise, 1, -1),
        "dequantise NaN": partial(Dequantise, NAN), "alpha 0": partial(Logit, 0.0), "alpha 1": partial(Logit, 1.0),
        "shape code": partial(ShapeCode, 0.0), "shift 0": partial(BoxCox, 0.0, 0.0),
        "shift -1": partial(BoxCox, 0.0, -1.0),
        "power NaN": partial(BoxCox, NAN), "fit dark": partial(BoxCox.fit, np.zeros((3, 2))),
        "fit even": partial(BoxCox.fit, np.ones((3, 2))),
        "weight of 2": partial(variability_weight, np.array([0, 2.0])),
        "weight of NaN": partial(variability_weight, np.array([NAN])), "shape of cpv": partial(
            ShapeFlow, {"detector": "cpv", **SCALER}, {}), "temperature 0": partial(draw, x, x[:, 0], 0.0),
        "temperature -1": partial(draw, x, x[:, 0], -1.0), "top_k 0": partial(draw, x, x[:, 0], 1.0, 0),
        "top_k 3": partial(draw, x, x[:, 0], 1.0, 3), "top_p 0": partial(draw, x, x[:, 0], 1.0, None, 0.0),
        "top_p 2": partial(draw, x, x[:, 0], 1.0, None, 2.0), "blur 0": partial(sinkhorn_divergence, x, x, 0.0),
        "blur NaN": partial(sinkhorn_divergence, x, x, NAN), "p = 3": partial(sinkhorn_divergence, x, x, p=3),
        "0 iterations": partial(sinkhorn_divergence, x, x, iterations=0),
        "widths": partial(sinkhorn_divergence, x, x[:, :1]),
        "points in a row": partial(sinkhorn_divergence, x[0], x[0]),
        "factor of other sizes": partial(fit_factor, np.ones((2, 4, 4)), np.ones((2, 5, 5))),
        "factor of nothing": partial(fit_factor, np.zeros((0, 4, 4)), np.zeros((0, 4, 4))),
        "factor of darkness": partial(fit_factor, np.ones((2, 4, 4)), np.zeros((2, 4, 4))),
        "factor of NaN": partial(fit_factor, np.ones((2, 4, 4)), np.full((2, 4, 4), NAN)),
    }
    given = GanGenerator(network("zn", SCALER))
    for value in ([1.0, 1.0], [0.0], [-1.0], [NAN], [INF], [], "x"):
        many[f"factors {value}"] = partial(setattr, given, "factors", value)
    many |= {f"low {low}, high {high}": partial(GanGenerator, given.network, None, low, high) for low, high in (
        ([0.0] * 9, None), (None, [0.0] * 9), ([1.0] * 9, [0.0] * 9), ([0.0] * 8, [1.0] * 8), ([NAN] * 9, [1.0] * 9))}
    return many


def trainings(folder):
    """Wrong batches and trainings: name -> function."""
    arrays, rows, model = {"x": np.ones((8, 1))}, partial(Batches, batch_size=4), Line
    calls = {"no arrays": partial(rows, {}), "two lengths": partial(rows, {"x": [1.0], "y": [1.0, 2.0]}),
             "too few": partial(rows, {"x": np.ones(3)}), "numbers": partial(rows, {"x": 3}),
             "no optimizers": partial(PhaseOptimizers, {}), "ema": partial(
                 PhaseOptimizers, {"a": keras.optimizers.SGD(0.1, use_ema=True)}), "log": partial(set_options, "text")}
    calls |= {f"batch_size {value}": partial(Batches, arrays, value) for value in (0, -1, 1.5, "4", None, True, NAN)}
    calls |= {f"seed {value}": partial(rows, arrays, seed=value) for value in (-1, 1.5, "4", None, NAN, [1])}
    for value in (0, -1, 1.5, "1", None, True, NAN):
        calls[f"epochs {value}"] = lambda value=value: fit_arrays(model(), arrays, folder / "a.npz", value, 4, 0.1)
    for value in (0.0, -0.1, NAN, INF, "1", None):
        calls[f"rate {value}"] = lambda value=value: fit_arrays(model(), arrays, folder / "a.npz", 1, 4, value)
    for value in (-1, 1.5, "1", True):
        calls[f"until {value}"] = lambda value=value: fit_adam(model(), rows(arrays), folder / "a.npz", 1, 0.1, value)
    for value in (0, -1, 1.5, None):
        calls[f"every {value}"] = lambda value=value: train(compiled(), rows(arrays), 1, folder / "b.npz", every=value)
    calls["not compiled"] = lambda: train(model(), rows(arrays), 1, folder / "c.npz")
    calls["NaN"] = lambda: fit_arrays(model(), {"x": np.full((8, 1), NAN)}, folder / "d.npz", 1, 4, 0.1)
    return calls


def compiled():
    model = Line()
    model.compile(keras.optimizers.SGD(0.1))
    return model


def outcome(call):
    """"clear", "unclear" with what was said, or "silent"."""
    try:
        call()
    except Exception as error:
        said = str(error)
        kind = isinstance(error, (ValueError, TypeError, KeyError, RuntimeError)) and "\n" not in said.strip()
        clear = kind and any(word in said for word in ("xpected", "nknown", "must", "required", "Try ", "received"))
        return "clear" if clear else f"unclear: {type(error).__name__} {said[:90]}"
    return "silent"


def test_nonsense_is_told(samplers, tmp_path, monkeypatch):
    monkeypatch.setattr(np, "seterr", np.seterr)
    found = {f"{kind}, {name}": outcome(call) for kind, sampler in samplers.items() for name, call in
             sampled(sampler).items()}
    found |= {f"model, {name}": outcome(call) for name, call in models().items()}
    found |= {f"training, {name}": outcome(call) for name, call in trainings(tmp_path).items()}
    silent = sorted(name for name, said in found.items() if said == "silent")
    unclear = {name: said for name, said in found.items() if said.startswith("unclear")}
    assert len(found) > 300
    assert len(silent) < 0.02 * len(found), silent
    assert len(unclear) < 0.1 * len(found), unclear


@pytest.mark.parametrize(("make", "expected"), [
    (lambda: published_generator("zp", divide=0), "divide: expected a whole number of at least 1, received 0"),
    (lambda: wgan.published_critic(divide=0), "divide: expected a whole number of at least 1, received 0"),
    (lambda: published_critic("zn", divide=-1), "divide: expected a whole number of at least 1, received -1"),
    (lambda: published_regressor("zp", divide=1.5), "divide: expected a whole number of at least 1, received 1.5"),
    (lambda: ImageGAN.published("zn", SCALER, 64, 0), "divide: expected a whole number of at least 1, received 0"),
    (lambda: wgan.published_generator(64, latent=0), "latent: expected a whole number of at least 1, received 0"),
    (lambda: published_vit_generator(latent=0), "latent: expected a whole number of at least 1, received 0"),
    (lambda: image_wgan(critic_steps=0), "critic_steps: expected a whole number of at least 1, received 0"),
    (lambda: image_wgan(penalty=-10.0), "penalty: expected a finite number of at least 0, received -10.0"),
    (lambda: ResponseGAN("zp", SCALER, penalty=-1.0), "penalty: expected a finite number of at least 0, received -1.0"),
    (lambda: ResponseGAN("zp", SCALER, critic=keras.layers.Dense(1)), "critic: expected Mapping, received Dense"),
    (lambda: SumsScoreFit(keras.layers.Dense(1)), "gan: expected ResponseGAN, received Dense"),
    (lambda: ShapeScoreFit(None), "gan: expected ResponseGAN, received NoneType"),
    (lambda: GanGenerator(keras.layers.Dense(1)), "network: expected ResponseNetwork, received Dense"),
    (lambda: Distiller(keras.layers.Dense(1), None), "teacher: expected CellFlow, received Dense"),
    (lambda: ImageVQGAN(keras.layers.Dense(1), None), "model: expected PhotonVQVAE, received Dense"),
    (lambda: ImageVQGAN.of(None, None), "model: expected PhotonVQVAE, received NoneType"),
    (lambda: PatchCritic(keras.layers.Dense(1)), "encoder: expected LogImageEncoder, received Dense"),
    (lambda: PhotonVQGAN(keras.layers.Dense(1)), "model: expected PhotonVQVAE, received Dense"),
    (lambda: PhotonVQGAN.fit_scales("vq", None), "model: expected PhotonVQVAE, received str"),
    (lambda: EmulatorFit(keras.layers.Dense(1), None, {}), "emulator: expected Emulator, received Dense"),
    (lambda: RegressorFit(None, {}), "regressor: expected ParameterRegressor or ImageRegressor, received NoneType"),
])
def test_kinds_and_sizes_of_networks(make, expected):
    with pytest.raises(ValueError, match=expected):
        make()


def image_wgan(**settings):
    regressor = wgan.ImageRegressor(wgan.published_reader(64), "ecal", [0.0] * 5, [1.0] * 5)
    return wgan.ImageWGAN.published(regressor, {"power": 0.1, "shift": 0.1}, 64, 4, **settings)
