"""Make a trained generator one that comes with the package: pack its weights, judge it, write its card.

python tools/make_pretrained.py runs/modular/generator.keras zn --command "python recipes/modular.py" \\
    --data "45 epochs of 60,000 fresh single arrivals of the reference simulation"
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import keras

import zdckeras as zdc
from zdckeras.command import check_folder, run, whole
from zdckeras.data.atomic import write_text
from zdckeras.packaged import PLACE, model_file, pack


def card(name, generator, path, table, data, command):
    """What a pretrained generator is, as Markdown.

    Arguments:
        name: under which `zdckeras.pretrained` finds it.
        generator: `Sampler`.
        path: its packed file.
        table: `Table` of it beside the floor.
        data: what it was trained on.
        command: what trained it.
    """
    detectors = " and ".join(f"{one.name} ({one.shape[0]} x {one.shape[1]}, {one.unit})" for one in generator.detectors)
    return "\n".join([
        f"# {name}: {type(generator).__name__}",
        f"`zdckeras.pretrained({name!r})` makes responses of {detectors}.",
        "",
        f"- trained on: {data}",
        f"- by: `{command}`",
        f"- size: {generator.count_params():,} weights, {path.stat().st_size / 1e6:.2f} MB (in half precision)",
        f"- made with: zdckeras {zdc.__version__}, Keras {keras.__version__} on {keras.config.backend()}",
        "",
        table.markdown(),
    ])


def main(arguments=None):
    """Pack, judge before and after, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help=".keras file of a generator")
    parser.add_argument("name", help="the name it is to have, for instance zn")
    parser.add_argument("--data", required=True, help="what it was trained on, for the card")
    parser.add_argument("--command", required=True, help="the command that trained it, for the card")
    parser.add_argument("--size", type=whole(1), default=20_000, help="embedded test showers (default: %(default)s)")
    parser.add_argument("--runs", type=whole(1), default=5, help="generations (default: %(default)s)")
    parser.add_argument("--detector", help="the one to judge by, where the generator has several")
    parser.add_argument("--folder", type=Path, default=PLACE, help="where to (default: in the package)")
    options = parser.parse_args(arguments)
    if not options.name.isidentifier():
        parser.error(f"expected a name of letters, digits and _, received {options.name!r}")
    try:
        model_file(options.model)
        check_folder(options.folder)
        generator = zdc.load_model(options.model)
        with TemporaryDirectory() as scratch:
            packed = zdc.load_model(pack(generator, Path(scratch) / "packed.keras"))
        table = zdc.compare({"before packing": generator, options.name: packed}, size=options.size, runs=options.runs,
                            detector=options.detector)
        path = pack(generator, options.folder / f"{options.name}.keras", options.model)
    except (ValueError, TypeError, OSError) as error:
        parser.error(str(error))
    write_text(path.with_suffix(".md"), card(options.name, generator, path, table, options.data, options.command))
    print(table.text())
    before, after = options.model.stat().st_size / 1e6, path.stat().st_size / 1e6
    print(f"\n{path}: {after:.2f} MB, from {before:.2f} MB; its card is {path.with_suffix('.md').name}")


if __name__ == "__main__":
    run(main)
