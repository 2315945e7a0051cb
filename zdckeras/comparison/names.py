"""Names of models in a table, from paths and from words of a command line."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path


def short(names: Sequence[str]) -> list[str]:
    """Paths without the folder that they share, as long as all names stay different.

    Example:
        >>> short(["zn", "runs/gan/generator.keras", "runs/vae/generator.keras"])
        ['zn', 'gan/generator.keras', 'vae/generator.keras']
    """
    paths = [name for name in names if os.sep in name]
    if len(paths) < 2 or len({os.path.isabs(path) for path in paths}) > 1:
        return list(names)
    shared = os.path.commonpath(paths)
    found = [os.path.relpath(name, shared) if name in paths and shared else name for name in names]
    return found if len(set(found)) == len(names) else list(names)


def labelled(words: Iterable[str]) -> dict[str, str]:
    """Name -> model of words like "MAF prior=runs/modular/generator.keras"; one without a name has that of `short`.

    Raises:
        ValueError: for two of one name, an empty name, or one without a model.

    Example:
        >>> labelled(["zn", "GAN=runs/gan/generator.keras"])
        {'zn': 'zn', 'GAN': 'runs/gan/generator.keras'}
    """
    words = list(words)
    if wrong := [word for word in words if word.startswith("=") or word.endswith("=")]:
        raise ValueError(f"Expected NAME=MODEL or a model, received {wrong[0]!r}.")
    parts = [word.partition("=")[::2] if "=" in word and not Path(word).exists() else ("", word) for word in words]
    plain = [model for name, model in parts if not name]
    found = [*zip(short(plain), plain, strict=True), *((name, model) for name, model in parts if name)]
    if len(dict(found)) < len(words):
        raise ValueError(f"Expected models each with a name of its own, received {words}.")
    return dict(found)
