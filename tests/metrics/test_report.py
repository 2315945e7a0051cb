import json

import numpy as np
import pytest

from zdckeras.data.particles import SPECIES, conditions_of
from zdckeras.data.repeats import condition_statistics
from zdckeras.data.showers import Showers
from zdckeras.metrics.channels import Residuals, mae_weighted, rmse, ws
from zdckeras.metrics.classifier import classifier_auc
from zdckeras.metrics.energy_report import EnergyReport
from zdckeras.metrics.report import Table, judge, score
from zdckeras.metrics.shapes import shape_table, shapes
from zdckeras.simulation.reference import load

ROWS = 60
RNG = np.random.default_rng(0)
PDG = RNG.permutation([2212] * 32 + [22, 2112, 3122, 310] * 7)
DIVERSITY = RNG.uniform(size=ROWS)


def draw(seed):
    rng = np.random.default_rng(seed)
    return rng.poisson(0.2, (ROWS, 56, 30)).astype("uint16")


@pytest.fixture(scope="module")
def real():
    particles = conditions_of(PDG, np.random.default_rng(0).normal(0, 500, (ROWS, 3)))
    return Showers(particles, PDG, {"zp": draw(1)})


def test_score_is_what_the_metrics_say(real):
    generated = [draw(2), draw(3), draw(4)]
    found = score(real, generated, DIVERSITY, channels="proton-paper", errors="faster-zdc", seed=5)
    residuals = [Residuals.between(real.response, g, "proton-paper") for g in generated]
    expected = {
        "WS": [ws(r) for r in residuals],
        "RMSE": [rmse(r, "faster-zdc") for r in residuals],
        "MAE_w": [mae_weighted(r, DIVERSITY) for r in residuals],
    }
    for metric, values in expected.items():
        assert found["metrics"]["all"][metric] == pytest.approx([np.mean(values), np.std(values, ddof=1)])
    rows = PDG == 2112
    assert found["metrics"]["n"]["WS"][0] == pytest.approx(np.mean([ws(r[rows]) for r in residuals]))
    assert found["shapes"] == shape_table(shapes(real.response), shapes(generated[0]))
    assert found["auc"] == classifier_auc(real.response, generated[0], real.particles, 5)
    assert found["counts"] == {name: (PDG == code).sum() for name, code in SPECIES.items()} | {"all": ROWS}
    assert (found["detector"], found["showers"], found["runs"]) == ("zp", ROWS, 3)
    assert (found["channels"], found["errors"]) == ("proton-paper", "faster-zdc")


def test_arrays_lists_and_generators_are_alike(real):
    runs = [draw(2), draw(3)]
    expected = score(real, runs, DIVERSITY)
    assert json.dumps(score(real, np.stack(runs), DIVERSITY)) == json.dumps(expected)
    assert json.dumps(score(real, (run for run in runs), DIVERSITY)) == json.dumps(expected)


def test_bad_generations(real):
    with pytest.raises(ValueError, match="at least one generation"):
        score(real, [], DIVERSITY)
    with pytest.raises(ValueError, match=r"\(60, 56, 30\) and \(59, 56, 30\)"):
        score(real, [draw(2)[:59]], DIVERSITY)
    with pytest.raises(ValueError, match=r"\(60, 56, 30\) and \(56, 30\)"):
        score(real, draw(2), DIVERSITY)


def test_judge_scores_every_model_over_its_seeds(real):
    twice = Showers(*(np.concatenate([part, part]) for part in (real.particles, real.pdg)),
                    {"zp": np.concatenate([real.response, draw(9)])})

    def model(conditions, seed):
        assert np.array_equal(conditions, twice.particles)
        return np.concatenate([draw(seed), draw(seed)])

    table = judge(twice, [np.concatenate([draw(7), draw(8)])], {"a": model}, runs=3, seed=2)
    diversity = condition_statistics(twice).diversity
    expected = score(twice, [model(twice.particles, [2, run]) for run in range(3)], diversity, seed=2)
    assert list(table.scores) == ["floor", "a"] and table.scores["floor"]["runs"] == 1
    assert table.scores["a"]["metrics"]["all"] == expected["metrics"]["all"]


def test_trainings_of_a_row_have_noise_of_their_own(real):
    """And rows are compared at the same noise."""
    used = {}

    def model(name):
        return lambda conditions, seed: used.setdefault(name, []).append(seed) or draw(seed)

    names = ["GAN, seed 0", "GAN, seed 1", "flow, seed 1", "alone"]
    judge(real, [], {name: model(name) for name in names}, runs=2, seed=4)
    assert used == {"GAN, seed 0": [[4, 0], [4, 1]], "GAN, seed 1": [[4, 0, 1], [4, 1, 1]],
                    "flow, seed 1": [[4, 0, 1], [4, 1, 1]], "alone": [[4, 0], [4, 1]]}


def test_table_text_and_markdown(real, tmp_path):
    table = Table()
    floor, model = score(real, [draw(2)], DIVERSITY), score(real, [draw(3), 2 * draw(4)], DIVERSITY)
    table.add("floor", floor)
    table.add("bs+div", model)
    text = table.text().splitlines()
    assert [line.split("  ")[0] for line in text[1:5]] == ["floor WS", "floor MAE_w", "bs+div WS", "bs+div MAE_w"]
    assert text[0].split() == ["p", "all"]  # of the others there are seven each, or none
    assert len({len(line) for line in text[:5]}) == 1
    mean, deviation = model["metrics"]["p"]["MAE_w"]
    assert f"{mean:.2f} ± {deviation:.2f}" in text[4]
    single = [f"{floor['metrics'][species]['WS'][0]:.2f}" for species in ("p", "all")]
    assert text[1].split() == ["floor", "WS", *single]
    markdown = table.markdown().splitlines()
    words = [[word.strip() for word in line.split("|")] for line in markdown]
    assert words[2] == ["", "", "p", "all", ""]
    assert [(word[:1], word[-1:]) for word in words[3][1:-1]] == [(":", "-"), *[("-", ":")] * 2]
    assert [line[1:-1] for line in words[4:8]] == table.rows()[1:]
    assert "detector zp, showers 60, channels papers, errors zdc" in markdown[0]
    assert ["floor", "1", f"{floor['auc']:.3f}"] in [line[1:4] for line in words]
    table.write(tmp_path / "run")
    assert (tmp_path / "run" / "report.md").read_text(encoding="utf-8") == table.markdown()
    read = json.loads((tmp_path / "run" / "report.json").read_text())
    assert read["bs+div"]["metrics"]["all"] == model["metrics"]["all"]
    assert read["floor"]["metrics"]["Sigma+"]["WS"] == [None, None]
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["report.json", "report.md"]


def test_failed_write_keeps_the_old_report(real, tmp_path):
    table = Table(["WS"])
    table.add("floor", score(real, [draw(2)], DIVERSITY))
    table.write(tmp_path)
    before = (tmp_path / "report.json").read_text(), (tmp_path / "report.md").read_text()
    table.add("model", {**table.scores["floor"], "extra": object()})
    with pytest.raises(TypeError, match="not JSON serializable"):
        table.write(tmp_path)
    assert ((tmp_path / "report.json").read_text(), (tmp_path / "report.md").read_text()) == before
    assert len(list(tmp_path.iterdir())) == 2


def test_judge_in_another_channel_convention(real):
    def made(conditions, seed):
        return np.roll(real.response, 1, axis=0)

    found = judge(real, [], {"m": made}, 1, channels="proton-paper").scores["m"]
    assert found["channels"] == "proton-paper"
    expected = ws(Residuals.between(real.response, made(None, 0), "proton-paper"))
    assert found["metrics"]["all"]["WS"][0] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["floor", "real"])
def test_names_of_other_rows_are_told_before_anything_is_drawn(name):
    with pytest.raises(ValueError, match=f"a name of its own for every model, received {name!r}"):
        judge(None, [], {"a": None, name: None}, 1)
    with pytest.raises(ValueError, match="received 'real'"):
        EnergyReport(load("ecal", "test", 3), {"real": None})
