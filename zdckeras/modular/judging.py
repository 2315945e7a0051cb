"""How generators of what arrives are judged: on showers whose ids and cut they are told, and on single arrivals."""

from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from zdckeras.data.showers import Showers
from zdckeras.generators import Sampler
from zdckeras.metrics.report import text_table
from zdckeras.metrics.trainings import over_seeds
from zdckeras.modular.arrivals import draw_arrivals, respond, single_scores
from zdckeras.modular.generator import ModularGenerator


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
    scores = {"floor": single_scores(arrivals, real, again, seed, pairs)}
    for label, generator in tqdm(generators.items(), desc="judging single arrivals", unit="model"):
        scores[label] = single_scores(arrivals, real, generator.respond(arrivals, seed), seed, pairs)
    return text_table(over_seeds(scores, {name: lambda s, name=name: s[name] for name in scores["floor"]}))
