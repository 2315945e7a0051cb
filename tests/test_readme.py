"""Every code block of the README files: Python is run, commands meet the parsers they are meant for, cheap ones run.

The blocks of a file run in their order, in one namespace and one folder, so that a block may use what one before it
made. Models of trainings that take minutes are put there beforehand, small and untrained.
"""

import argparse
import contextlib
import importlib
import re
import runpy
import shlex
import shutil
import sys
from configparser import ConfigParser
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from zdckeras.corr_vae.model import CorrVAE
from zdckeras.data.detectors import channel_sums
from zdckeras.flow_distill.generator import ShowerGenerator
from zdckeras.flow_distill.shape import ShapeFlow
from zdckeras.flow_distill.sums import PhotonSums
from zdckeras.simulation.reference import load

pytestmark = pytest.mark.filterwarnings("ignore:Particles outside the trained range")  # these models saw few

ROOT = Path(__file__).parents[1]
FILES = ("README.md", "recipes/README.md", "tools/README.md")
SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg")


class ParsedError(BaseException):
    """The arguments were accepted; whatever would follow is left out."""


def blocks(text):
    """(line number, language, lines) of every fenced block."""
    found, opened = [], None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("```"):
            if opened:
                found[-1][2].append(line)
        elif opened:
            opened = None
        else:
            opened = number
            found.append((number, line[3:], []))
    return found


def commands(lines):
    """The words of every command of a bash block, without comments and variables before it."""
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            command, words = words[:end], words[end + 1 :]
            while command and re.fullmatch(r"\w+=.*", command[0]):
                command = command[1:]
            yield command


def extras(words):
    """Extras that an argument such as ".[tensorflow,jax]" or "zdckeras[tensorflow]" names."""
    return {extra for word in words if (match := re.fullmatch(r"(?:\.|zdckeras)\[([\w,]+)\]", word))
            for extra in match[1].split(",")}


def console(name):
    """The function behind a console command, as setup.cfg has it."""
    scripts = dict(line.split(" = ") for line in SETUP["options.entry_points"]["console_scripts"].strip().splitlines())
    module, function = scripts[name].split(":")
    return importlib.import_module(module), function


def run(words, monkeypatch, parse_only=None):
    """Run one command as a shell would; or let its own parser take its arguments and go no further."""
    program, *arguments = words
    if Path(program).name == "pip":
        assert arguments[0] == "install" and extras(arguments) <= set(SETUP["options.extras_require"])
        return
    if Path(program).name in ("python", "python3") and arguments[0] == "-m":
        assert find_spec(arguments[1]) is not None
        return
    if Path(program).name in ("python", "python3"):
        program, *arguments = arguments
        start = partial(runpy.run_path, str(ROOT / program), run_name="__main__")
    else:
        module, function = console(program)
        start = partial(module.parsed, arguments) if parse_only else getattr(module, function)
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, *args, **kwargs):
        parse(parser, *args, **kwargs)
        raise ParsedError

    with monkeypatch.context() as patch, contextlib.suppress(ParsedError):
        patch.setattr(sys, "argv", [program, *arguments])
        patch.syspath_prepend((ROOT / program).parent)
        if program.endswith(".py"):
            patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        try:
            start()
        except SystemExit as end:
            assert not end.code, f"{shlex.join(words)} ends with {end.code}"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with the generators that recipes leave behind, untrained."""
    folder = tmp_path_factory.mktemp("models")
    showers = load("zn", "train", size=400)
    sums = PhotonSums.fit_scales("zn", showers.particles, channel_sums(showers.response), steps=1, hidden=(8,), bins=4,
                                 embedding=(8,))
    shape = ShapeFlow.fit_scales("zn", showers.particles, showers.response, steps=1, hidden=(8,), embedding=(8,),
                                 maps=2, inverse=True)
    vae = CorrVAE.fit_scales(showers, channels=(4, 4, 2, 2), width=2, hidden=8)
    student = ShowerGenerator(sums, shape)
    for name, model in {"flow_distill/student": student, "corr_vae/generator": vae.generator}.items():
        path = folder / "runs" / f"{name}.keras"
        path.parent.mkdir(parents=True)
        model.save(path)
    return folder


def check_shapes(number, lines, namespace):
    """`name = ...  # (4, 44, 44)` says the shape of what comes out."""
    for more, line in enumerate(lines, 1):
        if match := re.search(r"^(\w+) = .*# \((\d+(?:, \d+)+)\)", line):
            shape = tuple(np.shape(namespace[match[1]]))
            assert shape == tuple(map(int, match[2].split(", "))), f"line {number + more}: {match[1]} has shape {shape}"


def texts():
    return {file: (ROOT / file).read_text(encoding="utf-8") for file in FILES}


def prose(file):
    """A file without its blocks."""
    return re.sub(r"```.*?```", "", texts()[file], flags=re.DOTALL)


@pytest.mark.parametrize("file", [FILES[0], *(pytest.param(file, marks=pytest.mark.neutral) for file in FILES[1:])])
def test_blocks_run(file, models, tmp_path, monkeypatch):
    shutil.copytree(models, tmp_path, dirs_exist_ok=True)
    monkeypatch.setitem(HistGradientBoostingClassifier.__init__.__kwdefaults__, "max_iter", 10)
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "readme"}
    for number, language, lines in blocks(texts()[file]):
        if language == "python":
            exec(compile("\n" * number + "\n".join(lines), str(ROOT / file), "exec"), namespace)
            check_shapes(number, lines, namespace)
        elif language == "bash":
            for words in commands(lines):
                run(words, monkeypatch, parse_only=words[:2] == ["zdckeras", "compare"])  # half a minute of timing
        else:
            assert language == "text", f"{file}, line {number}: a block of {language or 'no language'}"


@pytest.mark.parametrize("file", FILES)
def test_commands_in_sentences(file, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = re.findall(r"`((?:python|pip|zdckeras) [^`]+)`", prose(file))
    for words in commands([command.replace("\n", " ") for command in found]):
        run(words, monkeypatch, parse_only=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", FILES)
def test_files_that_are_named_are_there(file):
    named = {(ROOT / file).parent / link for link in re.findall(r"\]\(([^)#:]+)[^):]*\)", prose(file))}
    named |= {ROOT / path for path in re.findall(r"(?<![\w/.])((?:zdckeras|recipes|tools)/\w[\w./]*\w)", prose(file))}
    assert named and [str(path) for path in named if not path.exists()] == []


def test_every_recipe_and_tool_has_its_command():
    """In a block of the file in its folder; recipes also stand in the table of README.md."""
    said = texts()
    for folder in ("recipes", "tools"):
        scripts = {path.name for path in (ROOT / folder).glob("*.py") if "__main__" in path.read_text()}
        commanded = {Path(word).name for _, language, lines in blocks(said[f"{folder}/README.md"]) if language == "bash"
                     for words in commands(lines) for word in words if word.startswith(f"{folder}/")}
        assert scripts == commanded & scripts and scripts
    assert all(path.stem in said["README.md"] for path in (ROOT / "recipes").glob("*.py"))


@pytest.mark.parametrize("file", [path.relative_to(ROOT) for path in ROOT.glob("zdckeras/**/*.md")] + list(FILES))
def test_rows_of_tables_have_the_cells_of_their_header(file):
    cells = [len(line.split("|")) for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]  # 1: no table
    assert [row for row, (above, here) in enumerate(pairwise(cells), 2) if above > 1 < here != above] == []


def test_readme_is_one_page():
    assert len(texts()["README.md"].splitlines()) <= 150


@pytest.mark.parametrize("wrong", [
    "python recipes/sdi_gan.py --detektor zn", "python recipes/vq_vae.py --sizes 3M", "python tools/no_such.py",
    "pip install '.[tensorflow,root]'", "python -m no_such_module", "zdckeras no_such_command"])
def test_mistakes_are_seen(wrong, monkeypatch):
    with pytest.raises((AssertionError, FileNotFoundError)):
        run(*commands([wrong]), monkeypatch)
