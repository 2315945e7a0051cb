"""Quality beside time: generators of one test set in one table, with what a response of each costs."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from zdckeras.data.showers import Showers
from zdckeras.generators import Sampler, milliseconds
from zdckeras.metrics.classifier import pixel_auc
from zdckeras.metrics.report import SUMMARY, Table, judge, over_seeds, text_table
from zdckeras.modular.arrivals import draw_arrivals, respond, single_scores
from zdckeras.modular.generator import ModularGenerator

BATCHES = (1, 256)  # responses at once that are timed


def answer(generator: Sampler, showers: Showers, conditions: np.ndarray, seed: int | Sequence[int]) -> np.ndarray:
    """Responses to the first of some showers; those of a `ModularGenerator` pass the cut that the showers have.

    Arguments:
        generator: `Sampler` of one detector.
        showers: `Showers`, whose ids and least photons are told.
        conditions: (N, 9), of the first N showers.
        seed: as in `Sampler.sample`.
    """
    if not generator.TAKES_IDS:  # trained on cut responses
        return generator.sample(conditions, seed)
    cut = int(showers.photon_sums().min())
    return generator.sample(conditions, seed, beside=generator.beside(showers.pdg[: len(conditions)]), at_least=cut)


def judge_generators(generators: Mapping[str, Sampler], test: Showers, floor: Sequence[np.ndarray], runs: int,
                     seed: int = 0, pairs: int = 4_000, batches: Sequence[int] = BATCHES) -> tuple[Table, dict, str]:
    """Channels, shapes, classifiers and times of generators on one test set.

    Arguments:
        generators: name -> generator.
        test: `Showers`.
        floor: further responses to its particles, (N, nx, ny) each; none where own data have none.
        runs: generations of each.
        seed: of generations and classifiers.
        pairs: see `zdckeras.metrics.classifier.pixel_auc`.
        batches: responses at once that are timed.

    Returns:
        `Table`; name -> milliseconds a response for each of `batches`; and both as one text.
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
    times = {label: [milliseconds({"": [generator]}, test.particles, batch)[""] / batch for batch in batches]
             for label, generator in generators.items()}
    for label, score in table.scores.items():
        score["pixels"] = pixels[label]
    lines = over_seeds(table.scores, {**SUMMARY, "AUC pixels": lambda s: s["pixels"]})
    lines[0] += [*(f"ms, batch {batch}" for batch in batches), "weights", "MFLOP"]
    for line in lines[1:]:
        generator = generators.get(line[0])
        line += ["-"] * (len(batches) + 2) if generator is None else [
            *(f"{time:.3f}" for time in times[line[0]]), f"{generator.count_params():,}",
            f"{2e-6 * generator.operations():.1f}"]
    return table, times, text_table(lines)


def judge_single_arrivals(generators: Mapping[str, ModularGenerator], size: int, seed: int = 0,
                          pairs: int = 4_000) -> str:
    """Scores of single arrivals, without the transport, as text.

    Arguments:
        generators: name -> `ModularGenerator` of one detector.
        size: arrivals.
        seed: of arrivals, generations and classifiers.
        pairs: see `zdckeras.metrics.classifier.pixel_auc`.
    """
    name = next(iter(generators.values())).detectors[0].name
    arrivals = draw_arrivals(name, size, [seed, 9])
    real, again = (respond(name, arrivals, [seed, 9, k]) for k in (1, 2))
    made = {"floor": again} | {label: generator.respond(arrivals, seed) for label, generator in generators.items()}
    scores = {label: single_scores(arrivals, real, counts, seed, pairs) for label, counts in made.items()}
    return text_table(over_seeds(scores, {name: lambda s, name=name: s[name] for name in scores["floor"]}))


def quality_against_time(points: dict[str, Sequence[tuple[float, float, float]]],
                         floor: float | None) -> Figure:
    """Wasserstein distance of the channel sums against the time of a response: what a dial of steps is worth.

    Arguments:
        points: name -> (milliseconds a response, distance, its deviation over generations), one for each position.
        floor: distance of a second simulation, or None.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.add_subplot()
    for name, rows in points.items():
        if rows:
            axis.errorbar(*zip(*rows, strict=True), fmt="o-", ms=4, label=name)
    if floor:
        axis.axhline(floor, color="black", ls=":", label="floor")
    axis.set(xscale="log", yscale="log", xlabel="ms a response, batch 1", ylabel="Wasserstein distance [photons]")
    axis.legend()
    return figure
