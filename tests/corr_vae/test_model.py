import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import xlogy
from scipy.stats import multivariate_normal

from tests.conftest import randomise
from zdckeras import backend
from zdckeras.corr_vae.model import CorrVAE, total_correlation
from zdckeras.training.batches import Batches

numpy = ops.convert_to_numpy
SIZES = {"channels": (4, 2), "width": 2, "latents": 6, "objects": 3, "hidden": 6, "seed": 2}
ROWS = 8


def build(showers, **settings):
    return CorrVAE.fit_scales(showers, **SIZES, **settings)


def data(vae, showers, rows=ROWS):
    return Batches({"conditions": showers.particles, "responses": showers.response}, rows, seed=1, normal=vae.noise)


def says(head, mean, log_deviation):
    """Make an encoder say this of every response."""
    kernel, bias = head.read.get_weights()
    head.read.set_weights([0.0 * kernel, np.concatenate([np.broadcast_to(part, len(bias) // 2)
                                                         for part in (mean, log_deviation)])])


@pytest.mark.compiles_long
def test_total_correlation_of_normal_codes():
    """Against -ln(1 - r^2) / 2 of two numbers that are correlated by r; 0 for independent ones."""
    rng, rows = np.random.default_rng(0), 1500
    x, y = rng.standard_normal((2, rows, 1)).astype("float32")
    narrow = np.full((rows, 1), np.log(0.3), "float32")  # the encoders' own deviation, beside that of the means
    for r in (0.0, 0.8):
        means = x, (r * x + np.sqrt(1 - r**2) * y).astype("float32")
        codes = [m + 0.3 * rng.standard_normal((rows, 1)).astype("float32") for m in means]
        found = total_correlation(*((c, m, narrow) for c, m in zip(codes, means, strict=True)))
        seen = r / (1 + 0.3**2)
        assert abs(float(found) + 0.5 * np.log(1 - seen**2)) < 0.06


def test_terms(showers, evaluate):
    """Divergence of both codes; independence and sparsity in closed form; weights multiply the terms."""
    vae = build(showers, weights={"divergence": 3.0, "consistency": 0.5})
    says(vae.property_head, 0.5, -1.0)
    says(vae.object_head, [0.0, 1.0, 2.0], 0.0)
    batch = data(vae, showers)[0][0]
    names = list(batch)
    terms = evaluate(lambda *a: vae.terms(dict(zip(names, a, strict=True))), *batch.values())
    kl = 6 * (0.5 * (0.25 + np.exp(-2.0) - 1.0) + 1.0) + 0.5 * (1.0 + 4.0)
    np.testing.assert_allclose(terms["divergence"], kl, rtol=1e-5)
    assert abs(terms["independence"]) < 1e-6 and terms["sparsity"] > 0.0
    assert set(terms) == set(vae.WEIGHTS)
    loss = evaluate(lambda *a: vae(dict(zip(names, a, strict=True))), *batch.values())
    weights = vae.WEIGHTS | {"divergence": 3.0, "consistency": 0.5}
    np.testing.assert_allclose(loss, sum(weights[name] * terms[name] for name in terms), rtol=1e-4)
    assert loss.shape == (ROWS,)
    with pytest.raises(ValueError, match="received {'sharpness': 1.0}"):
        build(showers, weights={"sharpness": 1.0})


@pytest.mark.compiles_long
def test_terms_are_the_equations_of_their_codes(showers, evaluate):
    """Every term but the reconstruction's deviance by NumPy, of encoders, maps and decoders that answer differently to
    every row; and no gradient through the w to which what is asked for is steered."""
    vae = build(showers)
    for part in (vae.encoder, vae.decoder, vae.property_head, vae.object_head):
        randomise(part, seed=3, size=1.0)
    decoder, step = vae.decoder, 1e-2
    batch = data(vae, showers)[0][0]
    names = list(batch)

    def everything(*arrays):
        b = dict(zip(names, arrays, strict=True))
        photons, conditions, ask = b["responses"], b["conditions"], b["ask"]
        (w, spread), (z, scatter) = vae.encode(photons, conditions)
        true = decoder.properties(photons, conditions)
        latent, kind = w + ops.exp(spread) * b["code"][:, :6], z + ops.exp(scatter) * b["code"][:, 6:]
        stated, light = decoder(latent, kind, conditions)
        ends = (decoder.properties.standard(np.tile(np.float32(vae.ranges[side]), (ROWS // 2, 1)), conditions[::2])
                for side in ("smallest", "largest"))
        free = true[::2] + 2.0 * ask[::2, :4]
        asked = ops.clip(free, *ends)
        steered = decoder.steer(ask[::2, 4:10], asked, conditions[::2])
        pooled, slope = decoder.maps.inverse(true, conditions)
        higher, lower = (decoder.maps.inverse(true + side, conditions)[0] for side in (step, -step))
        wished = decoder.decode(asked, steered, ask[::2, 10:], conditions[::2])
        return {"terms": vae.terms(b), "w": w, "z": z, "true": true, "stated": stated, "light": light, "free": free,
                "asked": asked, "pooled": pooled, "slope": slope, "rise": (higher - lower) / (2.0 * step),
                "answer": decoder.properties(light, conditions), "came": decoder.properties(wished, conditions[::2]),
                "pull": backend.steps().grad(lambda a: vae.terms({**b, "ask": a})["consistency"], ask)}

    known = evaluate(everything, *batch.values())
    terms = known["terms"]

    def missed(found, wanted):
        return (np.sqrt(1.0 + ((found - wanted) / 0.1) ** 2) - 1.0).sum(axis=-1)

    covariance = (known["w"] - known["w"].mean(axis=0)).T @ (known["z"] - known["z"].mean(axis=0)) / ROWS
    np.testing.assert_allclose(terms["independence"], (covariance**2).sum(), rtol=1e-3)
    rows = numpy(decoder.pool.rows()).astype("float64")
    prior = multivariate_normal(cov=rows @ rows.T).logpdf(known["pooled"])
    np.testing.assert_allclose(terms["likelihood"], -prior - known["slope"].sum(axis=-1), rtol=1e-3)
    np.testing.assert_allclose(np.exp(known["slope"]), known["rise"], rtol=5e-2)
    np.testing.assert_allclose(terms["prediction"], missed(known["stated"], known["true"]), rtol=1e-3)
    n, light = batch["responses"].astype("float64"), known["light"].astype("float64")
    np.testing.assert_allclose(terms["reconstruction"], 2.0 * (xlogy(n, n / light) - n + light).sum(axis=(1, 2)),
                               rtol=1e-3)
    np.testing.assert_allclose(terms["consistency"], missed(known["answer"], known["stated"])
                               + missed(known["came"], known["asked"]).mean(), rtol=1e-3)
    assert np.abs(known["slope"]).max() > 0.1 and covariance.std() > 1e-3
    assert 0.1 < (known["free"] != known["asked"]).mean() < 0.9  # some of what is asked for is out of range
    pull = np.abs(known["pull"])
    assert not pull[:, 4:10].any() and not pull[1::2].any()
    assert pull[::2, :4].max() > 0.0 and pull[::2, 10:].max() > 0.0


@pytest.mark.compiles_long
def test_training_reaches_every_weight_and_survives_its_file(showers, tmp_path):
    """Compiled as recipes do."""
    vae = build(showers, asking=0.5)
    vae.compile(keras.optimizers.Adam(1e-2, clipnorm=1.0), jit_compile=backend.jit_compile())
    before = [numpy(v) for v in vae.trainable_variables]
    history = vae.fit(data(vae, showers, 48), epochs=6, verbose=0, shuffle=False).history["loss"]
    assert np.isfinite(history).all() and history[-1] < 0.95 * history[0]
    assert len(before) == len(vae.trainable_variables)
    still = [v.path for a, v in zip(before, vae.trainable_variables, strict=True) if (a == numpy(v)).all()]
    assert not still
    vae.save(tmp_path / "vae.keras")
    again = keras.saving.load_model(tmp_path / "vae.keras")
    assert again.get_config() == vae.get_config() and again.asking == 0.5
    assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), vae.get_weights(), strict=True))


@pytest.mark.compiles_long
def test_scatter_is_fitted_by_reconstruction(showers):
    vae = build(showers)
    found = vae.fit_scatter(showers, batch_size=20)
    assert 0.0 < found <= 2.0 and float(numpy(vae.scatter.dispersion)) == pytest.approx(found)
    assert float(numpy(vae.generator.scatter.dispersion)) == pytest.approx(found)
