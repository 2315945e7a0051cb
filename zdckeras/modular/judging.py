"""How generators of what arrives are judged on single arrivals, where nothing is computed but the network."""

from collections.abc import Mapping

from tqdm import tqdm

from zdckeras.metrics.report import text_table
from zdckeras.metrics.trainings import over_seeds
from zdckeras.modular.arrivals import draw_arrivals, respond, single_scores
from zdckeras.modular.generator import ModularGenerator


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
