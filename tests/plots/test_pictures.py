import numpy as np
import pytest
from matplotlib.image import imread

from zdckeras.data.particles import conditions_of
from zdckeras.data.showers import Showers
from zdckeras.metrics import directional
from zdckeras.metrics.energy_report import EnergyReport
from zdckeras.plots import (
    channel_histograms,
    learning_curves,
    probability_curves,
    property_traversal,
    response_gallery,
    save_figure,
    sparsity_curves,
    write_energy_pictures,
    write_pictures,
)
from zdckeras.simulation.reference import load

RNG = np.random.default_rng(0)


@pytest.fixture
def showers():
    pdg = np.array([22, 3122, 2112])
    response = RNG.poisson(0.2, (3, 56, 30)).astype("uint16")
    response[1, 30, 10] = 400
    return Showers(conditions_of(pdg, np.array([[0, 0, 100.0], [0, 0, 2000.0], [0, 0, 500.0]])), pdg, {"zp": response})


def pictures(figure):
    return [axis for axis in figure.axes if axis.images and not axis.get_label().startswith("<colorbar")]


def test_gallery_shows_what_it_is_given(showers):
    generated = {"teacher": 2 * showers.response, "student": np.zeros((3, 56, 30))}
    axes = pictures(response_gallery(showers, generated))
    assert len(axes) == 9
    assert [axes[k].get_ylabel() for k in (0, 3, 6)] == ["real", "teacher", "student"]
    shown = [showers.response, *generated.values()]
    for k, axis in enumerate(axes):
        image = shown[k // 3][k % 3]
        np.testing.assert_array_equal(axis.images[0].get_array().filled(0), image.T)
        assert axis.get_title().splitlines()[-1] == f"{image.sum():.0f}"
        assert (axis.images[0].norm.vmin, axis.images[0].norm.vmax) == (1, 800)
    assert axes[0].get_title().startswith(r"$\gamma$, 100 GeV")
    assert axes[1].get_title().startswith(r"$\Lambda$, 2000 GeV")
    assert "\n" not in axes[3].get_title()


def test_gallery_of_a_nucleus_that_no_table_has():
    pdg = np.array([1000822071, 22])
    particles = conditions_of(np.array([22, 22]), np.array([[0.0, 0.0, 100.0]] * 2))
    particles[0] = [np.hypot(5e5, 192.8), 0, 0, 0, 0, 0, 5e5, 192.8e3, 82]
    with pytest.warns(UserWarning, match="1000822071"):
        showers = Showers(particles, pdg, {"zn": np.ones((2, 44, 44), "uint16")})
    titles = [axis.get_title() for axis in pictures(response_gallery(showers, {}))]
    assert titles[0].startswith("1000822071, 5000") and titles[1].startswith(r"$\gamma$, 100 GeV")


def test_gallery_refuses_other_shapes(showers):
    with pytest.raises(ValueError, match=r"teacher: expected responses of shape \(3, 56, 30\), received \(2, 56, 30\)"):
        response_gallery(showers, {"teacher": showers.response[:2]})


def test_traversal_has_a_row_for_each_property(showers):
    images = {"photons": showers.response, "width": showers.response[::-1]}
    values = {"photons": [10.0, 100.0, 1234.0], "width": np.array([1.5, 2.25, 3.0])}
    figure = property_traversal(images, values)
    axes = pictures(figure)
    assert [axis.get_title() for axis in axes] == ["10", "100", "1.23e+03", "1.5", "2.25", "3"]
    assert [axes[k].get_ylabel() for k in (0, 3)] == ["photon sum", "width (rms)"]
    for axis, image in zip(axes, [*images["photons"], *images["width"]], strict=True):
        np.testing.assert_array_equal(axis.images[0].get_array().filled(0), np.where(image < 1, 0, image).T)
        assert (axis.images[0].norm.vmin, axis.images[0].norm.vmax) == (1, 400)
    assert figure.axes[-1].get_ylabel() == "photons in the cell"
    with pytest.raises(ValueError, match=r"photons, width; received \[3, 3, 3, 2\]"):
        property_traversal(images, values | {"width": [1.0, 2.0]})


def test_sparsity_curves_are_means_in_bands_of_one_deviation():
    thresholds = np.geomspace(0.1, 100.0, 6)
    real, one = (directional.sparsity(RNG.exponential(5.0, (40, 6, 6)), thresholds) for _ in range(2))
    figure = sparsity_curves(real, {"one": one}, thresholds)
    (axis,) = figure.axes
    assert [line.get_label() for line in axis.lines] == ["real", "one"] and axis.get_xscale() == "log"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["real", "one"]
    assert len({line.get_color() for line in axis.lines}) == 2
    for line, band, values in zip(axis.lines, axis.collections, (real, one), strict=True):
        np.testing.assert_allclose(line.get_ydata(), values.mean(axis=0))
        np.testing.assert_allclose(line.get_xdata(), thresholds)
        (path,) = band.get_paths()
        for x, low, high in zip(thresholds, *(values.mean(axis=0) + s * values.std(axis=0) for s in (-1, 1)),
                                strict=True):
            edges = path.vertices[path.vertices[:, 0] == x, 1]
            assert (edges.min(), edges.max()) == (pytest.approx(low), pytest.approx(high))


def test_gallery_of_energies_says_so():
    particles = conditions_of(np.array([11]), np.array([[0.0, 0.0, 50.0]]))
    showers = Showers(particles, np.array([11]), {"ecal": RNG.exponential(9.0, (1, 30, 30)).astype("float32")})
    figure = response_gallery(showers, {"same": showers.response})
    labels = [axis.get_ylabel() for axis in figure.axes]
    assert "MeV in the cell" in labels and "photons in the cell" not in labels


def test_no_model_takes_the_name_of_the_real_showers(showers):
    curves = {"real": np.ones((9, 3))}
    for draw in (lambda: response_gallery(showers, {"real": showers.response}),
                 lambda: channel_histograms(np.ones((9, 5)), {"real": np.ones((9, 5))}),
                 lambda: sparsity_curves(curves["real"], curves, np.arange(1, 4))):
        with pytest.raises(ValueError, match="a name of its own for every model, received 'real'"):
            draw()


def test_every_probability_has_its_curve_and_colour():
    figure = probability_curves(np.arange(50) % 2 == 0, {f"m{k}": RNG.random(50) for k in range(8)})
    assert [line.get_label() for line in figure.axes[0].lines] == [f"m{k}" for k in range(8)]
    assert len({tuple(line.get_color()) for line in figure.axes[0].lines}) == 8 == len(figure.axes[1].lines) - 1


def test_learning_curves():
    figure = learning_curves({"a": {"loss": [3, 2, 1], "val_loss": [4, 3, 2]}, "b": {"loss": [5, 4]}})
    trained, validated, other = figure.axes[0].lines
    assert (trained.get_linestyle(), validated.get_linestyle(), other.get_linestyle()) == ("-", "--", "-")
    assert validated.get_xdata().tolist() == [1, 2, 3] and list(validated.get_ydata()) == [4, 3, 2]
    assert trained.get_color() == validated.get_color() != other.get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    with pytest.raises(ValueError, match="b: expected a history with 'ws', found loss"):
        learning_curves({"b": {"loss": [5, 4]}}, "ws")


def test_many_models_have_room_and_colours_of_their_own(tmp_path):
    """Three trainings of eleven rows, as recipes draw them; a figure without room for its legend warns, which fails."""
    names = [f"published row number {k // 3}, seed {k % 3}" for k in range(33)]
    curves = learning_curves({name: {"loss": [2, 1], "val_loss": [3, 2]} for name in names})
    assert len({line.get_color() if isinstance(line.get_color(), str) else tuple(line.get_color())
                for line in curves.axes[0].lines}) == 33
    sums = np.random.default_rng(0).uniform(1.0, 9.0, (50, 5))
    for k, figure in enumerate((curves, channel_histograms(sums, dict.fromkeys(names, sums)))):
        save_figure(figure, tmp_path / f"{k}.png", dpi=50)
        assert len(figure.legends[0].get_texts()) >= 33
        box = figure.axes[0].get_position()
        assert box.width * figure.get_figwidth() > 1.5 and box.height * figure.get_figheight() > 1.0  # inches


@pytest.mark.parametrize("suffix, start", [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_figures_are_saved_whole(tmp_path, showers, suffix, start):
    path = tmp_path / "new" / f"gallery.{suffix}"
    save_figure(response_gallery(showers, {"same": showers.response}), path, dpi=50)
    assert path.read_bytes().startswith(start)
    assert list(path.parent.iterdir()) == [path]


def test_failed_save_keeps_the_old_picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    figure = learning_curves({})
    figure.axes[0].set_title("$\\nonsense{$")
    with pytest.raises(ValueError, match="nonsense"):
        save_figure(figure, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_four_pictures_are_written(tmp_path, showers):
    write_pictures(tmp_path / "out", showers, {"teacher": showers.response}, {"teacher": {"loss": [2.0, 1.0]}})
    made = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in made] == ["channels.png", "learning.png", "responses.png", "shapes.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)


def test_three_pictures_of_energies_are_written(tmp_path):
    electrons = load("ecal", "test", 20, seed=3)
    write_energy_pictures(tmp_path / "new", EnergyReport(electrons, {"brighter": 1.5 * electrons.response}), columns=2)
    written = {path.name: path.read_bytes()[:4] for path in (tmp_path / "new").iterdir()}
    twice = {f"brighter, seed {k}": (1.5 + k) * electrons.response for k in range(2)}
    write_energy_pictures(tmp_path / "twice", EnergyReport(electrons, twice), columns=2)
    size = (imread(tmp_path / folder / "responses.png").shape for folder in ("new", "twice"))
    assert len(set(size)) == 1  # one training of a row
    assert written == dict.fromkeys(("responses.png", "shapes.png", "sparsity.png"), b"\x89PNG")
