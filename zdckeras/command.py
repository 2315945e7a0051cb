"""What all command lines share: numbers checked as they are read, and errors told in one line."""

import argparse
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

SHOW = "ZDCKERAS_TRACEBACK"  # environment variable: set, errors come with their traceback
LARGEST = 2**31 - 1


def whole(least: int, most: int = LARGEST) -> Callable[[str], int]:
    """Type of an argument: a whole number from `least` to `most`.

    Example:
        >>> whole(1)("3")
        3
        >>> whole(1)("0")
        Traceback (most recent call last):
        argparse.ArgumentTypeError: expected a whole number of at least 1, received 0
    """
    def number(word):
        value = int(word)
        if not least <= value <= most:
            limit = f"at least {least}" if value < least else f"at most {most}"
            raise argparse.ArgumentTypeError(f"expected a whole number of {limit}, received {value}")
        return value

    number.__name__ = "int"  # as argparse names it in its messages
    return number


def positive(word: str) -> float:
    """Type of an argument: a finite number above 0."""
    value = float(word)
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a finite number above 0, received {word}")
    return value


positive.__name__ = "float"


def refuse(message: object, status: int = 2) -> NoReturn:
    """End the program with one line on what is wrong: status 2 for wrong input, 1 for other trouble."""
    print(f"{Path(sys.argv[0]).name}: error: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(status)


def check_folder(folder: str | Path) -> None:
    """Make a folder for results and write into it, for a moment; `refuse` if that cannot be done."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        refuse(f"cannot write into {folder}: {error.strerror or error}")


@contextmanager
def plain_warnings(program: str) -> Iterator[None]:
    """While it lasts, warnings are told in one line, each once, without the line of code that gave them."""
    said, before = set(), warnings.formatwarning

    def one_line(message, *place, **line):
        text = f"{program}: warning: {' '.join(str(message).split())}\n"
        first = text not in said
        said.add(text)
        return f"\n{text}" if first else ""  # a progress bar may be in the line

    warnings.formatwarning = one_line
    try:
        yield
    finally:
        warnings.formatwarning = before


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """While it lasts, in the main thread, SIGTERM, and SIGHUP of a closed terminal, end work as Ctrl-C does: what is
    done is kept. What was ignored before (by `nohup`) still is."""
    def stop(*_):
        raise KeyboardInterrupt

    known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has no SIGHUP
    here = threading.current_thread() is threading.main_thread()
    before = {one: was for one in known if here and (was := signal.getsignal(one)) not in (None, signal.SIG_IGN)}
    for one in before:
        signal.signal(one, stop)
    try:
        yield
    finally:
        for one, was in before.items():
            signal.signal(one, was)


def run(main: Callable[[], object]) -> None:
    """Run a program; what goes wrong is told in one line, status 2 for wrong values or files, 1 for other trouble.

    With the environment variable ZDCKERAS_TRACEBACK set, errors come with their traceback.

    Arguments:
        main: function without arguments.
    """
    try:
        with plain_warnings(Path(sys.argv[0]).name):
            status = main()
    except KeyboardInterrupt:
        refuse("interrupted; the same command goes on from the last saved state", 1)
    except Exception as error:
        if os.environ.get(SHOW):
            raise
        kind = type(error).__name__
        if isinstance(error, (ValueError, TypeError, FileNotFoundError, FileExistsError, ImportError)):
            refuse(str(error) or kind)
        if isinstance(error, OSError):
            refuse(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
        refuse(f"{kind}: {error}"[:2000], 1)
    if status:
        raise SystemExit(status)
