"""What every recipe begins and ends with: command line, showers to train on and to be judged by, and its results."""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zdckeras.data.atomic import atomic_path
from zdckeras.data.files import open_showers
from zdckeras.data.repeats import repeated_pairs
from zdckeras.data.showers import Showers
from zdckeras.plots import write_pictures
from zdckeras.simulation.reference import load, resimulate
from zdckeras.training.loop import states_folder

PICTURED = 2000  # test particles in histograms and galleries


def command_line(about: str, presets: Iterable[str], out: str | Path, detectors: Sequence[str] = (),
                 trainings: int | None = None) -> argparse.ArgumentParser:
    """The arguments that all recipes share.

    Arguments:
        about: docstring of the recipe, shown by --help.
        presets: names of its presets; the first is the default.
        out: folder of the results by default.
        detectors: names to choose from with --detector, the first being the default; none leaves the argument out.
        trainings: default of --seeds, trainings of every row; None leaves the argument out.

    Returns:
        `argparse.ArgumentParser`, to which a recipe may add its own.

    Example:
        >>> args = command_line("about", ["laptop", "smoke"], "runs/x", ("zn", "zp")).parse_args(["--detector", "zp"])
        >>> args.preset, args.detector, args.data, str(args.out), args.seed
        ('laptop', 'zp', None, 'runs/x', 0)
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    presets = list(presets)
    parser.add_argument("--preset", choices=presets, default=presets[0])
    if detectors:
        parser.add_argument("--detector", choices=detectors, default=detectors[0])
    parser.add_argument("--data", help="your showers: a .root file or a folder with the npz pair")
    parser.add_argument("--out", type=Path, default=Path(out))
    if trainings:
        parser.add_argument("--seeds", type=int, default=trainings, help="trainings of every row")
    parser.add_argument("--seed", type=int, default=0, help="of data and judgement")
    return parser


def showers_for(detector: str, data: str | Path | None, sizes: dict, draws: Iterable[int] = (1,),
                seed: int = 0) -> tuple[Showers, Showers, Showers, list[Showers]]:
    """Training, validation and test showers, and further responses to the test's particles: the floor.

    Arguments:
        detector: detector, as in `load`; of own showers only this one is kept.
        data: path of own showers, or None for embedded ones. Own photons are cut and split as the papers do it, and the
            floor is made of repeated conditions.
        sizes: part -> number of embedded showers; a part left out has one shower.
        draws: seeds of the further responses; own data have one, whatever the number.
        seed: of embedded draws and of the pairs of own data.

    Returns:
        Three `Showers`, and a list of `Showers` of the particles of the third.

    Raises:
        ValueError: as `open_showers`, `load` and `repeated_pairs`, or if own showers lack the detector.
    """
    if data:
        showers = open_showers(data)
        if len(showers.responses) > 1:
            showers = showers.only(*detector.split("+"))
        if len(showers.responses) == 1 and showers.detector().unit == "photons":
            showers = showers.at_least()
        training, validation, test = showers.split()
        test, repeated = repeated_pairs(test, seed)
        return training, validation, test, [repeated]
    training, validation, test = (load(detector, part, sizes.get(part, 1), seed, progress=True)
                                  for part in ("train", "validation", "test"))
    return training, validation, test, [resimulate(test, k) for k in draws]


@dataclass(frozen=True)
class RecipeData:
    """What a recipe trains on and is judged by.

    Arguments:
        training, validation, test: `Showers`.
        resimulated: `Showers` of further responses to the particles of the test, a list.
        more: the training showers and, of embedded ones, those beyond, for stages that take more.
    """

    training: Showers
    validation: Showers
    test: Showers
    resimulated: list
    more: Showers

    @property
    def arrays(self) -> dict:
        """Conditions (N, 9) and responses (N, nx, ny) of the training part, for `Batches`."""
        return {"conditions": self.training.particles, "responses": self.training.response}

    @property
    def floor(self) -> list[np.ndarray]:
        """The further responses, (N, nx, ny) each."""
        return [again.response for again in self.resimulated]


def recipe_data(args: argparse.Namespace, sizes: dict, detector: str | None = None, more: int = 0,
                draws: tuple[int, ...] | range = (1,)) -> RecipeData:
    """The showers of a recipe, embedded or its user's own.

    Arguments:
        args: from `command_line`.
        sizes: preset with the sizes of the parts; of own showers all are taken.
        detector: where the recipe has no --detector.
        more: embedded training showers that some stage wants, if that is more than the size of the training part.
        draws: as in `showers_for`.

    Raises:
        ValueError: as `showers_for`.
    """
    wanted = sizes | {"train": max(sizes["train"], more)}
    found, validation, test, resimulated = showers_for(detector or args.detector, args.data, wanted, draws, args.seed)
    return RecipeData(found if args.data else found[: sizes["train"]], validation, test, resimulated, found)


def recipe_states(args: argparse.Namespace, *settings) -> Path:
    """`states_folder` of a recipe: for its settings, detector, data and seed.

    Arguments:
        args: from `command_line`.
        settings: preset and whatever else its trainings depend on.
    """
    return states_folder(args.out, *settings, getattr(args, "detector", None), args.data, args.seed)


def write_text(path: str | Path, text: str) -> None:
    """A report into a text file, whole or not at all; printed, too."""
    print(f"\n{text}")
    with atomic_path(path) as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")


def write_results(args: argparse.Namespace, name: str, text: str, table, test: Showers, shown: dict, histories: dict,
                  models: dict) -> None:
    """Tables, pictures and models of a recipe, into its folder.

    Arguments:
        args: from `command_line`.
        name: of the text file.
        text: what it says.
        table: `Table` from `judge`.
        test: `Showers` of one detector, of which the first are pictured.
        shown: model name -> function of (conditions, seed) that gives (N, nx, ny) photon counts.
        histories: model name -> history, for the learning curves.
        models: file name -> Keras model.
    """
    write_text(args.out / name, text)
    table.write(args.out)
    some = test[:PICTURED]
    write_pictures(args.out, some, {name: sample(some.particles, args.seed) for name, sample in shown.items()},
                   histories)
    for name, model in models.items():
        model.save(args.out / name)
    print(f"tables, pictures and {', '.join(models)} are in {args.out}")
