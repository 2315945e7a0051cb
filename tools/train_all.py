"""Train every recipe, compare all models on the same showers, and write tables and pictures that the README files show.

    python tools/train_all.py                                 # laptop presets, two at a time: nights on two cores
    python tools/train_all.py --only modular sdi_gan          # and what follows from them
    python tools/train_all.py --preset smoke --out runs/smoke --size 200 --pixels 0
    python tools/train_all.py --tables                        # what is done into the README files, training nothing
    python tools/train_all.py --check                         # tables there that are older than the code

doit (pydoit.org) does what is not done yet: stopped, the same command goes on, each recipe from its own last saved
state; a recipe whose file changed, or the embedded data, is done again, and so is what follows. Every training leaves
made.json: command, commit, seconds. At the end are compare_zn/page.html and its like for the other detectors. The
folder of the results may come from another machine: what was done there is not done again. Jobs that share a GPU take
turns on it, and on JAX want XLA_PYTHON_CLIENT_PREALLOCATE=false.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
from doit.exceptions import TaskFailed

from zdckeras.command import run, whole
from zdckeras.data.atomic import atomic_folder, atomic_path, write_text
from zdckeras.provenance import commit

ROOT = Path(__file__).parents[1]
# name of a training -> recipe, its arguments, the detectors its models are compared on
TRAININGS = {
    "modular": ("modular", ["--seeds", "3"], ("zn",)),
    "modular_zp": ("modular", ["--detector", "zp", "--seeds", "3"], ("zp",)),
    "modular_ecal": ("modular", ["--detector", "ecal"], ("ecal",)),
    "modular_focalh": ("modular", ["--detector", "focalh"], ("focalh",)),
    "flow_matching": ("flow_matching", ["--seeds", "3"], ("zn",)),
    "diffusion": ("diffusion", ["--seeds", "3"], ("zn",)),
    "one_step": ("one_step", ["--seeds", "3"], ("zn",)),
    "flow_distill": ("flow_distill", ["--seeds", "3", "--in-order"], ("zn",)),
    "flow_noise": ("flow_noise", ["--seeds", "3"], ("zn",)),
    "sdi_gan": ("sdi_gan", [], ("zp",)), "sdi_gan_zn": ("sdi_gan", ["--detector", "zn"], ("zn",)),
    "sdi_gan_halves": ("sdi_gan", ["--detector", "zn", "--rows", "ours", "--halves"], ()),
    "joint_gan": ("joint_gan", ["--seeds", "3"], ("zn", "zp")),
    **{name: (name, ["--seeds", "3"], ("zn",)) for name in ("autoencoders", "vq_vae", "vq_gan", "corr_vae")},
    "wgan_gp": ("wgan_gp", ["--seeds", "3"], ("ecal",)), "focal_h": ("focal_h", ["--seeds", "3"], ("focalh",)),
    "classifier": ("classifier", [], ()),
    "one_step_zp": ("one_step", ["--detector", "zp", "--seeds", "3"], ("zp",)),
    **{f"{name}_zp": (name, ["--detector", "zp", "--rows", "--seeds", "3"], ("zp",)) for name in (
        "flow_matching", "diffusion")},  # over codes alone
    **{f"{name}_zp": (name, ["--detector", "zp"], ("zp",)) for name in (
        "flow_distill", "autoencoders", "vq_vae", "vq_gan", "corr_vae")}}
SHARED = {f"{name}{end}": f"flow_matching{end}" for name in ("diffusion", "one_step") for end in ("", "_zp")}
SHARED["modular"] = "flow_matching"  # of ZP it has another decoder
PRETRAINED = ("zn", "zp")
SCORES = ROOT / "recipes" / "scores"  # of all models so far, a folder a detector: what `compare --beside` takes
KEPT = ("report.json", "costs.json", "provenance.json")
SIZE, PIXELS = 5_000, 1_000  # showers and pairs of the comparisons whose scores are kept
DATA = sorted((ROOT / "zdckeras" / "simulation" / "data").glob("*.npz"))
MARK = re.compile(r"<!-- table: (\S+?)(?:, commit \S+)? -->\n```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PICTURE = re.compile(r"<!-- picture: (\S+?)(?:, commit \S+)? -->\n(!\[[^\]]*\]\(([^)\s]+)\))")
MADE = re.compile(r"<!-- (?:table|picture): (\S+?)(?:, commit (\S+))? -->")
SAID = re.compile(r"able of commit [0-9a-f]{7,}\+?, \d+ \w+ \d{4}(?:; files of the package have other names since)?"
                  .replace(" ", r"\s"))


def content(*parts):
    """A number for words and files that something is made from."""
    found = sha256()
    for part in parts:
        found.update(part.read_bytes() if isinstance(part, Path) else f"{part}\n".encode())
    return found.hexdigest()[:16]


def task(name, command, folder, inputs, first=None):
    """doit's task of a command that leaves its results in a folder; done if made.json there is of the same inputs.

    It begins with copies of the states in the folder `first`, if that training is finished.
    """
    def same():
        record = folder / "made.json"
        return record.is_file() and json.loads(record.read_text(encoding="utf-8")).get("inputs") == inputs

    return {"name": name, "actions": [(do, [command, folder, inputs, first])], "targets": [str(folder / "made.json")],
            "uptodate": [same]}


def do(command, folder, inputs="", first=None):
    """Run a command on one thread, its output into log.txt, and leave made.json; doit's `TaskFailed` if it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    for state in (first / "states").glob("*/") if first and (first / "made.json").is_file() else ():
        if not (place := folder / "states" / state.name).exists():  # named by its settings
            with atomic_folder(place) as temporary:
                shutil.copytree(state, temporary)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    begin, made = time.time(), commit() or "unknown"
    with open(folder / "log.txt", "a", encoding="utf-8") as log:
        code = subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT).returncode
    if code:
        return TaskFailed(f"{' '.join(command)}: ended with {code}; the last lines are in {folder / 'log.txt'}")
    words = ["python" if word == sys.executable else word for word in command]
    record = {"command": " ".join(words), "commit": made, "date": time.strftime("%-d %B %Y"),
              "seconds, of the last start": round(time.time() - begin, 1), "inputs": inputs}
    write_text(folder / "made.json", json.dumps(record, indent=1))
    return None


def done(options, detector):
    """Names of the trainings that are finished and whose models are compared on a detector."""
    return [name for name in options.only
            if detector in TRAININGS[name][2] and (options.out / name / "made.json").exists()]


def models_of(options, detector):
    """The pretrained generator of a detector, and those saved by the trainings that are finished."""
    found = [f"{name}/{path.stem}={path}" for name in done(options, detector)
             for path in sorted((options.out / name).glob("*.keras"))]
    return [*([detector] if detector in PRETRAINED else []), *found]


def trainings(options, late=False):
    """doit's tasks, one a training: of those that begin with the states of another, or of the others."""
    for name in (name for name in options.only if (name in SHARED) == late):
        recipe, arguments, _ = TRAININGS[name]
        file, folder, words = ROOT / "recipes" / f"{recipe}.py", options.out / name, ["--preset", options.preset]
        command = [sys.executable, str(file), *words, "--out", str(folder), *arguments]
        yield task(name, command, folder, content(file, *DATA, *words, *arguments),
                   options.out / SHARED[name] if late else None)


def beside(options, detector):
    """The scores of a detector's models from before, as an option of `compare`, if they are of such comparisons."""
    file = SCORES / detector / "data.json"
    same = file.is_file() and json.loads(file.read_text(encoding="utf-8")) == content(*DATA)
    kept = (options.size, options.pixels) == (SIZE, PIXELS)
    return ["--beside", str(SCORES / detector)] if same and kept else []


def comparisons(options):
    """doit's tasks, one a detector, of the trainings that are finished; those that failed are not waited for."""
    for detector in dict.fromkeys(d for name in options.only for d in TRAININGS[name][2] if done(options, d)):
        folder = options.out / f"compare_{detector}"
        words = ["--data", detector, "--detector", detector, "--size", str(options.size), "--runs", str(options.runs),
                 "--pixels", str(options.pixels), "--out", str(folder), "--overwrite",
                 *["--no-costs"] * options.no_costs]
        command = [sys.executable, "-m", "zdckeras.cli", "compare", *models_of(options, detector), *words]
        records = [options.out / name / "made.json" for name in done(options, detector)]
        yield task(detector, [*command, *beside(options, detector)], folder, content(*command[1:], *DATA, *records))


def fill(text, out):
    """A README's text with the tables that are marked in it, of the trainings that are done, and their commits.

    A mark is a comment `<!-- table: sdi_gan/ablation.txt -->` in the line before a block of text; what the named file
    under `out` says (of a report.json the table of its scores) becomes the block, and the last sentence "Table of
    commit ..." before it, unless a table of another training stands between, its commit and date.

    Arguments:
        text: of the README.
        out: folder with the results.

    Returns:
        The new text, and the names of the files that were taken.
    """
    taken, sections = [], re.split(r"(?m)^(?=## )", text)
    for k, section in enumerate(sections):
        changed, marks = {}, list(MARK.finditer(section))
        for match in marks:
            source, made = out / match[1], made_of(match[1], out)
            if not made:
                continue
            mark = f"<!-- table: {match[1]}, commit {made['commit']} -->"
            changed[match.span()] = f"{mark}\n```text\n{table_of(source)}\n```"
            others = [one.end() for one in marks if one.end() < match.start()
                      and training_of(one[1]) != training_of(match[1])]
            for said in list(SAID.finditer(section, max(others, default=0), match.start()))[-1:]:
                changed[said.span()] = f"able of commit {made['commit']}, {made['date']}"
            taken.append(match[1])
        for (a, b), words in sorted(changed.items(), reverse=True):
            section = section[:a] + words + section[b:]
        sections[k] = section
    return "".join(sections), taken


def training_of(name):
    """The training that a file, <training>/<file>, is of."""
    return name.partition("/")[0]


def made_of(name, out):
    """What made.json says of a file, <training>/<file>, under `out`; nothing unless both are there."""
    record = out / training_of(name) / "made.json"
    return json.loads(record.read_text(encoding="utf-8")) if (out / name).is_file() and record.is_file() else {}


def pictures(text, out, folder):
    """The same for pictures: a comment `<!-- picture: corr_vae/traversal.png -->` in the line before one names where it
    comes from; the file is copied over that which the text shows.

    Arguments:
        text: of a README in `folder`.
        out: folder with the results.
        folder: where the pictures are.

    Returns:
        The new text, and the names of the files that were taken.
    """
    taken = []

    def take(match):
        made = made_of(match[1], out)
        if not made:
            return match[0]
        with atomic_path(folder / match[3]) as temporary:
            shutil.copyfile(out / match[1], temporary)
        taken.append(match[1])
        return f"<!-- picture: {match[1]}, commit {made['commit']} -->\n{match[2]}"

    return PICTURE.sub(take, text), taken


def behind(text):
    """Lines on the marked tables of a README whose commit is not that of the code: how many commits have come since.

    Only commits that changed the package or the recipe count; a commit that is not known here is said so, and one from
    which files differed.
    """
    for name, made in sorted({(match[1], match[2] or "unknown") for match in MADE.finditer(text)}):
        recipe = TRAININGS.get(training_of(name), (training_of(name),))[0]
        found = subprocess.run(["git", "rev-list", "--count", f"{made.rstrip('+')}..HEAD", "--", "zdckeras",
                                f"recipes/{recipe}.py"], cwd=ROOT, capture_output=True, text=True)
        if found.returncode:
            yield f"{name}: of commit {made}, which is not in this repository"
        elif made.endswith("+"):
            yield f"{name}: of commit {made}, with changes that are not in it"
        elif int(found.stdout):
            yield f"{name}: of commit {made}; {found.stdout.strip()} commits have changed the code since"


def keep_scores(out):
    """Scores of the comparisons in a folder into `SCORES`; names of the detectors. Small comparisons are left out."""
    taken = []
    for folder in sorted(out.glob("compare_*")):
        told = json.loads((folder / KEPT[2]).read_text(encoding="utf-8")) if (folder / "made.json").is_file() else {}
        if (told.get("judged"), told.get("pixels")) != (SIZE, PIXELS):
            continue
        taken.append(folder.name.partition("_")[2])
        with atomic_folder(SCORES / taken[-1]) as temporary:
            temporary.mkdir()
            for name in KEPT:
                shutil.copyfile(folder / name, temporary / name)
            (temporary / "data.json").write_text(json.dumps(content(*DATA)), encoding="utf-8")
    return taken


def table_of(source):
    """The table in a recipe's text, without the line on its making; or that of the scores in a report.json."""
    text = source.read_text(encoding="utf-8")
    if source.suffix != ".json":
        return text.partition("\nMade with: ")[0].strip("\n")
    from zdckeras.metrics.report import Table

    table, none = Table(), float("nan")
    for name, score in json.loads(text).items():
        metrics = {species: {key: [none if v is None else v for v in pair] for key, pair in values.items()}
                   for species, values in score["metrics"].items()}
        table.add(name, score | {"metrics": metrics})
    return table.text()


def main(arguments=None):
    """Do all that is not done yet; 0 if all went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="laptop", help="of the recipes")
    parser.add_argument("--out", type=Path, default=Path("runs/all"))
    parser.add_argument("--only", nargs="+", choices=TRAININGS, default=list(TRAININGS), metavar="NAME")
    parser.add_argument("--jobs", type=whole(1), default=2, help="trainings at a time, one thread each")
    parser.add_argument("--size", type=whole(1), default=SIZE, help="showers of the comparison")
    parser.add_argument("--runs", type=whole(1), default=2, help="generations of each model")
    parser.add_argument("--pixels", type=whole(0), default=PIXELS, help="pairs of the pixel classifier; 0: none")
    parser.add_argument("--no-costs", action="store_true", help="do not measure times")
    parser.add_argument("--tables", action="store_true", help="only write what is done into the README files, and the "
                        "scores of comparisons into recipes/scores")
    parser.add_argument("--check", action="store_true", help="only say which of their tables are older than the code; "
                        "status 1 if any is")
    options = parser.parse_args(arguments)
    options.out = options.out.resolve()
    texts = {ROOT / name: (ROOT / name).read_text(encoding="utf-8") for name in ("recipes/README.md", "README.md")}
    if options.check:
        old = [line for text in texts.values() for line in behind(text)]
        print("\n".join(old) or "all tables are of this code")
        return int(bool(old))
    if options.tables:
        for file, text in texts.items():
            text, taken = fill(text, options.out)
            text, shown = pictures(text, options.out, file.parent)
            write_text(file, text)
            print(f"{file.relative_to(ROOT)}: {', '.join([*taken, *shown]) or 'nothing was taken'}")
        print(f"{SCORES.relative_to(ROOT)}: {', '.join(keep_scores(options.out)) or 'nothing was taken'}")
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    words = ["run", "--continue", "-n", str(options.jobs), "-P", "thread"]
    config = {"dep_file": str(options.out / "doit.json"), "backend": "json", "verbosity": 1}
    rounds = {"task_train": lambda: trainings(options), "task_go_on": lambda: trainings(options, late=True),
              "task_compare": lambda: comparisons(options)}
    return max(DoitMain(ModuleTaskLoader({name: tasks, "DOIT_CONFIG": config})).run(words)
               for name, tasks in rounds.items())


if __name__ == "__main__":
    run(main)
