"""What every recipe begins with: its command line, and showers to train on and to be judged by."""

import argparse
from pathlib import Path

from zdckeras.data.files import open_showers
from zdckeras.data.repeats import repeated_pairs
from zdckeras.simulation.reference import load, resimulate


def command_line(about, presets, out, detectors=(), trainings=None):
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


def showers_for(detector, data, sizes, draws=(1,), seed=0):
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
