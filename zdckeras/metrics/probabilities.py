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

    Raises:
        ValueError: for what are no probabilities, or not as many as `lit`.

    Example:
        >>> p, lit, photons = np.array([0.9, 0.4, 0.2, 0.1]), np.array([1, 0, 1, 0]), np.array([6, 0, 2, 0])
        >>> scores = threshold_scores(p, lit, 0.3, photons)
        >>> [round(scores[name], 2) for name in ("efficiency", "purity", "kept", "light")]
        [0.5, 0.5, 0.5, 0.75]
    """
    kept, lit = _probabilities(probability, lit) > threshold, np.asarray(lit, bool)
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

    Returns:
        A threshold that probabilities of the same precision may be compared with; below 0 if even those of 0 are
        needed.

    Raises:
        ValueError: for what are no probabilities, weights that are negative, not finite, or all 0, or another share.

    Example:
        >>> t = threshold_for(np.array([0.9, 0.4, 0.2, 0.1]), np.array([6.0, 0.0, 2.0, 0.0]), 0.99)
        >>> 0.1 < t < 0.2
        True
    """
    probability, weight = _probabilities(probability, weight), np.asarray(weight, "float64")
    if not (weight >= 0.0).all() or not 0.0 < weight.sum() < np.inf:
        raise ValueError("Expected particles with some light to choose a threshold, none of it negative or without "
                         f"end; received {weight.sum():g} in all.")
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"Expected a share from 0 to 1, received {share}.")
    order = np.argsort(-probability.astype("float64"), kind="stable")
    kept = np.cumsum(weight[order]) / weight.sum()
    lowest = probability[order[min(int(np.searchsorted(kept, share - 1e-12)), len(order) - 1)]]
    below = probability[probability < lowest].max(initial=0.0) if lowest > 0.0 else -2.0 * LEAST
    middle = 0.5 * (float(lowest) + float(below))
    return middle if probability.dtype.type(middle) < lowest else float(below)  # neighbours have nothing between them


def calibration(probability: np.ndarray, lit: np.ndarray, bins: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stated and found probabilities in bins of equal numbers of rows: mean p, share lit and rows, (bins,) each.

    Bins without rows are left out.

    Raises:
        ValueError: for what are no probabilities, or not as many as `lit`.
    """
    probability, lit = _probabilities(probability, lit), np.asarray(lit)
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

    Raises:
        ValueError: for what are no probabilities, or not as many as `lit`.

    Example:
        >>> scores = probability_scores(np.array([0.8, 0.8, 0.8, 0.8, 0.8]), np.array([1, 1, 1, 1, 0]))
        >>> round(scores["loss"], 4), round(scores["AUC"], 2)
        (0.5004, 0.5)
    """
    p, lit = _probabilities(probability, lit).astype("float64"), np.asarray(lit, bool)
    p = np.clip(p, LEAST, 1.0 - LEAST)
    stated, found, rows = calibration(p, lit)
    return {"AUC": float(roc_auc_score(lit, p)) if 0 < lit.sum() < len(lit) else float("nan"),
            "loss": float(-np.mean(np.where(lit, np.log(p), np.log1p(-p)))),
            "calibration": float((rows * np.abs(stated - found)).sum() / rows.sum())}


def _probabilities(values, beside):
    """Probabilities (N,), as precise as they were, of as many rows as are beside; ValueError for anything else."""
    values = np.asarray(values)
    values = values if values.dtype.kind == "f" else values.astype("float64")
    if values.ndim != 1 or not len(values) or np.shape(beside) != values.shape or not (
            (values >= 0) & (values <= 1)).all():
        raise ValueError(f"Expected (N,) probabilities from 0 to 1 and as much beside them, received shapes "
                         f"{values.shape} and {np.shape(beside)} with {(~((values >= 0) & (values <= 1))).sum()} "
                         "values that are none.")
    return values


def _share(part, whole):
    return float(part) / float(whole) if whole else float("nan")
