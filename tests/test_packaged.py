import zipfile

import h5py
import keras
import numpy as np
import pytest

from zdckeras import GanGenerator, ResponseGAN, load, load_model, packaged
from zdckeras.modular.arrivals import ARRIVAL, draw_arrivals
from zdckeras.packaged import open_generator, pack, pretrained, pretrained_names
from zdckeras.provenance import provenance_of, save_model, sketch_of, training_sketch_of

SMALL = dict(generator=dict(hidden=16, widths=(16,), channels=(4, 4, 2), spots=2),
             critic=dict(hidden=(8,), channels=(2, 2, 2)))


@pytest.fixture(scope="module")
def real():
    return load("zn", "train", size=64)


@pytest.fixture(scope="module")
def generator(real):
    return GanGenerator(ResponseGAN.fit_scales(real, **SMALL).average, [1.1])


@pytest.fixture(scope="module")
def file(generator, tmp_path_factory):
    return pack(generator, tmp_path_factory.mktemp("packed") / "gan.keras")


def arrays(path):
    """Name -> dtype of everything in the file of weights."""
    found = {}
    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member, h5py.File(member) as weights:
        weights.visititems(lambda name, item: found.update({name: item.dtype.name}) if hasattr(item, "dtype") else None)
    return found


def test_packed_weights_are_half_as_wide_and_nearly_the_same(generator, file, tmp_path):
    generator.save(tmp_path / "whole.keras")
    assert file.stat().st_size < 0.5 * (tmp_path / "whole.keras").stat().st_size
    kinds, whole = list(arrays(file).values()), list(arrays(tmp_path / "whole.keras").values())
    assert len(kinds) == len(whole) and kinds.count("float16") > 0.8 * len(kinds) and "float16" not in whole
    for w, packed in zip(generator.get_weights(), load_model(file).get_weights(), strict=True):
        assert packed.dtype == w.dtype == np.float32
        assert np.sqrt(np.mean((w - packed) ** 2)) <= 1e-3 * w.std()


def test_showers_hardly_change(generator, file, real):
    """Photon sums within a fraction of their Poisson noise; the factor 1.1, alone in its array, is exactly kept."""
    again = load_model(file)
    assert again.factors == generator.factors
    first, second = (one.sample(real.particles, seed=1, batch_size=64).astype("float64") for one in (generator, again))
    sums, changed = first.sum(axis=(1, 2)), second.sum(axis=(1, 2))
    assert sums.min() > 0 and np.abs(changed - sums).max() <= 0.01 * sums.max()
    assert (first != second).mean() < 0.02 and np.array_equal(second, load_model(file).sample(real.particles, 1, 64))


@pytest.mark.parametrize(("values", "kept"), [
    (np.linspace(-1.0, 1.0, 50, dtype="float32"), "float16"),
    (np.zeros(5, "float32"), "float16"),
    (np.array([0.5], "float32"), "float16"),
    (np.array([0.1], "float32"), "float32"),
    (np.linspace(1000.0, 1000.1, 50, dtype="float32"), "float32"),
    (np.array([1e5, 0.0], "float32"), "float32"),
    (np.linspace(0.0, 1e-7, 50, dtype="float32"), "float32"),
    (np.array([np.nan, 1.0], "float32"), "float32"),
    (np.empty(0, "float32"), "float32"),
    (np.arange(70000), "int64"),
    (np.array([True]), "bool"),
])
def test_what_half_precision_cannot_hold_keeps_its_type(values, kept):
    shortened = packaged._shortened(values)
    assert shortened.dtype == kept and shortened.shape == values.shape
    if kept == "float16":
        np.testing.assert_allclose(shortened.astype("float64"), values, rtol=0.0, atol=2e-3 * values.std())
    else:
        assert np.array_equal(shortened, values, equal_nan=kept == "float32")


def test_what_a_file_says_of_its_making_is_kept(generator, real, tmp_path):
    source = save_model(generator, tmp_path / "whole.keras", {"seed": 4}, sketch_of([real]))
    packed = pack(generator, tmp_path / "small.keras", source)
    assert provenance_of(packed) == {"seed": 4}
    assert np.array_equal(training_sketch_of(packed)["zn"], training_sketch_of(source)["zn"])
    assert load_model(packed).factors == generator.factors
    assert provenance_of(pack(generator, tmp_path / "bare.keras")) == {}


def test_only_generators_are_packed(tmp_path):
    with pytest.raises(TypeError, match=r"Expected a generator \(Sampler\) to pack, received str 'a.keras'"):
        pack("a.keras", tmp_path / "b.keras")
    assert list(tmp_path.iterdir()) == []


def test_packed_generators_can_be_loaded_by_their_names(generator, tmp_path):
    with pytest.raises(ValueError, match="Expected a name that ends in .keras, .*; received .*small.h5"):
        pack(generator, tmp_path / "small.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_pack_leaves_the_old_file(generator, tmp_path, monkeypatch):
    (tmp_path / "a.keras").write_text("precious")

    def broken(content):
        raise OSError("No space left on device")

    monkeypatch.setattr(packaged, "_half", broken)
    with pytest.raises(OSError, match="No space left"):
        pack(generator, tmp_path / "a.keras")
    assert (tmp_path / "a.keras").read_text() == "precious" and len(list(tmp_path.iterdir())) == 1


def test_pretrained_by_name(generator, file, real, monkeypatch):
    monkeypatch.setattr(packaged, "PLACE", file.parent)
    assert pretrained_names() == ["gan"]
    made = pretrained("gan").sample(real.particles[:5], seed=2, batch_size=64)
    assert np.array_equal(made, load_model(file).sample(real.particles[:5], seed=2, batch_size=64))
    for name in ("cpv", "../gan", ""):
        with pytest.raises(ValueError, match="Expected the name of a pretrained generator, one of gan; received"):
            pretrained(name)
    monkeypatch.setattr(packaged, "PLACE", file.parent / "nothing")
    with pytest.raises(ValueError, match=r"one of \(none is there\); received 'zn'"):
        pretrained("zn")


def test_generators_that_come_with_the_package():
    """Each answers at once, and has a card."""
    for name in pretrained_names():
        generator, showers = pretrained(name), load(name, "test", size=8)
        made = generator.sample(showers.particles, seed=1, batch_size=8)
        assert made.shape == showers.response.shape and 0.3 < made.sum() / showers.response.sum() < 3.0
        assert (packaged.PLACE / f"{name}.keras").stat().st_size < 4e6
        card = (packaged.PLACE / f"{name}.md").read_text()
        assert "floor" in card and "python" in card


@pytest.mark.parametrize("name", ["zn", "zp"])
def test_no_arrival_has_more_light_than_its_energy_makes(name):
    """Half a photon (ZN) or a third (ZP) a GeV, and no rare draw with hundreds of times that, whatever the code."""
    model = pretrained(name)
    arrivals = draw_arrivals(name, 2000, 3)
    features, cell = model.decoder.features(*(np.asarray(arrivals[key], "float32") for key in ARRIVAL))
    rng, light = np.random.default_rng(4), []
    for spread in (1.0, 100.0):  # a hundred times the noise: all codes are far beyond those of training
        noise = spread * rng.standard_normal((2000, model.decoder.latent)).astype("float32")
        log_mean = keras.ops.convert_to_numpy(model.decoder(model.prior.generate(noise, features), features, cell)[0])
        light.append(np.exp(log_mean).sum(axis=1) / arrivals["energy"])
    assert 0.2 < np.median(light[0]) < 0.8 and light[0].max() < 2.0 and np.median(light[1]) < 2.0


def test_a_generator_from_whatever_names_it(generator, file, tmp_path, monkeypatch):
    monkeypatch.setattr(packaged, "PLACE", file.parent)
    assert open_generator(generator) is generator
    for one in ("gan", str(file), file):
        assert open_generator(one).factors == generator.factors
    with pytest.raises(ValueError, match="one of gan, or a .keras, .onnx or SavedModel path; received 'zn'"):
        open_generator("zn")
    with pytest.raises(FileNotFoundError, match="No such file: zn.keras"):
        open_generator("zn.keras")
    keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]).save(tmp_path / "a.keras")
    with pytest.raises(ValueError, match=r"a.keras: expected a generator \(Sampler\), received Sequential"):
        open_generator(tmp_path / "a.keras")
