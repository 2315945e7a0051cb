"""Saved models, and bodies with given weights, answer the same whatever the global dtype policy."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from tests.conftest import randomise, small_shape
from zdckeras import load_model, pretrained
from zdckeras.diffusion.latent import DiffusionPrior
from zdckeras.diffusion.networks import DenseField, PatchField
from zdckeras.gan.model import ResponseGAN
from zdckeras.gan.networks import Critic, PeakRegressor, ResponseNetwork
from zdckeras.layers import cnn, patches
from zdckeras.modular.networks import ResponseEncoder
from zdckeras.policy import made_in
from zdckeras.vq.prior import TokenPrior

OLD = Path(__file__).parent / "data" / "old"
POLICIES = ["mixed_bfloat16", "mixed_float16", "float64"]
BODY = dict(shape=(30, 30), width=2, context=3)
PATCHES = dict(**BODY, patch=8, hidden=8, depth=1)
SCALER = {"mean": [0.0] * 9, "scale": [1.0] * 9}
MADE = {
    "CnnEncoder": (cnn.CnnEncoder, dict(**BODY, channels=(4, 4, 2, 2)), [(30, 30), (3,)]),
    "CnnDecoder": (cnn.CnnDecoder, dict(**BODY, channels=(4, 4, 2, 2)), [(16, 2), (3,)]),
    "PublishedCnnEncoder": (cnn.PublishedCnnEncoder, dict(**BODY, channels=(4, 4, 2)), [(30, 30), (3,)]),
    "PublishedCnnDecoder": (cnn.PublishedCnnDecoder, dict(**BODY, channels=(4, 4, 2)), [(25, 2), (3,)]),
    "MixerEncoder": (patches.MixerEncoder, PATCHES, [(30, 30), (3,)]),
    "MixerDecoder": (patches.MixerDecoder, PATCHES, [(16, 2), (3,)]),
    "PublishedMixerEncoder": (patches.PublishedMixerEncoder, PATCHES, [(30, 30), (3,)]),
    "VitEncoder": (patches.VitEncoder, dict(**PATCHES, heads=2), [(30, 30), (3,)]),
    "DenseField": (DenseField, dict(variables=4, context=3, hidden=8, depth=2), [(4,), (1,), (3,)]),
    "PatchField": (PatchField, dict(detector="ecal", context=3, impact=0, patch=8, hidden=8, depth=1, across=4),
                   [(30, 30), (1,), (3,)]),
    "ResponseEncoder": (ResponseEncoder, dict(detector="ecal", latent=2, hidden=(8, 8)), [(30, 30), (72,), (2,)]),
    "TokenPrior": (TokenPrior, dict(detector="zn", scaler=SCALER, codes=4, tokens=4, width=8, heads=2, depth=1),
                   [(9,), (4,)]),
    "ResponseNetwork": (ResponseNetwork, dict(detector="ecal", scaler=SCALER, hidden=8, widths=(8,), spots=2,
                                              channels=(4, 4, 2)), [(10,), (9,)]),
    "Critic": (Critic, dict(detector="ecal", scaler=SCALER, hidden=(8,), channels=(4, 4, 2), code=4),
               [(1, 30, 30), (9,)]),
    "PeakRegressor": (PeakRegressor, dict(detector="ecal", channels=(4, 4, 2), hidden=4), [(30, 30)]),
}
METHOD = {"TokenPrior": "sample"}


def numbers(values):
    return [ops.convert_to_numpy(value) for value in keras.tree.flatten(values)]


def answers(name, body):
    """What a body answers to inputs of the shapes in `MADE`."""
    rng, inputs = np.random.default_rng(4), []
    for shape in MADE[name][2]:
        inputs.append(np.abs(rng.normal(size=(3, *shape))).astype("float32"))
    if name == "Critic":
        inputs[0] = (inputs[0][:, 0],)
    if name == "ResponseEncoder":
        inputs[2] = inputs[2].astype("int32")
    return numbers(getattr(body, METHOD.get(name, "__call__"))(*inputs))


@pytest.mark.parametrize("name", MADE)
def test_bodies_answer_the_same(name):
    kind, settings, _ = MADE[name]
    body = randomise(kind(**settings, seed=2), seed=3)
    for weight in body.non_trainable_weights:  # variances
        weight.assign(np.abs(weight.numpy()))
    expected = answers(name, body)
    for policy in POLICIES:
        with made_in(policy):
            again = kind.from_config(body.get_config())
            again.set_weights(body.get_weights())
            found = answers(name, again)
        assert all(map(np.array_equal, found, expected)), policy


@pytest.mark.filterwarnings("ignore:Particles outside")
@pytest.mark.parametrize(("name", "policy"), [*(("zn", policy) for policy in POLICIES), ("zp", POLICIES[0]), *(
    (path.stem, POLICIES[0]) for path in sorted(OLD.glob("*.keras")))])
def test_saved_models_answer_the_same(name, policy, eager):
    with np.load(OLD / "flow_student.npz") as file:
        conditions = file["conditions"][:16]

    def made():
        model = pretrained(name) if name in ("zn", "zp") else load_model(OLD / f"{name}.keras")
        model.compile(run_eagerly=eager)
        return model.sample(conditions, seed=3, batch_size=16)

    expected = made()
    with made_in(policy):
        assert np.array_equal(made(), expected)


@pytest.mark.parametrize("policy", POLICIES)
def test_models_made_under_a_policy_work(policy, showers):
    prior = DiffusionPrior(3, 2, hidden=8, depth=1, context=4, levels=2)
    noise, features = np.ones((2, 2), "float32"), np.ones((2, 3), "float32")
    expected = numbers(prior.generate(noise, features))
    shape = small_shape(showers)
    with made_in(policy):
        again = DiffusionPrior.from_config(prior.get_config())
        assert all(map(np.array_equal, numbers(again.generate(noise, features)), expected))
        other = small_shape(showers)
    assert all(map(np.array_equal, shape.get_weights(), other.get_weights()))


@pytest.mark.parametrize(("made", "loaded"), [("mixed_bfloat16", "float32"), ("float32", "mixed_bfloat16")])
def test_models_of_gans_keep_the_policy_they_were_made_in(made, loaded, tmp_path):
    sizes = {key: value for key, value in MADE["ResponseNetwork"][1].items() if key not in ("detector", "scaler")}
    critic = dict(hidden=(8,), channels=(4, 4, 2), code=4)
    with made_in(made):
        gan = ResponseGAN("ecal", SCALER, {"auxiliary": 1.0}, sizes, critic)
        gan.save(tmp_path / "gan.keras")
        expected = numbers(gan({"z": np.ones((2, 10), "float32"), "conditions": np.ones((2, 9), "float32")}))
    with made_in(loaded):
        again = load_model(tmp_path / "gan.keras")
        found = numbers(again({"z": np.ones((2, 10), "float32"), "conditions": np.ones((2, 9), "float32")}))
    parts = [again.generator, again.average, again.critic, *again.regressors]
    assert {part.dtype_policy.name for part in parts} == {made}
    assert all(map(np.array_equal, found, expected))


def test_gans_keep_the_policy_they_were_made_in():
    """Under mixed precision their bodies follow it, and a file of such a generator does, too."""
    with made_in("mixed_bfloat16"):
        network = ResponseNetwork(**MADE["ResponseNetwork"][1])
        expected = answers("ResponseNetwork", network)
    again = ResponseNetwork.from_config(network.get_config())
    again.set_weights(network.get_weights())
    assert again.shape.dense.layers[0].compute_dtype == again.shape.own[0].compute_dtype == "bfloat16"
    assert again.sums.compute_dtype == again.sums.read.compute_dtype == "float32"
    assert all(map(np.array_equal, answers("ResponseNetwork", again), expected))
