"""Particles without responses: what a generator is asked for."""

import zipfile
from pathlib import Path

import numpy as np
import uproot

from zdckeras.data.files import PARTICLES_FILE, RESPONSES_FILE
from zdckeras.data.particles import CONDITION_COUNT, CONDITIONS, check_pdg, pdg_of


def open_particles(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the particles of a file of showers, or a bare list of particles; responses are not read.

    Arguments:
        path: a ROOT file with a TTree "showers" (the nine conditions and `pdg`); a folder of showers as `open_showers`
            takes it; or an npz file with one array of shape (N, 9), the conditions, or (N, 10), with the PDG id last.

    Returns:
        (conditions (N, 9) float64, pdg (N,) int32); without ids, those of the most frequent species with the same mass
        and charge, see `pdg_of`.

    Raises:
        FileNotFoundError: if nothing is there.
        ValueError: if it is none of these, or holds no particles, values that are not finite, or unknown ids.

    Example:
        >>> open_particles("no_such.npz")
        Traceback (most recent call last):
        FileNotFoundError: No such file or folder: no_such.npz
    """
    path = Path(path)
    if path.is_dir():
        found = sorted([*path.glob(PARTICLES_FILE), *path.glob(f"*/{PARTICLES_FILE}")])
        if not found:
            raise ValueError(f"{path}: expected a folder with {PARTICLES_FILE} beside {RESPONSES_FILE}.")
        path = found[0]
    if not path.is_file():
        raise FileNotFoundError(f"No such file or folder: {path}")
    try:
        values = _from_root(path) if path.suffix == ".root" else _from_npz(path)
    except Exception as error:  # damaged files raise a dozen unrelated kinds
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path}: cannot be read as particles: {reason}") from None
    if values.ndim != 2 or values.shape[1] not in (CONDITION_COUNT, CONDITION_COUNT + 1) or not len(values):
        raise ValueError(f"{path}: expected particles of shape (N, {CONDITION_COUNT}), or (N, {CONDITION_COUNT + 1}) "
                         f"with PDG ids, received shape {values.shape}.")
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise ValueError(f"{path}: expected finite numbers, received {values.dtype} values that are not all finite.")
    conditions = values[:, :CONDITION_COUNT].astype("float64")
    if values.shape[1] == CONDITION_COUNT:
        return conditions, pdg_of(conditions)
    check_pdg(values[:, -1])
    return conditions, values[:, -1].astype("int32")


def _from_root(path):
    """Conditions and ids (N, 10) of the TTree "showers"."""
    with uproot.open({path: "showers"}) as tree:
        return np.column_stack([tree[name].array(library="np") for name in (*CONDITIONS, "pdg")]).astype("float64")


def _from_npz(path):
    """The only array of an npz file, never a pickled one."""
    if not zipfile.is_zipfile(path):
        raise ValueError("expected an npz archive, a .root file or a folder")
    with np.load(path, allow_pickle=False) as archive:
        if len(archive.files) != 1:
            raise ValueError(f"expected one array, found {', '.join(archive.files) or 'none'}")
        return archive[archive.files[0]]
