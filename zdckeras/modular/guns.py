"""Detectors with a gun: the particle itself is what arrives, straight from where it starts."""

from typing import Any

import keras
import numpy as np
from keras import ops

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.data.detectors import get_detector
from zdckeras.data.impact import impact_from_centre, slopes
from zdckeras.data.particles import COLUMN, conditions_of, species
from zdckeras.modular.transport import Transport, tables
from zdckeras.simulation.gun import GUNS, flies_there
from zdckeras.simulation.response_fit import FITTED_KINDS, shower_kind

TILTED = ("kind", "energy", "x", "y", "slope_x", "slope_y")  # what is known of an arrival where its slope counts


@keras.saving.register_keras_serializable("zdckeras")
class StraightFlight(Transport):
    """The way of a gun's particle: straight, over some metres, to where it meets the front face.

    Species are told by mass and charge, or by the PDG id, as `Transport` does it. What misses the face, starts behind
    it, flies away from it (pz <= 0), or is of a kind without showers, leaves nothing.

    Arguments:
        detector: name.
        short: chance of a neutral kaon of unknown id to be a K0S.

    Raises:
        ValueError: for a kick or a shift, which `Transport` has.

    Returns:
        call((B, 9) conditions, (B, 1) uniform numbers in (0, 1), (B,) PDG ids or None) gives kind, energy, x, y and
        the slopes in x and y, (B, 1) each, see `zdckeras.modular.transport.Arrivals`.

    Example:
        >>> electron = np.array([[5.0, 1.0, 2.0, 1250.0, 0.0, 0.5, 4.97, 0.511, -1.0]], "float32")
        >>> arrivals = StraightFlight("ecal")(electron, np.full((1, 1), 0.5, "float32"))
        >>> [round(float(value[0, 0]), 2) for value in arrivals]
        [0.0, 5.0, 1.0, 2.0, 0.0, 0.1]
    """

    def __init__(self, detector: str, short: float = 0.5, **kwargs: Any):
        super().__init__(detector, levels=0, short=short, **kwargs)
        if self.kick != 1.0 or any(self.shift):
            raise ValueError(f"Expected a straight flight to {detector} without kick and shift, received kick "
                             f"{self.kick} and shift {self.shift}.")

    def call(self, conditions: Tensor, uniform: Tensor, pdg: Tensor | None = None) -> tuple:
        conditions = ops.cast(conditions, "float32")
        species_row = self.identify(conditions, uniform[:, 0], pdg)
        kind, shift = ops.unstack(backend.rows_at(tables().shower, species_row), axis=1)
        place, energy = impact_from_centre(conditions, self.detector, ops), conditions[:, COLUMN["energy"]] + shift
        on_face = ops.all(ops.less(ops.abs(place), np.array(self.detector.half_size, "float32")), axis=1)
        hit = on_face & (kind >= 0.0) & (energy > 0.0) & flies_there(conditions, self.detector)
        found = (ops.where(hit, energy, 1.0), *ops.unstack(ops.where(hit[:, None], place, 0.0), axis=1),
                 *ops.unstack(slopes(conditions, ops), axis=1))
        return ops.cast(ops.where(hit, kind, -1.0), "int32")[:, None], *(value[:, None] for value in found)

    def get_config(self):
        return {"name": self.name, "detector": self.detector.name, "short": self.short}


def gun_arrivals(detector: str, conditions: np.ndarray, pdg: np.ndarray) -> dict[str, np.ndarray]:
    """Particles of a gun as arrivals on the face of its detector.

    Arguments:
        detector: name.
        conditions: (N, 9).
        pdg: (N,) PDG ids of what showers.

    Returns:
        "kind", "energy", "x", "y" as in `zdckeras.modular.arrivals.draw_arrivals`, and "slope_x", "slope_y", (N,) each.
    """
    kind, energy = shower_kind(pdg, conditions[:, COLUMN["energy"]])
    index = np.array([FITTED_KINDS.index(k) for k in kind], "int64")
    columns = index, energy, *impact_from_centre(conditions, detector).T, *slopes(conditions).T
    return dict(zip(TILTED, columns, strict=True))


def gun_particles(detector: str, arrivals: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Particles (N, 9) that start on the face as the arrivals (see `gun_arrivals`) of a detector's gun, and their ids.

    Example:
        >>> from zdckeras.simulation.gun import draw_gun
        >>> conditions, pdg = draw_gun("ecal", 5, 1)
        >>> again, ids = gun_particles("ecal", gun_arrivals("ecal", conditions, pdg))
        >>> bool(np.allclose(again, conditions)), ids.tolist() == pdg.tolist()
        (True, True)
    """
    codes = np.array(sorted(GUNS[detector].kinds))
    kinds, lost = shower_kind(codes, np.full(len(codes), 100.0))
    row = (np.array(FITTED_KINDS)[arrivals["kind"]][:, None] == kinds).argmax(axis=1)
    mass = np.array([species(int(code)).mass or 0.0 for code in codes])[row] / 1e3
    energy = arrivals["energy"] + (100.0 - lost)[row]
    direction = np.stack([arrivals["slope_x"], arrivals["slope_y"], np.ones(len(row))], axis=1)
    direction *= (np.sqrt(energy**2 - mass**2) / np.linalg.norm(direction, axis=1))[:, None]
    there = get_detector(detector)
    start = arrivals["x"] + there.centre_x, arrivals["y"], np.full(len(row), there.distance)
    return conditions_of(codes[row], direction, np.stack(start, axis=1)), codes[row]
