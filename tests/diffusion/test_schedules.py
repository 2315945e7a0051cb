import numpy as np
import pytest
from keras import ops

from zdckeras.diffusion.schedules import KINDS, TARGETS, Schedule, times_of

numpy = ops.convert_to_numpy


@pytest.mark.parametrize("kind", KINDS)
def test_paths_go_from_data_to_noise(kind):
    schedule, t = Schedule(kind), np.linspace(0.0, 1.0, 101)
    alpha, sigma, *_ = schedule.coefficients(t)
    assert alpha[0] == 1.0 and sigma[0] == 0.0 and alpha[-1] < 0.01 and sigma[-1] > 0.9999
    assert (np.diff(alpha) < 0).all() and (np.diff(sigma) > -1e-12).all()
    if kind != "straight":
        np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_those_along_the_clock(kind):
    schedule, t = Schedule(kind), np.linspace(0.05, 0.95, 10)
    a, b = (schedule.coefficients(t + h) for h in (-1e-5, 1e-5))
    clock = schedule.clock(t + 1e-5) - schedule.clock(t - 1e-5)
    for k in (0, 1):
        np.testing.assert_allclose((b[k] - a[k]) / clock, schedule.coefficients(t)[k + 2], rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", TARGETS)
def test_data_and_noise_come_back_from_what_a_network_is_asked_for(kind, target):
    rng, schedule = np.random.default_rng(0), Schedule(kind)
    data, noise = rng.standard_normal((2, 5, 3, 2)).astype("float32")
    t = np.linspace(0.1, 0.9, 5, dtype="float32")
    x, wanted = schedule.mix(data, noise, t), schedule.wanted(target, data, noise, t)
    found = schedule.estimates(target, wanted, x, t)
    for one, other in zip(found, (data, noise), strict=True):
        np.testing.assert_allclose(numpy(one), other, atol=1e-4)


def test_linear_schedule_is_the_limit_of_a_thousand_betas():
    """ln alpha^2 within 1 % of the product of 1 - beta_k, beta_k from 1e-4 to 0.02."""
    product = np.cumsum(np.log1p(-np.linspace(1e-4, 0.02, 1000)))
    alpha, *_ = Schedule("linear").coefficients(np.arange(1, 1001) / 1000)
    np.testing.assert_allclose(2 * np.log(alpha[9:]), product[9:], rtol=0.01, atol=2e-3)


def test_times_of_training_have_the_law_asked_for():
    uniform = (np.arange(10_000, dtype="float32") + 0.5) / 10_000
    assert numpy(times_of(uniform)).mean() == pytest.approx(0.5, abs=1e-3)
    normal = numpy(times_of(uniform, "logit-normal"))
    assert np.log(normal / (1 - normal)).std() == pytest.approx(1.0, abs=0.01)
    levels = numpy(times_of(uniform, levels=1000))
    assert np.array_equal(np.unique(np.round(1000 * levels)), np.arange(1, 1001))
    with pytest.raises(ValueError, match="a law uniform or logit-normal; received 'beta'"):
        times_of(uniform, "beta")


def test_schedules_that_do_not_exist_or_do_not_reach_noise():
    with pytest.raises(ValueError, match="straight, linear, cosine; received 'sigmoid'"):
        Schedule("sigmoid")
    with pytest.raises(ValueError, match="ends in noise.*linear with beta"):
        Schedule("linear", beta=(0.1, 4.0))
    assert Schedule(**Schedule("linear", beta=(0.2, 25.0)).get_config()).beta == (0.2, 25.0)
