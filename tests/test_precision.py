"""Counts stay whole and inverses exact where devices round factors (TF32), and under policies of mixed precision."""

import keras
import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.corr_vae.properties import MaskPooling
from zdckeras.data.detectors import channel_sums
from zdckeras.flow_distill.generator import ShowerGenerator
from zdckeras.flow_distill.sums import PhotonSums
from zdckeras.flows.flow import Flow
from zdckeras.layers.photon_drawing import CellNoise, PhotonDraw
from zdckeras.layers.response_features import SummaryFeatures
from zdckeras.vq.codebook import Codebook
from zdckeras.vq.prior import draw


def tf32(values):
    """Numbers rounded to the 11 bits that TF32 keeps."""
    bits = np.ascontiguousarray(ops.convert_to_numpy(values), "float32").view("uint32")
    return ((bits + 0x0FFF + ((bits >> 13) & 1)) & np.uint32(0xFFFFE000)).view("float32")


def rounded_product(a, b):
    """What a GPU makes of a product: rounded factors, float32 sums."""
    return ops.convert_to_tensor(np.matmul(tf32(a), tf32(b)))


@pytest.fixture
def rounding(monkeypatch):
    """A device that rounds: all products but the exact ones, and dense layers."""
    monkeypatch.setattr(ops, "matmul", rounded_product)


def test_the_emulation_rounds():
    assert tf32([2049.0, 2051.0, 2050.0, 1 / 3]).tolist() == [2048.0, 2052.0, 2050.0, 0.333251953125]


@pytest.fixture(scope="module")
def counts():
    """Bright responses, in which one cell has more photons than TF32 counts."""
    counts = np.random.default_rng(0).poisson(40.0, (20, 44, 44)).astype("float32")
    counts[:, 20, 21], counts[:, 3, 8] = 4099.0, 2051.0
    return counts


def test_sums_of_counts_are_exact(rounding, counts):
    summary = SummaryFeatures("zn")
    assert np.array_equal(ops.convert_to_numpy(summary.sums(counts)), channel_sums(counts))
    rough = ops.convert_to_numpy(ops.matmul(counts.reshape(20, -1), summary.masks))
    assert (rough != channel_sums(counts)).mean() > 0.1  # what is seen where the product is not exact


def test_drawn_photons_and_cell_noise_are_exact(counts, monkeypatch):
    draw_photons, noise = PhotonDraw("zn"), CellNoise(500, 10, seed=1)
    sums, uniform = channel_sums(counts).astype("float32"), np.full((20, 1), 0.5, "float32")
    normal = np.random.default_rng(1).standard_normal((50, 10)).astype("float32")

    def both():
        photons = ops.convert_to_numpy(draw_photons(counts.reshape(20, -1), sums, uniform))
        return photons, ops.convert_to_numpy(noise(normal))

    plain = both()
    monkeypatch.setattr(ops, "matmul", rounded_product)
    for one, other in zip(plain, both(), strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(channel_sums(plain[0]), sums) and np.array_equal(plain[0], np.rint(plain[0]))


def test_tokens_are_drawn_from_exact_cumulative_sums(monkeypatch):
    logits = np.random.default_rng(2).normal(size=(400, 64)).astype("float32")
    uniform = np.random.default_rng(3).random(400, "float32")
    plain = ops.convert_to_numpy(draw(logits, uniform))
    monkeypatch.setattr(ops, "matmul", rounded_product)
    assert np.array_equal(ops.convert_to_numpy(draw(logits, uniform)), plain)


def test_codes_are_those_of_the_table(rounding):
    book = Codebook(16, 4, seed=1)
    z = np.random.default_rng(4).normal(size=(3, 5, 4)).astype("float32")
    quantised, tokens, _ = book(z)
    np.testing.assert_allclose(ops.convert_to_numpy(quantised), ops.convert_to_numpy(book.lookup(tokens)), atol=1e-6)


def test_inverses_are_exact(rounding, evaluate):
    pool = MaskPooling(3, 7, seed=2)
    w, asked = (np.random.default_rng(5).normal(size=(9, n)).astype("float32") for n in (7, 3))
    np.testing.assert_allclose(ops.convert_to_numpy(pool(pool.correct(w, asked))), asked, atol=1e-5)


def test_a_step_solves_its_rounded_pass_to_float32(monkeypatch):
    """The sweep that inverts an autoregressive step does not round, whatever other products do."""
    flow = Flow.maf(variables=6, context=2, steps=1, hidden=(16,), seed=3)
    rng = np.random.default_rng(6)
    for weight in flow.weights:
        weight.assign(rng.normal(size=weight.shape).astype("float32") * 0.4)
    z, context = rng.normal(size=(5, 6)).astype("float32"), rng.normal(size=(5, 2)).astype("float32")
    plain = ops.convert_to_numpy(flow.generate(z, context))
    network = flow.bijection.bijections[0].network
    called, exact = [], backend.exact_matmul
    monkeypatch.setattr(backend, "exact_matmul", lambda a, b: called.append(1) or exact(a, b))
    assert np.array_equal(ops.convert_to_numpy(flow.generate(z, context)), plain) and called
    assert network.levels == 6


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow has no switch for one product")
def test_a_product_in_parts_is_as_good_as_float32():
    import tensorflow as tf

    from zdckeras.backend.tensorflow_steps import split_matmul

    def multiply(a, b):
        value = tf.constant(rounded_product(a, b))
        return value + tf.matmul(a, b) - tf.stop_gradient(tf.matmul(a, b))  # with a gradient

    rng = np.random.default_rng(7)
    a, b = (tf.constant(rng.normal(size=s) * 10.0 ** rng.integers(-3, 4, s), tf.float32) for s in ((8, 40), (40, 6)))
    true = a.numpy().astype("float64") @ b.numpy().astype("float64")
    scale = np.abs(a.numpy()).astype("float64") @ np.abs(b.numpy())
    rough, fine = (np.abs(f - true) / scale for f in (multiply(a, b).numpy(), split_matmul(a, b, multiply).numpy()))
    assert rough.max() > 1e-4 and fine.max() < 1e-6
    whole = tf.constant(rng.integers(0, 60000, (8, 40)), tf.float32)
    mask = tf.constant(rng.integers(0, 2, (40, 6)), tf.float32)
    assert np.array_equal(split_matmul(whole, mask, multiply).numpy(), whole.numpy() @ mask.numpy())
    with tf.GradientTape() as tape:
        tape.watch([a, b])
        value = tf.reduce_sum(split_matmul(a, b, multiply) ** 2)
    for found, expected in zip(tape.gradient(value, [a, b]), (2 * true @ b.numpy().T, a.numpy().T @ (2 * true)),
                               strict=True):
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-3 * np.abs(expected).max())


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX is told for each product")
def test_jax_is_told_to_keep_float32():
    import jax

    text = str(jax.make_jaxpr(backend.exact_matmul)(np.ones((2, 3), "float32"), np.ones((3, 2), "float32")))
    assert "HIGHEST" in text


@pytest.fixture(params=["mixed_bfloat16", "mixed_float16"])
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


def test_flows_compute_in_float32_under_any_policy(policy, generator, showers, eager):
    """Sums, shapes and their generator: made, trained and sampled as without the policy."""
    sums = PhotonSums.from_config(generator.sums.get_config())
    sums.set_weights(generator.sums.get_weights())
    shape = type(generator.shape).from_config(generator.shape.get_config())
    shape.set_weights(generator.shape.get_weights())
    other = ShowerGenerator(sums, shape)
    other.compile(run_eagerly=eager)
    particles = showers.particles[:4]
    assert np.array_equal(other.sample(particles, 1, batch_size=4), generator.sample(particles, 1, batch_size=4))
    flow = Flow.maf(variables=2, context=3, steps=2, hidden=(8,), seed=1)
    flow.compile(keras.optimizers.Adam(1e-3), run_eagerly=eager)
    x, c = np.full((8, 2), 300.5, "float32"), np.ones((8, 3), "float32")
    assert np.isfinite(flow.fit([x, c], epochs=1, verbose=0).history["loss"]).all()
    z, _ = flow.encode(x, c)
    np.testing.assert_allclose(ops.convert_to_numpy(flow.generate(z, c)), x, rtol=1e-5)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "mixed_bfloat16"])
def test_half_precision_is_refused_where_it_is_asked_for(kind):
    with pytest.raises(ValueError, match="expected to compute in float32, or densities and inverses are lost"):
        Flow.maf(variables=2, steps=1, hidden=(8,), dtype=kind)
