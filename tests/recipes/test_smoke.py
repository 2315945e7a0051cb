"""Every recipe in its smoke preset: what it writes, what its generators answer, and that it trains nothing twice."""

import json
import re
import runpy
import sys
from contextlib import contextmanager, nullcontext
from itertools import count, groupby
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.layout_engine import ConstrainedLayoutEngine
from sklearn.ensemble import HistGradientBoostingClassifier

import zdckeras as zdc
from zdckeras import backend
from zdckeras.data.particles import SPECIES
from zdckeras.metrics import times
from zdckeras.metrics.report import FEWEST
from zdckeras.simulation import reference

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.py"))
ANSWERS = {"classifier": "probabilities.png"}  # recipes that make no responses, and their picture
JIT = keras.backend.backend() == "jax"  # on TensorFlow compiling takes longer than sampling so few
GRAPHS = ("classifier",)  # run as users do on TensorFlow; tracing the others takes minutes
AGAIN = RECIPES[JIT::2]  # a second run has nothing of a backend: each recipe once
MORE = {  # arguments beside the preset; what takes a minute to compile, by one backend each
    "sdi_gan": ["--seeds", "1", *(["--rows", "ours", "--halves"] if JIT else [])],
    "joint_gan": ["--rows", "published"] if JIT else [],
    "flow_matching": ["--rows", "patches"], "diffusion": ["--rows", "published" if JIT else "patches"],
    "vq_vae": ["--sizes", "0.25M"] if JIT else [], "flow_distill": ["--in-order"] if JIT else [],
}
ROWS = {  # what the recipes that have a row for each model compare
    "sdi_gan": ["floor", "first half, simulated" if JIT else "published + aux. regressor, seed 0",
                "ours, before the critic, seed 0", "ours, seed 0"],
    "flow_distill": ["floor", *(f"{row}, seed 0" for row in (
        "teacher", "bs", "bs+div", "bs+ch", "bs+ch+div", "bs+ch, sums imposed", *(
            ["teacher, in order", "bs, in order"] if JIT else []))),
        "teacher, codes", "bs, codes, seed 0", "bs+ch+div, codes, seed 0"],
    "autoencoders": ["floor", *(f"{row}, ViT, seed 0" for row in (
        "published Supervised AE", "published AE + Sinkhorn NG", "Supervised AE", "AE + Sinkhorn NG"))],
    "corr_vae": ["floor", "published CorrVAE, seed 0", "CorrVAE, seed 0"],
}

pytestmark = pytest.mark.filterwarnings("ignore:Particles outside the trained range")  # it was trained on so few


@pytest.fixture(scope="module", params=RECIPES)
def recipe(request):
    return request.param


@pytest.fixture(scope="module")
def quick(recipe, without_graphs):
    """A context: samples without XLA, classifies by few trees, and on TensorFlow runs most recipes without graphs."""

    @contextmanager
    def patched():
        with pytest.MonkeyPatch.context() as patch, nullcontext() if recipe in GRAPHS else without_graphs():
            patch.setattr(backend, "jit_sampling", lambda: JIT)
            patch.setattr(reference, "PRIMARIES_AT_ONCE", 500)
            patch.setitem(HistGradientBoostingClassifier.__init__.__kwdefaults__, "max_iter", 10)
            yield patch

    return patched


@pytest.fixture(scope="module")
def run(recipe, quick):
    """The recipe's own command line, in this process; simulates less at once, times less, and its clock ticks ms."""

    def call(out):
        ticks = count()
        with quick() as patch:
            patch.setattr(times, "time", SimpleNamespace(perf_counter=lambda: 1e-3 * next(ticks)))
            patch.setattr(times.milliseconds, "__defaults__", (1,))
            patch.setattr(ConstrainedLayoutEngine, "execute", lambda *_: None)  # half the time of a picture
            patch.setenv("ZDCKERAS_TRACEBACK", "1")
            patch.setattr(sys, "argv", [f"{recipe}.py", "--preset", "smoke", "--out", str(out), *MORE.get(recipe, ())])
            runpy.run_path(str(FOLDER / f"{recipe}.py"), run_name="__main__")
        keras.utils.clear_session()

    return call


@pytest.fixture(scope="module")
def out(recipe, run, tmp_path_factory):
    """Folder with the results of one recipe."""
    folder = tmp_path_factory.mktemp(recipe)
    run(folder)
    return folder


def files(out, *suffixes):
    """Relative path -> path of all files with these suffixes."""
    return {str(path.relative_to(out)): path for path in sorted(out.rglob("*")) if path.suffix in suffixes}


def numbers(value):
    """All numbers in nested dictionaries and lists."""
    if isinstance(value, dict):
        value = list(value.values())
    return [n for item in value for n in numbers(item)] if isinstance(value, list) else [value]


def check_scores(scores):
    """A report's scores: every number is there and finite, except for species without showers."""
    for score in scores.values():
        counts = score["counts"]
        assert counts["all"] == score["showers"] >= max(counts[species] for species in SPECIES)
        for species, metrics in score["metrics"].items():
            found = np.array(numbers(metrics), "float64")
            assert np.isfinite(found).all() if counts[species] else np.isnan(found).all()
        shape = np.array(numbers(score["shapes"]), "float64")
        assert len(shape) and np.isfinite(shape).all() and 0.0 <= score["auc"] <= 1.0


def markdown_tables(text):
    """Tables of a Markdown text, each a list of lines of words, without the rule."""
    blocks = [list(group) for table, group in groupby(text.splitlines(), lambda line: line.startswith("|")) if table]
    return [[[word.strip() for word in line.strip("|").split("|")] for k, line in enumerate(block) if k != 1]
            for block in blocks]


def test_report(recipe, out):
    """Rows, columns and numbers of every table, the floor first; no number is missing or infinite in any text."""
    for path in (path for name, path in files(out, ".json").items() if name.endswith("report.json")):
        assert json.loads(path.with_name("provenance.json").read_text())["preset"] == "smoke"
        scores = json.loads(path.read_text(encoding="utf-8"))
        check_scores(scores)
        names = list(scores)
        assert names[0] == "floor" and len(names) > 1
        assert names == ROWS.get(recipe, names)
        lines = [json.dumps({**score, "counts": {}}) for score in scores.values()]
        assert recipe != "flow_distill" or len(set(lines)) == len(lines)  # no two rows are one model
        sums, shapes = markdown_tables(path.with_name("report.md").read_text(encoding="utf-8"))
        counts = scores["floor"]["counts"]
        assert sums[0] == ["", *(name for name in SPECIES if counts[name] >= FEWEST), "all"]
        assert [row[0] for row in shapes[1:]] == names
        assert [row[0] for row in sums[1:]] == [f"{name} {metric}" for name in names for metric in ("WS", "MAE_w")]
        for table in (sums, shapes):
            assert {len(row) for row in table} == {len(table[0])} and min(len(row[-1]) for row in table) > 0
    texts = {name: path.read_text(encoding="utf-8") for name, path in files(out, ".txt", ".md").items()}
    assert any(re.search(r"^\|? ?floor ", text, re.MULTILINE) for text in texts.values())
    assert {name for name, text in texts.items() if re.search(r"\b(nan|inf)\b", text)} == set()


def test_pictures(recipe, out):
    pictures = files(out, ".png")
    assert any(name.endswith(ANSWERS.get(recipe, "responses.png")) for name in pictures)
    for path in pictures.values():
        assert path.read_bytes().startswith(b"\x89PNG")
        high, wide, _ = (image := imread(path)).shape
        assert 300 <= high <= 5000 and 300 <= wide <= 5000 and 0.01 < image[..., :3].std()


def test_generators_are_loaded_and_repeat_by_seed(quick, out):
    saved = files(out, ".keras")
    assert saved
    with quick():
        for path in saved.values():
            check_answers(path)


def check_answers(path):
    """Whole or positive responses of the right shape, the same by seed; of the classifier probabilities."""
    generator = zdc.load_model(path)
    if isinstance(generator, zdc.HitClassifier):
        p = generator.probability(zdc.load("zn", "train", 8).particles)
        assert (p > 0).all() and (p < 1).all() and len(np.unique(p)) > 1
        return
    particles = zdc.load("+".join(d.name for d in generator.detectors), "train", 8).particles
    first, again, other = (generator.sample(particles, seed=seed, batch_size=8) for seed in (3, 3, 4))
    first, again, other = (made if isinstance(made, dict) else {generator.detectors[0].name: made}
                           for made in (first, again, other))
    for detector in generator.detectors:
        response = first[detector.name]
        assert response.shape == (8, *detector.shape) and response.dtype == again[detector.name].dtype
        assert np.isfinite(response).all() and response.min() >= 0
        assert np.array_equal(response, again[detector.name])
        if path.stem.startswith("published") and not response.any():
            continue  # a DCGAN is still dark after two steps
        assert response.max() > 0 and (response != other[detector.name]).any()


def test_second_run_trains_nothing_and_writes_the_same(recipe, run, out, monkeypatch):
    if recipe not in AGAIN:
        pytest.skip("runs again under the other backend")

    def refuse(*_, **__):
        raise AssertionError("trained again")

    def contents():
        return {name: path.read_bytes() for name, path in files(out, ".json", ".md", ".txt").items()}

    states, before = {path: path.stat().st_mtime_ns for path in files(out, ".npz").values()}, contents()
    monkeypatch.setattr(keras.Model, "fit", refuse)
    monkeypatch.setattr("zdckeras.plots.pictures.save_figure", lambda *_, **__: None)  # most of a picture's time
    monkeypatch.setattr("zdckeras.export.saved_model.find_spec", lambda _: None)  # as on a machine without TensorFlow
    run(out)
    assert states and {path: path.stat().st_mtime_ns for path in files(out, ".npz").values()} == states
    after = contents()
    assert set(after) == set(before) and [name for name in after if after[name] != before[name]] == []
