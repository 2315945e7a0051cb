import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.patches import StepPatch

from zdckeras.metrics import directional
from zdckeras.metrics.shapes import SHAPE_OBSERVABLES, observables_in
from zdckeras.plots import channel_histograms, shape_histograms

RNG = np.random.default_rng(0)


def stairs(axis, label):
    return next(patch for patch in axis.patches if isinstance(patch, StepPatch) and patch.get_label() == label)


def test_channel_histograms_count_every_shower():
    real, one = RNG.poisson(50, (1000, 5)), RNG.poisson(60, (1000, 5))
    figure = channel_histograms(real, {"one": one, "half": one[:500]})
    upper, lower = figure.axes[0::2], figure.axes[1::2]
    assert len(upper) == len(lower) == 5
    for k, (axis, below) in enumerate(zip(upper, lower, strict=True)):
        values, edges, _ = stairs(axis, "real").get_data()
        assert values.sum() == 1000
        middle = slice(1, -1)
        np.testing.assert_array_equal(values[middle], np.histogram(real[:, k], edges)[0][middle])
        assert np.all(edges % 1 == 0.5)
        assert stairs(axis, "one").get_data().values.sum() == 1000
        assert stairs(axis, "half").get_data().values.sum() == pytest.approx(1000)
        assert below.get_xlabel() == f"channel {k + 1} [photons]"
        found = stairs(axis, "one").get_data().values
        bars = next(c for c in below.containers if isinstance(c, ErrorbarContainer))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(values > 0, found / values, np.nan)
        np.testing.assert_allclose(bars.lines[0].get_ydata(), ratio)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["real", "one", "half"]


def test_error_bars_are_poisson_after_scaling():
    real, half = np.full((100, 5), 3.0), np.full((25, 5), 3.0)
    axis = channel_histograms(real, {"quarter": half}).axes[0]
    segments = axis.containers[0].lines[2][0].get_segments()
    low, high = np.array([s[:, 1] for s in segments if np.ptp(s[:, 1]) > 0])[0]
    assert (low, high) == (pytest.approx(100 - 4 * 5), pytest.approx(100 + 4 * 5))


def test_shape_histograms_have_a_panel_for_each_observable():
    real, one = RNG.normal(size=(300, len(SHAPE_OBSERVABLES))), RNG.normal(size=(200, len(SHAPE_OBSERVABLES)))
    figure = shape_histograms(real, {"one": one})
    assert [axis.get_xlabel() for axis in figure.axes[1::2]] == list(SHAPE_OBSERVABLES.values())
    for axis in figure.axes[0::2]:
        assert stairs(axis, "real").get_data().values.sum() == 300
        assert stairs(axis, "one").get_data().values.sum() == pytest.approx(300)


def test_shape_histograms_of_other_observables():
    names = directional.FLIGHT_OBSERVABLES
    real, one = RNG.normal(size=(300, len(names))), RNG.normal(size=(200, len(names)))
    figure = shape_histograms(real, {"one": one}, observables=names)
    assert [axis.get_xlabel() for axis in figure.axes[1::2]] == list(names.values())
    assert [stairs(axis, "real").get_data().values.sum() for axis in figure.axes[0::2]] == [300] * len(names)
    with pytest.raises(ValueError, match=r"one: expected shapes \(N, 2\), received \(200, 11\)"):
        shape_histograms(real[:, :2], {"one": one}, observables={"a": "a", "b": "b"})


def test_histograms_of_nothing_are_refused():
    fine, none, broken = np.ones((9, 5)), np.ones((0, 5)), np.full((9, 5), np.nan)
    for wrong in (none, broken):
        for name, pair in (("one", (fine, {"one": wrong})), ("real", (wrong, {"one": fine}))):
            with pytest.raises(ValueError, match=f"{name}: expected channel sums .* which 0 numbers are finite"):
                channel_histograms(*pair)


@pytest.mark.parametrize("draw, columns", [(channel_histograms, 5), (shape_histograms, 11)])
def test_histograms_refuse_other_columns(draw, columns):
    good, bad = np.ones((3, columns)), np.ones((3, 2))
    with pytest.raises(ValueError, match=r"real: expected .*received \(3, 2\)"):
        draw(bad, {"one": good})
    with pytest.raises(ValueError, match=r"one: expected .*received \(3, 2\)"):
        draw(good, {"one": bad})


def test_ratios_beyond_a_panel_are_triangles_at_its_edges():
    """A model with twice the light of one value, a quarter of another, and some where there is no real shower."""
    real = np.repeat([[1.0], [2.0], [3.0], [5.0]], [100, 100, 100, 100], axis=0) * np.ones(5)
    made = np.repeat([[1.0], [2.0], [3.0], [4.0], [5.0]], [200, 25, 75, 50, 50], axis=0) * np.ones(5)
    below = channel_histograms(real, {"made": made}).axes[1]
    triangles = {line.get_marker(): line for line in below.lines if line.get_marker() in ("^", "v")}
    assert triangles["^"].get_xdata().tolist() == [1.0, 4.0] and set(triangles["^"].get_ydata()) == {1.44}
    assert triangles["v"].get_xdata().tolist() == [2.0] and set(triangles["v"].get_ydata()) == {0.56}


def test_energies_are_not_called_photons():
    real = RNG.uniform(1, 2, (20, 5))
    figure = channel_histograms(real, {"copy": real}, unit="MeV")
    assert figure.axes[1].get_xlabel() == "channel 1 [MeV]"
    assert not [name for name in observables_in("MeV").values() if "photon" in name]
