import keras
import numpy as np
import pytest
from keras import ops

from zdckeras.flows.univariate import Affine, RationalQuadraticSpline

# keras.ops.jvp on torch
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

MAPS = {
    "affine": Affine(),
    "tight affine": Affine(0.5),
    "spline": RationalQuadraticSpline(),
    "2 bins": RationalQuadraticSpline(2, 1.0),
}


def host(values):
    return ops.convert_to_numpy(values)


@pytest.fixture(params=MAPS)
def univariate(request):
    return MAPS[request.param]


def points(univariate, size=0.5):
    rng = np.random.default_rng(0)
    x, params = 2.0 * rng.normal(size=(40, 7)), size * rng.normal(size=(40, 7, univariate.parameters))
    return tuple(ops.convert_to_tensor(values.astype("float32")) for values in (x, params))


def test_zero_parameters_are_the_identity(univariate):
    x, params = points(univariate, size=0.0)
    for mapping in (univariate.transform_and_log_det, univariate.inverse_and_log_det):
        y, log_slope = mapping(x, params)
        np.testing.assert_allclose(host(y), host(x), atol=2e-6)
        np.testing.assert_allclose(host(log_slope), 0.0, atol=2e-6)


def test_round_trip_and_opposite_slopes(univariate):
    x, params = points(univariate)
    y, log_slope = univariate.transform_and_log_det(x, params)
    again, opposite = univariate.inverse_and_log_det(y, params)
    np.testing.assert_allclose(host(again), host(x), atol=1e-4)
    np.testing.assert_allclose(host(opposite), -host(log_slope), atol=1e-4)


@pytest.mark.parametrize("direction", ["transform_and_log_det", "inverse_and_log_det"])
def test_slope_is_the_derivative(univariate, direction):
    x, params = points(univariate)
    mapping = getattr(univariate, direction)
    slope = host(ops.jvp(lambda v: mapping(v, params)[0], (x,), (ops.ones_like(x),))[1])
    assert (slope > 0).all()
    np.testing.assert_allclose(host(mapping(x, params)[1]), np.log(slope), atol=1e-4)


def test_affine_scale_is_bounded():
    params = ops.convert_to_tensor([[0.0, 1e6], [0.0, -1e6]])
    log_scale = host(Affine(2.0).transform_and_log_det(ops.ones(2), params)[1])
    np.testing.assert_allclose(log_scale, [2.0, -2.0], rtol=1e-4)


def test_spline_keeps_the_tails_and_the_ends():
    spline = RationalQuadraticSpline(bins=5, bound=2.0)
    x = np.array([-7.0, -2.0, 2.0, 3.5], "float32")
    params = np.random.default_rng(1).normal(size=(4, spline.parameters)).astype("float32")
    y, log_slope = spline.transform_and_log_det(ops.convert_to_tensor(x), ops.convert_to_tensor(params))
    np.testing.assert_allclose(host(y), x, atol=1e-6)
    np.testing.assert_allclose(host(log_slope), 0.0, atol=1e-6)


@pytest.mark.parametrize("precision", ["float16", "float64"])
def test_splines_take_numbers_of_any_precision(precision):
    spline, rng = RationalQuadraticSpline(bins=4), np.random.default_rng(3)
    x, params = rng.normal(size=6), 0.5 * rng.normal(size=(6, spline.parameters))
    expected = host(spline.transform_and_log_det(*(ops.convert_to_tensor(v.astype("float32")) for v in (x, params)))[0])
    found, _ = spline.transform_and_log_det(*(ops.convert_to_tensor(v.astype(precision)) for v in (x, params)))
    np.testing.assert_allclose(host(found), expected, atol=3e-2 if precision == "float16" else 1e-5)


def test_spline_passes_its_knots_with_their_slopes():
    spline = RationalQuadraticSpline(bins=4, bound=3.0)
    params = np.random.default_rng(2).normal(size=(spline.parameters,)).astype("float32")
    widths, heights, slopes = (host(part) for part in spline.knots(ops.convert_to_tensor(params)))
    x, y = (np.cumsum(part)[:-1] - 3.0 for part in (widths, heights))
    found, log_slope = spline.transform_and_log_det(*map(ops.convert_to_tensor, (x, np.tile(params, (3, 1)))))
    np.testing.assert_allclose(host(found), y, atol=1e-5)
    np.testing.assert_allclose(np.exp(host(log_slope)), slopes[1:-1], rtol=1e-4)
    assert abs(widths.sum() - 6.0) < 1e-5 and abs(heights.sum() - 6.0) < 1e-5


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_extreme_parameters_stay_finite(univariate, scale):
    x, params = points(univariate, size=scale)
    for mapping in (univariate.transform_and_log_det, univariate.inverse_and_log_det):
        assert all(np.isfinite(host(part)).all() for part in mapping(x, params))


def test_config_rebuilds_the_map(univariate):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(univariate))
    x, params = points(univariate)
    pairs = zip(univariate.transform_and_log_det(x, params), again.transform_and_log_det(x, params), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_array_equal(host(ours), host(theirs))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Affine(0.0), "positive bound of the log scale, received 0.0"),
        (lambda: RationalQuadraticSpline(bins=1), "bins >= 2"),
        (lambda: RationalQuadraticSpline(bound=-1.0), "bound > 0"),
        (lambda: RationalQuadraticSpline(bins=8, min_share=0.2), "min_share < 1 / bins"),
        (lambda: RationalQuadraticSpline(min_slope=1.0), "min_slope < 1"),
    ],
)
def test_bad_settings(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.skipif(keras.config.backend() == "jax", reason="JAX has float64 only where it is switched on")
def test_the_root_of_the_inverse_does_not_cancel():
    """Slopes of float32 are those of float64, where the curve falls off steeply, too (errors of 1e-2 once)."""
    spline, rng = RationalQuadraticSpline(), np.random.default_rng(0)
    params = rng.normal(0.0, 3.0, (20_000, spline.parameters)).astype("float32")
    y = rng.uniform(-5.0, 5.0, len(params)).astype("float32")
    found, true = ([host(part) for part in spline.inverse_and_log_det(*(ops.convert_to_tensor(v.astype(kind))
                                                                        for v in (y, params)))]
                   for kind in ("float32", "float64"))
    assert true[0].dtype == "float64"
    assert np.quantile(np.abs(found[1] - true[1]), 0.9999) < 4e-3
