import numpy as np
import pytest
from keras import ops
from scipy import stats

from zdckeras import backend
from zdckeras.modular.counts import draw_counts, gamma_quantile, negative_binomial_loss, poisson_quantile

numpy, DRAWS = ops.convert_to_numpy, 200_000


def uniform(seed, *shape):
    return np.random.default_rng(seed).random(shape, "float32")


@pytest.mark.parametrize("mean", [0.01, 0.1, 1.0, 3.0, 7.9, 8.1, 12.0, 30.0, 100.0, 1000.0])
def test_poisson_counts_against_scipy(mean):
    """chi2 of 200,000 draws over all counts that are expected more than five times."""
    counts = numpy(poisson_quantile(uniform(1, DRAWS), np.full(DRAWS, mean, "float32"))).astype(int)
    values = np.arange(*(stats.poisson.ppf([1e-5, 1 - 1e-5], mean).astype(int) + (0, 1)))
    expected = DRAWS * stats.poisson.pmf(values, mean)
    often = expected > 5
    found = np.bincount(counts, minlength=values[-1] + 1)[values]
    chi2 = ((found - expected)[often] ** 2 / expected[often]).sum()
    assert stats.chi2.sf(chi2, often.sum() - 1) > 1e-3
    assert counts.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean / DRAWS))


@pytest.mark.parametrize("shape", [0.1, 0.5, 1.0, 5.0, 100.0, 2900.0])
def test_gamma_variables_against_scipy(shape):
    g = numpy(gamma_quantile(*uniform(2, 2, DRAWS), np.full(DRAWS, shape, "float32")))
    assert g.mean() == pytest.approx(1.0, abs=0.01) and g.var() == pytest.approx(1 / shape, rel=0.03)
    assert stats.kstest(g * shape, "gamma", args=(shape,)).statistic < 0.01


@pytest.mark.parametrize(("mean", "shape"), [(0.3, 0.5), (4.0, 2.0), (60.0, 10.0)])
def test_drawn_counts_are_negative_binomial(mean, shape):
    full = np.full((DRAWS // 10, 10), 1.0, "float32")
    counts = numpy(draw_counts(mean * full, shape * full, uniform(3, DRAWS // 10, 30))).reshape(-1).astype(int)
    law = stats.nbinom(shape, shape / (shape + mean))
    assert counts.mean() == pytest.approx(mean, rel=0.02) and counts.var() == pytest.approx(law.var(), rel=0.04)
    edges = np.arange(int(law.ppf(0.999)) + 1)
    found = (counts[:, None] <= edges[:50]).mean(axis=0)
    np.testing.assert_allclose(found, law.cdf(edges[:50]), atol=0.01)


def test_loss_is_minus_the_logarithm_of_the_probability():
    rng = np.random.default_rng(5)
    mean, shape = np.exp(rng.uniform(-6, 6, 300)), np.exp(rng.uniform(-3, 7, 300))
    counts = rng.poisson(mean * rng.gamma(shape) / shape).astype("float64")
    without = stats.nbinom.logpmf(counts, shape, shape / (shape + mean)) + [np.sum(np.log(np.arange(1, n + 1)))
                                                                            for n in counts]
    found = numpy(negative_binomial_loss(*(v.astype("float32") for v in (counts, np.log(mean), np.log(shape)))))
    np.testing.assert_allclose(found, -without, rtol=2e-4, atol=2e-3)


@pytest.mark.skipif(backend.name() != "tensorflow", reason="compact graphs are TensorFlow's")
@pytest.mark.parametrize("edge", [1e-4, 1e-7])
def test_cells_that_are_left_out_would_have_stayed_empty(edge):
    rng = np.random.default_rng(3)
    mean, shape = np.exp(rng.uniform(-9.0, 6.0, (30, 400))), np.exp(rng.uniform(-4.0, 8.0, (30, 400)))
    values = (mean.astype("float32"), shape.astype("float32"),
              np.clip(rng.random((30, 1200)), edge, 1.0 - edge).astype("float32"))
    true = numpy(draw_counts(*values, edge))
    with backend.compact_graphs():
        made = numpy(draw_counts(*values, edge))
    assert (true > 0).mean() > 0.2 and (made != true).mean() < 2e-4 and np.abs(made - true).max() <= 1
