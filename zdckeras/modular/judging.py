"""Scores of single arrivals: what the network by itself is worth, without the transport before it."""

import numpy as np

from zdckeras.data.detectors import channel_sums
from zdckeras.metrics.channels import wasserstein
from zdckeras.metrics.classifier import classifier_auc
from zdckeras.metrics.pixels import pixel_auc
from zdckeras.simulation.response_fit import FITTED_KINDS, PHOTON


def single_scores(arrivals: dict, real: np.ndarray, generated: np.ndarray, seed: int = 0, pairs: int = 7_000) -> dict:
    """WS of the channels, AUC of the shapes (all, photons, hadrons) and of the pixels, for single arrivals.

    Arguments:
        arrivals: "kind", "energy", "x", "y" (N,), see `zdckeras.modular.arrivals.draw_arrivals`.
        real, generated: (N, nx, ny) responses to them.
        seed, pairs: of the classifiers, see `zdckeras.metrics.pixels.pixel_auc`.

    Returns:
        "WS", "AUC", "AUC photons", "AUC hadrons", "AUC pixels"; NaN for a kind with fewer than 30 arrivals.
    """
    conditions = np.column_stack([arrivals["kind"], np.log(arrivals["energy"]), arrivals["x"], arrivals["y"]])
    photon = arrivals["kind"] == FITTED_KINDS.index(PHOTON)
    scores = {"WS": float(wasserstein(channel_sums(real), channel_sums(generated)).mean())}
    for name, rows in (("AUC", slice(None)), ("AUC photons", photon), ("AUC hadrons", ~photon)):
        few = len(real[rows]) < 30
        scores[name] = float("nan") if few else classifier_auc(real[rows], generated[rows], conditions[rows], seed)
    scores["AUC pixels"] = pixel_auc(real, generated, seed, pairs)
    return scores
