"""The command `zdckeras`: simulate showers, generate them, compare generators, export one.

zdckeras simulate showers.root --detector zn --size 100000
zdckeras generate zn showers.root generated.root --seed 1
zdckeras compare zn runs/flow_distill/student.keras --out report/
zdckeras export runs/flow_distill/student.keras served/

What it calls is imported when it is needed, so that a question about arguments is answered at once.
"""

import argparse
import os
import sys

from zdckeras.command import SHOW, whole

OUTPUT = "a name that ends in .root, or a folder for npz files, which are made in memory (4 kB a shower)"
MODEL = "a .keras file, or the name of a pretrained generator (zn, zp)"


def simulate(options):
    """Write the reference simulation to a file, photon counts of ZN and ZP or energies in other detectors' cells."""
    from zdckeras.data.files import write_showers
    from zdckeras.simulation.reference import draws

    blocks = draws(options.detector, options.part, options.size, options.seed, options.keep_all, progress=True)
    write_showers(blocks, options.size, options.output, options.overwrite)


def generate(options):
    """Write a generator's showers of given particles to a file."""
    from zdckeras.data.files import files_in_the_way, open_particles, write_showers
    from zdckeras.packaged import model_file, open_generator

    files_in_the_way(options.output, options.overwrite)
    model_file(options.model)
    particles, pdg = open_particles(options.particles)
    blocks = open_generator(options.model).showers(particles, pdg, options.seed, progress=True)
    write_showers(blocks, len(pdg), options.output, options.overwrite)


def compare(options):
    """Judge generators on one test set beside the floor, and print the table."""
    from zdckeras.packaged import model_file

    for model in options.models:
        model_file(model)
    from zdckeras.comparison import compare

    table = compare(options.models, options.data, options.size, options.runs, options.seed, options.detector)
    print(table.text())
    if options.output:
        print(f"\nreport.md and report.json are in {table.write(options.output)}")


def export(options):
    """Write a generator as a SavedModel that TensorFlow Serving, or any TensorFlow program, can load."""
    from zdckeras.packaged import model_file, open_generator

    model_file(options.model)
    from zdckeras.export.saved_model import export_saved_model

    written = export_saved_model(open_generator(options.model), options.output, options.version, options.overwrite)
    size = sum(file.stat().st_size for file in written.rglob("*") if file.is_file())
    print(f"{written}: {size / 1e6:.1f} MB, signatures serving_default, sample, sample_rows")


def parser():
    """The arguments of all four."""
    command = argparse.ArgumentParser("zdckeras", description=__doc__,
                                      formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = command.add_subparsers(required=True, metavar="simulate | generate | compare | export")

    def add(function):
        added = kinds.add_parser(function.__name__, help=function.__doc__, description=function.__doc__,
                                 formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        added.set_defaults(run=function, prog=added.prog)
        return added

    one = add(simulate)
    one.add_argument("output", help=OUTPUT)
    one.add_argument("--detector", default="zn", help="zn, zp, zn+zp, ecal or focalh")
    one.add_argument("--size", type=whole(1, 10**15), default=100_000, help="number of showers")
    one.add_argument("--seed", type=whole(0), default=0, help="of the draw")
    one.add_argument("--part", choices=("train", "validation", "test"), default="train", help="independent draws")
    one.add_argument("--keep-all", action="store_true",
                     help="also responses below the papers' cut of 10 photons in ZN, 1 in ZP; most are empty")
    one.add_argument("--overwrite", action="store_true", help="replace an existing output")

    one = add(generate)
    one.add_argument("model", help=MODEL)
    one.add_argument("particles", help="showers (.root or a folder), or an npz file with one array: (N, 9) conditions, "
                                       "or (N, 10) with the PDG id last")
    one.add_argument("output", help=OUTPUT)
    one.add_argument("--seed", type=whole(0), default=0, help="of the noise")
    one.add_argument("--overwrite", action="store_true", help="replace an existing output")

    one = add(compare)
    one.add_argument("models", nargs="+", metavar="model", help=MODEL)
    one.add_argument("--data", help="test set: showers (.root or a folder), or an embedded one (zn, zp, zn+zp, ecal, "
                                    "focalh); by default that of the models' detector")
    one.add_argument("--size", type=whole(1), default=20_000, help="showers of an embedded test set")
    one.add_argument("--runs", type=whole(1), default=5, help="generations of every model")
    one.add_argument("--seed", type=whole(0), default=0, help="of generations and classifier")
    one.add_argument("--detector", help="the one to judge by, where there are several")
    one.add_argument("--out", dest="output", metavar="FOLDER", help="folder for report.md and report.json")

    one = add(export)
    one.add_argument("model", help=MODEL)
    one.add_argument("output", metavar="folder", help="the version is a folder in this folder")
    one.add_argument("--version", type=whole(1), default=1, help="whole number above 0; servers take the highest")
    one.add_argument("--overwrite", action="store_true", help="replace the version if it exists")
    return command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if all went well. Wrong input ends with one line and status 2, other trouble with 1."""
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, TypeError, FileNotFoundError, FileExistsError, ImportError, RuntimeError) as error:
        status, message = 2, " ".join(str(error).split())
    except MemoryError:
        status, message = 1, "the showers do not fit into memory: write a .root file"
    except OSError as error:
        status, message = 1, f"cannot write {options.output}: {error.strerror or error}; nothing new was left there"
    except KeyboardInterrupt:
        status, message = 1, "interrupted; nothing new was left there"
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
