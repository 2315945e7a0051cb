import re
import shutil
from contextlib import suppress

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import zdckeras as zdc
from zdckeras.cli import main
from zdckeras.data.detectors import channel_masks, channel_sums
from zdckeras.export.o2 import export_o2, scale_text, widened
from zdckeras.export.o2_check import (
    check_o2,
    config_line,
    hits_of,
    photons_of,
    play_o2,
    read_scales,
    report,
    run_slot,
    study_channels,
)
from zdckeras.export.onnx import checked_responses, trial, write_checked
from zdckeras.export.session import open_session
from zdckeras.simulation.primaries import draw_primaries

pytest.importorskip("onnx")
pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")
IN_PLACE = keras.backend.backend() == "tensorflow"
SKIP = pytest.mark.skipif(not IN_PLACE, reason="written in this process by TensorFlow only")


def sparse(generator):
    """The same with so little light that some responses are empty."""
    generator.network.sums.read.bias.assign(np.full(generator.network.sums.read.bias.shape, -2.0))
    return generator


@pytest.fixture(scope="module")
def particles():
    return draw_primaries(120, np.random.default_rng(3))[0]


@pytest.fixture(scope="module")
def classifier(particles):
    model = zdc.HitClassifier.fit_scales(["zn", "zp"], particles, hidden=(8,), seed=4)
    p = np.unique(model.probability(particles))
    wide = len(p) // 4 + int(np.argmax(np.diff(p[len(p) // 4 : len(p) // 2])))
    model.threshold = float(0.5 * (p[wide] + p[wide + 1]))  # in the widest gap: no particle on the edge
    return model


@pytest.fixture(scope="module")
def models(gan, classifier):
    return {"neutron": sparse(gan(("zn",))), "proton": sparse(gan(("zp",), 24)), "classifier": classifier}


@pytest.fixture(scope="module")
def folder(models, tmp_path_factory):
    return export_o2(tmp_path_factory.mktemp("o2") / "bundle", **models)


@pytest.fixture(scope="module")
def answer(folder, particles):
    rng = np.random.default_rng(5)
    noise = {slot: rng.standard_normal((len(particles), 10), "float32") for slot in ("neutron", "proton")}
    return play_o2(folder, particles, noise), noise


def own_photons(generator, path):
    """A session on the generator's plain photons, from the same ten numbers."""
    widen = widened(generator.noise_width)

    def photons(noise, condition):
        return {"photons": ops.cast(checked_responses(generator, widen(noise), condition)[0], "int32")}

    return open_session(write_checked(photons, trial(generator, 10, 16), path, {}))


def compare_photons(session, found, noise, particles, slot):
    """O2's photons are the generator's, photon for photon, at batch 1 as O2 asks."""
    for row in np.flatnonzero(found.passed):
        own = session.run(None, {"noise": noise[slot][row : row + 1],
                                 "condition": particles[row : row + 1].astype("float32")})[0][0]
        assert np.array_equal(own, found.photons[slot][row])


def test_files_and_the_line_for_o2(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {"configKeyValues.txt", *(f"{slot}{end}" for slot in ("classifier", "neutron", "proton")
                                              for end in (".onnx", "_scales.txt"))}
    line = (folder / "configKeyValues.txt").read_text()
    assert line.startswith('--configKeyValues "ZDCSimParam.useZDCFastSim=true;') and line.count("\n") == 1
    assert line.count(f"={folder}/") == 6 and "ZDCFastSimModelScalesProton=" in line


def test_a_folder_that_was_copied_is_told(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    found = check_o2(folder, 60)[0]
    assert report(found, None, folder) == report(found)
    said = report(found, None, tmp_path / "copy").splitlines()[-1]
    assert "configKeyValues.txt does not tell O2 to load the files of this folder" in said
    assert config_line(tmp_path / "copy") in said
    (tmp_path / "copy" / "configKeyValues.txt").unlink()
    assert "warning: " in report(found, None, tmp_path / "copy")


@pytest.mark.parametrize("name", ["a;b", 'a"b', "a$b", "a`b", "a\\b"])
def test_folders_that_o2_would_read_otherwise_are_refused(models, tmp_path, name):
    with pytest.raises(ValueError, match="expected a path that O2 and a shell read as it stands in "):
        export_o2(tmp_path / name, **models)
    assert list(tmp_path.iterdir()) == []


def test_classifier_is_the_models_own(answer, models, particles):
    found, _ = answer
    assert np.array_equal(found.passed, models["classifier"].passes(particles))
    assert 0.3 < found.passed.mean() < 0.9


@SKIP
def test_photons_are_the_generators_own(answer, models, particles, tmp_path):
    """One takes the ten numbers as they are, the other 24 made of them."""
    found, noise = answer
    assert [models[slot].noise_width for slot in ("neutron", "proton")] == [10, 24]
    for slot in ("neutron", "proton"):
        compare_photons(own_photons(models[slot], tmp_path / f"{slot}.onnx"), found, noise, particles, slot)
        sums = found.photons[slot][found.passed].sum(axis=(1, 2))
        assert sums.max() > 0 and (sums == 0).any() and not found.photons[slot][~found.passed].any()


def test_hits_are_the_channels(answer):
    found, _ = answer
    for slot, photons in found.photons.items():
        towers = channel_sums(photons, "o2")  # towers 1 to 4, then the common one
        assert np.array_equal(found.hits[slot], towers[:, [4, 0, 1, 2, 3]])
    assert np.array_equal(found.towers, channel_sums(found.photons["neutron"], "papers"))
    assert set(found.side) == {"A", "C"}


@SKIP
def test_one_generator_of_both_with_fewer_numbers(gan, classifier, particles, tmp_path):
    joint, some = sparse(gan(("zn", "zp"), 4)), particles[:40]
    folder = export_o2(tmp_path / "o2", joint, joint, classifier)
    noise = {slot: np.random.default_rng(7).standard_normal((40, 10), "float32") for slot in ("neutron", "proton")}
    found = play_o2(folder, some, noise)
    assert found.photons["neutron"].sum() > 0 and found.photons["proton"].sum() > 0
    compare_photons(own_photons(joint, tmp_path / "joint.onnx"), found, noise, some, "neutron")


def test_noise_from_ten_numbers_is_as_good_as_full_noise():
    """Normal, and without correlations among itself, with the ten, or of squares: 20,000 showers."""
    z = np.random.default_rng(1).standard_normal((20_000, 10), "float32")
    made = ops.convert_to_numpy(widened(1951)(z))[:, ::13].astype("float64")
    full = np.random.default_rng(2).standard_normal(made.shape)
    assert made.shape == (20_000, 151)

    def p_values(values):
        return np.array([stats.kstest(column, "norm").pvalue for column in values[:, 1:].T])

    assert (p_values(made) < 0.001).sum() <= 2 and stats.kstest(p_values(made), p_values(full)).pvalue > 1e-3
    every = np.column_stack([z, made[:, 1:]])
    off = ~np.eye(every.shape[1], dtype=bool)
    for moment in (every, every**2, np.abs(every)):
        correlation = np.corrcoef(moment.T)[off] * np.sqrt(len(z))
        assert np.abs(correlation).max() < 5.5 and abs(correlation.std() - 1.0) < 0.05
    tenths = np.floor(10.0 * stats.norm.cdf(made[:, 5:7]))
    assert stats.chisquare(np.histogram2d(*tenths.T, bins=10)[0].reshape(-1)).pvalue > 1e-3


def test_neutron_and_proton_noise_differ_even_from_the_same_ten():
    z = np.random.default_rng(1).standard_normal((4000, 10), "float32")
    first, second = (ops.convert_to_numpy(widened(width)(z))[:, 10:40] for width in (60, 80))
    both = np.abs(np.corrcoef(first.T, second.T)[:30, 30:]) * np.sqrt(len(z))
    assert both.max() < 4.5


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_what_is_no_particle_gets_nothing(folder, particles, value):
    broken = particles[:1].astype("float32").copy()
    broken[0, 0] = value
    for slot in ("neutron", "proton", "classifier"):
        session = open_session(folder / f"{slot}.onnx")
        noise = [] if slot == "classifier" else [np.zeros((1, 10), "float32")]
        assert not run_slot(session, *noise, broken).any()


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda text: text.replace("\n", "\r\n"), "expected a line '#means'"),
    (lambda text: text.replace("#means\n", "#means \n"), "expected a line '#means'"),
    (lambda text: text.replace("#means\n", "#means\n\n"), "9 lines below #means, then an empty one; received 0"),
    (lambda text: text.replace("\n\n#scales", "\n#scales"), "expected a number below #means, received '#scales'"),
    (lambda text: text.replace("\n0\n", "\n1e-46\n", 1), "numbers that float32 holds, received '1e-46'"),
    (lambda text: text.replace("\n3\n", "\n3,5\n"), "received '3,5', which O2 reads as 3"),
    (lambda text: text.replace("\n3\n", "\n0\n"), "scales other than 0"),
    (lambda text: text.replace("\n3\n", "\n"), "expected 9 lines below #scales, then an empty one; received 8"),
])
def test_flaws_of_scale_files(tmp_path, spoil, message):
    (tmp_path / "scales.txt").write_bytes(spoil(scale_text()).encode())
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        read_scales(tmp_path / "scales.txt")


@pytest.mark.parametrize("fine", [lambda text: "# made by hand\n" + text, lambda text: text.rstrip("\n")])
def test_what_o2_takes_in_scale_files(tmp_path, fine):
    (tmp_path / "scales.txt").write_text(fine(scale_text()))
    means, scales = read_scales(tmp_path / "scales.txt")
    assert means.tolist() == [0.0] * 9 and scales.tolist() == [1.0] * 8 + [3.0]


def test_memory_order_and_truncation():
    """Every number of photons up to 3,000 survives; cells are where O2 reads them."""
    counts = np.arange(56 * 30).reshape(56, 30) + 1000
    memory = np.where(counts > 0, np.log(counts + 1.5), 0.0).T.astype("float32").reshape(-1)
    assert np.array_equal(photons_of(memory, 56, 30), counts)
    for x, y in ((3, 20), (30, 4), (55, 29)):
        assert np.trunc(np.expm1(memory[56 * y + x])) == counts[x, y]
    rng = np.random.default_rng(2)
    for shape in ((44, 44), (56, 30)):
        masks = channel_masks(shape, "o2")
        for _ in range(20):
            one = np.zeros(shape, "int64")
            x, y = (rng.integers(0, n) for n in shape)
            one[x, y] = 7
            assert hits_of(one)[[1, 2, 3, 4, 0]].tolist() == (7 * masks[:, x, y]).tolist()
    assert study_channels(np.ones((44, 44), "int64")).tolist() == [242, 242, 242, 242, 968]


@pytest.mark.parametrize(("change", "error", "message"), [
    (lambda m: {**m, "neutron": m["proton"]}, ValueError, "Expected a model of zn as neutron, received one of zp"),
    (lambda m: {**m, "proton": m["classifier"]}, TypeError, "Expected a Sampler as proton, received HitClassifier"),
    (lambda m: {**m, "classifier": m["neutron"]}, TypeError, "Expected a HitClassifier as classifier"),
])
def test_wrong_models_are_told_before_anything_is_written(models, tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        export_o2(tmp_path / "o2", **change(models))
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_kept(models, tmp_path):
    (tmp_path / "notes").write_text("precious")
    with pytest.raises(FileExistsError, match="choose another folder"):
        export_o2(tmp_path, **models)
    with pytest.raises(FileExistsError, match="is a folder with notes in it: expected one with O2's files alone"):
        export_o2(tmp_path, **models, overwrite=True)
    assert (tmp_path / "notes").read_text() == "precious"


@SKIP
def test_files_that_o2_would_misread(folder, gan, tmp_path, capsys):
    """One that wants another number of noise, one that answers whole numbers, one that ONNX Runtime refuses."""
    zdc.export_onnx(gan(("zn",), 4), tmp_path / "noise.onnx")
    zdc.export_onnx(gan(("zn",)), tmp_path / "whole.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    shutil.copy(folder / "proton.onnx", tmp_path / "proton.onnx")
    write_checked(lambda condition, noise: {"r": noise[:, :1, None] * np.ones((1, 44, 44), "float32")},
                  dict(reversed(trial(gan(("zn",)), 10, 16).items())), tmp_path / "order.onnx", {})
    for name, message in (("noise", "expected inputs of 10 and 9 numbers, in this order, received 4 and 9"),
                          ("order", "expected inputs of 10 and 9 numbers, in this order, received 9 and 10"),
                          ("proton", "expected responses of 44 x 44 cells, those along x last, received 30 x 56"),
                          ("whole", "expected float32 for photons, received tensor(int32)"),
                          ("text", "ONNX Runtime refuses it")):
        shutil.copytree(folder, tmp_path / name)
        shutil.copy(tmp_path / f"{name}.onnx", tmp_path / name / "neutron.onnx")
        with pytest.raises(SystemExit, match="2"):
            main(["check-o2", str(tmp_path / name)])
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
    (tmp_path / "text" / "neutron.onnx").unlink()
    with pytest.raises(FileNotFoundError, match="No such file: .*neutron.onnx"):
        check_o2(tmp_path / "text")


@SKIP
def test_commands(models, tmp_path, capsys):
    for slot, model in models.items():
        model.save(tmp_path / f"{slot}.keras")
    names = [str(tmp_path / f"{slot}.keras") for slot in ("proton", "neutron")]
    main(["export", *names, str(tmp_path / "o2"), "--to", "o2", "--classifier", str(tmp_path / "classifier.keras")])
    assert "configKeyValues.txt" in capsys.readouterr().out
    assert main(["check-o2", str(tmp_path / "o2"), "--size", "60", "--seed", "2", "--models", *names]) == 0
    said = capsys.readouterr().out
    assert "of 60 particles pass the classifier" in said and "proton, side A" in said
    assert "ms of processor time a call, 99 % below" in said
    equal, rows = map(int, re.search(r"neutron: (\d+) of (\d+) responses are the generator's own", said).groups())
    assert 0.9 * rows <= equal and rows > 10
    with pytest.raises(SystemExit, match="2"):
        main(["check-o2", str(tmp_path / "o2"), "--models", names[0]])
    assert "Expected models of zn and zp, received those of zp" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["export", names[0], str(tmp_path / "other"), "--to", "o2"])
    assert "Expected generators of zn and zp, received none of zn" in capsys.readouterr().err


def test_classifiers_that_pass_none_are_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "o2")
    scales = scale_text().replace("\n0\n", "\n1e9\n", 1)  # energies of -10^9 GeV
    (tmp_path / "o2" / "classifier_scales.txt").write_text(scales)
    with pytest.raises(ValueError, match="lets some of 20 particles pass, .* lets none; try at least 50"):
        check_o2(tmp_path / "o2", 20)


def test_few_particles_are_enough_to_try_a_folder(folder):
    """One that passes gives a response that is empty or not: no flaw of the folder."""
    answers = []
    for seed in range(40):  # those draws of which at least one passes
        with suppress(ValueError):
            answers.append(check_o2(folder, 4, seed)[0])
    assert len(answers) > 3 and all(1 <= answer.passed.sum() <= 4 for answer in answers)
    assert any(not photons[answer.passed].any() for answer in answers for photons in answer.photons.values())
