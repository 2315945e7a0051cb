"""Generators with a dial of steps: fast ones on all showers, slow ones on some, and quality against time."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from zdckeras.data.showers import Showers
from zdckeras.generators import Sampler
from zdckeras.judging import judge_generators
from zdckeras.metrics.report import Table
from zdckeras.metrics.trainings import by_row, ordering, values_by_row
from zdckeras.modular.generator import ModularGenerator
from zdckeras.modular.judging import judge_single_arrivals


def judge_dial(images: Mapping[str, Sampler], latent: Mapping[str, ModularGenerator],
               dials: Mapping[str, Sequence[str]], test: Showers, floor: Sequence[np.ndarray], seed: int, few: int,
               generations: int, arrivals: int, pairs: int, batches: Sequence[int]) -> tuple[Table, Figure, str]:
    """`judge_generators` of slow generators on a few showers and of fast ones on all, and these on single arrivals.

    Arguments:
        images: name -> generator of whole responses, which are slow; perhaps none.
        latent: name -> generator over codes; "<row>, seed <k>" are trainings of one row.
        dials: name -> rows of these, from few evaluations to many.
        test, floor, seed, pairs, batches: as in `zdckeras.judging.judge_generators`.
        few: test showers for whole responses, which are generated once.
        generations: of each generator over codes.
        arrivals: single ones.

    Returns:
        `Table` of the generators over codes; their quality against time; and all as one text, which ends with whether
        WS falls along each of the dials.
    """
    lines = []
    if images:
        *_, text = judge_generators(images, test[:few], [again[:few] for again in floor], 1, seed, pairs, batches)
        lines += [f"whole responses, the first {len(test[:few])} test showers", text, ""]
    table, times, text = judge_generators(latent, test, floor, generations, seed, pairs, batches)
    lines += [f"latent codes, {len(test)} test showers", text, "", f"{arrivals} single arrivals",
              judge_single_arrivals(latent, arrivals, seed, pairs), ""]
    found = values_by_row(table.scores)
    lines += [f"{name}: {ordering({row: found[row] for row in rows})}" for name, rows in dials.items() if rows]
    return table, quality_against_time(table, times, dials), "\n".join(lines)


def quality_against_time(table: Table, times: Mapping[str, Sequence[float]],
                         groups: Mapping[str, Sequence[str]]) -> Figure:
    """Wasserstein distance of the channel sums against the time of a response: what a dial of steps is worth.

    Arguments:
        table, times: from `judge_generators`; the first of the times is shown. Bars are the deviation over the
            trainings of a row, over generations if there is one training.
        groups: name -> rows of the table, the positions of one dial, which are joined by a line.
    """
    rows = by_row({label: scores["metrics"]["all"]["WS"] for label, scores in table.scores.items()})
    mean = {row: np.mean([value for value, _ in found]) for row, found in rows.items()}
    error = {row: np.std([value for value, _ in found], ddof=1) if len(found) > 1 else found[0][1]
             for row, found in rows.items()}
    taken = {row: found[0][0] for row, found in by_row(times).items()}
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.add_subplot()
    for name, labels in groups.items():
        if labels:
            points = [(taken[row], mean[row], error[row]) for row in labels]
            axis.errorbar(*zip(*points, strict=True), fmt="o-", ms=4, label=name)
    if "floor" in mean:
        axis.axhline(mean["floor"], color="black", ls=":", label="floor")
    axis.set(xscale="log", yscale="log", xlabel="ms a response, batch 1", ylabel="Wasserstein distance [photons]")
    axis.legend()
    return figure
