"""Quality beside time: generators of one test set in one table, with what a response of each costs."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from zdckeras.data.showers import Showers
from zdckeras.generators import Sampler
from zdckeras.metrics.classifier import pixel_auc
from zdckeras.metrics.report import Table, judge, text_table
from zdckeras.metrics.times import milliseconds
from zdckeras.metrics.trainings import SUMMARY, by_row, ordering, over_seeds, ws_by_row
from zdckeras.modular.generator import ModularGenerator
from zdckeras.modular.judging import answer, judge_single_arrivals

BATCHES = (1, 256)  # responses at once that are timed


def judge_generators(generators: Mapping[str, Sampler], test: Showers, floor: Sequence[np.ndarray], runs: int,
                     seed: int = 0, pairs: int = 4_000, batches: Sequence[int] = BATCHES) -> tuple[Table, dict, str]:
    """Channels, shapes, classifiers and times of generators on one test set.

    Arguments:
        generators: name -> generator; "<row>, seed <k>" are trainings of one row of the table.
        test: `Showers`.
        floor: further responses to its particles, (N, nx, ny) each; none where own data have none.
        runs: generations of each.
        seed: of generations and classifiers.
        pairs: see `zdckeras.metrics.classifier.pixel_auc`.
        batches: responses at once that are timed.

    Returns:
        `Table`; name, of several trainings that of the first, -> milliseconds a response for each of `batches`; and
        both as one text.
    """
    pixels = {}

    def sampler(label):
        def sample(conditions, seed):
            made = answer(generators[label], test, conditions, seed)
            if label not in pixels:  # of the first generation
                pixels[label] = pixel_auc(test.response, made, seed[0], pairs)
            return made

        return sample

    if len(floor):
        pixels["floor"] = pixel_auc(test.response, floor[0], seed, pairs)
    table = judge(test, floor, {label: sampler(label) for label in generators}, runs, seed)
    first = {row: labels[0] for row, labels in by_row({label: label for label in generators}).items()}
    times = {label: [milliseconds({"": [generators[label]]}, test.particles, batch)[""] / batch for batch in batches]
             for label in first.values()}
    for label, score in table.scores.items():
        score["pixels"] = pixels[label]
    lines = over_seeds(table.scores, {**SUMMARY, "AUC pixels": lambda s: s["pixels"]})
    lines[0] += [*(f"ms, batch {batch}" for batch in batches), "weights", "MFLOP"]
    for line in lines[1:]:
        label = first.get(line[0])
        generator = generators.get(label)
        line += ["-"] * (len(batches) + 2) if generator is None else [
            *(f"{time:.3f}" for time in times[label]), f"{generator.count_params():,}",
            f"{2e-6 * generator.operations():.1f}"]
    return table, times, text_table(lines)


def judge_dial(images: Mapping[str, Sampler], latent: Mapping[str, ModularGenerator],
               dials: Mapping[str, Sequence[str]], test: Showers, floor: Sequence[np.ndarray], seed: int, few: int,
               generations: int, arrivals: int, pairs: int, batches: Sequence[int]) -> tuple[Table, Figure, str]:
    """`judge_generators` of slow generators on a few showers and of fast ones on all, and these on single arrivals.

    Arguments:
        images: name -> generator of whole responses, which are slow; perhaps none.
        latent: name -> generator over codes; "<row>, seed <k>" are trainings of one row.
        dials: name -> rows of these, from few evaluations to many.
        test, floor, seed, pairs, batches: as in `judge_generators`.
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
    found = ws_by_row(table.scores)
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
