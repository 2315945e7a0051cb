"""Generators on one test set: what they answer to its showers, how good that is, and what a response of each costs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zdckeras.data.showers import Showers
from zdckeras.generators import Sampler
from zdckeras.metrics.classifier import pixel_auc
from zdckeras.metrics.report import Table, judge, text_table
from zdckeras.metrics.times import milliseconds
from zdckeras.metrics.trainings import SUMMARY, by_row, over_seeds

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
    told = generator.beside(showers.pdg[: len(conditions)])
    return generator.sample(conditions, seed, beside=told, at_least=photon_cut(showers))


def photon_cut(showers: Showers) -> int:
    """Photons of the papers' cut, if showers of one detector all reach it; 0 if not, and for energies."""
    return showers.photon_cut().get(showers.detector().name, 0)


@dataclass(frozen=True)
class Trained:
    """A training of a network that several trainings share, with the generator around it: it is compiled once.

    Arguments:
        generator: `Sampler`.
        network: the part of it that was trained.
        weights: of this training.
    """

    generator: Sampler
    network: Any
    weights: list

    def ready(self) -> Sampler:
        """The generator with the weights of this training."""
        self.network.set_weights(self.weights)
        return self.generator

    def sample(self, conditions: np.ndarray, seed: int | Sequence[int]) -> np.ndarray:
        """As the generator's."""
        return self.ready().sample(conditions, seed)


def generator_of(one: Any) -> Sampler | None:
    """A `Sampler` itself, that of a training that has to be made `ready`, or None for a function."""
    return one if isinstance(one, Sampler) else one.ready() if hasattr(one, "ready") else None


def judge_generators(generators: Mapping[str, Any], test: Showers, floor: Sequence[np.ndarray], runs: int,
                     seed: int = 0, pairs: int = 4_000, batches: Sequence[int] = BATCHES,
                     done: Callable[[Table], object] | None = None) -> tuple[Table, dict, str]:
    """Channels, shapes, classifiers and times of generators on one test set.

    Arguments:
        generators: name -> generator, `Trained`, or function of (conditions, seed) that gives responses, whose time is
            not taken; "<row>, seed <k>" are trainings of one row of the table.
        test: `Showers`.
        floor: further responses to its particles, (N, nx, ny) each; none where own data have none.
        runs: generations of each.
        seed: of generations and classifiers.
        pairs: see `zdckeras.metrics.classifier.pixel_auc`.
        batches: responses at once that are timed.
        done: called with the table when everything is judged, before times are taken.

    Returns:
        `Table`; name, of several trainings that of the first, -> milliseconds a response for each of `batches`; and
        both as one text.
    """
    pixels = {}

    def sampler(label):
        def sample(conditions, seed):
            one = generator_of(generators[label])
            made = generators[label](conditions, seed) if one is None else answer(one, test, conditions, seed)
            if label not in pixels:  # of the first generation
                pixels[label] = pixel_auc(test.response, made, seed[0], pairs)
            return made

        return sample

    if len(floor):
        pixels["floor"] = pixel_auc(test.response, floor[0], seed, pairs)
    table = judge(test, floor, {label: sampler(label) for label in generators}, runs, seed)
    for label, score in table.scores.items():
        score["pixels"] = pixels[label]
    if done:
        done(table)
    first = {row: labels[0] for row, labels in by_row({label: label for label in generators}).items()}
    found = {label: generator_of(generators[label]) for label in first.values()}
    found = {label: one for label, one in found.items() if one is not None}
    times = {label: [milliseconds({"": [one]}, test.particles, batch)[""] / batch for batch in batches]
             for label, one in found.items()}
    lines = over_seeds(table.scores, {**SUMMARY, "AUC pixels": lambda s: s["pixels"]})
    counted = any(hasattr(one, "operations") for one in found.values())
    lines[0] += [*(f"ms, batch {batch}" for batch in batches), "weights", *["MFLOP"] * counted]
    for line in lines[1:]:
        label = first.get(line[0])
        line += [*(f"{time:.3f}" for time in times[label]), *size(found[label])[: 1 + counted]] if label in times else (
            ["-"] * (len(batches) + 1 + counted))
    return table, times, text_table(lines)


def size(generator: Sampler) -> tuple[str, str]:
    """Weights, and MFLOP of a response where a generator counts its multiplications, as words."""
    counted = getattr(generator, "operations", None)
    return f"{generator.count_params():,}", f"{2e-6 * counted():.1f}" if counted else "-"
