"""Exported files that are told PDG ids: the only thing that tells K0S from K0L."""

import io
import warnings
from contextlib import redirect_stdout

import keras
import numpy as np
import pytest

import zdckeras as zdc
from zdckeras.campaign.answers import about_exported, hides_ids, open_answer
from zdckeras.cli import main
from zdckeras.comparison.contenders import open_contender
from zdckeras.data.particles import conditions_of
from zdckeras.export.session import open_session

pytest.importorskip("tensorflow")
SHORT, LONG, UNKNOWN = 310, 130, 0
ROWS = 40


@pytest.fixture(scope="module")
def generator(build):
    return build("modular teacher")


@pytest.fixture(scope="module")
def told(generator, tmp_path_factory):
    """An ONNX file that the command writes, and what it says."""
    pytest.importorskip("onnx")
    pytest.importorskip("tf2onnx")
    folder, said = tmp_path_factory.mktemp("onnx"), io.StringIO()
    generator.save(folder / "model.keras")
    with redirect_stdout(said):
        main(["export", str(folder / "model.keras"), str(folder / "told.onnx"), "--to", "onnx", "--ids"])
    return folder / "told.onnx", said.getvalue()


@pytest.fixture(scope="module")
def onnx_file(told):
    return told[0]


@pytest.fixture(scope="module")
def served(generator, tmp_path_factory):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("another process writes it, which takes long; the ONNX file is written so")
    return zdc.export_saved_model(generator, tmp_path_factory.mktemp("served") / "told", compiled=(2,), ids=True)


@pytest.fixture
def kaons():
    """Conditions of neutral kaons along the beam, the same for both kinds."""
    momenta = np.column_stack([*np.random.default_rng(1).normal(0.0, 0.05, (2, ROWS)), np.full(ROWS, 900.0)])
    return conditions_of(np.full(ROWS, LONG), momenta).astype("float32")


def noise_of(generator, rows=ROWS):
    return np.random.default_rng(2).standard_normal((rows, generator.noise_width), "float32")


@pytest.fixture(params=["onnx_file", "served"])
def exported(request):
    return request.getfixturevalue(request.param)


def test_files_answer_as_the_generator_that_is_told(generator, exported, kaons):
    answer, noise = open_answer(exported), noise_of(generator)
    made = {}
    for code in (SHORT, LONG, UNKNOWN):
        pdg = np.full(ROWS, code, "float32")
        made[code], = answer.call(noise, kaons, pdg)
        true = np.asarray(generator.predict_on_batch({"noise": noise, "conditions": kaons, "pdg": pdg}))
        assert np.abs(made[code] - true).sum() <= 0.01 * true.sum() and true.sum() > 0
    assert np.abs(made[SHORT] - made[LONG]).sum() > 0.2 * made[LONG].sum()
    untold = np.asarray(generator.predict_on_batch({"noise": noise, "conditions": kaons}))
    assert np.abs(made[UNKNOWN] - untold).sum() <= 0.01 * untold.sum()


def test_ids_reach_them_and_nothing_warns(generator, exported, kaons):
    pdg = np.tile([SHORT, LONG], ROWS // 2)
    found = open_contender(exported).generator
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = found.sample(kaons, seed=3, beside=found.beside(pdg))
    true = generator.sample(kaons, seed=3, beside=generator.beside(pdg))
    assert np.abs(made.astype("int64") - true).sum() <= 0.01 * true.sum()
    assert not hides_ids(about_exported(exported))


def test_names_and_types_of_inputs(onnx_file, served):
    told = {entry.name: (entry.type, len(entry.shape)) for entry in open_session(onnx_file).get_inputs()}
    assert list(told) == ["noise", "condition", "pdg"] and told["pdg"] == ("tensor(int32)", 1)
    import tensorflow as tf

    signatures = tf.saved_model.load(str(served)).signatures
    assert {name: sorted(one.structured_input_signature[1]) for name, one in signatures.items()} == {
        "serving_default": ["condition", "noise", "pdg"], "compiled_2": ["condition", "noise", "pdg"],
        "sample": ["condition", "pdg", "seed"], "sample_rows": ["condition", "pdg", "seed"]}


def test_signatures_of_a_saved_model(generator, served, kaons):
    import tensorflow as tf

    signatures, noise = tf.saved_model.load(str(served)).signatures, noise_of(generator, 2)
    two = {"condition": tf.constant(kaons[:2]), "pdg": tf.constant([SHORT, LONG])}
    made = signatures["serving_default"](noise=tf.constant(noise), **two)["photons"].numpy()
    compiled = signatures["compiled_2"](noise=tf.constant(noise), **two)["photons"].numpy()
    assert np.abs(made - compiled).sum() <= 0.01 * made.sum()
    turned = {"condition": two["condition"][::-1], "pdg": two["pdg"][::-1]}
    rows, back = (signatures["sample_rows"](seed=tf.constant(seed), **asked)["photons"].numpy()
                  for seed, asked in (([5, 6], two), ([6, 5], turned)))
    assert np.abs(rows - back[::-1]).sum() <= 0.01 * rows.sum()
    none = {"condition": tf.zeros((0, 9)), "pdg": tf.zeros((0,), tf.int32)}
    assert signatures["sample"](seed=tf.constant([1, 2]), **none)["photons"].shape == (0, 44, 44)
    with pytest.raises(tf.errors.InvalidArgumentError, match="pdg: expected one row for each row of condition"):
        signatures["sample"](seed=tf.constant([1, 2]), condition=two["condition"], pdg=tf.constant([SHORT]))


@pytest.mark.parametrize("write, name", [(zdc.export_onnx, "model.onnx"), (zdc.export_saved_model, "1")])
def test_ids_of_a_generator_that_takes_none(build, tmp_path, write, name):
    with pytest.raises(ValueError, match="Expected a generator that takes PDG ids, to be told them; received .*takes"):
        write(build("iaf"), tmp_path / name, ids=True)
    assert list(tmp_path.iterdir()) == []


def test_command(told, tmp_path, capsys):
    assert "inputs noise, condition, pdg" in told[1]
    with pytest.raises(SystemExit, match="2"):
        main(["export", "zn", "zp", str(tmp_path / "o2"), "--to", "o2", "--ids"])
    assert "Expected --ids with --to onnx or saved-model only" in capsys.readouterr().err
