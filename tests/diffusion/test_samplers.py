"""Samplers against a mixture of two normal distributions, whose data and noise at any time are known exactly."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

from zdckeras.diffusion.samplers import EVALUATIONS, SAMPLERS, ddim, draws, even_times, posterior
from zdckeras.diffusion.schedules import KINDS, Schedule

SHARES, MEANS, DEVIATIONS = np.array([0.3, 0.7]), np.array([-1.5, 0.8]), np.array([0.3, 0.5])


def mixture(schedule):
    """E[data | x_t] and E[noise | x_t] of the mixture, by Bayes' rule."""
    def predict(x, t):
        t = ops.cast(t, "float32")
        alpha, sigma, *_ = schedule.coefficients(t, ops)
        parts = []
        for share, mean, deviation in zip(SHARES, MEANS, DEVIATIONS, strict=True):
            variance = alpha * alpha * deviation**2 + sigma * sigma
            away = (x - alpha * mean) / variance
            log = np.log(share) - 0.5 * ops.log(variance) - 0.5 * away * (x - alpha * mean)
            parts.append((log, mean + alpha * deviation**2 * away, sigma * away))
        weight = ops.softmax(ops.stack([part[0] for part in parts], axis=-1))
        return tuple(ops.sum(weight * ops.stack([part[k] for part in parts], axis=-1), axis=-1) for k in (1, 2))

    return predict


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, "float32")


def sample(evaluate, sampler, kind, noise, steps, **settings):
    schedule = Schedule(kind)
    return evaluate(lambda noise: SAMPLERS[sampler](mixture(schedule), noise, schedule, even_times(steps), **settings),
                    noise)


def cumulative(x):
    return sum(share * stats.norm.cdf(x, mean, deviation)
               for share, mean, deviation in zip(SHARES, MEANS, DEVIATIONS, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 40), ("ddim", 30), ("euler", 30), ("heun", 10),
                                                ("dpm_solver", 16)])
def test_a_mixture_is_recovered_from_its_score(evaluate, sampler, steps, kind):
    """Kolmogorov-Smirnov distance of 20,000 draws below 0.04 (0.01 is what draws of the mixture itself have)."""
    made = sample(evaluate, sampler, kind, normal(1, draws(sampler, steps), 20_000), steps)
    assert stats.kstest(made, cumulative).statistic < 0.04
    assert made.mean() == pytest.approx(SHARES @ MEANS, abs=0.03)


@pytest.mark.parametrize("kind", ["straight", "cosine"])
@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("ddim", 1), ("heun", 2), ("dpm_solver", 2)])
def test_errors_fall_with_the_order_of_the_sampler(evaluate, sampler, order, kind):
    """Mean distance from where a path ends, which in one dimension is the quantile of its noise, at 8 and 64 steps."""
    noise, grid = normal(2, 1, 500), np.linspace(-5.0, 5.0, 100_001)
    exact = np.interp(stats.norm.cdf(noise[0]), cumulative(grid), grid)
    coarse, fine = (np.abs(sample(evaluate, sampler, kind, noise, steps) - exact).mean() for steps in (8, 64))
    assert np.log(coarse / fine) / np.log(8) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("kind", KINDS)
def test_heun_can_do_without_the_noise_where_there_is_none(evaluate, kind):
    """Noise that is known by what the data leave of x is unknown at the end; second order is lost in one step alone."""
    schedule, noise = Schedule(kind), normal(3, 1, 20_000)
    exact = mixture(schedule)

    def from_data(x, t):
        data = exact(x, t)[0] + 0.02 * ops.cos(3.0 * x)
        return schedule.estimates("data", data, x, ops.broadcast_to(ops.cast(t, "float32"), ops.shape(x)))

    made = evaluate(lambda noise: SAMPLERS["heun"](from_data, noise, schedule, even_times(16), euler_last=True), noise)
    assert stats.kstest(made, cumulative).statistic < 0.05
    assert made.std() == pytest.approx(np.sqrt(SHARES @ (DEVIATIONS**2 + MEANS**2) - (SHARES @ MEANS) ** 2), rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_euler_and_ddim_are_one_on_straight_paths_and_close_on_others(evaluate, kind):
    noise = normal(3, 1, 200)
    first, second = (sample(evaluate, name, kind, noise, 12) for name in ("euler", "ddim"))
    assert np.abs(first - second).mean() < (1e-5 if kind == "straight" else 0.15)


@pytest.mark.parametrize("kind", KINDS)
def test_eta_goes_from_deterministic_to_ddpm(evaluate, kind):
    noise = normal(4, 20, 100)
    ancestral = sample(evaluate, "ddpm", kind, noise, 20)
    np.testing.assert_allclose(sample(evaluate, "ddim", kind, noise, 20, eta=1.0), ancestral, atol=2e-4)
    other = np.concatenate([noise[:1], normal(5, 19, 100)])
    first, again = (sample(evaluate, "ddim", kind, drawn, 20, eta=0.0) for drawn in (noise, other))
    assert np.array_equal(first, again)
    first, again = (sample(evaluate, "ddim", kind, drawn, 20, eta=0.6) for drawn in (noise, other))
    assert np.abs(first - again).max() > 0.1


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_noise_that_is_added_has_the_variance_of_ddpm(kind):
    """d^2 = (1 - a_s) / (1 - a_t) b_t with a the squared alpha and b_t = 1 - a_t / a_s."""
    times = even_times(50)
    a = Schedule(kind).coefficients(times)[0] ** 2
    expected = (1 - a[1:]) / (1 - a[:-1]) * (1 - a[:-1] / a[1:])
    np.testing.assert_allclose(posterior(Schedule(kind), times)[:, 2] ** 2, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("sampler", "settings"), [("ddpm", {}), ("ddim", {"eta": 1.0})])
def test_a_step_with_known_data_leaves_the_path_at_its_deviation(sampler, settings):
    """x_t at t = 1/2 of data 0.4 is N(0.4 alpha, sigma^2), whatever way it was reached."""
    schedule, seen = Schedule("cosine"), {}

    def predict(x, t):
        seen[float(t)] = x
        alpha, sigma, *_ = schedule.coefficients(float(t))
        return ops.full_like(x, 0.4), (x - 0.4 * alpha) / sigma

    SAMPLERS[sampler](predict, ops.convert_to_tensor(normal(6, 2, 50_000)), schedule, even_times(2), **settings)
    between, (alpha, sigma, *_) = ops.convert_to_numpy(seen[0.5]), schedule.coefficients(0.5)
    assert between.std() == pytest.approx(sigma, rel=0.02) and between.mean() == pytest.approx(0.4 * alpha, abs=0.02)


def test_steps_in_a_loop_are_those_written_out(evaluate, monkeypatch):
    noise = normal(7, 10, 50)
    for sampler in SAMPLERS:
        given = noise[: draws(sampler, 10)]
        written = sample(evaluate, sampler, "cosine", given, 10)
        with monkeypatch.context() as patch:
            patch.setattr("zdckeras.diffusion.samplers.WRITTEN_OUT", 0)
            np.testing.assert_allclose(sample(evaluate, sampler, "cosine", given, 10), written, atol=2e-5)


def test_wrong_steps_and_eta_are_refused():
    for steps in (0, -3, 2.5, True):
        with pytest.raises(ValueError, match=f"at least one step and a whole number of them, received {steps}"):
            even_times(steps)
    for eta in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"eta in \[0, 1\], received"):
            ddim(None, np.zeros((1, 2)), Schedule(), even_times(2), eta=eta)


def test_evaluations_are_counted():
    """Of every sampler in 3 steps."""
    for sampler in SAMPLERS:
        calls = []

        def predict(x, t, calls=calls):
            calls.append(t)
            return x, x

        SAMPLERS[sampler](predict, ops.ones((3, 2)), Schedule(), even_times(3))
        assert len(calls) == 3 * EVALUATIONS[sampler]
        if sampler == "heun":  # the last step alone is one of euler
            SAMPLERS[sampler](predict, ops.ones((3, 2)), Schedule(), even_times(3), euler_last=True)
            assert len(calls) == 6 + 5
