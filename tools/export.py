"""Write a trained generator as a SavedModel that TensorFlow Serving, or any TensorFlow program, can load.

python tools/export.py runs/flow_distill/student.keras served
"""

import argparse
from pathlib import Path

from zdckeras import export_saved_model, load_model


def main(arguments=None):
    """Load, export, and say where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help=".keras file of a generator")
    parser.add_argument("folder", type=Path, help="the version is a folder in this folder")
    parser.add_argument("--version", type=int, default=1, help="whole number above 0; servers take the highest")
    parser.add_argument("--overwrite", action="store_true", help="replace the version if it exists")
    options = parser.parse_args(arguments)
    if not options.model.is_file():
        parser.error(f"no such file: {options.model}")
    try:
        generator = load_model(options.model)
        written = export_saved_model(generator, options.folder, options.version, options.overwrite)
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        parser.error(str(error))
    size = sum(file.stat().st_size for file in written.rglob("*") if file.is_file())
    print(f"{written}: {size / 1e6:.1f} MB, signatures serving_default, sample, sample_rows")


if __name__ == "__main__":
    main()
