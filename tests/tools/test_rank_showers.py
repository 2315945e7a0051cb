import numpy as np
import pytest

from zdckeras.modular.generator import ModularGenerator
from zdckeras.modular.model import ArrivalVAE
from zdckeras.modular.transport import Transport


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("rank_showers")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small generator of ZN that was never trained: almost no light."""
    vae = ArrivalVAE("zn", latent=2, encoder=dict(hidden=(4, 4)), decoder=dict(hidden=(4, 4), known=4, rim=2),
                     prior=dict(steps=1, hidden=(4,), context=4))
    path = tmp_path_factory.mktemp("model") / "small.keras"
    ModularGenerator(Transport("zn", 1), vae.prior, vae.decoder, np.zeros(9), np.ones(9)).save(path)
    return path


def test_the_simulation_stands_and_an_untrained_generator_falls(tool, model, capsys):
    """Untrained cells have a mean of one photon each, far too many lit cells; the simulation's pulls are moderate."""
    tool.main(["zn", "--model", str(model), "--draws", "10"])
    generator, simulation = capsys.readouterr().out.split("among 10 of the ")[1:]
    lit = {name: next(line.split() for line in text.splitlines() if line.startswith("lit"))
           for name, text in (("generator", generator), ("simulation", simulation))}
    assert abs(float(lit["generator"][1])) > 8 and float(lit["generator"][3]) < 1e-3
    assert abs(float(lit["simulation"][1])) < 4


def test_unseen_showers_have_the_photons_of_their_light(tool):
    arrivals, photons = tool.unseen_showers("zn", [], np.random.default_rng(0))
    energy, total = arrivals["energy"], photons.sum(axis=(1, 2), dtype="int64")
    assert len(energy) == len(total) == 83 and 0.2 < np.median(total / energy) < 1.0  # photons a GeV


def test_a_generator_of_another_detector_is_refused(tool, model, capsys):
    with pytest.raises(SystemExit) as stop:
        tool.main(["zp", "--model", str(model)])
    assert stop.value.code == 2 and "expected a modular generator of zp, received" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--draws", "0"], ["--seed", "-1"]])
def test_numbers_that_cannot_be_are_refused(tool, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        tool.main(["zn", *words])
    assert f"argument {words[0]}: " in capsys.readouterr().err
