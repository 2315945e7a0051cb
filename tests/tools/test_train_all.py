import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OLD = ROOT / "tests" / "data" / "old" / "gan.keras"


@pytest.fixture(scope="module")
def train_all(load_tool):
    return load_tool("train_all")


def test_every_recipe_is_trained_and_compared_on_its_detectors(train_all):
    recipes = {path.stem for path in (ROOT / "recipes").glob("*.py")}
    assert {recipe for recipe, _, _ in train_all.TRAININGS.values()} == recipes
    for name, (recipe, _, detectors) in train_all.TRAININGS.items():
        assert set(detectors) <= {"zn", "zp", "ecal", "focalh"} and name.startswith(recipe)
        assert detectors or name in ("classifier", "sdi_gan_halves"), name  # trained for the table of the recipe alone


def test_trained_compared_and_not_again(train_all, tmp_path, monkeypatch):
    """A program that leaves a small generator in the place of a recipe; the second start does nothing."""
    out, recipe = tmp_path / "all", tmp_path / "copy.py"
    recipe.write_text(f"import shutil, sys\nshutil.copy({str(OLD)!r}, sys.argv[sys.argv.index('--out') + 1])\n")
    monkeypatch.setitem(train_all.TRAININGS, "copy", (str(recipe.with_suffix("")), ["--more"], ("zn",)))
    words = ["--only", "copy", "--out", str(out), "--size", "40", "--runs", "1", "--pixels", "0", "--no-costs"]
    assert train_all.main(words) == 0
    made = json.loads((out / "copy" / "made.json").read_text())
    assert made["command"].endswith("copy --more") and made["commit"] == train_all.commit()
    report = json.loads((out / "compare_zn" / "report.json").read_text())
    assert list(report) == ["floor", "other library", "zn", "copy/gan"]
    assert (out / "compare_zn" / "page.html").stat().st_size > 1e5
    logs = [out / name / "log.txt" for name in ("copy", "compare_zn")]
    before = [log.stat().st_mtime_ns for log in logs]
    assert train_all.main(words) == 0 and before == [log.stat().st_mtime_ns for log in logs]
    moved = out.rename(tmp_path / "moved")  # to another machine, say, where nothing is known of it but what it says
    (moved / "doit.json").unlink()
    options = argparse.Namespace(only=["copy"], out=moved, preset="laptop")
    assert [one["uptodate"][0]() for one in train_all.trainings(options)] == [True]
    recipe.write_text(recipe.read_text() + "# changed\n")
    assert [one["uptodate"][0]() for one in train_all.trainings(options)] == [False]


def test_a_failure_is_told_and_the_rest_is_done(train_all, tmp_path, monkeypatch):
    """Two small programs in the place of recipes, one of which fails."""
    for name, text in {"bad": "print('half done'); raise SystemExit(3)", "good": "print('done')"}.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setitem(train_all.TRAININGS, name, (str(tmp_path / name), [], ()))
    assert train_all.main(["--only", "bad", "good", "--out", str(tmp_path / "all")]) != 0
    assert (tmp_path / "all" / "bad" / "log.txt").read_text() == "half done\n"
    assert (tmp_path / "all" / "good" / "made.json").exists() and not (tmp_path / "all" / "bad" / "made.json").exists()
    failed = train_all.do([sys.executable, str(tmp_path / "bad.py")], tmp_path / "alone")
    assert failed.message.endswith(f"bad.py: ended with 3; the last lines are in {tmp_path / 'alone' / 'log.txt'}")


def test_what_two_recipes_train_alike_is_trained_once(train_all, tmp_path, monkeypatch):
    """The second follows the first, and finds its states beside those that it had; alone or after a failure, too."""
    texts = {"first": "(states / 'new').mkdir(parents=True); f = 'new'",
             "second": "assert (states / 'own/a').read_text() == 'second' and (states / 'new/a').exists(); f = 'own'",
             "broken": "raise SystemExit(3)", "third": "states.mkdir(); f = '.'"}
    for name, text in texts.items():
        words = "import sys; from pathlib import Path; states = Path(sys.argv[sys.argv.index('--out') + 1]) / 'states'"
        (tmp_path / f"{name}.py").write_text(f"{words}; {text}; (states / f / 'a').write_text('{name}')\n")
        monkeypatch.setitem(train_all.TRAININGS, name, (str(tmp_path / name), [], ()))
    monkeypatch.setattr(train_all, "SHARED", {"second": "first", "third": "broken"})
    out = tmp_path / "all"
    for name in ("first", "second"):
        (own := out / name / "states" / "own").mkdir(parents=True)
        (own / "a").write_text(name)
    assert train_all.main(["--only", "second", "first", "--out", str(out)]) == 0
    assert {path.parent.name: path.read_text() for path in (out / "second/states").glob("*/a")} == {
        "own": "second", "new": "first"}
    assert train_all.main(["--only", "third", "broken", "--out", str(out)]) != 0
    assert (out / "third" / "made.json").exists() and not (out / "broken" / "made.json").exists()
    (out / "second" / "made.json").unlink()
    (out / "second" / "states" / "new" / "a").unlink()
    (out / "second" / "states" / "new").rmdir()
    assert train_all.main(["--only", "second", "--out", str(out)]) == 0


README = """# Recipes
## one
Table of
commit 1111111, 1 May 2026; files of the package have other names since. Words.
<!-- table: one/a.txt -->
```text
old
```
Table of commit 2222222, 2 May 2026. Not marked:
```text
kept
```
## two
<!-- table: two/report.json, commit 3333333 -->
```text
old
old
```
<!-- table: three/none.txt -->
```text
kept
```
<!-- table: one/a.txt -->
```text
```
Kept.
```text
kept
```
"""


def results(out, name, file, text):
    folder = out / name
    folder.mkdir(parents=True)
    (folder / file).write_text(text)
    (folder / "made.json").write_text(json.dumps({"commit": "abcdef0", "date": "26 November 2026"}))


def test_tables_are_taken_with_their_commit(train_all, tmp_path):
    results(tmp_path, "one", "a.txt", "       WS\nfloor  1.0\n\nMade with: preset laptop; seed 0.\n")
    score = {"metrics": {s: {"WS": [1.0, None if s == "n" else 0.5], "MAE_w": [2.0, 0.0]}
                         for s in ("n", "Lambda", "K0S", "Sigma+", "all")}, "shapes": {}, "auc": 0.5, "runs": 1,
             "counts": {"n": 40, "Lambda": 40, "K0S": 40, "Sigma+": 3, "all": 123}}
    results(tmp_path, "two", "report.json", json.dumps({"floor": score}))
    text, taken = train_all.fill(README, tmp_path)
    assert sorted(taken) == ["one/a.txt", "one/a.txt", "two/report.json"]
    assert "Table of commit abcdef0, 26 November 2026. Words.\n<!-- table: one/a.txt, commit abcdef0 -->\n" in text
    assert "```text\n       WS\nfloor  1.0\n```\n" in text
    assert "commit 2222222" in text and text.count("kept") == 3 and "Kept." in text and "old" not in text
    assert "floor WS     1.00" in text and "commit abcdef0 -->\n```text\n" in text
    assert train_all.fill(text, tmp_path)[0] == text


def test_a_sentence_is_of_the_table_that_follows_it(train_all, tmp_path):
    """A table of another training below, without a sentence of its own, leaves it; a second table of its own does not
    need one."""
    results(tmp_path, "two", "a.txt", "new")
    (tmp_path / "two" / "b.txt").write_text("new")
    of_one, of_two = ("Table of commit 1111111, 1 May 2026.", "Table of commit 2222222, 2 May 2026.")
    tables = {name: f"<!-- table: {name} -->\n```text\nold\n```" for name in ("one/a.txt", "two/a.txt", "two/b.txt")}
    text, _ = train_all.fill("\n".join(["## one", of_one, tables["one/a.txt"], tables["two/a.txt"]]), tmp_path)
    assert of_one in text and text.count("new") == 1
    text, _ = train_all.fill("\n".join(["## one", of_one, tables["one/a.txt"], of_two, *list(tables.values())[1:]]),
                             tmp_path)
    assert of_one in text and "Table of commit abcdef0, 26 November 2026.\n" in text and text.count("new") == 2


def test_scores_are_kept_for_the_next_comparison(train_all, tmp_path, monkeypatch):
    """And stand beside those of the models that are there then, if these are judged alike by showers of the same data;
    what is done stays done."""
    out, scores = tmp_path / "out", tmp_path / "scores"
    monkeypatch.setattr(train_all, "SCORES", scores)
    results(out, "one", "a.txt", "")
    monkeypatch.setitem(train_all.TRAININGS, "one", ("one", [], ("zn",)))

    def task(size=train_all.SIZE, pixels=train_all.PIXELS):
        options = argparse.Namespace(only=["one"], out=out, size=size, runs=1, pixels=pixels, no_costs=True)
        return next(train_all.comparisons(options))

    def inputs(size=train_all.SIZE):
        return task(size)["actions"][0][1][2]

    before = inputs()
    for size in (4, train_all.SIZE):
        texts = dict.fromkeys(train_all.KEPT, "{}") | {"provenance.json": json.dumps(
            {"judged": size, "pixels": train_all.PIXELS})}
        (out / "compare_zn").mkdir(exist_ok=True)
        for name, text in {**texts, "page.html": "large"}.items():
            (out / "compare_zn" / name).write_text(text)
        assert train_all.keep_scores(out) == []  # not finished
        (out / "compare_zn" / "made.json").write_text("{}")
        assert train_all.keep_scores(out) == ["zn"] * (size == train_all.SIZE)
        (out / "compare_zn" / "made.json").unlink()
    assert {path.name: path.read_text() for path in (scores / "zn").iterdir() if path.name != "data.json"} == texts
    assert task()["actions"][0][1][0][-2:] == ["--beside", str(scores / "zn")] and inputs() == before
    assert "--beside" not in task(size=4)["actions"][0][1][0]
    (scores / "zn" / "data.json").write_text('"of other data"')
    assert "--beside" not in task()["actions"][0][1][0]


def test_pictures_are_taken_with_their_commit(train_all, tmp_path):
    """Into the place of those that are shown; what was not made stays as it is."""
    out, folder = tmp_path / "out", tmp_path / "readme"
    results(out, "one", "responses.png", "new")
    folder.mkdir()
    for name in ("one.png", "two.png"):
        (folder / name).write_text("old")
    lines = ["<!-- picture: one/responses.png, commit 1111111 -->", "![Words: here](one.png)", "",
             "<!-- picture: two/responses.png -->", "![More](two.png)"]
    text, taken = train_all.pictures("\n".join(lines), out, folder)
    assert text.splitlines() == ["<!-- picture: one/responses.png, commit abcdef0 -->", *lines[1:]]
    assert taken == ["one/responses.png"] and (folder / "two.png").read_text() == "old"
    assert (folder / "one.png").read_text() == "new" and not list(folder.glob("*.tmp*"))


def test_tables_older_than_the_code_are_told(train_all):
    """Of the first commit, of the last one, of one that never was, and of none."""
    def git(*words):
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()

    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    first, last = git("rev-list", "--max-parents=0", "HEAD")[0][:7], git("rev-parse", "HEAD")[0][:7]
    if first == last:
        pytest.skip("a checkout without its history")
    text = "\n".join(f"<!-- table: modular/{k}.txt{f', commit {commit}' if commit else ''} -->"
                     for k, commit in enumerate((first, last, "0" * 7, "", f"{last}+")))
    lines = list(train_all.behind(text))
    changes = git("rev-list", "--count", f"{first}..HEAD", "--", "zdckeras", "recipes/modular.py")[0]
    assert lines[0] == f"modular/0.txt: of commit {first}; {changes} commits have changed the code since"
    assert lines[1:] == [f"modular/2.txt: of commit {'0' * 7}, which is not in this repository",
                         "modular/3.txt: of commit unknown, which is not in this repository",
                         f"modular/4.txt: of commit {last}+, with changes that are not in it"]
    both = "<!-- table: a/b.txt -->\n<!-- table: a/b.txt, commit 0000000 -->"
    assert len(list(train_all.behind(both))) == 2


def test_marked_tables_of_the_readme_are_those_that_recipes_write(train_all):
    """The mark names a training and a file that its recipe writes."""
    text = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    marks = [match[1] for match in train_all.MARK.finditer(text)]
    shown = {match[1]: ROOT / "recipes" / match[3] for match in train_all.PICTURE.finditer(text)}
    assert len(marks) >= 8 and len(shown) >= 8 and all(picture.is_file() for picture in shown.values())
    for mark in (*marks, *shown):
        name, *_, file = mark.split("/")
        if name.startswith("compare_"):
            assert file == "overview.txt"
            continue
        source = (ROOT / "recipes" / f"{train_all.TRAININGS[name][0]}.py").read_text(encoding="utf-8")
        assert f'"{file}"' in source or file in ("report.json", "report.txt", "responses.png")


