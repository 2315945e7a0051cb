"""What the tools that pack raw Geant4 files share: several raw files become one library file."""

import argparse
from pathlib import Path


def pack(about, arguments, detectors, source, read, merge, save, load):
    """Pack the files that a command line names.

    Arguments:
        about: docstring of the tool, shown by --help.
        arguments: list of words, or None for the command line.
        detectors: names, for the help.
        source: what the metadata says about the origin by default.
        read, merge, save, load: of the kind of library: function of (raw file, detector, metadata), of libraries, of
            (library, path), and of a path.

    Returns:
        The library as it was merged, the same as the file holds it, and a sentence that begins what is to be said.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", help=detectors)
    parser.add_argument("raw", nargs="+", type=Path, help="files of the Geant4 tool")
    parser.add_argument("--output", type=Path, required=True, help="library file to write")
    parser.add_argument("--add", action="store_true", help="keep the showers already in the output file")
    parser.add_argument("--source", default=source, help="what the metadata says about the origin")
    options = parser.parse_args(arguments)
    parts = [read(path, options.detector, {"source": options.source}) for path in options.raw]
    if options.add:
        parts.insert(0, load(options.output))
    library = merge(parts)
    save(library, options.output)
    packed = load(options.output)
    return library, packed, f"{options.output}: {len(packed)} showers, {options.output.stat().st_size / 1e6:.2f} MB"
