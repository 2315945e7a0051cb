"""Students of one teacher: first all on the baseline loss, then each on its own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zdckeras.data.repeats import condition_statistics, repeated
from zdckeras.data.showers import Showers
from zdckeras.flow_distill.distiller import Distiller, variability_weight
from zdckeras.flow_distill.shape import CellFlow
from zdckeras.training.batches import Batches
from zdckeras.training.loop import fit_adam

STUDENTS = {"bs": (0.0, False), "bs+div": (0.0, True), "bs+ch": (1.0, False), "bs+ch+div": (1.0, True)}


def distil_students(teacher: CellFlow, showers: Showers, states: Path, epochs: int, common: int, batch: int,
                    rate: float, seed: int = 0, names: Sequence[str] = tuple(STUDENTS),
                    ) -> tuple[CellFlow, dict[str, list[np.ndarray]], dict[str, dict]]:
    """Students of the flow distillation, from one beginning, at one budget; by default all four.

    All train on the baseline loss for some epochs, then each goes on with its own: weights lambda of the channel loss
    and scaling by the variability of a condition's responses (`STUDENTS`). Where no particle occurs twice, that is not
    known, and no student is scaled by it.

    Arguments:
        teacher: trained MAF over cells.
        showers: training `Showers` of one detector.
        states: folder of the state files.
        epochs: of each student, the common ones included.
        common: epochs on the baseline loss.
        batch, rate: see `fit_adam`.
        seed: of weights, order and noise.
        names: of students, in `STUDENTS`.

    Returns:
        A student; name -> weights for it; name -> history, with that of the common epochs.

    Source:
        flow distillation for the Zero Degree Calorimeter, arXiv:2512.20346.
    """
    cells, student = teacher.detector.cells, teacher.student(seed=seed + 1)
    repeats = bool(repeated(showers).any())
    variable = (variability_weight(condition_statistics(showers).diversity) if repeats
                else np.ones(len(showers), "float32"))
    arrays = {"conditions": showers.particles, "responses": showers.response}
    distiller, begun, histories, weights = Distiller(teacher, student), states / "common.npz", {}, {}

    def fit(path: Path, channels: float, scaled: bool, until: int | None = None) -> dict:
        rows = arrays | {"weight": variable if scaled else np.ones_like(variable),
                         "channels": np.full_like(variable, channels)}
        batches = Batches(rows, batch, seed, {"u_cells": (cells,)}, {"z": (cells,)})
        return fit_adam(distiller, batches, path, epochs=epochs, rate=rate, until=until,
                        start=None if until else begun)

    histories["common"] = fit(begun, 0.0, False, common)
    for name in names:
        channels, scaled = STUDENTS[name]
        if repeats or not scaled:
            histories[name] = fit(states / f"{name.replace('+', '_')}.npz", channels, scaled)
            weights[name] = student.get_weights()
    return student, weights, histories

