"""What every recipe begins and ends with: command line, showers to train on and to be judged by, and its results."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import keras
import numpy as np

from zdckeras.command import check_folder, refuse, whole
from zdckeras.data import atomic
from zdckeras.data.files import find_sources
from zdckeras.data.repeats import repeated
from zdckeras.data.showers import Showers
from zdckeras.judging import BATCHES, judge_generators
from zdckeras.metrics.report import Table, judge
from zdckeras.plots import write_pictures
from zdckeras.provenance import PROVENANCE_FILE, provenance_text, save_model, sketch_of, versions, write_provenance
from zdckeras.simulation.parts import ROWS, apart, showers_for
from zdckeras.training.loop import processor_seconds, states_folder
from zdckeras.training.options import add_arguments, apply_arguments, apply_devices
from zdckeras.training.states import digest

PICTURED = 2000  # test particles in histograms and galleries
FEW = 64  # showers that give scales to networks which --dry-run only counts
EMBEDDED = "embedded simulation"  # what provenance says of data that are not own ones
TAKEN = set()  # folders of states of this run: a recipe of several stages has several
NARROWED = ("seeds", "rows", "sizes", "in_order", "lambdas")  # arguments that may leave out parts of a report
NO_FLOOR = "less than a quarter of the test is of particles that occur more than once: judged without a floor"


class RecipeParser(argparse.ArgumentParser):
    """An `ArgumentParser` that looks for the files of --data, and for the --devices, at once, and names the --out."""

    def parse_args(self, args=None, namespace=None):
        found = super().parse_args(args, namespace)
        if found.out is None:  # other detectors, presets, rows and data have folders of their own
            chosen = {name: getattr(found, name, None) for name in ("detector", "preset", "rows")}
            more = [word for name, word in chosen.items() if isinstance(word, str) and word != self.get_default(name)]
            more += ["halves"] * getattr(found, "halves", False) + ["own"] * (found.data is not None)
            found.out = Path("_".join([str(self.out), *more]))
        try:
            apply_devices(found)
        except ValueError as error:
            self.error(str(error))
        if found.data is not None:
            found.data = found.data[0] if len(found.data) == 1 else found.data
            try:
                find_sources(found.data)
            except (ValueError, OSError, ImportError) as error:
                self.error(str(error))
        return found


def command_line(about: str, presets: Iterable[str], out: str | Path, detectors: Sequence[str] = (),
                 trainings: int | None = None, half: bool = False, dry: bool = False,
                 halves: bool = False) -> argparse.ArgumentParser:
    """The arguments that all recipes share.

    Arguments:
        about: docstring of the recipe, shown by --help.
        presets: names of its presets; the first is the default.
        out: folder of the results by default, with detector, preset and the like behind where these are others.
        detectors: names to choose from with --detector, the first being the default; none leaves the argument out.
        trainings: default of --seeds, trainings of every row; None leaves the argument out.
        half: whether --mixed-precision is sound for its models; else it is refused.
        dry: whether it knows --dry-run, which tells what its trainings would cost.
        halves: whether it knows --halves, training and test with half of the Geant4 library each.

    Returns:
        `argparse.ArgumentParser`, to which a recipe may add its own.

    Example:
        >>> args = command_line("about", ["laptop", "smoke"], "runs/x", ("zn", "zp")).parse_args(["--detector", "zp"])
        >>> args.preset, args.detector, args.data, str(args.out), args.seed
        ('laptop', 'zp', None, 'runs/x_zp', 0)
    """
    parser = RecipeParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    presets = list(presets)
    parser.add_argument("--preset", choices=presets, default=presets[0])
    if detectors:
        parser.add_argument("--detector", choices=detectors, default=detectors[0])
    parser.add_argument("--data", nargs="+", metavar="FILE", help="your showers: .root files (also file.root:tree, "
                        "patterns, root:// addresses), or a folder with them or with the npz pair")
    parser.out = Path(out)
    parser.add_argument("--out", type=Path, help=f"folder of the results (default: {out}, detector, preset and the "
                        "like behind where these are others)")
    if trainings:
        parser.add_argument("--seeds", type=whole(1), default=trainings, help="trainings of every row")
    if dry:
        parser.add_argument("--dry-run", action="store_true", help="only print weights, memory and an estimate of the "
                            "time on a GPU")
    if halves:
        parser.add_argument("--halves", action="store_true", help="train on showers of one half of the Geant4 library "
                            "and judge by those of the other")
    parser.add_argument("--seed", type=whole(0), default=0, help="of data, trainings and judgement")
    add_arguments(parser, half)
    return parser


def preset_for(presets: Mapping[str, dict], name: str, detector: str) -> dict:
    """A preset as a detector has it: what it says under "studies" of this one stands in place of what it says of all.

    Example:
        >>> preset_for({"paper": dict(train=275_000, studies={"zn": dict(train=214_746)})}, "paper", "zn")["train"]
        214746
    """
    return presets[name] | presets[name].get("studies", {}).get(detector, {})


@dataclass(frozen=True)
class RecipeData:
    """What a recipe trains on and is judged by.

    Arguments:
        training, validation, test: `Showers`.
        resimulated: `Showers` of further responses to the particles of the test, a list; none where own data have none.
        more: the training showers and, of embedded ones, those beyond, for stages that take more.
        provenance: what a report and a model say about their making.
        digest: of the content of own showers, or None.
        other: with --halves, responses to the particles of the test from the training's half of the library.
    """

    training: Showers
    validation: Showers
    test: Showers
    resimulated: list
    more: Showers
    provenance: dict
    digest: str | None = None
    other: tuple[Showers, ...] = ()

    @property
    def arrays(self) -> dict:
        """Conditions (N, 9) and responses (N, nx, ny) of the training part, for `Batches`."""
        return {"conditions": self.training.particles, "responses": self.training.response}

    @cached_property
    def sketch(self) -> dict[str, np.ndarray]:
        """What tells whether other showers are among those of training and validation, for model files."""
        return sketch_of([self.more, self.validation])

    @property
    def floor(self) -> list[np.ndarray]:
        """The further responses, (N, nx, ny) each."""
        return [again.response for again in self.resimulated]

    @property
    def reach(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest conditions (9,) of the particles that a generator is for: own training ones, or those of
        the embedded test set, where arrivals are drawn beside it."""
        known = (self.training if self.digest else self.test).particles
        return known.min(axis=0), known.max(axis=0)

    @property
    def repeats(self) -> bool:
        """Whether a training particle occurs twice, so that the diversity of its responses is known."""
        return bool(repeated(self.training).any())


def recipe_data(args: argparse.Namespace, sizes: dict, detector: str | None = None, more: int = 0,
                draws: tuple[int, ...] | range = (1,)) -> RecipeData:
    """The showers of a recipe, embedded or its user's own; own ones that cannot serve end the program in one line.

    Arguments:
        args: from `command_line`.
        sizes: preset with the sizes of the parts; of own showers all are taken.
        detector: where the recipe has no --detector.
        more: embedded training showers that some stage wants, if that is more than the size of the training part.
        draws: as in `showers_for`.
    """
    check_folder(args.out)
    check_results(args)
    halves = getattr(args, "halves", False)
    if halves and args.data is not None:
        refuse("argument --halves: expected embedded data, whose Geant4 library is known, received --data")
    wanted, detector = sizes | {"train": max(sizes["train"], more)}, detector or args.detector
    try:
        found, validation, test, resimulated = showers_for(detector, args.data, wanted, () if halves else draws,
                                                           args.seed)
    except (ValueError, OSError, ImportError) as error:
        refuse(error)
    other = ()
    if halves:
        found, validation, test, resimulated, other = apart(found, validation, test, draws, args.seed)
    settings = {name: value for name, value in vars(args).items()
                if name not in ("out", "data") and value is not None and value is not False}
    provenance = {"recipe": Path(sys.argv[0]).stem, **settings, "detector": detector, "data": EMBEDDED}
    content, training = None, found[: sizes["train"]]
    if args.data is not None:
        training, parts = found, {"training": found, "validation": validation, "test": test}
        content = digest({f"{part} {name}": values for part, showers in parts.items() for name, values in
                          {"particles": showers.particles, "pdg": showers.pdg, **showers.responses}.items()})
        provenance |= {"data": args.data, "content": content}
    provenance |= {"training": len(training), "validation": len(validation), "test": len(test),
                   "floor": f"a second simulation of the test's particles{', from the same half' * halves}"}
    if args.data is not None:
        provenance["floor"] = ("test particles that occur more than once, one half of their rows against the other"
                               if resimulated else NO_FLOOR)
        if resimulated:
            provenance["test"] = f"{len(test)} of {test.metadata[ROWS]}"
        print(f"{len(training)} training, {len(validation)} validation and {provenance['test']} test showers; floor: "
              f"{provenance['floor']}", flush=True)
    return RecipeData(training, validation, test, resimulated, found, provenance | {"versions": versions()}, content,
                      tuple(other))


def check_results(args: argparse.Namespace) -> None:
    """End the program in one line where --out has results of another recipe, preset, detector, seed or data, or of
    trainings and rows that the report asked for would not have any more."""
    try:
        made = json.loads((args.out / PROVENANCE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    asked = {"recipe": Path(sys.argv[0]).stem, "preset": args.preset, "detector": getattr(args, "detector", None),
             "seed": args.seed, "data": EMBEDDED if args.data is None else args.data}
    made, asked = ({"halves": False} | made, asked | {"halves": args.halves}) if "halves" in args else (made, asked)
    other = [name for name, value in asked.items() if value is not None and name in made and made[name] != value]
    if not other:
        made = {"rows": None, "sizes": None, "lambdas": None, **made}  # left out: all of them
        asked = {name: getattr(args, name) for name in NARROWED if name in args and name in made}
        other = [name for name, value in asked.items() if (
            made[name] != value if name == "lambdas" else _lost(made[name], value))]  # weights, and not names of rows
    if other:
        refuse(f"{args.out} has results of {', '.join(f'{name} {made[name]}' for name in other)}, asked for are "
               f"{', '.join(f'{name} {asked[name]}' for name in other)}: choose another --out")


def _lost(made, asked):
    """Whether what a report has, a number of trainings or names of rows, would be missing in the one asked for."""
    if isinstance(asked, int):
        return made > asked
    if isinstance(asked, (list, tuple)):
        return made is None or not set(made) <= set(asked)
    return asked not in (None, "all", made)


def recipe_states(args: argparse.Namespace, *settings, data: RecipeData | None = None) -> Path:
    """`states_folder` of a recipe: for its settings, detector, data and seed; own data are known by their content.

    Sets the options of trainings that the command line asks for, too.

    Arguments:
        args: from `command_line`.
        settings: preset and whatever else its trainings depend on.
        data: from `recipe_data`; may be left out for embedded data.
    """
    apply_arguments(args)
    content = data.digest if data else None
    settings += ("halves",) * getattr(args, "halves", False)
    folder = states_folder(args.out, *settings, getattr(args, "detector", None), content, args.seed)
    TAKEN.add(folder)
    if not folder.exists() and any(other.is_dir() and other not in TAKEN for other in folder.parent.glob("*")):
        print(f"{folder.parent} holds states of other settings or data; they are not taken up", flush=True)
    return folder


def judged(args: argparse.Namespace, data: RecipeData, samplers: dict[str, Callable], runs: int) -> Table:
    """`judge` on the test set, beside the floor; the table is written at once.

    Arguments:
        args: from `command_line`.
        data: from `recipe_data`, of one detector.
        samplers, runs: as in `judge`.

    Returns:
        `Table`.
    """
    table = judge(data.test, data.floor, samplers, runs, args.seed)
    _write_table(args, data, table)
    return table


def _write_table(args, data, table):
    table.provenance = data.provenance
    table.write(args.out)


def judged_with_times(args: argparse.Namespace, data: RecipeData, generators: dict,
                      p: dict) -> tuple[Table, dict, str]:
    """`judge_generators` on the test set, beside the floor; its table is written before times are taken.

    Arguments:
        args: from `command_line`.
        data: from `recipe_data`, of one detector.
        generators: name -> what is judged.
        p: preset with `pairs` of the pixel classifier, `generations`, and perhaps `batches` that are timed.

    Returns:
        As there.
    """
    return judge_generators(generators, data.test, data.floor, p["generations"], args.seed, p["pairs"],
                            p.get("batches", BATCHES), lambda table: _write_table(args, data, table))


def write_text(path: str | Path, text: str, provenance: dict | None = None) -> None:
    """A report into a text file, whole or not at all, with a line on its making; printed, too."""
    print(f"\n{text}")
    made = f"\n{provenance_text(provenance)}\n" if provenance else ""
    atomic.write_text(path, f"{text}\n{made}")


def save_models(args: argparse.Namespace, data: RecipeData, models: dict[str, keras.Model]) -> None:
    """Trained models and what they were made from into the recipe's folder, before anything else can fail.

    "recipe_s" in a model's provenance are the processor seconds of the recipe's trainings, earlier starts included.

    Arguments:
        args: from `command_line`.
        data: from `recipe_data`.
        models: file name -> Keras model.
    """
    for name, model in models.items():
        save_model(model, args.out / name, data.provenance | {"recipe_s": round(processor_seconds(), 1)}, data.sketch)
    write_provenance(args.out, data.provenance)


def write_results(args: argparse.Namespace, name: str, text: str, table: Table, test: Showers, shown: dict,
                  histories: dict, models: dict | None = None) -> None:
    """Text, tables, pictures and models of a recipe, into its folder.

    Arguments:
        args: from `command_line`.
        name: of the text file.
        text: what it says.
        table: `Table` from `judged` or `judged_with_times`.
        test: `Showers` of one detector, of which the first are pictured.
        shown: model name -> function of (conditions, seed) that gives (N, nx, ny) photon counts.
        histories: model name -> history, for the learning curves.
        models: file name -> Keras model, those that `save_models` has not written yet.
    """
    for file, model in (models or {}).items():
        save_model(model, args.out / file, table.provenance)
    write_text(args.out / name, text, table.provenance)
    table.write(args.out)
    some = test[:PICTURED]
    write_pictures(args.out, some, {name: sample(some.particles, args.seed) for name, sample in shown.items()},
                   histories)
    print(f"tables, pictures and models are in {args.out}")
