import numpy as np
import pytest
from keras import ops
from scipy import integrate, stats

from zdckeras import backend
from zdckeras.vae.variational import kl_of_normal, normal_of, reparametrise

numpy = ops.convert_to_numpy


def test_divergence_of_normal_distributions():
    """Against the integral of q ln(q / p)."""
    def inside(x):
        q = stats.norm(0.7, np.exp(-0.4))
        return q.pdf(x) * (q.logpdf(x) - stats.norm.logpdf(x))

    found = kl_of_normal(ops.convert_to_tensor([[0.7, 0.0]]), ops.convert_to_tensor([[-0.4, 0.0]]))
    assert float(found[0]) == pytest.approx(integrate.quad(inside, -8, 8)[0], rel=1e-5)


def test_codes_have_the_mean_and_deviation_that_were_read():
    """m + s z of many z, with s cut at e^-6 and e^2."""
    read = np.array([[0.7, -1.0, 2.0, -0.5, -99.0, 99.0]], "float32")
    mean, log_deviation = normal_of(ops.convert_to_tensor(read))
    z = np.random.default_rng(0).standard_normal((20_000, 3), "float32")
    code = numpy(reparametrise(mean, log_deviation, ops.convert_to_tensor(z)))
    np.testing.assert_allclose(code.std(axis=0), np.exp([-0.5, -6.0, 2.0]), rtol=0.02)
    np.testing.assert_allclose(code - read[:, :3], np.exp([[-0.5, -6.0, 2.0]]) * z, rtol=1e-3, atol=1e-6)


def test_a_code_carries_gradients_to_its_distribution():
    """By m 1, by ln s s z."""
    log_deviation, z = ops.convert_to_tensor([[0.3]]), ops.convert_to_tensor([[-2.0]])
    by_mean = backend.steps().grad(lambda m: reparametrise(m, log_deviation, z), ops.zeros((1, 1)))
    by_log = backend.steps().grad(lambda s: reparametrise(ops.zeros((1, 1)), s, z), log_deviation)
    assert float(by_mean[0, 0]) == 1.0 and float(by_log[0, 0]) == pytest.approx(-2.0 * np.exp(0.3), rel=1e-6)
