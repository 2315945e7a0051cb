import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from tests.modular.conftest import LATENT, SMALL
from zdckeras.loading import load_model
from zdckeras.modular.model import ArrivalVAE, LatentPrior

numpy = ops.convert_to_numpy


def test_loss_by_hand(vae, batches, evaluate):
    """Negative binomial cells (without n!) and beta (ln q - ln p), all from SciPy."""
    (batch,) = batches[0]
    batch = {**batch, "beta": np.linspace(0.0, 1.0, len(batch["z"]), dtype="float32")}
    names = list(batch)

    def parts(*values):
        inputs = dict(zip(names, values, strict=True))
        code, log_q, features, cell = vae.encode(inputs)
        mean, log_deviation = vae.encoder(inputs["responses"], features, cell)
        return (vae(inputs), code, log_q, mean, log_deviation, *vae.decoder(code, features, cell),
                vae.prior(code, features))

    found, code, log_q, mean, log_deviation, log_mean, log_shape, log_p = evaluate(parts, *batch.values())
    np.testing.assert_allclose(code, mean + np.exp(log_deviation) * batch["z"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(log_q, stats.norm.logpdf(code, mean, np.exp(log_deviation)).sum(axis=1), rtol=1e-3)
    m, r, n = np.exp(log_mean.astype("f8")), np.exp(log_shape.astype("f8")), batch["responses"].reshape(len(code), -1)
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n.max() + 1)))])[n.astype(int)]
    cells = -(stats.nbinom.logpmf(n, r, r / (r + m)) + factorial).sum(axis=1)
    np.testing.assert_allclose(found, cells + batch["beta"] * (log_q - log_p), rtol=2e-3, atol=0.5)


def test_training_moves_every_weight_and_lowers_the_loss(batches, eager):
    model = ArrivalVAE("zn", **SMALL)
    model.fit_scales({name: batches.arrays[name] for name in ("kind", "energy", "x", "y")},
                     batches.arrays["responses"])
    before = [numpy(v) for v in model.trainable_variables]
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=eager)
    losses = [float(model.train_on_batch(batches[0][0])) for _ in range(6)]
    assert losses[-1] < losses[0]
    moved = [np.abs(numpy(v) - b).max() > 0 for v, b in zip(model.trainable_variables, before, strict=True)]
    assert all(moved)


def test_model_comes_back_from_its_file(vae, batches, evaluate, tmp_path):
    vae.save(tmp_path / "vae.keras")
    again, (batch,) = load_model(tmp_path / "vae.keras"), batches[1]
    first, second = (evaluate(lambda *v, m=m: m(dict(zip(batch, v, strict=True))), *batch.values())
                     for m in (vae, again))
    np.testing.assert_allclose(first, second, rtol=1e-5)


@pytest.mark.parametrize("kind", ["maf", "iaf"])
def test_prior_is_a_density_that_can_be_drawn_from(kind, evaluate):
    """Noise to code and back to noise; ln p is that of the noise minus the logarithm of the volume."""
    prior = LatentPrior(5, LATENT, kind, steps=2, hidden=(8,), context=6, seed=1)
    for k, weight in enumerate(prior.flow.weights):
        weight.assign(0.3 * np.random.default_rng(k).standard_normal(weight.shape))
    rng = np.random.default_rng(9)
    noise, features = rng.standard_normal((20, LATENT), "float32"), rng.standard_normal((20, 5), "float32")

    def there_and_back(noise, features):
        code = prior.generate(noise, features)
        back, log_det = prior.flow.encode(code, prior.embed(features))
        return back, prior(code, features) - log_det

    back, density = evaluate(there_and_back, noise, features)
    np.testing.assert_allclose(back, noise, atol=2e-4)
    np.testing.assert_allclose(density, stats.norm.logpdf(noise).sum(axis=1), atol=2e-3)


def test_student_has_the_layout_of_the_teacher(vae):
    student = vae.prior.student(seed=5)
    assert student.settings["kind"] == "iaf"
    assert [tuple(w.shape) for w in student.weights] == [tuple(w.shape) for w in vae.prior.weights]
    with pytest.raises(ValueError, match="kind='maf' or 'iaf', received 'nsf'"):
        LatentPrior(5, kind="nsf")
