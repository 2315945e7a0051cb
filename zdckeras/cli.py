"""The command `zdckeras`: simulate showers, generate them, compare generators, export them.

zdckeras simulate showers.root --detector zn --size 100000
zdckeras generate zn showers.root generated.root --seed 1
zdckeras generate zn showers.root shards/ --workers 2 && zdckeras merge shards/ generated.root
zdckeras compare zn runs/flow_distill/student.keras --out report/
zdckeras export runs/flow_distill/student.keras served/
zdckeras export zn zn.onnx --to onnx
zdckeras export zn zp o2/ --to o2
zdckeras check-o2 o2/

What it calls is imported when it is needed, so that a question about arguments is answered at once.
"""

import argparse
import os
import sys
from pathlib import Path

from zdckeras.command import SHOW, ended_by_sigterm, plain_warnings, whole

OUTPUT = "a name that ends in .root, or a folder for npz files, which are made in memory (4 kB a shower)"
MODEL = "a .keras file, or the name of a pretrained generator (zn, zp)"


def _refused(given):
    """ValueError for the first option, by (its words, what it goes with), that is given where it has no effect."""
    for words, place in (key for key, value in given.items() if value):
        raise ValueError(f"Expected {words} only with {place}; received it without.")


def _place(output):
    """ValueError for a name to write to that is empty, or a detector's, and so a pretrained generator's."""
    from zdckeras.data.detectors import DETECTORS

    if not output.strip():
        raise ValueError(f"Expected where to write, received {output!r}; the current folder is given as ./")
    if set(output.split("+")) <= set(DETECTORS):
        raise ValueError(f"Expected where to write, received {output}, the name of a detector: a folder of this name "
                         f"is given as ./{output}.")


def simulate(options):
    """Write the reference simulation to a file, photon counts of ZN and ZP or energies in other detectors' cells."""
    from zdckeras.data.detectors import DETECTORS
    from zdckeras.data.files import write_showers
    from zdckeras.simulation.reference import draws

    _place(options.output)
    energies = any(name in DETECTORS and DETECTORS[name].unit != "photons" for name in options.detector.split("+"))
    _refused({("--keep-all", "zn, zp or zn+zp, whose responses are cut"): options.keep_all and energies})
    blocks = draws(options.detector, options.part, options.size, options.seed, options.keep_all, progress=True)
    write_showers(blocks, options.size, options.output, options.overwrite)


def generate(options):
    """Write a generator's showers of given particles to a file, or to shards that any number of workers make."""
    from zdckeras.campaign.events import particles_of

    _place(options.output)
    if options.shards or options.scheduler or options.workers:
        if options.workers and options.scheduler:
            raise ValueError("Expected --workers, processes of this machine, or --scheduler, of a cluster that has its "
                             "own; received both.")
        if options.overwrite:
            raise ValueError("Expected --overwrite without --shards, --workers and --scheduler: the same command goes "
                             "on with the shards that are there, and other settings want another folder.")
        from zdckeras.campaign.run import run_campaign

        rows, workers = options.shards or 10_240, options.workers or 1
        folder = run_campaign(options.model, options.particles, options.output, options.seed, rows, workers,
                              options.scheduler)
        print(f"the shards are in {folder}; `zdckeras merge {folder} showers.root` joins them")
        return
    from zdckeras.campaign.answers import look_at
    from zdckeras.data.files import files_in_the_way, write_showers

    files_in_the_way(options.output, options.overwrite)
    look_at(options.model)
    particles, pdg = particles_of(options.particles)
    from zdckeras.comparison.contenders import open_contender

    blocks = open_contender(options.model).generator.showers(particles, pdg, options.seed, progress=True)
    write_showers(blocks, len(pdg), options.output, options.overwrite)


def merge(options):
    """Join the shards of a campaign into one file."""
    from zdckeras.campaign.run import merge_shards

    _place(options.output)
    merge_shards(options.folder, options.output, options.overwrite)


def compare(options):
    """Judge generators on one test set beside the floor: print the table, and write it with a page of pictures."""
    from zdckeras.campaign.answers import look_at
    from zdckeras.data.atomic import check_place
    from zdckeras.data.detectors import DETECTORS

    own = options.data is not None and not set(options.data.split("+")) <= set(DETECTORS)
    _refused({("--size", "an embedded test set (own showers are all taken)"): own and options.size is not None,
              ("--part test", "own showers in --data"): options.part == "test" and not own,
              ("--overwrite", "--out"): options.overwrite and not options.output})
    if options.output:
        if Path(options.output, "report.json").exists() and not options.overwrite:
            raise ValueError(f"{options.output} holds a report: choose another --out, or add --overwrite.")
        check_place(Path(options.output) / "report.json")
    from zdckeras.comparison.names import labelled

    wrong, models = [], labelled(options.models)
    for model in models.values():
        try:
            look_at(model)
        except (ValueError, FileNotFoundError) as error:
            wrong.append(error)
    if len(wrong) == len(models):
        raise wrong[0]
    from zdckeras.comparison.compare import compare

    table = compare(models, options.data, options.size or 20_000, options.runs, options.seed, options.detector,
                    options.pixels, options.costs, options.sort, options.force, options.channels, options.part,
                    options.beside)
    try:
        written = table.write(options.output) if options.output else None  # first, for a closed pipe takes no text
    finally:
        print(table.text())
    used, rows = (table.provenance[key] for key in ("judged", "showers"))
    if used < rows:
        print(f"\njudged on {used} of {rows} showers, one half of the rows of particles that occur more than once; the "
              "other half is the floor")
    if written:
        print(f"\npage.html, report.md, report.csv and report.json are in {written}")


def export(options):
    """Write a generator as a SavedModel that TensorFlow Serving, or any TensorFlow program, can load; or as ONNX; or
    generators of ZN and ZP and a classifier as the folder that ALICE O2 loads."""
    from zdckeras.packaged import about_models, model_file, open_generator

    _place(options.output)
    models = options.models or (["zn", "zp"] if options.to == "o2" else [])
    if len(models) not in ((1, 2) if options.to == "o2" else (1,)):
        raise ValueError(f"Expected {'one or two models' if options.to == 'o2' else 'one model'} and where to write, "
                         f"received {' '.join([*models, options.output])}.")
    given = {("--precision", "onnx"): options.precision, ("--compiled", "saved-model"): options.compiled,
             ("--classifier", "o2"): options.classifier, ("--version", "saved-model"): options.version}
    for word, to in (key for key, value in given.items() if value):
        if options.to != to:
            raise ValueError(f"Expected {word} with --to {to} only, received it with --to {options.to}.")
    if options.ids and options.to == "o2":
        raise ValueError("Expected --ids with --to onnx or saved-model only, received it with --to o2.")
    files = [model_file(model) for model in models]
    about = about_models(dict(zip(models, files, strict=True)))
    if options.to == "o2":
        from zdckeras.export.o2 import export_o2
        from zdckeras.packaged import open_hits
        from zdckeras.provenance import SKETCH

        about.pop(SKETCH, None)  # three files, and O2 compares nothing
        slots = {detector.name: one for one in map(open_generator, models) for detector in one.detectors}
        if missing := {"zn", "zp"} - set(slots):
            raise ValueError(f"Expected generators of zn and zp, received none of {', '.join(sorted(missing))}.")
        hits = open_hits(options.classifier)
        written = export_o2(options.output, slots["zn"], slots["zp"], hits, options.overwrite, about)
    elif options.to == "onnx":
        from zdckeras.export.onnx import export_onnx

        written = export_onnx(open_generator(models[0]), options.output, options.overwrite, about,
                              options.precision or "float32", options.ids)
    else:
        from zdckeras.export.saved_model import export_saved_model

        written = export_saved_model(open_generator(models[0]), options.output, options.version or 1, options.overwrite,
                                     options.compiled, about, options.ids)
    size = sum(file.stat().st_size for file in [written, *written.rglob("*")] if file.is_file())
    said = {"saved-model": "signatures serving_default, sample, sample_rows",
            "onnx": "inputs noise, condition" + ", pdg" * options.ids,
            "o2": "the line for O2 is in configKeyValues.txt"}
    print(f"{written}: {size / 1e6:.1f} MB, {said[options.to]}")


def check_o2(options):
    """Hand particles to the files of an O2 folder as O2 does, and say what it makes of them."""
    from zdckeras.export.o2_check import beside_models, check_o2, report
    from zdckeras.packaged import open_generator

    models = [open_generator(model) for model in options.models or ()]
    known = {detector.name for model in models for detector in model.detectors}
    if models and not {"zn", "zp"} <= known:
        raise ValueError(f"Expected models of zn and zp, received those of {', '.join(sorted(known))}.")
    found, *inputs = check_o2(options.folder, options.size, options.seed)
    print(report(found, beside_models(found, *inputs, models) if models else None, options.folder))


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Help that tells defaults which are values; what an option does that is not given, its own words say."""

    def _get_help_string(self, action):
        bare = action.default is None or isinstance(action.default, (bool, tuple))
        return action.help if bare else super()._get_help_string(action)


def parser():
    """The arguments of all of them."""
    command = argparse.ArgumentParser("zdckeras", description=__doc__,
                                      formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = command.add_subparsers(required=True, metavar="simulate | generate | merge | compare | export | check-o2")

    def add(function):
        added = kinds.add_parser(function.__name__.replace("_", "-"), help=function.__doc__,
                                 description=function.__doc__,
                                 formatter_class=_Help)
        added.set_defaults(run=function, prog=added.prog)
        return added

    one = add(simulate)
    one.add_argument("output", help=OUTPUT)
    one.add_argument("--detector", default="zn", help="zn, zp, zn+zp, ecal or focalh")
    one.add_argument("--size", type=whole(1, 10**15), default=100_000, help="number of showers")
    one.add_argument("--seed", type=whole(0), default=0, help="of the draw")
    one.add_argument("--part", choices=("train", "validation", "test"), default="train", help="independent draws; "
                     "recipes train on train and judge by test, seed 0")
    one.add_argument("--keep-all", action="store_true",
                     help="also responses below the papers' cut of 10 photons in ZN, 1 in ZP; most are empty")
    one.add_argument("--overwrite", action="store_true", help="replace an existing output")

    one = add(generate)
    one.add_argument("model", help=MODEL + "; a .onnx file or the version of a SavedModel")
    one.add_argument("particles", help="showers (.root or a folder), an npz file with one array: (N, 9) conditions, or "
                                       "(N, 10) with the PDG id last; a .csv table with these names; a .hepmc3 file")
    one.add_argument("output", help=OUTPUT + "; a folder for shards")
    one.add_argument("--seed", type=whole(0), default=0, help="of the noise")
    one.add_argument("--overwrite", action="store_true", help="replace an existing output")
    one.add_argument("--shards", type=whole(256), metavar="ROWS", help="write shards of so many rows, a multiple of "
                     "256, and with the same command go on with the rest; with --workers or --scheduler 10,240 rows if "
                     "this is not given")
    one.add_argument("--workers", type=whole(1), help="processes that make shards, one if only --shards is given; the "
                                                      "bytes do not depend on it")
    one.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that makes the shards, in place of "
                                                            "--workers")

    one = add(merge)
    one.add_argument("folder", help="with the shards and their manifest")
    one.add_argument("output", help=OUTPUT)
    one.add_argument("--overwrite", action="store_true", help="replace an existing output")

    one = add(compare)
    one.add_argument("models", nargs="+", metavar="model", help=MODEL + "; a .onnx file or the version of a "
                     "SavedModel; NAME=MODEL gives it another name in the table")
    one.add_argument("--data", help="test set: showers (.root or a folder), or an embedded one (zn, zp, zn+zp, ecal, "
                                    "focalh); by default that of the models' detector")
    one.add_argument("--size", type=whole(1), help="showers of an embedded test set, by default 20,000")
    one.add_argument("--part", choices=("all", "test"), default="all", help="of own showers; test: those that recipes "
                     "with --data leave for the test")
    one.add_argument("--runs", type=whole(1), default=5, help="generations of every model")
    one.add_argument("--seed", type=whole(0), default=0, help="of generations and classifier")
    one.add_argument("--detector", help="the one to judge by, where there are several")
    one.add_argument("--channels", choices=("papers", "proton-paper", "o2"), default="papers", help="convention of the "
                     "five channels")
    one.add_argument("--out", dest="output", metavar="FOLDER", help="folder for page.html, report.md, .csv and .json")
    one.add_argument("--overwrite", action="store_true", help="replace the report in --out")
    one.add_argument("--beside", metavar="FOLDER", help="of a report on the same test set, whose models come into the "
                                                        "table as they were judged there")
    one.add_argument("--pixels", type=whole(0), default=4_000, metavar="PAIRS", help="for the classifier that sees the "
                     "photons of every cell; 0 leaves it out")
    one.add_argument("--no-costs", dest="costs", action="store_false", help="leave out time and memory, each "
                     "measured in a process of its own")
    one.add_argument("--sort", default="AUC", help="column to sort by: WS, MAE, AUC, FPD, ...")
    one.add_argument("--force", action="store_true", help="judge also by showers that a model was trained on")

    one = add(export)
    one.add_argument("models", nargs="*", metavar="model", help=MODEL + "; for O2 one of zn and one of zp, or one of "
                                                                "both, by default the pretrained ones")
    one.add_argument("output", help="a folder, in which the version is a folder; for ONNX a name that ends in .onnx")
    one.add_argument("--to", choices=("saved-model", "onnx", "o2"), default="saved-model", help="what to write")
    one.add_argument("--version", type=whole(1), help="of a SavedModel, by default 1; servers take the highest")
    one.add_argument("--precision", choices=("float32", "float16", "int8"),
                     help="of the weights in an ONNX file, by default float32")
    one.add_argument("--compiled", type=whole(1), nargs="+", default=(), metavar="ROWS",
                     help="batch sizes for which a SavedModel gets a signature compiled_<rows>, compiled by XLA")
    one.add_argument("--ids", action="store_true", help="take PDG ids as a further input, pdg, 0 where they are not "
                                                        "known: they alone tell K0S from K0L (not for O2)")
    one.add_argument("--classifier", help="for O2, of particles that leave light: a .keras file in place of the one in "
                                          "the package")
    one.add_argument("--overwrite", action="store_true", help="replace what is there")

    one = add(check_o2)
    one.add_argument("folder", help="as written by export --to o2")
    one.add_argument("--models", nargs="+", metavar="model", help="set its photons beside theirs")
    one.add_argument("--size", type=whole(1), default=1000, help="number of particles")
    one.add_argument("--seed", type=whole(0), default=0, help="of particles and noise")
    return command


def _left(options):
    """What a command that did not end has left behind."""
    if getattr(options, "shards", None) or getattr(options, "workers", None) or getattr(options, "scheduler", None):
        return "shards that are done stay, and the same command goes on"
    return "nothing new was left there"


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """What a command line asks for; names of models may stand behind options, too."""
    command = parser()
    options, more = command.parse_known_args(arguments)
    if more and options.run is export and not any(word.startswith("-") for word in more):
        options.models, options.output = [*options.models, options.output, *more[:-1]], more[-1]
    elif more:
        command.error(f"unrecognized arguments: {' '.join(more)}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if all went well. Wrong input ends with one line and status 2, other trouble with 1."""
    options = parsed(arguments)
    try:
        with plain_warnings(options.prog), ended_by_sigterm():
            options.run(options)
    except (ValueError, TypeError, FileNotFoundError, FileExistsError, ImportError) as error:
        status, message = 2, " ".join(str(error).split())
    except RuntimeError as error:
        status, message = 1, " ".join(str(error).split()) or type(error).__name__
    except MemoryError:
        status, message = 1, "the showers do not fit into memory: write a .root file"
    except OSError as error:
        read, place = error.filename, getattr(options, "output", None) or getattr(options, "folder", None)
        if read and os.path.exists(read) and not os.access(read, os.R_OK) or not place:
            status, message = 1, f"cannot read {read}: {error.strerror}" if read else str(error)
        else:
            status, message = 1, f"cannot write {place}: {error.strerror or error}; {_left(options)}"
    except KeyboardInterrupt:
        status, message = 1, f"interrupted; {_left(options)}"
    except Exception as error:  # TensorFlow has many kinds of its own, on a full disk for instance
        if os.environ.get(SHOW):
            raise
        status, message = 1, f"{type(error).__name__}: {' '.join(str(error).split())[:1000]}"
    else:
        return 0
    print(f"{options.prog}: {message}", file=sys.stderr)
    raise SystemExit(status)


if __name__ == "__main__":
    sys.exit(main())
