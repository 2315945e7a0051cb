"""How good are probabilities of yes or no: efficiency and purity of a threshold, calibration, logarithmic loss."""

import numpy as np
from sklearn.metrics import roc_auc_score

LEAST = 1e-6  # a probability is not taken to be smaller, nor 1 minus it


def threshold_scores(probability: np.ndarray, lit: np.ndarray, threshold: float,
                     weight: np.ndarray | None = None) -> dict[str, float]:
    """What a threshold keeps.

    Arguments:
        probability: (N,) p.
        lit: (N,) boolean, what happened.
        threshold: kept is p > threshold.
        weight: (N,) such as photons, of which the kept share is told.

    Returns:
        "efficiency" = kept and lit / lit, "purity" = kept and lit / kept, "kept" = kept / N, and "light", the share of
        the weight that is kept; NaN where there is nothing to divide by.

    Example:
        >>> p, lit, photons = np.array([0.9, 0.4, 0.2, 0.1]), np.array([1, 0, 1, 0]), np.array([6, 0, 2, 0])
        >>> scores = threshold_scores(p, lit, 0.3, photons)
        >>> [round(scores[name], 2) for name in ("efficiency", "purity", "kept", "light")]
        [0.5, 0.5, 0.5, 0.75]
    """
    kept, lit = np.asarray(probability) > threshold, np.asarray(lit, bool)
    scores = {"efficiency": _share((kept & lit).sum(), lit.sum()), "purity": _share((kept & lit).sum(), kept.sum()),
              "kept": _share(kept.sum(), len(kept))}
    if weight is not None:
        scores["light"] = _share(weight[kept].sum(dtype="float64"), np.sum(weight, dtype="float64"))
    return scores


def threshold_for(probability: np.ndarray, weight: np.ndarray, share: float) -> float:
    """The largest threshold that keeps at least a share of a weight, such as of all photons.

    Arguments:
        probability: (N,).
        weight: (N,) non-negative, not all 0.
        share: between 0 and 1.

    Raises:
        ValueError: if all weights are 0.

    Example:
        >>> t = threshold_for(np.array([0.9, 0.4, 0.2, 0.1]), np.array([6.0, 0.0, 2.0, 0.0]), 0.99)
        >>> 0.1 < t < 0.2
        True
    """
    weight = np.asarray(weight, "float64")
    if not weight.sum() > 0.0:
        raise ValueError("Expected particles with some light to choose a threshold, received none.")
    order = np.argsort(-np.asarray(probability, "float64"), kind="stable")
    kept = np.cumsum(weight[order]) / weight.sum()
    last = min(int(np.searchsorted(kept, share - 1e-12)), len(order) - 1)
    lowest = float(probability[order[last]])
    below = np.asarray(probability)[np.asarray(probability) < lowest]
    return 0.5 * (lowest + float(below.max())) if len(below) else 0.5 * lowest


def calibration(probability: np.ndarray, lit: np.ndarray, bins: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stated and found probabilities in bins of equal numbers of rows: mean p, share lit and rows, (bins,) each.

    Bins without rows are left out.
    """
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return (np.array([probability[part].mean(dtype="float64") for part in parts]),
            np.array([np.mean(lit[part]) for part in parts]), np.array([len(part) for part in parts]))


def probability_scores(probability: np.ndarray, lit: np.ndarray) -> dict[str, float]:
    """Area under the ROC curve, mean logarithmic loss [nats], and the mean error of calibration over bins.

    L = -mean(y ln p + (1 - y) ln(1 - p)),   C = sum_bins N_b |mean p - share lit| / N

    Arguments:
        probability: (N,).
        lit: (N,) boolean.

    Returns:
        "AUC", "loss", "calibration"; AUC is NaN where all rows are alike.

    Example:
        >>> scores = probability_scores(np.array([0.8, 0.8, 0.8, 0.8, 0.8]), np.array([1, 1, 1, 1, 0]))
        >>> round(scores["loss"], 4), round(scores["AUC"], 2)
        (0.5004, 0.5)
    """
    p, lit = np.clip(np.asarray(probability, "float64"), LEAST, 1.0 - LEAST), np.asarray(lit, bool)
    stated, found, rows = calibration(p, lit)
    return {"AUC": float(roc_auc_score(lit, p)) if 0 < lit.sum() < len(lit) else float("nan"),
            "loss": float(-np.mean(np.where(lit, np.log(p), np.log1p(-p)))),
            "calibration": float((rows * np.abs(stated - found)).sum() / rows.sum())}


def _share(part, whole):
    return float(part) / float(whole) if whole else float("nan")
